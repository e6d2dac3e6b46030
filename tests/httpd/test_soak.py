# SPDX-License-Identifier: Apache-2.0
"""
Enrolments without end while Intune and the CA fail by chance: nothing lost, nothing twice, nothing grows; and the same
while the server is restarted gracefully again and again. ISCEP_SOAK=N: N enrolments instead of some hundred.
"""
import collections
import dataclasses
import os
import pathlib
import re

import pytest

from harness import crash, persistent, place, system
from harness.crash import Run, Trouble, Weather

COUNT = int(os.environ.get("ISCEP_SOAK") or 0)
BATCH = 2500 if COUNT else 100
SETTLED = 5000  # what allocators, pools and caches may take until then is not growth
RATE = 70       # enrolments that begin in a second
# Of one in ten something goes wrong, mostly a time-out or a lost answer: a soak, not a crash test.
CA_MIX = {"ok": 92, "slow": 2, "drop": 1, "drop_after": 2, "truncate": 1, "status": 1, "pending": 1}


@dataclasses.dataclass
class Look:
    """What a server holds at one moment: kilobytes of anonymous memory and descriptors by process, and more of all."""
    memory: dict
    descriptors: dict
    connections: int
    segments: set
    journal: int

    def __str__(self):
        one = ", ".join(f"{pid}: {self.memory[pid]} kB, {self.descriptors[pid]} descriptors" for pid in self.memory)
        return (f"{one}; {self.connections} connections to Microsoft, {len(self.segments)} shared memory segments, "
                f"journal {self.journal >> 10} KiB")


def look(gateway, site):
    def status(pid):
        return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
    processes = [gateway.process.pid, *gateway.children()]
    segments = {thing for thing in system.shared_things() if thing[0] == "shm" and thing[2] == gateway.process.pid}
    return Look({pid: status(pid) for pid in processes},
                {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in processes if os.access(f"/proc/{pid}/fd", os.R_OK)},
                system.connections_of(site.microsoft.port), segments,
                sum(file.stat().st_size for file in gateway.state.glob("journal.sqlite*")))


class Restarter(Trouble):
    """Graceful restarts."""

    def __init__(self, gateway, mean=4.0 if COUNT else 1.0, seed=0):
        super().__init__(mean, seed)
        self.gateway, self.lives = gateway, collections.Counter()

    def act(self):
        self.gateway.restart_gracefully()
        self.lives["graceful"] += 1


@pytest.fixture
def gateway(site, start_gateway):
    if not place.IS_ROOT and COUNT:
        pytest.fail("only root can count the descriptors of a worker")
    profile = site.profile("/scep", MaxConcurrent=48, **crash.TIMES)
    # By default each thread's allocators may keep 2 MiB of freed memory, and malloc has an arena for many a thread: what is
    # kept there grows for hours, and would hide what is lost.
    return start_gateway([profile], server=crash.SERVER + "MaxConnectionsPerChild 0\nMaxMemFree 64\n", processes=2,
                         threads=24, proxy_timeout=crash.PROXY_TIMEOUT, allow=(*crash.EXPECTED, "AH03490"),
                         environment={"MALLOC_ARENA_MAX": "1"})


def batch(request, site, gateway, devices, number, count, troubles=()):
    """One batch of enrolments with its invariants; the stand-ins then forget it."""
    profile = gateway.profiles[0]
    weather = Weather(site, [profile.tenant], CA_MIX, seed=number)
    run = Run(f"{request.node.name} {number}", site, [gateway], devices(profile, count), [weather, *troubles],
              persistent.Manner(twins=0.05), spread=count / RATE * place.SLOWNESS)
    run.run().check()
    site.microsoft.reset(bodies=False)
    site.ca.reset()
    return run


def test_nothing_grows_in_a_long_run(request, site, gateway, devices):
    """0 lost, 0 twice; no process that lives through it has more memory or descriptors than when it had warmed up."""
    site.microsoft.reset(bodies=False)
    processes = {gateway.process.pid, *gateway.children()}
    done, looks = 0, []
    while done < max(COUNT * 0.8, 2 * BATCH):
        batch(request, site, gateway, devices, len(looks), BATCH)
        done += BATCH
        looks.append((done, look(gateway, site)))
        print(f"{done} enrolments: {looks[-1][1]}", flush=True)
    last = looks[-1][1]
    first = next((seen for count, seen in looks if count >= SETTLED), looks[0][1])
    assert set(last.memory) == processes, "a process did not live through it"
    # A short run shows that the test works, and no more than a gross leak.
    most = 1024 if COUNT else 8192
    for pid in processes:
        assert last.memory[pid] - first.memory[pid] < most or place.SANITIZE, (pid, first, last)
        assert last.descriptors.get(pid, 0) - first.descriptors.get(pid, 0) <= (16 if COUNT else 64), (pid, first, last)
    assert last.segments == first.segments and last.connections <= 2 * 24


def test_graceful_restarts_in_a_long_run(request, site, gateway, devices):
    """The parent lives on through all of them; nothing of an old generation stays."""
    site.microsoft.reset(bodies=False)
    parent, looks, done = gateway.process.pid, [], 0
    while done < max(COUNT * 0.2, 2 * BATCH):
        restarter = Restarter(gateway, seed=len(looks))
        batch(request, site, gateway, devices, len(looks), BATCH, [restarter])
        done += BATCH
        old = set(gateway.children())
        gateway.restart_gracefully()
        # how many follow is httpd's: while the old ones end there may be no room for all, and one is enough without load
        crash.wait.until(lambda: gateway.children() and old.isdisjoint(gateway.children()),
                         lambda: f"the old generation's end: {gateway.children()}, before {old}", 30)
        looks.append(look(gateway, site))
        print(f"{done} enrolments, {restarter.lives['graceful']} restarts: {looks[-1]}", flush=True)
    first, last = looks[0], looks[-1]
    assert last.memory[parent] - first.memory[parent] < 1024 or place.SANITIZE, (first, last)
    assert last.descriptors.get(parent, 0) <= first.descriptors.get(parent, 0), (first, last)
    assert len(last.segments) == len(first.segments)
