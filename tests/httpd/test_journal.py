# SPDX-License-Identifier: Apache-2.0
"""The journal: one certificate for each transaction, and no report lost, whatever comes in between."""
import os
import signal
import sqlite3

import pytest

from harness import check, ctl, device, journal, load, microsoft, pki, system, wait
from harness.httpd import StartError

PROXY_TIMEOUT = 3  # as the gateway's configuration has it
OPTIONS = {"allow": [r"\[proxy(_http)?:error\]", r"ISCEP0413: .*locked"]}  # mod_proxy tells of the CA's faults in its own words
GIVEN_TIME = {"Timeout": 2, "BackendTimeout": 7, "Grace": 1}


def profiles(site):
    def profile(path, **changes):
        return site.profile(path, **{**GIVEN_TIME, **changes})
    return [profile("/before"), profile("/after", Notify="after"), profile("/comeback", ComeBack="pending"),
            profile("/poll", Resync="poll"), profile("/none", Resync="none"), profile("/expiring", PendingLimit=2),
            profile("/patient", Grace=3600), profile("/down", backend=f"http://127.0.0.1:{system.free_port()}/scep")]


@pytest.fixture
def at(gateway):
    return lambda path: next(profile for profile in gateway.profiles if profile.path == path)


def csr_requests(site, message):
    """What the CA was asked to issue for the transaction."""
    return [r for r in site.ca.requests() if r["transaction_id"] == message.transaction and str(r["message_type"]) != "20"]


def polls(site, message):
    return [r for r in site.ca.requests() if r["transaction_id"] == message.transaction and str(r["message_type"]) == "20"]


def calls(site, service, message):
    found = site.microsoft.calls(service)
    return [call for call in found if microsoft.body_of(call)["transactionId"] == message.transaction]


def accepted(site, service, message):
    return [call for call in calls(site, service, message) if call["accepted"]]


def pending(message, answer):
    opened = check.certrep(message, answer)
    assert opened["status"] == 3, opened
    assert not opened.get("certificate")
    return opened


# A device that comes again

@pytest.mark.parametrize("how", ["the same bytes", "signed anew", "another cipher", "a new signer certificate"])
def test_the_same_certificate_again(site, gateway, at, devices, how):
    (message,) = devices(at("/before"))
    first = check.success(message, message.post(gateway.port))
    options = {"the same bytes": None, "signed anew": {}, "another cipher": {"cipher": "des3", "digest": "sha1"},
               "a new signer certificate": {"new_signer": True}}[how]
    repeated = message if options is None else device.again(message, **options)
    opened = check.success(repeated, repeated.post(gateway.port))
    assert opened["certificate"] == first["certificate"]
    if how == "another cipher":
        assert opened["cipher"] == "des3" and opened["digest"] == "sha1"
    assert len(csr_requests(site, message)) == 1
    assert len(calls(site, "validate", message)) == len(calls(site, "success", message)) == 1
    assert gateway.lines(rf"ISCEP0403: \[{message.transaction}\]")
    row = journal.row(gateway, message)
    assert (row["state"], row["report"], row["csr"]) == ("issued", "done", None)


