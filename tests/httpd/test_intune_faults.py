# SPDX-License-Identifier: Apache-2.0
"""Whatever Microsoft answers but Success: no request reaches the CA, and device and log get the right answer."""
import re

import pytest

from harness import check, client, pki, place, system

CODES = """
    Unknown CertificateRequestDecodingFailed ChallengePasswordMissing ChallengeDeserializationError
    ChallengeDecryptionError ChallengeDecodingError ChallengeInvalidTimestamp ChallengeExpired SubjectNameMissing
    SubjectNameMismatch SubjectAltNameMissing SubjectAltNameMismatch KeyUsageMismatch KeyLengthMismatch
    EnhancedKeyUsageMissing EnhancedKeyUsageMismatch AadKeyIdentifierListMissing RegisteredKeyMismatch
    SigningCertThumbprintMismatch ScepProfileNoLongerTargetedToTheClient SignatureValidationFailed
    BadCertificateRequestIdInChallenge BadDeviceIdInChallenge BadUserIdInChallenge InventedInTheFuture success SUCCESS
    """.split() + ["Success ", ""]

# As docs/error-codes.md has them, which is made from the code's table; without the full stop.
MEANINGS = dict(re.findall(r"^\| `(\w+)` \| (.*)\. \|$", (place.TREE / "docs/error-codes.md").read_text(), re.M))

# name: (fault of validateRequest, the problem)
FAULTS = {
    "401": ({"mode": "status", "status": 401}, (1103,)),
    "403": ({"mode": "status", "status": 403}, (1103,)),
    "429": ({"mode": "status", "status": 429}, (1102,)),
    "500": ({"mode": "status", "status": 500}, (1102,)),
    "503": ({"mode": "status", "status": 503}, (1102,)),
    "400": ({"mode": "status", "status": 400}, (1102,)),
    "drop": ({"mode": "drop"}, (1101,)),
    "html": ({"mode": "html"}, (1102,)),
    "endless": ({"mode": "endless"}, (1102,)),
    "redirect": ({"mode": "redirect", "location": "http://127.0.0.1:9/elsewhere"}, (1102,)),
    "empty object": ({"mode": "body", "body": "{}"}, (1102,)),
    "code null": ({"mode": "body", "body": '{"code": null}'}, (1102,)),
    "code a number": ({"mode": "body", "body": '{"code": 0}'}, (1102,)),
    "code an array": ({"mode": "body", "body": '{"code": ["Success"]}'}, (1102,)),
    "code nested": ({"mode": "body", "body": '{"value": {"code": "Success"}}'}, (1102,)),
    "code in capitals": ({"mode": "body", "body": '{"Code": "Success"}'}, (1102,)),
    "an array": ({"mode": "body", "body": '[{"code": "Success"}]'}, (1102,)),
    "a string": ({"mode": "body", "body": '"Success"'}, (1102,)),
    "empty": ({"mode": "body", "body": ""}, (1102,)),
    "truncated": ({"mode": "body", "body": '{"code": "Success"'}, (1102,)),
    "more behind it": ({"mode": "body", "body": '{"code": "Success"} and more'}, (1102,)),
    "NUL in the code": ({"mode": "body", "body": '{"code": "Success\\u0000"}'}, (1100,)),
}
TOKEN_FAULTS = {
    "aadsts": ({"mode": "aadsts", "aadsts": 7000222}, (1104,), "AADSTS7000222"),
    "500": ({"mode": "status", "status": 500}, (1105,), ""),
    "drop": ({"mode": "drop"}, (1105,), ""),
    "stall": ({"mode": "stall", "seconds": 3}, (1105,), ""),
    "html": ({"mode": "html"}, (1105,), ""),
    "no token in it": ({"mode": "body", "body": '{"expires_in": 3599}'}, (1105,), ""),
    "redirect": ({"mode": "redirect", "location": "http://127.0.0.1:9/"}, (1105,), ""),
}
FAR_LOCATION = '{"value": [{"providerName": "ScepRequestValidationFEService", "uri": "http://192.0.2.1/scep"}]}'
ENDPOINT_FAULTS = {
    "403": {"mode": "status", "status": 403},
    "500": {"mode": "status", "status": 500},
    "empty list": {"mode": "empty"},
    "drop": {"mode": "drop"},
    "html": {"mode": "html"},
    "http far away": {"mode": "body", "body": FAR_LOCATION},
    "not a list": {"mode": "body", "body": '{"value": {}}'},
}


def profiles(site):
    names = ([f"token-{number}" for number in range(len(TOKEN_FAULTS))]
             + [f"endpoints-{number}" for number in range(len(ENDPOINT_FAULTS))]
             + [f"fault-{number}" for number in range(len(FAULTS))]
             + ["once", "moved", "half", "unreachable", "wrong-key", "rotated"])
    unreachable = site.profile("/unreachable", Retries=0, Authority=f"http://127.0.0.1:{system.free_port()}/")
    # what one call's end means; test_resilience.py has the retries. A tenant of its own for each fault that could open the breaker
    made = [site.profile("/scep", Retries=0), site.profile("/quick", Timeout=1, Retries=0)]
    return made + [unreachable if name == "unreachable" else site.profile(f"/{name}", Timeout=2, Retries=0) for name in names]


