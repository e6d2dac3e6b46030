# SPDX-License-Identifier: Apache-2.0
"""What strangers may send: the right class of answer, nothing at Intune and the CA, nothing strange in the log."""
import base64
import random

import pytest

from harness import check, client, handmade, log, pki

OURS = r"ISCEP10\d\d: "
# break: what the device gets, as HTTP status or "fail N"
BREAKS = {
    "signature": "fail 1", "digest": "fail 1",
    "envelope": "fail 1", "rsa": "fail 1", "recipient": "fail 1",
    "csr-signature": "fail 1", "csr-key": "fail 1", "not-a-csr": "fail 1", "empty-envelope": "fail 1",
    "no-challenge": "fail 2", "two-challenges": "fail 2", "sid": "fail 2", "two-extension-lists": "fail 2",
    "extension-twice": "fail 2",
    "no-transaction": 400, "no-nonce": 400, "no-type": 400, "double-type": 400, "two-signers": 400, "trailing": 400,
    "truncated": 400, "long-transaction": 400, "control-transaction": 400,
}
AFTER_PROOF = {"no-challenge": 1014, "two-challenges": 1015, "sid": 1016, "two-extension-lists": 1033, "extension-twice": 1033}
AFTER_DECRYPTION = ("envelope", "rsa", "recipient", "csr-signature", "csr-key", "not-a-csr")


def profiles(site):
    return [site.profile("/scep")]


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


@pytest.fixture(autouse=True)
def untouched(site, gateway):
    """None of these tests may reach Intune or the CA, unless it resets the records; all lines are whole."""
    gateway.allow_log(OURS)
    yield
    check.all_untouched(site)
    whole = [line for line in gateway.lines() if not log.LINE.match(line)]
    assert whole == [], whole[:5]
    gateway.path_quick()


def post(gateway, body, target="/scep?operation=PKIOperation", **headers):
    return client.request(gateway.port, "POST", target, body, headers)


def outcome(message, answer):
    """400, "fail 1" …: the class of an answer."""
    if answer.status != 200:
        assert len(answer.body) < 1000 and "<" not in answer.text
        return answer.status
    opened = message.open(answer)
    assert opened["signature_ok"] and not opened.get("certificate")
    return f"fail {opened['fail_info']}" if opened["status"] == 2 else f"status {opened['status']}"


NOT_SCEP = [b"", b"\0", b"hello", b"0" * 5000, b"\x30\x80", b"\x30\x82\xff\xff", b"\x30\x84\xff\xff\xff\xff",
            b"<script>alert(1)</script>", bytes(range(256)) * 16, b"\x30\x80" * 20000]


@pytest.mark.parametrize("body", NOT_SCEP, ids=lambda body: f"{body[:6].hex()}-{len(body)}")
def test_not_scep(gateway, body):
    answer = post(gateway, body)
    assert answer.status == 400 and answer.headers["content-type"].startswith("text/plain")
    assert "no-store" in answer.headers["cache-control"] and "script" not in answer.text


TOO_MANY_DIGESTS = "ISCEP1001: .*more digests than one signer needs"


@pytest.mark.parametrize("digests, allowed", [(0, True), (8, True), (9, False), (4500, False)])
def test_many_digests(gateway, scratch, digests, allowed):
    """Anybody can list them, and OpenSSL would compute each over the whole content, on a stack that grows with them."""
    signer = handmade.Signer(*pki.Authority(scratch / "own").issue("own"))
    before = len(gateway.lines(TOO_MANY_DIGESTS))
    assert post(gateway, signer.sign(b"0" * 60000, digests)).status == (200 if allowed else 400)
    assert len(gateway.lines(TOO_MANY_DIGESTS)) - before == (0 if allowed else 1)


TOO_MUCH_MEMORY = "ISCEP1001: .*distribution points of a certificate in it would take too much memory"


@pytest.mark.parametrize("names, points, count, allowed", [(3, 4, 1, True), (1, 3000, 1, True), (1000, 2000, 1, False),
                                                           (30, 100, 2, False)])
def test_certificates_that_would_swell(gateway, scratch, names, points, count, allowed):
    """OpenSSL copies the issuer's name for each relative distribution point: 100 kB could become gigabytes."""
    signer = handmade.Signer(*pki.Authority(scratch / "own").issue("own"))
    more = handmade.relative_certificate(signer.key, names, points) * count
    before = len(gateway.lines(TOO_MUCH_MEMORY))
    assert post(gateway, signer.sign(b"0", more=more)).status == (200 if allowed else 400)
    assert len(gateway.lines(TOO_MUCH_MEMORY)) - before == (0 if allowed else 1)


