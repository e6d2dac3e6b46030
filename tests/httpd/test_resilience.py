# SPDX-License-Identifier: Apache-2.0
"""Calls to Microsoft that fail: tried again within one budget, paused while Microsoft is down, and never a certificate without Success."""
import dataclasses
import re
import shutil

import pytest

from harness import busy, check, client, load, place
from harness.gateway import Gateway

SUCCESS = '{"code":"Success"}'


@dataclasses.dataclass
class Case:
    """A fault, and what must follow: problem (0: a certificate), calls of the gateway, limits of time, words in the last line."""
    fault: dict
    problem: int
    calls: int
    at_least: float = 0
    at_most: float = 2
    words: str = ""
    target: str = "validate"
    retry_after: int = None
    notices: str = r"ISCEP0303"


CASES = {
    "429, Retry-After 1": Case({"mode": "status", "status": 429, "retry_after": 1, "times": 1}, 0, 2, 1, 3),
    "429, Retry-After 120": Case({"mode": "status", "status": 429, "retry_after": 120}, 1102, 1, 0, 1, "HTTP 429",
                                 retry_after=120),
    "503 twice": Case({"mode": "status", "status": 503, "times": 2}, 0, 3, 0.4),
    "500 twice": Case({"mode": "status", "status": 500, "times": 2}, 0, 3, 0.4),
    "500 always": Case({"mode": "status", "status": 500}, 1102, 3, 0.4, 2, "HTTP 500, expected 2xx"),
    "408 once": Case({"mode": "status", "status": 408, "times": 1}, 0, 2, 0.1),
    # a kept connection that ends without a word is libcurl's own business: it repeats the call, with the same id
    "drop once": Case({"mode": "drop", "times": 1}, 0, 1),
    "drop twice": Case({"mode": "drop", "times": 2}, 0, 2),
    "drop always": Case({"mode": "drop"}, 1101, 3, 0.4, 2, "connection dropped"),
    "stall in headers": Case({"mode": "slow", "seconds": 6}, 1101, 1, 1.8, 3, "timed out"),
    "stall in body": Case({"mode": "stall", "seconds": 6}, 1101, 1, 1.8, 3, "timed out"),
    "401 once": Case({"mode": "status", "status": 401, "times": 1}, 0, 2),
    "401 always": Case({"mode": "status", "status": 401}, 1103, 2, 0, 1, "HTTP 401, with a new token too"),
    "403 always": Case({"mode": "status", "status": 403}, 1103, 2, 0, 1, "HTTP 403, with a new token too"),
    "400": Case({"mode": "status", "status": 400}, 1102, 1, 0, 1, "HTTP 400"),
    "endless body": Case({"mode": "endless"}, 1102, 1, 0, 2, "too large"),
    "JSON as text/html": Case({"mode": "html", "body": SUCCESS}, 1102, 1, 0, 1, "text/html"),
    "Entra's page": Case({"mode": "html"}, 1105, 1, 0, 1, 'in strict application/json, Content-Type "text/html',
                         "token"),
    "Graph's page": Case({"mode": "html"}, 1106, 1, 0, 1, 'HTTP 200, Content-Type "text/html', "endpoints"),
    "code twice": Case({"mode": "body", "body": '{"code":"ChallengeExpired","code":"Success"}'}, 1102, 1, 0, 1, "strict"),
    "no SCEP service in Graph": Case({"mode": "empty"}, 1106, 1, 0, 1, "permissions", "endpoints"),
    "Graph 500 twice": Case({"mode": "status", "status": 500, "times": 2}, 0, 3, 0.4, target="endpoints"),
    "Graph 500 always": Case({"mode": "status", "status": 500}, 1106, 3, 0.4, 2, "HTTP 500", "endpoints"),
    # two tokens are needed for a certificate
    "Entra 500 twice": Case({"mode": "status", "status": 500, "times": 2}, 0, 4, 0.4, target="token"),
    "Entra 503, Retry-After 60": Case({"mode": "status", "status": 503, "retry_after": 60}, 1105, 1, 0, 1, "HTTP 503", "token",
                                      retry_after=60),
    "Entra stalls": Case({"mode": "stall", "seconds": 6}, 1105, 1, 1.8, 3, "timed out", "token"),
}
BUDGET = 2


def profiles(site):
    """A tenant of its own for each case, so that none finds what another has left in the cache."""
    made = [site.profile(f"/case-{number}", Timeout=BUDGET) for number in range(len(CASES))]
    return made + [site.profile(f"/{name}") for name in ("moved", "report", "refused")]


@pytest.fixture
def at(gateway):
    return lambda path: next(profile for profile in gateway.profiles if profile.path == path)


