# SPDX-License-Identifier: Apache-2.0
"""Caches outside the gateway's machine: redis and memcached, each on a loopback port of its own, without persistence."""
import os
import shutil
import signal
import socket
import subprocess

from . import system, wait


class Outside:
    """One server process; `name` is the socache provider's."""

    name = program = ""

    def __init__(self, directory):
        self.directory = directory
        self.port = system.free_port()
        self.process = None

    @classmethod
    def is_there(cls):
        return shutil.which(cls.program) is not None

    @property
    def provider(self):
        """The value of IntuneScepSharedCache."""
        return f"{self.name}:127.0.0.1:{self.port}"

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.directory / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, start_new_session=True)
        wait.until(self._is_up, f"{self.program} to listen")
        return self

    def _is_up(self):
        assert self.process.poll() is None, f"{self.program} ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stall(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self):
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


class Redis(Outside):
    name, program = "redis", "redis-server"

    def command(self):
        return [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", str(self.directory)]

    def cli(self, *arguments):
        """What redis-cli prints, as bytes, without the line end behind it."""
        done = subprocess.run(["redis-cli", "-p", str(self.port), "--raw", *arguments], capture_output=True, timeout=10,
                              check=True)
        return done.stdout[:-1]

    def values(self):
        """All that is kept: from key to value."""
        return {key: self.cli("GET", key.decode()) for key in self.cli("KEYS", "*").split(b"\n") if key}


class Memcached(Outside):
    name, program = "memcache", "memcached"

    def command(self):
        return [self.program, "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "8", "-t", "1", "-u", "nobody"]
