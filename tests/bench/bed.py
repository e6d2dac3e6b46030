# SPDX-License-Identifier: Apache-2.0
"""What is measured: the servers in all their variants, and the devices' messages, prepared beforehand."""
import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
import time

import meter
from harness import authorities, client, device, pki, place
from harness.gateway import Gateway, Site
from harness.httpd import Httpd
from harness.microsoft import Microsoft
from harness.postgres import Postgres

# Bit 21 of the second word: AVX512IFMA, with which OpenSSL computes RSA-2048 more than twice as fast.
NO_IFMA = {"OPENSSL_ia32cap": ":~0x200000"}
CA_SECONDS, INTUNE_SECONDS = 0.1, 0.3


@dataclasses.dataclass
class Variant:
    """One way to run the gateway, and the load on it."""
    journal: str = "sqlite"  # none, postgres
    tls: bool = False  # towards Microsoft and the CA
    pooled: bool = True  # a worker with connections to the CA that are kept
    processes: int = 4
    threads: int = 32
    connections: int = 32
    close: bool = False  # a new connection for each device
    environment: dict = dataclasses.field(default_factory=dict)
    slow: bool = False  # Microsoft and the CA take their time
    rate: float = None  # open loop
    warm: bool = True
    server: str = ""


class Bed:
    """Stand-ins that run all the time; gateways come and go, each with an empty journal."""

    def __init__(self, count, most_at_once):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="iscep-bench-"))
        self.quick = pathlib.Path(tempfile.mkdtemp(prefix="iscep-bench-", dir=place.quick_directory()))
        for directory in (self.directory, self.quick):
            directory.chmod(0o755)
        self.count = count
        self.most_at_once = most_at_once
        self.postgres = self.scepserver = None
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.directory, True)
        self.stack.callback(shutil.rmtree, self.quick, True)
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise

    def _start(self):
        authority = pki.Authority(self.directory / "ca")
        tls = pki.server_certificate(self.directory / "tls")
        microsoft, ca = Microsoft(tls), authorities.ScriptedCA(authority, tls)
        self.site = Site(self.directory, microsoft, ca, authority, authority.issue("ra"))
        for server in (microsoft, ca):
            server.threads = max(400, 2 * self.most_at_once)
            server.log_level = "warn"
            server.start()
            self.stack.callback(server.stop, False)
        self.tenant = microsoft.add_tenant("bench")
        self.device_key = self.directory / "device.key"
        pki.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.device_key)
        self._start_others()

    def _start_others(self):
        self.postgres_syncs = meter.Syncs(self.quick / "postgres-syncs")
        if Postgres.is_there():
            self.postgres = Postgres(self.directory)
            saved = dict(os.environ)
            os.environ.update(self.postgres_syncs.environment)
            try:
                self.postgres.start()
            finally:
                os.environ.clear()
                os.environ.update(saved)
            self.stack.callback(self.postgres.stop, "immediate")
        if authorities.ScepServer.is_there():
            self.scepserver = authorities.ScepServer(self.directory / "scepserver").start()
            self.stack.callback(self.scepserver.stop)

    def close(self):
        self.stack.close()

    # messages

    def prepare(self):
        """For the gateway, for the scripted CA itself, and for scepserver."""
        profile = self.site.profile("/scep", tenant=self.tenant)
        challenges = [self.site.microsoft.challenge(self.tenant, expires_in=86400)
                      for _ in range(min(self.count, 500))]
        # a challenge can be used any number of times, and so can a CSR: transactions are distinct all the same
        challenges = (challenges * (self.count // len(challenges) + 1))[:self.count]
        self.messages = {"gateway": self._make(profile, challenges)}
        few = challenges[:self.count // 2]
        to_ca = dataclasses.replace(profile, ra_certificate=self.site.authority.certificate)
        self.messages["ca"] = self._make(to_ca, few)
        if self.scepserver:
            certificate = self.scepserver.authority.certificate
            self.messages["scepserver"] = self._make(
                dataclasses.replace(profile, ra_certificate=certificate, chain=certificate), few)

    def _make(self, profile, challenges):
        return device.prepare(self.quick, profile, len(challenges), challenges, key=self.device_key)

    def check_sample(self, name, directory):
        """Every answer that was kept must be a certificate for its device."""
        pairs = [(self.messages[name][int(path.stem)], path.read_bytes()) for path in sorted(directory.iterdir())]
        assert pairs, "no answer was kept"
        for message, opened in zip(pairs, device.open_all(pairs)):
            assert opened["status"] == 0 and opened["key_matches"], f"{message[0].transaction}: {opened}"

    # servers

    def leaders(self, server):
        found = {"server": server.process.pid, "microsoft": self.site.microsoft.process.pid,
                 "ca": self.site.ca.process.pid}
        if self.postgres:
            found["postgres"] = self.postgres.process.pid
        return found

    def reset(self, slow):
        """Empty records, and stand-ins that are as slow as they should be."""
        site = self.site
        site.reset()
        site.microsoft.reset(bodies=False)
        site.ca.control(keep_csr=False)
        if slow:
            for target in ("token", "endpoints", "validate", "success"):
                site.microsoft.fail(target, "slow", seconds=INTUNE_SECONDS)
            site.ca.control("slow", seconds=CA_SECONDS)

    def _profile(self, variant):
        site, changes, backend, extra = self.site, {"Timeout": 15, "Grace": 600}, self.site.ca.url, ""
        if variant.tls:
            url = site.microsoft.tls_url
            changes.update(Authority=url, GraphURL=url, IntuneURL=url, TLSCAFile=site.microsoft.tls_certificate)
            backend = f"https://127.0.0.1:{site.ca.tls_port}/ca"
        before = ""
        if variant.pooled:
            before = f'<Proxy "{backend}">\nProxySet connectiontimeout=3 ttl=4\n</Proxy>\n'
        if variant.tls:
            before += (f'SSLProxyEngine On\nSSLProxyVerify require\nSSLProxyCACertificateFile "{site.ca.tls_certificate}"\n')
        return site.profile("/scep", backend=backend, tenant=self.tenant, extra=extra, **changes), before

    @contextlib.contextmanager
    def gateway(self, variant, syncs):
        """A gateway with an empty journal, as the variant has it; stopped at the end, and its log must be clean."""
        profile, before = self._profile(variant)
        server = variant.server
        if variant.journal == "none":
            server += "IntuneScepJournal none\n"
        elif variant.journal == "postgres":
            server += f'IntuneScepJournal "pgsql:{self.postgres.database()}"\n'
        gateway = Gateway([profile], server=server, before=before, processes=variant.processes, threads=variant.threads,
                          log_level="warn", proxy_timeout=30, modules=["ssl"] if variant.tls else [],
                          environment={**syncs.environment, **variant.environment}, allow=["ISCEP0541", "ISCEP0534", "AH00484"])
        gateway.start()
        try:
            yield gateway
        except BaseException:
            gateway.stop(check=False)
            raise
        # the MPM crashes now and then when it is stopped while its workers close connections
        time.sleep(0.5)
        gateway.stop()

    @contextlib.contextmanager
    def proxy(self, variant):
        """mod_proxy and nothing else, before the same CA."""
        body = (f'LimitRequestLine 65534\n<Proxy "{self.site.ca.url}">\nProxySet connectiontimeout=3 ttl=4\n</Proxy>\n'
                f'ProxyPass "/scep" "{self.site.ca.url}"\n')
        server = Httpd("proxy", body, modules=("proxy", "proxy_http"), processes=variant.processes,
                       threads=variant.threads, log_level="warn")
        server.start()
        try:
            yield server
        finally:
            server.stop(check=False)

    def served_sizes(self, port):
        """Bytes of GetCACaps and GetCACert."""
        return {operation: len(client.request(port, "GET", f"/scep?operation={operation}").body)
                for operation in ("GetCACaps", "GetCACert")}
