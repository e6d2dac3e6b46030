# SPDX-License-Identifier: Apache-2.0
"""What a SCEP message may ask and who may ask it: inquiries, revoked signers, key sizes, the RA's certificates."""
import datetime
import os
import pathlib
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

from harness import check, client, pki, place
from harness.gateway import Gateway


def profiles(site):
    return [site.profile("/scep")]


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


def enrol(gateway, devices, profile, **options):
    (message,) = devices(profile, **options)
    return message, check.success(message, message.post(gateway.port))


def holder(message, opened):
    """The options by which a device signs with the certificate that it got."""
    certificate = message.directory / "own.pem"
    certificate.write_text(opened["certificate"])
    return {"signer_cert": certificate, "signer_key": message.key}


def ask(devices, profile, kind, serial, signer):
    (message,) = devices(profile, challenge=False, type=kind, serial=serial, **signer)
    return message


def no_intune(site):
    assert not [call for call in site.microsoft.calls() if call["service"] in ("validate", "success", "failure")]


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def inner(message, answer, signer):
    """The degenerate SignedData in an answer, by the openssl command."""
    files = [message.directory / f"answer.{part}" for part in ("der", "envelope", "inner")]
    files[0].write_bytes(answer.body)
    openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", files[0], "-out", files[1], "-binary")
    openssl("cms", "-decrypt", "-inform", "DER", "-in", files[1], "-recip", signer["signer_cert"], "-inkey",
            signer["signer_key"], "-out", files[2], "-binary")
    return files[2]


# GetCert and GetCRL

def test_get_cert(site, gateway, profile, devices):
    first, opened = enrol(gateway, devices, profile, own_key=True)
    signer = holder(first, opened)
    other, wanted = enrol(gateway, devices, profile)
    site.microsoft.reset()
    message = ask(devices, profile, 21, wanted["serial"], signer)
    answer = message.post(gateway.port)
    found = check.certrep(message, answer)
    assert found["status"] == 0 and found["inner_certificates"] == 1 and found["verifies"]
    assert found["certificate"] == wanted["certificate"]
    no_intune(site)
    request = site.ca.requests()[-1]
    assert (request["message_type"], request["transaction_id"]) == ("21", message.transaction)
    assert request["outcome"] == "answered"
    ra = x509.load_pem_x509_certificate(profile.ra_certificate.read_bytes())
    assert int(request["signer_serial"], 16) == ra.serial_number
    assert gateway.wait_log(rf"ISCEP0200: \[{message.transaction}\].*{wanted['serial']}")


def test_get_crl(site, gateway, profile, devices):
    first, opened = enrol(gateway, devices, profile, own_key=True)
    signer = holder(first, opened)
    site.microsoft.reset()
    message = ask(devices, profile, 22, opened["serial"], signer)
    answer = message.post(gateway.port)
    assert answer.status == 200 and "no-store" in answer.headers["cache-control"]
    found = inner(message, answer, signer)
    text = subprocess.run(["openssl", "pkcs7", "-inform", "DER", "-in", str(found), "-print_certs"], check=True,
                          capture_output=True, text=True).stdout
    assert text.count("BEGIN X509 CRL") == 1 and "BEGIN CERTIFICATE" not in text
    crl = x509.load_pem_x509_crl(text[text.index("-----BEGIN X509 CRL"):].encode())
    assert crl.is_signature_valid(x509.load_pem_x509_certificate(site.authority.certificate.read_bytes()).public_key())
    no_intune(site)
    assert site.ca.requests()[-1]["message_type"] == "22"


def test_the_cas_refusal_of_an_inquiry(site, gateway, profile, devices):
    first, opened = enrol(gateway, devices, profile, own_key=True)
    site.microsoft.reset()
    message = ask(devices, profile, 21, "77", holder(first, opened))
    check.failure(message, message.post(gateway.port), 4)
    check.final_line(gateway, 1204, message)
    no_intune(site)


@pytest.mark.parametrize("kind, mode, problem", [(21, "wrong_key", 1230), (22, "foreign_issuer", 1210),
                                                 (21, "other_transaction", 1208), (22, "foreign_signer", 1207)])
def test_wrong_answers_to_inquiries(site, gateway, profile, devices, kind, mode, problem):
    first, opened = enrol(gateway, devices, profile, own_key=True)
    site.microsoft.reset()
    site.ca.control(mode)
    message = ask(devices, profile, kind, opened["serial"], holder(first, opened))
    check.unavailable(message.post(gateway.port), 502)
    check.final_line(gateway, problem, message)
    no_intune(site)


