# SPDX-License-Identifier: Apache-2.0
"""Certificates and federated tokens of an application, as its administrator would make and rotate them."""
import os
import pathlib

from . import pki


class Certificate:
    """A self-signed certificate NAME.pem and its key NAME.key, encrypted where there is a pass phrase."""

    def __init__(self, directory, name, phrase=None, bits=2048):
        self.certificate, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        self.phrase = phrase
        options = ["-passout", f"pass:{phrase}"] if phrase else ["-nodes"]
        pki.openssl("req", "-x509", "-newkey", f"rsa:{bits}", "-sha256", "-days", 365, "-subj", f"/CN={name}", "-keyout",
                    self.key, "-out", self.certificate, *options)
        self.certificate.chmod(0o644)
        pki.for_server(self.key)

    @property
    def pem(self):
        return self.certificate.read_text()

    def together(self, path):
        """Certificate and key in one file, exchanged in one step."""
        exchange(path, self.pem + self.key.read_text())
        return path


def exchange(path, text):
    """A new file takes the place of the old one, whole at every moment."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".new")
    pki.write_secret(beside, text)
    os.replace(beside, path)
    return path


def expired(directory, name="expired"):
    """A certificate with its key that was good last year."""
    return pki.Authority(directory / f"{name}-ca").issue(name, start="20200101000000Z", end="20210101000000Z")
