# SPDX-License-Identifier: Apache-2.0
"""A transaction goes on from where it is, whatever comes next: each state with each kind of message, restarts, other settings."""
import pytest

from harness import check, client, device, journal, load, pki, status, system, wait
from test_journal import GIVEN_TIME, accepted, calls, csr_requests, pending, polls

OPTIONS = {"allow": [r"\[proxy(_http)?:error\]"]}
MINUTE, MONTH = 61, 31 * 86400


def profiles(site):
    def profile(path, **changes):
        return site.profile(path, **{**GIVEN_TIME, "Retries": 0, **changes})
    return [profile("/before"), profile("/comeback", ComeBack="pending", Grace=3600), profile("/patient", Grace=3600),
            profile("/expiring", PendingLimit=1), profile("/none", Resync="none"), profile("/retries", Retries=2),
            profile("/poll", ComeBack="pending", Resync="poll", Grace=3600),
            profile("/down", ComeBack="pending", backend=f"http://127.0.0.1:{system.free_port()}/ca")]


@pytest.fixture
def at(gateway):
    return lambda path: next(profile for profile in gateway.profiles if profile.path == path)


def state(gateway, message):
    row = journal.row(gateway, message)
    return row["state"], row["report"]


# The same transactionID with another request: a transaction of its own, whatever the first is at

def lose_the_answer(site, gateway, message):
    site.ca.control("drop_after", times=1)
    check.unavailable(message.post(gateway.port))
    return "unknown", "failure"


def let_it_wait(site, gateway, message):
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    site.ca.control(approval="automatic")
    return "pending", "failure"


def refuse_it(site, gateway, message):
    site.ca.control("refuse", times=1, fail_info=2)
    check.failure(message, message.post(gateway.port), 2)
    return "failed", "done"


def withhold_it(site, gateway, message):
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed", times=1)
    check.failure(message, message.post(gateway.port), 2)
    return "withheld", "refused"


def owe_its_report(site, gateway, message):
    site.microsoft.fail("success", "status", status=500)
    check.unavailable(message.post(gateway.port))
    row = state(gateway, message)
    site.microsoft.fail("success", "ok")
    return row


WAYS = {"unknown": lose_the_answer, "pending": let_it_wait, "failed": refuse_it, "withheld": withhold_it, "owed": owe_its_report}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("own_key", [False, True], ids=["same key", "another key"])
def test_another_request_of_the_same_transaction(site, gateway, at, devices, way, own_key):
    profile = at("/patient")
    gateway.allow_log(r"ISCEP1\d\d\d")
    (first,) = devices(profile)
    assert WAYS[way](site, gateway, first) == state(gateway, first)
    (other,) = devices(profile, transaction=first.transaction, own_key=own_key)
    opened = check.success(other, other.post(gateway.port))
    rows = journal.rows(gateway, first.transaction)
    assert len(rows) == 2 and (rows[0]["key_fp"] == rows[1]["key_fp"]) == (not own_key)
    (report,) = [call for call in accepted(site, "success", other) if call["csr_sha256"] == other.csr_sha256]
    assert report["thumbprint"] == device.CertificateFacts(opened["certificate"]).thumbprint
    assert len([call for call in calls(site, "validate", other) if call["csr_sha256"] == other.csr_sha256]) == 1


def test_another_request_while_the_ca_is_asked(site, gateway, at, devices):
    """It is told to come back; then it is a transaction of its own."""
    first, = devices(at("/before"))
    (other,) = devices(at("/before"), transaction=first.transaction)
    site.ca.control("slow", times=1, seconds=2.5)
    stream = load.Stream(1, [first], lambda message: message.post(gateway.port)).start()
    wait.until(lambda: csr_requests(site, first), "the CA to be asked")
    opened = check.success(other, other.post(gateway.port))
    ((_, answer),) = stream.finish()
    assert check.success(first, answer)["certificate"] != opened["certificate"]
    one, two = csr_requests(site, first)
    assert one["answered_time"] < two["time"], "the second waits for the first"


