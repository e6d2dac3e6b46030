# SPDX-License-Identifier: Apache-2.0
"""The checker of the crash tests: a made-up run that is in order, and one for each way in which it may not be."""
import copy

import pytest

from harness import invariants
from harness.invariants import SECOND, Limits, Outage, Records
from harness.persistent import FAILURE, SUCCESS, Heard, Manner, Persistent

CSR = "c5" * 32
START = 1_700_000_000 * SECOND


@pytest.fixture(autouse=True)
def fresh():
    """No stand-ins are needed here."""


def seconds(number):
    return START + int(number * SECOND)


def call(service, time, transaction="t1", status=200, code="Success", thumbprint=None, accepted=None):
    accepted = code == "Success" if accepted is None else accepted
    return {"service": service, "time": seconds(time), "status": status, "code": code, "transaction_id": transaction,
            "csr_sha256": CSR, "thumbprint": thumbprint, "accepted": accepted,
            "accepted_time": seconds(time + 0.01) if accepted else None}


def request(time, thumbprint="AA", transaction="t1", outcome="issued", mode="ok", answered=True, took=0.1, kind="19"):
    return {"time": seconds(time), "message_type": kind, "transaction_id": transaction, "csr_sha256": CSR, "mode": mode,
            "outcome": outcome, "thumbprint": thumbprint, "answered": answered,
            "answered_time": seconds(time + took) if answered is not None else None}


def heard(asked, time, verdict=SUCCESS, status=200, thumbprint="AA", **facts):
    opened = {"thumbprint": thumbprint, "certificate": f"PEM of {thumbprint}", "key_matches": True, "verifies": True,
              "error": None, **facts}
    return Heard(seconds(asked), seconds(time), 1, "PKCSReq", status, verdict, opened=opened if status == 200 else None)


def device(answers, end=SUCCESS, ended_at=None, transaction="t1"):
    class Message:
        pass
    message = Message()
    message.transaction, message.csr_sha256 = transaction, CSR
    made = Persistent([message], [], [1], Manner(), 0)
    made.heard, made.end = answers, end
    made.ended_at = seconds(ended_at) if ended_at is not None else answers[-1].time
    return made


def good():
    """Validated at 1, issued at 2, reported at 3, delivered at 4; the last fault was at 10."""
    return Records([call("validate", 1), call("success", 3, thumbprint="AA")], [request(2)], [device([heard(0, 4)])],
                   last_fault=seconds(10), limits=Limits(settle=30))


def found(records):
    """The numbers of the violated invariants."""
    return set(invariants.violations(copy.copy(records)))


def with_second_request(records, time=5, **facts):
    """The CA is asked again, after a fresh Success, and the second certificate is the one that counts."""
    records.calls = [call("validate", 1), call("validate", time - 0.5), call("success", time + 1, thumbprint="BB")]
    records.requests.append(request(time, "BB"))
    records.requests[0].update(facts)
    records.devices = [device([heard(0, 2.2, None, 0), heard(3, time + 2, thumbprint="BB")])]
    return records


def test_a_good_run():
    records = good()
    assert found(records) == set()
    invariants.check(records)
    counts = invariants.counts(records)
    assert (counts["transactions"], counts["PKCSReqs"], counts["orphans"]) == (1, 1, 0)
    assert counts["ended with SUCCESS"] == 1 and not records.owed()


def test_the_failure_names_invariant_and_transaction():
    records = good()
    records.calls.pop()
    with pytest.raises(AssertionError, match=r"invariant 2 is violated 1 times(.|\n)*\[t1\](.|\n)*invariant 7"):
        invariants.check(records)


# 1


@pytest.mark.parametrize("validate", [None, call("validate", 2.5), call("validate", 1, code="ChallengeExpired"),
                                      call("validate", 1, status=0), call("validate", 1, transaction="t2")],
                         ids=["never", "later", "refused", "answer lost", "another transaction"])
def test_1_no_validation(validate):
    records = good()
    records.calls = [validate] * (validate is not None) + records.calls[1:]
    assert found(records) == {1}


def test_1_validation_of_another_csr():
    records = good()
    records.calls[0]["csr_sha256"] = "d6" * 32
    assert found(records) == {1}


def test_1_second_request_without_a_fresh_one():
    records = with_second_request(good(), answered=False)
    assert found(records) == set()
    records = with_second_request(good(), answered=False)
    records.calls.pop(1)
    assert found(records) == {1}


# 2


