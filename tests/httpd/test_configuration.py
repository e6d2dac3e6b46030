# SPDX-License-Identifier: Apache-2.0
"""A wrong configuration stops the server, under -t too, with one sentence that names directive, file and line."""
import os
import re
import shutil

import pytest

from harness import client, pki, place
from harness.gateway import Gateway
from harness.httpd import StartError

# Neither root nor the server's.
THIRD_USER = 12345
# What httpd itself says around a mistake.
ENDINGS = re.compile(r"AH00014|AH00016|AH00558|AH00526: Syntax error|Configuration [Ff]ailed")


@pytest.fixture
def refused():
    """Asserts that a gateway is refused because of a directive; returns the sentence."""
    made = []

    def check(gateway, directive, *words):
        made.append(gateway)
        gateway.leaks = False  # httpd ends in the middle of its start
        gateway.write_config()
        tested = gateway.run_tool("-t")
        assert tested.returncode != 0, f"-t accepts it: {tested.stdout}{tested.stderr}"
        sentence = one_sentence(gateway, tested.stdout + tested.stderr + gateway.output(), directive, words)
        gateway.error_log.unlink(missing_ok=True)
        with pytest.raises(StartError) as failure:
            gateway.start()
        assert one_sentence(gateway, str(failure.value), directive, words) == sentence
        return sentence
    yield check
    for gateway in made:
        gateway.stop(check=False)
        shutil.rmtree(gateway.root, ignore_errors=True)


@pytest.fixture
def accepted():
    """Asserts that a configuration is taken."""
    made = []

    def check(gateway):
        made.append(gateway)
        gateway.leaks = False  # httpd ends in the middle of its start
        gateway.write_config()
        tested = gateway.run_tool("-t")
        assert tested.returncode == 0, tested.stdout + tested.stderr
    yield check
    for gateway in made:
        shutil.rmtree(gateway.root, ignore_errors=True)


def one_sentence(gateway, output, directive, words):
    """Asserts what a complaint must say, and that there is one; returns it without time and process."""
    config = gateway.config().splitlines()
    assert str(gateway.config_file) in output, output
    lines = [int(number) for number in re.findall(r"line (\d+)", output)]
    assert lines, output
    line = config[lines[0] - 1].split()[0]
    missing = not any(text.split()[:1] == [directive] for text in config)
    assert line == ("IntuneScep" if missing else directive) or line.startswith("<"), f"{line}: {output}"
    said = [text for text in output.splitlines() if text.strip() and not ENDINGS.search(text)
            and not text.startswith("httpd gateway ended")]
    assert len(said) == 1 and directive in output, output
    for word in words:
        assert word in said[0], said[0]
    return re.sub(r"^(\[[^\]]*\] )*", "", said[0])


def make_file(directory, name, text, mode=0o600):
    path = directory / name
    path.write_text(text)
    return pki.for_server(path, mode)


