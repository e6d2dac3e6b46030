# SPDX-License-Identifier: Apache-2.0
"""Forward proxies: Debian's tinyproxy, and a small one that remembers where it was asked to lead."""
import base64
import re
import shutil
import socket
import subprocess
import threading

from . import pki, place, system, wait


class TinyProxy:
    """tinyproxy on loopback, with basic authentication if `user` and `password` are given."""

    program = "tinyproxy"

    def __init__(self, directory, user=None, password=None):
        self.directory = directory
        directory.mkdir()
        self.port = system.free_port()
        self.log = directory / "log"
        self.config = directory / "tinyproxy.conf"
        basic = f"BasicAuth {user} {password}\n" if user else ""
        # Tinyproxy keeps an idle client for `Timeout` seconds, and ends only then.
        pki.write_secret(self.config, f'Port {self.port}\nListen 127.0.0.1\nTimeout 60\nLogFile "{self.log}"\n'
                                      f"LogLevel Connect\nMaxClients 100\nAllow 127.0.0.1\n{basic}")
        self.process = None

    @classmethod
    def is_there(cls):
        return shutil.which(cls.program) is not None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        with open(self.directory / "stderr", "ab") as stderr:
            self.process = subprocess.Popen([self.program, "-d", "-c", str(self.config)], stdin=subprocess.DEVNULL,
                                            stdout=stderr, stderr=stderr, start_new_session=True)
        wait.until(self._is_up, "tinyproxy to listen")
        return self

    def _is_up(self):
        assert self.process.poll() is None, (self.directory / "stderr").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def tunnels(self):
        """Host and port of each CONNECT so far."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return re.findall(r"CONNECT (\S+:\d+) HTTP", text)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


class RecordingProxy:
    """
    Leads every CONNECT to one port on loopback, wherever it was meant for, and remembers that. With a user, it wants
    them and their password.
    """

    def __init__(self, port, user=None, password=None):
        self.leads_to = port
        self.wanted = b"Basic " + base64.b64encode(f"{user}:{password}".encode()) if user else b""
        self.targets = []
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(client)
            self._start(self._serve, client)

    def _start(self, act, *arguments):
        thread = threading.Thread(target=act, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    @staticmethod
    def _read_head(client):
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(4096)
            if not more:
                return None
            head += more
        return head

    def _serve(self, client):
        head = self._read_head(client)
        while head and self.wanted not in head:
            client.sendall(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
            head = self._read_head(client)
        if not head:
            return
        method, target = head.split(b" ")[:2]
        assert method == b"CONNECT", head
        self.targets.append(target.decode())
        server = socket.create_connection(("127.0.0.1", self.leads_to))
        self.sockets.append(server)
        client.sendall(b"HTTP/1.1 200 Led\r\n\r\n")
        self._start(self._pump, server, client)
        self._pump(client, server)

    @staticmethod
    def _pump(source, sink):
        try:
            for data in iter(lambda: source.recv(65536), b""):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        for one in [self.listener, *self.sockets]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        for thread in self.threads:
            thread.join(5 * place.SLOWNESS)
