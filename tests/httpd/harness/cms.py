# SPDX-License-Identifier: Apache-2.0
"""What the outside of a PKIMessage says, read with the openssl command."""
import re

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding

from . import pki

NAMES = {"des-cbc": "des", "des-ede3-cbc": "des3", "aes-128-cbc": "aes128", "aes-192-cbc": "aes192",
         "aes-256-cbc": "aes256"}
TYPES = {17: "RenewalReq", 19: "PKCSReq", 20: "CertPoll", 21: "GetCert", 22: "GetCRL"}


def facts(work, message):
    """Its type, digest, cipher and key transport; the signature is verified by the certificate within."""
    outer, inner = work / "outer.der", work / "inner.der"
    outer.write_bytes(message)
    signed = pki.openssl("cms", "-cmsout", "-print", "-inform", "DER", "-in", outer)
    pki.openssl("cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", outer, "-out", inner)
    enveloped = pki.openssl("cms", "-cmsout", "-print", "-inform", "DER", "-in", inner)
    digest = re.search(r"digestAlgorithms:\s+algorithm: (\S+)", signed)[1]
    cipher = re.search(r"contentEncryptionAlgorithm:\s+algorithm: (\S+)", enveloped)[1]
    transport = re.search(r"keyEncryptionAlgorithm:\s+algorithm: (\S+)", enveloped)[1]
    kind = int(re.search(r"2\.16\.840\.1\.113733\.1\.9\.2\)\s+(?:set|value\.set):\s+PRINTABLESTRING:(\d+)", signed)[1])
    return {"type": TYPES[kind], "digest": digest, "cipher": NAMES.get(cipher, cipher), "transport": transport}


def content_key(message, key):
    """The key of the envelope's content cipher, from whichever RecipientInfo this private key opens."""
    key = serialization.load_pem_private_key(key.read_bytes(), None)
    length = key.key_size // 8
    for found in re.finditer(b"\\x04\\x82" + re.escape(length.to_bytes(2, "big")), message):
        try:
            opened = key.decrypt(message[found.end():found.end() + length], padding.PKCS1v15())
        except ValueError:
            continue
        if len(opened) in (8, 16, 24, 32):
            return opened
    raise ValueError("no RecipientInfo is for this key")
