# SPDX-License-Identifier: Apache-2.0
"""The crash test: devices that do not give up, stand-ins that fail by chance, and somebody who kills."""
import collections
import itertools
import os
import random
import re
import threading
import time

from . import invariants, persistent, place, wait
from .invariants import Outage
from .persistent import now

COUNT = int(os.environ.get("ISCEP_CRASH") or 0)
# Short leases, so that nothing waits long for the dead.
TIMES = {"Timeout": 2, "BackendTimeout": 3, "Grace": 2}
SERVER = "IntuneScepReportRate 200\n"
PROXY_TIMEOUT = 2
# What the module and httpd say while they are killed (httpd says nothing of SIGKILL) and lied to. What is not here (other
# signals, a sanitizer's finding, httpd's own trouble) fails a test.
EXPECTED = (r"ISCEP\d{4}", r"AH00098|AH10392|AH00288|AH00484", r"\[proxy(_http)?:", r"\[socache_")

CA_MIX = {"ok": 76, "slow": 4, "drop": 3, "drop_after": 5, "truncate": 3, "stall": 2, "status": 2, "refuse": 1,
          "pending": 3}
# What no gateway can use is repeated to the device for a minute: only where there is the time to wait for that.
if COUNT:
    CA_MIX |= {"html": 0.5, "other_nonce": 0.2, "wrong_key": 0.2}
SETTLE = 120.0 if COUNT else 45.0
MICROSOFT_MIX = (
    ("token", "status", {"status": 500, "percent": 20}),
    ("endpoints", "drop", {"percent": 20}),
    ("validate", "status", {"status": 503, "percent": 3}),
    ("validate", "drop", {"percent": 3}),
    ("validate", "drop_after", {"percent": 3}),
    ("validate", "slow", {"seconds": 1, "percent": 3}),
    ("success", "status", {"status": 500, "percent": 6}),
    ("success", "status", {"status": 429, "retry_after": 1, "percent": 3}),
    ("success", "drop", {"percent": 4}),
    ("success", "drop_after", {"percent": 5}),
    ("success", "slow", {"seconds": 1, "percent": 3}),
    ("success", "stall", {"seconds": 3, "percent": 2}),
    ("failure", "status", {"status": 500, "percent": 10}),
    ("failure", "drop_after", {"percent": 10}),
    ("failure", "drop", {"percent": 5}),
)
TARGETS = ("token", "endpoints", "validate", "success", "failure")
_tables = {}


