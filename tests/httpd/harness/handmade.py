# SPDX-License-Identifier: Apache-2.0
"""
PKIMessages put together byte by byte, so that what lies under a good signature, or under a good encryption, can be
anything. Quick enough for thousands; the device tool makes the rest.
"""
import hashlib
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SEQUENCE, SET, OCTETS, PRINTABLE, CONTEXT = 0x30, 0x31, 0x04, 0x13, 0xa0


def tlv(tag, *parts):
    """One DER element."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def oid(text):
    """An OBJECT IDENTIFIER."""
    first, second, *rest = map(int, text.split("."))
    body = bytes((40 * first + second,))
    for arc in rest:
        piece = bytes((arc & 0x7f,))
        while arc := arc >> 7:
            piece = bytes((0x80 | arc & 0x7f,)) + piece
        body += piece
    return tlv(0x06, body)


def integer(value):
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


NULL, VERSION_0, VERSION_1 = b"\x05\x00", integer(0), integer(1)
RSA = tlv(SEQUENCE, oid("1.2.840.113549.1.1.1"), NULL)
SHA256 = tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.1"), NULL)
DATA, SIGNED, ENVELOPED = (oid(f"1.2.840.113549.1.7.{number}") for number in (1, 2, 3))
VERISIGN = "2.16.840.1.113733.1.9."


def _name_and_serial(certificate):
    return tlv(SEQUENCE, certificate.issuer.public_bytes(), integer(certificate.serial_number))


def envelope(plain, recipient, key=None):
    """An EnvelopedData in AES-128-CBC; `recipient` is the RA's certificate."""
    key, start = key or os.urandom(16), os.urandom(16)
    missing = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
    cipher = encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()
    sent = recipient.public_key().encrypt(key, padding.PKCS1v15())
    info = tlv(SEQUENCE, VERSION_0, _name_and_serial(recipient), RSA, tlv(OCTETS, sent))
    algorithm = tlv(SEQUENCE, oid("2.16.840.1.101.3.4.1.2"), tlv(OCTETS, start))
    content = tlv(SEQUENCE, DATA, algorithm, tlv(0x80, cipher))
    return tlv(SEQUENCE, ENVELOPED, tlv(CONTEXT, tlv(SEQUENCE, VERSION_0, tlv(SET, info), content)))


# An elliptic key whose curve is spelled out, or would be.
SPELLED_OUT = tlv(SEQUENCE, tlv(SEQUENCE, oid("1.2.840.10045.2.1"), tlv(SEQUENCE, VERSION_1)), tlv(0x03, b"\0\2"))


def relative_certificate(key, names, points):
    """Not even signed: so many names of its issuer's, and so many distribution points whose names are relative to them."""
    key = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key_certificate(key, names, points)


def key_certificate(key, names=1, points=0):
    """Likewise, of a SubjectPublicKeyInfo."""
    algorithm = tlv(SEQUENCE, oid("1.2.840.113549.1.1.11"), NULL)
    name = tlv(SET, tlv(SEQUENCE, oid("2.5.4.3"), tlv(PRINTABLE, b"A")))
    validity = tlv(SEQUENCE, tlv(0x17, b"250101000000Z"), tlv(0x17, b"350101000000Z"))
    point = tlv(SEQUENCE, tlv(CONTEXT, tlv(0xa1)))
    extension = tlv(SEQUENCE, oid("2.5.29.31"), tlv(OCTETS, tlv(SEQUENCE, point * points)))
    body = tlv(SEQUENCE, tlv(CONTEXT, integer(2)), integer(7), algorithm, tlv(SEQUENCE, name * names), validity,
               tlv(SEQUENCE), key, tlv(0xa3, tlv(SEQUENCE, extension)))
    return tlv(SEQUENCE, body, algorithm, tlv(0x03, b"\0"))


class Signer:
    """Signs whatever it is given as a PKIMessage; certificate and key are PEM files."""

    def __init__(self, certificate, key, kind=19, transaction="hand-made"):
        self.certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        self.key = serialization.load_pem_private_key(key.read_bytes(), None)
        self.kind, self.transaction = kind, transaction

    def _attributes(self, content):
        wanted = {f"{VERISIGN}2": tlv(PRINTABLE, str(self.kind).encode()),
                  f"{VERISIGN}5": tlv(OCTETS, os.urandom(16)),
                  f"{VERISIGN}7": tlv(PRINTABLE, self.transaction.encode()),
                  "1.2.840.113549.1.9.3": DATA,
                  "1.2.840.113549.1.9.4": tlv(OCTETS, hashlib.sha256(content).digest())}
        return b"".join(sorted(tlv(SEQUENCE, oid(name), tlv(SET, value)) for name, value in wanted.items()))

    def sign(self, content, digests=1, more=b""):
        """A SignedData over these bytes; so many digests are listed, and `more` certificates, which no signature covers."""
        attributes = self._attributes(content)
        signature = self.key.sign(tlv(SET, attributes), padding.PKCS1v15(), hashes.SHA256())
        info = tlv(SEQUENCE, VERSION_1, _name_and_serial(self.certificate), SHA256, tlv(CONTEXT, attributes), RSA,
                   tlv(OCTETS, signature))
        certificate = self.certificate.public_bytes(serialization.Encoding.DER)
        return tlv(SEQUENCE, SIGNED, tlv(CONTEXT, tlv(
            SEQUENCE, VERSION_1, tlv(SET, SHA256 * digests), tlv(SEQUENCE, DATA, tlv(CONTEXT, tlv(OCTETS, content))),
            tlv(CONTEXT, certificate, more), tlv(SET, info))))
