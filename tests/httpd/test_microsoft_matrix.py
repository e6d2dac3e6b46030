# SPDX-License-Identifier: Apache-2.0
"""
Microsoft's test matrix for gateways such as this, as far as the gateway has a part in it: subjects, alternative
names, key usages, extended key usages, key sizes and digests pass unchanged from the device to Intune and the CA, and
Intune's own comparison decides.

Elsewhere: renewal, GET and POST in test_enrol.py; HTTP 500 on validation and on the success notification, every
refusal and the wrong application key in test_intune_faults.py; the validity that is reported in check.reported().
"""
import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import AttributeOID, NameOID

from harness import check, microsoft, pki

CLIENT, IPSEC_TUNNEL, EMAIL = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.6", "1.3.6.1.5.5.7.3.4"
SMARTCARD = "1.3.6.1.4.1.311.20.2.2"
SID = "uri:tag:microsoft.com,2022-09-14:sid:S-1-5-21-3623811015-3361044348-30300820-1013"
UPN, MAIL = "upn:user@contoso.example", "email:user@contoso.example"

# name: (options of the device, properties that the profile expects, properties that it expects in vain, Intune's code)
SUBJECTS = {
    "common name": "/CN=user",
    "common name and e-mail": "/CN=user/emailAddress=user@contoso.example",
    "common name as e-mail": "/CN=user@contoso.example",
    "IMEI": "/CN=356938035643809",
    "serial number": "/serialNumber=C02XK1ZZJGH6",
    "custom": "/C=DE/ST=Bayern/L=München/O=Müller & Söhne, GmbH/OU=Zelle 7/CN=工場-7 \\/ Ω",
    "device and account": "/CN=0f3a9a34-93a4-4d4f-8f7c-30b1a5c3c9ab/OU=AAD_9d3c/OU=S-1-5-21-1-2-3-1013",
    "repeated attributes": "/DC=example/DC=contoso/OU=one/OU=two/CN=user",
}
NAMES = {
    "e-mail": [MAIL],
    "UPN": [UPN],
    "e-mail and UPN": [MAIL, UPN],
    "DNS": ["dns:device-7.contoso.example"],
    "SID tag": [SID],
    "SID tag and UPN": [SID, UPN],
    "URI with IMEI": ["uri:IMEI:356938035643809"],
    "UPN beyond ASCII": ["upn:jürgen.müller@contoso.example"],
    "all": [MAIL, UPN, "dns:device-7.contoso.example", SID, "uri:https://contoso.example/device?id=7&x=%C3%BC"],
}
USAGES = {
    "digital signature": ["digitalSignature"],
    "key encipherment": ["keyEncipherment"],
    "both": ["digitalSignature", "keyEncipherment"],
    "with non-repudiation": ["digitalSignature", "nonRepudiation"],
}
EXTENDED = {
    "client authentication": [CLIENT],
    "IPsec tunnel": [IPSEC_TUNNEL],
    "client authentication and IPsec tunnel": [CLIENT, IPSEC_TUNNEL],
    "smart card and e-mail": [SMARTCARD, EMAIL, CLIENT],
    "one of the customer's": [CLIENT, "1.3.6.1.4.1.55555.1.2.3"],
}


def profiles(site):
    return [site.profile("/scep")]


def cases():
    """name -> (options, expected, expected in vain, code)"""
    made = {}
    for name, subject in SUBJECTS.items():
        made[f"subject: {name}"] = ({"subject": subject}, {"subject": subject}, {"subject": subject + "x"},
                                    "SubjectNameMismatch")
    for name, names in NAMES.items():
        made[f"SAN: {name}"] = ({"san": names}, {"san": names}, {"san": names[:-1] + [names[-1] + "x"]},
                                "SubjectAltNameMismatch")
    for name, usages in USAGES.items():
        made[f"key usage: {name}"] = ({"key_usage": ",".join(usages)}, {"key_usage": usages},
                                      {"key_usage": ["keyAgreement"]}, "KeyUsageMismatch")
    for name, oids in EXTENDED.items():
        made[f"EKU: {name}"] = ({"eku": ",".join(oids)}, {"eku": oids}, {"eku": [*oids, "1.3.6.1.5.5.7.3.1"]},
                                "EnhancedKeyUsageMismatch")
    made["all at once"] = ({"subject": SUBJECTS["custom"], "san": NAMES["all"],
                            "key_usage": ",".join(USAGES["both"]), "eku": f"{CLIENT},{IPSEC_TUNNEL}"},
                           {"subject": SUBJECTS["custom"], "san": NAMES["all"], "key_usage": USAGES["both"],
                            "eku": [CLIENT, IPSEC_TUNNEL], "key_bits": 2048},
                           {"san": NAMES["all"][1:]}, "SubjectAltNameMismatch")
    return made


CASES = cases()


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


def asked_of(message):
    """The device's CSR."""
    return x509.load_der_x509_csr(base64.b64decode(message.csr))


def extension(holder, kind):
    """The DER of an extension, None without."""
    try:
        return holder.extensions.get_extension_for_class(kind).value.public_bytes()
    except x509.ExtensionNotFound:
        return None


