# SPDX-License-Identifier: Apache-2.0
"""No key, token or challenge shows anywhere: logs at their most talkative, mod_info, configuration dumps, answers."""
import base64
import json
import re
import urllib.parse

import pytest

from harness import check, client, pki
from harness.credentials import Certificate, exchange
from harness.proxy import RecordingProxy

OPTIONS = {"log_level": "trace8", "allow": ["ISCEP0531"], "modules": ["info", "status"],
           "after": '<Location "/server-info">\nSetHandler server-info\n</Location>\n'
                    '<Location "/server-status">\nSetHandler server-status\n</Location>\nExtendedStatus On\n'}


PROXY_USER, PROXY_PASSWORD = "the-user-of-the-proxy", "Proxy~password-of-ours"


@pytest.fixture(scope="module")
def site(site):  # pylint: disable=redefined-outer-name
    """With a proxy before Microsoft that wants a password."""
    site.proxy = RecordingProxy(site.microsoft.tls_port, PROXY_USER, PROXY_PASSWORD)
    yield site
    site.proxy.stop()


def profiles(site):
    literal = site.microsoft.add_tenant("literal")
    failing = site.microsoft.add_tenant("failing")
    url = site.microsoft.tls_url
    proxied = {"Authority": url, "GraphURL": url, "IntuneURL": url, "TLSCAFile": site.microsoft.tls_certificate,
               "HTTPProxy": site.proxy.url, "HTTPProxyUser": PROXY_USER}
    return [site.profile("/scep"), site.profile("/literal", tenant=literal, AppKey=literal["secret"]),
            site.profile("/quoted", tenant=failing, AppKey=f'"{failing["secret"]}"'), site.profile("/refused"),
            certificate_profile(site), federated_profile(site),
            site.profile("/proxied", **proxied, HTTPProxyPassword=PROXY_PASSWORD),
            site.profile("/strange", **proxied, HTTPProxyPassword=f'"{PROXY_PASSWORD} but wrong"')]


PHRASE, FEDERATED = "PassPhrase~of-the-private-key", "eyFederatedToken." + "9876543210" * 20
# how each assertion of a certificate begins
ASSERTION = "eyJhbGciOiJQUzI1Ni"


def certificate_profile(site):
    """Its pass phrase stands in the configuration."""
    own = Certificate(site.directory, "secrets-app", phrase=PHRASE)
    tenant = site.microsoft.add_tenant("certificate")
    site.microsoft.set_tenant({"tenant": tenant["tenant"], "certificate": own.pem})
    return site.profile("/certificate", tenant=tenant, AppKey=None, AppCertificate=f"{own.certificate} {own.key}",
                        AppCertificatePassword=PHRASE)


def federated_profile(site):
    tenant = site.microsoft.add_tenant("federated")
    site.microsoft.set_tenant({"tenant": tenant["tenant"], "federated": FEDERATED})
    path = pki.write_secret(site.directory / "secrets-token", FEDERATED)
    return site.profile("/federated", tenant=tenant, AppKey=None, AppTokenFile=path)


def exercise(site, gateway, devices):
    """Enrols, fails and rotates in every way that touches a secret; returns the messages."""
    used = []

    def go(profile, **options):
        (message,) = devices(profile, **options)
        used.append(message)
        gateway.allow_log(rf"ISCEP1\d\d\d: \[{re.escape(message.transaction)}\]")
        return message.post(gateway.port)
    scep, literal, quoted, refused, certificate, federated, proxied, strange = gateway.profiles
    for profile in (scep, literal, quoted, certificate, federated, proxied):
        assert go(profile).status == 200
    assert go(strange).status == 503
    refuse_assertions(site, gateway, go, certificate, federated)
    site.microsoft.set_tenant({**refused.tenant, "secret": "AppKey~other"})
    assert go(refused).status == 503
    rotated = {**refused.tenant, "secret": "AppKey~rotated-key"}
    site.microsoft.set_tenant(rotated)
    pki.write_secret(site.directory / f"{rotated['app_id']}.key", rotated["secret"])
    check.wait.until(lambda: go(refused).status == 200, "the rotated key to be used", 20, 0.5)
    for fault in ({"mode": "status", "status": 401}, {"mode": "html"}, {"mode": "drop"},
                  {"mode": "code", "code": "ChallengeExpired"}):
        site.microsoft.fail("validate", times=2, **fault)
        assert go(scep).status in (200, 503)
        site.microsoft.reset()
    quoted = site.microsoft.challenge(scep.tenant)
    site.microsoft.fail("validate", "code", times=1, code="ChallengeDecryptionError", description=f"no good: {quoted}")
    assert go(scep, challenge=quoted).status == 200
    site.microsoft.reset()
    site.microsoft.fail("validate", "status", times=1, status=401)
    site.microsoft.fail("token", "body", times=1, body=json.dumps({"access_token": KNOWN_TOKEN, "expires_in": 3599}))
    assert go(scep).status == 503, "nobody accepts the token that the stand-in did not make"
    site.ca.control("refuse", fail_info=2, times=1)
    assert go(scep).status == 200
    assert go(scep, challenge="guessed-password-of-a-stranger").status == 200
    (message,) = devices(literal)
    used.append(message)
    assert message.get(gateway.port).status == 200
    gateway.allow_log(r"ISCEP03\d\d")
    return used


def refuse_assertions(site, gateway, go, certificate, federated):
    """Entra refuses certificate and token; then the files are no good at all."""
    for profile, known in ((certificate, {"certificate": []}), (federated, {"federated": "another"})):
        site.microsoft.set_tenant({"tenant": profile.tenant["tenant"], **known})
        client.post_json(site.microsoft.port, "/sim/token", {"tenant": profile.tenant["tenant"], "action": "revoke"})
        assert go(profile).status == 503
    path = site.directory / "secrets-token"
    exchange(path, FEDERATED + " and more")
    assert go(federated).status == 503