# directive without its prefix: wrong values that are found while parsing
WRONG_VALUES = {
    "On": ["Perhaps"],
    "Name": ['""', '"' + "x" * 129 + '"', "two words"],
    "Tenant": ['""', '"contoso.com/x"', '"a b"', '"a?b"', "contoso.com fabrikam.com"],
    "AppID": ['""', '"../x"'],
    "AppKey": ['""', "two words"],
    "AppCertificate": ['""', "one two three"],
    "AppTokenFile": ['""'],
    "Cloud": ["Public", "mars", '""'],
    "Authority": ["login.microsoftonline.com", "ftp://login.microsoftonline.com/", "http://login.microsoftonline.com/",
                  "http://127.0.0.1.example.com/", "https:///", '"https://a b/"',
                  "https://user:secret@login.example.com/", "https://login.microsoft%20online.com/", "https://lögin.example/"],
    "GraphURL": ["http://graph.microsoft.com/"],
    "HTTPProxy": ["proxy.example.com:3128", "socks5://proxy.example.com:1080", "None", '""',
                  "http://user:secret@proxy.example.com/"],
    "HTTPProxyUser": ['""'],
    "HTTPProxyPassword": ['""'],
    "IntuneAppID": ['""', '"a/b"'],
    "ServiceVersion": ['""', '"2018 02"'],
    "Retries": ["-1", "11", "2.5", '""'],
    "IntuneURL": ["http://api.manage.microsoft.com/", "nonsense"],
    "GraphVersion": ['"v1.0/x"'],
    "Timeout": ["0", "-1", "1000", "5x", "200ms", '""', "ten"],
    "MaxConcurrent": ["0", "many"],
    "MaxMessage": ["1", "99999999999999999999", "1k"],
    "Backend": ["127.0.0.1:8080/scep", "file:///etc/passwd", "ajp://127.0.0.1/", '"http://a b/"'],
    "Notify": ["sometimes", '""'],
    "Resync": ["again", '""'],
    "ComeBack": ["later", "502"],
    "BackendTimeout": ["0", "601"],
    "Grace": ["0", "86401"],
    "PendingLimit": ["0", "2592001"],
    "ReportLimit": ["0", "for ever"],
    "ChallengeMatch": ['"("', '""'],
    "MinKeySize": ["1023", "8193", "2k"],
    "BackendCapabilities": ['"AES ROT13"', '""', '"auto AES"'],
    "CAConfiguration": ['""', '"' + "x" * 256 + '"'],
    "CertificateAuthority": ['""', '"' + "x" * 256 + '"'],
    "DeviceAlgorithms": ['"AES ROT13"', "AES ROT13", '""'],
    "BackendAlgorithms": ['"SHA-256 none"'],
    "RefuseSID": ["maybe"],
    "Provider": ['""', '"' + "x" * 500 + '"'],
}


@pytest.mark.parametrize("directive, value", [(name, value) for name in WRONG_VALUES for value in WRONG_VALUES[name]])
def test_wrong_value(site, refused, directive, value):
    gateway = Gateway([site.profile("/scep", **{directive: value})])
    refused(gateway, "IntuneScep" + ("" if directive == "On" else directive))


@pytest.mark.parametrize("directive", ["Tenant", "AppID", "AppKey", "RACertificate", "RAKey", "CAChain", "Backend"])
def test_missing(site, refused, directive):
    refused(Gateway([site.profile("/scep", **{directive: None})]), "IntuneScep" + directive, "missing")


@pytest.mark.parametrize("directive", ["RACertificate", "RAKey", "CAChain", "BackendCertificate", "TLSCAFile",
                                       "TLSCertificate", "CRL"])
def test_file_that_is_not_there(site, refused, directive):
    gateway = Gateway([site.profile("/scep", **{directive: "/nowhere/at-all.pem"})])
    refused(gateway, "IntuneScep" + directive, "/nowhere/at-all.pem")


def test_app_key_file_that_is_not_there(site, refused):
    refused(Gateway([site.profile("/scep", AppKey="file:/nowhere/app.key")]), "IntuneScepAppKey", "/nowhere/app.key")


@pytest.mark.parametrize("directive", ["RACertificate", "RAKey", "CAChain", "BackendCertificate"])
def test_file_with_something_else(site, refused, scratch, directive):
    path = make_file(scratch, "nonsense.pem", "-----BEGIN NONSENSE-----\n")
    refused(Gateway([site.profile("/scep", **{directive: path})]), "IntuneScep" + directive, str(path))


def test_empty_app_key_file(site, refused, scratch):
    path = make_file(scratch, "app.key", "")
    refused(Gateway([site.profile("/scep", AppKey=f"file:{path}")]), "IntuneScepAppKey", str(path))


def test_app_key_from_nowhere(site, refused):
    gateway = Gateway([site.profile("/scep", AppKey="env:ISCEP_NOT_SET_AT_ALL")])
    refused(gateway, "IntuneScepAppKey", "ISCEP_NOT_SET_AT_ALL")


@pytest.mark.parametrize("command", ["/bin/false", "/bin/true", "/nowhere/command"])
def test_app_key_command_that_fails(site, refused, command):
    """Its arguments are not shown: one of them may be a secret."""
    sentence = refused(Gateway([site.profile("/scep", AppKey=f'"exec:{command} AppKey~argument"')]), "IntuneScepAppKey", command)
    assert "AppKey~argument" not in sentence


