# SPDX-License-Identifier: Apache-2.0
"""Restarts, stops and killed processes under load: what was accepted is brought to its end."""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import check, ctl, journal, load, pki, place

SECURITY = place.TREE / "docs/security.md"


def stream(gateway, messages, workers=20):
    return load.Stream(workers, messages, lambda message: message.post(gateway.port, timeout=60)).start()


def test_graceful_restarts_under_load(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")])
    messages = devices(gateway.profiles[0], 400)
    running = stream(gateway, messages)
    for round_ in range(1, 4):
        check.wait.until(lambda: running.count() >= 60 * round_, "enrolments between restarts", 60)
        gateway.restart_gracefully()
    check.wait.until(lambda: running.count() >= 240 or not running.running(), "enrolments after the last restart", 60)
    outcomes = running.stop()
    failed = [(message.transaction, outcome) for message, outcome in outcomes
              if isinstance(outcome, Exception) or outcome.status != 200]
    assert not failed, f"{len(failed)} of {len(outcomes)} failed: {failed[:3]}"
    for message, answer in outcomes[::20]:
        check.success(message, answer)
    assert len(site.microsoft.calls("success")) == len(outcomes)


def all_accepted_were_served(site, outcomes):
    """Each transaction that came as far as Intune was answered 200; others met a closed door. Returns the served."""
    served = {message.transaction for message, outcome in outcomes
              if not isinstance(outcome, Exception) and outcome.status == 200}
    asked = {body["transactionId"] for body in site.microsoft.bodies("validate")}
    assert asked == served, f"{len(asked - served)} accepted requests were not answered"
    strange = [outcome for _, outcome in outcomes if not isinstance(outcome, OSError)
               and (isinstance(outcome, Exception) or outcome.status != 200)]
    assert not strange, strange[:3]
    return served


def test_children_that_retire(site, start_gateway, devices):
    """MaxConnectionsPerChild: processes come and go all the time, and nobody notices."""
    gateway = start_gateway([site.profile("/scep")], before="MaxConnectionsPerChild 25\n", processes=4, threads=8)
    gateway.allow_log("AH03490")  # the old processes' places in the scoreboard are not free at once
    first = set(gateway.children())
    running = stream(gateway, devices(gateway.profiles[0], 300), 8)
    outcomes = running.finish()
    all_accepted_were_served(site, outcomes)
    refused = [outcome for _, outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) <= 3, f"httpd itself resets a connection now and then, but {len(refused)}: {refused[:3]}"
    assert len(outcomes) == 300 and not first & set(gateway.children())
    assert len(site.microsoft.calls("token")) == 2, "the cache outlives the processes"


def test_graceful_stop_under_load(site, start_gateway, devices):
    """Whoever got as far as Intune gets a certificate; whoever came too late is not served at all."""
    gateway = start_gateway([site.profile("/scep")])
    messages = devices(gateway.profiles[0], 250)
    site.microsoft.fail("validate", "slow", seconds=0.3)
    running = stream(gateway, messages)
    check.wait.until(lambda: running.count() >= 30, "enrolments")
    gateway.signal(signal.SIGWINCH)
    gateway.wait_for_end(40)
    outcomes = running.stop()
    assert len(all_accepted_were_served(site, outcomes)) >= 30


def test_plain_stop_ends_soon_though_intune_stalls(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", Timeout=20)])
    messages = devices(gateway.profiles[0], 6)
    site.microsoft.fail("validate", "stall", seconds=30)
    running = stream(gateway, messages, 6)
    check.wait.until(lambda: len(site.microsoft.calls("validate")) == 6, "all devices at Intune")
    started = time.monotonic()
    # AH0005x: here workers are done just when the event MPM closes their sockets (Httpd.settle() says more)
    gateway.allow_log(r"ISCEP110[12]|AH00045|AH0005[12]|\[mpm_event:(warn|error)\]")
    gateway.signal(signal.SIGTERM)
    gateway.wait_for_end(15)
    assert time.monotonic() - started < 12 * place.SLOWNESS
    site.microsoft.reset()
    running.stop()


def test_stop_while_a_token_is_renewed(site, start_gateway, devices):
    """A process that ends waits for its work in the background, which is told to end, before it takes things away from it."""
    gateway = start_gateway([site.profile("/scep", expires_in=6, Timeout=20)])
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.post(gateway.port))
    site.microsoft.reset()
    site.microsoft.fail("token", "stall", seconds=30)
    check.wait.until(lambda: site.microsoft.calls("token"), "a renewal that stalls", 15)
    started = time.monotonic()
    gateway.signal(signal.SIGTERM)
    gateway.wait_for_end(15)
    assert time.monotonic() - started < 6 * place.SLOWNESS
    assert gateway.lines(r"ISCEP0302: \[-\] Entra token: stopped")
    site.microsoft.reset()


def test_killed_children_give_their_places_back(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", MaxConcurrent=4, Timeout=20)])
    stuck, fresh = devices(gateway.profiles[0], 4), devices(gateway.profiles[0], 4)
    site.microsoft.fail("validate", "stall", seconds=30)
    running = stream(gateway, stuck, 4)
    check.wait.until(lambda: len(site.microsoft.calls("validate")) == 4, "all places to be taken")
    gateway.allow_log("ISCEP1004")
    old = gateway.children()
    for child in old:
        os.kill(child, signal.SIGKILL)
    running.stop()
    site.microsoft.reset()
    check.wait.until(lambda: gateway.children() and not set(gateway.children()) & set(old), "new children")
    for answer in load.all_at_once(fresh, lambda message: message.post(gateway.port)):
        assert not isinstance(answer, Exception) and answer.status == 200, answer


def test_child_killed_while_it_fetches_a_token(site, start_gateway, devices):
    """The lease of a dead process is taken over: the next device does not wait for ever."""
    gateway = start_gateway([site.profile("/scep", Timeout=3)])
    first, *others = devices(gateway.profiles[0], 12)
    site.microsoft.fail("token", "stall", times=1, seconds=30)
    running = stream(gateway, [first], 1)
    check.wait.until(lambda: site.microsoft.calls("token"), "the token request")
    gateway.allow_log(r"ISCEP1105|ISCEP1101")
    for child in gateway.children():
        os.kill(child, signal.SIGKILL)
    running.stop()
    site.microsoft.reset()
    waiting = iter(others)
    check.wait.until(lambda: next(waiting).post(gateway.port).status == 200, "a device to be served", 25, 1)


def test_restart_takes_a_new_configuration(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")])
    gateway.profiles.append(site.profile("/second"))
    gateway.write_config()
    gateway.restart_gracefully()
    for profile in gateway.profiles:
        (message,) = devices(profile)
        check.success(message, message.post(gateway.port))


def test_restart_with_another_journal(site, start_gateway, devices):
    """What the former one owes is nobody's any more: the operator is told once."""
    gateway = start_gateway([site.profile("/scep")])
    gateway.restart_gracefully()
    assert not gateway.lines("ISCEP0565")
    site.microsoft.fail("success", "status", status=503)
    gateway.expect_log("ISCEP1301")
    (message,) = devices(gateway.profiles[0])
    check.unavailable(message.post(gateway.port))
    gateway.server = f'IntuneScepJournal "sqlite3:{gateway.state}/other.sqlite"\n'
    gateway.write_config()
    for _ in range(2):
        gateway.restart_gracefully()
    ids = [line.split("the journal ")[1].split()[0] for line in gateway.lines("ISCEP0542")]
    gateway.expect_log(f"ISCEP0565: .*the journal was {ids[0]}, now it is {ids[-1]}: ")
    assert len(gateway.lines("ISCEP0565")) == 1


def test_restart_with_a_mistake_keeps_nothing_half_done(site, start_gateway):
    """httpd itself ends when a restart finds a mistake; the log says in one sentence which."""
    gateway = start_gateway([site.profile("/scep")])
    gateway.profiles[0] = gateway.profiles[0].changed(Tenant=None)
    gateway.write_config()
    gateway.allow_log(r"IntuneScepTenant is missing|AH00016|AH00020|Configuration")
    gateway.signal(signal.SIGUSR1)
    gateway.wait_for_end()
    assert len(gateway.lines("IntuneScepTenant is missing")) + gateway.text(gateway.root / "stderr.log").count(
        "IntuneScepTenant is missing") == 1


def test_ten_restarts_leak_nothing(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")])
    gateway.restart_gracefully()

    def descriptors():
        return sorted(os.readlink(f"/proc/{gateway.process.pid}/fd/{fd}").split(":")[0]
                      for fd in os.listdir(f"/proc/{gateway.process.pid}/fd"))
    before = descriptors()
    for _ in range(10):
        gateway.restart_gracefully()
    assert descriptors() == before
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.post(gateway.port))


def test_the_state_key_is_exchanged(site, start_gateway, devices):
    """As docs/security.md has it: nothing that was delivered is lost; what was owed can be read no more."""
    gateway = start_gateway([site.profile("/scep", Retries=0, Timeout=2)], allow=["AH00098"])
    delivered, withheld, owed = devices(gateway.profiles[0], 3)
    first = check.success(delivered, delivered.post(gateway.port))
    gateway.allow_log("ISCEP1300|ISCEP1301|ISCEP0412|ISCEP1404")
    site.microsoft.fail("success", "code", code="SignatureValidationFailed", times=1)
    check.failure(withheld, withheld.post(gateway.port), 2)
    site.microsoft.fail("success", "status", status=500)
    check.unavailable(owed.post(gateway.port))
    gateway.kill()
    journal.change(gateway, re.search(r"`(DELETE FROM iscep_meta [^`]*)`", SECURITY.read_text())[1])
    pki.write_secret(gateway.state / "state.key", "f" * 64 + "\n")
    site.microsoft.fail("success", "ok")
    journal.make_due(gateway, owed)
    gateway.start()
    assert check.success(delivered, delivered.post(gateway.port))["certificate"] == first["certificate"]
    assert journal.wait_for(gateway, owed, 20, report="dead")["event"] == "report-dead"
    check.failure(owed, owed.post(gateway.port), 2)
    where = ("--state-dir", gateway.state)
    row = journal.row(gateway, withheld)
    assert ctl.run("journal", *where, "retry", row["id"]).code == 0
    journal.wait_for(gateway, withheld, 20, report="dead")
    assert ctl.run("journal", *where, "release", row["id"]).code == 0
    check.success(withheld, withheld.post(gateway.port))
    fresh, = devices(gateway.profiles[0])
    check.success(fresh, fresh.post(gateway.port))


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
def test_a_backup_is_put_back(site, start_gateway, devices, scratch, clean):
    """As docs/operating.md has it: taken while the server runs, and put back without what lies beside the lost file."""
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is missing: install Debian's package of that name")
    gateway = start_gateway([site.profile("/scep")], allow=["AH00098"])
    kept, *forgotten = devices(gateway.profiles[0], 4)
    first = check.success(kept, kept.post(gateway.port))
    file, backup = gateway.state / "journal.sqlite", scratch / "backup"
    subprocess.run(["sqlite3", file, f".backup {backup}"], check=True)
    for message in forgotten:
        check.success(message, message.post(gateway.port))
    if clean:
        gateway.signal(signal.SIGTERM)
        gateway.wait_for_end()
    else:
        gateway.kill()
    for lost in gateway.state.glob("journal.sqlite*"):
        lost.unlink()
    subprocess.run(["install", "-m", "0600", backup, file], check=True)
    gateway.start()
    assert [row["txid"] for row in journal.rows(gateway)] == [kept.transaction]
    assert check.success(kept, kept.post(gateway.port))["certificate"] == first["certificate"]
    for message in forgotten:
        check.success(message, message.post(gateway.port))
    assert len(site.ca.requests()) == 7