# PENDING

def test_pending_then_issued_then_the_report_is_refused(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    let_it_wait(site, gateway, message)
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed", times=1)
    gateway.allow_log("ISCEP1300")
    for again in (device.poll(message), message, device.poll(message), device.again(message)):
        check.failure(again, again.post(gateway.port), 2)
    assert state(gateway, message) == ("withheld", "refused")
    assert len(polls(site, message)) == len(csr_requests(site, message)) == len(calls(site, "success", message)) == 1
    assert calls(site, "failure", message) == []


def test_pending_then_issued_and_the_report_is_late(site, gateway, at, devices):
    """The device is told PENDING all the time, and the CA is not polled once it has issued."""
    (message,) = devices(at("/comeback"))
    let_it_wait(site, gateway, message)
    site.microsoft.fail("success", "status", status=503)
    gateway.allow_log("ISCEP1301")
    poll = device.poll(message)
    for again in (poll, poll, message):
        pending(again, again.post(gateway.port))
    assert len(polls(site, message)) == 1
    site.microsoft.fail("success", "ok")
    journal.make_due(gateway, message)
    journal.wait_for(gateway, message, state="issued", report="done")
    assert check.success(poll, poll.post(gateway.port))["certificate"] == check.success(
        message, message.post(gateway.port))["certificate"]


def test_a_repeated_request_polls_for_what_is_pending(site, gateway, at, devices):
    """The device need not know of CertPoll; neither the certificate nor the bytes of its signer matter, but the key."""
    (message,) = devices(at("/before"))
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    again = device.again(message, new_signer=True, cipher="aes256", digest="sha512")
    pending(again, again.post(gateway.port))
    site.ca.approve()
    check.success(again, again.post(gateway.port), "aes256", "sha512")
    assert len(csr_requests(site, message)) == 1 and len(polls(site, message)) == 2


def test_pending_and_then_a_certificate_of_another_key(site, gateway, at, devices):
    (message,) = devices(at("/before"))
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    site.ca.approve()
    site.ca.control("wrong_key", times=1)
    poll = device.poll(message)
    check.unavailable(poll.post(gateway.port), 502)
    gateway.allow_log("ISCEP1209")
    check.failure_reported(site, message, 1209)
    row = journal.wait_for(gateway, message, state="failed", report="done")
    assert row["event"] == "orphan" and polls(site, message)[0]["serial"] in row["event_detail"]


def test_expired_though_intune_does_not_hear_of_it(site, gateway, at, devices):
    """The CA decides late, but before Intune took the failure: then it is a success, and nothing else is told."""
    (message,) = devices(at("/expiring"))
    site.microsoft.fail("failure", "status", status=503)
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    wait.until(lambda: journal.row(gateway, message)["tries"], "the failure to be reported", 20)
    wait.until(lambda: not journal.row(gateway, message)["lease_until"], "its end", 20)
    site.ca.approve()
    poll = device.poll(message)
    check.success(poll, poll.post(gateway.port))
    site.microsoft.fail("failure", "ok")
    row = journal.row(gateway, message)
    assert (row["state"], row["report"], row["event"]) == ("issued", "done", None)
    assert len(accepted(site, "success", message)) == 1 and accepted(site, "failure", message) == []


def test_expired_and_the_ca_decides_all_the_same(site, gateway, at, devices):
    """Who polls hears that it is over; who repeats the request after a minute gets what the CA has."""
    (message,) = devices(at("/expiring"))
    gateway.allow_log("ISCEP1406")
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    journal.wait_for(gateway, message, 20, state="failed", report="done")
    site.ca.approve()
    poll = device.poll(message)
    for again in (poll, message):
        check.failure(again, again.post(gateway.port), 2)
    journal.make_older(gateway, MINUTE, message)
    check.failure(poll, poll.post(gateway.port), 2)
    opened = check.success(message, message.post(gateway.port))
    assert check.success(poll, poll.post(gateway.port))["certificate"] == opened["certificate"]
    assert len(calls(site, "validate", message)) == len(csr_requests(site, message)) == 2


# Renewals: the first signer's key is the transaction's

@pytest.fixture
def renewal(gateway, devices):
    """Makes a RenewalReq by a device that has a certificate."""
    def make(profile, **options):
        (first,) = devices(profile, own_key=True)
        opened = check.success(first, first.post(gateway.port))
        certificate = first.directory / "renewal.pem"
        certificate.write_text(opened["certificate"])
        options = {"own_key": True, **options}
        (message,) = devices(profile, type=17, signer_cert=certificate, signer_key=first.key, **options)
        return message
    return make


def test_a_renewal_that_waits(site, gateway, at, renewal):
    message = renewal(at("/before"))
    site.ca.control(approval="manual")
    pending(message, message.post(gateway.port))
    poll, again = device.poll(message), device.again(message)
    for each in (poll, again):
        pending(each, each.post(gateway.port))
    site.ca.approve()
    certificate = check.success(poll, poll.post(gateway.port))["certificate"]
    assert check.success(again, again.post(gateway.port))["certificate"] == certificate
    assert len(csr_requests(site, message)) == 1 and len(accepted(site, "success", message)) == 1


def test_a_renewal_whose_answer_is_lost(site, gateway, at, renewal):
    message = renewal(at("/patient"))
    lose_the_answer(site, gateway, message)
    gateway.allow_log("ISCEP1203")
    check.success(message, message.post(gateway.port))
    # the RA asks for it in its own name
    assert [request["message_type"] for request in csr_requests(site, message)] == ["19", "19"]
    check.same_request(site, message)


def test_a_renewal_with_an_elliptic_key(site, gateway, at, renewal, scratch):
    profile = at("/before")
    key, request, words = (scratch / f"elliptic.{name}" for name in ("key", "csr", "cnf"))
    challenge = site.microsoft.challenge(profile.tenant)
    words.write_text("[req]\ndistinguished_name = name\nattributes = more\nprompt = no\nstring_mask = nombstr\n[name]\nCN = ec\n"
                     f"[more]\nchallengePassword = {challenge}\n")
    pki.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    pki.openssl("req", "-new", "-key", key, "-config", words, "-out", request, "-outform", "DER")
    message = renewal(profile, challenge=False, own_key=False, csr=request, key=key)
    answer = message.post(gateway.port)
    check.reported(site, message, check.success(message, answer), answer)


# What a poll gets where the transaction is not at its end

def test_told_to_poll_while_the_ca_is_down(site, gateway, at, devices):
    """Until Intune is told of the failure, and forgets the request with it; a device that repeats its request has it still."""
    (message,) = devices(at("/down"))
    poll = device.poll(message)
    gateway.allow_log("ISCEP1200|ISCEP1404")
    for each in (message, poll):
        pending(each, each.post(gateway.port))
    journal.wait_for(gateway, message, state="failed", report="done")
    check.failure_reported(site, message, 1200)
    check.failure(poll, poll.post(gateway.port), 2)
    pending(message, message.post(gateway.port))


@pytest.mark.parametrize("mode, asked, validated", [("drop_before", 2, 2), ("drop_after", 1, 1)])
def test_polls_of_device_and_gateway(site, gateway, at, devices, mode, asked, validated):
    """Resync by poll: the device's CertPoll makes the gateway poll, and then, where the CA knows nothing, ask once more."""
    (message,) = devices(at("/poll"))
    site.ca.control(mode, times=1)
    gateway.allow_log("ISCEP120[23]")
    pending(message, message.post(gateway.port))
    poll = device.poll(message)
    for _ in range(asked - 1):
        pending(poll, poll.post(gateway.port))
    check.success(poll, poll.post(gateway.port))
    assert len(polls(site, message)) == 1
    assert (len(csr_requests(site, message)), len(calls(site, "validate", message))) == (asked, validated)


def test_told_to_poll_while_intune_is_away(site, gateway, at, devices):
    """A lost answer needs a fresh word of Intune's: without one the device goes on polling."""
    (message,) = devices(at("/comeback"))
    site.ca.control("drop_after", times=1)
    gateway.allow_log("ISCEP1203|ISCEP1102")
    pending(message, message.post(gateway.port))
    site.microsoft.fail("validate", "status", status=503)
    poll = device.poll(message)
    for again in (poll, message):
        pending(again, again.post(gateway.port))
    site.microsoft.fail("validate", "ok")
    check.success(poll, poll.post(gateway.port))
    assert len(csr_requests(site, message)) == 2


def test_no_resync_with_polls(site, gateway, at, devices):
    (message,) = devices(at("/none"))
    poll = device.poll(message)
    lose_the_answer(site, gateway, message)
    gateway.allow_log("ISCEP1203|ISCEP1404")
    check.unavailable(poll.post(gateway.port))
    assert journal.wait_for(gateway, message, report="done")["state"] == "unknown"
    check.failure(poll, poll.post(gateway.port), 2)
    assert len(csr_requests(site, message)) == 1 and polls(site, message) == []


def test_a_refusal_is_over_after_a_minute(site, gateway, at, devices):
    """Then the request is tried again, validated anew; a device that only polls has none, and hears the same again."""
    (message,) = devices(at("/before"))
    refuse_it(site, gateway, message)
    gateway.allow_log("ISCEP1204")
    journal.make_older(gateway, MINUTE, message)
    poll = device.poll(message)
    check.failure(poll, poll.post(gateway.port), 2)
    assert len(csr_requests(site, message)) == len(calls(site, "validate", message)) == 1
    opened = check.success(message, message.post(gateway.port))
    assert len(csr_requests(site, message)) == len(calls(site, "validate", message)) == 2
    assert check.success(poll, poll.post(gateway.port))["certificate"] == opened["certificate"]
    assert len(accepted(site, "failure", message)) == len(accepted(site, "success", message)) == 1
    assert state(gateway, message) == ("issued", "done")


# Reports

@pytest.mark.parametrize("http", [401, 403, 404, 429, 500])
def test_what_is_no_refusal_of_a_report(site, gateway, at, devices, http):
    (message,) = devices(at("/before"))
    site.microsoft.fail("success", "status", status=http)
    gateway.allow_log("ISCEP1301|ISCEP030[34]")
    check.unavailable(message.post(gateway.port))
    assert state(gateway, message) == ("issued", "success")
    site.microsoft.fail("success", "ok")
    journal.make_due(gateway, message)
    journal.wait_for(gateway, message, state="issued", report="done")
    check.success(message, message.post(gateway.port))


@pytest.mark.parametrize("refusal", [{"mode": "code", "code": "SignatureValidationFailed"}, {"mode": "status", "status": 400}],
                         ids=["code", "HTTP 400"])
def test_a_refusal_after_an_answer_that_was_lost(site, gateway, at, devices, refusal):
    """Within one call, too: Intune has the first one, and refuses the second. The operator is told."""
    (message,) = devices(at("/retries"))
    site.microsoft.fail("success", **refusal)
    site.microsoft.fail("success", "drop_after", times=1)
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1300, message, "possibly accepted")
    assert len(accepted(site, "success", message)) == 1 and len(calls(site, "success", message)) == 2
    row = journal.row(gateway, message)
    assert row["state"] == "withheld" and "possibly accepted" in row["event_detail"]


