# SPDX-License-Identifier: Apache-2.0
"""A wire-tap between a device and a server: it keeps what passes."""
import base64
import dataclasses
import http.client
import http.server
import os
import pathlib
import shutil
import threading
import urllib.parse

from . import cms, place

HOP_HEADERS = ("connection", "keep-alive", "transfer-encoding")


@dataclasses.dataclass
class Exchange:
    """One request and its answer."""
    method: str
    target: str
    headers: dict
    body: bytes
    status: int = 0
    answer: bytes = b""

    @property
    def query(self):
        """The query's parameters as sent, names in lower case."""
        pairs = [pair.partition("=") for pair in urllib.parse.urlsplit(self.target).query.split("&")]
        return {name.lower(): value for name, _, value in pairs}

    @property
    def operation(self):
        return self.query.get("operation", "").lower()

    @property
    def message(self):
        """The PKIMessage, however it was sent."""
        if self.method == "POST":
            return self.body
        return base64.b64decode(urllib.parse.unquote(self.query["message"]))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def _pass_on(self):
        tap = self.server.tap
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        exchange = Exchange(self.command, self.path, dict(self.headers.items()), body)
        tap.exchanges.append(exchange)
        upstream = http.client.HTTPConnection("127.0.0.1", tap.port_behind, timeout=30 * place.SLOWNESS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
        upstream.request(self.command, self.path, body or None, headers)
        response = upstream.getresponse()
        exchange.status, exchange.answer = response.status, response.read()
        upstream.close()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP_HEADERS + ("content-length",):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(exchange.answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(exchange.answer)
        self.close_connection = True

    do_GET = do_POST = _pass_on


class Tap:
    """Listens on `port` and passes everything on to `port_behind`."""

    def __init__(self, port_behind):
        self.port_behind = port_behind
        self.exchanges = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.tap = self
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def operations(self):
        """The PKIOperations in their order."""
        return [exchange for exchange in self.exchanges if exchange.operation == "pkioperation"]

    def capture(self, name, profile):
        """
        With ISCEP_CAPTURE, a directory: the last message goes there, the content key that the RA's key finds in it, and
        the query of a GET as it was sent; and the RA's and the CA's certificates.
        """
        directory = os.environ.get("ISCEP_CAPTURE")
        if not directory or not self.operations():
            return
        exchange = self.operations()[-1]
        path = pathlib.Path(directory, name)
        path.with_suffix(".der").write_bytes(exchange.message)
        if exchange.method == "GET":
            path.with_suffix(".query").write_text(urllib.parse.urlsplit(exchange.target).query + "\n")
        path.with_suffix(".cek").write_text(cms.content_key(exchange.message, profile.ra_key).hex() + "\n")
        shutil.copyfile(profile.ra_certificate, path.with_name("ra.pem"))
        shutil.copyfile(profile.chain, path.with_name("ca.pem"))