@pytest.mark.parametrize("number, name", enumerate(CASES), ids=list(CASES))
def test_fault(site, gateway, at, devices, number, name):
    case = CASES[name]
    (message,) = devices(at(f"/case-{number}"))
    site.microsoft.fail(case.target, **case.fault)
    gateway.allow_log(case.notices)
    answer = message.post(gateway.port)
    if case.problem:
        check.unavailable(answer)
        check.final_line(gateway, case.problem, message, case.words)
        check.ca_untouched(site)
        check.never_reported(site)
        assert case.retry_after in (None, answer.retry_after)
    else:
        check.success(message, answer)
        assert len(site.microsoft.calls("success")) == 1
    calls = {call["request_id"] or call["n"]: call for call in site.microsoft.calls(case.target)}
    assert len(calls) == case.calls, [(call["status"], call["time"]) for call in calls.values()]
    assert case.at_least <= answer.seconds < case.at_most * place.SLOWNESS
    every_call_has_its_line(site, gateway, message)


def every_call_has_its_line(site, gateway, message):
    """Each HTTP call has a client-request-id, and a line that tells it; the calls of one report share theirs."""
    calls = [call for call in site.microsoft.calls() if call["request_id"] and call["status"] != 0]
    ids = [call["request_id"] for call in calls]
    reports = [call["request_id"] for call in calls if call["service"] in ("success", "failure")]
    assert len(set(ids)) == len(ids) - len(reports) + len(set(reports)) and len(set(reports)) <= 1
    for one in set(ids):
        lines = gateway.lines(rf"ISCEP0302: \[{re.escape(message.transaction)}\].*client-request-id {one}")
        assert len(lines) == ids.count(one)


def test_service_that_moved(site, gateway, at, devices):
    first, second, third = devices(at("/moved"), 3)
    check.success(first, first.post(gateway.port))
    site.microsoft.reset()
    site.microsoft.move()
    check.success(second, second.post(gateway.port))
    assert [call["status"] for call in site.microsoft.calls() if "validateRequest" in call["path"]] == [404, 200]
    assert len(site.microsoft.calls("endpoints")) == 1
    site.microsoft.reset()
    check.success(third, third.post(gateway.port))
    assert not site.microsoft.calls("endpoints")


def test_report_is_tried_again(site, gateway, at, devices):
    (message,) = devices(at("/report"))
    site.microsoft.fail("success", "status", times=2, status=500)
    check.success(message, message.post(gateway.port))
    assert [call["status"] for call in site.microsoft.calls("success")] == [500, 500, 200]
    assert len(site.microsoft.calls("validate")) == len(site.ca.requests()) == 1
    every_call_has_its_line(site, gateway, message)


def test_refused_request_that_comes_again(site, gateway, at, devices):
    message, other = devices(at("/refused"), 2)
    site.microsoft.fail("validate", "code", code="ChallengeExpired", times=1)
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1100, message, "ChallengeExpired")
    for again in range(1, 4):
        check.failure(message, message.post(gateway.port), 2)
        lines = gateway.wait_log(rf"ISCEP1100: \[{re.escape(message.transaction)}\].*code ChallengeExpired.*answered from memory, "
                                 r"first refused at \w+, ", again)
        assert len(lines) == again
    gateway.allow_log("ISCEP1100")
    assert len(site.microsoft.calls("validate")) == 1
    check.ca_untouched(site)
    check.success(other, other.post(gateway.port))
    assert len(site.microsoft.calls("validate")) == 2


def ask_one_by_one(gateway, message, count):
    """
    Answers, and for each how long the server's threads had to wait for a processor meanwhile. Each request is written at
    once, so that the server never waits for this process. (httpd ends a connection with each 503.)
    """
    target = f"{message.profile.path}?operation=PKIOperation"
    request = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(message.der)}\r\n\r\n".encode() + message.der
    answers, queued = [], [busy.queued(gateway)]
    for _ in range(count):
        answers.append(client.raw(gateway.port, request, method="POST"))
        queued.append(busy.queued(gateway))
    return answers, [after - before for before, after in zip(queued, queued[1:])]


@pytest.mark.parametrize("fault, words", [({"mode": "status", "status": 503}, "HTTP 503"),
                                          ({"mode": "slow", "seconds": 10}, "timed out")], ids=["503", "silent"])
