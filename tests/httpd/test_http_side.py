# SPDX-License-Identifier: Apache-2.0
"""The module among httpd's others: caches, compression, TLS, balancers, virtual hosts, access control."""
import contextlib
import gzip
import http.client
import shutil
import socket
import ssl
import subprocess

import pytest

from harness import check, client, ctl, place, system
from harness.fake import FakeServer, http_answer
from harness.gateway import Gateway
from harness.httpd import load_module


def enrol(gateway, devices, profile, **options):
    (message,) = devices(profile, **options)
    answer = message.post(gateway.port)
    return message, answer, check.success(message, answer)


@pytest.mark.parametrize("quick", ["On", "Off"])
def test_caches_are_kept_away(site, start_gateway, devices, quick):
    """mod_cache, told to keep everything, keeps nothing of ours, and so serves nothing of it."""
    profile = site.profile("/scep")
    after = ("CacheRoot ${ROOT}/cache\nCacheEnable disk /\nCacheIgnoreCacheControl On\nCacheStoreNoStore On\n"
             "CacheStorePrivate On\nCacheIgnoreNoLastMod On\nCacheDefaultExpire 3600\nCacheIgnoreQueryString On\n"
             f"CacheHeader On\nCacheQuickHandler {quick}\n")
    gateway = start_gateway([profile], modules=["cache", "cache_disk"], after=after)
    check.wait.until(lambda: "HIT" in client.request(gateway.port, "GET", "/static.txt").headers["x-cache"],
                     "this test's cache to work")
    (message,) = devices(profile)
    for number in (1, 2):
        answer = message.get(gateway.port)
        check.success(message, answer)
        assert "HIT" not in answer.headers.get("x-cache", "")
        assert len(gateway.lines(r"ISCEP040[03]: ")) == number
    assert len(list((gateway.root / "cache").rglob("*.data"))) == 1, "only the static page may be kept"


def test_nothing_is_compressed(site, start_gateway, devices):
    profile = site.profile("/scep")
    gateway = start_gateway([profile], modules=["filter", "deflate"], after="SetOutputFilter DEFLATE\n")
    (message,) = devices(profile)
    headers = {"Accept-Encoding": "gzip, deflate, br", "Content-Type": "application/x-pki-message"}
    answer = client.request(gateway.port, "POST", "/scep?operation=PKIOperation", message.der, headers)
    check.success(message, answer)
    answer = client.request(gateway.port, "GET", "/scep?operation=GetCACert", headers=headers)
    assert "content-encoding" not in answer.headers and answer.body[:1] == b"\x30"


def test_types_stay_as_they_are(site, start_gateway, devices):
    """AddDefaultCharset, which Red Hat's httpd.conf has, and types for URLs: some devices take exactly the RFC's types."""
    gateway = start_gateway([site.profile("/scep")], modules=["mime"],
                            before="AddDefaultCharset UTF-8\nTypesConfig /dev/null\nAddType text/html .exe\n")
    path = "/scep/pkiclient.exe"
    for _ in ("the CA is asked", "it is known"):
        assert client.request(gateway.port, "GET", f"{path}?operation=GetCACaps").headers["content-type"] == "text/plain"
    answer = client.request(gateway.port, "GET", f"{path}?operation=GetCACert")
    assert answer.headers["content-type"] == "application/x-x509-ca-ra-cert"
    (message,) = devices(gateway.profiles[0])
    answer = message.post(gateway.port, path)
    check.success(message, answer)
    assert answer.headers["content-type"] == "application/x-pki-message"
    answer = client.request(gateway.port, "GET", f"{path}?operation=Nonsense")
    assert answer.headers["content-type"] == "text/plain; charset=us-ascii"


def test_filters_of_the_devices_body_are_not_for_ours(site, start_gateway, devices):
    """A filter that has seen the device's message is not given the one that goes to the CA as well."""
    gateway = start_gateway([site.profile("/scep", extra="SetInputFilter through\n")], modules=["ext_filter"],
                            before="ExtFilterDefine through mode=input cmd=/bin/cat\n")
    for _ in range(3):
        message, answer, opened = enrol(gateway, devices, gateway.profiles[0])
        check.reported(site, message, opened, answer)


