# SPDX-License-Identifier: Apache-2.0
"""Two gateways as two machines, and a cache that both share: tokens are fetched once, and nothing outside holds devices up."""
import re
import threading

import pytest

from harness import check, client, load, outside, place

KEY = "IntuneScepStateKey 0123456789abcdef0123456789abcdef\n"
OTHER_KEY = "IntuneScepStateKey fedcba9876543210fedcba9876543210\n"
# What mod_socache_redis and mod_socache_memcache themselves say of a server that fails.
PROVIDER = r"\[socache_(redis|memcache):"


@pytest.fixture
def memcached(scratch):
    if not outside.Memcached.is_there():
        pytest.skip("memcached is missing: install Debian's package of that name")
    made = outside.Memcached(scratch).start()
    yield made
    made.stop()


@pytest.fixture
def machine(start_gateway):
    """Starts a gateway that shares that cache."""
    def start(cache, profile, key=KEY, **options):
        # The outer cache has half a second, however slow the machine is: no looking for leaks, which takes time.
        return start_gateway([profile], shared_cache=cache.provider, server=key, modules=[f"socache_{cache.name}", "info"],
                             leaks=False, **options)
    return start


def enrol(gateway, devices):
    (message,) = devices(gateway.profiles[0])
    answer = message.post(gateway.port)
    check.success(message, answer)
    return answer


def asked(site):
    """How often Entra was asked for each scope, and Graph for the location, in no order."""
    counts = {"location": len(site.microsoft.calls("endpoints"))}
    for call in site.microsoft.calls("token"):
        counts[call["scope"]] = counts.get(call["scope"], 0) + 1
    return sorted(counts.values())


def test_second_machine_fetches_nothing(site, machine, redis, devices):
    profile = site.profile("/scep")
    first = machine(redis, profile)
    enrol(first, devices)
    assert asked(site) == [1, 1, 1]
    second = machine(redis, profile)
    enrol(second, devices)
    assert asked(site) == [1, 1, 1]
    assert len(second.lines("ISCEP0342")) == 1 and len(second.lines("ISCEP0343")) == 1, "the token and the location"
    assert not first.lines("ISCEP034") and not second.lines("ISCEP034[014]")
    # a machine that lost its own tier, too
    first.restart_gracefully()
    enrol(first, devices)
    assert asked(site) == [1, 1, 1]
    # requests that have what they need ask nobody outside
    before = redis.cli("INFO", "commandstats")
    enrol(second, devices)
    calls = re.compile(rb"cmdstat_(get|setex|del):calls=(\d+)")
    assert calls.findall(before) and calls.findall(redis.cli("INFO", "commandstats")) == calls.findall(before)


def test_redis_tells_nothing(site, machine, redis, devices):
    profile = site.profile("/scep")
    gateway = machine(redis, profile)
    enrol(gateway, devices)
    values = redis.values()
    assert len(values) == 4, "two tokens, the location, the mark"
    known = [profile.tenant["tenant"], profile.tenant["app_id"], site.microsoft.url, "127.0.0.1", "/.default", "ISC2", "token"]
    for key, value in values.items():
        assert re.fullmatch(rb"intune-scep:[0-9A-Fa-f]{64}", key)
        assert 0 < int(redis.cli("TTL", key.decode())) <= 48 * 3600
        assert value.startswith(b"ISE1") and len(value) > 32
        assert not re.search(rb"SIM[0-9a-f]{4}\.", value)
        assert not [text for text in known if text.encode() in key + value]
    assert not gateway.lines("0123456789abcdef")
    dump = gateway.run_tool("-t", "-D", "DUMP_CONFIG")
    assert "IntuneScepStateKey ***" in dump.stdout and "0123456789abcdef" not in dump.stdout + dump.stderr


def test_machines_started_together(site, machine, redis, devices):
    profile = site.profile("/scep", MaxConcurrent=100)
    machines = [machine(redis, profile), machine(redis, profile)]
    site.microsoft.fail("token", "slow", seconds=0.5)
    jobs = list(zip(machines * 12, devices(profile, 24)))
    answers = load.all_at_once(jobs, lambda job: job[1].post(job[0].port, timeout=60))
    assert [getattr(answer, "status", answer) for answer in answers] == [200] * 24
    assert len(asked(site)) == 3 and all(count <= 2 for count in asked(site)), asked(site)
    # at most one of each machine for each scope, and one location
    scopes = [re.escape(site.microsoft.url) + ending for ending in (r"/\.default", r"\.default")]
    for gateway in machines:
        assert all(len(gateway.lines(f"ISCEP0300: .*token for {scope}, ")) <= 1 for scope in scopes)
        assert len(gateway.lines("ISCEP0301: ")) <= 1


