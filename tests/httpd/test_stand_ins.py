# SPDX-License-Identifier: Apache-2.0
"""The stand-ins themselves, without a gateway: what a test of the journal relies on."""
import collections
import concurrent.futures
import http.client
import json
import socket
import time
import urllib.parse
import uuid

import pytest

from harness import client, device, wait

GONE = (http.client.HTTPException, OSError)


class CaProfile:
    """The scripted CA as if it were a location of a gateway."""

    def __init__(self, site):
        self.path = "/ca"
        self.tenant = None
        self.ra_certificate = self.chain = site.authority.certificate


@pytest.fixture(name="ca")
def ca_of_site(site):
    return site.ca


@pytest.fixture
def ask(site, devices):
    """Messages straight to the CA."""
    profile = CaProfile(site)
    return lambda count=1, **options: devices(profile, count, challenge=False, **options)


def send(ca, message):
    return message.open(message.post(ca.port))


def settled(ca):
    """The record, once nothing is under way."""
    def complete():
        found = ca.requests()
        return found if all(request["answered"] is not None for request in found) else None
    return wait.until(complete, "the end of all requests")


def refused(ca, value):
    answer = client.request(ca.port, "POST", "/ca/control", json.dumps(value))
    assert answer.status == 400, value
    return answer.text


# Approval by hand

def test_a_request_waits_until_it_is_approved(ca, ask):
    (message,) = ask()
    ca.control(approval="manual")
    assert [send(ca, each)["status"] for each in (message, device.poll(message), device.again(message))] == [3, 3, 3]
    assert ca.approve(message.transaction) == 1
    first = send(ca, device.poll(message))
    assert first["status"] == 0 and first["key_matches"] and first["verifies"]
    for later in (device.poll(message), device.again(message), device.poll(message, new_signer=True)):
        assert send(ca, later)["certificate"] == first["certificate"]
    record = ca.requests()
    assert [request["message_type"] for request in record] == ["19", "20", "19", "20", "20", "19", "20"]
    assert [request["outcome"] for request in record] == ["pending"] * 3 + ["issued"] * 4
    assert [request["fresh"] for request in record] == [False] * 3 + [True] + [False] * 3
    assert {request["csr_sha256"] for request in record} == {message.csr_sha256}
    assert {request["thumbprint"] for request in record[3:]} == {first["thumbprint"]}
    assert {request["serial"] for request in record[3:]} == {first["serial"]}
    assert {request["thumbprint"] for request in record[:3]} == {None}


def test_a_repeated_request_is_approved_too(ca, ask):
    (message,) = ask()
    ca.control(approval="manual")
    assert send(ca, message)["status"] == 3
    assert ca.approve() == 1
    first = send(ca, device.again(message))
    assert first["status"] == 0
    assert send(ca, device.poll(message))["thumbprint"] == first["thumbprint"]


def test_a_request_is_rejected(ca, ask):
    (message,) = ask()
    ca.control(approval="manual")
    send(ca, message)
    assert ca.reject(message.transaction, fail_info=3) == 1
    for later in (device.poll(message), device.again(message)):
        opened = send(ca, later)
        assert (opened["status"], opened["fail_info"]) == (2, 3)
    assert ca.approve(message.transaction) == 1
    assert send(ca, device.poll(message))["status"] == 0


def test_decisions_are_for_those_that_wait(ca, ask):
    messages = ask(4)
    ca.control(approval="manual")
    for message in messages[:3]:
        send(ca, message)
    assert ca.reject(messages[0].transaction) == 1
    assert ca.approve() == 2
    assert ca.approve() == 0
    assert "no such transaction" in refused(ca, {"approve": messages[3].transaction})
    send(ca, messages[3])
    assert [send(ca, poll)["status"] for poll in device.poll_all(messages)] == [2, 0, 0, 3]
    assert "no such transaction" in refused(ca, {"reject": messages[1].transaction})


def test_another_csr_of_a_transaction_waits_anew(ca, ask):
    (first,), (second,) = ask(transaction="T"), ask(transaction="T", subject="/CN=other")
    ca.control(approval="manual")
    send(ca, first)
    ca.approve()
    assert send(ca, device.poll(first))["status"] == 0
    assert send(ca, second)["status"] == 3
    assert send(ca, device.poll(second))["status"] == 3