def test_a_refusal_at_once_leaves_no_doubt(site, gateway, at, devices):
    (message,) = devices(at("/retries"))
    withhold_it(site, gateway, message)
    check.final_line(gateway, 1300, message)
    assert "possibly" not in journal.row(gateway, message)["event_detail"]
    assert not gateway.lines(rf"ISCEP1300: \[{message.transaction}\].*possibly")


# Restarts

def test_after_and_everything_is_killed(site, start_gateway, devices):
    """What was delivered and not reported is reported by those who come after, and delivered again meanwhile."""
    profile = site.profile("/scep", **GIVEN_TIME, Retries=0, Notify="after")
    gateway = start_gateway([profile], allow=["AH00098"])
    messages = devices(profile, 3)
    site.microsoft.fail("success", "status", status=500)
    first = [check.success(message, message.post(gateway.port)) for message in messages]
    gateway.kill()
    gateway.start()
    for message, opened in zip(messages, first):
        assert check.success(message, message.post(gateway.port))["certificate"] == opened["certificate"]
    gateway.restart_gracefully()
    site.microsoft.fail("success", "ok")
    for message, opened in zip(messages, first):
        journal.make_due(gateway, message)
        journal.wait_for(gateway, message, 20, state="issued", report="done")
        (report,) = accepted(site, "success", message)
        assert report["thumbprint"] == device.CertificateFacts(opened["certificate"]).thumbprint
        assert len({call["request_id"] for call in calls(site, "success", message)}) == 1
    assert len(site.ca.requests()) == len(site.microsoft.calls("validate")) == 3


