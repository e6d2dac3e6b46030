# SPDX-License-Identifier: Apache-2.0
"""Whatever the CA does wrong after Intune said yes: nothing is delivered, Intune is told, the answer is right."""
import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest

from harness import check, client, device, place, system, wait
from harness.fake import FakeServer, http_answer

PROXY_LINES = r"\[proxy(_http)?:(error|warn)\]"
PROXY_OVERRIDE = ("ProxyErrorOverride On\nErrorDocument 500 /static.txt\nErrorDocument 502 /static.txt\n"
                  "ErrorDocument 503 /static.txt\nErrorDocument 504 /static.txt\n")

# mode: (options, problems one of which it is, what the device gets: failInfo as "fail N" or the HTTP status)
MODES = {
    "status 500": ({"mode": "status", "status": 500}, (1202,), 503),
    "status 503": ({"mode": "status", "status": 503}, (1202,), 503),
    "status 404": ({"mode": "status", "status": 404}, (1206,), 502),
    "slow": ({"mode": "slow", "seconds": 5}, (1201,), 503),
    "truncate": ({"mode": "truncate"}, (1203,), 503),
    "stall": ({"mode": "stall", "seconds": 5}, (1201, 1203), 503),
    "drop": ({"mode": "drop"}, (1202, 1203), 503),
    "status 429": ({"mode": "status", "status": 429}, (1202,), 503),
    "html": ({"mode": "html"}, (1206,), 502),
    "empty": ({"mode": "empty"}, (1206,), 502),
    "other transaction": ({"mode": "other_transaction"}, (1208,), 502),
    "other nonce": ({"mode": "other_nonce"}, (1208,), 502),
    "no nonce": ({"mode": "no_nonce"}, (1206, 1208), 502),
    "foreign signer": ({"mode": "foreign_signer"}, (1207,), 502),
    "broken signature": ({"mode": "broken_signature"}, (1206, 1207), 502),
    "other recipient": ({"mode": "other_recipient"}, (1206,), 502),
    "wrong key": ({"mode": "wrong_key"}, (1209,), 502),
    "two certificates": ({"mode": "two_certificates"}, (1209,), 502),
    "no certificate": ({"mode": "no_certificate"}, (1206, 1209), 502),
    "expired": ({"mode": "expired"}, (1210,), 502),
    "not yet": ({"mode": "not_yet"}, (1210,), 502),
    "foreign issuer": ({"mode": "foreign_issuer"}, (1210,), 502),
    "refuse badAlg": ({"mode": "refuse", "fail_info": 0}, (1204,), "fail 0"),
    "refuse badRequest": ({"mode": "refuse", "fail_info": 2, "text": "nicht für Sie: " + "ü" * 100}, (1204,), "fail 2"),
    "refuse badCertId": ({"mode": "refuse", "fail_info": 4}, (1204,), "fail 4"),
}
OPTIONS = {"threads": 64}


def profiles(site):
    # without retries of calls to Microsoft: test_resilience.py has them
    return [site.profile("/scep", Retries=0), site.profile("/override", Retries=0, extra=PROXY_OVERRIDE),
            site.profile("/down", backend=f"http://127.0.0.1:{system.free_port()}/ca"),
            site.profile("/down-override", backend=f"http://127.0.0.1:{system.free_port()}/ca", extra=PROXY_OVERRIDE),
            site.profile("/after", Retries=0, Notify="after"), site.profile("/quick", Retries=0, Timeout=1)]


@pytest.fixture
def at(gateway):
    return lambda path: next(profile for profile in gateway.profiles if profile.path == path)


def failed_at_ca(site, gateway, message, problems, expected):
    """Asserts answer, log and failureNotification; returns the answer."""
    gateway.allow_log(PROXY_LINES)
    answer = message.post(gateway.port)
    if isinstance(expected, int):
        check.unavailable(answer, expected)
        assert b"static" not in answer.body
    else:
        check.failure(message, answer, int(expected.split()[1]))
    problem = check.final_line(gateway, problems, message)
    check.failure_reported(site, message, problem)
    return answer


@pytest.mark.parametrize("name", MODES)
def test_mode(site, gateway, at, devices, name):
    options, problems, expected = MODES[name]
    (message,) = devices(at("/scep"))
    site.ca.control(**options)
    failed_at_ca(site, gateway, message, problems, expected)
    assert len(site.ca.requests()) == 1, "the CA must be asked once"
    if "text" in options:
        (body,) = site.microsoft.bodies("failure")
        assert options["text"][:60] in body["errorDescription"], "in the CA's own words"