@pytest.mark.parametrize("key", ["/etc/hostname", "FILE:/nowhere/app.key", '"Exec:/bin/cat x"', "Env:KEY"])
def test_app_key_that_is_the_place_of_one(site, refused, key):
    """Without its word, in small letters, the path would be the key."""
    sentence = refused(Gateway([site.profile("/scep", AppKey=key)]), "IntuneScepAppKey", "file:PATH")
    assert key.strip('"') not in sentence


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660], ids=oct)
def test_app_key_open_to_others(site, refused, scratch, mode):
    path = make_file(scratch, "app.key", "AppKey~open\n", mode)
    sentence = refused(Gateway([site.profile("/scep", AppKey=f"file:{path}")]), "IntuneScepAppKey", str(path))
    assert "AppKey~open" not in sentence


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660], ids=oct)
def test_ra_key_open_to_others(site, refused, scratch, mode):
    path = make_file(scratch, "ra.key", site.ra[1].read_text(), mode)
    refused(Gateway([site.profile("/scep", RAKey=path)]), "IntuneScepRAKey", str(path))


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root can give a file away")
@pytest.mark.parametrize("directive", ["RAKey", "AppKey", "TLSCertificate"])
def test_secret_of_a_third_user(site, refused, scratch, directive):
    """Its owner could read and change it; and the server's processes would not read it again when it changes."""
    texts = {"RAKey": site.ra[1].read_text(), "AppKey": "AppKey~of-somebody\n",
             "TLSCertificate": "".join(pair(site, "client-of-somebody"))}
    path = make_file(scratch, "secret", texts[directive], 0o640)
    os.chown(path, THIRD_USER, -1)
    value = f"file:{path}" if directive == "AppKey" else path
    refused(Gateway([site.profile("/scep", **{directive: value})]), f"IntuneScep{directive}", f"owned by user {THIRD_USER}")


@pytest.mark.parametrize("mode", [0o705, 0o702, 0o770], ids=oct)
def test_state_directory_open_to_others(site, refused, mode):
    gateway = Gateway([site.profile("/scep")])
    gateway.state.chmod(mode)
    refused(gateway, "IntuneScepStateDir", str(gateway.state))


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root can own what the server's user cannot read")
def test_app_key_that_the_servers_user_cannot_read(site, refused, scratch):
    """It is read again by the children when it is rotated."""
    path = make_file(scratch, "app.key", "AppKey~of-root\n")
    os.chown(path, 0, 0)
    refused(Gateway([site.profile("/scep", AppKey=f"file:{path}")]), "IntuneScepAppKey", str(path))


def test_ra_key_of_another(site, refused, scratch):
    other = pki.Authority(scratch / "other").issue("ra")
    refused(Gateway([site.profile("/scep", RAKey=other[1])]), "IntuneScepRAKey", str(other[1]))


def test_ra_of_another_ca(site, refused, scratch):
    other = pki.Authority(scratch / "other", "Other CA").issue("ra")
    refused(Gateway([site.profile("/scep", ra=other)]), "IntuneScepRACertificate", str(other[0]))


@pytest.mark.parametrize("start, end", [("20200101000000Z", "20210101000000Z"), ("20400101000000Z", "20410101000000Z")],
                         ids=["expired", "not yet"])
def test_ra_certificate_not_valid(site, refused, start, end):
    refused(Gateway([site.profile("/scep", ra=site.authority.issue(f"ra-{start}", start=start, end=end))]),
            "IntuneScepRACertificate")


def test_ra_certificate_for_other_use(site, refused):
    extensions = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")
    ra = site.authority.issue("ra-signing-only", extensions)
    refused(Gateway([site.profile("/scep", ra=ra)]), "IntuneScepRACertificate")