@pytest.mark.parametrize("kind", [21, 22])
def test_inquiries_of_strangers(site, gateway, profile, devices, kind):
    """Self-signed, as a PKCSReq may be: the gateway lends its name to nobody."""
    (message,) = devices(profile, challenge=False, type=kind)
    check.failure(message, message.post(gateway.port), 1)
    check.final_line(gateway, 1013, message)
    check.all_untouched(site)


def test_inquiry_when_the_ca_is_down(site, start_gateway, devices, gateway, profile):
    from harness import system
    first, opened = enrol(gateway, devices, profile, own_key=True)
    site.microsoft.reset()
    down = start_gateway([site.profile("/scep", backend=f"http://127.0.0.1:{system.free_port()}/ca")])
    down.allow_log(r"\[proxy")
    message = ask(devices, down.profiles[0], 21, opened["serial"], holder(first, opened))
    check.unavailable(message.post(down.port))
    check.final_line(down, 1200, message)
    no_intune(site)


# revoked signers

class List:
    """The CA's revocation list in a file."""

    def __init__(self, site, path):
        self.site, self.path = site, path
        self.write()

    def write(self, serials=(), days=1):
        now = datetime.datetime.utcnow()
        ca = x509.load_pem_x509_certificate(self.site.authority.certificate.read_bytes())
        builder = (x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
                   .last_update(now - datetime.timedelta(days=10)).next_update(now + datetime.timedelta(days=days)))
        for serial in serials:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
                                                      .revocation_date(now - datetime.timedelta(days=2)).build())
        key = load_pem_private_key(self.site.authority.key.read_bytes(), None)
        fresh = self.path.with_suffix(".fresh")
        fresh.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pki.for_server(fresh)
        os.replace(fresh, self.path)


def test_revoked_signers(site, start_gateway, devices, scratch):
    revocations = List(site, scratch / "crl.pem")
    gateway = start_gateway([site.profile("/scep", CRL=revocations.path)])
    profile = gateway.profiles[0]
    first, opened = enrol(gateway, devices, profile, own_key=True)
    signer = holder(first, opened)

    def renew():
        (message,) = devices(profile, type=17, own_key=True, **signer)
        return message, message.post(gateway.port)
    check.success(*renew())
    revocations.write([opened["serial"]])
    message, answer = renew()
    check.failure(message, answer, 1)
    check.final_line(gateway, 1013, message, "is revoked")
    before = len(site.ca.requests())
    for kind in (21, 22):
        message = ask(devices, profile, kind, opened["serial"], signer)
        check.failure(message, message.post(gateway.port), 1)
        check.final_line(gateway, 1013, message, "is revoked")
    assert len(site.ca.requests()) == before
    revocations.write(["1234"], days=-1)
    message, answer = renew()
    check.unavailable(answer)
    check.final_line(gateway, 1032, message, "expired", "IntuneScepCRL")
    enrol(gateway, devices, profile)
    revocations.write(["1234"])
    check.success(*renew())


SIGNERS = ("valid", "expired", "revoked", "foreign")


@pytest.fixture(scope="module")
def renewals(site, tmp_path_factory):
    """A gateway with a revocation list, and certificates with their keys, by what is wrong with them."""
    directory = tmp_path_factory.mktemp("renewals")
    for above in (directory, *directory.parents[:3]):
        above.chmod(0o755)
    signers = {"valid": site.authority.issue("valid-signer"), "revoked": site.authority.issue("revoked-signer"),
               "expired": site.authority.issue("expired-signer", start="20200101000000Z", end="20210101000000Z"),
               "foreign": pki.Authority(directory / "foreign", "Foreign CA").issue("foreign-signer")}
    revocations = List(site, directory / "crl.pem")
    revoked = x509.load_pem_x509_certificate(signers["revoked"][0].read_bytes())
    revocations.write([f"{revoked.serial_number:x}"])
    gateway = Gateway([site.profile("/renewals", CRL=revocations.path)]).start()
    yield gateway, signers
    gateway.stop()


