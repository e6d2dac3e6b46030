# SPDX-License-Identifier: Apache-2.0
"""
Nothing lost, nothing twice: devices enrol while processes are killed, the stand-ins fail and databases go away. The
nine invariants (harness/invariants.py) are checked from the records of everybody but the gateway. ISCEP_CRASH=N: N
transactions in the first test, a share of it in the others.
"""
import pytest

from harness import check, crash, load, shadow
from harness.crash import DatabaseDown, FullDisk, Killer, PowerCuts, Run, Weather

KEY = "IntuneScepStateKey 0123456789abcdef0123456789abcdef\n"


@pytest.fixture
def start(site, start_gateway):
    """Starts a gateway whose leases are short; further options are the Gateway's."""
    def start_one(profile, server="", **options):
        usual = {"processes": 4, "threads": 16, "proxy_timeout": crash.PROXY_TIMEOUT, "allow": crash.EXPECTED}
        return start_gateway([profile], server=crash.SERVER + server, **{**usual, **options})
    return start_one


@pytest.fixture
def profile(site):
    return site.profile("/scep", MaxConcurrent=48, **crash.TIMES)


@pytest.fixture
def two(site, start, profile, postgres, redis):
    """Two machines: PostgreSQL is their journal, redis their cache."""
    journal = f'IntuneScepJournal "pgsql:{postgres.database()}"\n'

    def one(name, **changes):
        return start(profile.changed(**changes), KEY + journal, shared_cache=redis.provider, modules=["socache_redis"],
                     name=name, processes=2)
    return one


def storm(request, site, gateways, messages, *troubles, **options):
    """Runs it and checks the invariants."""
    tenants = [gateways[0].profiles[0].tenant]
    run = Run(request.node.name, site, gateways, messages, [Weather(site, tenants), *troubles], **options)
    run.run().check()
    return run


@pytest.mark.parametrize("changes", [{}, {"Resync": "poll", "ComeBack": "pending"}, {"Notify": "after"}],
                         ids=["resend", "poll", "after"])
def test_processes_are_killed(site, start, profile, devices, request, changes):
    """Children at random, and now and then all of them with their parent."""
    gateway = start(profile.changed(**changes))
    messages = devices(profile, crash.size(90, 0.5) if changes else crash.size(150))
    storm(request, site, [gateway], messages, Killer([gateway]), before=changes.get("Notify") != "after")


def test_postgresql_comes_and_goes(site, start, profile, devices, postgres, request):
    gateway = start(profile, f'IntuneScepJournal "pgsql:{postgres.database()}"\n')
    database = DatabaseDown(postgres)
    storm(request, site, [gateway], devices(profile, crash.size(100, 0.5)),
          Killer([gateway], mean=1.0, database=database), database)


def test_disk_is_full(site, start, profile, devices, disk, request):
    """The state directory's; nobody is sent to the CA who cannot be journaled, and it goes on once there is room."""
    gateway = start(profile, state=disk.directory)
    full = FullDisk(disk)
    run = storm(request, site, [gateway], devices(profile, crash.size(100, 0.25)),
                Killer([gateway], mean=2.0, whole=0.2), full)
    assert [heard for device in run.fleet.devices for heard in device.heard if heard.status == 503
            and any(outage.start < heard.asked < heard.time < outage.end for outage in full.outages)], "nobody noticed"


def test_power_cuts(site, start, profile, devices, scratch, request):
    """Each start finds only what was synced."""
    state = scratch / "state"
    state.mkdir()
    copy = shadow.Shadow(state)
    try:
        gateway = start(profile, state=state, environment=copy.environment)
        storm(request, site, [gateway], devices(profile, crash.size(100, 0.25)), PowerCuts(gateway, copy),
              Killer([gateway], mean=1.0, whole=0))
        assert "journal.sqlite" in copy.files()
        gateway.stop()
    finally:
        copy.remove()


def test_two_machines(site, two, devices, request):
    """A retransmission goes to the other machine; processes die on both."""
    gateways = [two("first"), two("second")]
    messages = devices(gateways[0].profiles[0], crash.size(120, 0.5))
    storm(request, site, gateways, messages, Killer(gateways, mean=0.7))


def test_two_machines_without_faults(site, two, devices, request):
    """However often and wherever a device asks: one PKCSReq for each transaction, one certificate."""
    gateways = [two("first"), two("second")]
    messages = devices(gateways[0].profiles[0], crash.size(100, 0.5))
    manner = crash.persistent.Manner(twins=0.5, repeats=3)
    run = Run(request.node.name, site, gateways, messages, [], manner, spread=2.0).run()
    run.check()
    counts = run.counts()
    assert counts["PKCSReqs"] == counts["certificates"] == len(messages)
    assert counts["ended with SUCCESS"] == len(messages) and counts["orphans"] == 0


def test_the_other_machine_reports(site, two, devices):
    """Reports that a machine owes when it dies are delivered by the other one."""
    first, second = two("first", Notify="after"), two("second", Notify="after")
    messages = devices(first.profiles[0], 30)
    site.microsoft.fail("success", "status", status=503)
    for message, answer in zip(messages, load.all_at_once(messages, lambda message: message.post(first.port))):
        check.success(message, answer)
    first.kill()
    first.allowed += crash.EXPECTED
    assert not [call for call in site.microsoft.calls("success", bodies=False) if call["accepted"]]
    site.microsoft.fail("success", "ok")

    def reported():
        calls = site.microsoft.calls("success", bodies=False)
        return {call["transaction_id"] for call in calls if call["accepted"]}
    check.wait.until(lambda: len(reported()) == 30, lambda: f"30 reports; {len(reported())} are there", 30, 0.3)
    assert not site.microsoft.calls("failure")
