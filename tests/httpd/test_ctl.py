# SPDX-License-Identifier: Apache-2.0
"""intune-scepctl on real servers: `check` against all that can be broken, and `decode`."""
import base64
import datetime
import os
import shutil
import subprocess
import urllib.parse

import pytest

from harness import ctl, httpd, microsoft, pki, place, system
from harness.httpd import load_module

FIXTURES = place.TREE / "tests/fixtures"
GREEN = ["settings", "credential", "graph-token", "intune-token", "discovery", "validation", "permissions", "ca-chain", "ra",
         "ca-capabilities", "ca-certificates", "stranger", "journal"]


def profiles(site):
    return [site.profile("/scep")]


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


@pytest.fixture
def changed(gateway, profile, scratch):
    """The gateway's configuration with other directives, in a file of its own; the server does not see it."""
    def make(text="", **changes):
        file = scratch / "changed.conf"
        old = gateway.config_file.read_text()
        new = old.replace(profile.config(), profile.changed(**changes).config() + text)
        assert not changes or new != old
        file.write_text(new)
        return file
    return make


@pytest.fixture
def strict_ca(site):
    """A CA that refuses strangers."""
    site.ca.control("refuse", fail_info=2)


def in_days(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


# check: what is whole

def test_all_is_green(site, gateway, strict_ca):
    checked = ctl.check(gateway.config_file)
    assert checked.code == 0 and checked.json["status"] == "green", str(checked)
    assert checked.colours() == dict.fromkeys(GREEN, "green")
    (call,) = site.microsoft.calls("validate")
    assert call["code"] in ("ChallengeDecodingError", "ChallengeDeserializationError")
    # nothing but the stranger's request was made at the CA, and nothing was issued
    (request,) = site.ca.requests()
    assert request["outcome"] == "refused"
    assert site.microsoft.calls("success") == [] and site.microsoft.calls("failure") == []


def test_as_text(gateway, profile, strict_ca):
    checked = ctl.run("check", "--config", gateway.config_file, as_json=False)
    assert checked.code == 0 and checked.err == ""
    lines = checked.out.splitlines()
    assert lines[0] == "localhost/scep"
    assert [line.split()[:2] for line in lines[1:]] == [["green", name] for name in GREEN]
    secret = profile.tenant["secret"]
    assert secret not in checked.out


def test_values_as_options(site, gateway, profile, strict_ca):
    options = []
    for name, value in profile.directives.items():
        if name not in ("IntuneScep", "IntuneScepAppKey"):
            words = {"IntuneScepTenant": "tenant", "IntuneScepAppID": "app-id", "IntuneScepAuthority": "authority",
                     "IntuneScepGraphURL": "graph-url", "IntuneScepIntuneURL": "intune-url", "IntuneScepRACertificate":
                     "ra-certificate", "IntuneScepRAKey": "ra-key", "IntuneScepCAChain": "ca-chain",
                     "IntuneScepBackend": "backend", "IntuneScepTimeout": "timeout", "IntuneScepGrace": "grace"}
            options += ["--" + words[name], value]
    options += ["--state-dir", gateway.state]
    checked = ctl.Check(ctl.run("check", "--app-key", profile.directives["IntuneScepAppKey"], *options))
    assert checked.code == 0, str(checked)
    assert checked.colours() == dict.fromkeys([*GREEN, "journal"], "green")
    # only what is given is checked
    checked = ctl.Check(ctl.run("check", "--backend", site.ca.url, "--no-stranger"))
    assert checked.code == 0, str(checked)
    assert [name for name, colour in checked.colours().items() if colour == "green"] == ["settings", "ca-capabilities", "ca-certificates"]
    # no secret on the command line, where everybody may see it
    refused = ctl.run("check", "--tenant", "x", "--app-key", profile.tenant["secret"], as_json=False)
    assert refused.code == 2 and profile.tenant["secret"] not in refused.err


def test_former_ra_as_an_option(site, gateway, strict_ca):
    """Certificate and key behind a blank, as its manual page says."""
    certificate, key = site.authority.issue("former-as-an-option")
    pki.for_server(key)
    ctl.check(gateway.config_file, "--ra-former", f"{certificate} {key}").expect("ra-former", "green")
    ctl.check(gateway.config_file, "--ra-former", certificate).expect("ra-former", "red")


def test_options_over_the_configuration(gateway, strict_ca):
    checked = ctl.check(gateway.config_file, "--tenant", "nobody.example")
    checked.expect("graph-token", "red", "AADSTS90002")
    checked.expect("journal", "green")


def test_locations(site, gateway, profile, changed, strict_ca):
    second = profile.changed(Name="second", Tenant="nobody.example").config().replace('"/scep"', '"/two"')
    config = changed(second)
    both = ctl.run("check", "--config", config, "--no-stranger")
    assert both.code == 1 and both.json["status"] == "red"
    assert [(one["location"], one["status"]) for one in both.json["locations"]] == [("localhost/scep", "green"), ("second", "red")]
    for word in ("second", "/two"):
        checked = ctl.check(config, "--location", word, "--no-stranger")
        checked.expect("graph-token", "red", "AADSTS90002")
    nothing = ctl.run("check", "--config", config, "--location", "/three", as_json=False)
    assert nothing.code == 3 and "/three" in nothing.err


# check: what is broken

def test_wrong_secret(changed, scratch, strict_ca):
    key = pki.write_secret(scratch / "wrong.key", "not-the-key\n")
    checked = ctl.check(changed(AppKey=f"file:{key}"))
    assert checked.code == 1
    checked.expect("credential", "green")
    checked.expect("graph-token", "red", "AADSTS7000215", "IntuneScepAppKey")
    checked.expect("intune-token", "red", "AADSTS7000215")
    for name in ("discovery", "validation", "permissions"):
        checked.expect(name, "skipped")
    assert "not-the-key" not in str(checked)


def test_unknown_tenant_and_application(changed, strict_ca):
    ctl.check(changed(Tenant="nobody.example")).expect("graph-token", "red", "AADSTS90002", "IntuneScepTenant")
    checked = ctl.check(changed(AppID="00000000-1111-2222-3333-444444444444"))
    checked.expect("graph-token", "red", "AADSTS700016", "IntuneScepAppID")


def test_expired_secret(site, gateway, strict_ca):
    site.microsoft.fail("token", "aadsts", aadsts=7000222)
    ctl.check(gateway.config_file).expect("graph-token", "red", "AADSTS7000222", "expired")


def test_no_scep_service_in_graph(site, gateway, strict_ca):
    site.microsoft.fail("endpoints", "empty")
    checked = ctl.check(gateway.config_file)
    checked.expect("discovery", "red", "ScepRequestValidationFEService", "permissions are missing")
    checked.expect("permissions", "yellow", "Application.Read.All", "scep_challenge_provider")
    checked.expect("validation", "skipped")


def test_graph_denies(site, gateway, strict_ca):
    site.microsoft.fail("endpoints", "status", status=403)
    checked = ctl.check(gateway.config_file)
    checked.expect("discovery", "red", "HTTP 403", "Application.Read.All")
    checked.expect("permissions", "yellow")


def test_intune_denies(site, gateway, strict_ca):
    site.microsoft.fail("validate", "status", status=403)
    checked = ctl.check(gateway.config_file)
    checked.expect("discovery", "green")
    checked.expect("validation", "red", "did not accept the application", "scep_challenge_provider")
    checked.expect("permissions", "red", "scep_challenge_provider")


@pytest.mark.parametrize("mode, options, words", [
    ("drop", {}, "connection dropped"), ("status", {"status": 503}, "HTTP 503"), ("html", {}, "was not understood"),
    ("stall", {"seconds": 30}, "timed out")])
def test_intune_is_down(site, gateway, strict_ca, mode, options, words):
    site.microsoft.fail("validate", mode, **options)
    checked = ctl.check(gateway.config_file)
    assert checked.code == 1
    checked.expect("validation", "red", words)
    checked.expect("discovery", "green")


def test_intune_takes_everything(site, gateway, strict_ca):
    site.microsoft.fail("validate", "code", code="Success")
    ctl.check(gateway.config_file).expect("validation", "red", "Success to a made-up challenge")


def test_intune_says_something_else(site, gateway, strict_ca):
    site.microsoft.fail("validate", "code", code="CertificateRequestDecodingFailed")
    checked = ctl.check(gateway.config_file)
    assert checked.code == 0
    checked.expect("validation", "yellow", "CertificateRequestDecodingFailed")
    assert ctl.check(gateway.config_file, "--strict").code == 1


def test_entra_out_of_reach(changed, strict_ca):
    closed = f"http://127.0.0.1:{system.free_port()}/"
    checked = ctl.check(changed(Authority=closed))
    checked.expect("graph-token", "red", "connection refused", "IntuneScepAuthority")


def test_foreign_tls(site, changed, strict_ca):
    ctl.check(changed(Authority=site.microsoft.tls_url)).expect("graph-token", "red", "certificate not accepted", "IntuneScepAuthority")
    checked = ctl.check(changed(Authority=site.microsoft.tls_url, TLSCAFile=site.microsoft.tls_certificate))
    checked.expect("graph-token", "green")


@pytest.mark.parametrize("mode, words", [(0o644, "open to others"), (None, "cannot be read"), ("empty", "empty")])
def test_unusable_key_file(changed, scratch, strict_ca, mode, words):
    key = scratch / "app.key"
    if mode is not None:
        pki.write_secret(key, "" if mode == "empty" else "key\n")
    if isinstance(mode, int):
        key.chmod(mode)
    checked = ctl.check(changed(AppKey=f"file:{key}"))
    checked.expect("credential", "red", "IntuneScepAppKey", str(key), words)
    checked.expect("graph-token", "skipped", "no credential")


def test_wrong_url_of_the_ca(site, changed):
    checked = ctl.check(changed(Backend=f"http://127.0.0.1:{site.ca.port}/nothing"))
    checked.expect("ca-capabilities", "red", "HTTP 404", "/nothing", "the URL's path")
    checked.expect("ca-certificates", "red", "HTTP 404")
    checked.expect("stranger", "skipped")


def test_ca_is_down(changed):
    checked = ctl.check(changed(Backend=f"http://127.0.0.1:{system.free_port()}/scep"))
    checked.expect("ca-capabilities", "red", "connection refused", "whether the server runs")


def test_no_scep_at_the_url(site, changed):
    checked = ctl.check(changed(Backend=f"http://127.0.0.1:{site.microsoft.port}/sim/health"))
    checked.expect("ca-capabilities", "yellow", "without a word of RFC 8894")
    checked.expect("ca-certificates", "red", "IntuneScepBackend")


def test_silent_capabilities(site, changed, strict_ca):
    site.ca.control(caps="nothing\n")
    checked = ctl.check(changed())
    checked.expect("ca-capabilities", "yellow", "IntuneScepBackendCapabilities")
    checked.expect("stranger", "green")
    ctl.check(changed(BackendCapabilities='"AES SHA-256 POSTPKIOperation"')).expect("ca-capabilities", "green")


def of_a_third_user(path, key):
    """A copy that belongs neither to root nor to the server's user."""
    pki.write_secret(path, key.read_text())
    os.chown(path, 12345, -1)
    return path


def refused_texts(profile, scratch):
    """Configurations that httpd does not start with: what is changed in the location, what stands behind it, and the step."""
    ra, key = profile.ra_certificate, profile.ra_key
    locked, open_pem = scratch / "locked.key", scratch / "open.pem"
    pki.write_secret(locked, "key\n")
    os.chown(locked, 0, 0)
    locked.chmod(0o600)
    open_pem.write_bytes(ra.read_bytes() + key.read_bytes())
    open_pem.chmod(0o644)
    secret = profile.directives["IntuneScepAppKey"]
    yield {"RAEncryptionCertificate": ra}, "", "settings"
    yield {"RAEncryptionKey": key}, "", "settings"
    yield {"RAFormerCertificate": ra}, "", "ra-former"
    yield {"RAFormerCertificate": f"{ra} {profile.chain}"}, "", "ra-former"
    yield {"AppCertificatePassword": secret}, "", "settings"
    yield {"HTTPProxyUser": "me"}, "", "settings"
    yield {"HTTPProxyPassword": secret}, "", "settings"
    yield {"HTTPProxyUser": "me:you", "HTTPProxyPassword": secret}, "", "settings"
    yield {"HTTPProxy": "none", "HTTPProxyUser": "me", "HTTPProxyPassword": secret}, "", "settings"
    yield {"TLSCertificate": open_pem}, "", "network"
    yield {"AppKey": None, "AppTokenFile": scratch}, "", "credential"
    yield {"Backend": "https://127.0.0.1:1/scep"}, load_module("ssl"), "settings"
    if place.IS_ROOT:
        yield {"AppKey": f"file:{locked}"}, "", "settings"
        yield {"RAKey": of_a_third_user(scratch / "foreign.key", key)}, "", "ra"
    for text in ("IntuneScepEventCommand bin/true\n", "IntuneScepSharedCache dbm\n", "IntuneScepSharedCache redis\n",
                 "<Directory />\nIntuneScepTimeout 5\n</Directory>\n",
                 profile.changed(Name="localhost/scep").config().replace('"/scep"', '"/two"'), "</Location\n", "<Location /x /y>\n</Location>\n",
                 "<Location /x>\n<Location /x/y>\n</Location>\n</Location>\n", "<VirtualHost *:1>\nIntuneScepRetention 100000\n</VirtualHost>\n"):
        yield {}, text, "settings"


def test_what_httpd_refuses_is_red(gateway, changed, profile, scratch):
    """And by the step that looks at it, not by one that comes to it by chance."""
    for changes, text, step in refused_texts(profile, scratch):
        config = changed(text, **changes)
        done = subprocess.run([place.APACHE, "-t", "-d", str(gateway.root), "-f", str(config)], capture_output=True,
                              text=True, env={**gateway.child_environment(), **place.sanitizer_environment()}, check=False)
        case = f"{changes} {text}"
        assert done.returncode, case
        checked = ctl.run("check", "--config", config, "--no-stranger")
        if checked.code == 3:
            assert "error" in checked.json, case
            continue
        assert checked.code == 1, case
        for location in checked.json["locations"]:
            found = {one["step"]: one for one in location["steps"]}
            assert found[step]["status"] == "red", f"{case}: {found}"


def test_proxy_without_a_port(changed, strict_ca):
    """It is port 80, where nobody is; not curl's 1080."""
    ctl.check(changed(HTTPProxy="http://127.0.0.1"), "--no-stranger").expect("graph-token", "red", "port 80 ")


@pytest.fixture
def other_ca(scratch):
    return pki.Authority(scratch / "other", name="Other CA")


def test_ra_of_another_ca(changed, other_ca, strict_ca):
    certificate, key = other_ca.issue("ra")
    checked = ctl.check(changed(RACertificate=certificate, RAKey=key))
    checked.expect("ra", "red", "not signed by a certificate of the chain", "Other CA", "ra-request")
    checked.expect("ca-certificates", "green")


def test_wrong_chain(changed, other_ca, strict_ca):
    checked = ctl.check(changed(CAChain=other_ca.certificate))
    checked.expect("ra", "red", "not signed")
    checked.expect("ca-certificates", "red", "Test CA", "Other CA", "IntuneScepCAChain")


def test_broken_chain(changed, scratch, site, other_ca, strict_ca):
    chain = scratch / "chain.pem"
    chain.write_bytes(other_ca.certificate.read_bytes() + site.authority.certificate.read_bytes())
    ctl.check(changed(CAChain=chain)).expect("ca-chain", "red", "is not signed by the next one")
    chain.write_text("nothing\n")
    ctl.check(changed(CAChain=chain)).expect("ca-chain", "red", "holds no certificate")


@pytest.mark.parametrize("days, colour", [(2, "red"), (20, "yellow"), (-1, "red"), (90, "green")])
def test_expiry_of_the_ra(site, changed, strict_ca, days, colour):
    name = f"ra-{days}"
    certificate, key = site.authority.issue(name, start=in_days(-10), end=in_days(days))
    checked = ctl.check(changed(RACertificate=certificate, RAKey=key))
    checked.expect("ra", colour, *{2: ["valid until", "--renew"], 20: ["days", "--renew"], -1: ["expired"], 90: []}[days])
    assert checked.code == (1 if colour == "red" else 0)


@pytest.mark.parametrize("usage, words", [("digitalSignature", "keyEncipherment"), ("keyEncipherment", "digitalSignature")])
def test_key_usage_of_the_ra(site, changed, strict_ca, usage, words):
    certificate, key = site.authority.issue(f"ra-{usage}", extensions=("basicConstraints=CA:FALSE", f"keyUsage={usage}"))
    ctl.check(changed(RACertificate=certificate, RAKey=key)).expect("ra", "red", "does not allow " + words, "ra-request")


def test_key_that_does_not_fit(site, changed, strict_ca):
    _, key = site.authority.issue("misfit")
    ctl.check(changed(RAKey=key)).expect("ra", "red", "IntuneScepRAKey", "does not belong")


def test_ca_that_speaks_through_its_ra(site, changed, other_ca, strict_ca):
    """As NDES does: here the gateway is the RA that another one does not know."""
    checked = ctl.check(changed(RACertificate=other_ca.issue("ra")[0], BackendCertificate=other_ca.certificate))
    checked.expect("ca-certificates", "red", "not among the CA's certificates", "IntuneScepBackendCertificate")


def test_revocation_list(site, changed, scratch, strict_ca):
    work = scratch / "crl"
    work.mkdir()
    (work / "index").write_text("")
    (work / "config").write_text(f"[ca]\ndefault_ca=own\n[own]\ndatabase={work}/index\ndefault_md=sha256\n")
    for name, dates in (("good", ["-crldays", 5]), ("old", ["-crl_lastupdate", in_days(-9), "-crl_nextupdate", in_days(-2)])):
        pki.openssl("ca", "-gencrl", "-config", work / "config", "-cert", site.authority.certificate, "-keyfile", site.authority.key,
                    *dates, "-out", work / name)
    ctl.check(changed(CRL=work / "good")).expect("crl", "green")
    ctl.check(changed(CRL=work / "old")).expect("crl", "red", "IntuneScepCRL", "expired")
    ctl.check(changed(CRL=work / "none")).expect("crl", "red", "IntuneScepCRL")


def test_ra_of_the_ca_is_not_known(site, gateway, other_ca, changed):
    certificate, key = site.authority.issue("second-ra")
    # the gateway as the CA of another gateway
    checked = ctl.check(changed(Backend=f"http://127.0.0.1:{gateway.port}/scep", RACertificate=certificate, RAKey=key), "--no-stranger")
    checked.expect("ca-certificates", "red", "an RA of its own", "IntuneScepBackendCertificate")


def test_ca_that_issues_to_strangers(site, gateway):
    checked = ctl.check(gateway.config_file)
    assert checked.code == 1
    (request,) = site.ca.requests()
    checked.expect("stranger", "red", request["serial"], "ISSUES TO ANYBODY", "revoke", "--no-stranger")
    assert "CN=stranger" in checked.steps["stranger"]["found"]
    assert [name for name, colour in checked.colours().items() if colour != "green"] == ["stranger"]
    checked = ctl.check(gateway.config_file, "--no-stranger")
    assert checked.code == 0 and checked.colours()["stranger"] == "skipped" and len(site.ca.requests()) == 1


@pytest.mark.parametrize("mode, colour, words", [
    ("refuse", "green", "refuses a stranger"), ("pending", "yellow", "wait for a decision"), ("drop", "yellow", "cannot be told"),
    ("html", "yellow", "cannot be told"), ("foreign_issuer", "red", "ISSUES TO ANYBODY"), ("expired", "red", "ISSUES TO ANYBODY"),
    ("other_transaction", "yellow", "another transaction"), ("foreign_signer", "yellow", "not signed by")])
def test_what_strangers_get(site, gateway, mode, colour, words):
    site.ca.control(mode)
    ctl.check(gateway.config_file).expect("stranger", colour, words)


@pytest.mark.parametrize("status, colour", [(403, "green"), (404, "green"), (414, "yellow"), (429, "yellow"), (500, "yellow")])
def test_strangers_that_http_refuses(site, gateway, status, colour):
    site.ca.control("status", status=status)
    ctl.check(gateway.config_file).expect("stranger", colour, f"HTTP {status}")


def test_ca_behind_tls(site, gateway, changed, strict_ca):
    url = f"https://127.0.0.1:{site.ca.tls_port}/ca"
    checked = ctl.check(changed(Backend=url))
    checked.expect("ca-capabilities", "red", "certificate not accepted", "SSLProxyCACertificateFile")
    lines = f'SSLProxyCACertificateFile "{site.ca.tls_certificate}"\n'
    ctl.check(changed(lines, Backend=url)).expect("ca-capabilities", "yellow", "SSLProxyVerify require")
    ctl.check(changed(lines + "SSLProxyVerify require\n", Backend=url)).expect("ca-capabilities", "green")
    ctl.check(changed(Backend=url), "--trust", site.ca.tls_certificate).expect("ca-certificates", "green")


@pytest.fixture
def tls_front(site, scratch):
    """An https server before the CA that wants a client certificate of its own CA; and that certificate with its key."""
    clients = pki.Authority(scratch / "clients", name="Clients")
    certificate, key = clients.issue("gateway", extensions=("extendedKeyUsage=clientAuth",))
    both = scratch / "client.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    pki.for_server(both)
    server_certificate, server_key = pki.server_certificate(scratch / "front")
    port = system.free_port()
    body = microsoft.tls_host(port, server_certificate, server_key,
                              f'SSLVerifyClient require\nSSLCACertificateFile "{clients.certificate}"\n'
                              f'ProxyPass "/ca" "{site.ca.url}"\n')
    front = httpd.Httpd("tls-front", "".join(map(httpd.load_module, ("socache_shmcb", "ssl", "proxy", "proxy_http"))) + body)
    front.strict = False
    front.start()
    yield f"https://127.0.0.1:{port}/ca", server_certificate, both
    front.stop(check=False)


def test_ca_that_wants_the_gateways_certificate(changed, tls_front):
    """It issues to whoever it lets in, and a stranger is not let in: he comes without the gateway's certificate."""
    url, trust, client = tls_front
    lines = f'SSLProxyEngine On\nSSLProxyVerify require\nSSLProxyCACertificateFile "{trust}"\n'
    ctl.check(changed(lines, Backend=url)).expect("ca-capabilities", "red", "SSLProxyMachineCertificateFile")
    checked = ctl.check(changed(lines + f'SSLProxyMachineCertificateFile "{client}"\n', Backend=url))
    checked.expect("ca-capabilities", "green")
    checked.expect("ca-certificates", "green")
    checked.expect("stranger", "green", "does not let a stranger in")
    ctl.check(changed(Backend=url), "--trust", trust, "--client", client).expect("stranger", "green")
    result = ctl.run("enrol", url, "--trust", trust, "--client", client)
    assert result.code == 0 and result.json["status"] == "issued"


def test_balancer(site, changed, strict_ca):
    members = f'<Proxy "balancer://cas">\nBalancerMember http://127.0.0.1:{site.ca.port}\n</Proxy>\n'
    checked = ctl.check(changed(members, Backend="balancer://cas/ca"))
    checked.expect("ca-capabilities", "green", "first member")
    checked.expect("stranger", "green")
    ctl.check(changed(Backend="balancer://cas/ca")).expect("ca-capabilities", "skipped", "BalancerMember")


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root runs commands as somebody else")
def test_command_that_the_servers_group_may_run(gateway, changed, strict_ca, scratch):
    """The group of the directive, of which the user need not be a member."""
    script = scratch / "print-key"
    script.write_text(f"#!/bin/sh\necho '{gateway.profiles[0].directives['IntuneScepAppKey']}'\n")
    script.chmod(0o750)
    shutil.chown(script, "root", "daemon")
    config = changed(AppKey=f"exec:{script}")
    ctl.check(config, "--no-stranger").expect("credential", "red", "by the server's user")
    config.write_text(config.read_text().replace(f"Group {place.SERVER_USER}\n", "Group daemon\n"))
    ctl.check(config, "--no-stranger").expect("credential", "green")


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root can give a directory away")
@pytest.mark.parametrize("mode, owner, words", [
    (0o755, place.SERVER_USER, "open to others"), (0o770, place.SERVER_USER, "writable by its group"),
    (0o700, "daemon", "owned by user"), (0o700, "root", "the server's user cannot write"), (0o750, place.SERVER_USER, None)])
def test_state_directory_with_which_no_server_starts(gateway, changed, scratch, strict_ca, mode, owner, words):
    state = scratch / "state"
    shutil.copytree(gateway.state, state)
    for path in state.iterdir():
        shutil.chown(path, place.SERVER_USER)
    shutil.chown(state, owner)
    state.chmod(mode)
    checked = ctl.check(changed(), "--state-dir", state, "--no-stranger")
    checked.expect("settings", *(["red", "IntuneScepStateDir", words] if words else ["green"]))


def test_journal_with_another_key(gateway, scratch, strict_ca):
    key = pki.write_secret(scratch / "state.key", "0123456789abcdef" * 4 + "\n")
    ctl.check(gateway.config_file, "--state-key", f"file:{key}").expect("journal", "red", "key", "IntuneScepStateKey")


def test_journal_that_is_not_there(gateway, scratch, strict_ca):
    ctl.check(gateway.config_file, "--state-dir", scratch).expect("journal", "red", "state.key", "has not run yet")
    shutil.copy(gateway.state / "state.key", scratch / "state.key")
    ctl.check(gateway.config_file, "--state-dir", scratch).expect("journal", "red", "journal.sqlite")
    ctl.check(gateway.config_file, "--journal", "none").expect("journal", "yellow", "none")


def test_what_is_missing_or_wrong_in_the_configuration(changed, strict_ca, scratch):
    ctl.check(changed(AppID=None)).expect("settings", "red", "missing: IntuneScepAppID")
    ctl.check(changed(AppKey=None)).expect("credential", "red", "is missing")
    ctl.check(changed(CAChain=None)).expect("settings", "red", "IntuneScepCAChain")
    checked = ctl.check(changed(Cloud="mars"))
    checked.expect("settings", "red", "changed.conf line", "IntuneScepCloud must be public")
    checked = ctl.check(changed(AppTokenFile="/nowhere"))
    checked.expect("settings", "red", "2 credentials")
    for text, words in (("Include nothing.conf\n", "nothing to include"), ("</Location>\n", "closes no section")):
        refused = ctl.run("check", "--config", changed(text), as_json=False)
        assert refused.code == 3 and words in refused.err and refused.out == ""
    empty = scratch / "empty.conf"
    empty.write_text("Listen 80\n")
    refused = ctl.run("check", "--config", empty, as_json=False)
    assert refused.code == 3 and "IntuneScep On is nowhere" in refused.err


@pytest.mark.parametrize("words", [
    [], ["x"], ["--config"], ["--location", "/scep"], ["--cloud", "mars"], ["--nothing", "x"], ["--strict=x", "--tenant", "y"]])
def test_wrong_words(words):
    refused = ctl.run("check", *words, as_json=False)
    assert refused.code == 2 and refused.err.startswith("intune-scepctl: ") and refused.out == ""


def test_the_reference_configuration_is_understood(scratch):
    config = scratch / "reference.conf"
    config.write_text((place.TREE / "conf/reference.conf").read_text())
    checked = ctl.check(config, "--authority", f"http://127.0.0.1:{system.free_port()}/", "--backend",
                        f"http://127.0.0.1:{system.free_port()}/")
    checked.expect("settings", "green")
    checked.expect("credential", "red", "/etc/intune-scep/app.key")


# decode

@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir() if path.suffix in (".der", ".query", ".pem")))
def test_decode_every_fixture(name):
    for as_json in (True, False):
        decoded = ctl.run("decode", FIXTURES / name, as_json=as_json)
        assert decoded.code == 0, str(decoded)
    if not name.endswith(".pem"):
        (message,) = ctl.parts(ctl.run("decode", FIXTURES / name), "message")
        assert message["signature"] == "good"
        assert message["messageType"] == ("17 (RenewalReq)" if "renewal" in name else "19 (PKCSReq)")