def test_range_and_conditions_are_ignored(site, start_gateway, devices):
    profile = site.profile("/scep")
    gateway = start_gateway([profile])
    (message,) = devices(profile)
    headers = {"Range": "bytes=0-10", "If-None-Match": "*", "If-Modified-Since": "Mon, 23 Nov 2026 00:00:00 GMT",
               "Accept": "text/html", "TE": "trailers", "Cookie": "a=b"}
    for more in ({}, {"Request-Range": "bytes=0-10"}):  # the second time it is the journal's certificate
        answer = client.request(gateway.port, "POST", "/scep?operation=PKIOperation", message.der, {**headers, **more})
        check.success(message, answer)
    for name in ("Range", "Request-Range"):
        answer = client.request(gateway.port, "GET", "/scep?operation=GetCACert", None, {name: "bytes=0-10"})
        assert answer.status == 200 and "content-range" not in answer.headers, name


def test_several_tenants_and_virtual_hosts(site, start_gateway, devices):
    first, second, third = (site.profile(path) for path in ("/one", "/two", "/scep"))
    hosts = (f"<VirtualHost *>\nServerName a.example\n{third.config()}</VirtualHost>\n"
             f"<VirtualHost *>\nServerName b.example\n</VirtualHost>\n")
    gateway = start_gateway([first, second], after=hosts)
    for profile, host in ((first, "a.example"), (second, "b.example"), (third, "a.example")):
        (message,) = devices(profile)
        target = f"{profile.path}?operation=PKIOperation"
        answer = client.request(gateway.port, "POST", target, message.der, {"Host": host})
        check.success(message, answer)
        assert {call["tenant"] for call in site.microsoft.calls("validate")} == {profile.tenant["tenant"]}
        site.microsoft.reset()
    (message,) = devices(third)
    answer = client.request(gateway.port, "POST", "/scep?operation=PKIOperation", message.der, {"Host": "b.example"})
    assert answer.status in (404, 405)


def test_a_challenge_of_one_profile_is_nothing_to_another(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/one"), site.profile("/two")])
    one, two = gateway.profiles
    (message,) = devices(two, challenge=site.microsoft.challenge(one.tenant))
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1100, message)
    check.ca_untouched(site)


def test_location_inside_a_location(site, start_gateway, devices):
    outer = site.profile("/scep")
    inner = outer.changed(Notify="after")
    inner.path, inner.directives = "/scep/inner", {"IntuneScepName": "inner", "IntuneScepNotify": "after"}
    off = outer.changed()
    off.path, off.directives = "/scep/off", {"IntuneScep": "Off"}
    gateway = start_gateway([outer, inner, off])
    site.microsoft.fail("success", "status", status=500)
    gateway.allow_log(r"ISCEP\d+: ")
    (message,) = devices(outer)
    assert message.post(gateway.port).status == 503
    check.success(message, message.post(gateway.port, "/scep/inner"))
    assert message.post(gateway.port, "/scep/off").status in (404, 405)
    assert message.post(gateway.port, "/scepter").status in (404, 405)


def test_access_control_of_httpd_holds(site, start_gateway, devices):
    denied = '<Location "/">\nRequire all denied\n</Location>\n'
    profiles = [site.profile("/scep", extra="Require all granted\n"), site.profile("/closed")]
    gateway = start_gateway(profiles, before=denied, modules=["authz_host"])
    gateway.allow_log("AH01630")
    opened, closed = gateway.profiles
    enrol(gateway, devices, opened)
    site.reset()
    (message,) = devices(closed)
    assert message.post(gateway.port).status == 403
    check.all_untouched(site)


def test_files_and_directories_have_no_say(site, start_gateway, devices):
    """A file of the location's name, and <Directory> sections, change nothing."""
    closed = '<Directory "/">\nRequire all denied\n</Directory>\n'
    gateway = start_gateway([site.profile("/static.txt")], after=closed)
    enrol(gateway, devices, gateway.profiles[0])