@pytest.mark.parametrize("name", ["status 500", "drop", "slow", "truncate", "html", "wrong key", "refuse badRequest"])
def test_mode_with_error_documents(site, gateway, at, devices, name):
    options, problems, expected = MODES[name]
    (message,) = devices(at("/override"))
    site.ca.control(**options)
    failed_at_ca(site, gateway, message, problems, expected)


@pytest.mark.parametrize("path", ["/down", "/down-override"])
def test_ca_is_down(site, gateway, at, devices, path):
    for message in devices(at(path), 3):
        failed_at_ca(site, gateway, message, 1200, 503)


def test_ca_has_no_name(site, start_gateway, devices):
    """Its name cannot be resolved: it has heard nothing, and the log sends nobody to look into its own."""
    profile = site.profile("/scep", backend="http://no-such-ca.invalid/ca")
    gateway = start_gateway([profile], threads=64)
    gateway.allow_log("ISCEP0504")
    (message,) = devices(profile)
    failed_at_ca(site, gateway, message, 1200, 503)


def test_success_with_error_documents(site, gateway, at, devices):
    (message,) = devices(at("/override"))
    answer = message.post(gateway.port)
    check.reported(site, message, check.success(message, answer), answer)


def test_leaf_only_though_the_ca_sends_its_chain(site, gateway, at, devices):
    (message,) = devices(at("/scep"))
    site.ca.control("chain")
    answer = message.post(gateway.port)
    check.reported(site, message, check.success(message, answer), answer)


def test_works_again_once_the_ca_does(site, gateway, at, devices):
    first, second = devices(at("/scep"), 2)
    site.ca.control("status", times=1, status=500)
    failed_at_ca(site, gateway, first, 1202, 503)
    check.success(second, second.post(gateway.port))


@pytest.mark.parametrize("mode", ["wrong key", "expired", "foreign issuer"])
def test_operator_learns_the_serial_of_a_bad_certificate(site, gateway, at, devices, mode):
    options, problems, expected = MODES[mode]
    (message,) = devices(at("/scep"))
    site.ca.control(**options)
    failed_at_ca(site, gateway, message, problems, expected)
    serial = site.ca.requests()[0]["serial"].upper()
    (line,) = gateway.lines(rf"ISCEP1\d\d\d: \[{message.transaction}\]")
    assert serial.lstrip("0") in line, line


def test_refused_report_of_failure_changes_nothing(site, gateway, at, devices):
    (message,) = devices(at("/scep"))
    site.microsoft.fail("failure", "status", status=500)
    site.ca.control("refuse", fail_info=2)
    gateway.allow_log(rf"ISCEP0\d\d\d: \[{message.transaction}\]")
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1204, message)


# a CA that answers with strange bytes

HEAD_WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-pki-message\r\nConnection: close\r\n\r\n"
HUGE = [HEAD_WITHOUT_LENGTH] + [b"\x30" * 65536] * 128
STRANGE = {
    "huge": (HUGE, (1203, 1206), (502, 503)),
    "redirect": (http_answer(b"", "302 Found", extra="Location: http://127.0.0.1:9/\r\n"), (1206,), (502,)),
    "created": (http_answer(b"0", "201 Created"), (1206,), (502,)),
    "no content": (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", (1206,), (502,)),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n", (1206,), (502,)),
    "unauthorized": (http_answer(b"who?", "401 Unauthorized", extra="WWW-Authenticate: Basic realm=x\r\n"),
                     (1202, 1206), (502, 503)),
    "not http": (b"SSH-2.0-OpenSSH_9.2\r\n", (1202, 1203, 1206), (502, 503)),
    "short": (http_answer(b"0" * 100).replace(b"Content-Length: 100", b"Content-Length: 200"), (1203,), (503,)),
    "bad chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense", (1202, 1203, 1206),
                   (502, 503)),
    "half a header": (b"HTTP/1.1 200 OK\r\nContent-Ty", (1202, 1203, 1206), (502, 503)),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("extra", ["", PROXY_OVERRIDE], ids=["plain", "override"])
def test_strange_answer(site, start_gateway, devices, name, extra):
    answer, problems, statuses = STRANGE[name]
    with FakeServer(answer) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url, extra=extra)], processes=1)
        gateway.allow_log(r"\[(proxy|proxy_http|http|core):(error|warn)\]")
        (message,) = devices(gateway.profiles[0])
        got = message.post(gateway.port)
        assert got.status in statuses and b"static" not in got.body
        check.unavailable(got, got.status)
        assert "www-authenticate" not in got.headers and "location" not in got.headers
        problem = check.final_line(gateway, problems, message)
        check.failure_reported(site, message, problem)
        assert len([request for request in fake.requests if b"operation=PKIOperation" in request]) == 1


