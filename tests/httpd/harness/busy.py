# SPDX-License-Identifier: Apache-2.0
"""When the threads of a gateway were busy, by its own clock."""
import pathlib

from . import wait

# Begin and duration of each request in microseconds, the process, and the URL.
LOG = 'LogFormat "%{usec}t %D %P %U%q" busy\nCustomLog busy.log busy\n'


def rows(gateway, url):
    """(begin, end, process) of each request so far whose URL begins so."""
    lines = [line.split(" ", 3) for line in gateway.text(gateway.root / "busy.log").splitlines(keepends=True)]
    return [(int(begin), int(begin) + int(took), int(pid)) for begin, took, pid, of in lines
            if of.endswith("\n") and of.startswith(url)]


def wait_rows(gateway, url, count):
    """The rows, once there are so many: a line is written after its answer is sent."""
    return wait.until(lambda: rows(gateway, url) if len(rows(gateway, url)) >= count else None, f"{count} requests in the log")


def at_once(found):
    """How many of these requests had a thread at the same time, at most."""
    most = now = 0
    for _, step in sorted([(begin, 1) for begin, _, _ in found] + [(end + 1, -1) for _, end, _ in found]):
        now += step
        most = max(most, now)
    return most


def seconds(found):
    """How long each took."""
    return [(end - begin) / 1e6 for begin, end, _ in found]


def queued(gateway):
    """Seconds that the threads of the gateway's processes have waited for a processor so far; 0 where nobody counts."""
    total = 0
    for pid in gateway.children():
        for file in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(file.read_text().split()[1])
            except (OSError, IndexError):
                pass
    return total / 1e9
