# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL cluster of the test's own, on a free loopback port. Debian's own cluster is never touched."""
import itertools
import os
import pathlib
import shutil
import signal
import subprocess

from . import place, system, wait

USER = "postgres"
# Small, but as durable as by default. Nothing is left in /dev/shm, and nobody connects but by loopback.
OPTIONS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on", "synchronous_commit": "on",
           "shared_buffers": "16MB", "max_connections": "200", "wal_level": "minimal", "max_wal_senders": "0",
           "dynamic_shared_memory_type": "mmap", "logging_collector": "off", "max_wal_size": "256MB"}
STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def programs():
    """The directory of the newest version's programs, or None."""
    found = [path.parent for path in pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    beside = shutil.which("initdb")
    found += [pathlib.Path(beside).resolve().parent] if beside else []
    return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, default=None)


class Postgres:
    """As root it runs as the user `postgres`, else as oneself; anybody on loopback may be its superuser."""

    def __init__(self, directory):
        self.data, self.log = directory / "postgres", directory / "postgres.log"
        self.port = system.free_port()
        self.process = None
        self._numbers = itertools.count(1)
        self._as_user = {"user": USER, "group": USER, "extra_groups": []} if place.IS_ROOT else {}
        self.data.mkdir(mode=0o700)
        if place.IS_ROOT:
            shutil.chown(self.data, USER, USER)
        self._run("initdb", "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync",
                  "--no-instructions")

    @staticmethod
    def is_there():
        return programs() is not None

    def _command(self, program, *arguments):
        return [str(programs() / program), *map(str, arguments)]

    def _run(self, program, *arguments):
        done = subprocess.run(self._command(program, *arguments), capture_output=True, text=True, cwd="/",
                              timeout=60 * place.SLOWNESS, check=False, **self._as_user)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout

    # running

    def start(self):
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._command("postgres", "-D", self.data, "-p", self.port, *options),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                            start_new_session=True, **self._as_user)
        wait.until(self._is_up, "PostgreSQL to take connections", 30)
        return self

    def _is_up(self):
        assert self.process.poll() is None, f"PostgreSQL ended:\n{self.log.read_text(errors='replace')[-2000:]}"
        done = subprocess.run(self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port), check=False)
        return done.returncode == 0

    def stop(self, mode="fast"):
        """`fast`: as an administrator stops it; `immediate`: without a checkpoint, as if the machine had stopped."""
        if self.process is None:
            return
        self.go_on()
        self.process.send_signal(STOPS[mode])
        self.process.wait(30 * place.SLOWNESS)
        self.process = None

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def _processes(self):
        # each of its processes is a session of its own
        return [self.process.pid, *system.children_of(self.process.pid)] if self.process else []

    def _signal_all(self, number):
        for process in self._processes():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass

    def pause(self):
        """It takes connections, as the kernel does, and answers nothing."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self):
        self._signal_all(signal.SIGCONT)

    # databases

    def database(self, name="journal"):
        """A new, empty database; the text that libpq wants to connect to it."""
        name = f"{name}_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}", "template1")
        return self.conninfo(name)

    def conninfo(self, name):
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={name}"

    def sql(self, text, database):
        """What psql prints: a row a line, values separated by |. `database`: a name or what database() gave."""
        where = database if "=" in database else self.conninfo(database)
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", where, "-c", text)