@pytest.mark.parametrize("parts", [1, 7])
def test_answer_that_ends_with_the_connection(site, start_gateway, devices, parts):
    """HTTP/1.0's way: no length, no chunks. The end of the connection is the end of the answer."""
    def answer(request):
        good = client.raw(site.ca.port, request.replace(b"HTTP/1.1", b"HTTP/1.0", 1), method="POST").body
        size = len(good) // parts + 1
        return [HEAD_WITHOUT_LENGTH] + [good[at:at + size] for at in range(0, len(good), size)]
    with FakeServer(answer) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url)])
        for message in devices(gateway.profiles[0], 12):
            check.success(message, message.post(gateway.port))


@pytest.mark.parametrize("kept", [0, 1, 1500])
def test_answer_that_ends_with_the_connection_too_early(site, start_gateway, devices, kept):
    """The CA dies while it writes. Only the message itself tells that this is not all of it."""
    def answer(request):
        good = client.raw(site.ca.port, request, method="POST").body
        return HEAD_WITHOUT_LENGTH + good[:kept]
    with FakeServer(answer) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url, BackendCapabilities="AES POSTPKIOperation")])
        (message,) = devices(gateway.profiles[0])
        check.unavailable(message.post(gateway.port))
        check.final_line(gateway, 1203, message)
        check.failure_reported(site, message, 1203)


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no journal"])
def test_answer_without_end(site, start_gateway, devices, journal):
    """A CA that goes on and on, with pauses shorter than mod_proxy's time-out, holds neither device nor place."""
    ended = threading.Event()

    def answer(_request):
        yield HEAD_WITHOUT_LENGTH
        while not ended.wait(0.1):
            yield b"0"
    with FakeServer(answer) as fake:
        profile = site.profile("/scep", backend=fake.url, BackendTimeout=2, BackendCapabilities="AES")
        gateway = start_gateway([profile], server="" if journal else "IntuneScepJournal none\n")
        gateway.allow_log("ISCEP0541")
        try:
            (message,) = devices(profile)
            got = message.post(gateway.port)
            check.unavailable(got)
            assert got.seconds < 8 * place.SLOWNESS
            check.final_line(gateway, 1201, message, "IntuneScepBackendTimeout")
        finally:
            ended.set()


@pytest.mark.parametrize("cut", ["head", "body"])
def test_the_device_is_gone_before_the_answer(site, start_gateway, devices, cut):
    """The gateway finds that out when it writes 100 Continue. What the CA issues is taken and reported all the same."""
    def answer(request):
        good = http_answer(client.raw(site.ca.port, request, method="POST").body)
        end = good.index(b"\r\n\r\n") + (4 if cut == "head" else 1000)
        yield good[:end]
        time.sleep(0.3)
        yield good[end:]
    with FakeServer(answer) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url, BackendCapabilities="AES POSTPKIOperation")])
        (message,) = devices(gateway.profiles[0])
        for child in gateway.children():
            os.kill(child, signal.SIGSTOP)
        with check.client_socket(gateway.port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(message.der) + message.der)
        for child in gateway.children():
            os.kill(child, signal.SIGCONT)
        wait.until(lambda: site.microsoft.calls("success") or site.microsoft.calls("failure"), "its end")
        opened = check.success(message, message.post(gateway.port))
        assert [call["thumbprint"] for call in site.microsoft.calls("success")] == [opened["thumbprint"]]
        assert len(site.ca.requests()) == 1 and not site.microsoft.calls("failure")


NEXT_CA = "/scep?operation=GetNextCACert"
# Headers of which some servers make another request.
OVERRIDING = ["X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"]