def test_2_delivered_before_the_report():
    records = good()
    records.devices = [device([heard(0, 2.9)])]
    assert found(records) == {2}
    records = good()
    records.before, records.devices = False, [device([heard(0, 2.9)])]
    assert found(records) == set()


def test_2_report_of_another_certificate():
    records = good()
    records.requests.append(request(2.1, "BB", kind="20"))
    records.calls[1]["thumbprint"] = "BB"
    assert 2 in found(records)


def test_2_report_that_was_not_accepted():
    records = good()
    records.calls[1] = call("success", 3, code=None, status=503, thumbprint="AA")
    records.calls.append(call("success", 5, thumbprint="AA"))
    assert found(records) == {2}


# 3


def test_3_two_certificates():
    records = with_second_request(good(), answered=False)
    records.calls.insert(0, call("success", 2.3, thumbprint="AA"))
    records.devices[0].heard[0] = heard(0, 2.9)
    assert found(records) == {3, 6}


def test_3_other_bytes():
    records = good()
    records.devices[0].heard.append(heard(5, 6, certificate="PEM with a space"))
    assert found(records) == {3}


@pytest.mark.parametrize("facts", [{"key_matches": False}, {"verifies": False}, {"error": "not a CertRep"}], ids=str)
def test_3_not_the_devices_certificate(facts):
    records = good()
    records.devices = [device([heard(0, 4, **facts)])]
    assert found(records) == {3}


def test_3_not_in_the_cas_record():
    records = good()
    records.requests[0]["thumbprint"] = "BB"
    assert found(records) == {3, 6, 9}


def test_3_failure_after_success():
    records = good()
    records.devices[0].heard.append(heard(5, 6, FAILURE))
    assert found(records) == {3}


# 4


@pytest.mark.parametrize("facts", [{"answered": False, "mode": "drop_after"}, {"answered": None},
                                   {"outcome": "status", "mode": "status", "thumbprint": None},
                                   {"answered_time": seconds(4), "mode": "slow"}], ids=str)
def test_4_lost_answers_are_reasons(facts):
    assert found(with_second_request(good(), **facts)) == set()


def test_4_asked_twice_for_nothing():
    assert found(with_second_request(good())) == {4, 9}


def test_4_kills_are_reasons_where_they_hit():
    records = with_second_request(good())
    records.outages = [Outage(seconds(2.2), seconds(2.2), "a process was killed")]
    assert found(records) == set()
    records.outages = [Outage(seconds(1.9), seconds(1.9), "a process was killed")]
    assert found(records) == set(), "the CA notes a request later than it is sent"
    records.outages = [Outage(seconds(1.7), seconds(1.7), "a process was killed")]
    assert found(records) == {4, 9}, "before the request"
    records.outages = [Outage(seconds(3.5), seconds(3.5), "a process was killed")]
    assert found(records) == {4, 9}, "long after the answer"
    records.outages = [Outage(seconds(2.2), seconds(2.2), "a process was killed")]
    records.devices[0].heard[0] = heard(0, 2.3, None, 503)
    assert found(records) == {4, 9}, "another process: this device had an answer"


def test_4_a_database_that_is_away_is_a_reason():
    records = with_second_request(good())
    records.outages = [Outage(seconds(0), seconds(3), "the disk was full")]
    assert found(records) == set()
    records.devices[0].heard[0] = heard(0, 2.3, None, 503)
    assert found(records) == set()
    records.outages = [Outage(seconds(0), seconds(1.5), "the disk was full")]
    assert found(records) == {4, 9}


def test_4_refusals_are_forgotten_after_a_minute():
    records = with_second_request(good(), time=70, outcome="refused", thumbprint=None)
    records.last_fault = seconds(60)
    assert found(records) == set()
    assert found(with_second_request(good(), time=20, outcome="refused", thumbprint=None)) == {4}


@pytest.mark.parametrize("answer", [{"outcome": "refused"}, {"outcome": "html", "mode": "html"}, {"mode": "wrong_key"}],
                         ids=["refused", "html", "wrong key"])
def test_4_so_are_those_of_what_was_pending(answer):
    def records(time, **poll):
        made = with_second_request(good(), time=time, outcome="pending", thumbprint=None)
        made.last_fault = seconds(60)
        made.requests.append(request(5, kind="20", thumbprint=None, **{"outcome": "pending", **poll}))
        return made
    assert found(records(70, **answer)) == set()
    assert found(records(50, **answer)) == {4}
    assert found(records(70)) == {4}, "that poll was answered PENDING again"


