# SPDX-License-Identifier: Apache-2.0
"""
What must hold for every transaction, whatever failed and died: checked from the records of the CA's stand-in, of
Microsoft's, and of the devices, never from the gateway's own. A transaction is a transactionID and a CSR (its SHA-256).
All times are the wall clock's, in microseconds.
"""
import bisect
import collections
import dataclasses
import functools

from .persistent import FAILURE, SUCCESS

SECOND = 1_000_000
# Answers of the scripted CA that no gateway can use, though a certificate was issued.
UNUSABLE = {"other_transaction", "other_nonce", "no_nonce", "foreign_signer", "broken_signature", "wrong_key",
            "two_certificates", "no_certificate", "expired", "not_yet", "foreign_issuer", "other_recipient"}
ISSUING = ("19", "17")  # PKCSReq and RenewalReq


@dataclasses.dataclass
class Outage:
    """Something was killed (start and end are the same), or away for a while: a database, a disk."""
    start: int
    end: int
    what: str

    @property
    def is_kill(self):
        return self.start == self.end


@dataclasses.dataclass
class Limits:
    """
    `patience`: seconds after which the gateway takes an answer of the CA for lost. `slack`: within so many seconds
    after the CA's answer the outcome is in the journal. `lag`: so much later than it was sent, at most, the CA notes a
    request; who sent it may be dead by then. `remembers`: how long a refusal is repeated. `settle`: T of 7 and 8.
    """
    patience: float = 1.8
    slack: float = 1.0
    lag: float = 0.25
    remembers: float = 55.0
    settle: float = 60.0


@dataclasses.dataclass
class Records:
    """
    What the outside knows. `calls` and `requests` as in the stand-ins' records; `devices` have `transaction`,
    `csr_sha256`, `heard` (persistent.Heard, opened), `end`, `ended_at`; `last_fault`: when the last one was over.
    """
    calls: list
    requests: list
    devices: list
    outages: list = dataclasses.field(default_factory=list)
    last_fault: int = 0
    limits: Limits = dataclasses.field(default_factory=Limits)
    before: bool = True  # IntuneScepNotify

    @staticmethod
    def _grouped(entries):
        found = collections.defaultdict(list)
        for entry in entries:
            found[entry["transaction_id"], entry["csr_sha256"]].append(entry)
        return found

    @functools.cached_property
    def validates(self):
        return self._grouped(call for call in self.calls if call["service"] == "validate")

    @functools.cached_property
    def successes(self):
        return self._grouped(call for call in self.calls if call["service"] == "success")

    @functools.cached_property
    def failures(self):
        return self._grouped(call for call in self.calls if call["service"] == "failure")

    @functools.cached_property
    def at_ca(self):
        """PKCSReqs and CertPolls of each transaction, in their order."""
        entries = sorted((entry for entry in self.requests if entry["csr_sha256"]), key=lambda entry: entry["time"])
        return self._grouped(entries)

    @functools.cached_property
    def by_device(self):
        return {(single.transaction, single.csr_sha256): single for single in self.devices}

    def asked(self, key):
        """The PKCSReqs of a transaction."""
        return [entry for entry in self.at_ca.get(key, ()) if entry["message_type"] in ISSUING]

    def issued(self, key):
        """Thumbprints of all certificates that the CA made for a transaction."""
        return {entry["thumbprint"] for entry in self.at_ca.get(key, ()) if entry["thumbprint"]}

    def accepted(self, key):
        """The successNotifications that Intune accepted."""
        return [call for call in self.successes.get(key, ()) if call["accepted"]]

    def is_settled(self, key):
        """Whether Intune has the end of the story, or has refused to hear it."""
        return any(call["accepted"] or is_refusal(call)
                   for call in (*self.successes.get(key, ()), *self.failures.get(key, ())))

    def owed(self):
        """Transactions that the CA saw and Intune has heard no end of."""
        return [key for key in self.at_ca if not self.is_settled(key)]


