# SPDX-License-Identifier: Apache-2.0
"""Reports that Intune does not take: none is lost, none is sent in a burst, and whoever sends them may die."""
import os
import signal

import pytest

from harness import check, device, journal, load, place, wait
from test_journal import accepted, calls, csr_requests

RATE = 50
MANY = 500 if load.LONG else 60
OPTIONS = {"server": f"IntuneScepReportRate {RATE}\n"}


def every_report(site):
    """The accepted successNotifications in their order."""
    return [call for call in site.microsoft.calls("success", bodies=False) if call["accepted"]]


@pytest.mark.parametrize("notify", ["before", "after"])
def test_intune_is_down_for_many(site, start_gateway, devices, notify):
    """Then it comes back: all are reported within a minute, oldest first, and no faster than allowed."""
    profile = site.profile("/scep", Notify=notify, Retries=0, Timeout=5)
    gateway = start_gateway([profile], processes=4, **OPTIONS)
    gateway.allow_log("ISCEP1301|ISCEP0320|ISCEP1107|ISCEP1401")
    messages = devices(profile, MANY)
    site.microsoft.fail("success", "status", status=503)

    def enrol(message):
        # reports that fail open the breaker, which holds validations back for a while
        wait.until(lambda: message.post(gateway.port).status == 200 or journal.rows(gateway, message.transaction),
                   "an enrolment", 200, step=0.5)
    load.Stream(32, messages, enrol).start().finish(400)
    rows = journal.rows(gateway)
    assert len(rows) == MANY and {row["report"] for row in rows} == {"success"}
    first = len(every_report(site))
    assert first == 0
    site.microsoft.fail("success", "ok")
    wait.until(lambda: len({c["transaction_id"] for c in every_report(site)}) == MANY, "all reports", 60, step=0.5)
    reports = every_report(site)
    assert len(reports) == MANY, "each is sent once more, and once only"
    # oldest first: what is sent at once may pass each other, by no more than that
    order = {row["txid"]: position for position, row in enumerate(rows)}
    places = [order[call["transaction_id"]] for call in reports]
    assert all(abs(place_ - position) <= 40 for position, place_ in enumerate(places)), places
    times = sorted(call["time"] for call in reports)
    for index in range(len(times)):
        inside = [t for t in times[index:] if t < times[index] + 1_000_000]
        assert len(inside) <= RATE * 1.1 + 5, f"{len(inside)} reports in a second"
    again = load.Stream(8, messages, lambda m: m.post(gateway.port)).start().finish(300)
    opened = device.open_all(again)
    assert len(opened) == MANY and all(one["status"] == 0 and one["key_matches"] for one in opened)
    assert {one["thumbprint"] for one in opened} == {call["thumbprint"] for call in reports}
    assert len(site.ca.requests(csr=False)) == MANY


def test_one_probe_at_a_time(site, start_gateway, devices):
    """While none is taken, the outbox asks with growing pauses, and not for each."""
    profile = site.profile("/scep", Retries=0, Notify="after")
    gateway = start_gateway([profile], processes=4)
    gateway.allow_log("ISCEP0320")
    messages = devices(profile, 20)
    site.microsoft.fail("success", "status", status=503)
    for message in messages:
        wait.until(lambda m=message: m.post(gateway.port).status == 200, "a certificate", 30)
    sent = len(site.microsoft.calls("success"))
    wait.until(lambda: len(site.microsoft.calls("success")) >= sent + 3, "some probes", 40)
    calls_of = [call["time"] for call in site.microsoft.calls("success")[sent:]]
    assert all(later - earlier > 800_000 for earlier, later in zip(calls_of, calls_of[1:])), calls_of


def test_refused_for_good(site, start_gateway, devices):
    profile = site.profile("/scep", Retries=0)
    gateway = start_gateway([profile])
    (message,) = devices(profile)
    site.microsoft.fail("success", "status", status=500, times=1)
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed", times=0)
    gateway.allow_log("ISCEP1301|ISCEP0412|ISCEP1300")
    check.unavailable(message.post(gateway.port))
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed")
    journal.make_due(gateway, message)
    row = journal.wait_for(gateway, message, 20, state="withheld")
    assert "possibly accepted" in row["event_detail"] and "of issuer CN=Test CA,O=Contoso" in row["event_detail"]
    (line,) = gateway.wait_log(rf"ISCEP0412: \[{message.transaction}\]")
    assert f"certificate {row['serial']} of issuer CN=Test CA,O=Contoso" in line and "withheld but live at the CA" in line
    check.failure(message, message.post(gateway.port), 2)


def test_given_up(site, start_gateway, devices):
    profile = site.profile("/scep", Retries=0, ReportLimit=2)
    gateway = start_gateway([profile])
    (message,) = devices(profile)
    site.microsoft.fail("success", "status", status=500)
    gateway.allow_log("ISCEP1301|ISCEP0412|ISCEP1404")
    check.unavailable(message.post(gateway.port))
    row = journal.wait_for(gateway, message, 30, report="dead")
    assert row["event"] == "report-dead" and row["csr"]
    check.failure(message, message.post(gateway.port), 2)