OPTIONS = {"threads": 64}


@pytest.fixture
def at(gateway):
    """The profile at a path."""
    return lambda path: next(profile for profile in gateway.profiles if profile.path == path)


def refused_by_microsoft(site, gateway, message, problems, *texts):
    """Nothing at the CA, nothing reported, 503 or FAILURE by the problem, one final line. Returns the answer."""
    answer = message.post(gateway.port)
    check.ca_untouched(site)
    check.never_reported(site)
    problem = check.final_line(gateway, problems, message, *texts)
    if problem == 1100:
        opened = check.failure(message, answer, 2)
        assert not [text for text in texts if text and text in (opened.get("fail_info_text") or "")]
    else:
        check.unavailable(answer)
    gateway.allow_log(r"ISCEP0303|ISCEP0304|ISCEP0305")
    return answer


def request_ids(site, service):
    return [call["request_id"] for call in site.microsoft.calls(service)]


@pytest.mark.parametrize("code", CODES)
def test_code(site, gateway, at, devices, code):
    (message,) = devices(at("/scep"))
    site.microsoft.fail("validate", "code", code=code, description="Ein Grund\nmit Umbruch")
    refused_by_microsoft(site, gateway, message, 1100, code.strip())
    (request_id,) = request_ids(site, "validate")
    (line,) = gateway.lines(rf"ISCEP1100: \[{message.transaction}\].*{request_id}")
    meaning = MEANINGS.get(code)
    assert ("that means" in line) == bool(meaning)
    assert not meaning or f"; that means: {meaning}; request-id" in line


@pytest.mark.parametrize("number, name", enumerate(FAULTS), ids=list(FAULTS))
def test_fault(site, gateway, at, devices, number, name):
    fault, problems = FAULTS[name]
    (message,) = devices(at(f"/fault-{number}"))
    site.microsoft.fail("validate", **fault)
    refused_by_microsoft(site, gateway, message, problems)
    assert any(gateway.lines(rf"ISCEP1\d+: \[{message.transaction}\].*{one}") for one in request_ids(site, "validate"))


@pytest.mark.parametrize("mode", ["slow", "stall"])
def test_time_out(site, gateway, at, devices, mode):
    (message,) = devices(at("/quick"))
    site.microsoft.fail("validate", mode, seconds=4)
    answer = refused_by_microsoft(site, gateway, message, (1101, 1102))
    assert answer.seconds < 3 * check.place.SLOWNESS


def test_retry_after_is_passed_on(site, gateway, at, devices):
    (message,) = devices(at("/scep"))
    site.microsoft.fail("validate", "status", status=429, retry_after=17)
    answer = refused_by_microsoft(site, gateway, message, (1101, 1102))
    assert answer.retry_after == 17


def test_works_again_once_microsoft_does(site, gateway, at, devices):
    first, second = devices(at("/scep"), 2)
    site.microsoft.fail("validate", "code", code="ChallengeExpired")
    refused_by_microsoft(site, gateway, first, 1100, "ChallengeExpired")
    site.microsoft.reset()
    check.success(second, second.post(gateway.port))


def test_intunes_own_verdict(site, gateway, at, devices):
    """No fault: the stand-in decrypts the challenge and finds another subject than the profile's."""
    profile = at("/scep")
    challenge = site.microsoft.challenge(profile.tenant, subject="/CN=somebody-else")
    (message,) = devices(profile, challenge=challenge, subject="/CN=me")
    refused_by_microsoft(site, gateway, message, 1100, "SubjectNameMismatch")


def test_challenge_of_another_tenant(site, gateway, at, devices):
    challenge = site.microsoft.challenge(at("/once").tenant)
    (message,) = devices(at("/scep"), challenge=challenge)
    refused_by_microsoft(site, gateway, message, 1100, "code ")


def test_expired_challenge(site, gateway, at, devices):
    profile = at("/scep")
    (message,) = devices(profile, challenge=site.microsoft.challenge(profile.tenant, expires_in=-10))
    refused_by_microsoft(site, gateway, message, 1100, "ChallengeExpired")


def test_token_is_fetched_again_after_401(site, gateway, at, devices):
    first, second = devices(at("/once"), 2)
    check.success(first, first.post(gateway.port))
    site.reset()
    site.microsoft.fail("validate", "status", times=1, status=401)
    check.success(second, second.post(gateway.port))
    assert [call["status"] for call in site.microsoft.calls("validate")] == [401, 200]
    assert len(site.microsoft.calls("token")) == 1