def name(key):
    return f"[{key[0]}]"


def at(time):
    """A time for people: seconds within the hour, which fits all records of a run."""
    return f"{time / SECOND % 3600:.3f}"


def is_refusal(call):
    """A definite word of Intune's."""
    return call["status"] == 400 or (call["status"] == 200 and call["code"] not in (None, "Success", "Unknown"))


# Why an answer of the CA may not have come to the journal


def _lost_on_the_way(request, limits):
    if request["answered"] is None:
        return "its answer is still under way"
    if not request["answered"]:
        return f"its answer was not sent whole (mode {request['mode']})"
    if request["outcome"] in ("status", "html", "empty", "drop"):
        return f"it was no SCEP answer (mode {request['mode']})"
    took = (request["answered_time"] - request["time"]) / SECOND
    if took >= limits.patience:
        return f"its answer took {took:.1f} s (mode {request['mode']})"
    return None


def _legs_under_way(single, request, sent):
    """The device's requests that may have caused this one of the gateway's, which was sent at that time or later."""
    return [heard for heard in single.heard if heard.asked <= request["time"] and (heard.hung_up or heard.time >= sent)]


def _hit_by_outage(records, key, request):
    """A kill that cut the device's connection, or an outage in which it did not have the certificate at once."""
    end = (request["answered_time"] or request["time"]) + records.limits.slack * SECOND
    sent = request["time"] - records.limits.lag * SECOND
    legs = _legs_under_way(records.by_device[key], request, sent) if key in records.by_device else []
    for outage in records.outages:
        if outage.start > end or outage.end < sent:
            continue
        if any(heard.status == 0 and heard.asked <= outage.start if outage.is_kill else heard.verdict != SUCCESS for heard in legs):
            return f"{outage.what} at {at(outage.start)}"
    return None


def lost(records, key, request):
    """Why the gateway may not know what the CA answered to this request; None: it must know."""
    on_the_way = _lost_on_the_way(request, records.limits)
    if on_the_way is None or request["mode"] == "ok":
        return _hit_by_outage(records, key, request) or on_the_way
    return on_the_way


# The nine

_invariants = {}


def _invariant(number):
    def register(function):
        _invariants[number] = function
        return function
    return register


@_invariant(1)
def validated_before_the_ca(records):
    """Every PKCSReq at the CA is preceded by a Success for the same pair, and a repeated one by a fresh Success."""
    for key in records.at_ca:
        answered = sorted(call["accepted_time"] for call in records.validates.get(key, ())
                          if call["accepted"] and call["status"] == 200)
        for number, request in enumerate(records.asked(key), 1):
            had = bisect.bisect_right(answered, request["time"])
            if had < number:
                yield (f"{name(key)} PKCSReq {number} reached the CA at {at(request['time'])} after {had} answered "
                       f"Success of validateRequest for this CSR")


@_invariant(2)
def reported_before_delivered(records):
    """Under `before`, a SUCCESS that a device received is preceded by an accepted successNotification for it."""
    if not records.before:
        return
    for key, single in records.by_device.items():
        for heard in single.heard:
            if heard.verdict != SUCCESS:
                continue
            thumbprint = (heard.opened or {}).get("thumbprint")
            if not any(call["thumbprint"] == thumbprint and call["accepted_time"] <= heard.time
                       for call in records.accepted(key)):
                yield (f"{name(key)} the device had the certificate {thumbprint} at {at(heard.time)}, and Intune had "
                       f"accepted no report of it by then")


def _certificate_faults(records, key, heard):
    facts = heard.opened
    if facts is None or facts.get("error"):
        return [f"a SUCCESS that the device cannot open: {facts and facts['error']}"]
    found = []
    if facts["thumbprint"] not in records.issued(key):
        found.append(f"the certificate {facts['thumbprint']} is none that the CA issued for it")
    if not facts["key_matches"] or not facts["verifies"]:
        found.append(f"the certificate {facts['thumbprint']} has another key, or does not verify")
    return found