def test_chain_in_the_wrong_order(site, refused, scratch):
    other = pki.Authority(scratch / "other", "Other CA")
    chain = scratch / "chain.pem"
    chain.write_text(site.authority.certificate.read_text() + other.certificate.read_text())
    refused(Gateway([site.profile("/scep", CAChain=chain)]), "IntuneScepCAChain", str(chain))


def test_chain_that_is_no_ca(site, refused):
    refused(Gateway([site.profile("/scep", CAChain=site.ra[0])]), "IntuneScepCAChain")


PROXY = "http://127.0.0.1:9"
PROXY_MISTAKES = {
    "user alone": ({"HTTPProxy": PROXY, "HTTPProxyUser": "me"}, "HTTPProxyUser", "IntuneScepHTTPProxyPassword"),
    "password alone": ({"HTTPProxy": PROXY, "HTTPProxyPassword": "Proxy~secret"}, "HTTPProxyPassword",
                       "IntuneScepHTTPProxyUser"),
    "no proxy": ({"HTTPProxy": "none", "HTTPProxyUser": "me", "HTTPProxyPassword": "Proxy~secret"}, "HTTPProxyUser",
                 "IntuneScepHTTPProxy none"),
    "colon": ({"HTTPProxy": PROXY, "HTTPProxyUser": "me:too", "HTTPProxyPassword": "Proxy~secret"},
              "HTTPProxyUser", "colon"),
    "no file": ({"HTTPProxy": PROXY, "HTTPProxyUser": "me", "HTTPProxyPassword": "file:/nowhere/pass"},
                "HTTPProxyPassword", "/nowhere/pass"),
}


@pytest.mark.parametrize("name", PROXY_MISTAKES)
def test_proxy_mistake(site, refused, name):
    directives, directive, word = PROXY_MISTAKES[name]
    sentence = refused(Gateway([site.profile("/scep", **directives)]), "IntuneScep" + directive, word)
    assert "Proxy~secret" not in sentence


@pytest.mark.parametrize("password", ["Proxy~secret", '"se cret"', "se/cret", "se#cret", "se?cret", "1/cret", "se@cret", "1?cret"])
def test_password_in_the_proxys_url_is_not_shown(site, refused, password):
    """Not even one with characters that end a URL's authority."""
    quote = '"' if password[0] == '"' else ""
    gateway = Gateway([site.profile("/scep", HTTPProxy=f"{quote}http://user:{password.strip(quote)}@127.0.0.1:9/{quote}")])
    assert "cret" not in refused(gateway, "IntuneScepHTTPProxy", "IntuneScepHTTPProxyPassword")


@pytest.mark.parametrize("directive", ["Authority", "Backend"])
def test_password_in_another_url_is_not_shown(site, refused, directive):
    gateway = Gateway([site.profile("/scep", **{directive: "https://user:se/cret@ca.example.com/"})])
    assert "cret" not in refused(gateway, f"IntuneScep{directive}", "without user and password")


def test_none_needs_not_take_credentials_back(site, start_gateway, devices):
    """The server has a proxy with a password; one location goes straight to Microsoft."""
    from harness import check
    around = f"IntuneScepHTTPProxy {PROXY}\nIntuneScepHTTPProxyUser me\nIntuneScepHTTPProxyPassword Proxy~secret\n"
    gateway = start_gateway([site.profile("/scep", HTTPProxy="none")], server=around)
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.post(gateway.port))


def pair(site, name):
    """Certificate and key as PEM."""
    certificate, key = site.authority.issue(name)
    return certificate.read_text(), key.read_text()


def test_tls_files_with_something_else(site, refused, scratch):
    (certificate, key), (_, other) = pair(site, "client-one"), pair(site, "client-two")
    locked = pki.openssl("pkey", "-aes256", "-passout", "pass:secret", text=key)
    texts = {"nothing": "", "certificate": certificate, "key": key, "other": certificate + other,
             "locked": certificate + locked}
    for name, text in texts.items():
        path = make_file(scratch, f"{name}.pem", text)
        refused(Gateway([site.profile("/scep", TLSCertificate=path)]), "IntuneScepTLSCertificate", str(path))
    for name in ("nothing", "key"):
        path = scratch / f"{name}.pem"
        refused(Gateway([site.profile("/scep", TLSCAFile=path)]), "IntuneScepTLSCAFile", str(path))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660], ids=oct)