def test_moved_service_is_found(site, gateway, at, devices):
    first, second = devices(at("/moved"), 2)
    check.success(first, first.post(gateway.port))
    site.microsoft.reset()
    site.microsoft.move()
    check.success(second, second.post(gateway.port))
    assert len(site.microsoft.calls("endpoints")) == 1
    assert not site.microsoft.calls("token")


@pytest.mark.parametrize("number, name", enumerate(TOKEN_FAULTS), ids=list(TOKEN_FAULTS))
def test_token_fault(site, gateway, at, devices, number, name):
    fault, problems, text = TOKEN_FAULTS[name]
    first, second = devices(at(f"/token-{number}"), 2)
    site.microsoft.fail("token", **fault)
    refused_by_microsoft(site, gateway, first, problems, text)
    assert not site.microsoft.calls("validate")
    site.microsoft.reset()
    if problems == (1104,):
        # what Entra refused is not shown again for half a minute; another key is, at once
        profile = at(f"/token-{number}")
        site.microsoft.set_tenant({**profile.tenant, "secret": "AppKey~another"})
        pki.write_secret(site.directory / f"{profile.tenant['app_id']}.key", "AppKey~another\n")
        check.success(second, second.post(gateway.port))
        return
    # a short pause between attempts is the gateway's right; it is told by Retry-After
    check.success(second, patient_post(gateway, second))


def patient_post(gateway, message):
    """Sends the message until the answer is not 503 any more."""
    gateway.allow_log(rf"ISCEP1\d\d\d: \[{message.transaction}\]")

    def send():
        answer = message.post(gateway.port)
        return answer if answer.status != 503 else None
    return check.wait.until(send, "an answer other than 503", 20, 0.5)


@pytest.mark.parametrize("number, name", enumerate(ENDPOINT_FAULTS), ids=list(ENDPOINT_FAULTS))
def test_endpoints_fault(site, gateway, at, devices, number, name):
    (message,) = devices(at(f"/endpoints-{number}"))
    site.microsoft.fail("endpoints", **ENDPOINT_FAULTS[name])
    answer = refused_by_microsoft(site, gateway, message, 1106)
    assert answer.seconds < 3 * check.place.SLOWNESS
    assert not site.microsoft.calls("validate")


def test_nobody_listens(site, gateway, at, devices):
    (message,) = devices(at("/unreachable"))
    refused_by_microsoft(site, gateway, message, 1105)


def test_wrong_application_key(site, gateway, at, devices):
    profile = at("/wrong-key")
    (message,) = devices(profile)
    site.microsoft.set_tenant({**profile.tenant, "secret": "AppKey~changed-at-microsoft"})
    refused_by_microsoft(site, gateway, message, 1104, "AADSTS7000215")


def test_rotated_key_needs_no_restart(site, gateway, at, devices):
    profile = at("/rotated")
    (message,) = devices(profile)
    rotated = {**profile.tenant, "secret": "AppKey~rotated"}
    site.microsoft.set_tenant(rotated)
    pki.write_secret(site.directory / f"{rotated['app_id']}.key", "AppKey~rotated\n")
    check.success(message, message.post(gateway.port))


@pytest.mark.parametrize("content", ["", "\n", None], ids=["empty", "line end", "gone"])
def test_half_written_key_keeps_the_old_one(site, gateway, at, devices, content):
    """Whoever rotates the key may be caught in the middle: the old key serves until the new one is whole."""
    profile = at("/half")
    (message,) = devices(profile)
    file = site.directory / f"{profile.tenant['app_id']}.key"
    old = file.read_text()
    site.microsoft.revoke_tokens(profile.tenant)
    if content is None:
        file.unlink()
    else:
        pki.write_secret(file, content)
    gateway.allow_log("ISCEP0")
    check.success(message, message.post(gateway.port))
    pki.write_secret(file, old)


def test_key_file_that_becomes_unsafe_keeps_the_old_one(site, gateway, at, devices):
    profile = at("/half")
    (message,) = devices(profile)
    file = pki.write_secret(site.directory / f"{profile.tenant['app_id']}.key", "AppKey~of-a-stranger\n")
    file.chmod(0o666)
    site.microsoft.revoke_tokens(profile.tenant)
    gateway.allow_log("ISCEP0")
    check.success(message, message.post(gateway.port))


def test_https_needs_a_trusted_certificate(site, start_gateway, devices):
    tls = site.microsoft.tls_url
    urls = {"Authority": tls, "GraphURL": tls, "IntuneURL": tls}
    trusting = site.profile("/trusting", TLSCAFile=site.microsoft.tls_certificate, **urls)
    gateway = start_gateway([trusting, site.profile("/system", **urls)])
    (message,) = devices(trusting)
    check.success(message, message.post(gateway.port))
    site.reset()
    (message,) = devices(gateway.profiles[1])
    refused_by_microsoft(site, gateway, message, 1105)
    assert not site.microsoft.calls("token")


def test_status_of_the_server_is_not_ours(gateway):
    assert client.request(gateway.port, "GET", "/nothing-here").status == 404
    assert client.request(gateway.port, "GET", "/static.txt").status == 200