@pytest.mark.parametrize("name", ["README.md", "strongswan-pkcsreq.cek"])
def test_decode_says_what_it_is_not(name):
    refused = ctl.run("decode", FIXTURES / name, as_json=False)
    assert refused.code == 1 and refused.out == ""


def test_decode_forms_of_a_message(scratch):
    der = (FIXTURES / "strongswan-pkcsreq.der").read_bytes()
    text = base64.b64encode(der).decode()
    escaped = urllib.parse.quote(text, safe="")
    wanted = ctl.run("decode", FIXTURES / "strongswan-pkcsreq.der").out
    forms = {"base64": text, "lines": base64.encodebytes(der).decode(), "url-safe": base64.urlsafe_b64encode(der).decode(),
             "pem": f"-----BEGIN CMS-----\n{base64.encodebytes(der).decode()}-----END CMS-----\n",
             "query": f"operation=PKIOperation&message={escaped}", "raw query": f"message={text}&operation=PKIOperation\n",
             "log line": f'1.2.3.4 - "GET /scep/pkiclient.exe?operation=PKIOperation&message={escaped} HTTP/1.1" 200\n',
             "URL": f"https://scep.example/scep?operation=PKIOperation&message={escaped}"}
    for name, form in forms.items():
        file = scratch / "form"
        file.write_text(form)
        assert ctl.run("decode", file).out == wanted, name
        assert ctl.run("decode", "-", text=form).out == wanted, name