def test_a_refused_report_under_after(site, start_gateway, devices):
    """It is delivered, and again after a restart; nobody sends the report any more."""
    profile = site.profile("/scep", **GIVEN_TIME, Notify="after")
    gateway = start_gateway([profile], allow=["AH00098", "ISCEP0402"])
    (message,) = devices(profile)
    site.microsoft.fail("success", "code", code="SignatureValidationFailed", times=1)
    opened = check.success(message, message.post(gateway.port))
    assert state(gateway, message) == ("issued", "refused")
    gateway.kill()
    gateway.start()
    assert check.success(message, message.post(gateway.port))["certificate"] == opened["certificate"]
    poll = device.poll(message)
    assert check.success(poll, poll.post(gateway.port))["certificate"] == opened["certificate"]
    assert len(calls(site, "success", message)) == 1


def test_before_after_a_restart_with_after(site, start_gateway, devices):
    """What was delivered under `after` and is owed still waits once the server says `before`."""
    profile = site.profile("/scep", **GIVEN_TIME, Retries=0, Notify="after")
    gateway = start_gateway([profile])
    (message,) = devices(profile)
    site.microsoft.fail("success", "status", status=500)
    opened = check.success(message, message.post(gateway.port))
    gateway.profiles = [profile.changed(Notify="before")]
    gateway.write_config()
    gateway.restart_gracefully()
    gateway.allow_log("ISCEP1401")
    wait.until(lambda: message.post(gateway.port).status == 503, "the new generation")
    site.microsoft.fail("success", "ok")
    journal.make_due(gateway, message)
    journal.wait_for(gateway, message, 20, report="done")
    assert check.success(message, message.post(gateway.port))["certificate"] == opened["certificate"]


