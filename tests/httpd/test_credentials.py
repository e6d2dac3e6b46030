# SPDX-License-Identifier: Apache-2.0
"""The three credentials towards Entra: each enrols, each rotates without a restart, and a refused one is left alone."""
import os
import re
import threading
import uuid

import pytest

from harness import check, client, credentials, load, pki, place
from harness.credentials import Certificate, exchange
from harness.gateway import Gateway
from test_configuration import refused  # noqa: F401 (a fixture)

PHRASE = "PassPhrase~of-the-key"


def tenant_with(site, name, **known):
    """A tenant whose application has these credentials and no secret."""
    tenant = site.microsoft.add_tenant(name)
    site.microsoft.set_tenant({"tenant": tenant["tenant"], "app_id": tenant["app_id"], "secret": [], **known})
    return tenant


def know(site, tenant, **known):
    """What Entra takes from now on."""
    site.microsoft.set_tenant({"tenant": tenant["tenant"], **known})


def enrols(gateway, devices, profile):
    (message,) = devices(profile)
    check.success(message, message.post(gateway.port))
    return message


def count_tokens(site, tenant):
    return len(site.microsoft.calls("token", tenant))


def token_text():
    return f"eyFederated.{uuid.uuid4().hex}.Signature"


@pytest.fixture
def made(scratch):
    """Certificates: made("name", phrase=None)."""
    return lambda name, **options: Certificate(scratch, name, **options)


# each kind

