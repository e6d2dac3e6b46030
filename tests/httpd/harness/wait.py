# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition instead of for a time."""
import time

from . import place


def until(condition, what, seconds=10.0, step=0.02):
    """The condition's first true value; AssertionError with `what` when it takes too long."""
    deadline = time.monotonic() + seconds * place.SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what()}" if callable(what) else f"waited in vain for {what}")
        time.sleep(step)