@pytest.mark.parametrize("modules, server", [
    (["dir"], "FallbackResource /static.txt\n"),
    (["dir"], '<Location "/">\nFallbackResource /static.txt\n</Location>\n'),
    (["dir"], "DirectoryIndex static.txt\n"),
    (["speling"], "CheckSpelling On\n"),
    (["mime", "negotiation"], 'TypesConfig /dev/null\nAddType text/html .html\n<Location "/">\nOptions +MultiViews\n</Location>\n'),
], ids=["fallback", "fallback in a location", "index", "spelling", "variants"])
def test_nobody_looks_for_a_file(site, start_gateway, devices, modules, server):
    """There is none, but one with a similar name, and what a server does with names that lead nowhere."""
    gateway = start_gateway([site.profile("/scep")], before=server, modules=modules)
    for name in ("scep.html", "sceq", "scep.txt"):
        (gateway.root / "htdocs" / name).write_text("another page\n")
    assert "AES" in client.request(gateway.port, "GET", "/scep?operation=GetCACaps").text
    for path in ("/scep", "/scep/", "/scep/pkiclient.exe"):
        (message,) = devices(gateway.profiles[0])
        for send in (message.post, message.get):
            check.success(message, send(gateway.port, path))


def test_status_page_below_the_location(site, start_gateway):
    """A virtual host as a whole is served, and the status page is in it."""
    status = '<Location "/state">\nSetHandler intune-scep-status\n</Location>\n'
    gateway = start_gateway([site.profile("/")], after=status)
    assert client.request(gateway.port, "GET", "/state?health").text == "healthy\n"
    assert "AES" in client.request(gateway.port, "GET", "/anything?operation=GetCACaps").text


def test_tls_towards_devices(site, start_gateway, devices, scratch):
    port = system.free_port()
    key = site.microsoft.tls_certificate.with_name("tls.key")
    host = (load_module("ssl") + f"Listen 127.0.0.1:{port} https\n<VirtualHost 127.0.0.1:{port}>\n"
            "ServerName localhost\nSSLEngine On\n"
            f'SSLCertificateFile "{site.microsoft.tls_certificate}"\nSSLCertificateKeyFile "{key}"\n</VirtualHost>\n')
    gateway = start_gateway([site.profile("/scep")], after=host)
    (message,) = devices(gateway.profiles[0])
    trust = ssl.create_default_context(cafile=site.microsoft.tls_certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trust)
    check.success(message, message.post(port, connection=connection))
    connection.close()


def test_https_backend(site, start_gateway, devices):
    backend = f"https://127.0.0.1:{site.ca.tls_port}/ca"
    proxy = f'SSLProxyEngine On\nSSLProxyVerify require\nSSLProxyCACertificateFile "{site.ca.tls_certificate}"\n'
    gateway = start_gateway([site.profile("/scep", backend=backend)], modules=["ssl"], before=proxy)
    message, answer, opened = enrol(gateway, devices, gateway.profiles[0])
    check.reported(site, message, opened, answer)


def test_https_backend_that_nobody_trusts(site, start_gateway, devices):
    backend = f"https://127.0.0.1:{site.ca.tls_port}/ca"
    proxy = f'SSLProxyEngine On\nSSLProxyVerify require\nSSLProxyCACertificateFile "{site.authority.certificate}"\n'
    gateway = start_gateway([site.profile("/scep", backend=backend)], modules=["ssl"], before=proxy)
    gateway.allow_log(r"\[(proxy|proxy_http|ssl):(error|warn)\]|AH0")
    (message,) = devices(gateway.profiles[0])
    answer = message.post(gateway.port)
    check.unavailable(answer)
    check.ca_untouched(site)
    problem = check.final_line(gateway, (1200, 1202, 1203), message)
    check.failure_reported(site, message, problem)


def test_unverified_backend_is_warned_of(site, start_gateway):
    backend = f"https://127.0.0.1:{site.ca.tls_port}/ca"
    gateway = start_gateway([site.profile("/scep", backend=backend)], modules=["ssl"], before="SSLProxyEngine On\n")
    gateway.expect_log("SSLProxyVerify")


def test_backend_far_away_is_warned_of(site, start_gateway):
    gateway = start_gateway([site.profile("/scep", backend="http://ca.example.invalid/scep")])
    gateway.allow_log("AH00957|AH00961")
    gateway.expect_log("IntuneScepBackend.*bypasses Intune")


def test_balancer(site, start_gateway, devices):
    down = system.free_port()
    before = (f'<Proxy "balancer://ca">\nBalancerMember "http://127.0.0.1:{site.ca.port}"\n'
              f'BalancerMember "http://127.0.0.1:{down}" status=+H\n</Proxy>\n')
    gateway = start_gateway([site.profile("/scep", backend="balancer://ca/ca")], before=before,
                            modules=["proxy_balancer", "slotmem_shm", "lbmethod_byrequests"])
    message, answer, opened = enrol(gateway, devices, gateway.profiles[0])
    check.reported(site, message, opened, answer)


