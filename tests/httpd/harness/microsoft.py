# SPDX-License-Identifier: Apache-2.0
"""The stand-in for Entra, Graph and Intune, and what it saw."""
import concurrent.futures
import itertools
import json
import uuid

from . import client, place
from .httpd import Httpd, load_module
from .system import free_port

_numbers = itertools.count(1)


def tls_host(port, certificate, key, extra=""):
    """Configuration of an https host."""
    return (f'Listen 127.0.0.1:{port} https\n<VirtualHost 127.0.0.1:{port}>\nServerName localhost\nSSLEngine On\n'
            f'SSLCertificateFile "{certificate}"\nSSLCertificateKeyFile "{key}"\n{extra}</VirtualHost>\n')


class Microsoft(Httpd):
    """
    http on `port`, https on `tls_port`. `hosts`: further https hosts by name, each with certificate, key and perhaps
    more configuration; their ports are in `ports`.
    """

    strict = False

    def __init__(self, tls, hosts=None):
        self.tls_port = free_port()
        self.ports = {}
        self.service_generation = 1  # of the SCEP service's URL, see move()
        self.tls_certificate, key = tls
        module = place.need("tests/sim/mod_sim_microsoft.so")
        body = (f'LoadModule sim_microsoft_module "{module}"\n' + load_module("socache_shmcb") + load_module("ssl")
                + 'LimitRequestLine 65534\nKeepAliveTimeout 60\nMaxKeepAliveRequests 0\n'
                + '<Location "/">\nSetHandler sim-microsoft\n</Location>\n'
                + tls_host(self.tls_port, self.tls_certificate, key))
        for name, facts in (hosts or {}).items():
            self.ports[name] = free_port()
            body += tls_host(self.ports[name], *facts)
        super().__init__("microsoft", body, processes=1, threads=400)

    def limits(self):
        return super().limits().replace("MinSpareThreads 1\n", f"MinSpareThreads {self.threads}\n")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    @property
    def tls_url(self):
        return f"https://127.0.0.1:{self.tls_port}/"

    # control

    def add_tenant(self, name="tenant", expires_in=3599):
        """A tenant of its own, with an application and its secret."""
        tenant = {"tenant": f"{name}-{next(_numbers)}.example", "app_id": str(uuid.uuid4()),
                  "secret": f"AppKey~{uuid.uuid4().hex}", "expires_in": expires_in}
        client.post_json(self.port, "/sim/tenant", tenant)
        return tenant

    def set_tenant(self, tenant):
        client.post_json(self.port, "/sim/tenant", tenant)

    def challenge(self, tenant, **properties):
        """A challenge for one device."""
        return client.post_json(self.port, "/sim/challenge", {"tenant": tenant["tenant"], **properties})["challenge"]

    def challenges(self, tenant, count):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda _: self.challenge(tenant), range(count)))

    def fail(self, target, mode, times=-1, **options):
        """Adds a fault; see the stand-ins' README. With percent=5 it hits every twentieth call, by chance."""
        client.post_json(self.port, "/sim/fail", {"target": target, "mode": mode, "times": times, **options})

    def move(self):
        self.service_generation = client.post_json(self.port, "/sim/move", {})["generation"]

    def revoke_tokens(self, tenant):
        """All tokens of the tenant are refused from now on."""
        client.post_json(self.port, "/sim/token", {"tenant": tenant["tenant"], "action": "revoke"})

    def reset(self, bodies=True):
        client.post_json(self.port, "/sim/reset", {} if bodies else {"bodies": False})

    # what it saw

    def calls(self, service=None, tenant=None, after=0, bodies=True):
        """The calls in their order, of one service or all; those after number `after`."""
        target = f"/sim/record?after={after}&bodies={int(bodies)}" + (f"&service={service}" if service else "")
        found = client.get_json(self.port, target)["calls"]
        return [call for call in found if _fits(call, service, tenant)]

    def bodies(self, service):
        """The inner object (request or notification) of each call of an Intune action."""
        return [body_of(call) for call in self.calls(service)]


def _fits(call, service, tenant):
    wanted = tenant["tenant"] if isinstance(tenant, dict) else tenant
    return service in (None, call["service"]) and wanted in (None, call.get("tenant"))


def body_of(call):
    body = call["body"]
    body = json.loads(body) if isinstance(body, str) else body
    return body.get("request") or body.get("notification") or body