@pytest.mark.parametrize("key, count, line", [
    (None, 31, None), (None, 32, "more certificates than a signer"), (None, 200, "more certificates than a signer"),
    (handmade.SPELLED_OUT, 1, "an elliptic curve in it is spelled out")])
def test_certificates_whose_keys_take_long(gateway, scratch, key, count, line):
    """OpenSSL decodes the keys of all of them while it reads: those of spelled out curves took half a minute."""
    signer = handmade.Signer(*pki.Authority(scratch / "own").issue("own"))
    one = handmade.key_certificate(key) if key else handmade.relative_certificate(signer.key, 1, 0)
    before = len(gateway.lines("ISCEP1001: "))
    assert post(gateway, signer.sign(b"0", more=one * count)).status == (400 if line else 200)
    assert len(gateway.lines("ISCEP1001: ")) - before == (1 if line else 0)
    assert not line or line in gateway.lines("ISCEP1001: ")[-1]


@pytest.mark.parametrize("size", [131073, 1048576])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_too_large(gateway, size, chunked):
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n"
    chunk = b"1000\r\n" + b"0" * 4096 + b"\r\n" if chunked else b"0" * 4096

    def body(sock):
        try:
            for _ in range(size // 4096 + 1):
                sock.sendall(chunk)
            sock.sendall(b"0\r\n\r\n" if chunked else b"")
        except OSError:
            pass  # the server has heard enough; its answer is there
    assert client.raw(gateway.port, head, body, method="POST").status == 413


POST_HEAD = (b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
             b"Connection: close\r\n\r\n")


def test_too_large_is_said_before_the_body(gateway):
    assert client.raw(gateway.port, POST_HEAD % 1048576, method="POST", timeout=5).status == 413


def test_announced_but_not_sent(gateway):
    def shut(sock):
        sock.shutdown(client.socket.SHUT_WR)
    assert client.raw(gateway.port, POST_HEAD % 1000 + b"0", shut, method="POST", timeout=10).status == 400


@pytest.mark.parametrize("message", ["", "%", "%zz", "====", "!!!!", "A", "MII", "MIIB", "%00", "a" * 60000])
def test_get_message_that_is_none(gateway, message):
    assert client.raw_get(gateway.port, f"/scep?operation=PKIOperation&message={message}").status in (400, 413, 414)


def test_get_without_message(gateway):
    assert client.raw_get(gateway.port, "/scep?operation=PKIOperation").status == 400


@pytest.mark.parametrize("target", ["/scep", "/scep?", "/scep?operation=", "/scep?operation=Nonsense",
                                    "/scep?operations=GetCACaps", "/scep?operation=GetCACaps%00",
                                    "/scep?operation=GetCACap", "/scep?operation=GetCACapsX"])
def test_no_operation(gateway, target):
    for method in ("GET", "POST"):
        answer = client.request(gateway.port, method, target, b"x" if method == "POST" else None)
        assert answer.status == 400 and answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "INVENTED"])
def test_other_methods(gateway, method):
    answer = client.request(gateway.port, method, "/scep?operation=PKIOperation")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("what", BREAKS)
def test_broken_message(gateway, profile, devices, what):
    (message,) = devices(profile, challenge=what != "no-challenge", break_=what)
    assert outcome(message, message.post(gateway.port)) == BREAKS[what]
    if BREAKS[what] == "fail 2" or what in AFTER_DECRYPTION:
        check.final_line(gateway, AFTER_PROOF.get(what, 1012), message)
    assert outcome(message, message.get(gateway.port)) == BREAKS[what]


OF_THE_CONNECTION = ("date", "connection", "keep-alive")


def test_the_key_tells_nothing(gateway, profile, devices):
    """Whatever fails behind the RA key's decryption gives one and the same answer."""
    seen = {}
    for what in AFTER_DECRYPTION:
        (message,) = devices(profile, break_=what)
        for answer in (message.post(gateway.port), message.get(gateway.port)):
            headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_CONNECTION}
            opened = check.failure(message, answer, 1)
            seen[what] = (answer.status, headers, len(answer.body), opened["fail_info"], opened.get("fail_info_text"),
                          opened["digest"])
    assert all(value == seen["rsa"] for value in seen.values()), seen


def test_other_passwords_are_no_challenges(gateway, profile, devices):
    for password in ("secret", "A" * 1000, base64.b64encode(b"\x30\x03\x02\x01\x01").decode()):
        (message,) = devices(profile, challenge=password)
        check.failure(message, message.post(gateway.port), 2)
        check.final_line(gateway, 1014, message)