KNOWN_TOKEN = "eyKnownToken" + "0123456789" * 100
# "SIM0001." begins the stand-in's tokens.
TOKEN = re.compile(r"Bearer\s+(?!\*)\S{8}|access_token\W+\w{8}|client_secret=(?!\*)\S{4}|client_assertion=(?!\*)"
                   r"|SIM[0-9a-f]{4}\.|Basic\s+\w{8}")


def spellings(secret):
    """A secret as it is, as a form carries it, and its first half, in case something cuts lines."""
    quoted = {urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)}
    return {secret, secret[:max(24, len(secret) // 2)]} | quoted


def challenge_spellings(challenge):
    if len(challenge) < 300:
        return {challenge}
    return {challenge[:64], challenge[200:264], urllib.parse.quote(challenge[:60], safe="")}


def csr_pieces(message):
    return [message.csr[start:start + 60] for start in range(0, len(message.csr) - 60, 500)]


def trace_lines(gateway, service):
    return gateway.lines(rf":trace1\].* ISCEP033[01]: \[[^]]*\] {service}: ")


def shown_at_trace(gateway, messages):
    """What the log has of requests and answers at trace level."""
    for line in trace_lines(gateway, "Entra token"):
        assert "POST http" not in line or re.search(r"&client_(secret|assertion)=\*\*\*&scope=", line), line
    assert [line for line in trace_lines(gateway, "Entra token")
            if re.search(r"token_type:Bearer.*access_token:\*\*\*", line)]
    lines = [line for line in trace_lines(gateway, "Intune validateRequest") if messages[0].transaction in line]
    (sent,) = [line for line in lines if f"transactionId:{messages[0].transaction}" in line]
    assert f"certificateRequest:*** ({len(messages[0].csr)} bytes)" in sent and "Authorization: ***;" in sent
    for text in ("POST http://127.0.0.1:", "/ScepActions/validateRequest, ", "client-request-id: ", "api-version: "):
        assert text in sent, sent
    came = [line for line in lines if line != sent]
    assert len(came) == 1 and "HTTP 200, " in came[0] and "code:Success" in came[0], came


def test_nothing_shows(site, gateway, devices):
    messages = exercise(site, gateway, devices)
    info = client.request(gateway.port, "GET", "/server-info")
    status = client.request(gateway.port, "GET", "/server-status")
    assert info.status == status.status == 200
    dump = gateway.run_tool("-t", "-D", "DUMP_CONFIG")
    config_dump = dump.stdout + dump.stderr
    assert "IntuneScepAppKey" in info.text and "IntuneScepTenant" in info.text
    assert "IntuneScepAppKey" in config_dump or "DUMP_CONFIG" not in config_dump
    places = {"error log": gateway.output(), "access log": gateway.text(gateway.access_log), "mod_info": info.text,
              "mod_status": status.text, "DUMP_CONFIG": config_dump}
    both = base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode()
    secrets = {"app key": set(), "challenge": set(), "token": {KNOWN_TOKEN[:40], KNOWN_TOKEN[-40:]},
               "pass phrase": spellings(PHRASE), "federated token": spellings(FEDERATED), "assertion": {ASSERTION},
               "request": {piece for message in messages for piece in csr_pieces(message)},
               "proxy password": spellings(PROXY_PASSWORD) | {both[:40], PROXY_PASSWORD}}
    for profile in gateway.profiles:
        secrets["app key"] |= spellings(profile.tenant["secret"])
    secrets["app key"] |= {"AppKey~", "AppKey%7E"}
    for message in messages:
        secrets["challenge"] |= challenge_spellings(message.challenge)
    for where, text in places.items():
        for kind, texts in secrets.items():
            shown = [secret for secret in texts if secret in text]
            assert not shown, f"{where} shows the {kind}: {shown[0][:60]}"
        assert not TOKEN.search(text), f"{where} shows a token"
    shown_at_trace(gateway, messages)
    assert "PRIVATE KEY" not in "".join(places.values())
    assert re.search(r":trace\d\]", gateway.output()), "the log was not as talkative as this test wants it"


def test_csr_is_not_logged(site, gateway, devices):
    """A CSR holds the challenge: its base64 has no place in a log either."""
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.post(gateway.port))
    for start in range(0, len(message.csr) - 60, 40):
        assert message.csr[start:start + 60] not in gateway.output()


def test_answers_tell_nothing_of_intune(site, gateway, devices):
    profile = gateway.profiles[0]
    site.microsoft.fail("validate", "code", code="ChallengeExpired", description="the description of Intune")
    (message,) = devices(profile)
    answer = message.post(gateway.port)
    check.final_line(gateway, 1100, message)
    opened = check.failure(message, answer, 2)
    for word in (b"ChallengeExpired", b"description of", profile.tenant["app_id"].encode(), b"Intune"):
        assert word not in answer.body and word.decode() not in (opened.get("fail_info_text") or "")
    site.microsoft.fail("validate", "status", status=500)
    (message,) = devices(profile)
    answer = message.post(gateway.port)
    check.final_line(gateway, (1101, 1102), message)
    for word in ("Intune", "500", "127.0.0.1", profile.tenant["tenant"], str(site.microsoft.port)):
        assert word not in answer.text


@pytest.mark.parametrize("path", ["/server-info", "/server-status"])
def test_pages_of_others_still_work(gateway, path):
    assert client.request(gateway.port, "GET", path).status == 200