@pytest.mark.parametrize("framing", ["", "Transfer-Encoding: chunked\r\n"], ids=["to the end", "chunked"])
def test_next_ca_without_end(site, start_gateway, framing):
    """Anybody may ask for it: an answer without end has one, and a device does not take it for the whole."""
    ended = threading.Event()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-x509-next-ca-cert\r\n{framing}Connection: close\r\n\r\n"

    def answer(_request):
        yield head.encode()
        while not ended.wait(0.1):
            yield b"1\r\n0\r\n" if framing else b"0"
    with FakeServer(answer) as fake:
        profile = site.profile("/scep", backend=fake.url, BackendTimeout=2, BackendCapabilities="AES")
        gateway = start_gateway([profile])
        gateway.allow_log(PROXY_LINES)
        try:
            got = b""
            with client.socket.create_connection(("127.0.0.1", gateway.port), 8 * place.SLOWNESS) as sock:
                sock.sendall(f"GET {NEXT_CA} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                while part := sock.recv(65536):
                    got += part
            assert got.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 "))
            assert b" 502 " in got[:20] or not got.endswith(b"0\r\n\r\n")
            gateway.expect_log("ISCEP0559")
        finally:
            ended.set()


def test_next_ca_takes_a_place(site, start_gateway):
    """A CA that stands still must not take all threads, but the places only; an answered one gives its place back."""
    ended = threading.Event()

    def answer(_request):
        ended.wait(20)
        return http_answer(b"next", content_type="application/x-x509-next-ca-cert")
    with FakeServer(answer) as fake:
        profile = site.profile("/scep", backend=fake.url, BackendCapabilities="AES", MaxConcurrent=2)
        gateway = start_gateway([profile], after="ProxyTimeout 20\n")
        gateway.allow_log("ISCEP1004")
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(client.request(gateway.port, "GET", NEXT_CA)))
                   for _ in range(2)]
        try:
            for thread in threads:
                thread.start()
            wait.until(lambda: len(fake.requests) == 2, "two requests at the CA")
            check.unavailable(client.request(gateway.port, "GET", NEXT_CA))
            check.unavailable(client.request(gateway.port, "POST", "/scep?operation=PKIOperation", b"0"))
        finally:
            ended.set()
        for thread in threads:
            thread.join()
        assert [answer.body for answer in answers] == [b"next", b"next"]
        for _ in range(4):
            assert client.request(gateway.port, "GET", NEXT_CA).body == b"next"


def test_next_ca_runs_nothing_in_a_browser(site, start_gateway):
    """It is passed on as it comes, and the status page is of the same origin."""
    with FakeServer(http_answer(b"<script>alert(1)</script>", content_type="text/html")) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url, BackendCapabilities="AES")])
        answer = client.request(gateway.port, "GET", NEXT_CA)
        assert answer.status == 200 and b"script" in answer.body
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        headers = {name: "DELETE" for name in OVERRIDING}
        assert client.request(gateway.port, "GET", NEXT_CA, None, headers).status == 200
        assert b"DELETE" not in fake.requests[-1] and len(fake.requests) == 2


@pytest.mark.parametrize("operation", ["GetCACaps", "PKIOperation"])
def test_interim_answers_stay_here(site, start_gateway, devices, operation):
    """What the CA says before its answer is for the gateway alone."""
    interim = b"HTTP/1.1 103 Early Hints\r\nX-Inside: of-the-ca\r\nSet-Cookie: a=b\r\n\r\n"
    with FakeServer([interim, http_answer(b"AES\n")]) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url)])
        gateway.allow_log(r"ISCEP\d+: ")
        method, body = "GET", b""
        if operation == "PKIOperation":
            (message,) = devices(gateway.profiles[0])
            method, body = "POST", message.der
        head = (f"{method} /scep?operation={operation} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        said = b""
        with client.socket.create_connection(("127.0.0.1", gateway.port), client.TIMEOUT) as sock:
            sock.sendall(head.encode() + body)
            while part := sock.recv(65536):
                said += part
        assert said.count(b"HTTP/1.1 ") == 1 and b"of-the-ca" not in said and b"a=b" not in said


def test_nothing_is_sent_after_the_time(site, start_gateway, devices):
    """A balancer that finds a living member too late: another request may have the transaction by then."""
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(client.socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full, so that nobody else gets a connection
            caller = stack.enter_context(client.socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        before = (f'<Proxy "balancer://ca">\nBalancerMember "http://127.0.0.1:{deaf.getsockname()[1]}"\n'
                  f'BalancerMember "http://127.0.0.1:{site.ca.port}" status=+H\n</Proxy>\n')
        profile = site.profile("/scep", backend="balancer://ca/ca", BackendTimeout=2,
                               BackendCapabilities='"AES SHA-256 POSTPKIOperation"')
        gateway = start_gateway([profile], before=before, proxy_timeout=4,
                                modules=["proxy_balancer", "slotmem_shm", "lbmethod_byrequests"])
        gateway.allow_log(r"\[(proxy|proxy_http):error\]")
        (message,) = devices(profile)
        check.unavailable(message.post(gateway.port))
        check.final_line(gateway, 1200, message, "no time left")
        check.ca_untouched(site)
        check.success(message, message.post(gateway.port))


def test_what_the_ca_is_sent(site, start_gateway, devices):
    """Nothing of the device's own HTTP request goes on to the CA."""
    with FakeServer(http_answer(b"")) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url)])
        (message,) = devices(gateway.profiles[0])
        headers = {"Cookie": "c=d", "Authorization": "Basic YWJj", "If-None-Match": "x", "Range": "bytes=0-1",
                   "Content-Encoding": "gzip", "Content-Range": "bytes 0-1/2", "Content-MD5": "x", "Max-Forwards": "0",
                   "Accept-Encoding": "br", **{name: "/other" for name in OVERRIDING}}
        target = "/scep/pkiclient.exe?x=y&operation=PKIOperation&message=z"
        client.request(gateway.port, "POST", target, message.der, headers)
        gateway.allow_log(rf"ISCEP1206: \[{message.transaction}\]")
        (request,) = [request for request in fake.requests if b"operation=PKIOperation" in request]
        asked = [request for request in fake.requests if b"operation=GetCACaps" in request]
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /ca?operation=PKIOperation HTTP/1.1\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/x-pki-message" in lines and b"content-length: %d" % len(body) in lines
    unwanted = (b"cookie:", b"authorization:", b"if-none-match:", b"range:", b"accept-encoding:", b"transfer-encoding:",
                b"content-encoding:", b"content-range:", b"content-md5:", b"max-forwards:",
                *(f"{name.lower()}:".encode() for name in OVERRIDING))
    for line in lines + b"".join(asked).lower().split(b"\r\n"):
        assert not line.startswith(unwanted), line
    assert message.der not in body