@pytest.mark.parametrize("challenge", [True, False], ids=["with a challenge", "without"])
@pytest.mark.parametrize("signer", SIGNERS)
def test_renewal(site, renewals, devices, signer, challenge):
    """A RenewalReq is served where a certificate of ours that counts has signed it and Intune knows of it."""
    gateway, signers = renewals
    certificate, key = signers[signer]
    (message,) = devices(gateway.profiles[0], type=17, own_key=True, challenge=challenge, signer_cert=certificate,
                         signer_key=key)
    answer = message.post(gateway.port)
    if signer == "valid" and challenge:
        check.reported(site, message, check.success(message, answer), answer)
    elif signer == "valid":
        check.failure(message, answer, 2)
        check.final_line(gateway, 1014, message)
    else:
        words = {"expired": "has expired on", "revoked": "is revoked", "foreign": "is not signed by"}[signer]
        check.failure(message, answer, 1)
        check.final_line(gateway, 1013, message, words)
    if not (signer == "valid" and challenge):
        check.all_untouched(site)
    gateway.check_log()


def test_expired_list_at_start(site, start_gateway, devices, scratch):
    revocations = List(site, scratch / "crl.pem")
    revocations.write(days=-1)
    gateway = Gateway([site.profile("/scep", CRL=revocations.path)])
    gateway.expect_log("ISCEP0521")
    gateway.start()
    try:
        enrol(gateway, devices, gateway.profiles[0])
    finally:
        gateway.stop()


def refused_at_start(gateway, *words):
    gateway.write_config()
    tested = gateway.run_tool("-t")
    text = tested.stderr + gateway.output()
    shutil.rmtree(gateway.root)
    assert tested.returncode != 0, text
    for word in words:
        assert word in text, text


def test_a_list_of_another_ca(site, scratch):
    stranger = pki.Authority(scratch / "stranger", "Stranger CA")
    revocations = List(type("Other", (), {"authority": stranger}), scratch / "crl.pem")
    gateway = Gateway([site.profile("/scep", CRL=revocations.path)])
    refused_at_start(gateway, "IntuneScepCRL", "not in the configured chain")


# keys

@pytest.mark.parametrize("least, bits, good", [(1024, 1024, True), (3072, 2048, False), (3072, 3072, True)])
def test_least_key_size(site, start_gateway, devices, least, bits, good):
    gateway = start_gateway([site.profile("/scep", MinKeySize=least)])
    (message,) = devices(gateway.profiles[0], own_key=True, bits=bits)
    answer = message.post(gateway.port)
    if good:
        check.success(message, answer)
        return
    check.failure(message, answer, 0)
    check.final_line(gateway, 1017, message, "IntuneScepMinKeySize")
    check.all_untouched(site)


def test_elliptic_key(site, gateway, profile, devices, scratch):
    """The message of a device with an EC key is answered with the reason."""
    key, request, certificate = (scratch / name for name in ("ec.key", "ec.csr", "ec.pem"))
    pki.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    pki.openssl("req", "-new", "-key", key, "-subj", "/CN=ec", "-out", request, "-outform", "DER")
    pki.openssl("req", "-x509", "-key", key, "-subj", "/CN=ec", "-days", 1, "-out", certificate)
    (message,) = devices(profile, challenge=False, csr=request, key=key, signer_cert=certificate, signer_key=key)
    opened = check.failure(message, message.post(gateway.port), 0)
    assert "RSA key is needed to decrypt" in opened["fail_info_text"]
    check.final_line(gateway, 1031, message)
    check.all_untouched(site)


# the RA's certificates

SIGNS = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")
DECRYPTS = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,keyEncipherment")


@pytest.fixture(scope="module")
def two_certificates(site):
    return site.authority.issue("ra-signs", SIGNS), site.authority.issue("ra-decrypts", DECRYPTS)


def test_ra_with_two_certificates(site, start_gateway, devices, two_certificates):
    signing, encryption = two_certificates
    gateway = start_gateway([site.profile("/scep", ra=signing, RAEncryptionCertificate=encryption[0],
                                          RAEncryptionKey=encryption[1])])
    profile = gateway.profiles[0]
    answer = client.request(gateway.port, "GET", "/scep?operation=GetCACert")
    assert answer.headers["content-type"] == "application/x-x509-ca-ra-cert"
    found = {certificate.serial_number for certificate in pkcs7.load_der_pkcs7_certificates(answer.body)}
    wanted = (signing[0], encryption[0], site.authority.certificate)
    assert found == {x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in wanted}
    profile.ra_certificate = encryption[0]
    (message,) = devices(profile, recipients=signing[0])
    profile.ra_certificate = signing[0]
    opened = check.success(message, message.post(gateway.port))
    assert opened["signer_is_ra"]
    (message,) = devices(profile)  # to the certificate that only signs
    check.failure(message, message.post(gateway.port), 1)
    check.final_line(gateway, 1012, message)


