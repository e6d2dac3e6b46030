# SPDX-License-Identifier: Apache-2.0
"""The two CAs: the scripted stand-in, and Debian's scepserver."""
import os
import shutil
import signal
import socket
import subprocess

from . import client, pki, place, system, wait
from .httpd import Httpd, load_module


# What a CA's web server may add, and no device may see.
SURPLUS_HEADERS = """
Header set ETag '"of-the-ca"'
Header set Last-Modified "Mon, 23 Nov 2026 00:00:00 GMT"
Header set Cache-Control "public, max-age=600"
Header set Set-Cookie "session=of-the-ca"
"""


class ScriptedCA(Httpd):
    """A CA that misbehaves on demand, at http://127.0.0.1:PORT/ca and https."""

    strict = False

    def __init__(self, authority, tls):
        self.authority = authority
        own = self.own_directory(authority)
        self.tls_port = system.free_port()
        self.tls_certificate, key = tls
        module = place.need("tests/sim/mod_sim_ca.so")
        body = (f'LoadModule sim_ca_module "{module}"\n' + load_module("socache_shmcb") + load_module("ssl")
                + load_module("headers") + SURPLUS_HEADERS
                + 'LimitRequestLine 65534\n<Location "/ca">\nSetHandler sim-ca\n'
                + f'SimCADirectory "{own}"\n</Location>\n'
                + f'Listen 127.0.0.1:{self.tls_port} https\n<VirtualHost 127.0.0.1:{self.tls_port}>\n'
                + 'ServerName localhost\nSSLEngine On\n'
                + f'SSLCertificateFile "{self.tls_certificate}"\nSSLCertificateKeyFile "{key}"\n</VirtualHost>\n')
        super().__init__("scripted-ca", body, processes=1, threads=400)

    @staticmethod
    def own_directory(authority):
        """A directory with the CA's certificate and key only: with an RA in it, the stand-in would sign as that RA."""
        own = authority.directory / "scripted"
        own.mkdir()
        for path in (authority.certificate, authority.key):
            pki.for_server(shutil.copy(path, own / path.name))
        return own

    def limits(self):
        return super().limits().replace("MinSpareThreads 1\n", f"MinSpareThreads {self.threads}\n")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/ca"

    def control(self, mode=None, times=-1, **options):
        value = dict(options, mode=mode) if mode else options
        if mode or "mix" in options:
            value = dict(value, times=times)
        client.post_json(self.port, "/ca/control", value)

    def mix(self, weights, **options):
        """Each PKIOperation draws its mode: mix({"ok": 90, "drop_after": 10}, seed=1, seconds=0.5)."""
        self.control(mix=weights, **options)

    def approve(self, transaction="*"):
        """Lets a pending transaction, or all that wait now, have a certificate; returns how many."""
        return client.post_json(self.port, "/ca/control", {"approve": transaction})["approved"]

    def reject(self, transaction="*", fail_info=2):
        value = {"reject": transaction, "fail_info": fail_info}
        return client.post_json(self.port, "/ca/control", value)["rejected"]

    def reset(self):
        client.post_json(self.port, "/ca/reset", {})

    def record(self, since=0, csr=True, page=1000):
        """All requests after number `since`, GetCACaps and the like included; fetched page by page."""
        found = []
        while True:
            target = f"/ca/record?since={since}&limit={page}&csr={int(csr)}"
            new = client.get_json(self.port, target)["requests"]
            found += new
            if len(new) < page:
                return found
            since = new[-1]["n"]

    def requests(self, since=0, csr=True):
        """The PKIOperations in their order."""
        return [request for request in self.record(since, csr) if request["operation"] == "PKIOperation"]


class ScepServer:
    """micromdm's scepserver with a depot of its own, at http://127.0.0.1:PORT/scep."""

    def __init__(self, directory):
        directory.mkdir()
        self.directory = directory
        self.depot = directory / "depot"
        self.port = system.free_port()
        self.process = None
        subprocess.run(["scepserver", "ca", "-init", "-depot", str(self.depot), "-keySize", "2048"], check=True,
                       capture_output=True)
        self.authority = pki.Authority(self.depot, make=False, password="")

    @staticmethod
    def is_there():
        return shutil.which("scepserver") is not None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/scep"

    def make_ra(self):
        """The RA's certificate and key, signed with the depot's key as `openssl ca` does it."""
        work = pki.Authority(self.directory / "ra", make=False, password="")
        work.directory.mkdir()
        for name in ("ca.pem", "ca.key"):
            shutil.copy(self.depot / name, work.directory / name)
        return work.issue("ra")

    def start(self):
        with open(self.directory / "scepserver.log", "ab") as log:
            self.process = subprocess.Popen(["scepserver", "-depot", str(self.depot), "-port", str(self.port),
                                             "-allowrenew", "0"], stdout=log, stderr=log, start_new_session=True)
        wait.until(self._is_up, "scepserver to listen")
        return self

    def _is_up(self):
        assert self.process.poll() is None, "scepserver ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