def test_tls_certificate_open_to_others(site, refused, scratch, mode):
    path = make_file(scratch, "client.pem", "".join(pair(site, f"client-{mode}")), mode)
    refused(Gateway([site.profile("/scep", TLSCertificate=path)]), "IntuneScepTLSCertificate", str(path))


@pytest.mark.skipif(not place.IS_ROOT, reason="needs root: only root can own what the server's user cannot read")
@pytest.mark.parametrize("directive", ["TLSCertificate", "TLSCAFile", "HTTPProxyPassword"])
def test_file_that_the_servers_user_cannot_read(site, refused, scratch, directive):
    is_secret = directive == "HTTPProxyPassword"
    path = make_file(scratch, "of-root.pem", "secret" if is_secret else "".join(pair(site, f"of-root-{directive}")))
    os.chown(path, 0, 0)
    values = {directive: f"file:{path}", "HTTPProxyUser": "me"} if is_secret else {directive: path}
    refused(Gateway([site.profile("/scep", **values)]), "IntuneScep" + directive, str(path), "server's user")


def test_https_backend_without_engine(site, refused):
    backend = f"https://127.0.0.1:{site.ca.tls_port}/ca"
    refused(Gateway([site.profile("/scep", backend=backend)], modules=["ssl"]), "IntuneScepBackend", "SSLProxyEngine")


def test_https_member_of_a_balancer_without_engine(site, refused):
    balancer = '<Proxy "balancer://ca">\nBalancerMember "https://127.0.0.1:1"\n</Proxy>\n'
    modules = ["slotmem_shm", "lbmethod_byrequests", "proxy_balancer", "ssl"]
    gateway = Gateway([site.profile("/scep", backend="balancer://ca/ca")], before=balancer, modules=modules)
    refused(gateway, "IntuneScepBackend", "SSLProxyEngine")


def test_https_backend_without_mod_ssl(site, refused):
    backend = f"https://127.0.0.1:{site.ca.tls_port}/ca"
    refused(Gateway([site.profile("/scep", backend=backend)]), "IntuneScepBackend", "mod_ssl")


class Without(Gateway):
    """A gateway that lacks one of httpd's modules."""
    lacking = ()

    def config(self):
        return "".join(line for line in super().config().splitlines(True)
                       if not any(line.startswith(f"LoadModule {name}_module") for name in self.lacking))\
            .replace("ProxyTimeout 3\n", "" if "proxy" in self.lacking else "ProxyTimeout 3\n")


@pytest.mark.parametrize("lacking, directive, word", [
    (("proxy", "proxy_http"), "IntuneScepBackend", "mod_proxy"),
    (("proxy_http",), "IntuneScepBackend", "proxy_http"),
    (("socache_shmcb",), "IntuneScepSharedCache", "shmcb"),
], ids=["proxy", "proxy_http", "socache"])
def test_module_not_loaded(site, refused, lacking, directive, word):
    gateway = Without([site.profile("/scep")])
    gateway.lacking = lacking
    refused(gateway, directive, word)


def test_unknown_cache(site, refused):
    refused(Gateway([site.profile("/scep")], shared_cache="nonsense:1"), "IntuneScepSharedCache", "nonsense")


LONG_KEY = "IntuneScepStateKey 0123456789abcdef0123456789abcdef\n"


@pytest.mark.parametrize("cache, words", [
    ("dbm:/tmp/cache", ["dbm", "redis:HOST:PORT"]), ("redis", ["redis:HOST:PORT"]), ("redis:", ["redis:HOST:PORT"]),
    ("redis:127.0.0.1", ["redis:HOST:PORT"]), ("memcache:127.0.0.1:1,nowhere", ["memcache:HOST:PORT"]),
    ("shmcb:cache(100)", ["size"]), ("shmcb:cache(many)", ["numerical"]), ("shmcb:cache(512000", ["parenthesis"]),
    ("redis:127.0.0.1:1", ["LoadModule socache_redis_module"]),
    ("memcache:127.0.0.1:1", ["LoadModule socache_memcache_module"]),
])
def test_cache_that_cannot_be_used(site, refused, cache, words):
    gateway = Gateway([site.profile("/scep")], shared_cache=cache, server=LONG_KEY)
    refused(gateway, "IntuneScepSharedCache", *words)


