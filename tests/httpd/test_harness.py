# SPDX-License-Identifier: Apache-2.0
"""The crash tests' tools themselves: they must be able to see what they are there to see."""
import collections
import http.server
import mmap
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest

from harness import persistent, place, shadow, system, wait
from harness.persistent import FAILURE, SUCCESS, Fleet, Manner, Persistent


@pytest.fixture(autouse=True)
def fresh():
    """No stand-ins are needed here."""


# What was synced

# Commits rows one by one and tells each number; `kill` after the last.
WRITER = """
import os, signal, sqlite3, sys, time
place, synchronous, count, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
database = sqlite3.connect(place, isolation_level=None, timeout=60)
database.execute("PRAGMA journal_mode = WAL")
database.execute(f"PRAGMA synchronous = {synchronous}")
database.execute("CREATE TABLE IF NOT EXISTS rows (process INTEGER, number INTEGER, text TEXT)")
for number in range(count):
    database.execute("INSERT INTO rows VALUES (?, ?, ?)", (os.getpid(), number, "x" * 500))
    os.write(1, b"%d %d\\n" % (os.getpid(), number))  # whole, or not at all
    if stop == "yield":
        time.sleep(0.002)  # SQLite does not queue: who writes without a pause starves the others
if stop == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
database.close()
"""


class Writer:
    def __init__(self, scratch):
        self.state = scratch / "state"
        self.state.mkdir()
        self.database = self.state / "journal.sqlite"
        self.shadow = shadow.Shadow(self.state)

    def run(self, synchronous, count, stop="kill"):
        """The rows whose commits returned."""
        process = self.start(synchronous, count, stop)
        told, error = process.communicate(timeout=60 * place.SLOWNESS)
        assert process.returncode == (-signal.SIGKILL if stop == "kill" else 0), error
        return told.splitlines()

    def start(self, synchronous, count, stop):
        return subprocess.Popen([sys.executable, "-c", WRITER, self.database, synchronous, str(count), stop], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, **self.shadow.environment})

    def rows(self):
        with sqlite3.connect(self.database) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return [f"{process} {number}" for process, number in database.execute("SELECT process, number FROM rows")]


@pytest.fixture
def writer(scratch):
    made = Writer(scratch)
    yield made
    made.shadow.remove()


def test_what_was_committed_in_full_is_in_the_copy(writer):
    told = writer.run("FULL", 50)
    assert {"journal.sqlite", "journal.sqlite-wal"} <= set(writer.shadow.files())
    assert "journal.sqlite-shm" not in writer.shadow.files()
    writer.shadow.restore()
    assert writer.rows() == told and len(told) == 50


def test_what_was_not_synced_is_not_in_the_copy(writer):
    """The proof that the copy can tell: without a power cut all of it is there."""
    told = writer.run("FULL", 10)
    told += writer.run("NORMAL", 50)
    writer.shadow.restore()
    assert writer.rows() == told[:10]


def test_without_the_copy_nothing_is_lost(writer):
    """kill -9 alone does not show the difference."""
    told = writer.run("NORMAL", 50)
    assert writer.rows() == told


def test_checkpoints_and_a_clean_end(writer):
    """The log is carried over into the database, begun again, and removed."""
    told = writer.run("FULL", 1500, "close")
    assert not (writer.state / "journal.sqlite-wal").exists()
    assert writer.shadow.files() == ["journal.sqlite"]
    told += writer.run("FULL", 5)
    writer.shadow.restore()
    assert writer.rows() == told


def test_several_processes(writer):
    """At no moment does the copy lack a commit that returned, whoever synced last."""
    writer.run("FULL", 1, "close")
    processes = [writer.start("FULL", 10_000, "yield") for _ in range(3)]
    told = [[] for _ in processes]

    def read(number):
        for line in processes[number].stdout:
            told[number].append(line.strip())
    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    def written():
        ended = [process.stderr.read() for process in processes if process.poll() is not None]
        assert not ended, ended
        return min(map(len, told)) > 40
    wait.until(written, lambda: f"commits of all, got {list(map(len, told))}", 30)
    for process in processes:
        process.kill()
        process.wait()
    for reader in readers:
        reader.join()
    writer.shadow.restore()
    kept = writer.rows()
    assert not set(sum(told, [])) - set(kept)