def size(short, share=1.0):
    """How many transactions: `short`, or that share of what ISCEP_CRASH says if it is more."""
    return max(int(COUNT * share), short // 3 if place.SANITIZE else short)


class Trouble:
    """Something that goes wrong at random times, `mean` seconds apart, the first time soon; in a thread of its own."""

    def __init__(self, mean, seed):
        self.mean, self.random = mean * place.SLOWNESS, random.Random(f"{type(self).__name__}-{seed}")
        self.outages = []
        self.error = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.begin()
        self.thread.start()
        return self

    def _run(self):
        pause = self.mean / 2
        try:
            while not self.stopped.wait(pause):
                self.act()
                pause = self.random.expovariate(1 / self.mean)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def stop(self):
        """Ends the trouble; everything is there again when it returns, unless `error` says why not."""
        self.stopped.set()
        if self.thread.is_alive():
            self.thread.join(120)
        self.end()

    def lasting(self, low, high):
        """Waits so many seconds of an outage, or less at the end of it all."""
        self.stopped.wait(self.random.uniform(low, high))

    def begin(self):
        pass

    def act(self):
        raise NotImplementedError

    def end(self):
        pass


class Killer(Trouble):
    """
    SIGKILL to a random child of a random gateway; with `whole`, of 1, to a whole gateway, which is started again once
    `database` is there.
    """

    def __init__(self, gateways, mean=0.5, whole=0.1, seed=0, database=None):
        super().__init__(mean, seed)
        self.gateways, self.whole = list(gateways), whole
        self.there = database.there if database else threading.Lock()
        self.lives = collections.Counter()

    def act(self):
        gateway = self.random.choice(self.gateways)
        if self.random.random() < self.whole:
            self.kill_whole(gateway)
            with self.there:
                gateway.start(write=False)
            return
        # a child of a server that starts is a trial of a file, or a command that prints a secret
        children = gateway.children() if gateway.is_up else []
        if children and self._kill_child(self.random.choice(children), gateway):
            self.lives["children"] += 1

    def _kill_child(self, child, gateway):
        begin = now()
        killed = gateway.kill_one(child)
        if killed:
            # this thread may have had to wait between the look at the clock and the signal
            self.outages += [Outage(moment, moment, f"a process of {gateway.name} was killed") for moment in (begin, now())]
        return killed

    def kill_whole(self, gateway):
        """All processes at once."""
        begin = now()
        gateway.kill()
        # they do not die in the same moment
        self.outages += [Outage(moment, moment, f"{gateway.name} was killed") for moment in (begin, now())]
        self.lives["gateways"] += 1


class PowerCuts(Killer):
    """Every one of them kills the whole gateway, which then finds only what was synced."""

    def __init__(self, gateway, shadow, mean=1.5, seed=0):
        super().__init__([gateway], mean, 1.0, seed)
        self.shadow = shadow

    def act(self):
        (gateway,) = self.gateways
        self.kill_whole(gateway)
        self.shadow.restore()
        gateway.start(write=False)


class FullDisk(Trouble):
    """Now and then the disk is full for a while."""

    def __init__(self, disk, mean=2.0, seconds=(0.5, 2.5), seed=0):
        super().__init__(mean, seed)
        self.disk, self.seconds = disk, seconds
        self.lives = collections.Counter()

    def act(self):
        outage = Outage(now(), 0, "the disk was full")
        self.disk.fill()
        self.lasting(*self.seconds)
        self.disk.free()
        outage.end = now()
        self.outages.append(outage)
        self.lives["full disks"] += 1


class DatabaseDown(Trouble):
    """Now and then PostgreSQL is stopped, mostly as if its machine had died, or answers nothing for a while."""

    def __init__(self, postgres, mean=3.0, seconds=(0.3, 2.0), seed=0):
        super().__init__(mean, seed)
        self.postgres, self.seconds = postgres, seconds
        self.lives = collections.Counter()
        self.ways = itertools.cycle(["immediate", "pause", "immediate", "fast"])
        self.there = threading.Lock()

    def act(self):
        with self.there:
            self._go_away()

    def _go_away(self):
        how = next(self.ways)
        outage = Outage(now(), 0, f"PostgreSQL was away ({how})")
        if how == "pause":
            self.postgres.pause()
        else:
            self.postgres.stop(how)
        self.lasting(*self.seconds)
        if how == "pause":
            self.postgres.go_on()
        else:
            self.postgres.start()
        outage.end = now() + invariants.SECOND  # until the gateway has new connections
        self.outages.append(outage)
        self.lives[f"PostgreSQL {how}"] += 1

    def end(self):
        self.postgres.go_on()


class Weather(Trouble):
    """The stand-ins fail by chance: now little, now much, now not at all."""

    def __init__(self, site, tenants, mix=None, mean=2.0, seed=0):
        super().__init__(mean / place.SLOWNESS, seed)  # it changes as quickly on a slow machine
        self.site, self.tenants, self.mix = site, tenants, mix or CA_MIX
        self.lives = collections.Counter()

    def begin(self):
        self.bad()

    def bad(self, share=1.0, seconds=0.5):
        """`share`: 2 makes all faults twice as likely."""
        weights = {mode: weight * (1 if mode == "ok" else share) for mode, weight in self.mix.items()}
        self.site.ca.mix(weights, seconds=seconds, seed=self.random.randrange(1 << 31))
        self.calm_microsoft()
        for target, mode, options in MICROSOFT_MIX:
            self.site.microsoft.fail(target, mode, **{**options, "percent": min(100, options["percent"] * share)})

    def calm_microsoft(self):
        for target in TARGETS:
            self.site.microsoft.fail(target, "ok", tenant=None)

    def act(self):
        kind = self.random.choice(["bad", "worse", "slow", "fair", "Microsoft down", "tokens"])
        self.lives[kind] += 1
        if kind == "Microsoft down":
            self.site.microsoft.fail(self.random.choice(["validate", "success"]), "status", status=503)
            self.lasting(0.5, 2)
        elif kind == "tokens":
            self.site.microsoft.revoke_tokens(self.random.choice(self.tenants))
        if kind == "fair":
            self.end()
        else:
            self.bad(3 if kind == "worse" else 1, self.random.choice([2.5, 4]) if kind == "slow" else 0.5)

    def end(self):
        self.site.ca.control("ok")
        self.calm_microsoft()


class Run:
    """
    One crash test: `messages` enrol at the gateways' ports while the troubles last, which they do until nearly all
    devices know their end. Then everybody has `settle` seconds.
    """

    def __init__(self, name, site, gateways, messages, troubles, manner=None, spread=None, settle=SETTLE, before=True):
        self.name, self.site, self.gateways, self.messages, self.troubles = name, site, gateways, messages, troubles
        self.before, self.settle = before, settle * place.SLOWNESS
        self.manner = manner or persistent.Manner(hang_up=0.05, twins=0.2, repeats=1)
        self.spread = spread if spread is not None else len(messages) / 12 * place.SLOWNESS
        self.fleet = None
        self.records = None
        self.seconds = 0.0

    def _storm(self):
        deadline = time.monotonic() + 60 * place.SLOWNESS + 3 * self.spread
        enough = len(self.messages) * 0.95
        while self.fleet.ended() < enough and time.monotonic() < deadline:
            self._raise_errors()
            time.sleep(0.1)

    def _raise_errors(self):
        for trouble in self.troubles:
            if trouble.error:
                raise trouble.error

    def run(self):
        """The storm, the calm after it, and the records."""
        started = time.monotonic()
        ports = [gateway.port for gateway in self.gateways]
        self.fleet = persistent.Fleet(persistent.make(self.messages, ports, self.manner), spread=self.spread)
        for trouble in self.troubles:
            trouble.start()
        self.fleet.start()
        try:
            self._storm()
        finally:
            for trouble in self.troubles:
                trouble.stop()
            self._raise_errors()
        last_fault = now()
        for gateway in self.gateways:
            gateway.allowed += EXPECTED
        self.fleet.wait(self.settle)
        self._wait_for_reports(last_fault + self.settle * 1e6)
        self.fleet.stop()
        self.records = self.gather(last_fault)
        self.seconds = time.monotonic() - started
        return self

    def gather(self, last_fault):
        self.fleet.open_answers()
        outages = [outage for trouble in self.troubles for outage in trouble.outages]
        return invariants.Records(
            self.site.microsoft.calls(bodies=False), self.site.ca.requests(csr=False), self.fleet.devices, outages,
            last_fault, invariants.Limits(slack=1.0 * place.SLOWNESS, settle=self.settle), self.before)

    def _wait_for_reports(self, deadline):
        """Until Intune has the end of all that the CA saw, by its own record; invariant 7 tells if it has not."""
        def nothing_is_owed():
            records = invariants.Records(self.site.microsoft.calls(bodies=False), self.site.ca.requests(csr=False), [])
            return not records.owed() or now() > deadline
        wait.until(nothing_is_owed, "the reports", self.settle + 30, 0.5)

    def counts(self):
        found = {**invariants.counts(self.records), "seconds": f"{self.seconds:.0f}"}
        for trouble in self.troubles:
            for what, count in sorted(trouble.lives.items()):
                found[f"{type(trouble).__name__}: {what}"] = count
        return found

    def check(self):
        """The nine invariants; what happened is in the table at the end of the run, whether they hold or not."""
        lines = [", ".join(f"{count} {what}" for what, count in self.counts().items())]
        for orphan in invariants.orphans(self.records):
            lines.append(f"    orphan {orphan.thumbprint[:12]}… of [{orphan.key[0]}] at {invariants.at(orphan.time)}: "
                         + (orphan.why or "NO REASON"))
        _tables[self.name] = lines
        invariants.check(self.records)
        never = [type(trouble).__name__ for trouble in self.troubles if not trouble.lives]
        assert not never, f"this never happened: {never}"


def summary(terminal):
    """The counts of each crash test, in the terminal and in crash.txt of the build."""
    if not _tables:
        return
    terminal.section("crash tests")
    text = ""
    for name, lines in _tables.items():
        text += f"{name}: " + "\n".join(lines) + "\n"
        terminal.write_line(f"{name}: {lines[0]}")
        reasons = collections.Counter(re.sub(r" at [\d.]+| [\d.]+ s", "", line.partition(": ")[2])
                                      for line in lines[1:])
        for why, count in reasons.most_common():
            terminal.write_line(f"    {count} orphans: {why}")
    (place.need("mod_intune_scep.so").parent / "crash.txt").write_text(text)