def test_pooled_worker(site, start_gateway, devices):
    """With a worker of its own mod_proxy keeps connections to the CA open."""
    worker = f'<Proxy "{site.ca.url}">\nProxySet ttl=30\n</Proxy>\n'
    gateway = start_gateway([site.profile("/scep")], before=worker, processes=1)
    for _ in range(5):
        enrol(gateway, devices, gateway.profiles[0])


def test_next_ca_when_the_ca_is_down(site, start_gateway):
    gateway = start_gateway([site.profile("/scep", backend=f"http://127.0.0.1:{system.free_port()}/ca")])
    gateway.allow_log(r"\[proxy")
    assert client.request(gateway.port, "GET", "/scep?operation=GetNextCACert").status in (502, 503)


def test_capabilities_and_certificate_when_the_ca_is_down(site, start_gateway):
    gateway = start_gateway([site.profile("/scep", backend=f"http://127.0.0.1:{system.free_port()}/ca")])
    gateway.allow_log(r"\[proxy")
    for operation in ("GetCACaps", "GetCACert", "GetCACaps"):
        assert client.request(gateway.port, "GET", f"/scep?operation={operation}").status == 200


def test_cas_that_take_no_post(site, start_gateway, devices):
    """GetCACaps without POSTPKIOperation: the CA is asked by GET, once its capabilities are known."""
    gateway = start_gateway([site.profile("/scep")])
    site.ca.control(caps="SHA-1\nDES3\n")
    assert "AES" in client.request(gateway.port, "GET", "/scep?operation=GetCACaps").text
    enrol(gateway, devices, gateway.profiles[0])
    (request,) = site.ca.requests()
    assert (request["method"], request["cipher"], request["digest"]) == ("GET", "des3", "sha1")


