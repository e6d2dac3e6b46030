# SPDX-License-Identifier: Apache-2.0
"""
Devices × CAs × GET and POST × algorithms. Every cell enrols, or is refused for the reason that the table at the end
of the run states. ISCEP_LONG=1 fills the whole matrix; by default each device meets each CA by each of its methods
with its usual algorithms, and the own device goes through all algorithms before one CA.
"""
import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from harness import authorities, check, cms, device, matrix, microsoft, pki, real_clients, wait
from harness.dresses import DRESSES
from harness.gateway import Gateway
from harness.matrix import Cell
from harness.tap import Tap

_numbers = itertools.count(1)
CAS = ("sim", "scepserver")
CIPHERS, DIGESTS = ("des3", "aes128", "aes256"), ("sha1", "sha256", "sha512")
ALL_ALGORITHMS = list(itertools.product(CIPHERS, DIGESTS))
DES = "badAlg, single DES is not allowed by default"
MD5 = "badAlg, MD5 is not allowed by default"
NO_AES = "by the client itself, 5.9.8 overlooks AES in GetCACaps"
REKEY = "badMessageCheck, the new key's PKCSReq is signed with the old key, which takes a RenewalReq"
DES_ALLOWED = "DES allowed by IntuneScepDeviceAlgorithms"


# our own device

USUAL = {"own device": ([("aes128", "sha256")], ("POST", "GET")),
         "as Windows": ([("aes256", "sha256")], ("POST",)),
         "as iOS": ([("aes128", "sha256"), ("des3", "sha1")], ("POST", "GET")),
         "as macOS": ([("aes256", "sha256")], ("POST", "GET")),
         "as Android": ([("aes128", "sha512")], ("POST", "GET"))}


def own_cells():
    cells = []
    for name, (usual, methods) in USUAL.items():
        for ca, method in itertools.product(CAS, methods):
            whole = matrix.LONG or (name, ca) == ("own device", "sim")
            for cipher, digest in ALL_ALGORITHMS if whole else usual:
                odd = name == "as Android" and (cipher, digest) not in usual
                cells.append(Cell(name, ca, method, cipher, digest, note="not its own choice" if odd else ""))
        for ca, method in itertools.product(CAS if matrix.LONG else CAS[:1], methods):
            note = "not its own choice" if name == "as Android" else ""
            cells.append(Cell(name, ca, method, "des", "sha256", refused=DES, note=note))
            cells.append(Cell(name, ca, method, "aes128", "md5", refused=MD5, note=note))
    for method in ("POST", "GET"):
        cells.append(Cell("as Android", "sim", method, "des", "sha1", path="only-des",
                          note="falls back to DES where neither AES nor DES3 is offered"))
    return cells


# programs from elsewhere

def real_cells():
    cells = []
    for ca in CAS:
        cells.append(Cell("scepclient", ca, "POST", "des", "sha1", path="old", note=DES_ALLOWED))
        cells.append(Cell("scepclient", ca, "POST", "des", "sha1", refused=DES))
        for digest in ("sha256", "sha1", "sha512") if matrix.LONG else ("sha256",):
            cells.append(Cell("strongSwan", ca, "POST", "des3", digest))
        cells.append(Cell("strongSwan", ca, "POST", "des3", "sha256", kind="RenewalReq"))
        cells.append(Cell("certmonger", ca, "GET", "aes256", "sha256"))
        cells.append(Cell("certmonger", ca, "GET", "aes256", "sha256", act="resubmit", note="again with the same key"))
        cells.append(Cell("certmonger", ca, "GET", "aes256", "sha256", act="rekey", refused=REKEY))
    cells.append(Cell("strongSwan", "sim", "POST", "aes", "sha256", refused=NO_AES))
    return cells


# the gateway

