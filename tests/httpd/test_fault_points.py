# SPDX-License-Identifier: Apache-2.0
"""
A process dies before and after each durable write and each call: what is in the journal then, what the device gets when it
comes again, and what Intune and the CA know in the end.
"""
import dataclasses
import http.client

import pytest

from harness import check, device, faults, journal, wait
from harness.gateway import Gateway
from test_journal import accepted, calls, csr_requests

TIMES = {"Timeout": 2, "BackendTimeout": 3, "Grace": 2}
# httpd's own words on a child that was killed, and on a CA that lost its client
EXPECTED = r"AH00052|AH01102|AH00898"


@dataclasses.dataclass
class Case:
    """
    `row`: state and report right after the death (None: there is no row). `asked`, `issued`, `validated`, `reported`: how
    often in the end the CA was asked, certificates were made, Intune validated, and accepted the report.
    """
    row: tuple
    at_death: int
    asked: int
    validated: int
    reported: int = 1


FIRST = {
    "validated": Case(None, 0, 1, 2),
    "intent-before": Case(None, 0, 1, 2),
    "intent-after": Case(("intent", "failure"), 0, 1, 2),
    "ca-before": Case(("intent", "failure"), 0, 1, 2),
    "ca-after": Case(("intent", "failure"), 1, 2, 2),
    "outcome-before": Case(("intent", "failure"), 1, 2, 2),
    "outcome-after": Case(("issued", "success"), 1, 1, 1),
    "report-before": Case(("issued", "success"), 1, 1, 1),
    "report-after": Case(("issued", "success"), 1, 1, 1, 2),
    "done-before": Case(("issued", "success"), 1, 1, 1, 2),
    "done-after": Case(("issued", "done"), 1, 1, 1),
    "deliver-before": Case(("issued", "done"), 1, 1, 1),
}
OPTIONS = {"faults": True, "processes": 3, "allow": [EXPECTED]}


@pytest.fixture(scope="module")
def module_gateway(site):
    faults.need_build()
    gateway = Gateway([site.profile("/scep", **TIMES)], **OPTIONS)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


def post(message, gateway):
    """The answer, or None where the connection ended without one."""
    try:
        return message.post(gateway.port)
    except (OSError, http.client.HTTPException):
        return None


def dies(gateway, message, point, expected):
    """The device's request meets the point: no answer, and this row (state and report, or None)."""
    faults.arm(gateway, point)
    assert post(message, gateway) is None
    row = row_of(gateway, message)
    # another process may have sent the report already
    assert row == expected or (row == (expected[0], "done")
                               and gateway.wait_log(rf"ISCEP0410: \[{message.transaction}\]"))
    faults.hit(gateway, point)


def comes_again(gateway, message):
    """The first answer that is no "come back"."""
    def answered():
        answer = post(message, gateway)
        return answer if answer is not None and answer.status != 503 else None
    return wait.until(answered, "an answer", 20, step=0.2)


def row_of(gateway, message):
    found = journal.rows(gateway, message.transaction)
    return (found[0]["state"], found[0]["report"]) if found else None


@pytest.mark.parametrize("point", FIRST)
def test_first_message(site, gateway, profile, devices, point):
    case = FIRST[point]
    (message,) = devices(profile)
    dies(gateway, message, point, case.row)
    assert len(csr_requests(site, message)) == case.at_death
    gateway.allow_log("ISCEP1401")
    opened = check.success(message, comes_again(gateway, message))
    certificate = device.CertificateFacts(opened["certificate"])
    journal.wait_for(gateway, message, state="issued", report="done")
    asked = csr_requests(site, message)
    assert len(asked) == case.asked and len(calls(site, "validate", message)) == case.validated
    assert asked[-1]["thumbprint"] == certificate.thumbprint
    reports = accepted(site, "success", message)
    assert len(reports) == case.reported and {r["thumbprint"] for r in reports} == {certificate.thumbprint}
    assert len({r["request_id"] for r in reports}) == 1
    assert calls(site, "failure", message) == []
    check.same_request(site, message)
    # and for ever the same
    assert check.success(message, message.post(gateway.port))["certificate"] == opened["certificate"]
    assert len(csr_requests(site, message)) == case.asked


@pytest.mark.parametrize("point", ["validated", "intent-before", "intent-after", "ca-before", "ca-after", "outcome-before"])
def test_nobody_comes_again(site, gateway, profile, devices, point):
    """What is in the journal is settled without the device."""
    (message,) = devices(profile)
    dies(gateway, message, point, FIRST[point].row)
    if FIRST[point].row is None:
        assert row_of(gateway, message) is None and csr_requests(site, message) == []
        return
    gateway.allow_log("ISCEP0410")
    journal.wait_for(gateway, message, 25, state="failed", report="done")
    assert len(accepted(site, "failure", message)) == 1 and calls(site, "success", message) == []


