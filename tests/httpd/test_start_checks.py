# SPDX-License-Identifier: Apache-2.0
"""What the start warns of: certificates that some devices mind, what expires, TLS, mutex, worker, clock."""
import datetime
import pathlib
import shutil

import pytest

from harness import pki, place, system
from harness.gateway import Gateway
from harness.httpd import load_module

AGENT = "1.3.6.1.4.1.311.20.2.1"
USAGE = "keyUsage=critical,digitalSignature,keyEncipherment"
NO_CA = "basicConstraints=critical,CA:FALSE"


@pytest.fixture(scope="module")
def tls(site):
    return pki.server_certificate(site.directory / "start-checks-tls")


@pytest.fixture
def tested():
    """What `httpd -t` says of a configuration that is taken: the lines of this module, without time and process."""
    made = []

    def run(gateway, ids="ISCEP055"):
        made.append(gateway)
        gateway.leaks = False
        gateway.write_config()
        done = gateway.run_tool("-t")
        assert done.returncode == 0, done.stdout + done.stderr
        return [line for line in (done.stdout + done.stderr + gateway.output()).splitlines() if ids in line]
    yield run
    for gateway in made:
        shutil.rmtree(gateway.root, ignore_errors=True)


def warned(lines, number, *words, level="warn"):
    """Asserts that there is exactly one line of that id, and what it says."""
    found = [line for line in lines if f"ISCEP{number:04}: " in line]
    assert len(found) == 1, lines
    assert f"[intune_scep:{level}]" in found[0], found[0]
    for word in words:
        assert word in found[0], found[0]


def in_days(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, minutes=5)).strftime("%Y%m%d%H%M%SZ")


def test_nothing_in_a_healthy_configuration(site, tested):
    """But the one notice, for the tests' gateways have no worker."""
    lines = tested(Gateway([site.profile("/scep")]))
    warned(lines, 558, "IntuneScepBackend (", "<Proxy", "ttl=30", level="notice")
    assert len(lines) == 1


@pytest.mark.parametrize("extensions, number, words", [
    ((NO_CA,), 550, ("Windows", "no key usage")),
    ((NO_CA, "keyUsage=nonRepudiation,keyEncipherment"), 550, ("Windows", "digitalSignature")),
    ((NO_CA, USAGE, "extendedKeyUsage=clientAuth"), 551, ("Windows", AGENT)),
], ids=["no key usage", "non-repudiation", "purpose"])
def test_ra_that_windows_minds(site, tested, extensions, number, words):
    ra = site.authority.issue(f"ra-{number}-{len(extensions)}", extensions)
    lines = tested(Gateway([site.profile("/scep", ra=ra)]))
    warned(lines, number, "IntuneScepRACertificate (", *words)
    assert len(lines) == 2


@pytest.mark.parametrize("purposes", [AGENT, f"clientAuth,{AGENT}"])
def test_ra_with_the_right_purpose(site, tested, purposes):
    ra = site.authority.issue(f"ra-agent-{len(purposes)}", (NO_CA, USAGE, f"extendedKeyUsage={purposes}"))
    assert len(tested(Gateway([site.profile("/scep", ra=ra)]))) == 1


def test_separate_encryption_certificate(site, tested):
    """Each is held against its own role."""
    signing = site.authority.issue("ra-signs", (NO_CA, "keyUsage=critical,digitalSignature"))
    opening = site.authority.issue("ra-opens", (NO_CA, "keyUsage=critical,keyEncipherment"))
    profile = site.profile("/scep", ra=signing, RAEncryptionCertificate=opening[0], RAEncryptionKey=opening[1])
    assert len(tested(Gateway([profile]))) == 1


@pytest.mark.parametrize("days, level", [(29, "warn"), (6, "error"), (31, None)])
def test_ra_that_expires_soon(site, tested, days, level):
    ra = site.authority.issue(f"ra-{days}-days", end=in_days(days))
    lines = tested(Gateway([site.profile("/scep", ra=ra)]))
    if level:
        warned(lines, 552, "IntuneScepRACertificate (", f"in {days} days", level=level)
    assert len(lines) == 1 + bool(level)