def test_polls_at_once_get_one_certificate(ca, ask):
    (message,) = ask()
    ca.control(approval="manual")
    send(ca, message)
    ca.approve()
    polls = device.poll_all([message] * 12)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda poll: poll.post(ca.port), polls))
    assert len({opened["certificate"] for opened in device.open_all(zip(polls, answers))}) == 1
    assert [request["fresh"] for request in ca.requests()].count(True) == 1


def test_pending_without_approval(ca, ask):
    """As it always was: a CertPoll after the mode's end has the certificate made; each PKCSReq gets one of its own."""
    (message,) = ask()
    ca.control("pending")
    assert [send(ca, each)["status"] for each in (message, device.poll(message))] == [3, 3]
    ca.control("ok")
    first = send(ca, device.poll(message))
    assert first["status"] == 0
    assert send(ca, device.poll(message))["thumbprint"] == first["thumbprint"]
    assert send(ca, device.again(message))["thumbprint"] != first["thumbprint"]


# Polls

def test_a_poll_names_issuer_and_subject(site, ca, ask):
    (message,) = ask(subject="/O=Contoso/CN=of the poll")
    send(ca, message)
    send(ca, device.poll(message))
    send(ca, device.poll(message, new_signer=True))
    first, same, new = ca.requests()
    assert (same["issuer"], same["subject"]) == ("CN=Test CA,O=Contoso", "CN=of the poll,O=Contoso")
    assert (new["issuer"], new["subject"]) == (same["issuer"], same["subject"])
    assert first["issuer"] is first["subject"] is None
    assert same["transaction_id"] == new["transaction_id"] == message.transaction
    assert first["signer_serial"] == same["signer_serial"] != new["signer_serial"]


def test_a_poll_of_nobodys_transaction(ca, ask):
    (message,) = ask()
    opened = send(ca, device.poll(message))
    assert (opened["status"], opened["fail_info"]) == (2, 4)


def test_a_retransmission_is_the_same_request(ca, ask):
    (message,) = ask()
    again = device.again(message)
    assert (again.transaction, again.csr) == (message.transaction, message.csr)
    assert again.nonce != message.nonce and again.der != message.der
    send(ca, message)
    opened = send(ca, again)
    assert opened["recipient_nonce"] == again.nonce and opened["recipient_is_device"]
    first, second = ca.requests()
    assert (first["csr_base64"], first["message_type"]) == (second["csr_base64"], second["message_type"])


# Answers that are lost

def test_the_record_tells_what_was_answered(ca, ask):
    (message,) = ask()
    opened = send(ca, message)
    (request,) = settled(ca)
    assert request["answered"] and request["time"] < request["answered_time"] < time.time() * 1e6
    assert (request["thumbprint"], request["fresh"]) == (opened["thumbprint"], True)
    assert opened["error"] is None


@pytest.mark.parametrize("mode, outcome", [
    ("drop", "drop"), ("drop_before", "drop"), ("drop_after", "issued"), ("truncate", "issued"), ("stall", "issued")])
def test_an_answer_is_lost(ca, ask, mode, outcome):
    (message,) = ask()
    ca.control(mode, seconds=0.1, times=1)
    with pytest.raises(GONE):
        message.post(ca.port)
    (request,) = settled(ca)
    assert (request["outcome"], request["answered"]) == (outcome, False)
    opened = send(ca, device.poll(message))
    if outcome == "drop":
        assert request["serial"] is request["thumbprint"] is None
        assert opened["fail_info"] == 4
    else:
        assert opened["thumbprint"] == request["thumbprint"]


def test_a_client_does_not_wait(ca, ask):
    (message,) = ask()
    ca.control("slow", seconds=0.5)
    head = (f"POST /ca?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(message.der)}\r\n"
            "Content-Type: application/x-pki-message\r\n\r\n")
    with socket.create_connection(("127.0.0.1", ca.port), 10) as sock:
        sock.sendall(head.encode() + message.der)
        wait.until(ca.requests, "the request at the CA")
        assert ca.requests()[0]["answered"] is None
    (request,) = settled(ca)
    assert (request["outcome"], request["answered"]) == ("issued", False)


# Modes by chance