@pytest.mark.parametrize("swap", ["usage of signing", "usage of encryption", "key of the other", "no key"])
def test_two_certificates_that_do_not_fit(site, two_certificates, swap):
    signing, encryption = two_certificates
    if swap == "usage of signing":
        signing, words = encryption, ("IntuneScepRACertificate", "digitalSignature")
    elif swap == "usage of encryption":
        encryption, words = signing, ("IntuneScepRAEncryptionCertificate", "keyEncipherment")
    elif swap == "key of the other":
        encryption, words = (encryption[0], signing[1]), ("IntuneScepRAEncryptionKey", "does not belong")
    else:
        encryption, words = (encryption[0], None), ("IntuneScepRAEncryptionCertificate", "RAEncryptionKey is missing")
    refused_at_start(Gateway([site.profile("/scep", ra=signing, RAEncryptionCertificate=encryption[0],
                                           RAEncryptionKey=encryption[1])]), *words)


def test_ra_and_ca_in_one(site, devices, scratch):
    """One certificate, published alone; that its key usage is a CA's stops nothing, but is said."""
    key, certificate = scratch / "both.key", scratch / "both.pem"
    pki.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 365, "-subj", "/CN=Both", "-keyout", key,
                "-out", certificate, "-config", "/dev/stdin", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", text="[req]\ndistinguished_name=dn\n[dn]\n")
    pki.for_server(key)
    profile = site.profile("/scep", ra=(certificate, key), CAChain=certificate)
    gateway = Gateway([profile])
    gateway.expect_log("ISCEP0520.*IntuneScepRACertificate.*Windows")
    gateway.start()
    try:
        answer = client.request(gateway.port, "GET", "/scep?operation=GetCACert")
        assert answer.headers["content-type"] == "application/x-x509-ca-cert"
        assert x509.load_der_x509_certificate(answer.body).subject.rfc4514_string() == "CN=Both"
        gateway.allow_log("ISCEP10")
        (message,) = devices(profile, challenge=False)
        check.failure(message, message.post(gateway.port), 2)
    finally:
        gateway.stop()


@pytest.mark.parametrize("directive", ["RAEncryptionKey", "RAFormerCertificate"])
@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660], ids=oct)
def test_other_keys_open_to_others(site, two_certificates, scratch, directive, mode):
    signing, encryption = two_certificates
    key = pki.for_server(pathlib.Path(shutil.copy(encryption[1], scratch / "other.key")), mode)
    others = {"RAEncryptionKey": {"RAEncryptionCertificate": encryption[0], "RAEncryptionKey": key},
              "RAFormerCertificate": {"RAFormerCertificate": f'"{encryption[0]}" "{key}"'}}[directive]
    refused_at_start(Gateway([site.profile("/scep", ra=signing if directive == "RAEncryptionKey" else None, **others)]),
                     f"IntuneScep{directive}", str(key))


# long request lines

@pytest.mark.parametrize("before, after, line, warned", [
    ("", "LimitRequestLine 16383\n", None, True),
    ("", "LimitRequestLine 16384\n", None, False),
    ("", "<VirtualHost *:{port}>\nServerName first\nLimitRequestLine 8190\n</VirtualHost>\n"
     "<VirtualHost *:{port}>\nServerName second\n{profile}</VirtualHost>\n", "ServerName first", True),
    ("", "<VirtualHost *:{port}>\nServerName first\n{profile}</VirtualHost>\n"
     "<VirtualHost *:{port}>\nServerName second\nLimitRequestLine 8190\n</VirtualHost>\n", None, False),
], ids=["too short", "long enough", "first of the address", "second of the address"])
def test_limit_of_the_request_line(site, before, after, line, warned):
    profile = site.profile("/scep")
    in_host = "{profile}" in after
    gateway = Gateway([] if in_host else [profile], before=before)
    gateway.after_text = after.replace("{port}", str(gateway.port)).replace("{profile}", profile.config())
    gateway.write_config()
    tested = gateway.run_tool("-t")
    text = tested.stderr + gateway.output()
    config = gateway.config_file.read_text().splitlines()
    shutil.rmtree(gateway.root)
    assert tested.returncode == 0, text
    assert ("ISCEP0522" in text) == warned, text
    if line:
        assert f"line {config.index(line)}, the first" in text, text


@pytest.mark.parametrize("name", ["minimal.conf", "reference.conf", "demo/gateway.conf.in"])
def test_shipped_request_lines(name):
    assert "\nLimitRequestLine 65534\n" in pathlib.Path(place.TREE / "conf" / name).read_text()
