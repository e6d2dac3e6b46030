# SPDX-License-Identifier: Apache-2.0
"""
Thousands of changed messages of each type, changed on the outside, under a good signature, and under a good
encryption: no crash, the right class of answer, and nothing at Intune and the CA unless the CSR is still the one that
the device signed. 600 of each by default (300 under a signature), 10,000 with ISCEP_LONG=1.
"""
import base64
import collections
import http.client
import random
import re
import threading
import urllib.parse

import pytest
from cryptography import x509

from harness import check, handmade, load, matrix, place

OPTIONS = {"server": "MaxKeepAliveRequests 0\nKeepAliveTimeout 60\n"}
OUTSIDE, INSIDE = (10000, 10000) if matrix.LONG else (600, 300)
WORKERS = 4
STATUS = re.compile(rb"\x06\x0a\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x03\x31\x03\x13\x01(.)", re.DOTALL)
TARGET = "/scep?operation=PKIOperation"
CRASH_WORDS = "exit signal|Segmentation|Sanitizer|runtime error"


def profiles(site):
    return [site.profile("/scep")]


# how a message is changed

def flip_bit(source, der, at):
    der[at] ^= 1 << source.randrange(8)


def set_byte(source, der, at):
    der[at] = source.randrange(256)


def cut_out(source, der, at):
    del der[at:at + source.randrange(1, 64)]


def put_in(source, der, at):
    der[at:at] = source.randbytes(source.randrange(1, 64))


def cut_off(source, der, at):
    del der[at:]


def double(source, der, at):
    der[at:at] = der[at:at + source.randrange(1, 256)]


LENGTHS = (b"\x80", b"\x84\xff\xff\xff\xff", b"\x84\x7f\xff\xff\xff", b"\x82\xff\xff", b"\x00", b"\xff")


def set_length(source, der, at):
    der[at:at + 2] = source.choice(LENGTHS)


def set_tag(source, der, at):
    der[at] = source.choice((0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x24, 0x30, 0x31, 0x80, 0xa0, 0xa1, 0xa3))


CHANGES = (flip_bit, set_byte, cut_out, put_in, cut_off, double, set_length, set_tag)


def mutate(source, good):
    """One to three random changes, which do change something."""
    der = bytearray(good)
    while der == good:
        for _ in range(source.choice((1, 1, 1, 2, 3))):
            if der:
                source.choice(CHANGES)(source, der, source.randrange(len(der)))
    return bytes(der)


def mutate_text(source, good):
    """The same for the base64 text of a GET: half of the time the message within, else the text itself."""
    if source.random() < 0.5:
        return base64.b64encode(mutate(source, base64.b64decode(good)))
    return mutate(source, good)


# sending

