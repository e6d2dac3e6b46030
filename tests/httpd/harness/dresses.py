# SPDX-License-Identifier: Apache-2.0
"""
Our own device in the dress of those that cannot run here: the order of their requests, their paths, headers and ways of
escaping, and what they insist on in the answers.
"""
import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from . import client
from .device import MESSAGE_TYPE

CA_TYPES = ("application/x-x509-ca-cert", "application/x-x509-ca-ra-cert")


def _ask(port, target, agent):
    answer = client.request(port, "GET", target, headers={"User-Agent": agent})
    assert answer.status == 200, f"{target}: {answer.status} {answer.text[:200]}"
    return answer


def _ra_of(answer):
    """The RA certificate by its key usage, as devices pick it among those of GetCACert."""
    assert answer.headers["content-type"] == "application/x-x509-ca-ra-cert"
    found = []
    for certificate in pkcs7.load_der_pkcs7_certificates(answer.body):
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if usage.digital_signature and usage.key_encipherment and not usage.key_cert_sign:
            found.append(certificate)
    assert len(found) == 1, "not one certificate of GetCACert has an RA's key usage"
    return found[0]


def _is_the_ra(profile, answer):
    assert _ra_of(answer) == x509.load_pem_x509_certificate(profile.ra_certificate.read_bytes())


class Plain:
    """The device as it comes: what RFC 8894 says, nothing more."""

    agent = "device"

    def options(self, cell):
        return {"cipher": cell.cipher, "digest": cell.digest}

    def prepare(self, port, profile, cell):
        """What the device asks before it enrols."""

    def post(self, port, profile, message):
        return message.post(port)

    def get(self, port, profile, message):
        return message.get(port)


class Windows(Plain):
    """GetCACaps, GetCACert, a POST to …/pkiclient.exe; RSAES-OAEP; a critical AuthorityKeyIdentifier in the signer."""

    agent = "Mozilla/4.0 (compatible; Win32; NDES client 10.0.22621.1/ni_release)"

    def options(self, cell):
        return {**super().options(cell), "oaep": True, "critical_aki": True}

    def prepare(self, port, profile, cell):
        base = f"{profile.path}/certsrv/mscep/mscep.dll/pkiclient.exe"
        words = _ask(port, f"{base}?operation=GetCACaps&message=default", self.agent).text.split()
        assert "POSTPKIOperation" in words
        _is_the_ra(profile, _ask(port, f"{base}?operation=GetCACert&message=default", self.agent))

    def post(self, port, profile, message):
        target = f"{profile.path}/certsrv/mscep/mscep.dll/pkiclient.exe?operation=PKIOperation"
        return client.request(port, "POST", target, message.der, {**MESSAGE_TYPE, "User-Agent": self.agent})


class Apple(Plain):
    """GetCACert before GetCACaps, which must have `Renewal` and `POSTPKIOperation`; a GET leaves `+` and `/` alone."""

    agent = "mdmclient/2300 CFNetwork/1490 Darwin/23.0.0"

    def prepare(self, port, profile, cell):
        _is_the_ra(profile, _ask(port, f"{profile.path}?operation=GetCACert&message=SCEP%20Authority", self.agent))
        words = _ask(port, f"{profile.path}?operation=GetCACaps&message=SCEP%20Authority", self.agent).text.split()
        assert "Renewal" in words and "POSTPKIOperation" in words

    def post(self, port, profile, message):
        target = f"{profile.path}?operation=PKIOperation"
        return client.request(port, "POST", target, message.der, {**MESSAGE_TYPE, "User-Agent": self.agent})

    def get(self, port, profile, message):
        text = base64.b64encode(message.der).decode()
        assert "+" in text and "/" in text
        return client.raw_get(port, f"{profile.path}?operation=PKIOperation&message={text}")


class Android(Plain):
    """
    jscep: content types exactly as the RFC has them, the strongest algorithms of GetCACaps, single DES where neither
    AES nor DES3 is in it; base64 goes raw into a GET; the transactionID is 40 hex characters.
    """

    agent = "Java/17.0.2"

    def prepare(self, port, profile, cell):
        answer = _ask(port, f"{profile.path}?operation=GetCACaps", self.agent)
        assert answer.headers["content-type"] == "text/plain"
        words = answer.text.split()
        cipher = "aes128" if "AES" in words else "des3" if "DES3" in words else "des"
        digest = next((word for word in ("SHA-512", "SHA-256", "SHA-1") if word in words), "MD5")
        if cell.note != "not its own choice":
            assert (cipher, digest.replace("-", "").lower()) == (cell.cipher, cell.digest), words
        answer = _ask(port, f"{profile.path}?operation=GetCACert", self.agent)
        assert answer.headers["content-type"] in CA_TYPES
        _is_the_ra(profile, answer)

    def get(self, port, profile, message):
        assert len(message.transaction) == 40 and int(message.transaction, 16) >= 0
        text = base64.b64encode(message.der).decode()
        return client.raw_get(port, f"{profile.path}?operation=PKIOperation&message={text}")


class Mac(Apple):
    """The same of macOS; its messages come in BER, with indefinite lengths and strings in pieces."""

    agent = "mdmclient/1070 CFNetwork/1490 Darwin/23.0.0 (x86_64)"

    def options(self, cell):
        return {**super().options(cell), "ber": True}


DRESSES = {"own device": Plain(), "as Windows": Windows(), "as iOS": Apple(), "as macOS": Mac(), "as Android": Android()}