def test_chain_that_expires_soon(site, tested, scratch):
    root = pki.Authority(scratch / "root")
    certificate, key = root.issue("issuing", ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"),
                                  end=in_days(20))
    issuing = pki.Authority(scratch / "issuing", make=False)
    issuing.directory.mkdir()
    shutil.copy(certificate, issuing.certificate)
    shutil.copy(key, issuing.key)
    ra = issuing.issue("ra")
    chain = scratch / "chain.pem"
    chain.write_text(issuing.certificate.read_text() + root.certificate.read_text())
    lines = tested(Gateway([site.profile("/scep", ra=ra, CAChain=chain)]))
    warned(lines, 552, "IntuneScepCAChain (", "CN=issuing", "in 20 days")


@pytest.mark.parametrize("days, level", [(29, "warn"), (6, "error"), (31, None)])
def test_application_certificate_that_expires_soon(site, tested, days, level):
    certificate, key = site.authority.issue(f"application-{days}-days", end=in_days(days))
    pki.for_server(key)
    lines = tested(Gateway([site.profile("/scep", AppKey=None, AppCertificate=f'"{certificate}" "{key}"')]))
    if level:
        warned(lines, 552, "IntuneScepAppCertificate (", "the application's certificate expires on", f"in {days} days", level=level)
    assert len(lines) == 1 + bool(level)


def test_scep_certificate_of_the_ca_that_expires_soon(site, tested):
    certificate, _ = site.authority.issue("ca-scep", end=in_days(3))
    lines = tested(Gateway([site.profile("/scep", BackendCertificate=certificate)]))
    warned(lines, 552, "IntuneScepBackendCertificate (", "CN=ca-scep", "in 3 days", level="error")


def test_ra_that_is_the_ca_expires_once(site, tested, scratch):
    root = pki.Authority(scratch / "root")
    ra = root.issue("both", ("basicConstraints=critical,CA:TRUE",
                             "keyUsage=critical,keyCertSign,cRLSign,digitalSignature,keyEncipherment"), end=in_days(20))
    lines = tested(Gateway([site.profile("/scep", ra=ra, CAChain=ra[0])]))
    warned(lines, 552, "IntuneScepRACertificate (", "CN=both", "in 20 days")


def test_ra_that_is_the_issuing_ca_below_a_root(site, tested, scratch):
    root = pki.Authority(scratch / "root")
    issuing = root.issue("issuing", ("basicConstraints=critical,CA:TRUE",
                                     "keyUsage=critical,keyCertSign,cRLSign,digitalSignature,keyEncipherment"))
    chain = scratch / "chain.pem"
    chain.write_text(issuing[0].read_text() + root.certificate.read_text())
    lines = tested(Gateway([site.profile("/scep", ra=issuing, CAChain=chain)]))
    warned(lines, 553, "IntuneScepRACertificate (", "-67731")


def https_host(gateway, tls, profile, inside="", outside=""):
    """The profile in a virtual host that speaks TLS, in an <IfModule> as distributions have it."""
    certificate, key = tls
    gateway.after_text = (
        f"{load_module('ssl')}{outside}<IfModule ssl_module>\nListen 127.0.0.1:{system.free_port()} https\n"
        f"<VirtualHost *>\nServerName localhost\nSSLEngine on\nSSLCertificateFile {certificate}\n"
        f"SSLCertificateKeyFile {key}\n{inside}{profile.config()}</VirtualHost>\n</IfModule>\n")
    return gateway


@pytest.mark.parametrize("inside, outside, value", [
    ("SSLVerifyClient require\n", "", "require"),
    ("SSLVerifyClient optional\n", "", "optional"),
    ("", "SSLVerifyClient require\n", "require"),
    ('<Location "/">\nSSLVerifyClient require\n</Location>\n', "", "require"),
    ("SSLVerifyClient none\n", "SSLVerifyClient require\n", None),
    ("SSLVerifyClient off\n", "SSLVerifyClient on\n", None),
    ("SSLVerifyClient \"none\"\n", "SSLVerifyClient require\n", None),
    ("SSLEngine 'off'\n", "SSLVerifyClient require\n", None),
    ('<Location "/scep">\nSSLVerifyClient none\n</Location>\n', "SSLVerifyClient require\n", None),
    ('<Location "/other">\nSSLVerifyClient require\n</Location>\n', "", None),
    ('<Location "/sc">\nSSLVerifyClient require\n</Location>\n', "", None),
], ids=["host", "optional", "server", "location", "host takes it back", "off", "in quotes", "no TLS", "location takes it back", "elsewhere", "prefix"])
def test_client_certificates(site, tested, tls, inside, outside, value):
    lines = tested(https_host(Gateway([]), tls, site.profile("/scep"), inside, outside))
    if value:
        warned(lines, 555, f"SSLVerifyClient {value}", "SSLVerifyClient none for /scep")
    assert len(lines) == 1 + bool(value)