def test_the_name_outlives_the_path(site, start_gateway, devices):
    old = site.profile("/certsrv/mscep/mscep.dll", **GIVEN_TIME, Name="corp")
    gateway = start_gateway([old])
    done, waiting = devices(old, 2)
    first = check.success(done, done.post(gateway.port))
    site.ca.control(approval="manual")
    pending(waiting, waiting.post(gateway.port))
    moved = old.changed()
    moved.path = "/scep"
    gateway.profiles = [moved, site.profile("/certsrv/mscep/mscep.dll", **GIVEN_TIME, tenant=old.tenant)]
    gateway.kill()
    gateway.allow_log("AH00098")
    gateway.start()
    site.ca.approve()
    poll = device.poll(waiting)
    gateway.allow_log("ISCEP1407")
    check.failure(poll, poll.post(gateway.port), 4)  # the other name's journal knows nothing of it
    check.success(poll, poll.post(gateway.port, "/scep"))
    assert check.success(done, done.post(gateway.port, "/scep"))["certificate"] == first["certificate"]
    assert len(csr_requests(site, done)) == 1
    check.success(done, done.post(gateway.port))
    assert len(csr_requests(site, done)) == 2


def test_what_is_pruned(site, start_gateway, devices):
    """Whatever owes nothing, once it is old enough; never what owes a report, waits at the CA, or is withheld."""
    profiles_ = {path: site.profile(path, **{**GIVEN_TIME, "Retries": 0, "Grace": 86400, **changes}) for path, changes in {
        "/before": {}, "/after": {"Notify": "after"}}.items()}
    gateway = start_gateway(list(profiles_.values()), allow=["AH00098", "ISCEP1", "ISCEP040[27]", *OPTIONS["allow"]])
    names = ["issued", "young", "failed", "refused", "withheld", "owed", "pending", "unknown"]
    made = {name: devices(profiles_["/after" if name in ("refused", "owed") else "/before"])[0] for name in names}
    for name in ("issued", "young"):
        check.success(made[name], made[name].post(gateway.port))
    refuse_it(site, gateway, made["failed"])
    withhold_it(site, gateway, made["withheld"])
    site.microsoft.fail("success", "code", code="SignatureValidationFailed", times=1)
    check.success(made["refused"], made["refused"].post(gateway.port))
    let_it_wait(site, gateway, made["pending"])
    lose_the_answer(site, gateway, made["unknown"])
    site.microsoft.fail("success", "status", status=500)
    check.success(made["owed"], made["owed"].post(gateway.port))
    gateway.kill()
    for name in names:
        if name != "young":
            journal.make_older(gateway, MONTH, made[name])
    gateway.start()
    kept = {made[name].transaction for name in ("young", "withheld", "owed", "pending", "unknown")}
    wait.until(lambda: {row["txid"] for row in journal.rows(gateway)} == kept, lambda: f"{kept} in {journal.rows(gateway)}", 20)