REFUSED = {"ca-after": (("intent", "failure"), 2), "outcome-before": (("intent", "failure"), 2),
           "outcome-after": (("failed", "failure"), 1), "report-before": (("failed", "failure"), 1),
           "report-after": (("failed", "failure"), 1), "done-before": (("failed", "failure"), 1),
           "done-after": (("failed", "done"), 1), "deliver-before": (("failed", "done"), 1)}


@pytest.mark.parametrize("point", REFUSED)
def test_the_ca_refuses(site, gateway, profile, devices, point):
    row, asked = REFUSED[point]
    (message,) = devices(profile)
    site.ca.control("refuse", fail_info=2)
    dies(gateway, message, point, row)
    gateway.allow_log("ISCEP1204|ISCEP1401")
    check.failure(message, comes_again(gateway, message), 2)
    journal.wait_for(gateway, message, state="failed", report="done")
    assert len(csr_requests(site, message)) == asked
    reports = accepted(site, "failure", message)
    assert len(reports) == (2 if point in ("report-after", "done-before") else 1)
    assert len({r["request_id"] for r in reports}) == 1 and calls(site, "success", message) == []


WITHHELD = {"report-after": ("issued", "success"), "settle-before": ("issued", "success"),
            "settle-after": ("withheld", "refused"), "deliver-before": ("withheld", "refused")}


@pytest.mark.parametrize("point", WITHHELD)
def test_intune_refuses_the_report(site, gateway, profile, devices, point):
    (message,) = devices(profile)
    site.microsoft.fail("success", "code", code="CertificateRequestDecodingFailed")
    dies(gateway, message, point, WITHHELD[point])
    gateway.allow_log("ISCEP1300|ISCEP0412|ISCEP1401")
    check.failure(message, comes_again(gateway, message), 2)
    assert row_of(gateway, message) == ("withheld", "refused")
    assert len(csr_requests(site, message)) == 1 and calls(site, "failure", message) == []


def test_the_process_that_delivers_dies(site, gateway, profile, devices):
    """Another one takes its report over, well within ten seconds."""
    (message,) = devices(profile)
    site.microsoft.fail("success", "status", status=500)
    gateway.allow_log("ISCEP1301|ISCEP0411")
    check.unavailable(message.post(gateway.port))
    site.microsoft.fail("success", "ok")
    faults.arm(gateway, "report-before")
    faults.hit(gateway, "report-before", 20)
    wait.until(lambda: accepted(site, "success", message), "another process to report", 10)
    check.success(message, comes_again(gateway, message))


@pytest.mark.parametrize("point", ["outcome-before", "outcome-after", "report-after", "done-before"])
def test_a_poll_dies(site, gateway, profile, devices, point):
    """A crashed poll leaves the transaction pending, until its outcome is written."""
    (message,) = devices(profile)
    site.ca.control(approval="manual")
    assert check.certrep(message, message.post(gateway.port))["status"] == 3
    site.ca.approve()
    poll = device.poll(message)
    dies(gateway, poll, point, ("pending", "failure") if point == "outcome-before" else ("issued", "success"))
    gateway.allow_log("ISCEP1401")
    opened = check.success(poll, comes_again(gateway, poll))
    assert {r["thumbprint"] for r in accepted(site, "success", message)} == {
        device.CertificateFacts(opened["certificate"]).thumbprint}
    assert len(csr_requests(site, message)) == 1 and calls(site, "failure", message) == []


@pytest.mark.parametrize("point, asked", [("adopt-before", 2), ("adopt-after", 1)])
def test_a_late_certificate(site, start_gateway, devices, point, asked):
    """It is taken in, or not, when the process dies: its lease was over, and the failure reported."""
    profile = site.profile("/late", Timeout=1, BackendTimeout=1, Grace=1)
    gateway = start_gateway([profile], proxy_timeout=20, **OPTIONS)
    (message,) = devices(profile)
    site.ca.control("slow", times=1, seconds=9)
    dies(gateway, message, point, ("failed", "done") if point == "adopt-before" else ("issued", "success"))
    gateway.allow_log("ISCEP1401")
    opened = check.success(message, comes_again(gateway, message))
    assert len(csr_requests(site, message)) == asked
    assert {r["thumbprint"] for r in accepted(site, "success", message)} == {
        device.CertificateFacts(opened["certificate"]).thumbprint}
    assert len(accepted(site, "failure", message)) == 1
