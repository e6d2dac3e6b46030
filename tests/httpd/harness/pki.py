# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates, made at run time with the openssl command, as an administrator would."""
import os
import pathlib
import shutil
import subprocess

from . import place


def openssl(*arguments, text=None):
    """Runs openssl; CalledProcessError shows what it said."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {' '.join(map(str, arguments))}: {done.stderr}"
    return done.stdout


def for_server(path, mode=0o600):
    """Gives a file or directory to the server's user, for nobody else to read."""
    path = pathlib.Path(path)
    if place.IS_ROOT:
        shutil.chown(path, place.SERVER_USER, place.SERVER_USER)
    path.chmod(mode)
    return path


def write_secret(path, text):
    """A key file, safe from the first moment on."""
    path = pathlib.Path(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return for_server(path)


RA_EXTENSIONS = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature,keyEncipherment")
CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=hash",
                 "keyUsage=critical,keyCertSign,cRLSign,digitalSignature,keyEncipherment")
CA_CONFIG = """
[req]
distinguished_name = dn
[dn]
[ca]
default_ca = own
[own]
database = {work}/index
new_certs_dir = {work}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
[ext]
{extensions}
"""


class Authority:
    """A CA in a directory: ca.pem and ca.key, and what it signs."""

    def __init__(self, directory, name="Test CA", make=True, password=None):
        self.directory = pathlib.Path(directory)
        self.password = password
        if make:
            self.directory.mkdir(parents=True, exist_ok=True)
            options = [part for extension in CA_EXTENSIONS for part in ("-addext", extension)]
            openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", 3650, "-subj",
                    f"/O=Contoso/CN={name}", "-keyout", self.key, "-out", self.certificate, "-config", "/dev/stdin",
                    *options, text="[req]\ndistinguished_name=dn\n[dn]\n")
            self.key.chmod(0o600)

    @property
    def certificate(self):
        return self.directory / "ca.pem"

    @property
    def key(self):
        return self.directory / "ca.key"

    def issue(self, name, extensions=RA_EXTENSIONS, start=None, end=None, key=None, bits=2048):
        """A certificate NAME.pem with NAME.key; `start` and `end` as YYYYMMDDHHMMSSZ. Returns the two paths."""
        certificate, own_key = self.directory / f"{name}.pem", pathlib.Path(key or self.directory / f"{name}.key")
        work = self.directory / f"{name}.work"
        work.mkdir()
        (work / "index").write_text("")
        if key is None:
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out", own_key)
            own_key.chmod(0o600)
        config = work / "config"
        config.write_text(CA_CONFIG.format(work=work, extensions="\n".join(extensions)))
        openssl("req", "-new", "-config", config, "-key", own_key, "-subj", f"/O=Contoso/CN={name}", "-out",
                work / "csr")
        dates = ["-startdate", start] if start else []
        dates += ["-enddate", end] if end else ["-days", 365]
        password = ["-passin", f"pass:{self.password}"] if self.password is not None else []
        openssl("ca", "-batch", "-notext", "-config", config, "-cert", self.certificate, "-keyfile", self.key, "-in",
                work / "csr", "-out", certificate, "-extensions", "ext", *dates, *password)
        shutil.rmtree(work)
        return certificate, own_key


def server_certificate(directory):
    """A self-signed certificate for 127.0.0.1 that is its own CA; certificate and key."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / "tls.pem", directory / "tls.key"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", 30, "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate)
    certificate.chmod(0o644)
    for_server(key)
    return certificate, key