@pytest.mark.parametrize("protocols, good", [
    ("all -SSLv3 -TLSv1 -TLSv1.1", True), ("TLSv1.2", True), ("-all +TLSv1.2 +TLSv1.3", True), ("TLSv1.3 +TLSv1.2", True),
    ("TLSv1.3", False), ("all -TLSv1.2", False), ("-all +TLSv1.3", False)])
def test_tls_protocols(site, tested, tls, protocols, good):
    lines = tested(https_host(Gateway([]), tls, site.profile("/scep"), outside=f"SSLProtocol {protocols}\n"))
    if not good:
        warned(lines, 556, f"SSLProtocol {protocols}", "Windows", "+TLSv1.2")
    assert len(lines) == 1 + (not good)


def test_other_host_is_not_looked_at(site, tested, tls):
    gateway = https_host(Gateway([]), tls, site.profile("/scep"))
    certificate, key = tls
    gateway.after_text += (f"<VirtualHost *>\nServerName other.example\nSSLEngine on\nSSLCertificateFile {certificate}\n"
                           f"SSLCertificateKeyFile {key}\nSSLVerifyClient require\nSSLProtocol TLSv1.3\n</VirtualHost>\n")
    assert len(tested(gateway)) == 1


@pytest.mark.parametrize("mutex, lost", [
    ("Mutex posixsem intune-scep-cache", True), ("Mutex posixsem", True), ("Mutex sysvsem intune-scep-cache", False),
    ("Mutex posixsem default\nMutex pthread intune-scep-cache", False), ("Mutex fcntl:run default", False)])
def test_mutex_that_loses_its_holder(site, start_gateway, mutex, lost):
    gateway = start_gateway([site.profile("/scep")], before=mutex + "\n")
    if lost:
        gateway.expect_log(r"ISCEP0557: .*posixsem.*Mutex pthread intune-scep-cache")


@pytest.mark.parametrize("server, backend, word", [
    ('<Proxy "{url}">\nProxySet ttl=30\n</Proxy>\n', None, None),
    ('ProxyPass "/elsewhere" "{host}"\n', None, None),
    ('<Proxy "{host}1">\nProxySet ttl=30\n</Proxy>\n', None, "worker"),
    ('<Proxy "balancer://ca">\nBalancerMember "{host}"\n</Proxy>\n', "balancer://ca/ca", None),
    ("", "balancer://ca/ca", "balancer"),
], ids=["worker", "ProxyPass", "other port", "balancer", "no balancer"])
def test_worker_of_the_backend(site, tested, server, backend, word):
    host = site.ca.url.removesuffix("/ca")
    modules = ["slotmem_shm", "lbmethod_byrequests", "proxy_balancer"]
    gateway = Gateway([site.profile("/scep", backend=backend)], server=server.format(url=site.ca.url, host=host), modules=modules)
    lines = tested(gateway)
    if word:
        warned(lines, 558, f"no {word} for", level="notice")
    assert len(lines) == bool(word)


BALANCER = '<Proxy "balancer://ca">\nBalancerMember "http://127.0.0.1:1"\nBalancerMember "{}"\n</Proxy>\n'


@pytest.mark.parametrize("member, server, numbers", [
    ("http://127.0.0.2:2", "", []),
    ("http://127.example.invalid", "", [504]),
    ("http://192.0.2.1", "", [504]),
    ("unix:/run/ca.sock|http://ca.example.invalid", "", []),
    ("https://127.0.0.1:2", "SSLProxyEngine On\nSSLProxyVerify require\n", []),
    ("https://127.0.0.1:2", "SSLProxyEngine \"On\"\nSSLProxyVerify 'require'\n", []),
    ("https://127.0.0.1:2", "SSLProxyEngine on\nSSLProxyVerify on\n", []),
    ("https://127.0.0.1:2", "SSLProxyEngine on\nSSLProxyVerify optional\n", [503]),
    ("https://127.0.0.1:2", "SSLProxyEngine On\n", [503]),
    ("https://192.0.2.1", "SSLProxyEngine On\n", [503, 504]),
])
def test_members_of_a_balancer(site, tested, member, server, numbers):
    modules = ["slotmem_shm", "lbmethod_byrequests", "proxy_balancer", "ssl"]
    profile = site.profile("/scep", backend="balancer://ca/ca")
    lines = tested(Gateway([profile], server=server + BALANCER.format(member), modules=modules), "ISCEP050")
    for number in numbers:
        warned(lines, number, "IntuneScepBackend")
    assert len(lines) == len(numbers)


