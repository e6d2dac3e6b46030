# SPDX-License-Identifier: Apache-2.0
"""Devices enrol: what they get, what Intune and the CA see, and the ways in which devices ask."""
import base64
import shutil
import subprocess
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from harness import check, client, place


def profiles(site):
    return [site.profile("/scep")]


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("cipher", ["aes128", "aes256", "des3"])
def test_enrolment(site, gateway, profile, devices, cipher, digest):
    (message,) = devices(profile, cipher=cipher, digest=digest)
    answer = message.post(gateway.port)
    opened = check.success(message, answer, cipher, digest)
    check.reported(site, message, opened, answer)
    assert site.microsoft.calls("failure") == []


def test_key_and_subject_of_its_own(site, gateway, profile, devices):
    (message,) = devices(profile, own_key=True, bits=3072, subject="/O=Müller & Söhne/CN=Gerät 1",
                         san=["dns:device.example", "email:user@example.org"])
    answer = message.post(gateway.port)
    opened = check.success(message, answer)
    check.reported(site, message, opened, answer)


def test_how_intune_is_called(site, gateway, profile, devices):
    (message,) = devices(profile)
    check.success(message, message.post(gateway.port))
    calls = site.microsoft.calls("validate") + site.microsoft.calls("success")
    assert len(calls) == 2
    for call in calls:
        assert call["api_version"] == "2018-02-20"
        assert call["content_type"].startswith("application/json")
        assert "mod_intune_scep" in call["user_agent"]
    assert len({call["request_id"] for call in calls}) == 2


def test_transaction_is_logged_with_nothing_wrong(gateway, profile, devices):
    (message,) = devices(profile)
    check.success(message, message.post(gateway.port))
    assert gateway.lines(rf"\[{message.transaction}\]")
    assert not gateway.lines(rf"ISCEP1\d\d\d: \[{message.transaction}\]")


def b64(message):
    return base64.b64encode(message.der).decode()


GET_WAYS = {
    "as the RFC has it": lambda m: urllib.parse.quote(b64(m), safe=""),
    "raw plus and slash": b64,
    "plus became a space": lambda m: b64(m).replace("+", "%20"),
    "no padding": lambda m: b64(m).rstrip("="),
    "url-safe alphabet": lambda m: base64.urlsafe_b64encode(m.der).decode(),
    "line breaks": lambda m: base64.encodebytes(m.der).decode().replace("\n", "%0A"),
    "dos line breaks": lambda m: base64.encodebytes(m.der).decode().replace("\n", "%0D%0A"),
    "escaped twice": lambda m: urllib.parse.quote(urllib.parse.quote(b64(m), safe=""), safe=""),
}


@pytest.mark.parametrize("way", GET_WAYS)
def test_get(gateway, profile, devices, way):
    (message,) = devices(profile)
    answer = client.raw_get(gateway.port, "/scep?operation=PKIOperation&message=" + GET_WAYS[way](message))
    check.success(message, answer)


@pytest.mark.parametrize("target", [
    "/scep/?operation=PKIOperation",
    "/scep/pkiclient.exe?operation=PKIOperation",
    "/scep/certsrv/mscep/mscep.dll/pkiclient.exe?operation=PKIOperation",
    "/scep?operation=pkioperation",
    "/scep?OPERATION=PKIOPERATION",
    "/scep?message=&operation=PKIOperation",
    "/scep?x=1&operation=PKIOperation&message=default",
])
def test_post_targets(gateway, profile, devices, target):
    (message,) = devices(profile)
    check.success(message, client.request(gateway.port, "POST", target, message.der))


def test_get_with_message_first(gateway, profile, devices):
    (message,) = devices(profile)
    query = f"message={urllib.parse.quote(b64(message), safe='')}&operation=PkiOperation"
    check.success(message, client.raw_get(gateway.port, f"/scep/pkiclient.exe?{query}"))


def test_chunked_post(gateway, profile, devices):
    (message,) = devices(profile)
    pieces = [message.der[at:at + 1000] for at in range(0, len(message.der), 1000)]
    target = "/scep?operation=PKIOperation"
    check.success(message, client.request(gateway.port, "POST", target, iter(pieces)))


def test_expect_continue(gateway, profile, devices):
    (message,) = devices(profile)
    head = (f"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(message.der)}\r\n"
            "Content-Type: application/x-pki-message\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")

    def read_continue(sock):
        seen = b""
        while not seen.endswith(b"\r\n\r\n"):
            seen += sock.recv(1)
        assert seen.startswith(b"HTTP/1.1 100")
    check.success(message, client.raw(gateway.port, head.encode(), read_continue, message.der, method="POST"))


def test_many_on_one_connection(gateway, profile, devices):
    connection = client.http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    for message in devices(profile, 5):
        check.success(message, message.post(gateway.port, connection=connection))
    connection.close()