@pytest.mark.parametrize("mutex", ["Mutex file:run default\n", "Mutex default\n"], ids=["as Debian has it", "httpd's default"])
def test_who_delivers_is_killed(site, start_gateway, devices, mutex):
    """By kill -9, in the middle of a report: another process takes over within ten seconds."""
    profile = site.profile("/scep", Retries=0, Timeout=15, Notify="after")
    gateway = start_gateway([profile], processes=4, before=mutex)
    messages = devices(profile, 5)
    site.microsoft.fail("success", "status", status=500)
    for message in messages:
        check.success(message, message.post(gateway.port))
    site.microsoft.fail("success", "ok")
    site.microsoft.fail("success", "slow", seconds=12, times=1)
    sent = len(site.microsoft.calls("success"))
    wait.until(lambda: len(site.microsoft.calls("success")) > sent, "a report that takes long", 30)
    stuck = site.microsoft.calls("success")[-1]
    (row,) = [row for row in journal.rows(gateway) if row["txid"] == stuck["transaction_id"]]
    os.kill(int(row["owner"].split("-")[1]), signal.SIGKILL)

    def delivered():
        # its own call may still end well at Intune, which is another matter
        return [call for call in site.microsoft.calls("success")[sent:]
                if call["transaction_id"] == stuck["transaction_id"] and call["accepted"] and call["n"] != stuck["n"]]
    wait.until(delivered, "another process to send it", 10)
    wait.until(lambda: all(accepted(site, "success", message) for message in messages), "all reports", 20)


def test_an_outbox_that_has_no_time(site, start_gateway, devices):
    """The process's only outbox waits for another tenant's Intune: who waits for a report has it sent meanwhile."""
    stalled, well = site.profile("/stalled", Retries=0, Timeout=60), site.profile("/well", Retries=0)
    gateway = start_gateway([stalled, well], processes=1)
    gateway.allow_log("ISCEP1301")
    (first,), (second,) = devices(stalled), devices(well)
    site.microsoft.fail("success", "stall", seconds=60, tenant=stalled.tenant["tenant"])
    site.microsoft.fail("success", "status", status=500, times=1)
    check.unavailable(first.post(gateway.port))
    journal.make_due(gateway, first)
    wait.until(lambda: len(site.microsoft.calls("success")) == 2, "the outbox to be held up", 20)
    site.microsoft.fail("success", "status", status=500, times=1)
    check.unavailable(second.post(gateway.port))
    journal.make_due(gateway, second)

    def served():
        answer = second.post(gateway.port)
        return answer if answer.status == 200 else None
    check.success(second, wait.until(served, "the certificate", 25, step=0.2))
    assert len(accepted(site, "success", second)) == 1 and not accepted(site, "success", first)
    assert len(csr_requests(site, second)) == 1
    site.microsoft.reset()


def test_each_report_keeps_its_id(site, start_gateway, devices):
    profile = site.profile("/scep", Retries=2, Grace=1)
    gateway = start_gateway([profile])
    (message,) = devices(profile)
    site.ca.control("refuse", fail_info=2)
    site.microsoft.fail("failure", "status", status=500, times=4)
    gateway.allow_log("ISCEP1204")
    check.failure(message, message.post(gateway.port), 2)
    journal.wait_for(gateway, message, 30, report="done")
    sent = calls(site, "failure", message)
    assert len(sent) == 5 and len({call["request_id"] for call in sent}) == 1


def test_location_that_has_another_name_now(site, start_gateway, devices):
    """Nobody sends its reports, but the log says so; with its name back they go out."""
    gateway = start_gateway([site.profile("/scep")])
    profile = gateway.profiles[0]
    (message,) = devices(profile)
    site.microsoft.fail("success", "status", status=503)
    gateway.allow_log("ISCEP1301")
    assert message.post(gateway.port).status == 503
    with journal.opened_for_change(gateway) as database:
        database.execute("UPDATE iscep_journal SET created = created - 3700000, updated = updated - 3700000, due = 0")
    profile.path = "/renamed"
    gateway.write_config()
    gateway.restart_gracefully()
    site.microsoft.reset()
    gateway.expect_log('ISCEP0421: .*1 reports are owed for the location "localhost/scep".*IntuneScepName')
    gateway.wait_log("ISCEP0421")
    assert not accepted(site, "success", message)
    profile.directives["IntuneScepName"] = "localhost/scep"
    gateway.write_config()
    gateway.restart_gracefully()
    journal.wait_for(gateway, message, report="done")
    check.success(message, message.post(gateway.port))
    assert len(site.ca.requests()) == 1