@_invariant(3)
def one_certificate_delivered(records):
    """All SUCCESS answers carry the same bytes: a certificate of the CA's with the CSR's key. No FAILURE follows."""
    for key, single in records.by_device.items():
        successes = sorted((heard for heard in single.heard if heard.verdict == SUCCESS), key=lambda heard: heard.time)
        for heard in successes:
            for fault in _certificate_faults(records, key, heard):
                yield f"{name(key)} {fault}"
        certificates = {(heard.opened or {}).get("certificate") for heard in successes}
        if len(certificates) > 1:
            yield f"{name(key)} the device was given {len(certificates)} different certificates"
        for heard in single.heard:
            if successes and heard.verdict == FAILURE and heard.asked > successes[0].time:
                yield f"{name(key)} FAILURE at {at(heard.time)}, after SUCCESS at {at(successes[0].time)}"


def _was_no(entry):
    """Whether the CA's answer ended the transaction for a while: a refusal, or what no gateway can use."""
    return entry["outcome"] in ("refused", "html") or entry["mode"] in UNUSABLE


def _asked_again_why(records, key, request, following):
    why = lost(records, key, request)
    if why:
        return why
    # the end of what was pending is the answer to a CertPoll
    answers = [request] + [entry for entry in records.at_ca[key] if entry["message_type"] not in ISSUING
                           and request["outcome"] == "pending" and request["time"] < entry["time"] < following["time"]]
    if any(_was_no(entry) and following["time"] - entry["time"] >= records.limits.remembers * SECOND for entry in answers):
        return "its refusal was forgotten"
    return None


@_invariant(4)
def asked_again_only_for_a_reason(records):
    """One PKCSReq, and another one only after a lost answer, a kill that hit it, or a refusal of a minute ago."""
    for key in records.at_ca:
        asked = records.asked(key)
        for number, (request, following) in enumerate(zip(asked, asked[1:]), 2):
            if _asked_again_why(records, key, request, following) is None:
                yield (f"{name(key)} PKCSReq {number} at {at(following['time'])}, though the one at "
                       f"{at(request['time'])} was answered ({request['outcome']}) at "
                       f"{at(request['answered_time'])} and nothing failed")


@_invariant(5)
def failure_only_where_true(records):
    """No failureNotification without an earlier Success; none sent after an accepted success."""
    for key, calls in records.failures.items():
        valid = [call["accepted_time"] for call in records.validates.get(key, ())
                 if call["accepted"] and call["status"] == 200]
        done = [call["accepted_time"] for call in records.accepted(key)]
        for call in calls:
            if not valid or call["time"] < min(valid):
                yield f"{name(key)} failureNotification at {at(call['time'])} without an earlier Success"
            if done and call["time"] > min(done):
                yield (f"{name(key)} failureNotification at {at(call['time'])}, after the success that was accepted at "
                       f"{at(min(done))}")


@_invariant(6)
def one_certificate_reported(records):
    """Accepted successNotifications name one thumbprint, and it is one of the CA's."""
    for key in records.successes:
        thumbprints = {call["thumbprint"] for call in records.accepted(key)}
        if len(thumbprints) > 1:
            yield f"{name(key)} Intune accepted {len(thumbprints)} certificates: {', '.join(sorted(thumbprints))}"
        for thumbprint in thumbprints - records.issued(key):
            yield f"{name(key)} Intune accepted {thumbprint}, which the CA did not issue for it"


@_invariant(7)
def all_reported(records):
    """Within T after the last fault Intune has the end of all that the CA saw: success where a device has it."""
    deadline = records.last_fault + records.limits.settle * SECOND
    for key in records.at_ca:
        calls = [*records.successes.get(key, ()), *records.failures.get(key, ())]
        if any(is_refusal(call) for call in calls):
            continue
        ends = [call["accepted_time"] for call in calls if call["accepted"]]
        if not ends:
            yield f"{name(key)} Intune never heard how it ended"
        elif min(ends) > deadline:
            yield f"{name(key)} Intune heard of it {_after(min(ends), records)}"
        elif getattr(records.by_device.get(key), "end", None) == SUCCESS and not records.accepted(key):
            yield f"{name(key)} a device has the certificate, and Intune heard of a failure only"


