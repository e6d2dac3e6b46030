# SPDX-License-Identifier: Apache-2.0
"""The httpd under test, its profiles (one for each location), and its configuration."""
import dataclasses
import pathlib
import shutil

from . import client, pki, place
from .httpd import Httpd


@dataclasses.dataclass
class Profile:
    """A location of the gateway: its tenant, its RA, and its directives in their order (None leaves one out)."""
    path: str
    tenant: dict
    ra_certificate: pathlib.Path
    ra_key: pathlib.Path
    chain: pathlib.Path
    directives: dict
    extra: str = ""

    def config(self):
        lines = [f"    {name} {value}" for name, value in self.directives.items() if value is not None]
        return f'<Location "{self.path}">\n' + "\n".join(lines) + f"\n{self.extra}</Location>\n"

    def changed(self, extra=None, **changes):
        """A copy with other directives, named without their prefix IntuneScep; None takes one away."""
        directives = dict(self.directives)
        for name, value in changes.items():
            directives["IntuneScep" + ("" if name == "On" else name)] = value
        return dataclasses.replace(self, directives=directives, extra=self.extra if extra is None else extra)


class Gateway(Httpd):
    """
    An httpd with mod_intune_scep and the profiles. `state`: a state directory that is there already; `faults`: the build
    with fault points, for faults.arm().
    """

    modules = ("mpm_event", "authz_core", "socache_shmcb", "proxy", "proxy_http")

    def __init__(self, profiles, server="", before="", after="", shared_cache="shmcb", name="gateway", proxy_timeout=3,
                 state=None, faults=False, **options):
        self.profiles = list(profiles)
        self.server, self.before_text, self.after_text, self.shared_cache = server, before, after, shared_cache
        self.proxy_timeout, self.with_faults = proxy_timeout, faults
        super().__init__(name, "", **options)
        self.state = state or self.root / "state"
        self.state.mkdir(exist_ok=True)
        pki.for_server(self.state, 0o700)
        if faults:
            self.armed = {}
            self.faults = self.root / "faults"
            self.faults.mkdir()
            pki.for_server(self.faults, 0o700)
            self.environment["ISCEP_FAULT_DIR"] = str(self.faults)
        (self.root / "cache").mkdir()
        pki.for_server(self.root / "cache", 0o700)

    def module_lines(self):
        module = place.fault_module() if self.with_faults else place.need("mod_intune_scep.so")
        return f'LoadModule intune_scep_module "{module}"\n'

    def config(self):
        cache = f"IntuneScepSharedCache {self.shared_cache}\n" if self.shared_cache else ""
        return (super().config() + self.before_text + f"LimitRequestLine 65534\nProxyTimeout {self.proxy_timeout}\n"
                + f'IntuneScepStateDir "{self.state}"\n{cache}{self.server}'
                + "".join(profile.config() for profile in self.profiles) + self.after_text)

    def path_quick(self, seconds=1.0):
        """Asserts that a page that has nothing to do with SCEP is served quickly."""
        answer = client.request(self.port, "GET", "/static.txt")
        assert answer.status == 200 and answer.body == b"static\n"
        assert answer.seconds < seconds * place.SLOWNESS, f"a static page took {answer.seconds:.2f} s"


class Site:
    """The stand-ins and keys that all tests share, and ready-made profiles."""

    def __init__(self, directory, microsoft, ca, authority, ra):
        self.directory = directory
        self.microsoft, self.ca, self.authority, self.ra = microsoft, ca, authority, ra

    def app_key(self, tenant):
        """The tenant's key in a file of its own, which a test may rotate."""
        return pki.write_secret(self.directory / f"{tenant['app_id']}.key", tenant["secret"] + "\n")

    def profile(self, path="/scep", backend=None, authority=None, ra=None, tenant=None, expires_in=3599, extra="",
                **changes):
        """A working profile before the scripted CA, in a tenant of its own."""
        tenant = tenant or self.microsoft.add_tenant(path.strip("/").replace("/", "-") or "root", expires_in)
        certificate, key = ra or self.ra
        chain = (authority or self.authority).certificate
        url = self.microsoft.url
        directives = {"IntuneScep": "On", "IntuneScepTenant": tenant["tenant"], "IntuneScepAppID": tenant["app_id"],
                      "IntuneScepAppKey": f"file:{self.app_key(tenant)}", "IntuneScepAuthority": url,
                      "IntuneScepGraphURL": url, "IntuneScepIntuneURL": url, "IntuneScepRACertificate": certificate,
                      "IntuneScepRAKey": key, "IntuneScepCAChain": chain, "IntuneScepBackend": backend or self.ca.url,
                      "IntuneScepTimeout": 5, "IntuneScepGrace": 1}
        return Profile(path, tenant, certificate, key, chain, directives, extra).changed(**changes)

    def reset(self):
        self.microsoft.reset()
        self.ca.reset()

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)
