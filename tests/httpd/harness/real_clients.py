# SPDX-License-Identifier: Apache-2.0
"""SCEP clients that no one here wrote, run as their users run them."""
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess

from . import pki, place, wait

SECONDS = 60


@dataclasses.dataclass
class Enrolment:
    """What a client came home with: its key and certificate (None: refused), and what it said."""
    key: pathlib.Path
    certificate: pathlib.Path
    said: str
    name: str
    before: str = ""

    @property
    def pem(self):
        """The certificate, None where there is none or only the one `before`."""
        try:
            text = self.certificate.read_text()
        except FileNotFoundError:
            return None
        return text if text != self.before else None


def _run(command, cwd, output=None, environment=None):
    """Runs a client; what it says, whether it succeeds or not."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, check=False,
                          timeout=SECONDS * place.SLOWNESS, env={**os.environ, "LC_ALL": "C", **(environment or {})})
    if output and done.returncode == 0:
        output.write_bytes(done.stdout)
    text = done.stderr if output else done.stdout + done.stderr
    return text.decode("utf-8", "replace")


class ScepClient:
    """micromdm's scepclient (Debian's package scep). It encrypts with single DES, whatever the server can do."""

    package = "scep"

    @staticmethod
    def is_there():
        return shutil.which("scepclient") is not None

    def enrol(self, work, url, profile, challenge, name):  # pylint: disable=unused-argument
        key, certificate = work / "key.pem", work / "certificate.pem"
        said = _run(["scepclient", "-server-url", url, "-challenge", challenge, "-cn", name, "-private-key", key,
                     "-certificate", certificate], work)
        return Enrolment(key, certificate, said, name)


class StrongSwan:
    """strongSwan's `pki --scep` (packages strongswan-pki and, to fetch anything, libstrongswan-extra-plugins)."""

    package = "strongswan-pki and libstrongswan-extra-plugins"

    def __init__(self, cipher="des3", digest="sha256", *options):
        self.options = ["--cipher", cipher, "--digest", digest, *options]

    @staticmethod
    def is_there():
        if shutil.which("pki") is None:
            return False
        done = subprocess.run(["pki", "--help"], capture_output=True, check=False)
        return b"--scep" in done.stdout + done.stderr and b" curl" in done.stdout + done.stderr

    def enrol(self, work, url, profile, challenge, name, old=None):
        """`old` is the enrolment that is renewed."""
        key, certificate = work / f"{name}.key", work / f"{name}.pem"
        pki.openssl("genrsa", "-out", key, 2048)
        renewal = ["--cert", old.certificate, "--key", old.key] if old else []
        ra = profile.ra_certificate
        said = _run(["pki", "--scep", "--url", url, "--in", key, "--dn", f"CN={old.name if old else name}",
                     "--password", challenge, "--cacert-enc", ra, "--cacert-sig", ra, "--cacert", profile.chain,
                     *renewal, *self.options, "--outform", "pem"], work, certificate)
        return Enrolment(key, certificate, said, old.name if old else name)


def _certmonger():
    """A daemon, which is not on everybody's PATH."""
    return shutil.which("certmonger") or shutil.which("certmonger", path="/usr/sbin")


class Certmonger:
    """
    certmonger (package certmonger), asked by `getcert`. The daemon listens on a socket of its own and on no bus, and
    all that it keeps is in `directory`.
    """

    package = "certmonger"
    # CAs that it would know by itself; their helpers may look for servers on the network.
    others = ("IPA", "dogtag-ipa-renew-agent", "local")

    def __init__(self, directory):
        directory.mkdir()
        self.directory, self.process = directory, None
        names = {"CONFIG": "conf", "REQUESTS": "requests", "CAS": "cas", "LOCAL_CA": "local"}
        self.environment = {f"CERTMONGER_{name}_DIR": str(directory / part) for name, part in names.items()}
        self.environment |= {"CERTMONGER_TMPDIR": str(directory / "tmp"), "HOME": str(directory),
                             "CERTMONGER_SYSTEM_LOCK_FILE": str(directory / "lock"),
                             "CERTMONGER_PVT_ADDRESS": f"unix:path={directory}/socket"}
        for part in (*names.values(), "tmp"):
            (directory / part).mkdir()
        (directory / "conf" / "certmonger.conf").write_text("")
        for name in self.others:
            text = f"id={name}\nca_is_default=0\nca_type=EXTERNAL\nca_external_helper=/bin/false\n"
            (directory / "cas" / name).write_text(text)

    @staticmethod
    def is_there():
        return _certmonger() is not None and shutil.which("getcert") is not None

    def start(self):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen([_certmonger(), "-n", "-L", "-P", self.directory / "socket"], stdout=log,
                                            stderr=log, env={**os.environ, **self.environment}, start_new_session=True)
        wait.until((self.directory / "socket").exists, "certmonger's socket")
        return self

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(20)

    def _getcert(self, *arguments):
        return _run(["getcert", *arguments], self.directory, environment=self.environment)

    def enrol(self, work, url, profile, challenge, name):
        key, certificate = work / "key.pem", work / "certificate.pem"
        (work / "challenge").write_text(challenge)
        said = self._getcert("add-scep-ca", "-c", name, "-u", url, "-R", profile.chain, "-r", profile.ra_certificate,
                             "-N", profile.chain)
        said += self._getcert("request", "-I", name, "-k", key, "-f", certificate, "-c", name, "-N", f"CN={name}", "-l",
                              work / "challenge", "-w", "--wait-timeout", int(30 * place.SLOWNESS), "-v")
        said += self._getcert("list", "-i", name)
        return Enrolment(key, certificate, said, name)

    def refresh(self, name):
        """Looks after a request that waits; what it says of it."""
        self._getcert("refresh", "-i", name)
        return self._getcert("list", "-i", name)

    def renew(self, how, enrolment, challenge):
        """`how`: resubmit (the same key) or rekey (a new one). `pem` is None while the certificate is the old one."""
        (enrolment.certificate.parent / "challenge").write_text(challenge)
        before = enrolment.pem
        said = self._getcert(how, "-i", enrolment.name, "-w", "--wait-timeout", int(30 * place.SLOWNESS), "-v")
        said += self._getcert("list", "-i", enrolment.name)
        return dataclasses.replace(enrolment, said=said, before=before)
