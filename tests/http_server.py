"""What the servers of these tests share: answers in JSON, and a thread that ends with the test."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any


class QuietServer(ThreadingHTTPServer):
    """A server on this machine to which a client that hangs up is no error."""

    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def send_content(self, status: int, content: Any) -> None:
        """Send JSON of an object, or bytes as they are; hang up for None."""
        if content is None:
            self.close_connection = True
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    """Serve in a thread; nothing of it is left behind."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