@pytest.mark.parametrize("kind", ["together", "apart", "encrypted", "uri", "pkcs12"])
def test_certificate(site, start_gateway, devices, made, scratch, kind):
    own = made("app", phrase=PHRASE if kind in ("encrypted", "pkcs12") else None)
    tenant = tenant_with(site, "certificate", certificate=own.pem)
    phrase = f"file:{pki.write_secret(scratch / 'phrase', PHRASE)}" if own.phrase else None
    where = {"together": lambda: own.together(scratch / "both.pem"), "pkcs12": lambda: pkcs12(own, scratch),
             "uri": lambda: f"{own.certificate} file:{own.key}"}.get(kind, lambda: f"{own.certificate} {own.key}")()
    profile = site.profile("/scep", tenant=tenant, AppKey=None, AppCertificate=where, AppCertificatePassword=phrase)
    gateway = start_gateway([profile], log_level="trace8")
    enrols(gateway, devices, profile)
    assert [call["status"] for call in site.microsoft.calls("token")] == [200, 200]
    calls = site.microsoft.calls("token")
    assert "client_secret" not in calls[0]["body"]
    assert calls[0]["body"]["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    for secret in (PHRASE, "eyJhbGciOiJQUzI1NiI", "PRIVATE KEY"):
        assert secret not in gateway.output()


@pytest.mark.parametrize("fault", [{"mode": "drop"}, {"mode": "status", "status": 500}])
def test_assertion_is_used_once(site, start_gateway, devices, made, fault):
    """However the call before ended: libcurl itself sends again what it sent over a connection that was kept."""
    own = made("app")
    tenant = tenant_with(site, "certificate", certificate=own.pem)
    gateway = start_gateway([site.profile("/scep", tenant=tenant, AppKey=None, AppCertificate=f"{own.certificate} {own.key}")],
                            processes=1)
    enrols(gateway, devices, gateway.profiles[0])
    (message,) = devices(gateway.profiles[0])
    site.microsoft.revoke_tokens(tenant)
    site.microsoft.fail("token", times=1, **fault)
    check.success(message, message.post(gateway.port))
    ends = [call["status"] for call in site.microsoft.calls("token", tenant)]
    assert set(ends) == {200, fault.get("status", 0)}, ends


def pkcs12(own, scratch):
    path = scratch / "app.p12"
    pki.openssl("pkcs12", "-export", "-in", own.certificate, "-inkey", own.key, "-passin", f"pass:{PHRASE}", "-passout",
                f"pass:{PHRASE}", "-out", path)
    return pki.for_server(path)


def test_federated_token(site, start_gateway, devices, scratch):
    """Read anew for each request: its owner renews it, and the old one is worth nothing then."""
    token = token_text()
    tenant = tenant_with(site, "federated", federated=token)
    path = pki.write_secret(scratch / "token", token + "\n")
    gateway = start_gateway([site.profile("/scep", tenant=tenant, AppKey=None, AppTokenFile=path)], log_level="trace8")
    enrols(gateway, devices, gateway.profiles[0])
    newer = token_text()
    know(site, tenant, federated=newer)
    client.post_json(site.microsoft.port, "/sim/token", {"tenant": tenant["tenant"], "action": "revoke"})
    exchange(path, newer)
    enrols(gateway, devices, gateway.profiles[0])
    assert token not in gateway.output() and newer not in gateway.output()


@pytest.mark.parametrize("content, words", [("", "is empty"), ("two words", "one token"), ("x" * 70000, "64 KiB"),
                                            (None, "cannot be read")], ids=["empty", "two", "large", "gone"])
def test_token_file_that_is_none(site, start_gateway, devices, scratch, content, words):
    token = token_text()
    tenant = tenant_with(site, "federated", federated=True)
    path = pki.write_secret(scratch / "token", token)
    gateway = start_gateway([site.profile("/scep", tenant=tenant, AppKey=None, AppTokenFile=path)])
    if content is None:
        path.unlink()
    else:
        exchange(path, content)
    first, second = devices(gateway.profiles[0], 2)
    check.unavailable(first.post(gateway.port))
    check.final_line(gateway, 1110, first, "IntuneScepAppTokenFile", str(path), words)
    assert count_tokens(site, tenant) == 0
    exchange(path, token)
    check.success(second, second.post(gateway.port))


# at start

def test_two_credentials(site, refused, made):
    own = made("app")
    both = site.profile("/scep", AppCertificate=f"{own.certificate} {own.key}")
    refused(Gateway([both]), "IntuneScepAppCertificate", "IntuneScepAppKey", "exactly one")


def test_no_credential(site, refused):
    gateway = Gateway([site.profile("/scep", AppKey=None)])
    refused(gateway, "IntuneScepAppKey", "IntuneScepAppCertificate", "IntuneScepAppTokenFile", "missing")


def test_password_without_certificate(site, refused):
    gateway = Gateway([site.profile("/scep", AppCertificatePassword="env:PATH")])
    refused(gateway, "IntuneScepAppCertificatePassword", "IntuneScepAppCertificate")


def test_key_of_another_certificate(site, refused, made):
    own, other = made("app"), made("other")
    gateway = Gateway([site.profile("/scep", AppKey=None, AppCertificate=f"{own.certificate} {other.key}")])
    refused(gateway, "IntuneScepAppCertificate", str(other.key), "does not fit")


def test_wrong_password(site, refused, made, scratch):
    own = made("app", phrase=PHRASE)
    phrase = pki.write_secret(scratch / "phrase", "PassPhrase~wrong")
    profile = site.profile("/scep", AppKey=None, AppCertificate=f"{own.certificate} {own.key}")
    sentence = refused(Gateway([profile.changed(AppCertificatePassword=f"file:{phrase}")]), "IntuneScepAppCertificate",
                       str(own.key), "pass phrase")
    assert "PassPhrase~" not in sentence
    refused(Gateway([profile]), "IntuneScepAppCertificate", str(own.key), "set IntuneScepAppCertificatePassword")


def test_expired_certificate(site, refused, scratch):
    certificate, key = credentials.expired(scratch)
    gateway = Gateway([site.profile("/scep", AppKey=None, AppCertificate=f"{certificate} {key}")])
    refused(gateway, "IntuneScepAppCertificate", str(certificate), "expired on")


def test_certificate_key_open_to_others(site, refused, made):
    own = made("app")
    own.key.chmod(0o644)
    gateway = Gateway([site.profile("/scep", AppKey=None, AppCertificate=f"{own.certificate} {own.key}")])
    refused(gateway, "IntuneScepAppCertificate", str(own.key), "chmod")


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root can own what the server's user cannot read")
@pytest.mark.parametrize("directive", ["AppCertificate", "AppTokenFile"])
def test_files_that_the_servers_user_cannot_read(site, refused, made, scratch, directive):
    own = made("app")
    path = own.key if directive == "AppCertificate" else pki.write_secret(scratch / "token", token_text())
    os.chown(path, 0, 0)
    value = f"{own.certificate} {own.key}" if directive == "AppCertificate" else path
    gateway = Gateway([site.profile("/scep", AppKey=None, **{directive: value})])
    refused(gateway, "IntuneScep" + directive, str(path), "server's user")


def test_key_from_a_provider_that_is_not_there(site, refused, made):
    own = made("app")
    gateway = Gateway([site.profile("/scep", AppKey=None, AppCertificate=f"{own.certificate} pkcs11:object=app")])
    refused(gateway, "IntuneScepAppCertificate", "pkcs11:object=app", "provider")


def test_pin_in_the_uri(site, refused, made):
    own = made("app")
    where = f'{own.certificate} "pkcs11:object=app?PIN-value=246813"'
    sentence = refused(Gateway([site.profile("/scep", AppKey=None, AppCertificate=where)]), "IntuneScepAppCertificate",
                       "IntuneScepAppCertificatePassword")
    assert "246813" not in sentence


def test_locations_own_credential_wins(site, start_gateway, devices, made):
    """The virtual host's key is for those locations that have nothing of their own."""
    own = made("app")
    tenant = tenant_with(site, "inner", certificate=own.pem)
    profile = site.profile("/scep", tenant=tenant, AppKey=None, AppCertificate=f"{own.certificate} {own.key}")
    gateway = start_gateway([profile], server=f"IntuneScepAppKey file:{site.app_key(tenant)}\n")
    enrols(gateway, devices, profile)


def test_what_is_warned_of(site, start_gateway, devices, scratch):
    """A token file that others may read works, and is told."""
    token = token_text()
    federated = tenant_with(site, "federated", federated=token)
    path = pki.write_secret(scratch / "token", token)
    path.chmod(0o644)
    gateway = start_gateway([site.profile("/federated", tenant=federated, AppKey=None, AppTokenFile=path)])
    gateway.expect_log(rf"ISCEP0533: IntuneScepAppTokenFile .*{path}")
    enrols(gateway, devices, gateway.profiles[0])


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root starts a server of another user")
def test_command_that_only_root_may_run(site, refused, scratch):
    """Whoever may change the command of the server's user does not become root by it, and a rotated key needs no restart."""
    script = scratch / "print-key"
    script.write_text("#!/bin/sh\necho AppKey~of-root\n")
    script.chmod(0o700)
    refused(Gateway([site.profile("/scep", AppKey=f"exec:{script}")]), "IntuneScepAppKey", str(script), "by the server's user")


# rotation

class Rotation:
    """Devices enrol without a pause while tokens live one second only, so that the credential is shown again and again."""

    def __init__(self, site, gateway, devices, count=300):
        self.site, self.tenant = site, gateway.profiles[0].tenant
        know(site, self.tenant, expires_in=1)
        self.messages = devices(gateway.profiles[0], count)
        self.stream = load.Stream(6, self.paced(self.messages), lambda message: message.post(gateway.port)).start()

    @staticmethod
    def paced(messages):
        pause = threading.Event()
        for message in messages:
            pause.wait(0.04)
            yield message

    def wait_for_tokens(self, count=2):
        """Until Entra has given so many more tokens."""
        before = count_tokens(self.site, self.tenant)
        check.wait.until(lambda: count_tokens(self.site, self.tenant) >= before + count, "new tokens", 20)

    def end(self):
        outcomes = self.stream.stop()
        failed = [outcome for _, outcome in outcomes if isinstance(outcome, Exception) or outcome.status != 200]
        assert len(outcomes) > 20 and not failed, f"{len(failed)} of {len(outcomes)}: {failed[:3]}"
        refusals = [call["code"] for call in self.site.microsoft.calls("token", self.tenant) if call["status"] != 200]
        return refusals


def test_key_is_rotated_under_load(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")], processes=2)
    tenant = gateway.profiles[0].tenant
    path = site.directory / f"{tenant['app_id']}.key"
    rotation = Rotation(site, gateway, devices)
    old, new = tenant["secret"], f"AppKey~rotated-{uuid.uuid4().hex}"
    know(site, tenant, secret=[old, new])
    path.write_text("")  # what is not whole is not taken
    rotation.wait_for_tokens()
    exchange(path, new + "\n")
    rotation.wait_for_tokens()
    know(site, tenant, secret=new)
    rotation.wait_for_tokens()
    assert rotation.end() == []


def test_certificate_is_rotated_under_load(site, start_gateway, devices, made, scratch):
    first, second = made("first"), made("second")
    tenant = tenant_with(site, "rotated", certificate=first.pem)
    certificate, key = scratch / "app.pem", scratch / "app.key"
    exchange(certificate, first.pem)
    exchange(key, first.key.read_text())
    profile = site.profile("/scep", tenant=tenant, AppKey=None, AppCertificate=f"{certificate} {key}")
    gateway = start_gateway([profile], processes=2)
    rotation = Rotation(site, gateway, devices)
    know(site, tenant, certificate=[first.pem, second.pem])
    exchange(certificate, second.pem)
    gateway.expect_log(r"ISCEP0310: .*IntuneScepAppCertificate: .*does not fit")
    rotation.wait_for_tokens()  # with a half that does not fit, the old pair goes on
    exchange(key, second.key.read_text())
    rotation.wait_for_tokens()
    know(site, tenant, certificate=second.pem)
    rotation.wait_for_tokens()
    assert rotation.end() == []


# refusals

def refusal(gateway, message, *texts):
    check.unavailable(message.post(gateway.port))
    check.final_line(gateway, 1104, message, *texts)


def crowd_is_refused(site, gateway, devices, tenant, count=40):
    """However many devices come, in whatever process: Entra is asked once."""
    gateway.allow_log("ISCEP1104")
    for _ in range(2):
        for answer in load.all_at_once(devices(gateway.profiles[0], count), lambda message: message.post(gateway.port)):
            check.unavailable(answer)
    assert count_tokens(site, tenant) == 1
    check.ca_untouched(site)


def test_refused_key_is_left_alone(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", MaxConcurrent=100)], processes=4)
    tenant = gateway.profiles[0].tenant
    know(site, tenant, secret="AppKey~other")
    crowd_is_refused(site, gateway, devices, tenant)
    (message,) = devices(gateway.profiles[0])
    refusal(gateway, message, "AADSTS7000215", "IntuneScepAppKey", "The application key is wrong")
    exchange(site.directory / f"{tenant['app_id']}.key", "AppKey~other\n")
    enrols(gateway, devices, gateway.profiles[0])
    assert [call["status"] for call in site.microsoft.calls("token", tenant)] == [401, 200, 200]


def test_refused_certificate_is_left_alone(site, start_gateway, devices, made, scratch):
    own, other = made("own"), made("other")
    tenant = tenant_with(site, "stranger", certificate=other.pem)
    path = own.together(scratch / "app.pem")
    profile = site.profile("/scep", tenant=tenant, AppKey=None, AppCertificate=path, MaxConcurrent=100)
    gateway = start_gateway([profile], processes=4)
    crowd_is_refused(site, gateway, devices, tenant)
    (message,) = devices(profile)
    refusal(gateway, message, "AADSTS700027", "IntuneScepAppCertificate", "valid until")
    other.together(path)
    enrols(gateway, devices, profile)
    assert [call["status"] for call in site.microsoft.calls("token", tenant)] == [401, 200, 200]


def test_refused_token_file_is_left_alone(site, start_gateway, devices, scratch):
    right = token_text()
    tenant = tenant_with(site, "foreign", federated=right)
    path = pki.write_secret(scratch / "token", token_text())
    profile = site.profile("/scep", tenant=tenant, AppKey=None, AppTokenFile=path, MaxConcurrent=100)
    gateway = start_gateway([profile], processes=4)
    crowd_is_refused(site, gateway, devices, tenant)
    (message,) = devices(profile)
    refusal(gateway, message, "AADSTS70021", "IntuneScepAppTokenFile", "No federated credential")
    exchange(path, right)
    enrols(gateway, devices, profile)


def test_refused_command_runs_again(site, start_gateway, devices, scratch):
    """What the command gave at start is refused: the server's user runs it again, and its new value is shown at once."""
    tenant = site.microsoft.add_tenant("command")
    value, ran = pki.write_secret(scratch / "value", tenant["secret"]), scratch / "ran"
    ran.write_text("")
    ran.chmod(0o666)
    script = scratch / "print-key"
    script.write_text(f'#!/bin/sh\nid -un >> "{ran}"\ncat "{value}"\n')
    script.chmod(0o755)
    gateway = start_gateway([site.profile("/scep", tenant=tenant, AppKey=f"exec:{script}")], processes=2)
    at_start = len(ran.read_text().split())
    enrols(gateway, devices, gateway.profiles[0])
    assert len(ran.read_text().split()) == at_start
    newer = "AppKey~newer-" + uuid.uuid4().hex
    know(site, tenant, secret=newer)
    exchange(value, newer)
    client.post_json(site.microsoft.port, "/sim/token", {"tenant": tenant["tenant"], "action": "revoke"})
    gateway.allow_log("ISCEP0303")
    enrols(gateway, devices, gateway.profiles[0])
    users = ran.read_text().split()
    assert len(users) > at_start and (not place.IS_ROOT or set(users) == {place.SERVER_USER})
    # refused again, and again another value: but the command has had its turn in this minute
    know(site, tenant, secret="AppKey~third")
    client.post_json(site.microsoft.port, "/sim/token", {"tenant": tenant["tenant"], "action": "revoke"})
    gateway.allow_log("ISCEP1104")
    for answer in load.all_at_once(devices(gateway.profiles[0], 20), lambda message: message.post(gateway.port)):
        check.unavailable(answer)
    assert len(ran.read_text().split()) - at_start <= 2, "once a minute in each process"
    assert newer not in gateway.output()


def test_renewal_with_a_refused_credential(site, start_gateway, devices):
    """In the background, too, Entra hears once of a credential that it refuses, and at once of the next one."""
    gateway = start_gateway([site.profile("/scep", expires_in=40)], processes=4)
    tenant = gateway.profiles[0].tenant
    know(site, tenant, secret="AppKey~next", expires_in=4)
    (message,) = devices(gateway.profiles[0])
    know(site, tenant, secret=[tenant["secret"], "AppKey~next"])
    check.success(message, message.post(gateway.port))
    know(site, tenant, secret="AppKey~next")
    gateway.expect_log("ISCEP0305: .*AADSTS7000215.*")
    gateway.wait_log("ISCEP0305", 2)
    known = len([call for call in site.microsoft.calls("token", tenant) if call["status"] == 401])
    assert known == 2, "one for each of the two tokens"
    coming = iter(devices(gateway.profiles[0], 60))
    gateway.allow_log(r"ISCEP1104|ISCEP1301|ISCEP0303")
    check.wait.until(lambda: next(coming).post(gateway.port).status == 503, "the token's end", 10, 0.3)
    message = next(coming)
    assert len([call for call in site.microsoft.calls("token", tenant) if call["status"] == 401]) == known
    exchange(site.directory / f"{tenant['app_id']}.key", "AppKey~next")
    check.success(message, message.post(gateway.port))
    assert "IntuneScepAppKey" in gateway.lines("ISCEP0305")[0]


def test_stand_in_is_strict(site, made):
    """What the other tests rest on: the stand-in refuses what Entra would."""
    own = made("own")
    tenant = tenant_with(site, "strict", certificate=own.pem)
    target = f"/{tenant['tenant']}/oauth2/v2.0/token"
    form = (f"grant_type=client_credentials&client_id={tenant['app_id']}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
            "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=")

    def ask(assertion):
        answer = client.request(site.microsoft.port, "POST", target, form + assertion,
                                {"Content-Type": "application/x-www-form-urlencoded"})
        found = re.search(r"AADSTS\d+", answer.text)
        return found[0] if found else answer.status
    url = f"http://127.0.0.1:{site.microsoft.port}{target}"
    for changes, expected in STRICT:
        assert ask(jwt(own, tenant, url, **changes)) == expected, changes
    once = jwt(own, tenant, url)
    assert ask(once) == 200 and ask(once) == "AADSTS50027"
    assert ask("not.a.jwt") == "AADSTS50027" and ask("nonsense") == "AADSTS50027"
    assert ask(once[:-8] + "AAAAAAAA") == "AADSTS700027"


STRICT = [({}, 200), ({"alg": "RS256"}, 200), ({"alg": "none"}, "AADSTS50027"), ({"typ": "JWS"}, "AADSTS50027"),
          ({"thumbprint": b"0" * 32}, "AADSTS700027"), ({"salt": 20}, "AADSTS700027"), ({"aud": "https://x/"}, "AADSTS700023"),
          ({"iss": "other"}, "AADSTS700021"), ({"sub": "other"}, "AADSTS700021"), ({"life": 601}, "AADSTS700024"),
          ({"nbf": 400}, "AADSTS700024"), ({"nbf": -400}, "AADSTS700024"), ({"jti": "short"}, "AADSTS50027")]


def jwt(own, tenant, url, alg="PS256", typ="JWT", thumbprint=None, salt=32, nbf=0, life=300, **claims):
    """An assertion made by other code than the module's."""
    import base64
    import json
    import time

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    def part(data):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=")
    certificate = x509.load_pem_x509_certificate(own.certificate.read_bytes())
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    thumbprint = thumbprint or certificate.fingerprint(hashes.SHA256())
    start = int(time.time()) + nbf
    body = {"aud": url, "iss": tenant["app_id"], "sub": tenant["app_id"], "jti": uuid.uuid4().hex, "nbf": start, "iat": start,
            "exp": start + life, **claims}
    signed = part({"alg": alg, "typ": typ, "x5t#S256": part(thumbprint).decode()}) + b"." + part(body)
    how = padding.PKCS1v15() if alg == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    return (signed + b"." + part(key.sign(signed, how, hashes.SHA256()))).decode()
