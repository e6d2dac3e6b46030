# SPDX-License-Identifier: Apache-2.0
"""Many devices at once."""
import os
import threading

from . import place

# How many enrolments a test makes that counts what many of them cost.
LONG = os.environ.get("ISCEP_LONG", "") not in ("", "0")
MANY = 1000 if LONG else 100 if place.SANITIZE else 400


def all_at_once(items, act, seconds=120):
    """Runs act(item) for all items, each in a thread, let loose together. Results in order; exceptions are results."""
    barrier = threading.Barrier(len(items) + 1)
    results = [None] * len(items)

    def run(index, item):
        barrier.wait()
        try:
            results[index] = act(item)
        except Exception as error:  # pylint: disable=broad-except
            results[index] = error
    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(items)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for thread in threads:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in threads), "a device still waits for its answer"
    return results


class Stream:
    """Worker threads that take items one by one until they are used up or stop() is called."""

    def __init__(self, workers, items, act):
        self.items, self.act = iter(items), act
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.results = []
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def _next(self):
        with self.lock:
            return None if self.stopped.is_set() else next(self.items, None)

    def _work(self):
        for item in iter(self._next, None):
            try:
                outcome = self.act(item)
            except Exception as error:  # pylint: disable=broad-except
                outcome = error
            with self.lock:
                self.results.append((item, outcome))

    def count(self):
        with self.lock:
            return len(self.results)

    def running(self):
        return any(thread.is_alive() for thread in self.threads)

    def stop(self, seconds=60):
        """Lets running items end and takes no more; returns (item, result) pairs."""
        self.stopped.set()
        return self.finish(seconds)

    def finish(self, seconds=120):
        """Waits until all items are used up; returns (item, result) pairs."""
        for thread in self.threads:
            thread.join(seconds)
        assert not self.running(), "a device still waits for its answer"
        return self.results
