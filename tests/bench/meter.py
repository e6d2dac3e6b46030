# SPDX-License-Identifier: Apache-2.0
"""Clocks: processor time of groups of processes, the load generator, the floor, the disk."""
import json
import os
import pathlib
import statistics
import struct
import subprocess
import time

from harness import place, system

TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()


def process_seconds(pid):
    """Processor time of a process and of its children that have ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def group_seconds(leader):
    """The same for a server: its first process and that one's children."""
    return sum(process_seconds(pid) for pid in [leader, *system.children_of(leader)])


def idle_seconds():
    """For how long the machine's processors had nothing to do; what a hypervisor stole is not in it."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / TICK


class Syncs:
    """What tests/bench/sync_count.c counts in a server that has `environment`."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(16))
        path.chmod(0o666)

    @property
    def environment(self):
        # a sanitizer's library has to be the first
        preload = [place.sanitizer_environment().get("LD_PRELOAD", ""), str(place.need("tests/bench/sync_count.so"))]
        return {"LD_PRELOAD": " ".join(preload).strip(), "BENCH_SYNCS": str(self.path)}

    def read(self):
        """Calls, and the seconds they took."""
        calls, nanoseconds = struct.unpack("=QQ", self.path.read_bytes())
        return calls, nanoseconds / 1e9


def load(port, target, leaders=None, syncs=None, **options):
    """
    One run of the load generator; its summary, with `cpu`: from name to seconds for each leader, `idle`, and `syncs`.
    Options become the generator's: rate=100, close=True.
    """
    command = [str(place.need("tests/bench/load")), "--wait", "--port", str(port), "--target", target]
    for name, value in options.items():
        if value is True:
            command.append(f"--{name}")
        elif value is not None and value is not False:
            command += [f"--{name}", str(value)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n", "the load generator did not start"
        before, synced = _snapshot(leaders), syncs.read() if syncs else (0, 0)
        process.stdin.write("go\n")
        process.stdin.close()
        text = process.stdout.read()
        after = _snapshot(leaders)
    assert process.returncode == 0, f"the load generator ended with {process.returncode}"
    found = json.loads(text)
    found["load"] = found.pop("cpu")
    found["idle"] = after.pop("idle") - before.pop("idle")
    found["cpu"] = {name: after[name] - before[name] for name in after}
    if syncs:
        calls, seconds = syncs.read()
        found["syncs"], found["sync_seconds"] = calls - synced[0], seconds - synced[1]
    return found


def _snapshot(leaders):
    found = {name: group_seconds(pid) for name, pid in (leaders or {}).items()}
    found["idle"] = idle_seconds()
    return found


def floor(count, threads=CORES, environment=None):
    """Milliseconds of processor time for the bare RSA operations of an enrolment, all processors being at it."""
    done = subprocess.run([str(place.need("tests/bench/floor")), str(count), str(threads)], check=True, text=True,
                          capture_output=True, env={**os.environ, **(environment or {})})
    return json.loads(done.stdout)


def fsync_milliseconds(directory, count=50):
    """The median time of an fdatasync() after 4 kB were added to a file there."""
    path = pathlib.Path(directory) / "fsync-probe"
    times = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(times) * 1000


def machine():
    """Facts that belong beside every figure."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "?")

    def version(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0].strip()
        except (OSError, IndexError):
            return "?"
    return {"model": model, "cores": CORES, "ifma": "avx512ifma" in cpu.split(), "kernel": os.uname().release,
            "openssl": version("openssl", "version"), "httpd": version(place.APACHE, "-v"),
            "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")}
