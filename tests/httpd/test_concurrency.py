# SPDX-License-Identifier: Apache-2.0
"""Many devices, several processes: tokens are fetched once, nobody waits for somebody else's trouble."""
import threading
import time

from harness import check, load, place


def post_all(gateway, messages):
    results = load.all_at_once(messages, lambda message: message.post(gateway.port, timeout=60))
    failed = [result for result in results if isinstance(result, Exception)]
    assert not failed, failed[:3]
    return results


def count_tokens(site, tenant=None):
    """Token requests by scope."""
    counts = {}
    for call in site.microsoft.calls("token", tenant):
        counts[call["scope"]] = counts.get(call["scope"], 0) + 1
    return counts


def test_cold_start_of_64_devices(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", MaxConcurrent=100)], processes=4)
    messages = devices(gateway.profiles[0], 64)
    site.microsoft.fail("token", "slow", seconds=0.5)
    answers = post_all(gateway, messages)
    assert [answer.status for answer in answers] == [200] * 64
    for message, answer in list(zip(messages, answers))[::8]:
        check.success(message, answer)
    assert sorted(count_tokens(site).values()) == [1, 1], count_tokens(site)
    assert len(site.microsoft.calls("endpoints")) == 1
    assert len(site.microsoft.calls("validate")) == len(site.microsoft.calls("success")) == 64
    assert len(site.ca.requests()) == 64
    serials = {request["serial"] for request in site.ca.requests()}
    assert len(serials) == 64


def test_each_device_gets_its_own_certificate(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")], processes=4)
    messages = [devices(gateway.profiles[0], own_key=True, bits=2048)[0] for _ in range(12)]
    serials = set()
    for message, answer in zip(messages, post_all(gateway, messages)):
        opened = check.success(message, answer)
        check.reported(site, message, opened, answer)
        serials.add(opened["serial"])
    assert len(serials) == 12


def test_tokens_are_renewed_ahead(site, start_gateway, devices):
    """Entra is slow (1 s) and tokens live 6 s: over more than one life no device waits, and nobody asks twice."""
    gateway = start_gateway([site.profile("/scep", expires_in=6)], processes=4)
    first, *messages = devices(gateway.profiles[0], 90)
    check.success(first, first.post(gateway.port))
    site.microsoft.reset()
    site.microsoft.fail("token", "slow", seconds=1.0)
    pace, slowest, started = threading.Event(), 0, time.monotonic()
    for message in messages:
        answer = message.post(gateway.port)
        assert answer.status == 200, answer.text
        slowest = max(slowest, answer.seconds)
        pace.wait(0.1)
    lasted = time.monotonic() - started
    assert lasted > 8, "the test was too short to see a renewal"
    assert slowest < 0.9 * place.SLOWNESS, f"a device waited {slowest:.2f} s"
    for scope, count in count_tokens(site).items():
        assert 1 <= count <= lasted / 2.5, f"{count} tokens for {scope} in {lasted:.0f} s"
        times = [call["time"] / 1e6 for call in site.microsoft.calls("token") if call["scope"] == scope]
        assert all(later - earlier > 1.5 for earlier, later in zip(times, times[1:])), times
    assert count_tokens(site), "no token was renewed"


def test_revoked_token_under_load(site, start_gateway, devices):
    """401 for everybody at once: one new token for each scope at most, and every device is served."""
    gateway = start_gateway([site.profile("/scep")], processes=4)
    first, *messages = devices(gateway.profiles[0], 33)
    check.success(first, first.post(gateway.port))
    site.reset()
    site.microsoft.revoke_tokens(gateway.profiles[0].tenant)
    assert [answer.status for answer in post_all(gateway, messages)] == [200] * 32
    assert max(count_tokens(site).values()) == 1, count_tokens(site)
    assert len(site.ca.requests()) == 32


def test_moved_service_under_load(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")], processes=4)
    first, *messages = devices(gateway.profiles[0], 33)
    check.success(first, first.post(gateway.port))
    site.reset()
    site.microsoft.move()
    assert [answer.status for answer in post_all(gateway, messages)] == [200] * 32
    assert len(site.microsoft.calls("endpoints")) == 1
    assert len(site.ca.requests()) == 32


def test_renewal_that_fails(site, start_gateway, devices):
    """Entra refuses to renew: the old token serves while it is valid, and the log says once what is wrong."""
    gateway = start_gateway([site.profile("/scep", expires_in=8)])
    first, second = devices(gateway.profiles[0], 2)
    check.success(first, first.post(gateway.port))
    site.microsoft.reset()
    site.microsoft.fail("token", "aadsts", aadsts=7000222)
    gateway.allow_log("ISCEP0305")
    lines = gateway.wait_log("ISCEP0305", seconds=25)
    assert "AADSTS7000222" in lines[0]
    check.success(second, second.post(gateway.port))
    assert len(gateway.lines("ISCEP0305")) <= 2, "one line for each of the two tokens, not one for each attempt"


def test_one_tenants_entra_stalls(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/stalled", Timeout=4), site.profile("/well")])
    stalled, well = gateway.profiles
    warm, *others = devices(well, 11)
    check.success(warm, warm.post(gateway.port))
    site.microsoft.fail("token", "stall", seconds=8, tenant=stalled.tenant["tenant"])
    gateway.allow_log(r"ISCEP1105|ISCEP1101|ISCEP0320")
    waiting = load.Stream(20, devices(stalled, 20), lambda message: message.post(gateway.port)).start()
    check.wait.until(lambda: site.microsoft.calls("token", stalled.tenant), "a token request that stalls")
    for message in others:
        answer = message.post(gateway.port)
        check.success(message, answer)
        assert answer.seconds < 1 * place.SLOWNESS, f"a device of another tenant took {answer.seconds:.2f} s"
    assert waiting.count() == 0 or place.SANITIZE, "the stalled tenant's devices should still be waiting"
    outcomes = waiting.stop()
    assert len(outcomes) == 20
    for message, answer in outcomes:
        check.unavailable(answer)
    asked = {request["transaction_id"] for request in site.ca.requests()}
    assert not asked & {message.transaction for message, _ in outcomes}
    assert sum(count_tokens(site, stalled.tenant).values()) <= 6, "the waiting devices must not all ask Entra"


def test_300_devices_while_intune_stalls(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", Timeout=4)], processes=4)
    warm, *messages = devices(gateway.profiles[0], 301)
    check.success(warm, warm.post(gateway.port))
    site.microsoft.reset()
    site.microsoft.fail("validate", "stall", seconds=8)
    gateway.allow_log(r"ISCEP1004|ISCEP1101|ISCEP1102|ISCEP0320")
    crowd = load.Stream(300, messages, lambda message: message.post(gateway.port, timeout=60)).start()
    check.wait.until(lambda: gateway.lines(r"ISCEP1004"), "the limit to be reached")
    for _ in range(5):
        gateway.path_quick(1.0)
    outcomes = crowd.stop()
    failed = [answer for _, answer in outcomes if isinstance(answer, Exception)]
    assert not failed, failed[:3]
    for _, answer in outcomes:
        check.unavailable(answer)
    assert len(gateway.lines(r"ISCEP1004")) >= 150, "half the server's threads is the limit"
    assert len(site.microsoft.calls("validate")) <= 64 + 10
    quick = [answer for _, answer in outcomes if answer.seconds < 3 * place.SLOWNESS]
    assert len(quick) >= 150, "who is turned away is turned away at once"
    site.microsoft.reset()
    (message,) = devices(gateway.profiles[0])
    # the circuit breaker has opened meanwhile, and closes by itself
    assert gateway.lines("ISCEP0320: ")
    check.success(message, check.wait.until(lambda: patient(message, gateway), "the breaker to close", 15, 0.5))


def patient(message, gateway):
    """The answer, unless it is to come again."""
    answer = message.post(gateway.port)
    return answer if answer.status != 503 else None


def test_own_limit(site, start_gateway, devices):
    """IntuneScepMaxConcurrent counts over all processes, and places are given back."""
    gateway = start_gateway([site.profile("/scep", MaxConcurrent=3)])
    profile = gateway.profiles[0]
    warm, *messages = devices(profile, 13)
    check.success(warm, warm.post(gateway.port))
    for _ in range(2):
        site.microsoft.reset()
        site.microsoft.fail("validate", "slow", seconds=1.5)
        gateway.allow_log("ISCEP1004")
        answers = post_all(gateway, messages)
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 9
        assert len(site.microsoft.calls("validate")) == 3
        messages = devices(profile, 12)


def test_device_goes_away(site, start_gateway, devices):
    """A device that hangs up while Intune thinks: the transaction comes to its end, and its place is free again."""
    gateway = start_gateway([site.profile("/scep", MaxConcurrent=1)])
    profile = gateway.profiles[0]
    gone, other = devices(profile, 2)
    site.microsoft.fail("validate", "slow", times=1, seconds=0.7)
    head = f"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(gone.der)}\r\n\r\n"
    with check.client_socket(gateway.port) as sock:
        sock.sendall(head.encode() + gone.der)
        check.wait.until(lambda: site.microsoft.calls("token"), "the enrolment to begin")
    check.wait.until(lambda: site.microsoft.calls("success") or site.microsoft.calls("failure"), "its end")
    gateway.allow_log(r"ISCEP1004|\[proxy")
    check.wait.until(lambda: other.post(gateway.port).status == 200, "the place to be free", 5, 0.2)


def of_each(gateway, devices):
    """An enrolment at each location; none may fail."""
    messages = [devices(profile)[0] for profile in gateway.profiles]
    outcomes = load.Stream(4, messages, lambda message: message.post(gateway.port)).start().finish(100)
    assert [answer.status for _, answer in outcomes] == [200] * len(messages), outcomes[:3]


def test_tokens_of_many_tenants_have_room(site, start_gateway, devices):
    count = 80
    gateway = start_gateway([site.profile(f"/tenant-{number}") for number in range(count)])
    for _ in range(2):
        of_each(gateway, devices)
    assert len(site.microsoft.calls("token", bodies=False)) == 2 * count
    assert len(site.microsoft.calls("endpoints", bodies=False)) == count


def test_too_little_room_for_the_locations(site, start_gateway, devices):
    gateway = start_gateway([site.profile(f"/tenant-{number}") for number in range(3)], shared_cache="shmcb:cache(20000)")
    gateway.expect_log(r"ISCEP0560: IntuneScepSharedCache shmcb:cache\(20000\) .* 3 locations.* 49152 bytes")
    of_each(gateway, devices)