def test_4_a_poll_is_no_second_request():
    records = good()
    records.requests[0].update(outcome="pending", thumbprint=None)
    records.requests.append(request(2.5, kind="20"))
    assert found(records) == set()


# 5


def test_5_failure_without_validation():
    records = good()
    records.calls = [call("failure", 3)]
    records.requests[0].update(outcome="refused", thumbprint=None)
    records.devices = [device([heard(0, 4, FAILURE)], FAILURE)]
    assert found(records) == {1, 5}
    records.calls = [call("failure", 0.5), call("validate", 1)]
    assert found(records) == {5}
    records.calls = [call("validate", 1), call("failure", 3)]
    assert found(records) == set()


def test_5_failure_after_success():
    records = good()
    records.calls.append(call("failure", 5, code=None, status=503))
    assert found(records) == {5}


def test_5_success_after_failure_is_allowed():
    records = good()
    records.calls.append(call("failure", 2.5))
    assert found(records) == set()


# 6


def test_6_two_certificates_reported():
    records = with_second_request(good(), answered=False)
    records.calls.append(call("success", 8, thumbprint="AA"))
    assert found(records) == {6}


def test_6_a_certificate_that_the_ca_does_not_know():
    records = good()
    records.calls.append(call("success", 8, thumbprint="CC"))
    assert found(records) == {6}


# 7


def test_7_never_reported():
    records = good()
    records.before = False
    records.calls.pop()
    assert found(records) == {7, 9}
    assert records.owed() == [("t1", CSR)]


def test_7_reported_too_late():
    records = good()
    records.before = False
    records.calls[1] = call("success", 41, thumbprint="AA")
    assert found(records) == {7}


def test_7_the_wrong_report():
    records = good()
    records.before = False
    records.calls[1] = call("failure", 3)
    assert found(records) == {7, 9}


@pytest.mark.parametrize("word", [{"code": "DeviceNotFound"}, {"status": 400, "code": None}], ids=str)
def test_7_intune_may_refuse(word):
    records = good()
    records.before = False
    records.calls[1] = call("success", 3, thumbprint="AA", **word)
    assert found(records) == set()
    (orphan,) = invariants.orphans(records)
    assert orphan.why == "Intune refused its report"


@pytest.mark.parametrize("word", [{"code": "Unknown"}, {"status": 503, "code": None}, {"status": 0, "code": None}],
                         ids=str)
def test_7_what_is_no_refusal(word):
    records = good()
    records.before = False
    records.calls[1] = call("success", 3, thumbprint="AA", **word)
    assert 7 in found(records)


# 8


@pytest.mark.parametrize("end", [None, "HTTP 400"])
def test_8_no_end(end):
    records = good()
    records.devices = [device([heard(0, 4, None, 503)], end)]
    assert found(records) == {8}


def test_8_too_late():
    records = good()
    records.devices = [device([heard(0, 41)])]
    assert found(records) == {8}


# 9


def test_9_orphan():
    records = with_second_request(good(), answered=False, mode="drop_after")
    (orphan,) = invariants.orphans(records)
    assert (orphan.thumbprint, orphan.key) == ("AA", ("t1", CSR)) and "drop_after" in orphan.why
    records = good()
    records.requests.append(request(2.2, "BB", kind="20"))
    assert found(records) == {9}


def test_9_the_reason_is_the_nearest():
    """The CA could not send its answer, because who had asked was dead."""
    records = with_second_request(good(), answered=False)
    assert "not sent whole" in next(invariants.orphans(records)).why
    records.outages = [Outage(seconds(2.05), seconds(2.05), "a process was killed")]
    assert next(invariants.orphans(records)).why.startswith("a process was killed")
    records.requests[0]["mode"] = "drop_after"
    assert "drop_after" in next(invariants.orphans(records)).why


def test_9_a_certificate_that_came_twice_was_lost_twice():
    """A CertPoll that was answered brings what an earlier one lost."""
    records = good()
    records.calls[1] = call("failure", 3)
    records.devices = [device([heard(0, 4, FAILURE)], FAILURE)]
    records.requests = [request(2, answered=False, kind="20"), request(2.5, kind="20")]
    assert found(records) == {9}
    records.requests[1]["answered"] = False
    assert found(records) == set()


def test_9_an_answer_that_nobody_can_use():
    records = good()
    records.calls[1] = call("failure", 3)
    records.devices = [device([heard(0, 4, FAILURE)], FAILURE)]
    records.requests[0]["mode"] = "wrong_key"
    assert found(records) == set()