def test_names(writer):
    """A state key as the module makes it: written, synced, linked to its name."""
    script = """
import os, sys
os.chdir(sys.argv[1])
here = os.open(".", os.O_RDONLY)
def write(name, sync):
    with open(name, "w") as file:
        file.write(name)
        file.flush()
        if sync:
            os.fsync(file.fileno())
write("key.1", True)
os.link("key.1", "key", src_dir_fd=here, dst_dir_fd=here)
os.unlink("key.1", dir_fd=here)
write("a", True)
os.rename("a", "b")
write("never", False)
os.rename("never", "ever")
write("gone", True)
os.unlink(os.path.join(sys.argv[1], "gone"))
os.mkdir("sub")
write("sub/deep", True)
"""
    subprocess.run([sys.executable, "-c", script, writer.state], check=True,
                   env={**os.environ, **writer.shadow.environment})
    assert writer.shadow.files() == ["b", "key"]
    assert (writer.shadow.copy / "key").read_text() == "key.1" and (writer.shadow.copy / "b").read_text() == "a"


# A small disk


def test_a_disk_is_full_and_has_room_again(disk):
    before = disk.free_bytes()
    disk.fill()
    assert disk.free_bytes() == 0
    with pytest.raises(OSError, match="No space left"):
        (disk.directory / "more").write_bytes(b"x" * 8192)
    (disk.directory / "more").unlink()
    disk.free()
    assert disk.free_bytes() == before > 10 << 20


def test_sqlite_on_a_full_disk(disk):
    database = sqlite3.connect(disk.directory / "journal.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE rows (text TEXT)")
    disk.fill()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for _ in range(100):
            database.execute("INSERT INTO rows VALUES (?)", ("x" * 4000,))
    disk.free()
    database.execute("INSERT INTO rows VALUES ('room')")
    database.close()


# PostgreSQL


def test_postgres_keeps_what_was_committed(postgres):
    name = postgres.database()
    assert postgres.database() != name
    postgres.sql("CREATE TABLE rows (number INTEGER)", name)
    postgres.sql("INSERT INTO rows VALUES (1)", name)
    processes = postgres.process.pid
    postgres.restart("immediate")
    assert postgres.process.pid != processes
    assert postgres.sql("SELECT number FROM rows", name) == "1\n"
    postgres.stop()
    with pytest.raises(AssertionError, match="refused"):
        postgres.sql("SELECT 1", name)
    postgres.start()