class Sender:
    """A connection for each thread, which the server must not close unless its answer says so."""

    def __init__(self, port):
        self.port, self.own = port, threading.local()

    def send(self, method, target, body=None):
        """Status and body of the answer."""
        connection = getattr(self.own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * place.SLOWNESS)
            self.own.connection = connection
        connection.request(method, target, body, {"Content-Type": "application/x-pki-message"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()


def classify(status, body):
    """"400", "CertRep 2" …: the class of an answer."""
    if status != 200:
        return str(status)
    found = STATUS.search(body)
    return f"CertRep {found[1].decode()}" if found else "garbage"


def storm(site, gateway, mutants):
    """Sends all (method, target, body); asserts what holds for any of them; the classes and how many of each."""
    before, sender = set(gateway.children()), Sender(gateway.port)
    gateway.allow_log(r"ISCEP1\d\d\d: ")
    results = load.Stream(WORKERS, mutants, lambda mutant: classify(*sender.send(*mutant))).start()
    for thread in results.threads:
        thread.join()
    classes = collections.Counter()
    for mutant, outcome in results.results:
        assert isinstance(outcome, str), f"{mutant[0]} {mutant[1][:60]} {(mutant[2] or b'').hex()}: {outcome!r}"
        classes[outcome] += 1
    print(dict(classes))
    assert set(gateway.children()) == before, "a child of httpd ended"
    assert not gateway.lines(CRASH_WORDS)
    assert set(classes) <= {"400", "413", "CertRep 0", "CertRep 2"}, classes
    assert site.microsoft.calls("failure") == []
    return classes


def signed_part(csr):
    """The CertificationRequestInfo of a CSR: the first element in it (both are over 255 bytes long)."""
    der = base64.b64decode(csr)
    return der[4:8 + int.from_bytes(der[6:8], "big")]


def only_the_true_csr(site, csr, classes):
    """
    What reached Intune is what reached the CA, once for each transaction, and what the device signed of its
    CSR is in it to the byte. (Where the CSR is changed under the encryption, other parameters of the algorithm may pass,
    which no signature covers.) Returns whether it was the whole CSR to the byte.
    """
    validated = [body["certificateRequest"] for body in site.microsoft.bodies("validate")]
    asked = [request["csr_base64"] for request in site.ca.requests()]
    assert sorted(validated) == sorted(asked)
    # a change that no signature covers makes a retransmission, which gets the certificate of its transaction
    assert len(asked) == len(site.microsoft.bodies("success")) == len(set(map(signed_part, asked))) <= classes["CertRep 0"]
    assert {signed_part(passed) for passed in asked} <= {signed_part(csr)}
    return set(asked) <= {csr}


def posts(good, count, seed, change=mutate):
    source = random.Random(seed)
    return (("POST", TARGET, change(source, good)) for _ in range(count))


def gets(good, count, seed):
    source, text = random.Random(seed), base64.b64encode(good)
    return (("GET", f"{TARGET}&message={urllib.parse.quote(mutate_text(source, text), safe='')}") for _ in range(count))


# the tests

@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


@pytest.fixture
def pkcsreq(profile, devices):
    return devices(profile)[0]


@pytest.fixture
def old(site):
    """A certificate that the CA issued, and its key."""
    certificate = site.directory / "ca" / "mutant.pem"
    return (certificate, certificate.with_suffix(".key")) if certificate.exists() else site.authority.issue("mutant")


@pytest.fixture
def renewalreq(profile, devices, old):
    return devices(profile, own_key=True, type=17, signer_cert=old[0], signer_key=old[1])[0]


def answered_when_whole(gateway, message):
    """The message that is changed is a good one."""
    check.success(message, message.post(gateway.port))


def test_pkcsreq_by_post(site, gateway, pkcsreq):
    answered_when_whole(gateway, pkcsreq)
    site.reset()
    classes = storm(site, gateway, posts(pkcsreq.der, OUTSIDE, 1))
    assert only_the_true_csr(site, pkcsreq.csr, classes)
    assert classes["CertRep 0"] < OUTSIDE / 4 and classes["400"] and classes["CertRep 2"]


def test_pkcsreq_by_get(site, gateway, pkcsreq):
    classes = storm(site, gateway, gets(pkcsreq.der, OUTSIDE, 2))
    assert only_the_true_csr(site, pkcsreq.csr, classes)
    assert classes["CertRep 0"] < OUTSIDE / 4 and classes["400"] and classes["CertRep 2"]


def test_renewalreq(site, gateway, renewalreq):
    answered_when_whole(gateway, renewalreq)
    site.reset()
    classes = storm(site, gateway, posts(renewalreq.der, OUTSIDE, 3))
    assert only_the_true_csr(site, renewalreq.csr, classes)
    assert classes["CertRep 0"] < OUTSIDE / 4 and classes["CertRep 2"]


@pytest.mark.parametrize("kind", [20, 21, 22], ids=["CertPoll", "GetCert", "GetCRL"])
def test_other_types(site, gateway, profile, devices, kind):
    """No change makes an enrolment out of them."""
    (message,) = devices(profile, type=kind, **({} if kind == 20 else {"serial": "01"}))
    storm(site, gateway, posts(message.der, OUTSIDE, kind))
    assert site.microsoft.calls("validate") == [] and site.microsoft.calls("success") == []
    assert not [request for request in site.ca.requests() if request["message_type"] in (17, 19)]


def signer_of(message):
    return handmade.Signer(message.directory / f"{message.index}.signer.pem", message.key)


def ra_of(profile):
    return x509.load_pem_x509_certificate(profile.ra_certificate.read_bytes())


def test_hand_made_message_is_good(site, gateway, profile, pkcsreq):
    csr = base64.b64decode(pkcsreq.csr)
    good = signer_of(pkcsreq).sign(handmade.envelope(csr, ra_of(profile)))
    assert storm(site, gateway, [("POST", TARGET, good)]) == {"CertRep 0": 1}
    assert only_the_true_csr(site, pkcsreq.csr, {"CertRep 0": 1})


def test_under_the_signature(site, gateway, profile, pkcsreq):
    """The envelope is changed and signed anew."""
    signer, csr = signer_of(pkcsreq), base64.b64decode(pkcsreq.csr)
    envelope = handmade.envelope(csr, ra_of(profile))

    def change(source, good):
        return signer.sign(mutate(source, good))
    classes = storm(site, gateway, posts(envelope, INSIDE, 4, change))
    assert only_the_true_csr(site, pkcsreq.csr, classes)
    assert classes["CertRep 0"] < INSIDE / 10 and classes["CertRep 2"] > INSIDE / 2


def test_under_the_encryption(site, gateway, profile, pkcsreq):
    """The CSR is changed, encrypted and signed anew: its own signature is what is left."""
    signer, ra, csr = signer_of(pkcsreq), ra_of(profile), base64.b64decode(pkcsreq.csr)

    def change(source, good):
        return signer.sign(handmade.envelope(mutate(source, good), ra))
    classes = storm(site, gateway, posts(csr, INSIDE, 5, change))
    only_the_true_csr(site, pkcsreq.csr, classes)
    assert classes["CertRep 0"] <= INSIDE / 1000 and classes["CertRep 0"] + classes["CertRep 2"] == INSIDE


def test_renewal_under_the_encryption(site, gateway, profile, renewalreq, old):
    signer, ra, csr = handmade.Signer(*old, kind=17), ra_of(profile), base64.b64decode(renewalreq.csr)

    def change(source, good):
        return signer.sign(handmade.envelope(mutate(source, good), ra))
    classes = storm(site, gateway, posts(csr, INSIDE, 6, change))
    only_the_true_csr(site, renewalreq.csr, classes)
    assert classes["CertRep 0"] <= INSIDE / 1000 and classes["CertRep 0"] + classes["CertRep 2"] == INSIDE