def test_decode_with_the_key(profile, devices, scratch):
    (message,) = devices(profile, own_key=True, subject="/CN=decoded", san=["dns:a.example"], oaep=True)
    file = scratch / "message"
    file.write_bytes(message.der)
    keys = ["--ra-certificate", profile.ra_certificate, "--ra-key", profile.ra_key]
    decoded = ctl.run("decode", *keys, file)
    (request,) = ctl.parts(decoded, "certificate request")
    assert request["subject"] == "CN=decoded" and request["signature"] == "good"
    assert request["the message's signer"] == "has this key" and "a.example" in str(request)
    assert request["challenge"] == f"{len(message.challenge)} characters, base64 of a CMS message, as Intune's are"
    (recipient,) = ctl.parts(decoded, "recipient")
    assert recipient["key transport"] == "rsaesOaep" and recipient["the given key"] == "is this one's"
    as_text = ctl.run("decode", *keys, file, as_json=False)
    for said in (decoded, as_text):
        assert message.challenge not in said.out and message.challenge[100:200] not in said.out
    assert ctl.parts(ctl.run("decode", file), "certificate request") == []
    (envelope,) = ctl.parts(ctl.run("decode", "--ra-certificate", profile.chain, "--ra-key", profile.chain.parent / "ca.key", file),
                        "envelope")
    assert "not encrypted to" in envelope["inside"]
    assert ctl.run("decode", "--ra-certificate", profile.chain, "--ra-key", profile.ra_key, file).code == 3


