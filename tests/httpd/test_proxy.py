# SPDX-License-Identifier: Apache-2.0
"""
The way to Microsoft through a forward proxy and over TLS with a private CA: it works, or the device gets 503 and the
log one clear line that names the directive that helps.
"""
import pytest

from harness import check, pki, system
from harness.gateway import Site
from harness.microsoft import Microsoft
from harness.proxy import TinyProxy

USER, PASSWORD = "gateway", "Proxy-pass_word.7"
SERVER = ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth")
HERE = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def hosts(authority, trusted):
    """https hosts, each with a fault of its own."""
    good = authority.issue("good", (*SERVER, HERE))
    return good, {
        "name": authority.issue("name", (*SERVER, "subjectAltName=DNS:elsewhere.example,IP:192.0.2.1")),
        "expired": authority.issue("expired", (*SERVER, HERE), "20200101000000Z", "20210101000000Z"),
        "demanding": (*good, f'SSLVerifyClient require\nSSLCACertificateFile "{trusted.certificate}"\n'),
    }


def client_file(authority, directory):
    """A PEM file with certificate and key, for the server's user."""
    certificate, key = authority.issue("client", ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"))
    return pki.write_secret(directory / "client.pem", certificate.read_text() + key.read_text())


@pytest.fixture(scope="module")
def site(site):  # pylint: disable=redefined-outer-name
    """As always, but Microsoft has a private CA, and there are proxies before it."""
    if not TinyProxy.is_there():
        pytest.skip("tinyproxy is missing: install Debian's package tinyproxy-bin")
    directory = site.directory / "proxies"
    directory.mkdir()
    authority, clients = pki.Authority(directory / "private"), pki.Authority(directory / "clients", "Clients")
    good, others = hosts(authority, clients)
    made = Site(directory, Microsoft(good, others), site.ca, site.authority, site.ra)
    made.device_key = site.device_key
    made.trust, made.client_file = authority.certificate, client_file(clients, directory)
    made.trust.chmod(0o644)
    made.free, made.locked = TinyProxy(directory / "free"), TinyProxy(directory / "locked", USER, PASSWORD)
    made.password_file = pki.write_secret(directory / "password", "wrong~password\n")
    try:
        for server in (made.microsoft, made.free, made.locked):
            server.start()
        yield made
    finally:
        for server in (made.free, made.locked, made.microsoft):
            server.stop()


def through(site, path, host=None, **changes):
    """A profile that speaks TLS to one of the hosts, trusts the private CA, and uses the free proxy."""
    url = f"https://127.0.0.1:{site.microsoft.ports[host]}/" if host else site.microsoft.tls_url
    urls = {"Authority": url, "GraphURL": url, "IntuneURL": url}
    return site.profile(path, **{**urls, "TLSCAFile": site.trust, "HTTPProxy": site.free.url, **changes})


def profiles(site):
    known = {"HTTPProxy": site.locked.url, "HTTPProxyUser": USER}
    dead = system.free_port()
    return [
        through(site, "/free"), through(site, "/direct", HTTPProxy="none"),
        through(site, "/environment", HTTPProxy=None),
        through(site, "/locked", **known, HTTPProxyPassword=PASSWORD),
        through(site, "/rotated", **known, HTTPProxyPassword=f"file:{site.password_file}"),
        through(site, "/wrong", **known, HTTPProxyPassword='"not the password"'),
        through(site, "/nobody", HTTPProxy=site.locked.url),
        through(site, "/dead", HTTPProxy=f"http://127.0.0.1:{dead}"),
        through(site, "/unnamed", HTTPProxy="http://no-such-proxy.invalid:3128"),
        through(site, "/closed", Authority=f"https://127.0.0.1:{system.free_port()}/"),
        through(site, "/untrusted", TLSCAFile=None), through(site, "/name", "name"),
        through(site, "/expired", "expired"),
        through(site, "/known", "demanding", TLSCertificate=site.client_file), through(site, "/unknown", "demanding"),
        site.profile("/plain", HTTPProxy=site.locked.url, HTTPProxyUser=USER, HTTPProxyPassword=PASSWORD),
    ]


OPTIONS = {"environment": {name: "http://127.0.0.1:9" for name in ("https_proxy", "HTTPS_PROXY", "http_proxy")},
           "threads": 64, "allow": ["ISCEP0531"]}


@pytest.fixture
def at(gateway):
    return lambda path: next(profile for profile in gateway.profiles if profile.path == path)


def enrolled(site, gateway, devices, profile):
    (message,) = devices(profile)
    answer = message.post(gateway.port)
    opened = check.success(message, answer)
    check.reported(site, message, opened, answer)


def failed(site, gateway, devices, profile, *texts):
    (message,) = devices(profile)
    check.unavailable(message.post(gateway.port))
    check.final_line(gateway, 1105, message, *texts)
    check.all_untouched(site)
    gateway.check_log()


def test_proxy(site, gateway, devices, at):
    enrolled(site, gateway, devices, at("/free"))
    assert set(site.free.tunnels()) == {f"127.0.0.1:{site.microsoft.tls_port}"}


def test_proxy_with_password(site, gateway, devices, at):
    enrolled(site, gateway, devices, at("/locked"))
    assert set(site.locked.tunnels()) == {f"127.0.0.1:{site.microsoft.tls_port}"}


def test_proxy_of_plain_http(site, gateway, devices, at):
    enrolled(site, gateway, devices, at("/plain"))


def test_none_ignores_the_environment(site, gateway, devices, at):
    before = len(site.free.tunnels()) + len(site.locked.tunnels())
    enrolled(site, gateway, devices, at("/direct"))
    assert len(site.free.tunnels()) + len(site.locked.tunnels()) == before


def test_environment(site, start_gateway, devices):
    """The environment's proxy is the default; its exceptions count."""
    proxied = start_gateway([through(site, "/environment", HTTPProxy=None)],
                            environment={"https_proxy": site.free.url, "no_proxy": "example.com"})
    before = len(site.free.tunnels())
    enrolled(site, proxied, devices, proxied.profiles[0])
    assert len(site.free.tunnels()) > before
    excepted = start_gateway([through(site, "/excepted", HTTPProxy=None)],
                             environment={"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"})
    enrolled(site, excepted, devices, excepted.profiles[0])


def test_environment_that_is_wrong(site, gateway, devices, at):
    failed(site, gateway, devices, at("/environment"), "proxy failed", "port 9 ", "https_proxy")


FAILURES = {
    "/wrong": ("proxy refused us", "response 40", "IntuneScepHTTPProxyUser", "IntuneScepHTTPProxyPassword"),
    "/nobody": ("proxy refused us", "response 407", "IntuneScepHTTPProxyPassword"),
    "/dead": ("proxy failed", "Failed to connect to 127.0.0.1 port", "IntuneScepHTTPProxy"),
    "/unnamed": ("proxy failed", "no-such-proxy.invalid", "IntuneScepHTTPProxy"),
    "/closed": ("proxy failed", "response 5", "IntuneScepHTTPProxy"),
    "/untrusted": ("certificate not accepted", "SSL certificate problem", "IntuneScepTLSCAFile"),
    "/name": ("certificate not accepted", "127.0.0.1", "IntuneScepTLSCAFile"),
    "/expired": ("certificate not accepted", "has expired", "IntuneScepTLSCAFile"),
}


@pytest.mark.parametrize("path", FAILURES)
def test_failure(site, gateway, devices, at, path):
    failed(site, gateway, devices, at(path), *FAILURES[path])
    assert PASSWORD not in gateway.output() and "not the password" not in gateway.output()


def test_rotated_password(site, gateway, devices, at):
    """The proxy's password is read again when its file changes."""
    failed(site, gateway, devices, at("/rotated"), "IntuneScepHTTPProxyPassword")
    pki.write_secret(site.password_file, PASSWORD + "\n")
    gateway.allow_log("ISCEP1105")
    waiting = iter(devices(at("/rotated"), 20))
    check.wait.until(lambda: next(waiting).post(gateway.port).status == 200, "the new password to be used", 15, 0.7)


def test_client_certificate(site, gateway, devices, at):
    enrolled(site, gateway, devices, at("/known"))


def test_client_certificate_that_is_missing(site, gateway, devices, at):
    (message,) = devices(at("/unknown"))
    check.unavailable(message.post(gateway.port))
    check.final_line(gateway, 1105, message, "IntuneScepTLSCertificate")
    check.all_untouched(site)