@pytest.fixture(scope="module")
def module_gateway(site, request):
    """The profiles: each CA with the default algorithms, and with DES allowed too."""
    old = {"DeviceAlgorithms": "AES DES3 DES SHA-1 SHA-256 SHA-512"}
    profiles = [site.profile("/sim"), site.profile("/sim-old", **old),
                site.profile("/sim-only-des", DeviceAlgorithms="DES SHA-1")]
    if authorities.ScepServer.is_there():
        server = request.getfixturevalue("scepserver")
        ca = {"backend": server.url, "authority": server.authority, "ra": server.ra}
        profiles += [site.profile("/scepserver", **ca), site.profile("/scepserver-old", **ca, **old)]
    gateway = Gateway(profiles).start()
    yield gateway
    gateway.stop()


def profile_of(gateway, cell):
    path = f"/{cell.ca}-{cell.path}".rstrip("-")
    found = [profile for profile in gateway.profiles if profile.path == path]
    if not found:
        pytest.skip("scepserver is missing: install Debian's package scep")
    return found[0]


@pytest.fixture
def cell(request):
    """The cell of this test; what comes of it is recorded, whatever it is."""
    this = request.param
    yield this
    report = getattr(request.node, "call_report", None)
    if report is None or report.failed:
        matrix.record(this, "FAILED", "see the test")
    elif report.skipped:
        matrix.record(this, "SKIP", str(report.longrepr[2]).removeprefix("Skipped: "))
    elif this.refused:
        matrix.record(this, "refused", this.refused)
    else:
        matrix.record(this, "enrolled")


def cells(function):
    return pytest.mark.parametrize("cell", function(), indirect=True, ids=str)


# what must hold

def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def validated_and_reported(site, pem, key_pem, transaction=None):
    """One validation and one report, both of the CSR with this key, and the report's facts are the certificate's."""
    facts = device.CertificateFacts(pem)
    key = spki(x509.load_pem_x509_certificate(pem.encode()).public_key())
    assert key == spki(serialization.load_pem_private_key(key_pem, None).public_key())
    (validate,), (notify,) = site.microsoft.calls("validate"), site.microsoft.calls("success")
    assert validate["code"] == notify["code"] == "Success" and site.microsoft.calls("failure") == []
    asked, told = microsoft.body_of(validate), microsoft.body_of(notify)
    assert asked["transactionId"] == told["transactionId"] and asked["certificateRequest"] == told["certificateRequest"]
    assert transaction in (None, asked["transactionId"])
    assert told["certificateThumbprint"] == facts.thumbprint and told["certificateSerialNumber"] == facts.serial
    assert told["certificateExpirationDateUtc"] == facts.not_after
    csr = x509.load_der_x509_csr(check.base64.b64decode(asked["certificateRequest"]))
    assert spki(csr.public_key()) == key
    return asked


def issued_by(site, cell, profile, certificate, asked):
    """The chain verifies the certificate; the scripted CA's record has the very CSR."""
    pki.openssl("verify", "-purpose", "any", "-CAfile", profile.chain, certificate)
    if cell.ca == "sim":
        (request,) = site.ca.requests()
        assert request["csr_base64"] == asked["certificateRequest"]
        assert request["transaction_id"] == asked["transactionId"]


@cells(own_cells)
def test_own_device(site, gateway, devices, cell):
    profile = profile_of(gateway, cell)
    dress = DRESSES[cell.device]
    dress.prepare(gateway.port, profile, cell)
    (message,) = devices(profile, subject=f"/CN=cell-{next(_numbers)}", **dress.options(cell))
    if cell.refused:
        gateway.allow_log("ISCEP1010")
    answer = (dress.post if cell.method == "POST" else dress.get)(gateway.port, profile, message)
    if cell.refused:
        check.failure(message, answer, 0)
        check.final_line(gateway, 1010, message)
        check.all_untouched(site)
        return
    opened = check.success(message, answer, cell.cipher, cell.digest)
    certificate = message.directory / "issued.pem"
    certificate.write_text(opened["certificate"])
    asked = validated_and_reported(site, opened["certificate"], message.key.read_bytes(), message.transaction)
    assert asked["certificateRequest"] == message.csr
    issued_by(site, cell, profile, certificate, asked)