# the report of success

def serial_and_issuer(site, line):
    serial = site.ca.requests()[0]["serial"].upper().lstrip("0")
    assert serial in line and "CN=Test CA" in line, line


REFUSALS = {"code": {"mode": "code", "code": "SignatureValidationFailed"},
            "HTTP 400": {"mode": "status", "status": 400}}
NOT_TAKEN = {"500": {"mode": "status", "status": 500}, "Unknown": {"mode": "code", "code": "Unknown"},
             "drop": {"mode": "drop"}, "html": {"mode": "html"}, "429": {"mode": "status", "status": 429},
             "404": {"mode": "status", "status": 404}}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=list(REFUSALS))
def test_refused_report_withholds_the_certificate(site, gateway, at, devices, fault):
    (message,) = devices(at("/scep"))
    site.microsoft.fail("success", **fault)
    check.failure(message, message.post(gateway.port), 2)
    check.final_line(gateway, 1300, message, fault.get("code", ""))
    serial_and_issuer(site, gateway.lines(rf"ISCEP1300: \[{message.transaction}\]")[0])
    assert not site.microsoft.calls("failure"), "no failureNotification once a certificate was issued"


@pytest.mark.parametrize("fault", NOT_TAKEN.values(), ids=list(NOT_TAKEN))
def test_report_not_taken_under_before(site, gateway, at, devices, fault):
    (message,) = devices(at("/scep"))
    site.microsoft.fail("success", **fault)
    gateway.allow_log(r"ISCEP030\d")
    check.unavailable(message.post(gateway.port))
    check.final_line(gateway, 1301, message)
    serial_and_issuer(site, gateway.lines(rf"ISCEP1301: \[{message.transaction}\]")[0])
    assert not site.microsoft.calls("failure")


def test_report_stalls_under_before(site, gateway, at, devices):
    (message,) = devices(at("/quick"))
    site.microsoft.fail("success", "stall", seconds=4)
    answer = message.post(gateway.port)
    check.unavailable(answer)
    check.final_line(gateway, 1301, message)
    assert answer.seconds < 3 * check.place.SLOWNESS


@pytest.mark.parametrize("fault", [*NOT_TAKEN.values(), *REFUSALS.values()], ids=[*NOT_TAKEN, *REFUSALS])
def test_report_not_taken_under_after(site, gateway, at, devices, fault):
    (message,) = devices(at("/after"))
    site.microsoft.fail("success", **fault)
    gateway.allow_log(r"ISCEP030\d|ISCEP040[27]")
    opened = check.success(message, message.post(gateway.port))
    facts = device.CertificateFacts(opened["certificate"])
    assert gateway.lines(rf"ISCEP040[27]: \[{message.transaction}\].*{facts.serial}")
    assert not site.microsoft.calls("failure")


def test_after_is_announced_at_start(gateway):
    assert gateway.lines(r"\[intune_scep:notice\].*IntuneScepNotify.*delivered even when Intune")
