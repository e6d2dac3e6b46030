# SPDX-License-Identifier: Apache-2.0
"""All of httpd's modules that may be about a location at once, each set up as a server with other sites on it may have it."""
import shutil
import subprocess

import pytest

from harness import check, client, place, system
from harness.microsoft import tls_host
from harness.real_clients import ScepClient, StrongSwan

MODULES = """alias allowmethods authn_core authz_host autoindex brotli buffer cache cache_disk deflate dir dumpio env expires
    ext_filter filter headers http2 include info lbmethod_bybusyness lbmethod_byrequests log_forensic mime negotiation
    proxy_balancer proxy_fcgi proxy_hcheck ratelimit remoteip reqtimeout request rewrite session session_cookie setenvif
    slotmem_shm speling ssl status substitute unique_id userdir usertrack vhost_alias watchdog""".split()

SETTINGS = r"""
TypesConfig /dev/null
AddType text/html .html
<Proxy "balancer://ca">
    BalancerMember "http://127.0.0.1:{down}" retry=0
    BalancerMember "http://127.0.0.1:{up}"
    BalancerMember "http://127.0.0.1:{standby}" status=+H
    ProxySet lbmethod=bybusyness
</Proxy>
ProxyErrorOverride On
ProxyPreserveHost On
ProxyPass "/scep" "http://127.0.0.1:9/" nocanon
ErrorDocument 400 /static.txt
ErrorDocument 502 "another page"
ErrorDocument 503 /static.txt
CacheRoot "${{ROOT}}/cache"
CacheEnable disk /
CacheIgnoreCacheControl On
CacheStoreNoStore On
SetOutputFilter DEFLATE
AddOutputFilterByType SUBSTITUTE text/html
ExtFilterDefine through mode=input cmd=/bin/cat
SetInputFilter through
FallbackResource /static.txt
CheckSpelling On
CookieTracking On
ExpiresActive On
ExpiresDefault "access plus 1 year"
ForensicLog forensic.log
Header always set X-Frame-Options DENY
RemoteIPHeader X-Forwarded-For
RequestHeader set X-Forwarded-Proto https
RequestReadTimeout header=20-40,MinRate=500 body=20,MinRate=500
SetEnvIf User-Agent ".*" downgrade-1.0
<Location "/">
    Options +MultiViews +Includes
    Session On
    SessionCookieName session path=/
</Location>
RewriteEngine On
RewriteRule ^/enrol$ /scep [PT]
Protocols h2 http/1.1
"""


@pytest.fixture
def crowd(site, start_gateway):
    """The gateway among all of them; its https port is `tls`."""
    settings = SETTINGS.format(down=system.free_port(), standby=system.free_port(), up=site.ca.port)
    tls = system.free_port()
    certificate = site.microsoft.tls_certificate
    algorithms = '"AES DES3 DES SHA-1 SHA-256 SHA-512"'  # scepclient knows nothing but DES
    gateway = start_gateway([site.profile("/scep", backend="balancer://ca/ca", DeviceAlgorithms=algorithms)],
                            before=settings, after=tls_host(tls, certificate, certificate.with_name("tls.key")),
                            modules=[name for name in MODULES if (place.MODULES / f"mod_{name}.so").exists()])
    gateway.always_allowed.append(r"\[(proxy|proxy_http):error\]|AH01136")  # the member that is down; nocanon of the ProxyPass
    (gateway.root / "htdocs" / "scep.html").write_text("another page\n")
    gateway.tls = tls
    return gateway


def test_devices(site, crowd, devices, scratch):
    for path in ("/scep", "/scep/pkiclient.exe", "/enrol"):
        for send in ("post", "get"):
            (message,) = devices(crowd.profiles[0])
            answer = getattr(message, send)(crowd.port, path)
            answer.headers.pop("set-cookie", None)  # mod_usertrack's own
            check.success(message, answer)
    for made in (ScepClient(), StrongSwan()):
        if not made.is_there():
            continue
        work = scratch / type(made).__name__
        work.mkdir()
        challenge = site.microsoft.challenge(crowd.profiles[0].tenant)
        enrolment = made.enrol(work, f"http://127.0.0.1:{crowd.port}/scep", crowd.profiles[0], challenge, "device")
        assert enrolment.pem, enrolment.said
    assert len(site.microsoft.calls("success")) == len(site.ca.requests())


def test_failures(site, crowd, devices):
    """They come as the gateway made them: no page of the server's takes their place."""
    for target, fault in ((site.microsoft, ("validate", "status")), (site.ca, ("status",))):
        (message,) = devices(crowd.profiles[0])
        (target.fail if target is site.microsoft else target.control)(*fault, status=500)
        check.unavailable(message.post(crowd.port))
        check.final_line(crowd, (1102, 1202), message)
        site.reset()
    answer = client.request(crowd.port, "GET", "/scep")
    assert answer.status == 400 and "no known operation" in answer.text


def test_http_2(crowd, devices, scratch):
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: install Debian's package curl")
    (message,) = devices(crowd.profiles[0])
    command = ["curl", "-sSk", "--http2", "-w", "%{http_version} %{http_code}", "-o", scratch / "answer", "--data-binary",
               f"@{message.directory}/{message.index}.der", f"https://127.0.0.1:{crowd.tls}/scep?operation=PKIOperation"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * place.SLOWNESS, check=False)
    assert done.stdout == "2 200", done.stdout + done.stderr
    assert message.open((scratch / "answer").read_bytes())["status"] == 0
