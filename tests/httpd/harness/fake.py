# SPDX-License-Identifier: Apache-2.0
"""A web server that answers with whatever a test wants, byte for byte."""
import socketserver
import threading


class FakeServer:
    """Reads one request for each connection and writes the bytes of `answer`, a value or a function of the request."""

    def __init__(self, answer):
        fake = self
        self.answer, self.requests = answer, []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                fake.serve(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 64
        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def serve(self, rfile, wfile):
        head, length = b"", 0
        for line in iter(rfile.readline, b""):
            head += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            if line in (b"\r\n", b"\n"):
                break
        if not head:
            return
        self.requests.append(head + rfile.read(length))
        answer = self.answer(self.requests[-1]) if callable(self.answer) else self.answer
        try:
            for part in [answer] if isinstance(answer, bytes) else answer:
                wfile.write(part)
                wfile.flush()
        except OSError:
            pass

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/ca"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def http_answer(body, status="200 OK", content_type="application/x-pki-message", extra=""):
    """A whole HTTP/1.1 answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return f"{head}{extra}\r\n".encode() + body
