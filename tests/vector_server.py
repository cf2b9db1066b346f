"""A server of embeddings in the shapes of vLLM, llama.cpp or Ollama, whose every answer can be replaced."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from tests.http_server import JsonHandler, QuietServer, serving

Body = dict[str, Any]
Reply = tuple[int, Any]
"""Status, and what is sent: JSON of an object, bytes as they are, None to hang up."""
DIM = 24
WAIT_S = 20.0
"""How long anything here waits before it gives up, so that a broken test ends."""


def vector(said: str, size: int = DIM) -> list[float]:
    """The same numbers for the same input, and others for another."""
    seed = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=size).tolist()


def inputs(body: Body) -> list[str]:
    """What a request asks for, one text an input."""
    given = [json.dumps(body["messages"])] if "messages" in body else body["input"]
    return [each if isinstance(each, str) else json.dumps(each) for each in given]


def vectors(body: Body, size: int = DIM) -> dict[str, Any]:
    """A good answer, its rows backwards."""
    rows = [{"index": place, "embedding": vector(said, size)} for place, said in enumerate(inputs(body))]
    return {"object": "list", "data": rows[::-1]}


class VectorServer(QuietServer):
    """`takes`: messages (vLLM), prompts (llama.cpp) or texts (Ollama). `answer` replaces what it says to a request."""

    def __init__(self, takes: Literal["messages", "prompts", "texts"] = "texts", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1#m"
        self.takes = takes
        self.asked: list[Body] = []
        self.in_flight = self.most_in_flight = 0
        self.answer: Callable[[Body], Reply | None] = lambda body: None
        self.together = 1
        """It answers once so many requests have been in flight at once."""
        self.lock = threading.Condition()

    def said(self) -> list[str]:
        """All inputs so far."""
        return [text for body in self.asked for text in inputs(body)]


class _Handler(JsonHandler):
    server: VectorServer

    def do_GET(self) -> None:
        if self.path == "/props" and self.server.takes == "prompts":
            self.send_content(200, {"default_generation_settings": {}, "media_marker": "<__media_7f__>"})
        elif self.path == "/v1/models":
            self.send_content(200, {"data": [{"id": "m"}]})
        else:
            self.send_content(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/embeddings":
            self.send_content(404, {"error": {"message": "no such page"}})
            return
        with server.lock:
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            server.asked.append(body)
            server.lock.notify_all()
            server.lock.wait_for(lambda: server.most_in_flight >= server.together, WAIT_S)
        wrong = ("messages" in body) != (server.takes == "messages")
        status, content = (400, {"error": {"message": "invalid input"}}) if wrong else server.answer(body) or (200, vectors(body))
        with server.lock:
            server.in_flight -= 1
        self.send_content(status, content)


@contextmanager
def vector_server(takes: Literal["messages", "prompts", "texts"] = "texts", port: int = 0) -> Iterator[VectorServer]:
    """Run a server on a port of this machine; 0 takes a free one."""
    server = VectorServer(takes, port)
    with serving(server):
        yield server