def drawn(ca, messages):
    """The modes in which the messages are answered, one after the other."""
    for message in messages:
        try:
            message.post(ca.port)
        except GONE:
            pass
    return [request["mode"] for request in settled(ca)]


def test_a_mix_of_modes(ca, ask):
    messages = ask(60)
    weights = {"ok": 50, "drop_after": 10, "drop_before": 10, "status": 10, "refuse": 10, "truncate": 10, "html": 0}
    runs = []
    for seed in (7, 7, 8):
        ca.reset()
        ca.mix(weights, seed=seed, seconds=0.01)
        runs.append(drawn(ca, messages))
    assert runs[0] == runs[1] != runs[2]
    counts = collections.Counter(runs[0])
    assert set(counts) == {"ok", "drop_after", "drop", "status", "refuse", "truncate"}
    assert counts["ok"] == max(counts.values())


def test_the_end_of_a_mix(ca, ask):
    messages = ask(3)
    ca.mix({"refuse": 1}, times=2, fail_info=0)
    assert [send(ca, message)["status"] for message in messages] == [2, 2, 0]
    ca.mix({"refuse": 1})
    ca.control("ok")
    assert send(ca, messages[0])["status"] == 0


@pytest.mark.parametrize("value", [
    {"mix": {}}, {"mix": {"ok": 0}}, {"mix": {"ok": -1}}, {"mix": {"nonsense": 1}}, {"mix": "ok"}, {"mix": {"ok": "1"}},
    {"mode": "ok", "mix": {"ok": 1}}, {"approval": "sometimes"}, {"approve": 1}, {"reject": "*", "fail_info": 9}],
    ids=json.dumps)
def test_wrong_control(ca, value):
    refused(ca, value)


# Thousands

def test_the_record_page_by_page(ca, ask):
    messages = ask(5)
    for message in messages:
        message.post(ca.port)

    def answered():
        """It notes so once the answer is on its way."""
        record = ca.record()
        return record if all(request["answered"] for request in record) else None
    all_of_them = wait.until(answered, "the record of all answers")
    assert ca.record(page=2) == all_of_them and [request["n"] for request in all_of_them] == [1, 2, 3, 4, 5]
    assert ca.record(since=3) == all_of_them[3:]
    lean = ca.record(csr=False)
    assert [request["csr_base64"] for request in lean] == [None] * 5
    assert [request["csr_sha256"] for request in lean] == [message.csr_sha256 for message in messages]


def test_many_answers_are_opened_at_once(site, ca, ask):
    messages = ask(6) + ask(3, own_key=True)
    pairs = [(message, message.post(ca.port)) for message in messages]
    polls = device.poll_all(messages)
    pairs += [(poll, poll.post(ca.port)) for poll in polls]
    assert device.open_all(pairs) == [message.open(answer) for message, answer in pairs]
    with pytest.raises(AssertionError, match="1 answers cannot be opened"):
        device.open_all(pairs + [(messages[0], b"nonsense")])
    opened = device.open_all([(messages[0], b"nonsense"), pairs[0]], strict=False)
    assert opened[0]["error"] and opened[0]["status"] is None and opened[1]["status"] == 0


# Intune

class Intune:
    """Calls to the stand-in as a gateway makes them."""

    def __init__(self, site):
        self.microsoft = site.microsoft
        self.tenant = site.microsoft.add_tenant("direct")
        form = urllib.parse.urlencode({
            "grant_type": "client_credentials", "client_id": self.tenant["app_id"],
            "client_secret": self.tenant["secret"], "scope": f"{site.microsoft.url}/.default"})
        answer = client.request(self.microsoft.port, "POST", f"/{self.tenant['tenant']}/oauth2/v2.0/token", form,
                                {"Content-Type": "application/x-www-form-urlencoded"})
        self.headers = {"Authorization": "Bearer " + json.loads(answer.body)["access_token"],
                        "api-version": "2018-02-20", "Content-Type": "application/json", "User-Agent": "test"}

    def call(self, message, action, outer, **members):
        body = {outer: {"transactionId": message.transaction, "certificateRequest": message.csr,
                        "callerInfo": "test", **members}}
        return client.request(self.microsoft.port, "POST", f"/scep-service/{self.microsoft.service_generation}/ScepActions/{action}", json.dumps(body),
                              {**self.headers, "client-request-id": str(uuid.uuid4())})

    def validate(self, message):
        return self.call(message, "validateRequest", "request")

    def failure(self, message):
        return self.call(message, "failureNotification", "notification", hResult=-1, errorDescription="test")

    def success(self, message):
        return self.call(message, "successNotification", "notification", certificateThumbprint="AB" * 20,
                         certificateSerialNumber="01", certificateExpirationDateUtc="2030-12-31T23:59:59.000Z",
                         issuingCertificateAuthority="CN=x", caConfiguration="", certificateAuthority="")


