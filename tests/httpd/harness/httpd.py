# SPDX-License-Identifier: Apache-2.0
"""One Apache httpd on loopback, with a server root of its own."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import log, place, system, wait

RESUMING = "resuming normal operations"
STATIC_MODULES = {"core", "so", "watchdog", "http", "log_config", "logio", "version", "unixd"}


def load_module(name):
    """The LoadModule line of one of httpd's own modules, "" where it is built in."""
    return "" if name in STATIC_MODULES else f'LoadModule {name}_module "{place.MODULES}/mod_{name}.so"\n'


class StartError(AssertionError):
    """httpd did not start; the text says what it wrote."""


class Httpd:
    """
    A server with the event MPM and several children, in a session of its own. `expect_log` announces lines at warn or
    above; every other such line fails the test, at `check_log()` or at the stop.
    """

    modules = ("mpm_event", "authz_core")
    strict = True  # False for stand-ins: only crashes and sanitizers' findings count

    def __init__(self, name, body="", modules=(), processes=2, threads=32, log_level="info", environment=None,
                 allow=(), leaks=True):
        self.name = name
        self.leaks = leaks and self.strict
        self.body = body
        self.extra_modules = tuple(modules)
        self.processes, self.threads, self.log_level = processes, threads, log_level
        self.environment = dict(environment or {})
        self.port = system.free_port()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="iscep-httpd-"))
        self.root.chmod(0o755)
        for directory in ("run", "htdocs"):
            (self.root / directory).mkdir()
        static = self.root / "htdocs" / "static.txt"
        static.write_text("static\n")
        os.utime(static, (1e9, 1e9))  # old, so that caches hold it to be fresh for long
        self.config_file = self.root / "httpd.conf"
        self.error_log = self.root / "error.log"
        self.access_log = self.root / "access.log"
        self.process = None
        self.is_up = False
        self.makers = set()
        self.before = set()
        self.generation = 0
        self.expected, self.allowed = [], []
        self.always_allowed = list(allow)
        self.checked = {}

    # configuration

    def limits(self):
        most = self.processes * self.threads
        return (f"ServerLimit {self.processes}\nStartServers {self.processes}\nThreadsPerChild {self.threads}\n"
                f"ThreadLimit {self.threads}\nMaxRequestWorkers {most}\nMinSpareThreads 1\nMaxSpareThreads {most}\n")

    def config(self):
        """The whole configuration."""
        names = dict.fromkeys(self.modules + self.extra_modules)
        user = f"User {place.SERVER_USER}\nGroup {place.SERVER_USER}\n" if place.IS_ROOT else ""
        return ("".join(load_module(name) for name in names) + self.module_lines()
                + f'Define ROOT "{self.root}"\nServerRoot "{self.root}"\nDefaultRuntimeDir run\n'
                + 'PidFile run/httpd.pid\nServerName localhost\n'
                + f'Listen 127.0.0.1:{self.port}\nDocumentRoot "{self.root}/htdocs"\n{user}{self.limits()}'
                + f'ErrorLog error.log\nLogLevel {self.log_level}\n'
                + 'LogFormat "%h \\"%r\\" %>s %b %D" short\nCustomLog access.log short\n' + self.body)

    def module_lines(self):
        return ""

    def write_config(self):
        self.config_file.write_text(self.config())

    # running

    def command(self, *arguments):
        # what it finds goes to stderr.log, and so fails the test
        valgrind = ["valgrind", "-q", "--vgdb=no", "--num-callers=24"] if place.VALGRIND and self.strict else []
        return [*valgrind, place.APACHE, "-d", str(self.root), "-f", str(self.config_file), *arguments]

    def child_environment(self):
        # mod_ssl takes memory while it is loaded, which only whole stacks tell from ours
        found = place.sanitizer_environment(self.leaks, "mod_ssl.so" in self.config())
        return {**os.environ, **found, **self.environment}

    def run_tool(self, *arguments, seconds=30):
        """httpd as a command that ends: -t, -D DUMP_CONFIG."""
        environment = {**self.child_environment(), **place.sanitizer_environment()}
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, errors="replace",
                              env=environment, timeout=seconds * place.SLOWNESS, check=False)

    def start(self, write=True):
        if write:
            self.write_config()
        self.is_up = False
        self.before = system.shared_things()
        self.generation = len(self.lines(RESUMING))
        with open(self.root / "stderr.log", "ab") as stderr:
            self.process = subprocess.Popen(self.command("-DFOREGROUND"), stdin=subprocess.DEVNULL, stdout=stderr,
                                            stderr=stderr, env=self.child_environment(), start_new_session=True)
        wait.until(self._is_up_or_dead, f"httpd {self.name} to listen", 20)
        if self.process.poll() is not None:
            text, code = self.tail(), self.process.returncode
            self._remove()
            raise StartError(f"httpd {self.name} ended with {code}:\n{text}")
        self.is_up = True
        return self

    def _is_up_or_dead(self):
        if self.process.poll() is not None:
            return True
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return len(self.lines(RESUMING)) > self.generation and len(self.children()) >= self.processes

    def children(self):
        return system.children_of(self.process.pid)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def restart_gracefully(self):
        """SIGUSR1; returns once the new generation is there."""
        count = len(self.lines(RESUMING))
        self.signal(signal.SIGUSR1)
        wait.until(lambda: len(self.lines(RESUMING)) > count, "a graceful restart", 30)

    def kill(self):
        """SIGKILL to all its processes, the parent first, as a power cut has it. start() brings it back."""
        session = self.process.pid
        self.is_up = False
        self.makers |= {session, *self.children()}
        self.process.kill()
        self.process.wait()
        while left := system.session_processes(session):
            for process in left:
                self.kill_one(process)
        system.remove_segments(self.makers)

    @staticmethod
    def kill_one(process):
        """SIGKILL; whether it was still there."""
        try:
            os.kill(process, signal.SIGKILL)
            return True
        except ProcessLookupError:
            return False

    def settle(self, seconds=0.5):
        """
        Waits until the workers are done with their connections, if they are at all. The event MPM's own "close all" of
        a plain stop (close_worker_sockets(), 2.4.71) may crash over a connection that its worker frees at that moment.
        """
        deadline = time.monotonic() + seconds
        while system.connections_of(self.port) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.01)  # from close() to where the worker forgets the socket there is nothing to be seen

    def wait_for_end(self, seconds=20):
        try:
            self.process.wait(seconds * place.SLOWNESS)
        except subprocess.TimeoutExpired:
            self.makers |= set(self.children())
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            text = f"httpd {self.name} did not stop in {seconds} s; its log ends:\n{self.tail()}"
            raise AssertionError(text) from None

    def stop(self, check=True):
        """Stops the server, and asserts that it leaves nothing behind and logged nothing that was not announced."""
        if self.process is None:
            return
        try:
            self.makers |= {self.process.pid, *self.children()}
            if self.process.poll() is None:
                self.settle()
                self.signal(signal.SIGTERM)
            self.wait_for_end()
            if check:
                self.check_leftovers()
                self.check_log()
        finally:
            self._remove()

    def check_leftovers(self):
        wait.until(lambda: not system.session_processes(self.process.pid),
                   lambda: f"the end of {system.session_processes(self.process.pid)}", 5)
        wait.until(lambda: not system.leaked(self.before, self.makers),
                   lambda: f"{system.leaked(self.before, self.makers)} to vanish", 3)

    def _remove(self):
        keep = os.environ.get("ISCEP_KEEP")
        if keep:
            shutil.copytree(self.root, pathlib.Path(keep) / self.root.name, dirs_exist_ok=True, symlinks=True,
                            ignore=shutil.ignore_patterns("*.sock"))
        shutil.rmtree(self.root, ignore_errors=True)
        if self.process is not None and self.process.poll() is not None:
            self.process = None

    # logs

    def text(self, path):
        try:
            return path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def output(self):
        """All that httpd said: standard error and error log."""
        return self.text(self.root / "stderr.log") + self.text(self.error_log)

    def tail(self, count=30):
        return "\n".join(self.output().splitlines()[-count:])

    def lines(self, regex=""):
        """The error log's lines that match."""
        return [line for line in self.text(self.error_log).splitlines() if re.search(regex, line)]

    def wait_log(self, regex, count=1, seconds=10):
        """The matching lines, once there are at least `count`."""
        return wait.until(lambda: self.lines(regex) if len(self.lines(regex)) >= count else None,
                          lambda: f"{count} line(s) /{regex}/ in the log, which ends:\n{self.tail()}", seconds)

    def expect_log(self, regex):
        """Announces a line at warn or above; it must come before the next check."""
        self.expected.append(regex)

    def allow_log(self, regex):
        """Announces a line that may come."""
        self.allowed.append(regex)

    def _new_bad_lines(self):
        found = []
        for path in (self.root / "stderr.log", self.error_log):
            new = self.text(path)[self.checked.get(path, 0):].splitlines()
            found += [line for line in new if (log.is_bad(line) if self.strict else log.BAD_WORDS.search(line))]
        return found

    def check_log(self):
        """Asserts that every bad line since the last check was announced, and that every expected one came."""
        expected, allowed = self.expected, self.allowed
        self.expected, self.allowed = [], []

        def absent():
            return [regex for regex in expected if not any(re.search(regex, line) for line in self._new_bad_lines())]
        wait.until(lambda: not absent(), lambda: f"{absent()} in the log of {self.name}, which ends:\n{self.tail()}", 3)
        bad = self._new_bad_lines()
        self.checked = {path: len(self.text(path)) for path in (self.root / "stderr.log", self.error_log)}
        surprising = [line for line in bad if not any(re.search(regex, line) for regex in expected + allowed + self.always_allowed)]
        assert not surprising, f"httpd {self.name} logged what nobody announced:\n" + "\n".join(surprising[:20])
