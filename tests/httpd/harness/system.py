# SPDX-License-Identifier: Apache-2.0
"""What a server may leave behind on the machine: processes, shared memory, semaphores."""
import contextlib
import os
import pathlib
import random
import re
import socket
import subprocess

_ports = set()


def free_port():
    """
    A loopback port that nobody listens on, never given twice. It is below those that the kernel gives to connections, so
    that a server which is started again finds it free; and in the share of them (ISCEP_PORTS, such as 1/4) that is this
    process's, where several run beside each other.
    """
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    number, shares = map(int, os.environ.get("ISCEP_PORTS", "1/1").split("/"))
    while True:
        port = 10000 + random.randrange(number - 1, max(lowest, 20000) - 10000, shares)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _ports:
            _ports.add(port)
            return port


def connections_of(port):
    """How many connections a server on this loopback port still holds open; those that only wait to be forgotten aside."""
    ended = {"06", "07", "0A"}  # TIME_WAIT, CLOSE, and LISTEN
    local = f"0100007F:{port:04X}"
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[1] == local and fields[3] not in ended for fields in map(str.split, lines))


def session_processes(session):
    """
    Process ids of a session (as setsid() makes it), zombies of other parents excepted: but one whose threads have not all
    ended yet may still have its sockets.
    """
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, threads = fields[0], int(fields[17])
        if int(fields[3]) == session and (state != "Z" or threads > 1):
            found.append(int(entry.name))
    return found


def children_of(parent):
    """Process ids of the parent's children."""
    try:
        return [int(pid) for pid in pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


def _table(name):
    try:
        lines = pathlib.Path("/proc/sysvipc", name).read_text().splitlines()
    except OSError:
        return []
    head = lines[0].split()
    return [dict(zip(head, line.split())) for line in lines[1:]]


def shared_things():
    """A set that names all SysV segments, semaphores and objects in /dev/shm; segments with their maker's process id."""
    things = {("shm", row["shmid"], int(row["cpid"])) for row in _table("shm")}
    things |= {("sem", row["semid"], 0) for row in _table("sem")}
    # other people's directories and databases are there, too
    things |= {("file", path.name, 0) for path in pathlib.Path("/dev/shm").glob("*")
               if not path.is_dir() and not path.name.startswith(("iscep-", "PostgreSQL."))}
    return things


def _mapped():
    """The names of what living processes have mapped from /dev/shm."""
    names = set()
    for maps in pathlib.Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            names |= set(re.findall(r" /dev/shm/(\S+)", maps.read_text()))
    return names


def leaked(before, makers):
    """
    What came since `before` and is the makers', who have ended: a segment's maker is known; a file that a living process has
    mapped is of another server; for the others it is anybody.
    """
    came = {thing for thing in shared_things() - before if thing[2] == 0 or thing[2] in makers}
    if any(kind == "file" for kind, _, _ in came):
        mapped = _mapped()
        came = {thing for thing in came if thing[0] != "file" or thing[1] not in mapped}
    return came


def remove_segments(makers):
    """The System V segments that killed processes could not remove themselves."""
    for kind, number, maker in shared_things():
        if kind == "shm" and maker in makers:
            subprocess.run(["ipcrm", "-m", number], check=False, capture_output=True)