def test_worker_by_socket(site, tested):
    """The name in its URL is no machine."""
    worker = '<Proxy "unix:/run/ca.sock|http://scep-ca/ca">\nProxySet ttl=30\n</Proxy>\n'
    assert not tested(Gateway([site.profile("/scep", backend="http://scep-ca/ca")], server=worker), "ISCEP05")


def test_name_that_begins_like_loopback(site, tested):
    profile = site.profile("/scep", backend="http://127.example.invalid/ca")
    worker = '<Proxy "http://127.example.invalid/ca">\nProxySet ttl=30\n</Proxy>\n'
    lines = tested(Gateway([profile], server=worker), "ISCEP050")
    warned(lines, 504, "IntuneScepBackend", "bypasses Intune")
    assert len(lines) == 1


@pytest.mark.parametrize("text, words", [
    ("<VirtualHost *>\nIntuneScepRetention 100000\n</VirtualHost>\n", "IntuneScepRetention cannot occur within <VirtualHost>"),
    ('<LocationMatch "^/x">\nIntuneScepHealth journal\n</LocationMatch>\n', "IntuneScepHealth not allowed in <LocationMatch>"),
    ('<Directory "/">\nIntuneScep On\n</Directory>\n', "<Directory> section: use <Location> or a virtual host"),
    ('<Files "x">\nIntuneScep On\n</Files>\n', "<Files> section: use <Location> or a virtual host"),
    ('<Proxy "http://127.0.0.1/">\nIntuneScep On\n</Proxy>\n', "<Proxy> section: use <Location> or a virtual host"),
    ('<If "true">\nIntuneScep On\n</If>\n', "<If> section: use <Location> or a virtual host"),
], ids=["server's in a host", "server's in a location", "Directory", "Files", "Proxy", "If"])
def test_sections_that_are_no_place(site, text, words):
    gateway = Gateway([site.profile("/scep")], after=text)
    gateway.leaks = False
    gateway.write_config()
    try:
        done = gateway.run_tool("-t")
        said = done.stdout + done.stderr + gateway.output()
        assert done.returncode != 0 and words in said and str(gateway.config_file) in said, said
    finally:
        shutil.rmtree(gateway.root)


@pytest.mark.parametrize("server, host, name, told", [
    ("", "", None, True), ("", "", "corp", False), ("ServerName localhost\n", "", None, False),
    ("", "ServerName scep.example\n", None, False), ("ServerName localhost\n", "*", None, False),
    ("ServerName localhost\n", "127.0.0.1", None, True)],
    ids=["nothing", "IntuneScepName", "ServerName", "the host's own", "a host without", "a host that DNS names"])
def test_name_that_dns_gives(site, tested, server, host, name, told):
    """Another one after a start without network, and the journal's rows would be another location's."""
    profile = site.profile("/scep", Name=name)
    gateway = Gateway([] if host else [profile])
    if host:
        address = "*" if "ServerName" in host else host
        own = host if "ServerName" in host else ""
        gateway.after_text = f"<VirtualHost {address}:1>\n{own}{profile.config()}</VirtualHost>\n"
    made = gateway.config
    gateway.config = lambda: made().replace("ServerName localhost\n", server, 1)
    lines = tested(gateway, "ISCEP0566")
    if told:
        warned(lines, 566, "IntuneScep (", "/scep", "set IntuneScepName", level="notice")
    assert len(lines) == told


@pytest.mark.parametrize("path, words", [
    ("/scep/", [563, "does not serve /scep itself"]), ("scep", [562, "begin with /"]), ("/scep", []), ("/", [])])
def test_path_of_a_location(site, tested, path, words):
    """Told once, although virtual hosts serve it, too."""
    host = "<VirtualHost *:1>\nServerName a.example\n</VirtualHost>\n"
    lines = tested(Gateway([site.profile(path)], after=host), "ISCEP056")
    if words:
        warned(lines, words[0], "IntuneScep (", f'<Location "{path}">', *words[1:])
    assert len(lines) == bool(words)