def test_what_is_given_up_stays_for_as_long_as_all_else(site, start_gateway, devices):
    """However old it was by then: else a device that comes again would get a second certificate."""
    profile = site.profile("/scep", **GIVEN_TIME, Retries=0, ReportLimit=172800)
    gateway = start_gateway([profile], server="IntuneScepRetention 86400\n", allow=["AH00098"])
    old, message = devices(profile, 2)
    check.success(old, old.post(gateway.port))
    gateway.allow_log("ISCEP1301|ISCEP0412|ISCEP1404")
    site.microsoft.fail("success", "status", status=503)
    check.unavailable(message.post(gateway.port))
    journal.make_older(gateway, 3 * 86400, message)
    journal.make_due(gateway, message)
    journal.wait_for(gateway, message, 30, report="dead")
    gateway.kill()
    journal.make_older(gateway, 3 * 86400, old)
    gateway.start()
    wait.until(lambda: not journal.rows(gateway, old.transaction), "the old ones to be removed", 20)
    check.failure(message, message.post(gateway.port), 2)
    assert len(csr_requests(site, message)) == 1 and state(gateway, message) == ("issued", "dead")


# Two machines, or not

def test_which_journal_it_is(site, start_gateway, postgres):
    """Two servers with a file each are two gateways; with one database they show one id, also where that came later."""
    profile = site.profile("/scep", **GIVEN_TIME)

    def start(name, server=""):
        return start_gateway([profile], name=name, server=server, allow=["ISCEP0531", "ISCEP0544", "ISCEP0413"],
                             after=f'<Location "{status.PATH}">\nSetHandler intune-scep-status\n</Location>\n')

    def shown(gateway):
        found = wait.until(lambda: status.state(gateway).get("journal_id"), "the id", 20)
        wait.until(lambda: f"journal {found}<" in status.page(gateway), "the id on the page of each process", 5)
        return found
    apart = [shown(start(name)) for name in ("one", "two")]
    server = f'IntuneScepStateKey {"k" * 40}\nIntuneScepJournal "pgsql:{postgres.database()}"\n'
    third = start("three", server)
    together = [shown(third)]
    postgres.stop("fast")
    late = start("four", server)
    assert "journal_id" not in status.state(late)
    postgres.start()
    together.append(shown(late))
    assert len({*apart, *together}) == 3 and together[0] == together[1]