@pytest.fixture
def intune(site, fresh):
    return Intune(site)


@pytest.fixture
def ordered(site, devices, intune):
    """A message with a challenge of this tenant."""
    profile = CaProfile(site)
    profile.tenant = intune.tenant
    (message,) = devices(profile)
    return message


def the_call(intune, service):
    (call,) = intune.microsoft.calls(service)
    return call


@pytest.mark.parametrize("service", ["validate", "success", "failure"])
def test_a_call_is_accepted_and_its_answer_dropped(intune, ordered, service):
    intune.microsoft.fail(service, "drop_after", times=1)
    with pytest.raises(GONE):
        getattr(intune, service)(ordered)
    call = the_call(intune, service)
    assert (call["status"], call["code"], call["accepted"]) == (0, "Success", True)
    assert call["time"] <= call["accepted_time"] < time.time() * 1e6
    assert json.loads(getattr(intune, service)(ordered).body)["code"] == "Success"


@pytest.mark.parametrize("mode, options", [("drop", {}), ("status", {"status": 500}), ("stall", {"seconds": 0.1}),
                                           ("code", {"code": "ChallengeExpired"})], ids=str)
def test_a_call_is_not_accepted(intune, ordered, mode, options):
    intune.microsoft.fail("success", mode, **options)
    try:
        intune.success(ordered)
    except GONE:
        pass
    call = the_call(intune, "success")
    assert (call["accepted"], call["accepted_time"]) == (False, None)


def test_a_refusal_is_dropped(intune, ordered, ask):
    """The true verdict is in the record, whatever becomes of it."""
    (other,) = ask()
    intune.microsoft.fail("validate", "drop_after")
    with pytest.raises(GONE):
        intune.validate(other)
    call = the_call(intune, "validate")
    assert (call["code"], call["accepted"]) == ("ChallengePasswordMissing", False)


def test_calls_are_connected_without_their_bodies(intune, ordered):
    intune.validate(ordered)
    intune.success(ordered)
    (validate,) = intune.microsoft.calls("validate", bodies=False)
    (success,) = intune.microsoft.calls("success", bodies=False, after=validate["n"])
    for call in (validate, success):
        assert call["body"] is None and call["accepted"]
        assert (call["transaction_id"], call["csr_sha256"]) == (ordered.transaction, ordered.csr_sha256)
    assert (validate["thumbprint"], success["thumbprint"]) == (None, "AB" * 20)
    assert intune.microsoft.calls("token")[0]["transaction_id"] is None


def test_faults_by_chance(intune, ordered):
    """Two faults of the same target, one after the other: 30 %, and 50 % of what that leaves."""
    intune.microsoft.fail("failure", "code", code="Unknown", percent=50)
    intune.microsoft.fail("failure", "status", status=500, percent=30)
    for _ in range(300):
        intune.failure(ordered)
    counts = collections.Counter((call["status"], call["code"]) for call in intune.microsoft.calls("failure"))
    assert set(counts) == {(500, None), (200, "Unknown"), (200, "Success")}
    assert 50 <= counts[500, None] <= 130 and 60 <= counts[200, "Unknown"] <= 150, counts


def test_chance_has_its_limits(intune, ordered):
    intune.microsoft.fail("success", "status", status=500, percent=0)
    assert intune.success(ordered).status == 200
    intune.microsoft.fail("success", "status", status=500, percent=100, times=1)
    assert [intune.success(ordered).status for _ in range(2)] == [500, 200]
    answer = client.request(intune.microsoft.port, "POST", "/sim/fail", json.dumps(
        {"target": "success", "mode": "drop", "percent": 101}))
    assert answer.status == 400 and "percent" in answer.text
