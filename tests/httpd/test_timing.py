# SPDX-License-Identifier: Apache-2.0
"""
The RA key is no oracle: whatever is wrong between decryption and the proof of the CSR, the answer takes the same time
and has the same form. One server without other work, one connection, all kinds of failure in random order, messages
with a challenge as long as Intune's.

ISCEP_LONG=1 measures 2,000 of each kind and wants an idle machine: medians and lower quartiles must not differ by
more than 3 % (or 30 µs). By default 150 of each: then the lower quartiles, which a busy machine hardly moves, must
not differ by more than what a step left out (a private operation, a verification, a parsing) would make.
"""
import http.client
import random
import statistics
import time

import pytest

from harness import check, matrix, place

OPTIONS = {"processes": 1, "threads": 4, "server": "MaxKeepAliveRequests 0\nKeepAliveTimeout 60\n"}
KINDS = ("rsa", "envelope", "not-a-csr", "csr-key", "csr-signature")
MESSAGES = 20  # different ones of each kind
ROUNDS = 2000 if matrix.LONG else 150
COMPARED = (0, 1) if matrix.LONG else (0,)  # quartiles: the lower one, the median
# of their differences: a share of the median, or microseconds, whichever is more
SHARE, MICROSECONDS = (0.03, 30) if matrix.LONG else (0.1, 120)
WARM_UP = 20  # rounds that do not count
TARGET = "/scep?operation=PKIOperation"
RESAMPLES = 1000


def profiles(site):
    return [site.profile("/scep")]


@pytest.fixture
def messages(gateway, devices):
    """Different messages of each kind."""
    gateway.allow_log("ISCEP1012: ")
    return {kind: devices(gateway.profiles[0], MESSAGES, break_=kind) for kind in KINDS}


def ask(connection, message):
    """The answer's form (status, headers but Date, length), and how long it took in microseconds."""
    started = time.perf_counter_ns()
    connection.request("POST", TARGET, message.der, {"Content-Type": "application/x-pki-message"})
    response = connection.getresponse()
    body = response.read()
    microseconds = (time.perf_counter_ns() - started) / 1000
    headers = tuple((name, value) for name, value in response.getheaders() if name not in ("Date", "Keep-Alive"))
    return (response.status, headers, len(body)), microseconds


def measure(port, messages):
    """kind -> microseconds, and the forms of all answers."""
    source, times, forms = random.Random(9), {kind: [] for kind in KINDS}, set()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30 * place.SLOWNESS)
    for number in range(WARM_UP + ROUNDS):
        for kind in source.sample(KINDS, len(KINDS)):
            form, microseconds = ask(connection, source.choice(messages[kind]))
            forms.add(form)
            if number >= WARM_UP:
                times[kind].append(microseconds)
    connection.close()
    return times, forms


def quartiles(values):
    return statistics.quantiles(values, n=4)


def interval(source, one, other):
    """95 % confidence of the difference of the medians, by bootstrap."""
    def median(values):
        return statistics.median(source.choices(values, k=len(one)))
    found = sorted(median(one) - median(other) for _ in range(RESAMPLES))
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]


def superiority(one, other):
    """How often a time of `one` is above one of `other`: Mann-Whitney's U as a share, 0.5 for the same distribution."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    below = wins = 0
    for _, which in ranked:
        if which:
            below += 1
        else:
            wins += below
    return wins / (len(one) * len(other))


def report(times):
    """One line for each kind: quartiles, difference from all other kinds together; and the worst difference of each."""
    source, lines, differences = random.Random(1), [], {}
    for kind, own in times.items():
        others = [value for name, values in times.items() if name != kind for value in values]
        mine, theirs = quartiles(own), quartiles(others)
        differences[kind] = max(abs(mine[at] - theirs[at]) for at in COMPARED)
        text = f"{kind:14}" + " ".join(f"{value:6.0f}" for value in mine) + " µs, from the others "
        text += " ".join(f"{one - other:+5.0f}" for one, other in zip(mine, theirs)) + " µs"
        text += f", above them in {100 * superiority(own, others):4.1f} %"
        if matrix.LONG:
            text += ", 95 % of the medians' difference {:+.0f} to {:+.0f} µs".format(*interval(source, own, others))
        lines.append(text)
    return lines, differences


def test_failures_after_decryption_take_the_same_time(site, gateway, messages, capsys):
    times, forms = measure(gateway.port, messages)
    assert len(forms) == 1, forms
    assert next(iter(forms))[0] == 200
    assert {len(values) for values in times.values()} == {ROUNDS}
    lines, differences = report(times)
    if matrix.LONG:
        with capsys.disabled():
            print("\n" + "\n".join(lines))
    typical = statistics.median(value for values in times.values() for value in values)
    bound = max(SHARE * typical, MICROSECONDS * place.SLOWNESS)
    worst = max(differences, key=differences.get)
    assert differences[worst] < bound, f"{worst} differs by more than {bound:.0f} µs:\n" + "\n".join(lines)
    check.all_untouched(site)


def test_they_fail_as_they_should(gateway, messages):
    """Each kind does reach the step that it is named after, and the device is told the same."""
    wanted = {"rsa": "cannot be decrypted|not a PKCS #10", "envelope": "cannot be decrypted",
              "not-a-csr": "not a PKCS #10", "csr-key": "is not the signer's",
              "csr-signature": "own signature does not verify"}
    for kind, of_kind in messages.items():
        message = of_kind[0]
        check.failure(message, message.post(gateway.port), 1)
        check.final_line(gateway, 1012, message)
        assert gateway.lines(f"{message.transaction}.*({wanted[kind]})"), kind