@pytest.mark.parametrize("key, words", [
    ("0123456789abcdef0123456789abcde", ["31 bytes", "32"]), ("file:/nowhere/state.key", ["/nowhere/state.key"]),
    ("env:ISCEP_NOT_SET_AT_ALL", ["ISCEP_NOT_SET_AT_ALL"]), ('""', []),
])
def test_state_key(site, refused, key, words):
    sentence = refused(Gateway([site.profile("/scep")], server=f"IntuneScepStateKey {key}\n"), "IntuneScepStateKey", *words)
    assert "0123456789abcdef" not in sentence


@pytest.mark.parametrize("text, mode, word", [("0123456789abcdef\n", 0o600, "64 hexadecimal digits"),
                                              ("0" * 64, 0o644, "open to others"), ("", 0o600, "is empty")])
def test_state_key_file(site, refused, text, mode, word):
    gateway = Gateway([site.profile("/scep")], shared_cache="redis:127.0.0.1:1", modules=["socache_redis"])
    path = make_file(gateway.state, "state.key", text, mode)
    refused(gateway, "IntuneScepStateDir", str(path), word)


SERVER_WIDE = {
    "Journal": ["mysql:x", "sqlite3:relative.sqlite", "pgsql:", '""', "None"],
    "Retention": ["3600", "23h", "1"],
    "ReportRate": ["0", "1001", "many"],
    "RepeatInterval": ["-1", "86401", "often"],
    "Health": ["disk", '""', '"journal disk"'],
    "EventCommand": ['""', "relative/command", "/nowhere/command", "/usr/bin", '"/etc/passwd an-argument"'],
}


@pytest.mark.parametrize("directive, value", [(name, value) for name in SERVER_WIDE for value in SERVER_WIDE[name]])
def test_wrong_value_for_the_server(site, refused, directive, value):
    refused(Gateway([site.profile("/scep")], server=f"IntuneScep{directive} {value}\n"), f"IntuneScep{directive}")


def test_journals_password_is_not_shown(site, refused):
    secret = "pgsql-secret-word"
    gateway = Gateway([site.profile("/scep")], server=f'IntuneScepJournal "pgsql:postgresql://u:{secret}@127.0.0.1/x"\n')
    assert secret not in refused(gateway, "IntuneScepJournal")
    gateway = Gateway([site.profile("/scep")], server=f'IntuneScepJournal "pgsql:host=127.0.0.1 password={secret}"\n')
    gateway.extra_modules = ("info",)
    gateway.write_config()
    dumped = gateway.run_tool("-t", "-D", "DUMP_CONFIG")
    assert "IntuneScepJournal ***" in dumped.stdout + dumped.stderr and secret not in dumped.stdout + dumped.stderr


def test_journal_that_is_no_database(site, scratch):
    """-t does not touch the database; the start does."""
    pki.for_server(scratch, 0o700)
    make_file(scratch, "journal.sqlite", "no database at all, but some words\n" * 100)
    gateway = Gateway([site.profile("/scep")], server=f'IntuneScepJournal "sqlite3:{scratch}/journal.sqlite"\n')
    with pytest.raises(StartError, match=r"ISCEP0540: IntuneScepJournal .*not a database"):
        gateway.start()


def test_journal_where_the_server_cannot_write(site, refused, scratch):
    scratch.chmod(0o700)
    gateway = Gateway([site.profile("/scep")], server=f'IntuneScepJournal "sqlite3:{scratch}/x.sqlite"\n')
    refused(gateway, "IntuneScepJournal", "cannot write")


