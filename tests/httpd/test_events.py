# SPDX-License-Identifier: Apache-2.0
"""Events: the operator's command gets each of them, in the background, and those of a transaction until it succeeds."""
import datetime
import json
import pathlib
import stat

import pytest

from harness import check, journal, pki, wait

SCRIPT = """#!/bin/sh
for name do :; done
test -e {directory}/fails && exit 1
cat > {directory}/events/$name.$$.tmp && mv {directory}/events/$name.$$.tmp {directory}/events/$name.$$
"""


@pytest.fixture
def command(scratch):
    """A command that keeps what it gets; `fails` makes it fail."""
    (scratch / "events").mkdir()
    pki.for_server(scratch / "events", 0o755)
    script = scratch / "event.sh"
    script.write_text(SCRIPT.format(directory=scratch))
    script.chmod(0o755 | stat.S_IXUSR)
    return script


def told(command, name):
    """The events of a name, in the order in which they came."""
    files = pathlib.Path(command.parent / "events").glob(f"{name}.*")
    done = [file for file in files if file.suffix != ".tmp"]
    return [json.loads(file.read_text()) for file in sorted(done, key=lambda file: file.stat().st_mtime_ns)]


@pytest.fixture
def start(start_gateway, command):
    def start_one(profiles, **options):
        return start_gateway(profiles, server=f'IntuneScepEventCommand "{command} an-argument"\n', **options)
    return start_one


def test_withheld(site, start, devices, command):
    profile = site.profile("/scep")
    gateway = start([profile])
    (message,) = devices(profile)
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed")
    gateway.allow_log("ISCEP1300|ISCEP0417")
    (command.parent / "fails").touch()
    check.failure(message, message.post(gateway.port), 2)
    gateway.wait_log("ISCEP0417")
    assert journal.row(gateway, message)["event"] == "withheld", "it is kept until it was told"
    (command.parent / "fails").unlink()
    journal.change(gateway, "UPDATE iscep_journal SET event_due = 0")  # the claim on it ends
    event = wait.until(lambda: told(command, "withheld"), "the event", 90)[0]
    assert event["transaction"] == message.transaction and event["location"] == "localhost/scep"
    assert event["serial"] == site.ca.requests()[0]["serial"] and "CertificateRequestDecodingFailed" in event["detail"]
    assert f"certificate {event['serial']} of issuer CN=Test CA,O=Contoso" in event["detail"]
    wait.until(lambda: journal.row(gateway, message)["event"] is None, "the event to be told")
    assert len(told(command, "withheld")) == 1


def test_orphan(site, start, devices, command):
    """A certificate of another key is live at the CA, and nobody gets it."""
    profile = site.profile("/scep")
    gateway = start([profile])
    (message,) = devices(profile)
    site.ca.control("wrong_key")
    gateway.allow_log("ISCEP1209")
    check.unavailable(message.post(gateway.port), 502)
    (event,) = wait.until(lambda: told(command, "orphan"), "the event")
    assert site.ca.requests()[0]["serial"] in event["detail"]


def test_report_dead_and_pending_expired(site, start, devices, command):
    profile = site.profile("/scep", Retries=0, ReportLimit=1, PendingLimit=1)
    gateway = start([profile])
    dead, late = devices(profile, 2)
    gateway.allow_log("ISCEP1301|ISCEP0412|ISCEP1406")
    site.microsoft.fail("success", "status", status=500)
    check.unavailable(dead.post(gateway.port))
    site.ca.control(approval="manual")
    assert check.certrep(late, late.post(gateway.port))["status"] == 3
    (event,) = wait.until(lambda: told(command, "pending-expired"), "the event")
    assert event["transaction"] == late.transaction
    (event,) = wait.until(lambda: told(command, "report-dead"), "the event", 30)
    assert event["transaction"] == dead.transaction


def test_breaker(site, start, devices, command):
    profile = site.profile("/scep", Retries=0)
    gateway = start([profile], processes=3)
    gateway.allow_log("ISCEP0320|ISCEP1102|ISCEP1107")
    site.microsoft.fail("validate", "status", status=503)
    for message in devices(profile, 7):
        check.unavailable(message.post(gateway.port))
    (event,) = wait.until(lambda: told(command, "breaker-open"), "the event")
    assert "503" in event["detail"]
    site.microsoft.fail("validate", "ok")
    (message,) = devices(profile)
    check.success(message, wait.until(lambda: (lambda a: a.status == 200 and a)(message.post(gateway.port)), "the end", 30))
    wait.until(lambda: told(command, "breaker-closed"), "the event")
    assert len(told(command, "breaker-open")) == len(told(command, "breaker-closed")) == 1


@pytest.mark.parametrize("days", [20, 5])
def test_what_expires(site, start, command, days):
    """The command is told; the log has it from the start already, and not once more when the processes look."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, hours=1)
    ra = site.authority.issue(f"ra-of-{days}-days", end=end.strftime("%Y%m%d%H%M%SZ"))
    gateway = start([site.profile("/scep", ra=ra)], processes=3)
    gateway.expect_log(f"ISCEP0552: IntuneScepRACertificate .* in {days} days")
    event = wait.until(lambda: told(command, "expiring"), "the event")[0]
    assert f"the RA's certificate expires in {days} days" in event["detail"]
    assert len(told(command, "expiring")) == 1
    assert len(gateway.lines("ISCEP0552")) == 1 and not gateway.lines("ISCEP0419|ISCEP0420")
