# SPDX-License-Identifier: Apache-2.0
"""Devices that do not give up: they repeat their message as told, through refused connections too, until they know."""
import collections
import dataclasses
import heapq
import http.client
import random
import re
import threading
import time

from . import device

SUCCESS, FAILURE, PENDING = "SUCCESS", "FAILURE", "PENDING"
STATUS_NAMES = {b"0": SUCCESS, b"2": FAILURE, b"3": PENDING}
# The attribute pkiStatus: its OBJECT IDENTIFIER, a SET, a PrintableString of one digit.
PKI_STATUS = re.compile(b"\x06\x0a\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x03\x31\x03\x13\x01([023])")


def now():
    """The wall clock in microseconds, as the stand-ins' records have it."""
    return int(time.time() * 1e6)


def pki_status(answer):
    """What a CertRep says, by a glance at its outside; None where it is none."""
    found = PKI_STATUS.search(answer.body) if answer.status == 200 else None
    return STATUS_NAMES[found[1]] if found else None


@dataclasses.dataclass
class Heard:
    """One request and what came of it; times in microseconds."""
    asked: int
    time: int
    port: int
    kind: str              # PKCSReq or CertPoll
    status: int = 0        # HTTP's, 0: no answer
    verdict: str = None    # pkiStatus by name
    hung_up: bool = False  # the device itself did not wait
    error: str = ""
    message: object = None
    answer: object = None
    opened: dict = None    # what the device found in the CertRep, once open_answers() was called


@dataclasses.dataclass
class Manner:
    """How devices behave. `cap`: they wait no longer than that, whatever Retry-After says."""
    cap: float = 1.0
    timeout: float = 15.0
    reconnect: float = 0.2  # after a connection that failed
    fresh: float = 0.5      # how many of the repetitions are signed anew, of 1
    hang_up: float = 0.0    # how many requests are not waited for, of 1
    twins: float = 0.0      # how many devices send everything twice at once, of 1
    repeats: int = 0        # how often a device asks again that has its certificate, as if the answer had been lost


class Persistent:
    """
    One device. `messages`: its first PKIMessage and others of the same transaction, signed anew; `polls`: its
    CertPolls.
    """

    def __init__(self, messages, polls, ports, manner, seed):
        self.messages, self.polls, self.ports, self.manner = list(messages), list(polls), list(ports), manner
        self.random = random.Random(seed)
        self.transaction, self.csr_sha256 = messages[0].transaction, messages[0].csr_sha256
        self.offset = self.random.randrange(1 << 16)
        self.legs = 2 if self.random.random() < manner.twins else 1
        self.heard = []
        self.end = None
        self.ended_at = None
        self.tries = 0
        self.pending = False
        self.repeats = 0
        self.lock = threading.Lock()

    def __repr__(self):
        return f"<device {self.transaction}: {self.end}, {len(self.heard)} answers>"

    def is_over(self):
        return self.end is not None and (self.end != SUCCESS or self.repeats >= self.manner.repeats)

    def _choose(self):
        """The next message and its kind."""
        with self.lock:
            self.tries += 1
            first = self.tries == 1
            if self.end is not None:
                self.repeats += 1
            if self.pending and self.polls and self.random.random() < 0.8:
                return self.random.choice(self.polls), "CertPoll", self._port()
            again = not first and len(self.messages) > 1 and self.random.random() < self.manner.fresh
            message = self.random.choice(self.messages[1:]) if again else self.messages[0]
            return message, "PKCSReq", self._port()

    def _port(self):
        """One after the other, so that a retransmission goes elsewhere."""
        return self.ports[(self.tries + self.offset) % len(self.ports)]

    def _patience(self):
        if self.end is None and self.random.random() < self.manner.hang_up:
            return self.random.uniform(0.01, 0.3), True
        return self.manner.timeout, False

    def step(self):
        """Asks once. The seconds until it asks again, None at its end."""
        if self.is_over():
            return None
        message, kind, port = self._choose()
        patience, impatient = self._patience()
        heard = Heard(now(), 0, port, kind, message=message)
        try:
            heard.answer = message.post(port, timeout=patience)
            heard.time, heard.status = heard.answer.time, heard.answer.status
            heard.verdict = pki_status(heard.answer)
        except (OSError, http.client.HTTPException) as error:
            heard.time, heard.error = now(), repr(error)
            heard.hung_up = impatient and isinstance(error, TimeoutError)
        return self._take(heard)

    def _take(self, heard):
        with self.lock:
            self.heard.append(heard)
            if heard.verdict in (SUCCESS, FAILURE) and self.end is None:
                self.end, self.ended_at = heard.verdict, heard.time
            elif 400 <= heard.status < 500 and self.end is None:
                self.end, self.ended_at = f"HTTP {heard.status}", heard.time
            self.pending = self.pending or heard.verdict == PENDING
            if self.is_over():
                return None
            wait = self.manner.reconnect if heard.status == 0 else self.manner.cap
            if heard.status and "retry-after" in heard.answer.headers:
                wait = min(wait, float(heard.answer.headers["retry-after"]))
            return wait * self.random.uniform(0.5, 1.0)