def test_former_ra_without_a_key(site, refused, scratch):
    refused(Gateway([site.profile("/scep", RAFormerCertificate=site.ra[0])]), "IntuneScepRAFormerCertificate", "private key")
    _, other = site.authority.issue("another-former")
    gateway = Gateway([site.profile("/scep", RAFormerCertificate=f'"{site.ra[0]}" "{other}"')])
    refused(gateway, "IntuneScepRAFormerCertificate")


@pytest.mark.parametrize("directive, value, words", [
    ("Tenant", '""', ["has no value"]), ("Tenant", "one two", ["takes one argument, not 2"]),
    ("AppCertificate", "one two three", ["takes one argument, or two, not 3"])])
def test_number_of_arguments(site, refused, directive, value, words):
    refused(Gateway([site.profile("/scep", **{directive: value})]), "IntuneScep" + directive, *words)


def test_name_twice(site, refused):
    gateway = Gateway([site.profile("/one", Name="same"), site.profile("/two", Name="same")])
    other = gateway.config().splitlines().index("    IntuneScep On") + 1
    refused(gateway, "IntuneScepName", "same", f"taken by the location of IntuneScep ({gateway.config_file} line {other})")


@pytest.mark.parametrize("name", [None, "corp"])
def test_section_included_twice(site, refused, name):
    """Another name would not help: it would be the same once more."""
    gateway = Gateway([])
    part = gateway.root / "scep.conf"
    part.write_text(site.profile("/scep", Name=name).config())
    host = f'<VirtualHost *:{{}}>\nServerName scep.example\nInclude "{part}"\n</VirtualHost>\n'
    gateway.after_text = host.format(80) + host.format(443)
    gateway.write_config()
    tested = gateway.run_tool("-t")
    said = tested.stdout + tested.stderr
    assert tested.returncode != 0 and said.count("ISCEP0500") == 1, said
    assert re.search(rf"ISCEP0500: IntuneScep(Name)? \({part} line \d+\): .*included once more in the virtual host at "
                     rf"{gateway.config_file} line \d+: include it once, outside", said), said
    shutil.rmtree(gateway.root)


def test_name_twice_by_a_virtual_host(site, refused):
    """One section is two locations where a virtual host sets more."""
    host = "<VirtualHost *>\nServerName a.example\nIntuneScepTimeout 4\n</VirtualHost>\n"
    refused(Gateway([site.profile("/scep", Name="corp")], after=host), "IntuneScepName", "corp", "virtual host a.example",
            "directives of its own")


@pytest.mark.parametrize("after", [
    '<Location "/scep/inner">\nIntuneScepTimeout 7\n</Location>\n',
    '<VirtualHost *>\nServerName a.example\n<Location "/scep">\nIntuneScepTimeout 7\n</Location>\n</VirtualHost>\n',
], ids=["inside", "virtual host"])
def test_name_that_a_section_has_from_another(site, refused, after):
    """The line is that of the section that needs a name."""
    gateway = Gateway([site.profile("/scep", Name="corp")], after=after)
    sentence = refused(gateway, "IntuneScepTimeout", "corp", "set IntuneScepName beside it")
    line = len(gateway.config().splitlines()) - after.partition("IntuneScepTimeout")[2].count("\n") + 1
    assert f"IntuneScepTimeout ({gateway.config_file} line {line})" in sentence


def test_server_wide_directive_in_a_location(site, refused):
    gateway = Gateway([site.profile("/scep", extra="IntuneScepSharedCache shmcb\n")], shared_cache=None)
    refused(gateway, "IntuneScepSharedCache")


def test_literal_key_is_not_shown_when_it_stands_in_the_wrong_place(site):
    after = f'<Directory "/">\nIntuneScepAppKey AppKey~in-the-wrong-place\n</Directory>\n'
    gateway = Gateway([site.profile("/scep")], after=after)
    gateway.write_config()
    tested = gateway.run_tool("-t")
    assert tested.returncode != 0 and "IntuneScepAppKey" in tested.stderr
    assert "AppKey~in-the-wrong-place" not in tested.stdout + tested.stderr + gateway.output()
    shutil.rmtree(gateway.root)


# what must be accepted

