# SPDX-License-Identifier: Apache-2.0
"""What must hold for answers, for the stand-ins' records and for the log."""
import base64
import re
import socket

from cryptography import x509

from . import device, microsoft, place, wait  # noqa: F401 (tests use check.place, check.wait)

PKI_MESSAGE = "application/x-pki-message"
UNWANTED_HEADERS = ("etag", "last-modified", "content-encoding", "set-cookie")
HRESULTS = {1200: 0x80072EFD, 1201: 0x80072EE2, 1202: 0x80072F78, 1203: 0x80072EFE, 1204: 0x80094014, 1205: 0x800705B4,
            1206: 0x8007000D, 1207: 0x80090006, 1208: 0x8007000D, 1209: 0x80090006, 1210: 0x80090006}


def certrep(message, answer):
    """Asserts that an answer is a CertRep of our RA for this message; returns what the device found."""
    assert answer.status == 200, f"{answer.status}: {answer.text[:200]}"
    assert answer.headers["content-type"] == PKI_MESSAGE
    assert "no-store" in answer.headers["cache-control"]
    assert not [name for name in UNWANTED_HEADERS if name in answer.headers]
    assert int(answer.headers["content-length"]) == len(answer.body)
    opened = message.open(answer)
    assert opened["error"] is None, opened["error"]
    assert opened["signer_is_ra"] and opened["signature_ok"]
    assert opened["transaction_id"] == message.transaction
    assert opened["recipient_nonce"].lower() == message.nonce.lower()
    assert len(opened["sender_nonce"]) >= 32 and opened["sender_nonce"].lower() != message.nonce.lower()
    return opened


def success(message, answer, cipher=None, digest=None):
    """A CertRep SUCCESS with exactly the device's certificate."""
    opened = certrep(message, answer)
    assert opened["status"] == 0, opened
    assert opened["recipient_is_device"] and opened["key_matches"] and opened["verifies"]
    assert opened["inner_certificates"] == 1
    assert cipher in (None, opened["cipher"]) and digest in (None, opened["digest"])
    return opened


def failure(message, answer, fail_info):
    """A CertRep FAILURE, which carries no certificate."""
    opened = certrep(message, answer)
    assert (opened["status"], opened["fail_info"]) == (2, fail_info), opened
    assert not opened.get("certificate")
    return opened


def unavailable(answer, status=503):
    """An HTTP error with one plain sentence, and for 503 a Retry-After."""
    assert answer.status == status, f"{answer.status}: {answer.text[:200]}"
    assert "no-store" in answer.headers["cache-control"]
    assert len(answer.body) < 2000 and "ISCEP" not in answer.text
    if status == 503:
        assert 1 <= answer.retry_after <= 3600


def ca_untouched(site):
    assert site.ca.requests() == []


def all_untouched(site):
    ca_untouched(site)
    assert not [call for call in site.microsoft.calls() if call["service"] in ("validate", "success", "failure")]


def final_line(gateway, ids, message, *texts):
    """Exactly one line tells the end of this transaction: its id, its transactionID and the texts. Returns the id."""
    ids = (ids,) if isinstance(ids, int) else ids
    transaction = re.escape(message.transaction)
    pattern = rf"ISCEP({'|'.join(map(str, ids))}): \[{transaction}\]"
    gateway.allow_log(pattern)
    lines = gateway.wait_log(pattern)
    finals = gateway.lines(rf"ISCEP1\d\d\d: \[{transaction}\]")
    assert finals == lines and len(lines) == 1, "not one final line:\n" + "\n".join(finals)
    for text in texts:
        assert text in lines[0], f"{text!r} is not in: {lines[0]}"
    return int(re.search(pattern, lines[0])[1])


def same_request(site, message):
    """The CSR is byte for byte the device's, at Intune and at the CA, and so is the transaction."""
    csr = base64.b64decode(message.csr)
    for service in ("validate", "success", "failure"):
        for body in site.microsoft.bodies(service):
            if body["transactionId"] == message.transaction:
                assert base64.b64decode(body["certificateRequest"]) == csr and "\n" not in body["certificateRequest"]
    for request in site.ca.requests():
        if request["transaction_id"] == message.transaction:
            assert base64.b64decode(request["csr_base64"]) == csr


def reported(site, message, opened, answer):
    """validateRequest before the CA, then successNotification with the true facts, then the device."""
    def calls(service):
        found = site.microsoft.calls(service)
        return [call for call in found if microsoft.body_of(call)["transactionId"] == message.transaction]
    (validate,), (notify,) = calls("validate"), calls("success")
    (request,) = [r for r in site.ca.requests() if r["transaction_id"] == message.transaction]
    assert validate["time"] < request["time"] < notify["time"] < answer.time
    assert validate["code"] == "Success" and notify["code"] == "Success"
    body, facts = microsoft.body_of(notify), device.CertificateFacts(opened["certificate"])
    assert body["certificateThumbprint"] == facts.thumbprint
    assert body["certificateSerialNumber"] == facts.serial
    assert body["certificateExpirationDateUtc"] == facts.not_after
    assert set(x509.Name.from_rfc4514_string(body["issuingCertificateAuthority"]).rdns) == set(facts.issuer.rdns)
    assert body["callerInfo"] == microsoft.body_of(validate)["callerInfo"] != ""
    same_request(site, message)


def failure_reported(site, message, problem):
    """Intune hears of the failure once, with the problem's HRESULT and a short text; never of a success."""
    def bodies():
        return [body for body in site.microsoft.bodies("failure") if body["transactionId"] == message.transaction]
    wait.until(bodies, "a failureNotification")
    (body,) = bodies()
    assert body["hResult"] & 0xFFFFFFFF == HRESULTS[problem] and body["hResult"] < 2 ** 31
    assert 0 < len(body["errorDescription"].encode()) <= 255
    assert [b for b in site.microsoft.bodies("success") if b["transactionId"] == message.transaction] == []
    same_request(site, message)


def never_reported(site):
    assert site.microsoft.calls("success") == [] and site.microsoft.calls("failure") == []


def client_socket(port):
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", port), 30)
