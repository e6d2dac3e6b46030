# SPDX-License-Identifier: Apache-2.0
"""
Which hosts of Microsoft's are asked in each of its clouds. A proxy leads all connections to the stand-in, whose
certificate has all these names, and remembers where they were meant for.
"""
import pytest

from harness import check, pki
from harness.gateway import Site
from harness.microsoft import Microsoft
from harness.proxy import RecordingProxy

# Entra, Graph, Intune
CLOUDS = {
    "public": ("login.microsoftonline.com", "graph.microsoft.com", "api.manage.microsoft.com"),
    "usgov": ("login.microsoftonline.us", "graph.microsoft.us", "api.manage.microsoft.us"),
    "china": ("login.partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn", "api.manage.microsoftonline.cn"),
}
SERVICES = ("Authority", "GraphURL", "IntuneURL")
# Each URL for itself, against the cloud's: of another cloud, since the stand-in knows only those resources.
OVERRIDES = {f"china-{service}": ("china", {service: host}) for service, host in zip(SERVICES, CLOUDS["usgov"])}
CASES = {"default": (None, {}), **{name: (name, {}) for name in CLOUDS}, **OVERRIDES}


@pytest.fixture(scope="module")
def site(site):  # pylint: disable=redefined-outer-name
    """As always, but Microsoft has its own names, and is reached through a proxy."""
    directory = site.directory / "clouds"
    directory.mkdir()
    authority = pki.Authority(directory / "private")
    names = ",".join(f"DNS:{host}" for hosts in CLOUDS.values() for host in hosts)
    certificate = authority.issue("microsoft", ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth",
                                                f"subjectAltName={names}"))
    made = Site(directory, Microsoft(certificate), site.ca, site.authority, site.ra)
    made.device_key, made.trust = site.device_key, authority.certificate
    made.trust.chmod(0o644)
    made.microsoft.start()
    made.proxy = RecordingProxy(made.microsoft.tls_port)
    yield made
    made.proxy.stop()
    made.microsoft.stop()


def profiles(site):
    found = []
    for name, (cloud, hosts) in CASES.items():
        urls = {service: f"https://{hosts[service]}" if service in hosts else None for service in SERVICES}
        found.append(site.profile(f"/{name}", Cloud=cloud, TLSCAFile=site.trust, HTTPProxy=site.proxy.url, **urls))
    return found


@pytest.mark.parametrize("name", CASES)
def test_hosts(site, gateway, devices, name):
    cloud, hosts = CASES[name]
    of_cloud = zip(SERVICES, CLOUDS[cloud or "public"])
    entra, graph, intune = [hosts.get(service, host) for service, host in of_cloud]
    site.proxy.targets.clear()
    (message,) = devices(next(profile for profile in gateway.profiles if profile.path == f"/{name}"))
    check.success(message, message.post(gateway.port))
    # The stand-in's Graph names its own host as that of the SCEP service.
    assert {target.split(":")[0] for target in site.proxy.targets} == {entra, graph}
    assert {f"{entra}:443", f"{graph}:443"} <= set(site.proxy.targets)
    scopes = {call["scope"] for call in site.microsoft.calls("token")}
    assert scopes == {f"https://{graph}/.default", f"https://{intune}//.default"}
    assert [call["scope"] for call in site.microsoft.calls("validate")] == [f"https://{intune}//.default"]
