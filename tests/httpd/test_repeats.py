# SPDX-License-Identifier: Apache-2.0
"""An outage does not flood the log: a few lines of a kind at warn or error, the others at info, and sums that add up."""
import collections
import math
import re
import time

import pytest

from harness import check, load, system

DEVICES, AS_THEY_ARE = 60, 5
INTERVAL = 2
QUIET = 300  # seconds: an interval that does not end during a test
FINAL = re.compile(r"\[intune_scep:(\w+)\] .*?ISCEP(1\d{3}): \[([^\]]*)\]")
SUM = re.compile(r"\[intune_scep:warn\] .*?ISCEP0100: \[-\] ISCEP(\d{4}) came (\d+) more times in the last (\d+) s at (\S+), told at "
                 r"level info; the last: \[\S+\] .")
# of a problem that is at info in any case
PAUSED = "1107"


def finals(gateway):
    """(level, id, transaction) of each last line."""
    return [found.groups() for found in map(FINAL.search, gateway.lines(r"ISCEP1\d{3}: \[")) if found]


def sums(gateway):
    """id → how many of its lines were summed up, over all sums; and how many sums."""
    found = [SUM.search(line) for line in gateway.lines("ISCEP0100: ")]
    assert all(found), gateway.lines("ISCEP0100: ")
    assert {one[4] for one in found} <= {"localhost/scep"}
    summed = collections.Counter()
    for one in found:
        summed[one[1]] += int(one[2])
    return summed, len(found)


def quiet_lines(gateway):
    return collections.Counter(number for level, number, _ in finals(gateway) if level == "info" and number != PAUSED)


def fail_all(gateway, messages, seconds):
    """All devices at once; each gets an error, and has one last line. How many intervals there may have been."""
    began = time.monotonic()
    for answer in load.all_at_once(messages, lambda message: message.post(gateway.port, timeout=60)):
        check.unavailable(answer)
    gateway.wait_log(r"ISCEP1\d{3}: \[", len(messages))
    assert sorted(transaction for _, _, transaction in finals(gateway)) == sorted(message.transaction for message in messages)
    return 1 + math.ceil((time.monotonic() - began) / seconds)


def microsoft_is_down(site, _profile):
    """Intune, Graph and Entra answer 503 to everything."""
    for target in ("token", "endpoints", "validate", "success", "failure"):
        site.microsoft.fail(target, "status", status=503)


def entra_refuses(site, profile):
    site.microsoft.set_tenant({**profile.tenant, "secret": "AppKey~changed-elsewhere"})


def ca_fails(site, _profile):
    site.ca.control("status", status=500)


@pytest.mark.parametrize("fault, number", [(microsoft_is_down, "1105"), (entra_refuses, "1104"), (ca_fails, "1202")])
def test_outage(site, start_gateway, devices, fault, number):
    profile = site.profile("/scep", Retries=0, MaxConcurrent=DEVICES)
    gateway = start_gateway([profile], processes=2, threads=64, server=f"IntuneScepRepeatInterval {INTERVAL}\n")
    gateway.allow_log(rf"ISCEP{number}: |ISCEP0320: |\[proxy(_http)?:error\]")
    messages = devices(profile, DEVICES)
    fault(site, profile)
    intervals = fail_all(gateway, messages, INTERVAL)
    # nothing follows, and the sums come
    check.wait.until(lambda: sums(gateway)[0] == quiet_lines(gateway),
                     lambda: f"{quiet_lines(gateway)} to be summed up: {sums(gateway)[0]}", INTERVAL + 10)
    loud = collections.Counter(found for level, found, _ in finals(gateway) if level in ("warn", "error"))
    assert set(loud) == {number} and loud[number] <= AS_THEY_ARE * intervals
    assert sums(gateway)[1] <= intervals
    if fault is not microsoft_is_down:  # where the breaker spares the log most of it
        assert loud[number] + sums(gateway)[0][number] == DEVICES


def test_decisions_about_devices_are_not_summed_up(site, start_gateway, devices):
    profile = site.profile("/scep", Retries=0)
    gateway = start_gateway([profile], server=f"IntuneScepRepeatInterval {QUIET}\n")
    gateway.allow_log("ISCEP1100: |ISCEP1204: ")
    site.microsoft.fail("validate", "code", code="ChallengeExpired")
    for message in devices(profile, 10):
        check.failure(message, message.post(gateway.port), 2)
    site.microsoft.fail("validate", "ok")
    site.ca.control("refuse", fail_info=2)
    for message in devices(profile, 10):
        check.failure(message, message.post(gateway.port), 2)
    gateway.wait_log("ISCEP1204: ", 10)
    assert collections.Counter((level, number) for level, number, _ in finals(gateway)) == {("warn", "1100"): 10, ("warn", "1204"): 10}
    gateway.restart_gracefully()
    assert not gateway.lines("ISCEP0100: ")


def test_restart_tells_what_was_counted(site, start_gateway, devices):
    """The processes that end write the sum; the count goes on, for what comes after it begins anew."""
    profile = site.profile("/scep", backend=f"http://127.0.0.1:{system.free_port()}/ca", Retries=0)
    gateway = start_gateway([profile], processes=2, server=f"IntuneScepRepeatInterval {QUIET}\n")
    gateway.allow_log(r"ISCEP1200: |\[proxy(_http)?:error\]")
    first, second = devices(profile, 12), devices(profile, 12)
    for message in first:
        check.unavailable(message.post(gateway.port))
    gateway.wait_log("ISCEP1200: ", 12)
    assert not gateway.lines("ISCEP0100: ")
    gateway.restart_gracefully()
    gateway.wait_log("ISCEP0100: ")
    assert sums(gateway) == ({"1200": 12 - AS_THEY_ARE}, 1)
    for message in second:
        check.unavailable(message.post(gateway.port))
    gateway.wait_log("ISCEP1200: ", 24)
    assert collections.Counter(level for level, _, _ in finals(gateway)) == {"error": 2 * AS_THEY_ARE, "info": 2 * (12 - AS_THEY_ARE)}


def test_switched_off(site, start_gateway, devices):
    profile = site.profile("/scep", Retries=0)
    gateway = start_gateway([profile], server="IntuneScepRepeatInterval 0\n")
    gateway.allow_log("ISCEP1202: |ISCEP1206: ")
    site.ca.control("status", status=500)
    for message in devices(profile, 10):
        check.unavailable(message.post(gateway.port))
    gateway.wait_log("ISCEP1202: ", 10)
    assert {level for level, _, _ in finals(gateway)} == {"error"} and len(finals(gateway)) == 10