class Fleet:
    """Many devices, by a few threads; a device that waits holds none of them. They begin within `spread` seconds."""

    def __init__(self, devices, workers=24, spread=0.0, seed=0):
        self.devices = list(devices)
        self.condition = threading.Condition()
        self.stopped = False
        self.busy = 0
        self.error = None
        chance = random.Random(seed)
        begin = time.monotonic()
        self.due = []
        for number, single in enumerate(self.devices):
            at = begin + chance.uniform(0, spread)
            self.due += [(at, 2 * number + leg, single) for leg in range(single.legs)]
        heapq.heapify(self.due)
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def _next(self):
        with self.condition:
            while not self.stopped and (self.due or self.busy):
                pause = self.due[0][0] - time.monotonic() if self.due else None
                if pause is not None and pause <= 0:
                    self.busy += 1
                    return heapq.heappop(self.due)
                self.condition.wait(pause)
        return None

    def _done(self, number, single, pause):
        with self.condition:
            self.busy -= 1
            if pause is not None:
                heapq.heappush(self.due, (time.monotonic() + pause, number, single))
            self.condition.notify_all()

    def _work(self):
        for _, number, single in iter(self._next, None):
            pause = None
            try:
                pause = single.step()
            except Exception as error:  # pylint: disable=broad-except
                self.error = error
            self._done(number, single, pause)

    def ended(self):
        """How many devices know their end."""
        if self.error:
            raise self.error
        return sum(single.end is not None for single in self.devices)

    def running(self):
        return any(thread.is_alive() for thread in self.threads)

    def ends(self):
        return collections.Counter(single.end for single in self.devices)

    def wait(self, seconds):
        """Until all know their end and have repeated themselves; whether they do."""
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, deadline - time.monotonic()))
        self.ended()
        return not self.running()

    def stop(self):
        with self.condition:
            self.stopped = True
            self.condition.notify_all()
        for thread in self.threads:
            thread.join(60)
        assert not self.running(), "a device still waits for its answer"

    def open_answers(self):
        """Opens all CertReps; their facts are in Heard.opened, with `error` where one cannot be opened."""
        found = [heard for single in self.devices for heard in single.heard if heard.status == 200]
        opened = device.open_all([(heard.message, heard.answer) for heard in found], strict=False)
        for heard, facts in zip(found, opened):
            heard.opened = facts


def make(messages, ports, manner=Manner(), seed=0):
    """Persistent devices for messages of device.prepare(); all that they may need to send is made now."""
    again = device.again_all(messages)
    polls = [device.poll_all(messages) for _ in range(2)]
    return [Persistent([first, second], own_polls, ports, manner, f"{seed}-{number}")
            for number, (first, second, *own_polls) in enumerate(zip(messages, again, *polls))]