@pytest.fixture(scope="module")
def certmonger(site):
    daemon = real_clients.Certmonger(site.directory / "certmonger").start()
    yield daemon
    daemon.stop()


def client_of(cell, request):
    kind = {"scepclient": real_clients.ScepClient, "strongSwan": real_clients.StrongSwan,
            "certmonger": real_clients.Certmonger}[cell.device]
    if not kind.is_there():
        pytest.skip(f"{cell.device} is missing: install Debian's package {kind.package}")
    if cell.device == "certmonger":
        return request.getfixturevalue("certmonger")
    return kind(cell.cipher, cell.digest) if cell.device == "strongSwan" else kind()


def sent_as(cell, tap, work):
    """The method, the type and the algorithms are the cell's."""
    exchange = tap.operations()[-1]
    facts = cms.facts(work, exchange.message)
    assert (exchange.method, exchange.status) == (cell.method, 200)
    assert (facts["type"], facts["cipher"], facts["digest"]) == (cell.kind, cell.cipher, cell.digest)


def enrol(site, client, work, tap, profile, name, **options):
    url = f"http://127.0.0.1:{tap.port}{profile.path}"
    return client.enrol(work, url, profile, site.microsoft.challenge(profile.tenant), name, **options)


def renew(site, client, work, tap, profile, first, cell):
    if cell.act:
        return client.renew(cell.act, first, site.microsoft.challenge(profile.tenant))
    return enrol(site, client, work, tap, profile, first.name + "-new", old=first)


def refused(site, gateway, cell, enrolment):
    """No certificate; the client, or our log, says why."""
    assert not enrolment.pem
    if cell.refused == NO_AES:
        assert "not supported by CA" in enrolment.said
    else:
        (line,) = gateway.lines("ISCEP10(10|12): ")[-1:]
        assert ("DES-CBC" if cell.refused == DES else "is not the signer's") in line
    check.all_untouched(site)


@cells(real_cells)
def test_real_client(site, gateway, scratch, request, cell):
    profile, client = profile_of(gateway, cell), client_of(cell, request)
    name = f"{cell.device}-{next(_numbers)}"
    if cell.refused:
        gateway.allow_log("ISCEP10(10|12): ")
    with Tap(gateway.port) as tap:
        enrolment = enrol(site, client, scratch, tap, profile, name)
        if cell.act or cell.kind == "RenewalReq":
            assert enrolment.pem, enrolment.said + gateway.tail(5)
            site.reset()
            enrolment = renew(site, client, scratch, tap, profile, enrolment, cell)
        tap.capture(f"{cell.device}-{cell.act or cell.kind}".lower(), profile)
    if cell.refused:
        refused(site, gateway, cell, enrolment)
        return
    assert enrolment.pem, enrolment.said + gateway.tail(5)
    asked = validated_and_reported(site, enrolment.pem, enrolment.key.read_bytes())
    issued_by(site, cell, profile, enrolment.certificate, asked)
    sent_as(cell, tap, scratch)


@pytest.mark.parametrize("end, status", [("approve", "MONITORING"), ("reject", "CA_REJECTED")])
def test_certmonger_waits(site, gateway, scratch, request, end, status):
    """It verifies PENDING and FAILURE, too, which have no envelope, as OpenSSL's PKCS7_verify() does."""
    cell = Cell("certmonger", "sim", "GET", "aes256", "sha256")
    profile, client, name = profile_of(gateway, cell), client_of(cell, request), f"certmonger-{next(_numbers)}"
    gateway.allow_log("ISCEP1204: ")
    site.ca.control(approval="manual")
    with Tap(gateway.port) as tap:
        enrolment = enrol(site, client, scratch, tap, profile, name)
        assert "status: CA_WORKING" in enrolment.said
        getattr(site.ca, end)()
        wait.until(lambda: f"status: {status}" in client.refresh(name), status, 20, 0.5)
    assert (enrolment.pem is not None) == (end == "approve")