@_invariant(8)
def all_devices_know(records):
    """Within T after the last fault every device that repeats its message has SUCCESS or FAILURE."""
    for key, single in records.by_device.items():
        if single.end not in (SUCCESS, FAILURE):
            last = max(single.heard, key=lambda heard: heard.time, default=None)
            yield f"{name(key)} the device has no end ({single.end}); what it heard last: {_words(last)}"
        elif single.ended_at > records.last_fault + records.limits.settle * SECOND:
            yield f"{name(key)} {single.end} {_after(single.ended_at, records)}"


def _after(time, records):
    return f"{(time - records.last_fault) / SECOND:.1f} s after the last fault"


def _words(heard):
    if heard is None:
        return "nothing"
    return f"{heard.kind} at {at(heard.time)}: {heard.error or heard.verdict or f'HTTP {heard.status}'}"


@dataclasses.dataclass
class Orphan:
    """A certificate that no accepted report names."""
    key: tuple
    thumbprint: str
    time: int
    why: str  # "" where there is no reason for it


def orphans(records):
    """All of them, each traced to its lost answer. An answer is lost only if all that carried the certificate are."""
    for key, entries in records.at_ca.items():
        named = {call["thumbprint"] for call in records.accepted(key)}
        refused = {call["thumbprint"] for call in records.successes.get(key, ()) if is_refusal(call)}
        for thumbprint in sorted(records.issued(key) - named):
            carriers = [entry for entry in entries if entry["thumbprint"] == thumbprint]
            reasons = [f"mode {entry['mode']}" if entry["mode"] in UNUSABLE else lost(records, key, entry)
                       for entry in carriers]
            why = "; ".join(reasons) if all(reasons) else ""
            if thumbprint in refused:
                why = "Intune refused its report"
            yield Orphan(key, thumbprint, carriers[0]["time"], why)


@_invariant(9)
def orphans_have_reasons(records):
    """Each certificate that no accepted notification names was lost between the CA's answer and the journal."""
    for orphan in orphans(records):
        if not orphan.why:
            yield (f"{name(orphan.key)} nobody was told of the certificate {orphan.thumbprint}, issued at "
                   f"{at(orphan.time)}, and its answer was not lost")


# All together


def violations(records, numbers=tuple(range(1, 10))):
    """From number to the list of what is wrong, in words; without those that hold."""
    found = {number: list(_invariants[number](records)) for number in numbers}
    return {number: texts for number, texts in found.items() if texts}


def counts(records):
    """What happened, for the table at the end of a run."""
    keys = set(records.at_ca)
    found = {"transactions": len(records.devices), "at the CA": len(keys),
             "PKCSReqs": sum(len(records.asked(key)) for key in keys),
             "certificates": sum(len(records.issued(key)) for key in keys),
             "validateRequests": sum(map(len, records.validates.values())),
             "successNotifications": sum(map(len, records.successes.values())),
             "failureNotifications": sum(map(len, records.failures.values())),
             "requests of devices": sum(len(single.heard) for single in records.devices),
             "orphans": len(list(orphans(records)))}
    for end, count in sorted(collections.Counter(str(single.end) for single in records.devices).items()):
        found[f"ended with {end}"] = count
    return found


def check(records, numbers=tuple(range(1, 10)), shown=5):
    """Asserts that the invariants hold; the failure names each with some of its transactions."""
    found = violations(records, numbers)
    text = ""
    for number, texts in found.items():
        text += f"\ninvariant {number} is violated {len(texts)} times: {_invariants[number].__doc__}\n"
        text += "".join(f"    {line}\n" for line in texts[:shown])
    assert not found, text