def test_eight_copies_at_once(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control("slow", times=1, seconds=1)
    answers = load.all_at_once([message] * 8, lambda copy: copy.post(gateway.port))
    certificates = {check.success(message, answer)["certificate"] for answer in answers}
    assert len(certificates) == 1
    assert len(csr_requests(site, message)) == 1 and len(calls(site, "success", message)) == 1


def test_another_request_under_the_same_transaction(site, gateway, at, devices):
    (first,) = devices(at("/before"))
    (other,) = devices(at("/before"), transaction=first.transaction)
    check.success(first, first.post(gateway.port))
    opened = check.success(other, other.post(gateway.port))
    assert len(journal.rows(gateway, first.transaction)) == 2
    assert opened["certificate"] != check.success(first, first.post(gateway.port))["certificate"]


def test_the_request_is_not_in_the_clear(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.microsoft.fail("success", "status", status=500)
    gateway.allow_log(r"ISCEP1301")
    check.unavailable(message.post(gateway.port))
    assert journal.row(gateway, message)["csr"]
    for path in gateway.state.iterdir():
        content = path.read_bytes()
        assert message.challenge.encode() not in content and message.challenge.encode()[:64] not in content
    site.microsoft.reset()
    journal.make_due(gateway, message)
    assert journal.wait_for(gateway, message, report="done")["csr"] is None


# Answers of the CA that are lost

@pytest.mark.parametrize("mode", ["drop_after", "truncate", "status"])
def test_a_lost_answer_is_asked_for_again(site, gateway, at, devices, mode):
    (message,) = devices(at("/patient"))
    site.ca.control(mode, times=1)
    answer = message.post(gateway.port)
    check.unavailable(answer)
    check.final_line(gateway, (1202, 1203), message)
    assert journal.row(gateway, message)["state"] == "unknown"
    opened = check.success(message, message.post(gateway.port))
    check.same_request(site, message)
    asked = csr_requests(site, message)
    assert len(asked) == 2 and asked[1]["thumbprint"] and len(calls(site, "validate", message)) == 2
    assert [c["thumbprint"] for c in accepted(site, "success", message)] == [device.CertificateFacts(opened["certificate"]).thumbprint]
    assert calls(site, "failure", message) == []


def test_a_silent_ca(site, gateway, at, devices):
    (message,) = devices(at("/patient"))
    site.ca.control("slow", times=1, seconds=PROXY_TIMEOUT + 2)
    check.unavailable(message.post(gateway.port))
    check.final_line(gateway, 1201, message)
    check.success(message, message.post(gateway.port))


def test_nobody_comes_again(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control("drop_after", times=1)
    check.unavailable(message.post(gateway.port))
    check.final_line(gateway, 1203, message)
    assert journal.row(gateway, message)["report"] == "failure"
    check.failure_reported(site, message, 1203)
    row = journal.wait_for(gateway, message, report="done")
    assert row["state"] == "failed" and row["csr"] is None
    assert len(csr_requests(site, message)) == 1


def test_a_device_that_comes_after_the_failure_was_reported(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control("drop_after", times=1)
    check.unavailable(message.post(gateway.port))
    gateway.allow_log("ISCEP1203")
    journal.wait_for(gateway, message, report="done")
    check.success(message, message.post(gateway.port))
    assert len(accepted(site, "failure", message)) == len(accepted(site, "success", message)) == 1


def test_a_ca_that_is_down(site, gateway, at, devices):
    (message,) = devices(at("/down"))
    for _ in range(2):
        check.unavailable(message.post(gateway.port))
    gateway.allow_log(r"ISCEP1200|AH01114|AH00957|AH00959")
    assert len(calls(site, "validate", message)) == 2
    check.failure_reported(site, message, 1200)


def test_resync_by_poll(site, gateway, at, devices):
    (message,) = devices(at("/poll"))
    site.ca.control("drop_after", times=1)
    check.unavailable(message.post(gateway.port))
    gateway.allow_log("ISCEP1203")
    opened = check.success(message, message.post(gateway.port))
    (asked,), (polled,) = csr_requests(site, message), polls(site, message)
    assert asked["thumbprint"] == polled["thumbprint"] == device.CertificateFacts(opened["certificate"]).thumbprint
    assert len(calls(site, "validate", message)) == 1


def test_resync_by_poll_where_the_ca_knows_nothing(site, gateway, at, devices):
    (message,) = devices(at("/poll"))
    site.ca.control("drop_before", times=1)
    gateway.allow_log("ISCEP120[23]")
    check.unavailable(message.post(gateway.port))
    check.unavailable(message.post(gateway.port))  # CertPoll: badCertId
    check.success(message, message.post(gateway.port))
    assert len(polls(site, message)) == 1 and len(csr_requests(site, message)) == 2


def test_no_resync(site, gateway, at, devices):
    (message,) = devices(at("/none"))
    site.ca.control("drop_after", times=1)
    gateway.allow_log("ISCEP1203|ISCEP1404")
    check.unavailable(message.post(gateway.port))
    check.unavailable(message.post(gateway.port))
    journal.wait_for(gateway, message, report="done")
    check.failure(message, message.post(gateway.port), 2)
    assert len(csr_requests(site, message)) == 1 and len(calls(site, "validate", message)) == 1


def test_a_refusal_is_repeated(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control("refuse", times=1, fail_info=4)
    gateway.allow_log("ISCEP1204")
    for _ in range(3):
        check.failure(message, message.post(gateway.port), 4)
    assert len(csr_requests(site, message)) == len(calls(site, "validate", message)) == 1
    check.failure_reported(site, message, 1204)


# Reports

def test_the_outbox_reports_and_the_device_gets_it_then(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.microsoft.fail("success", "status", status=500)
    gateway.allow_log("ISCEP1301")
    check.unavailable(message.post(gateway.port))
    check.unavailable(device.again(message).post(gateway.port))
    site.microsoft.fail("success", "ok")
    journal.wait_for(gateway, message, report="done")
    opened = check.success(message, message.post(gateway.port))
    (asked,) = csr_requests(site, message)
    reports = calls(site, "success", message)
    assert len({call["request_id"] for call in reports}) == 1 and len(reports) >= 2
    assert {c["thumbprint"] for c in reports} == {asked["thumbprint"], device.CertificateFacts(opened["certificate"]).thumbprint}
    assert len(calls(site, "validate", message)) == 1


def test_an_answer_to_a_report_that_is_lost(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.microsoft.fail("success", "drop_after", times=3)
    gateway.allow_log("ISCEP1301")
    message.post(gateway.port)
    journal.wait_for(gateway, message, report="done")
    check.success(message, message.post(gateway.port))
    assert len({call["thumbprint"] for call in accepted(site, "success", message)}) == 1


def test_a_refused_report_withholds(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed", times=1)
    gateway.allow_log("ISCEP1300")
    for _ in range(2):
        check.failure(message, message.post(gateway.port), 2)
    row = journal.row(gateway, message)
    assert (row["state"], row["report"], row["event"]) == ("withheld", "refused", "withheld")
    assert row["serial"] == csr_requests(site, message)[0]["serial"] and row["csr"]
    assert len(calls(site, "success", message)) == 1 and calls(site, "failure", message) == []


def test_after_delivers_and_reports_later(site, gateway, at, devices):
    (message,) = devices(at("/after"))
    site.microsoft.fail("success", "status", status=500)
    first = check.success(message, message.post(gateway.port))
    assert check.success(message, message.post(gateway.port))["certificate"] == first["certificate"]
    assert gateway.lines("ISCEP0407")
    site.microsoft.fail("success", "ok")
    journal.make_due(gateway, message)
    journal.wait_for(gateway, message, report="done")
    assert len(accepted(site, "success", message)) == 1 and len(csr_requests(site, message)) == 1


def test_come_back_by_pending(site, gateway, at, devices):
    (message,) = devices(at("/comeback"))
    site.microsoft.fail("success", "status", status=500)
    gateway.allow_log("ISCEP1301")
    pending(message, message.post(gateway.port))
    poll = device.poll(message)
    pending(poll, poll.post(gateway.port))
    site.microsoft.fail("success", "ok")
    journal.make_due(gateway, message)
    journal.wait_for(gateway, message, report="done")
    check.success(poll, poll.post(gateway.port))
    assert len(csr_requests(site, message)) == 1 and polls(site, message) == []


def test_a_poll_drives_a_lost_transaction_on(site, gateway, at, devices):
    (message,) = devices(at("/comeback"))
    site.ca.control("drop_after", times=1)
    gateway.allow_log("ISCEP1203")
    pending(message, message.post(gateway.port))
    poll = device.poll(message)
    check.success(poll, poll.post(gateway.port))
    assert len(csr_requests(site, message)) == len(calls(site, "validate", message)) == 2


# PENDING

def test_pending_is_polled_until_the_ca_approves(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    poll = device.poll(message)
    pending(poll, poll.post(gateway.port))
    assert journal.row(gateway, message)["state"] == "pending"
    assert site.ca.approve() == 1
    opened = check.success(poll, poll.post(gateway.port))
    assert check.success(message, message.post(gateway.port))["certificate"] == opened["certificate"]
    assert len(csr_requests(site, message)) == 1 and len(polls(site, message)) == 2
    assert len(accepted(site, "success", message)) == 1 and calls(site, "failure", message) == []
    assert len(calls(site, "validate", message)) == 1


def test_pending_and_refused(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control(approval="manual")
    gateway.allow_log("ISCEP1204")
    pending(message, message.post(gateway.port))
    site.ca.reject(message.transaction, 2)
    poll = device.poll(message)
    check.failure(poll, poll.post(gateway.port), 2)
    check.failure(poll, poll.post(gateway.port), 2)
    check.failure_reported(site, message, 1204)
    assert len(polls(site, message)) == 1


def test_pending_for_too_long(site, gateway, at, devices):
    (message,) = devices(at("/expiring"))
    site.ca.control(approval="manual")
    gateway.allow_log("ISCEP1406")
    pending(message, message.post(gateway.port))
    wait.until(lambda: calls(site, "failure", message), "a failureNotification")
    row = journal.wait_for(gateway, message, report="done")
    assert (row["state"], row["event"]) == ("failed", "pending-expired")
    (body,) = [microsoft.body_of(call) for call in calls(site, "failure", message)]
    assert body["hResult"] & 0xFFFFFFFF == 0x800705B4
    poll = device.poll(message)
    check.failure(poll, poll.post(gateway.port), 2)


def test_a_poll_that_fails_leaves_it_pending(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    poll = device.poll(message)
    for mode in ("drop", "html", "status"):
        site.ca.control(mode, times=1)
        gateway.allow_log("ISCEP0415")
        pending(poll, poll.post(gateway.port))
    site.ca.approve()
    check.success(poll, poll.post(gateway.port))


def test_polls_for_nothing(site, gateway, at, devices):
    """An unknown transaction and somebody else's key get the same answer."""
    (message,) = devices(at("/before"))
    poll = device.poll(message)
    check.failure(poll, poll.post(gateway.port), 4)
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    (stranger,) = devices(at("/before"), own_key=True, transaction=message.transaction)
    foreign = device.poll(stranger)
    check.failure(foreign, foreign.post(gateway.port), 4)
    assert polls(site, message) == []


def test_a_former_ra_polls_for_what_it_asked(site, start_gateway, devices, scratch):
    former = site.authority.issue("former-ra")
    profile = site.profile("/rotated", ra=former, **GIVEN_TIME)
    gateway = start_gateway([profile])
    gateway.allow_log("AH00098|ISCEP0418")
    first, second = devices(profile, 2)
    site.ca.control(approval="manual")
    for message in (first, second):
        pending(message, message.post(gateway.port))
    polls_made = device.poll_all([first, second])
    signers = {request["signer_serial"] for request in site.ca.requests()}
    present = site.authority.issue("present-ra")
    renewed = profile.changed(RACertificate=present[0], RAKey=present[1])
    # the devices' polls are to the new certificate, which they get by GetCACert
    renewed.ra_certificate, renewed.ra_key = present
    for message in (first, second):
        message.profile = renewed
    polls_made = device.poll_all([first, second])
    gateway.kill()
    gateway.profiles = [renewed]
    gateway.start()
    gateway.wait_log("ISCEP0418")
    pending(polls_made[0], polls_made[0].post(gateway.port))
    assert {polls(site, first)[-1]["signer_serial"]}.isdisjoint(signers), "without the directive by the present one"
    gateway.kill()
    gateway.profiles = [renewed.changed(RAFormerCertificate=f'"{former[0]}" "{former[1]}"')]
    gateway.start()
    site.ca.approve()
    check.success(polls_made[1], polls_made[1].post(gateway.port))
    assert {polls(site, second)[-1]["signer_serial"]} == signers


# Without a journal

def test_no_journal(site, start_gateway, devices):
    """Everything is said at once, and nothing is remembered."""
    profile = site.profile("/none", **GIVEN_TIME)
    gateway = start_gateway([profile], server="IntuneScepJournal none\n", allow=[*OPTIONS["allow"], "ISCEP0541"])
    message, lost, waiting = devices(profile, 3)
    first = check.success(message, message.post(gateway.port))
    assert check.success(message, message.post(gateway.port))["certificate"] != first["certificate"]
    site.ca.control("drop_after", times=1)
    gateway.allow_log("ISCEP1203|ISCEP1205|ISCEP1018")
    check.unavailable(lost.post(gateway.port))
    assert len(accepted(site, "failure", lost)) == 1
    site.ca.control(approval="manual")
    check.failure(waiting, waiting.post(gateway.port), 2)
    assert len(accepted(site, "failure", waiting)) == 1
    poll = device.poll(waiting)
    check.failure(poll, poll.post(gateway.port), 2)
    assert not (gateway.state / "journal.sqlite").exists()


# Answers that come too late

def test_a_certificate_that_comes_late_is_taken(site, start_gateway, devices):
    """The lease is over and the failure reported, but the device still waits: it gets the certificate."""
    profile = site.profile("/late", Timeout=1, BackendTimeout=1, Grace=1)
    gateway = start_gateway([profile], proxy_timeout=20)
    (message,) = devices(profile)
    site.ca.control("slow", times=1, seconds=9)
    opened = check.success(message, message.post(gateway.port, timeout=40))
    assert len(accepted(site, "failure", message)) == 1
    (report,) = accepted(site, "success", message)
    assert report["thumbprint"] == device.CertificateFacts(opened["certificate"]).thumbprint
    assert report["time"] > accepted(site, "failure", message)[0]["time"]


def test_a_certificate_that_comes_too_late_is_an_orphan(site, start_gateway, devices):
    """Meanwhile another message of the transaction has led to another certificate."""
    profile = site.profile("/orphan", Timeout=1, BackendTimeout=1, Grace=600)
    gateway = start_gateway([profile], proxy_timeout=20)
    (message,) = devices(profile)
    site.ca.control("slow", times=1, seconds=8)
    waiting = load.Stream(1, [message], lambda m: m.post(gateway.port, timeout=40)).start()
    wait.until(lambda: csr_requests(site, message), "the CA to be asked")
    gateway.allow_log("ISCEP1401|ISCEP1402|ISCEP0405")
    again = device.again(message)
    answer = wait.until(lambda: (lambda a: a.status == 200 and a)(again.post(gateway.port)), "a certificate", 20)
    delivered = device.CertificateFacts(check.success(again, answer)["certificate"])
    ((_, late),) = waiting.finish()
    check.unavailable(late)
    first, second = csr_requests(site, message)
    assert delivered.thumbprint == second["thumbprint"]
    (line,) = gateway.lines("ISCEP0405")
    assert first["serial"] in line
    row = journal.row(gateway, message)
    assert row["event"] == "orphan" and first["serial"] in row["event_detail"]
    assert {r["thumbprint"] for r in accepted(site, "success", message)} == {delivered.thumbprint}


# Processes and databases that die

def test_a_process_that_dies_while_the_ca_is_asked(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/killed", **{**GIVEN_TIME, "BackendTimeout": 60})])
    (message,) = devices(gateway.profiles[0])
    gateway.allow_log("exit signal|ISCEP")
    site.ca.control("slow", times=1, seconds=3)
    asking = load.Stream(1, [message], lambda m: m.post(gateway.port)).start()
    wait.until(lambda: csr_requests(site, message), "the CA to be asked")
    owner = journal.row(gateway, message)["owner"]
    os.kill(int(owner.split("-")[1]), signal.SIGKILL)
    ((_, outcome),) = asking.finish()
    assert isinstance(outcome, Exception)
    # the claim of a process that is gone is void at once, not after BackendTimeout
    answer = wait.until(lambda: _answer_of(message, gateway), "an answer")
    check.success(message, answer)
    assert len(csr_requests(site, message)) == 2


def _answer_of(message, gateway):
    try:
        return message.post(gateway.port)
    except OSError:
        return None


def test_everything_restarts_while_one_is_pending(site, start_gateway, devices):
    profile = site.profile("/restarted", **GIVEN_TIME)
    gateway = start_gateway([profile])
    gateway.allow_log("AH00098")  # the file of the server that was killed
    (message,) = devices(profile)
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    gateway.kill()
    gateway.start()
    site.ca.approve()
    poll = device.poll(message)
    check.success(poll, poll.post(gateway.port))


def test_a_locked_journal(site, gateway, at, devices):
    first, second = devices(at("/before"), 2)
    database = sqlite3.connect(gateway.state / "journal.sqlite", isolation_level=None)
    try:
        database.execute("BEGIN EXCLUSIVE")
        check.unavailable(first.post(gateway.port))
        check.final_line(gateway, 1400, first, "locked")
        check.ca_untouched(site)
        gateway.allow_log("ISCEP0413")
    finally:
        database.execute("ROLLBACK")
        database.close()
    check.success(second, second.post(gateway.port))
    check.success(first, first.post(gateway.port))


def test_a_journal_that_is_garbage(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/garbage", **GIVEN_TIME)])
    first, second = devices(gateway.profiles[0], 2)
    check.success(first, first.post(gateway.port))
    whole = {path: path.read_bytes() for path in gateway.state.glob("journal.sqlite*")}
    for path in whole:
        path.write_bytes(os.urandom(8192))
    gateway.allow_log("ISCEP1400|ISCEP0413")
    check.unavailable(second.post(gateway.port))
    assert len(site.ca.requests()) == 1
    for path, content in whole.items():
        path.write_bytes(content)
    answer = wait.until(lambda: (lambda a: a.status == 200 and a)(second.post(gateway.port)), "the journal to recover")
    check.success(second, answer)


def test_another_state_key(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/key", **GIVEN_TIME)])
    gateway.kill()
    pki.write_secret(gateway.state / "state.key", "f" * 64 + "\n")
    with pytest.raises(StartError, match=r"ISCEP0540: IntuneScepJournal: .*another state key"):
        gateway.start()


# Two machines with one journal

@pytest.fixture
def two(site, start_gateway, postgres):
    """Two servers, as on two machines: PostgreSQL is their journal."""
    profile = site.profile("/scep", **GIVEN_TIME, Name='"the profile"')
    server = (f'IntuneScepStateKey {"k" * 40}\nIntuneScepJournal "pgsql:{postgres.database()}"\n')
    return [start_gateway([profile], server=server, name=name, allow=[*OPTIONS["allow"], "AH00098", "ISCEP0531"])
            for name in ("one", "two")]


def test_pending_over_two_machines(site, two, devices):
    """PENDING at the one, polls at both, everything restarted, approved, refused: either has the answer."""
    one, other = two
    approved, refused = devices(one.profiles[0], 2)
    site.ca.control(approval="manual")
    for message in (approved, refused):
        pending(message, message.post(one.port))
        poll = device.poll(message)
        pending(poll, poll.post(other.port))
        pending(poll, poll.post(one.port))
    for gateway in two:
        gateway.kill()
        gateway.start()
    site.ca.approve(approved.transaction)
    site.ca.reject(refused.transaction, 2)
    poll = device.poll(approved)
    opened = check.success(poll, poll.post(other.port))
    assert check.success(approved, approved.post(one.port))["certificate"] == opened["certificate"]
    for gateway in two:
        gateway.allow_log("ISCEP1204")
        poll = device.poll(refused)
        check.failure(poll, poll.post(gateway.port), 2)
    assert len(csr_requests(site, approved)) == 1 and len(accepted(site, "success", approved)) == 1
    assert len(accepted(site, "failure", refused)) == 1


def test_pending_expires_over_two_machines(site, start_gateway, postgres, devices):
    profile = site.profile("/scep", **{**GIVEN_TIME, "PendingLimit": 2}, Name='"the profile"')
    server = f'IntuneScepStateKey {"k" * 40}\nIntuneScepJournal "pgsql:{postgres.database()}"\n'
    one, other = [start_gateway([profile], server=server, name=name, allow=["ISCEP0531", "ISCEP1406", "AH00098"])
                  for name in ("one", "two")]
    (message,) = devices(profile)
    site.ca.control(approval="manual")
    pending(message, message.post(one.port))
    one.kill()
    wait.until(lambda: accepted(site, "failure", message), "the other machine to report it")
    one.start()
    for gateway in (one, other):
        poll = device.poll(message)
        check.failure(poll, poll.post(gateway.port), 2)
    assert len(accepted(site, "failure", message)) == 1 and polls(site, message) == []


def test_a_start_without_postgresql(site, start_gateway, postgres, devices):
    """The server starts, answers 503, and goes on by itself; the same at a graceful restart."""
    profile = site.profile("/scep", **GIVEN_TIME)
    server = f'IntuneScepStateKey {"k" * 40}\nIntuneScepJournal "pgsql:{postgres.database()}"\n'
    postgres.stop("fast")
    gateway = start_gateway([profile], server=server, allow=["ISCEP0531", "ISCEP0544", "ISCEP0413", "ISCEP1400"])
    first, second = devices(profile, 2)
    check.unavailable(first.post(gateway.port))
    check.ca_untouched(site)
    postgres.start()
    check.success(first, wait.until(lambda: (lambda a: a.status == 200 and a)(first.post(gateway.port)), "a certificate", 20))
    postgres.stop("fast")
    gateway.restart_gracefully()
    check.unavailable(second.post(gateway.port))
    postgres.start()
    check.success(second, wait.until(lambda: (lambda a: a.status == 200 and a)(second.post(gateway.port)), "a certificate", 20))


def test_a_path_that_is_no_utf_8(site, start_gateway, postgres, devices, scratch):
    """The location has its name from it, and PostgreSQL would take none of its rows."""
    profile = site.profile("/scep")
    section = profile.config().encode().replace(b'"/scep"', b'"/sc\xe9p"')
    (scratch / "section.conf").write_bytes(section)
    server = f'IntuneScepStateKey {"k" * 40}\nIntuneScepJournal "pgsql:{postgres.database()}"\n'
    gateway = start_gateway([], server=server, after=f'Include "{scratch}/section.conf"\n', allow=["ISCEP0531"])
    (message,) = devices(profile)
    check.success(message, message.post(gateway.port, "/sc%e9p"))
    assert gateway.lines(r"ISCEP0400: .* localhost/sc\?p: ")


def test_another_machine_with_another_key(site, start_gateway, postgres):
    profile = site.profile("/scep", **GIVEN_TIME)
    journal_line = f'IntuneScepJournal "pgsql:{postgres.database()}"\n'
    start_gateway([profile], server=f'IntuneScepStateKey {"k" * 40}\n{journal_line}', name="one", allow=["ISCEP0531"])
    with pytest.raises(StartError, match="ISCEP0540: .*another state key"):
        start_gateway([profile], server=f'IntuneScepStateKey {"x" * 40}\n{journal_line}', name="two")


# An operator's decisions, while the servers run

@pytest.fixture(params=["sqlite", "postgresql"])
def decided(request, site, start_gateway, scratch):
    """A server, and the tool on its journal, which says where it is."""
    profile = site.profile("/scep", **GIVEN_TIME)
    key = scratch / "state.key"
    pki.write_secret(key, "k" * 40)
    server, where = f"IntuneScepStateKey file:{key}\n", None
    if request.param == "postgresql":
        place = scratch / "place"
        pki.write_secret(place, f'pgsql:{request.getfixturevalue("postgres").database()}')
        server += f"IntuneScepJournal file:{place}\n"
        where = f"file:{place}"
    gateway = start_gateway([profile], server=server, **OPTIONS)
    where = where or f"sqlite3:{gateway.state}/journal.sqlite"
    return gateway, lambda *words: ctl.run("journal", "--journal", where, "--state-key", f"file:{key}", *words)


def test_what_an_operator_decides(site, decided, devices):
    gateway, tool = decided
    messages = devices(gateway.profiles[0], 3)
    gateway.allow_log("ISCEP1300")
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed", times=3)
    for message in messages:
        check.failure(message, message.post(gateway.port), 2)
    rows = {row["transaction"]: row for row in tool("list").json["rows"]}
    ids = [rows[message.transaction]["id"] for message in messages]
    assert all(row["state"] == "withheld" and row["request_kept"] for row in rows.values()) and len(rows) == 3
    released, again, dropped = messages
    assert tool("release", ids[0][:12]).code == 0
    check.success(released, released.post(gateway.port))
    assert accepted(site, "success", released) == []
    assert tool("retry", ids[1]).code == 0
    wait.until(lambda: accepted(site, "success", again), "the report", 20)
    wait.until(lambda: tool("show", ids[1]).json["report"] == "done", "the journal knows it", 20)
    check.success(again, again.post(gateway.port))
    assert len(csr_requests(site, again)) == 1
    assert tool("drop", ids[2]).code == 0 and tool("show", ids[2]).code == 1
    for name, row in (("release", 0), ("retry", 1), ("retry", 0)):
        refused = tool(name, ids[row])
        assert refused.code == 1 and "cannot be done" in refused.json["error"], str(refused)
    # it is forgotten: the same request is a new transaction
    check.success(dropped, dropped.post(gateway.port))
    assert len(csr_requests(site, dropped)) == 2
    assert [(row["state"], row["rows"]) for row in tool("counts").json["counts"]] in (
        [("issued", 2), ("issued", 1)], [("issued", 1), ("issued", 2)])