def test_postgres_pauses(postgres):
    name = postgres.database()
    postgres.pause()
    asking = subprocess.Popen(["psql", "-X", "-A", "-t", "-d", name, "-c", "SELECT 7"], text=True,
                              stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        asking.wait(0.5)
    postgres.go_on()
    assert asking.communicate(timeout=20)[0] == "7\n"


# Devices that do not give up


def certrep(status):
    """So much of a CertRep as a device looks at before it opens it."""
    return b"0\x82\x01\x00 signed \x06\x0a\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x03\x31\x03\x13\x01" + status


class Script(http.server.ThreadingHTTPServer):
    """Answers each message by the list of answers for its transaction; the last one again and again."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = {name: collections.deque(answers) for name, answers in script.items()}
        self.seen = collections.defaultdict(list)

    def next(self, message):
        transaction, _, kind = message.partition(b"/")
        self.seen[transaction].append(kind)
        answers = self.script[transaction]
        return answers.popleft() if len(answers) > 1 else answers[0]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def do_POST(self):
        answer = self.server.next(self.rfile.read(int(self.headers["Content-Length"])))
        if answer == "drop":
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Message:
    """As device.Message."""

    csr_sha256 = "c5" * 32

    def __init__(self, transaction, kind):
        self.transaction, self.der = transaction, f"{transaction}/{kind}".encode()

    def post(self, port, timeout):
        return persistent.device.client.request(port, "POST", "/", self.der, timeout=timeout)


COME_BACK = (503, {"Retry-After": "30"}, b"")
DONE, REFUSED, WAITING = ((200, {}, certrep(digit)) for digit in (b"0", b"2", b"3"))


@pytest.fixture
def run():
    """Lets devices run before a script; returns them by name, and what the server saw."""
    def start(script, manner=Manner(cap=0.05, reconnect=0.02), seconds=20):
        server = Script({name.encode(): answers for name, answers in script.items()})
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        made = [Persistent([Message(name, "first"), Message(name, "again")], [Message(name, "poll")],
                           [server.server_port], manner, name) for name in script]
        fleet = Fleet(made, workers=4).start()
        ended = fleet.wait(seconds)
        fleet.stop()
        server.shutdown()
        server.server_close()
        assert ended, made
        return {single.transaction: single for single in made}, server.seen
    return start


def test_devices_persist(run):
    devices, seen = run({"quick": [DONE], "slow": [COME_BACK] * 5 + [DONE], "refused": [COME_BACK, REFUSED],
                         "cut": ["drop", "drop", DONE], "pending": [WAITING] * 10 + [DONE], "wrong": [(400, {}, b"no")],
                         "ill": [(502, {}, b""), DONE]})
    ends = {name: single.end for name, single in devices.items()}
    assert ends == {"quick": SUCCESS, "slow": SUCCESS, "refused": FAILURE, "cut": SUCCESS, "pending": SUCCESS,
                    "wrong": "HTTP 400", "ill": SUCCESS}
    assert seen[b"quick"] == [b"first"] and len(devices["slow"].heard) == 6
    assert seen[b"pending"][0] == b"first" and seen[b"pending"].count(b"poll") >= 3
    assert [heard.status for heard in devices["cut"].heard] == [0, 0, 200] and devices["cut"].heard[0].error
    assert all(heard.asked <= heard.time for heard in devices["slow"].heard)
    assert devices["slow"].ended_at == devices["slow"].heard[-1].time


def test_devices_repeat_themselves(run):
    devices, seen = run({"twin": [DONE]}, Manner(cap=0.05, twins=1, repeats=3, fresh=1))
    assert len(seen[b"twin"]) >= 4 and b"again" in seen[b"twin"] and devices["twin"].legs == 2


def test_devices_go_elsewhere():
    servers = [Script({b"x": [COME_BACK]}), Script({b"x": [COME_BACK, COME_BACK, DONE]})]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    single = Persistent([Message("x", "first")], [], [server.server_port for server in servers], Manner(cap=0.01), 1)
    assert Fleet([single], workers=1).start().wait(20)
    for server in servers:
        server.shutdown()
        server.server_close()
    assert len(servers[0].seen[b"x"]) in (2, 3) and len(servers[1].seen[b"x"]) == 3


def test_devices_hang_up():
    ear = socket.create_server(("127.0.0.1", 0))
    single = Persistent([Message("x", "first")], [], [ear.getsockname()[1]], Manner(hang_up=1), 1)
    assert single.step() is not None
    ear.close()
    (heard,) = single.heard
    assert heard.hung_up and heard.status == 0
    assert single.step() is not None and not single.heard[1].hung_up, "a connection that is refused is no hanging up"


def test_shared_memory_that_nobody_has_mapped_is_left_over():
    before = system.shared_things()
    path = pathlib.Path("/dev/shm", f"ShM.{os.getpid():x}test")
    try:
        path.write_bytes(bytes(4096))
        assert ("file", path.name, 0) in system.leaked(before, set())
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4096):
            assert ("file", path.name, 0) not in system.leaked(before, set())
        assert ("file", path.name, 0) in system.leaked(before, set())
    finally:
        path.unlink()