def test_breaker(site, start_gateway, devices, fault, words):
    """Intune is down: devices are told at once, Intune is asked now and then, and all is well by itself when Intune is back."""
    gateway = start_gateway([site.profile("/scep", Retries=0, Timeout=int(place.SLOWNESS)), site.profile("/well")], processes=4,
                            server=busy.LOG)
    warm, message = devices(gateway.profiles[0], 2)
    (neighbour,) = devices(gateway.profiles[1])
    check.success(warm, warm.post(gateway.port))
    site.microsoft.reset()
    tenant = gateway.profiles[0].tenant["tenant"]
    site.microsoft.fail("validate", tenant=tenant, **fault)
    gateway.allow_log("ISCEP110[12]")
    for _ in range(5):
        check.unavailable(message.post(gateway.port))
    gateway.expect_log("ISCEP0320: .*5 failures in a row.*Intune validateRequest: " + words)
    assert len(site.microsoft.calls("validate")) == 5

    answers, delays = ask_one_by_one(gateway, message, 500)
    probes = len(site.microsoft.calls("validate")) - 5
    took = busy.seconds(busy.wait_rows(gateway, "/scep", 506)[6:])
    assert len(answers) == len(took) == 500
    print(f"500 answers, {probes} probes; by the server's clock {sorted(took)[250] * 1000:.1f} ms in the middle, at most "
          f"{max(took) * 1000:.1f} ms, of which {delays[took.index(max(took))] * 1000:.1f} ms without a processor")
    # what a busy machine does to it is not the server's doing: the kernel counts that
    late = [(seconds, delay) for seconds, delay in zip(took, delays) if seconds - delay > 0.05 * place.SLOWNESS]
    assert len(late) <= (probes if words == "timed out" else 0), late
    for answer in answers:
        check.unavailable(answer)
        assert answer.retry_after <= (60 if probes else 6)
    assert len(gateway.lines(r"\[intune_scep:info\].*ISCEP1107")) == 500 - probes
    assert not gateway.lines(r"\[intune_scep:(warn|error)\].*ISCEP1107") and len(gateway.lines("ISCEP0320: ")) == 1
    check.success(neighbour, neighbour.post(gateway.port))

    def probed():
        check.unavailable(message.post(gateway.port))
        return gateway.lines("ISCEP0322: ")
    check.wait.until(probed, "a probe that fails", 10, 0.1)
    site.microsoft.fail("validate", "ok", tenant=tenant)

    def served():
        answer = message.post(gateway.port)
        return answer if answer.status != 503 else None
    check.success(message, check.wait.until(served, "the breaker to close", 70, 0.1))
    times = [call["time"] / 1e6 for call in site.microsoft.calls("validate", tenant)][4:]
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert len(gaps) >= 2, "one probe that failed and one that did not"
    assert all(gap >= min(5 * 2 ** number, 60) for number, gap in enumerate(gaps)), gaps
    assert len(gateway.wait_log(r"\[intune_scep:notice\].*ISCEP0321: ")) == 1
    assert sorted(request["transaction_id"] for request in site.ca.requests()) == sorted(
        one.transaction for one in (warm, neighbour, message)), "the CA hears of validated requests only"


@pytest.mark.parametrize("value, line, words", [
    ("20", "ProxyTimeout 20", None), ("20", "ProxyTimeout 21", r"20 s each.*21 s for the CA \(ProxyTimeout\)"),
    ("20", "Timeout 20", None), ("20", "Timeout 40", r"20 s each.*40 s for the CA \(Timeout"),
    ("20000ms", "ProxyTimeout 20", None), ("20000ms", "ProxyTimeout 21", "20 s each"),
    ("1min", "ProxyTimeout 1", "60 s each"),
    ("20", 'ProxyTimeout 1\n<Proxy "{url}">\nProxySet timeout=21\n</Proxy>', r"21 s for the CA \(timeout of the CA's worker\)"),
    ("20", 'ProxyTimeout 60\n<Proxy "{url}">\nProxySet timeout=20\n</Proxy>', None),
    ("20", '<Proxy "{url}">\nProxySet timeout=20\n</Proxy>\n<Proxy "{host}/">\nProxySet timeout=60\n</Proxy>', None),
    ("20", 'ProxyTimeout 1\n<Proxy "{url}">\nProxySet ttl=30\n</Proxy>\n<Proxy "{host}/">\nProxySet timeout=60\n</Proxy>', None),
    ("20", 'ProxyTimeout 1\n<Proxy "{url}x">\nProxySet timeout=60\n</Proxy>', None),
])
def test_a_time_out_budget_beyond_a_minute_is_told(site, value, line, words):
    """At start, as a notice: a device waits for a minute."""
    gateway = Gateway([site.profile("/scep", Timeout=value)])
    try:
        gateway.config_file.write_text(gateway.config().replace("ProxyTimeout 3\n", line.format(url=site.ca.url, host=site.ca.url.removesuffix("/ca")) + "\n"))
        tested = gateway.run_tool("-t")
        said = re.findall(r"\[intune_scep:notice\].*ISCEP0534: .*", tested.stdout + tested.stderr + gateway.output())
        assert tested.returncode == 0 and len(said) == (1 if words else 0), (line, tested.stderr)
        assert not words or re.search(words, said[0]), said
    finally:
        shutil.rmtree(gateway.root, ignore_errors=True)
