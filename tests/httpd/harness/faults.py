# SPDX-License-Identifier: Apache-2.0
"""Fault points: where a process of a gateway dies on demand. mod_intune_scep/base/fault.h has the other side."""
import pytest

from . import place, wait

POINTS = ("validated", "intent-before", "intent-after", "ca-before", "ca-after", "outcome-before", "outcome-after",
          "report-before", "report-after", "done-before", "done-after", "deliver-before", "settle-before",
          "settle-after", "adopt-before", "adopt-after")


def need_build():
    """SKIP where there is no module with fault points."""
    if place.fault_module() is None:
        pytest.skip("no build with --enable-fault-points: set ISCEP_FAULT_BUILD, as tests/run does")


def arm(gateway, point):
    """The next process that comes to the point dies there. The gateway was made with faults=True."""
    assert point in POINTS, point
    gateway.armed[point] = set(gateway.children())
    (gateway.faults / point).touch()


def is_armed(gateway, point):
    return (gateway.faults / point).exists()


def disarm(gateway, point):
    """Takes it away; whether nobody had come to it."""
    try:
        (gateway.faults / point).unlink()
        return True
    except FileNotFoundError:
        return False


def hit(gateway, point, seconds=10):
    """Returns once a process has died at the point, and another one has taken its place."""
    wait.until(lambda: not is_armed(gateway, point), f"a process to come to the point {point}", seconds)
    before = gateway.armed.pop(point)

    def replaced():
        now = set(gateway.children())
        return before - now and len(now) >= gateway.processes
    wait.until(replaced, "a process in the place of the one that died", seconds)