def test_renewals_are_shared(site, machine, redis, devices):
    """Tokens that live 4 s: what one machine renews the other takes over. Alone, each would fetch as often as both together."""
    profile = site.profile("/scep", expires_in=4)
    machines = [machine(redis, profile), machine(redis, profile)]
    for gateway in machines:
        enrol(gateway, devices)
    scope = rf"ISCEP03(00|42): .*token for {re.escape(site.microsoft.url)}/\.default"
    for gateway in machines:
        gateway.wait_log(scope, 3, 15)
    fetched = sum(len(gateway.lines(scope.replace("(00|42)", "00"))) for gateway in machines)
    assert 3 <= fetched <= 4, f"{fetched} fetches; three were needed, and once two machines may be at it in the same moment"


def test_revoked_token_does_not_come_back(site, machine, redis, devices):
    profile = site.profile("/scep")
    machines = [machine(redis, profile), machine(redis, profile)]
    for gateway in machines:
        enrol(gateway, devices)
    client.post_json(site.microsoft.port, "/sim/token", {"tenant": profile.tenant["tenant"], "action": "revoke"})
    for gateway in machines:
        enrol(gateway, devices)
        assert len(gateway.lines("ISCEP0303")) == 1
    assert asked(site) == [1, 1, 2], "one machine fetched the new Intune token, the other found it"


def test_another_key(site, machine, redis, devices):
    profile = site.profile("/scep")
    first, stranger = machine(redis, profile), machine(redis, profile, OTHER_KEY)
    enrol(first, devices)
    enrol(stranger, devices)
    assert asked(site) == [2, 2, 2]
    (line,) = stranger.lines("ISCEP0340")
    assert ":notice]" in line and "IntuneScepStateKey" in line
    assert not first.lines("ISCEP034")
    # a key of the state directory's, copied to the other machine, is the same key
    own = machine(redis, profile, key="")
    (line,) = own.lines("ISCEP0344")
    assert str(own.state / "state.key") in line
    key = own.state / "state.key"
    assert key.stat().st_mode & 0o777 == 0o600 and (key.owner() == place.SERVER_USER or not place.IS_ROOT)
    text = key.read_text()
    own.restart_gracefully()
    enrol(own, devices)
    copy = machine(redis, profile, key=f"IntuneScepStateKey {text.strip()}\n")
    enrol(copy, devices)
    assert asked(site) == [3, 3, 3] and key.read_text() == text


def test_redis_is_down_and_comes_back(site, machine, redis, devices):
    """With nothing in its own tier a gateway serves all the same; the redis that is there again is used after a while."""
    redis.stop()
    gateway = machine(redis, site.profile("/scep", expires_in=4))
    gateway.allow_log(PROVIDER)
    for _ in range(3):
        assert enrol(gateway, devices).seconds < 1.5 * place.SLOWNESS
        gateway.allow_log(PROVIDER)
    (line,) = gateway.lines("ISCEP0341")
    assert ":notice]" in line and "IntuneScepSharedCache" in line
    redis.start()
    check.wait.until(redis.values, "tokens in the redis that came back", 25, 0.3)
    gateway.allow_log(PROVIDER)
    enrol(gateway, devices)


@pytest.mark.parametrize("kind", ["redis", "memcached"])
def test_stalled(site, machine, devices, kind, request):
    """It takes connections and answers nothing: an enrolment with a budget of two seconds for each call comes through."""
    cache = request.getfixturevalue(kind)
    gateway = machine(cache, site.profile("/scep", Timeout=2))
    cache.stall()
    gateway.allow_log(PROVIDER)
    slow = enrol(gateway, devices)
    assert slow.seconds < 1.9 * place.SLOWNESS
    gateway.allow_log(PROVIDER)
    assert enrol(gateway, devices).seconds < 1 * place.SLOWNESS
    (line,) = gateway.wait_log("ISCEP0341")
    assert "no answer in time" in line
    # a stop does not wait for it
    gateway.allow_log(PROVIDER)
    stopping = threading.Thread(target=gateway.stop)
    stopping.start()
    stopping.join(8 * place.SLOWNESS)
    assert not stopping.is_alive()


def test_a_file_for_the_machines_own_part(site, start_gateway, devices):
    """shmcb:FILE(SIZE): all processes share it, and a graceful restart makes it anew."""
    gateway = start_gateway([site.profile("/scep")], shared_cache="shmcb:${ROOT}/cache/tokens(200000)")
    for _ in range(2):
        for message in devices(gateway.profiles[0], 4):
            check.success(message, message.post(gateway.port))
        assert len(site.microsoft.calls("token")) == 2
        site.microsoft.reset()
        gateway.restart_gracefully()


def test_memcached(site, machine, memcached, devices):
    profile = site.profile("/scep")
    for _ in range(2):
        enrol(machine(memcached, profile), devices)
        assert asked(site) == [1, 1, 1]