def test_backend_gets_the_best_it_can(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")])
    site.ca.control(caps="POSTPKIOperation\nAES\nSHA-512\nSHA-256\nSHA-1\nDES3\n")
    client.request(gateway.port, "GET", "/scep?operation=GetCACaps")
    enrol(gateway, devices, gateway.profiles[0], cipher="des3", digest="sha1")
    (request,) = site.ca.requests()
    assert request["method"] == "POST" and request["cipher"].startswith("aes")
    assert request["digest"] in ("sha256", "sha512")


def test_proxypass_does_not_lead_around_the_gateway(site, start_gateway, devices):
    """An old ProxyPass to the CA for the same URL, left in the server: the gateway serves all the same."""
    before = f'ProxyPass "/ca" "{site.ca.url}"\nProxyPass "/" "http://127.0.0.1:{site.ca.port}/"\n'
    gateway = start_gateway([site.profile("/ca")], before=before)
    (stranger,) = devices(gateway.profiles[0], challenge=False)
    answer = client.request(gateway.port, "POST", "/ca?operation=PKIOperation", stranger.der)
    check.ca_untouched(site)
    check.failure(stranger, answer, 2)
    check.final_line(gateway, 1014, stranger)
    message, answer, opened = enrol(gateway, devices, gateway.profiles[0])
    check.reported(site, message, opened, answer)


@pytest.mark.parametrize("options", ["nocanon", "noquery", "mapping=encoded"])
def test_proxypass_does_not_change_what_the_ca_is_asked(site, start_gateway, devices, options):
    """What it would do with the device's URL is nothing for the CA's, which has a query that a balancer must not lose."""
    before = (f'<Proxy "balancer://ca">\nBalancerMember "http://127.0.0.1:{site.ca.port}"\n</Proxy>\n'
              f'ProxyPass "/scep" "http://127.0.0.1:9/" {options}\n')
    gateway = start_gateway([site.profile("/scep", backend="balancer://ca/ca")], before=before,
                            modules=["proxy_balancer", "slotmem_shm", "lbmethod_byrequests"])
    gateway.allow_log("AH01136")  # nocanon is not for such paths, says mod_proxy
    for path in ("/scep", "/scep/pkiclient.exe", "/scep/a%20b"):
        for send in ("post", "get"):
            (message,) = devices(gateway.profiles[0])
            check.success(message, getattr(message, send)(gateway.port, path))


def test_proxypass_inside_the_location(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/ca", extra=f'ProxyPass "{site.ca.url}"\n')])
    (stranger,) = devices(gateway.profiles[0], challenge=False)
    client.request(gateway.port, "POST", "/ca?operation=PKIOperation", stranger.der)
    gateway.allow_log(rf"ISCEP1014: \[{stranger.transaction}\]")
    check.ca_untouched(site)


def test_forward_proxy_that_is_kept_away_from_the_ca(site, start_gateway, devices):
    """As the log's page says: the gateway itself is not kept away."""
    before = f'ProxyRequests On\n<Proxy "{site.ca.url}*">\nRequire all denied\n</Proxy>\n'
    gateway = start_gateway([site.profile("/scep")], before=before)
    gateway.allow_log("AH01630")
    assert client.raw_get(gateway.port, f"{site.ca.url}?operation=GetCACaps").status == 403
    check.ca_untouched(site)
    enrol(gateway, devices, gateway.profiles[0])


def test_rewriterule_does_not_lead_around_the_gateway(site, start_gateway, devices):
    before = f'RewriteEngine On\nRewriteRule "^/ca(.*)$" "{site.ca.url}$1" [P]\n'
    gateway = start_gateway([site.profile("/ca")], before=before, modules=["rewrite"])
    (stranger,) = devices(gateway.profiles[0], challenge=False)
    client.request(gateway.port, "POST", "/ca?operation=PKIOperation", stranger.der)
    gateway.allow_log(rf"ISCEP1014: \[{stranger.transaction}\]")
    check.ca_untouched(site)


def test_rewriterule_that_catches_all_paths(site, start_gateway, devices):
    """What operating.md says of it."""
    before = 'RewriteEngine On\nRewriteRule ^/scep - [L]\nRewriteRule ^ /static.txt [L]\n'
    gateway = start_gateway([site.profile("/scep")], before=before, modules=["rewrite"])
    assert client.request(gateway.port, "GET", "/elsewhere").text == "static\n"
    enrol(gateway, devices, gateway.profiles[0])


@pytest.mark.parametrize("handler", ["server-status", "proxy-server", "proxy:http://127.0.0.1:9/", "default-handler"])
def test_other_handlers_have_no_say(site, start_gateway, devices, handler):
    gateway = start_gateway([site.profile("/scep", extra=f'SetHandler "{handler}"\n')], modules=["status"])
    enrol(gateway, devices, gateway.profiles[0])


def test_location_match(site, start_gateway, devices):
    profile = site.profile("/scep")
    text = profile.config().replace('<Location "/scep">', '<LocationMatch "^/(scep|mscep)(/|$)">')
    gateway = start_gateway([], after=text.replace("</Location>", "</LocationMatch>"))
    for path in ("/scep", "/mscep/pkiclient.exe"):
        (message,) = devices(profile)
        check.success(message, message.post(gateway.port, path))


@pytest.mark.parametrize("name", [None, "corp"])
def test_two_sections_of_one_path(site, start_gateway, devices, name):
    """They are one location: what the second adds counts."""
    second = '<Location "/scep">\nIntuneScepMinKeySize 4096\n</Location>\n'
    gateway = start_gateway([site.profile("/scep", Name=name)], after=second)
    (message,) = devices(gateway.profiles[0])
    check.failure(message, message.post(gateway.port), 0)
    check.final_line(gateway, 1017, message)
    checked = ctl.run("check", "--config", gateway.config_file, "--no-stranger")
    assert [one["location"] for one in checked.json["locations"]] == [name or "localhost/scep"]


def test_a_virtual_host_as_a_whole(site, start_gateway, devices):
    profile = site.profile("/")
    lines = profile.config().splitlines()[1:-1]
    host = "<VirtualHost *>\nServerName scep.example\n" + "\n".join(lines) + "\n</VirtualHost>\n"
    gateway = start_gateway([], after=host)
    for path in ("/", "/certsrv/mscep/mscep.dll"):
        (message,) = devices(profile)
        check.success(message, message.post(gateway.port, path))


def test_a_section_that_only_a_request_meets(site, start_gateway, devices):
    """What stands in a <Location> around a <LocationMatch> is not passed over in silence: there is no profile for both."""
    profile = site.profile("/scep")
    text = profile.config().replace('<Location "/scep">', '<LocationMatch "^/m?scep(/|$)">')
    around = '<Location "/mscep">\nIntuneScepMinKeySize 4096\n</Location>\n'
    gateway = start_gateway([], after=around + text.replace("</Location>", "</LocationMatch>"))
    (message,) = devices(profile)
    assert message.post(gateway.port, "/mscep").status == 503
    gateway.expect_log("ISCEP0510: .*into the virtual host what a <LocationMatch> shares")
    check.all_untouched(site)
    check.success(message, message.post(gateway.port, "/scep"))


@pytest.mark.parametrize("mpm", ["prefork", "worker"])
def test_other_mpms(site, devices, mpm):
    """Enrolments, before and after a graceful restart, and how many run at once: half of the server's threads."""
    class OtherGateway(Gateway):
        modules = (f"mpm_{mpm}", *Gateway.modules[1:])

        def limits(self):
            return "ServerLimit 8\nStartServers 2\nMaxRequestWorkers 8\n" if mpm == "prefork" else super().limits()
    status = '<Location "/status">\nSetHandler intune-scep-status\n</Location>\n'
    gateway = OtherGateway([site.profile("/scep")], after=status).start()
    try:
        places = 'intune_scep_places{location="localhost/scep"} ' + ("4" if mpm == "prefork" else "32")
        assert places in client.request(gateway.port, "GET", "/status?format=prometheus").text.splitlines()
        enrol(gateway, devices, gateway.profiles[0])
        gateway.restart_gracefully()
        enrol(gateway, devices, gateway.profiles[0])
    finally:
        gateway.stop()


def answers_on_one_connection(port, request):
    """All that the server says to these bytes, until it closes the connection."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), 30 * place.SLOWNESS) as sock:
        sock.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                said += part
    return said


LAST = b"GET /static.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /static.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
FRAMES = {"length": b"Content-Length: %d\r\n\r\n%s" % (len(HIDDEN), HIDDEN),
          "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("request_line", ["GET GetCACaps", "POST GetCACaps", "GET GetNextCACert", "POST GetNextCACert",
                                          "GET GetCACert", "POST GetCACert", "GET PKIOperation"])
def test_a_body_that_nobody_wants_is_no_request(site, start_gateway, devices, request_line, frame):
    """Though the request becomes another one for the CA, all of it is read: else its body would be the next request."""
    method, operation = request_line.split()
    target = f"/scep?operation={operation}"
    with FakeServer(http_answer(b"AES\n")) as fake:
        backend = None if operation == "PKIOperation" else fake.url
        gateway = start_gateway([site.profile("/scep", backend=backend)])
        if operation == "PKIOperation":
            (message,) = devices(gateway.profiles[0])
            target = client.pki_get_target("/scep", message.der)
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n".encode()
        said = answers_on_one_connection(gateway.port, head + FRAMES[frame] + LAST)
        assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"static\n")
        assert said.count(b"HTTP/1.1 ") == 2 and said.count(b"static\n") == 1
        assert not any(b"static" in request for request in fake.requests)


@pytest.mark.parametrize("request_line", ["POST PKIOperation", "GET GetCACaps"])
@pytest.mark.parametrize("frame, status, number", [
    (b"Content-Length: 5000\r\n\r\n" + b"0" * 5000, 413, 1003),
    (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, 1005),
], ids=["LimitRequestBody", "no chunk"])
def test_a_body_that_httpd_refuses(site, start_gateway, request_line, frame, status, number):
    """httpd answers by itself then; the logs say the same."""
    gateway = start_gateway([site.profile("/scep")], before="LimitRequestBody 1000\n")
    method, operation = request_line.split()
    head = f"{method} /scep?operation={operation} HTTP/1.1\r\nHost: localhost\r\n".encode()
    said = answers_on_one_connection(gateway.port, head + frame)
    assert said.startswith(b"HTTP/1.1 %d " % status) and said.count(b"HTTP/1.1 ") == 1
    gateway.allow_log("ISCEP1003")
    gateway.wait_log(rf"ISCEP{number}: .*(LimitRequestBody|framed).*answered HTTP {status}")
    assert f'{operation} HTTP/1.1" {status} ' in gateway.access_log.read_text()


def test_http_1_0(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")])
    (message,) = devices(gateway.profiles[0])
    head = f"POST /scep?operation=PKIOperation HTTP/1.0\r\nContent-Length: {len(message.der)}\r\n\r\n"
    check.success(message, client.raw(gateway.port, head.encode() + message.der, method="POST"))


def test_http_2(site, start_gateway, devices, scratch):
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: install Debian's package curl")
    gateway = start_gateway([site.profile("/scep")], modules=["http2"], before="Protocols h2c http/1.1\n")
    for message in devices(gateway.profiles[0], 3):
        file, out = message.directory / f"{message.index}.der", scratch / f"{message.index}.out"
        url = f"http://127.0.0.1:{gateway.port}/scep?operation=PKIOperation"
        command = ["curl", "-sS", "--http2-prior-knowledge", "-D", "-", "--data-binary", f"@{file}", "-o", out, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * place.SLOWNESS, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("HTTP/2 200") and "cache-control: no-store" in done.stdout
        opened = message.open(out.read_bytes())
        assert opened["status"] == 0 and opened["key_matches"] and opened["transaction_id"] == message.transaction


def test_a_body_that_is_compressed(site, start_gateway, devices):
    """By something in front of the gateway, whose httpd is told to unpack it: what it unpacks to has the limit."""
    gateway = start_gateway([site.profile("/scep")], modules=["filter", "deflate"], before="SetInputFilter DEFLATE\n")
    (message,) = devices(gateway.profiles[0])
    headers = {"Content-Encoding": "gzip"}

    def post(body):
        return client.request(gateway.port, "POST", "/scep?operation=PKIOperation", gzip.compress(body), headers)
    check.success(message, post(message.der))
    gateway.expect_log("ISCEP1003")
    assert post(message.der * 40).status == 413


def test_own_message_limit(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", MaxMessage=4096)])
    (message,) = devices(gateway.profiles[0])
    assert len(message.der) > 4096
    gateway.expect_log("ISCEP1003")
    assert message.post(gateway.port).status == 413
    assert message.get(gateway.port).status == 413
    check.all_untouched(site)


def test_challenge_match_always(site, start_gateway, devices):
    """Under `always`, any password goes to Intune, which alone decides."""
    gateway = start_gateway([site.profile("/scep", ChallengeMatch="always")])
    (message,) = devices(gateway.profiles[0], challenge="plain-password")
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1100, message)
    assert len(site.microsoft.calls("validate")) == 1
    check.ca_untouched(site)


def test_challenge_match_by_expression(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", ChallengeMatch='"^Contoso-[0-9]+$"')])
    for word, asked in (("Contoso-17", 1), ("contoso-17", 0), ("xContoso-17", 0), ("Contoso-", 0), (True, 0)):
        (message,) = devices(gateway.profiles[0], challenge=word)
        check.failure(message, message.post(gateway.port), 2)
        check.final_line(gateway, 1100 if asked else 1014, message)
        assert len(site.microsoft.calls("validate")) == asked
        site.microsoft.reset()
    check.ca_untouched(site)


def test_what_is_asked_of_graph_and_intune(site, start_gateway, devices):
    """Version and application of the one, version of the other: the stand-in knows the usual ones only."""
    changes = [{"GraphVersion": "beta", "IntuneAppID": "11111111-2222"}, {"ServiceVersion": "2030-01-01"}]
    gateway = start_gateway([site.profile(f"/{number}", Retries=0, **change) for number, change in enumerate(changes)])
    for profile, problem in zip(gateway.profiles, (1106, 1102)):
        (message,) = devices(profile)
        check.unavailable(message.post(gateway.port))
        check.final_line(gateway, problem, message)
    (graph,) = site.microsoft.calls("other")
    assert graph["path"] == "/beta/servicePrincipals/appId=11111111-2222/endpoints"
    (validate,) = site.microsoft.calls("validate")
    assert (validate["api_version"], validate["status"]) == ("2030-01-01", 400)


def test_texts_for_the_report(site, start_gateway, devices):
    texts = {"CAConfiguration": '"our CA"', "CertificateAuthority": "ca01", "Provider": '"Gateway 7"'}
    gateway = start_gateway([site.profile("/scep", **texts)])
    enrol(gateway, devices, gateway.profiles[0])
    (body,) = site.microsoft.bodies("success")
    assert (body["caConfiguration"], body["certificateAuthority"]) == ("our CA", "ca01")
    assert body["callerInfo"] == "Gateway 7"
    assert site.microsoft.calls("success")[0]["user_agent"] == "Gateway 7"