def test_good(site, start_gateway):
    gateway = start_gateway([site.profile("/scep")])
    tested = gateway.run_tool("-t")
    assert tested.returncode == 0, tested.stderr
    assert client.request(gateway.port, "GET", "/scep?operation=GetCACaps").status == 200


@pytest.mark.parametrize("directive, value", [
    ("Timeout", "1500ms"), ("Timeout", "1min"), ("DeviceAlgorithms", "AES des3 SHA-256"), ("DeviceAlgorithms", '"AES128"'),
    ("BackendAlgorithms", "SHA256"), ("ChallengeMatch", '"^MII"'), ("Provider", '"Contoso 1.0"')])
def test_good_value(site, accepted, directive, value):
    accepted(Gateway([site.profile("/scep", **{directive: value})]))


@pytest.mark.parametrize("key", ["literal", "env", "exec"])
def test_other_sources_of_the_key(site, start_gateway, devices, scratch, key):
    from harness import check
    tenant = site.microsoft.add_tenant(key)
    script = scratch / "print-key"
    script.write_text(f"#!/bin/sh\necho '{tenant['secret']}'\n")
    script.chmod(0o755)
    source = {"literal": tenant["secret"], "env": "env:ISCEP_TEST_KEY", "exec": f'"exec:{script} now"'}[key]
    gateway = start_gateway([site.profile("/scep", tenant=tenant, AppKey=source)],
                            environment={"ISCEP_TEST_KEY": tenant["secret"]})
    if key == "literal":
        gateway.expect_log(r"ISCEP0531: IntuneScepAppKey \(.* line \d+\): .*file:PATH")
        assert len(gateway.lines("ISCEP0531")) + gateway.text(gateway.root / "stderr.log").count("ISCEP0531") == 1
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.post(gateway.port))


def test_module_without_locations(start_gateway):
    gateway = start_gateway([])
    assert client.request(gateway.port, "GET", "/scep?operation=GetCACaps").status == 404


def test_state_directory_is_made(site, start_gateway):
    gateway = Gateway([site.profile("/scep")])
    gateway.state.rmdir()
    try:
        gateway.start()
        assert gateway.state.stat().st_mode & 0o777 == 0o700
        if place.IS_ROOT:
            assert gateway.state.owner() == place.SERVER_USER
    finally:
        gateway.stop()


@pytest.mark.parametrize("name", ["minimal.conf", "reference.conf", "intune_scep.conf"])
def test_shipped_configuration(site, name):
    """The shipped files pass once their paths lead somewhere."""
    shipped = place.TREE / "conf" / name
    if not shipped.exists():
        pytest.skip(f"conf/{name} is not there")
    gateway = Gateway([], shared_cache=None, modules=["authz_host"])
    text = shipped_text(site, gateway, shipped.read_text())
    (gateway.root / name).write_text(text)
    gateway.after_text = f'Include "{gateway.root / name}"\n'
    gateway.config = lambda: Gateway.config(gateway).replace(f'IntuneScepStateDir "{gateway.state}"\n', "")
    gateway.write_config()
    tested = gateway.run_tool("-t")
    assert tested.returncode == 0, f"{tested.stderr}{gateway.output()}\n{text}"
    shutil.rmtree(gateway.root)


def shipped_text(site, gateway, text):
    """Puts this machine's files in the place of the shipped ones; what else needs a machine of its own goes."""
    tenant = site.microsoft.add_tenant("shipped")
    values = {"IntuneScepRACertificate": site.ra[0], "IntuneScepRAKey": site.ra[1],
              "IntuneScepCAChain": site.authority.certificate, "IntuneScepStateDir": gateway.state,
              "IntuneScepAppKey": f"file:{site.app_key(tenant)}"}
    lines = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] and words[0] in values:
            line = f"{words[0]} {values[words[0]]}"
        elif words[:1] and words[0] in ("LoadModule", "Listen"):
            line = f"# {line}"
        elif words[:1] and words[0] in ("IntuneScepTLSCAFile", "IntuneScepBackendCertificate"):
            line = f"{words[0]} {site.authority.certificate}"
        lines.append(line)
    return "\n".join(lines) + "\n"