BREAKS = ["signature", "digest", "envelope", "envelope-start", "rsa", "recipient", "csr-signature", "csr-key", "not-a-csr",
          "no-challenge", "two-challenges", "two-values", "sid", "two-extension-lists", "extension-twice", "no-transaction",
          "no-nonce", "no-type", "double-type", "two-signers", "trailing", "empty-envelope", "no-content", "truncated",
          "long-transaction", "control-transaction"]


@pytest.mark.parametrize("what", BREAKS)
def test_decode_what_is_broken(profile, devices, scratch, what):
    (message,) = devices(profile, break_=what)
    file = scratch / "message"
    file.write_bytes(message.der)
    keys = ["--ra-certificate", profile.ra_certificate, "--ra-key", profile.ra_key]
    for options in ([], keys):
        for as_json in (True, False):
            decoded = ctl.run("decode", *options, file, as_json=as_json)
            assert decoded.code == (1 if what in ("two-signers", "trailing", "truncated") else 0), str(decoded)
            assert not message.challenge or message.challenge[100:200] not in decoded.out
            assert "\x1b" not in decoded.out
    decoded = ctl.run("decode", *keys, file, as_json=False)
    wanted = {"signature": "WRONG", "csr-signature": "WRONG", "csr-key": "has another key", "no-challenge": "none",
              "two-challenges": "there are 2", "no-transaction": "(missing)", "double-type": "(there twice", "no-content": "none",
              "not-a-csr": "it is not a PKCS #10", "recipient": "not encrypted to", "sid": "1.3.6.1.4.1.311.25.2"}
    assert wanted.get(what, "") in decoded.out, decoded.out