@pytest.mark.parametrize("query", ["operation=GetCACaps", "operation=getcacaps&message=default",
                                   "message=ca&operation=GetCACaps"])
def test_capabilities(gateway, query):
    answer = client.request(gateway.port, "GET", f"/scep?{query}")
    assert answer.status == 200 and answer.headers["content-type"].split(";")[0] == "text/plain"
    words = answer.text.split()
    for word in ("POSTPKIOperation", "Renewal", "SHA-256", "SHA-512", "AES", "SCEPStandard", "DES3"):
        assert word in words, words


@pytest.mark.parametrize("query", ["operation=GetCACert", "operation=GETCACERT&message=SCEP%20Authority"])
def test_ca_certificates(site, gateway, query):
    answer = client.request(gateway.port, "GET", f"/scep/pkiclient.exe?{query}")
    assert answer.status == 200 and answer.headers["content-type"] == "application/x-x509-ca-ra-cert"
    found = {certificate.fingerprint(certificate.signature_hash_algorithm)
             for certificate in pkcs7.load_der_pkcs7_certificates(answer.body)}
    wanted = [x509.load_pem_x509_certificate(path.read_bytes()) for path in (site.ra[0], site.authority.certificate)]
    assert found == {certificate.fingerprint(certificate.signature_hash_algorithm) for certificate in wanted}


def test_next_ca_is_the_cas_own_answer(site, gateway):
    site.ca.control(next=True)
    direct = client.request(site.ca.port, "GET", "/ca?operation=GetNextCACert")
    answer = client.request(gateway.port, "GET", "/scep?operation=GetNextCACert")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-x509-next-ca-cert")
    assert direct.status == 200 and answer.body
    assert (answer.body == direct.body) or len(answer.body) == len(direct.body)


def test_renewal(site, gateway, profile, devices):
    """By the certificate that was delivered; test_scep_messages.py has the other signers."""
    (first,) = devices(profile, own_key=True)
    opened = check.success(first, first.post(gateway.port))
    certificate = first.directory / "renewal.pem"
    certificate.write_text(opened["certificate"])
    (second,) = devices(profile, type=17, signer_cert=certificate, signer_key=first.key, own_key=True)
    answer = second.post(gateway.port)
    renewed = check.success(second, answer)
    check.reported(site, second, renewed, answer)
    assert renewed["serial"] != opened["serial"]


# the CA and the client that no one here wrote

@pytest.fixture(scope="module")
def scepserver_gateway(site, scepserver):
    from harness.gateway import Gateway
    ca = {"backend": scepserver.url, "authority": scepserver.authority, "ra": scepserver.ra}
    # scepclient knows no content cipher but single DES
    old = site.profile("/old", DeviceAlgorithms='"AES DES3 DES SHA-1 SHA-256 SHA-512"', **ca)
    gateway = Gateway([site.profile("/scepserver", **ca), old]).start()
    yield gateway
    gateway.stop()


@pytest.mark.parametrize("cipher, digest", [("aes128", "sha256"), ("des3", "sha1"), ("aes256", "sha512")])
def test_device_against_scepserver(site, scepserver_gateway, devices, cipher, digest):
    (message,) = devices(scepserver_gateway.profiles[0], own_key=True, cipher=cipher, digest=digest)
    answer = message.post(scepserver_gateway.port)
    opened = check.success(message, answer, cipher, digest)
    (notification,) = site.microsoft.bodies("success")
    assert notification["certificateSerialNumber"] == opened["serial"].upper()
    scepserver_gateway.check_log()


def test_transaction_id_that_go_writes_otherwise(site, scepserver_gateway, devices):
    """With "*" or "&" in it, scepserver answers with a UTF8String in place of the PrintableString."""
    (message,) = devices(scepserver_gateway.profiles[0], own_key=True, transaction="a*b&c")
    check.success(message, message.post(scepserver_gateway.port))
    scepserver_gateway.check_log()


def test_scepclient_against_scepserver(site, scepserver_gateway, scratch):
    if shutil.which("scepclient") is None:
        pytest.skip("scepclient is missing: install Debian's package scep")
    profile = scepserver_gateway.profiles[1]
    url = f"http://127.0.0.1:{scepserver_gateway.port}{profile.path}"
    challenge = site.microsoft.challenge(profile.tenant)
    done = subprocess.run(["scepclient", "-server-url", url, "-challenge", challenge, "-cn", "scepclient-1",
                           "-private-key", scratch / "key.pem", "-certificate", scratch / "cert.pem"],
                          cwd=scratch, capture_output=True, text=True, timeout=60 * place.SLOWNESS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    certificate = x509.load_pem_x509_certificate((scratch / "cert.pem").read_bytes())
    (notification,) = site.microsoft.bodies("success")
    assert int(notification["certificateSerialNumber"], 16) == certificate.serial_number
    scepserver_gateway.check_log()