@pytest.mark.parametrize("server, path", [
    ('ProxyPass "/old" "{url}"\n', "/old"),
    ('ProxyPass "/old/" "{host}/"\n', "/old/ca"),
    ('<Location "/old">\nProxyPass "{url}"\n</Location>\n', "/old"),
    ('<VirtualHost *>\nServerName a.example\nProxyPass "/" "{host}/"\n</VirtualHost>\n', "/ca"),
    ('ProxyPass "/" "{host}/"\n', "/ca"),
    ('ProxyPass "/scep" "{url}"\n', None),
    ('ProxyPass "/scep/below" "{url}"\n', None),
    ('ProxyPass "/ca" "!"\nProxyPass "/" "{host}/"\n', None),
    ('ProxyPass "/" "{host}/"\nProxyPass "/ca" "!"\n', "/ca"),
    ('ProxyPass "/old" "!"\n<Location "/old">\nProxyPass "{url}"\n</Location>\n', "/old"),
    ('ProxyPass "/old" "{host}1/ca"\n', None),
    ('ProxyPass "/old" "{url}x"\n', None),
    ('ProxyPass "/old" "{host}/other"\n', None),
    ('ProxyPassMatch "^/old" "{host}/other"\n', None),
], ids=["path", "host", "in a location", "virtual host", "all", "the location", "below it", "excluded", "excluded too late",
        "a location of what is excluded", "other port", "longer name",
        "other path", "expression"])
def test_proxypass_around_the_gateway(site, tested, server, path):
    host = site.ca.url.removesuffix("/ca")
    lines = tested(Gateway([site.profile("/scep")], server=server.format(url=site.ca.url, host=host)), "ISCEP0561")
    if path:
        warned(lines, 561, "IntuneScepBackend (", f"leads from {path} to the CA", "bypasses Intune")
    assert len(lines) == bool(path)


@pytest.mark.parametrize("section", ['<LocationMatch "^/m?scep(/|$)">', '<Location "/*scep">'])
def test_proxypass_of_what_a_pattern_serves(site, tested, section):
    end = "</LocationMatch>" if "Match" in section else "</Location>"
    text = site.profile("/scep").config().replace('<Location "/scep">', section).replace("</Location>", end)
    assert not tested(Gateway([], server=f'ProxyPass "/mscep" "{site.ca.url}"\n', after=text), "ISCEP0561")
    warned(tested(Gateway([], server=f'ProxyPass "/old" "{site.ca.url}"\n', after=text), "ISCEP0561"), 561, "from /old to")


@pytest.mark.parametrize("server, told", [("ProxyRequests On\n", True), ("ProxyRequests Off\n", False),
                                          ("<VirtualHost *>\nServerName a.example\nProxyRequests On\n</VirtualHost>\n", True)])
def test_forward_proxy(site, tested, server, told):
    lines = tested(Gateway([site.profile("/scep")], server=server), "ISCEP0564")
    if told:
        warned(lines, 564, "IntuneScepBackend (", "ProxyRequests On", "bypasses Intune", level="notice")
    assert len(lines) == told


def test_proxypass_of_a_balancer_around_the_gateway(site, tested):
    modules = ["slotmem_shm", "lbmethod_byrequests", "proxy_balancer"]
    server = BALANCER.format("http://127.0.0.1:2") + 'ProxyPass "/old" "balancer://ca/ca"\n'
    lines = tested(Gateway([site.profile("/scep", backend="balancer://ca/ca")], server=server, modules=modules), "ISCEP0561")
    warned(lines, 561, "leads from /old to the CA")


def faketime():
    found = list(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


@pytest.mark.skipif(place.SANITIZE, reason="libfaketime and the sanitizers' libraries do not go together")
@pytest.mark.skipif(faketime() is None, reason="libfaketime is missing: install Debian's package of that name")
def test_clock_before_the_build(site):
    """The certificates are not valid yet, then, and stop the server: this line says why."""
    gateway = Gateway([site.profile("/scep")])
    gateway.environment = {"LD_PRELOAD": str(faketime()), "FAKETIME": "2020-01-01 00:00:00"}
    gateway.write_config()
    try:
        done = gateway.run_tool("-t")
        lines = (done.stdout + done.stderr + gateway.output()).splitlines()
        assert done.returncode != 0 and any("ISCEP0500" in line and "not valid before" in line for line in lines), lines
        warned(lines, 554, "Wed, 01 Jan 2020", "set the clock", level="error")
    finally:
        shutil.rmtree(gateway.root)
