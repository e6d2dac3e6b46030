# SPDX-License-Identifier: Apache-2.0
"""HTTP as devices speak it: whole requests, and raw bytes where http.client is too polite."""
import base64
import dataclasses
import http.client
import json
import socket
import time
import urllib.parse

from . import place

TIMEOUT = 30


@dataclasses.dataclass
class Answer:
    """An HTTP answer; `time` is the wall clock in microseconds when it was complete."""
    status: int
    headers: dict
    body: bytes
    time: int
    seconds: float

    @property
    def retry_after(self):
        return int(self.headers["retry-after"])

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")


def _answer(response, started):
    body = response.read()
    headers = {}
    for name, value in response.getheaders():
        headers[name.lower()] = value
    return Answer(response.status, headers, body, int(time.time() * 1e6), time.monotonic() - started)


def request(port, method, target, body=None, headers=None, timeout=TIMEOUT, connection=None):
    """One request on a connection of its own, or on `connection`."""
    own = connection is None
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=timeout * place.SLOWNESS)
    started = time.monotonic()
    try:
        connection.request(method, target, body, headers or {})
        return _answer(connection.getresponse(), started)
    finally:
        if own:
            connection.close()


def raw(port, *parts, method="GET", timeout=TIMEOUT):
    """Sends the parts as they are and reads one answer. A part that is a callable gets the socket."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout * place.SLOWNESS) as sock:
        for part in parts:
            if callable(part):
                part(sock)
            else:
                sock.sendall(part)
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        return _answer(response, started)


def raw_get(port, target):
    """GET with a request target that nobody escapes."""
    target = target.encode("latin-1") if isinstance(target, str) else target
    return raw(port, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def post_json(port, target, value, headers=None):
    """A control request to a stand-in; the answer's JSON, {} where it has none."""
    answer = request(port, "POST", target, json.dumps(value), {"Content-Type": "application/json", **(headers or {})})
    assert answer.status < 300, f"{target} {value}: {answer.status} {answer.text[:300]}"
    try:
        return json.loads(answer.body or b"{}")
    except ValueError:
        return {}


def get_json(port, target):
    answer = request(port, "GET", target)
    assert answer.status == 200, f"{target}: {answer.status} {answer.text[:300]}"
    return json.loads(answer.body)


def pki_get_target(path, message):
    """GET PKIOperation as the RFC has it."""
    return f"{path}?operation=PKIOperation&message=" + urllib.parse.quote(base64.b64encode(message).decode(), safe="")