def issued_as_asked(message, opened):
    """Subject, names and usages of the certificate are those of the CSR (this CA copies them)."""
    csr, certificate = asked_of(message), x509.load_pem_x509_certificate(opened["certificate"].encode())
    assert certificate.subject.public_bytes() == csr.subject.public_bytes()
    for kind in (x509.SubjectAlternativeName, x509.KeyUsage, x509.ExtendedKeyUsage):
        assert extension(certificate, kind) == extension(csr, kind)


def enrolled(site, gateway, message):
    """Issued, reported, and byte for byte the device's CSR at Intune and at the CA."""
    answer = message.post(gateway.port)
    opened = check.success(message, answer)
    check.reported(site, message, opened, answer)
    (request,) = site.ca.requests()
    (asked,) = site.microsoft.bodies("validate")
    assert request["csr_base64"] == asked["certificateRequest"] == message.csr
    issued_as_asked(message, opened)
    return opened


@pytest.mark.parametrize("name", CASES)
def test_passes_unchanged(site, gateway, profile, devices, name):
    options, expected, _, _ = CASES[name]
    challenge = site.microsoft.challenge(profile.tenant, **expected)
    (message,) = devices(profile, challenge=challenge, **options)
    enrolled(site, gateway, message)


@pytest.mark.parametrize("name", CASES)
def test_intune_compares(site, gateway, profile, devices, name):
    """Another property than the profile's: Intune says so, the log names its code, the device gets no certificate."""
    options, _, wrong, code = CASES[name]
    challenge = site.microsoft.challenge(profile.tenant, **wrong)
    (message,) = devices(profile, challenge=challenge, **options)
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1100, message, code)
    (call,) = site.microsoft.calls("validate")
    assert call["code"] == code and microsoft.body_of(call)["certificateRequest"] == message.csr
    check.ca_untouched(site)
    check.never_reported(site)


DIGESTS = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


def csr_with_digest(site, path, challenge, digest):
    """A CSR of the shared device key that is signed with this digest; the device tool's own are signed with SHA-256."""
    key = serialization.load_pem_private_key(site.device_key.read_bytes(), None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hash")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = csr.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode()).sign(key, digest)
    path.write_bytes(csr.public_bytes(serialization.Encoding.DER))
    return path


@pytest.mark.filterwarnings("ignore:SHA1 signatures")
@pytest.mark.parametrize("message_digest", ["sha1", "sha256"])
@pytest.mark.parametrize("csr_digest", DIGESTS)
def test_digest(site, gateway, profile, devices, scratch, csr_digest, message_digest):
    """The CSR's digest and the message's have nothing to do with each other; the device gets the message's back."""
    challenge = site.microsoft.challenge(profile.tenant, subject="/CN=hash", key_bits=2048)
    path = csr_with_digest(site, scratch / "csr.der", challenge, DIGESTS[csr_digest])
    (message,) = devices(profile, challenge=False, csr=path, digest=message_digest)
    assert base64.b64decode(message.csr) == path.read_bytes()
    assert isinstance(asked_of(message).signature_hash_algorithm, type(DIGESTS[csr_digest]))
    assert enrolled(site, gateway, message)["digest"] == message_digest


@pytest.fixture(scope="module")
def keys(site):
    """Keys of Microsoft's sizes, made once."""
    made = {}
    for bits in (1024, 4096):
        made[bits] = site.directory / f"microsoft-{bits}.key"
        pki.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out", made[bits])
    return made


def test_4096_bits(site, gateway, profile, devices, keys):
    challenge = site.microsoft.challenge(profile.tenant, key_bits=4096)
    (message,) = devices(profile, challenge=challenge, key=keys[4096])
    opened = enrolled(site, gateway, message)
    assert x509.load_pem_x509_certificate(opened["certificate"].encode()).public_key().key_size == 4096


def test_4096_bits_where_2048_are_expected(site, gateway, profile, devices, keys):
    challenge = site.microsoft.challenge(profile.tenant, key_bits=2048)
    (message,) = devices(profile, challenge=challenge, key=keys[4096])
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1100, message, "KeyLengthMismatch")
    check.ca_untouched(site)


def test_1024_bits(site, gateway, profile, devices, keys):
    """Refused before Intune is asked, even where the profile expects it."""
    challenge = site.microsoft.challenge(profile.tenant, key_bits=1024)
    (message,) = devices(profile, challenge=challenge, key=keys[1024])
    opened = check.certrep(message, message.post(gateway.port))
    assert opened["status"] == 2 and opened["fail_info"] in (0, 2) and not opened["certificate"]
    check.final_line(gateway, 1017, message)
    check.all_untouched(site)


def test_property_that_is_missing(site, gateway, profile, devices):
    """A profile with names and usages, a CSR without: Intune's codes for what is missing."""
    for wrong, code in (({"san": [UPN]}, "SubjectAltNameMissing"), ({"eku": [CLIENT]}, "EnhancedKeyUsageMissing")):
        challenge = site.microsoft.challenge(profile.tenant, **wrong)
        (message,) = devices(profile, challenge=challenge)
        check.failure(message, message.post(gateway.port), 2)
        check.final_line(gateway, 1100, message, code)
    check.ca_untouched(site)
    check.never_reported(site)