@pytest.mark.parametrize("options", [{"cipher": "des"}, {"digest": "md5"}], ids=["des", "md5"])
def test_algorithms_of_old(gateway, profile, devices, options):
    (message,) = devices(profile, **options)
    assert outcome(message, message.post(gateway.port)) == "fail 0"


def test_small_key(gateway, profile, devices):
    (message,) = devices(profile, own_key=True, bits=1024)
    check.failure(message, message.post(gateway.port), 0)
    check.final_line(gateway, 1017, message)


OTHER_TYPES = {3: "fail 2", 18: "fail 2", 99: "fail 2", 21: "fail 1", 22: "fail 1"}  # the last two by a stranger


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_other_message_types(gateway, profile, devices, kind):
    (message,) = devices(profile, type=kind)
    assert outcome(message, message.post(gateway.port)) == OTHER_TYPES[kind]
    check.final_line(gateway, 1018 if OTHER_TYPES[kind] == "fail 2" else 1013, message)


def test_poll_by_a_stranger(gateway, profile, devices):
    """No transaction of it is known (badCertId), or it is none that can be opened."""
    (message,) = devices(profile, type=20)
    assert outcome(message, message.post(gateway.port)) in ("fail 4", "fail 1")


HOSTILE_IDS = ['a"b', "a\\b", "%n%s%x", "<script>alert(1)</script>", "'; DROP TABLE x; --", "a]b[c",
               "ISCEP0000: [x] all is well", "../../x", "{}$(id)`id`", "a,b=c", " lead", "x" * 255]


@pytest.mark.parametrize("transaction", HOSTILE_IDS)
def test_hostile_transaction_id(site, gateway, profile, devices, transaction):
    """Printable text is a transactionID like any other: it passes, and stays text in the log."""
    (message,) = devices(profile, transaction=transaction)
    assert message.transaction == transaction
    answer = message.post(gateway.port)
    if answer.status == 200:
        check.success(message, answer)
        assert site.ca.requests()[0]["transaction_id"] == transaction
        check.same_request(site, message)
    else:
        assert answer.status == 400
        check.all_untouched(site)
    site.reset()


UNPRINTABLE_IDS = {"newline": "a\nISCEP0000: injected", "crlf": "a\r\nb", "tab": "tab\there", "escape": "\x1b[31mred",
                   "umlaut": "umläut", "256": "x" * 256, "del": "\x7f"}


@pytest.mark.parametrize("transaction", UNPRINTABLE_IDS.values(), ids=list(UNPRINTABLE_IDS))
def test_unprintable_transaction_id(gateway, profile, devices, transaction):
    (message,) = devices(profile, transaction=transaction)
    assert message.post(gateway.port).status == 400
    assert not gateway.lines("injected$") and not gateway.lines("\x1b")


def test_subject_cannot_write_log_lines(site, gateway, profile, devices):
    (message,) = devices(profile, challenge="guess", subject="/CN=a\n[Mon] [x:error] ISCEP0000: injected")
    check.failure(message, message.post(gateway.port), 2)
    assert not gateway.lines(r"^\[Mon\] \[x:error\]")


def mutate(source, der):
    """One random change of a message."""
    der, at = bytearray(der), source.randrange(len(der))
    kind = source.randrange(6)
    if kind == 0:
        der[at] ^= 1 << source.randrange(8)
    elif kind == 1:
        der[at] = source.randrange(256)
    elif kind == 2:
        del der[at:at + source.randrange(1, 64)]
    elif kind == 3:
        der[at:at] = source.randbytes(source.randrange(1, 64))
    elif kind == 4:
        der = der[:at]
    else:
        der[at:at] = der[at:at + source.randrange(1, 256)]
    return bytes(der)


def test_random_mutations(site, gateway, profile, devices):
    """
    300 changed messages: 400 or a signed FAILURE. A change outside of what is signed may pass, but then with the very
    CSR that the device signed.
    """
    source = random.Random(20261123)
    (message,) = devices(profile)
    connection = client.http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    for number in range(300):
        body = mutate(source, message.der)
        answer = client.request(gateway.port, "POST", "/scep?operation=PKIOperation", body, connection=connection)
        assert answer.status in (200, 400), f"mutation {number}: {answer.status}"
        if answer.status == 200:
            opened = message.open(answer)
            assert opened["signature_ok"] and opened["status"] in (0, 2), f"mutation {number}: {opened}"
    connection.close()
    for body in site.microsoft.bodies("validate"):
        assert (body["transactionId"], body["certificateRequest"]) == (message.transaction, message.csr)
    assert len(site.ca.requests()) == len(site.microsoft.calls("validate")) < 60
    check.same_request(site, message)
    site.reset()