# Settings side by side

def test_each_location_has_its_own_limits(site, start_gateway, devices):
    wide = site.profile("/scep", MinKeySize=1024, RefuseSID="Off", DeviceAlgorithms='"AES DES3 DES SHA-1 SHA-256 MD5"')
    strict = site.profile("/strict", MinKeySize=3072, DeviceAlgorithms='"AES256 SHA-512"')
    inner = wide.changed()
    inner.path = "/scep/inner"
    inner.directives = {"IntuneScepName": "inner", "IntuneScepRefuseSID": "On", "IntuneScepDeviceAlgorithms": '"DES3"',
                        "IntuneScepMinKeySize": 2048}
    gateway = start_gateway([wide, strict, inner])
    gateway.allow_log(r"ISCEP10\d\d")
    made = {"usual": {}, "sid": {"break_": "sid"}, "small": {"own_key": True, "bits": 1024}, "des": {"cipher": "des"},
            "md5": {"digest": "md5"}, "des3": {"cipher": "des3"}, "best": {"cipher": "aes256", "digest": "sha512"},
            "large": {"own_key": True, "bits": 3072, "cipher": "aes256", "digest": "sha512"}}
    # what the messages get: None is a certificate, a number is failInfo
    wanted = {"/scep": {"usual": None, "sid": None, "small": None, "des": None, "md5": None, "des3": None},
              "/scep/inner": {"usual": 0, "sid": 0, "small": 0, "des": 0, "des3": None},
              "/strict": {"usual": 0, "des3": 0, "best": 0, "large": None}}
    for path, outcomes in wanted.items():
        profile = strict if path == "/strict" else wide
        for name, fail_info in outcomes.items():
            (message,) = devices(profile, **made[name])
            answer = message.post(gateway.port, path)
            if fail_info is None:
                check.success(message, answer)
            else:
                check.failure(message, answer, fail_info)
    for options, problem in (({"break_": "sid"}, 2), ({"own_key": True, "bits": 1024}, 0)):
        (message,) = devices(wide, cipher="des3", **options)
        check.failure(message, message.post(gateway.port, "/scep/inner"), problem)
    words = {path: client.request(gateway.port, "GET", f"{path}?operation=GetCACaps").text.split() for path in wanted}
    assert words["/scep/inner"] == ["DES3", "POSTPKIOperation", "Renewal", "SHA-1", "SHA-256", "SHA-512"]
    assert "SHA-512" not in words["/scep"] and words["/strict"] == ["POSTPKIOperation", "Renewal", "SHA-512"]


@pytest.mark.parametrize("room, good", [(0, True), (-1, False)], ids=["just fits", "one byte more"])
def test_the_greatest_message(site, start_gateway, devices, room, good):
    profile = site.profile("/scep")
    messages = devices(profile, 3, key_usage="digitalSignature")
    size = max(len(message.der) for message in messages)
    messages = [message for message in messages if len(message.der) == size]
    gateway = start_gateway([profile.changed(MaxMessage=size + room)])
    gateway.allow_log("ISCEP1003")
    message = messages[0]

    def chunked():
        return client.request(gateway.port, "POST", "/scep?operation=PKIOperation", iter([message.der[:100], message.der[100:]]))
    for ask in (lambda: message.post(gateway.port), lambda: message.get(gateway.port), chunked):
        answer = ask()
        if good:
            check.success(message, answer)
        else:
            check.unavailable(answer, 413)
            assert answer.headers["content-type"].startswith("text/plain") and answer.text.count("\n") == 1
    assert bool(site.microsoft.calls("validate")) == good
