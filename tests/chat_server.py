"""A chat server whose every misbehaviour is written down beforehand: what it answers to which text, at which try."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import JsonHandler, QuietServer, serving

WAIT_S = 20.0
"""How long anything here waits before it gives up, so that a broken test ends."""


def completion(text: object, *, finish_reason: str = "stop") -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@dataclass(frozen=True)
class Answer:
    """One answer of the server."""

    body: object = None
    """A dict is sent as JSON, bytes as they are; None repeats the prompt's text."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    num_bursts: int = 1
    """In how many pieces the body leaves."""
    sent_share: float = 1.0
    """How much of the body leaves before the server hangs up; 0 hangs up before the status line."""
    stuck: bool = False
    """It answers only once the server is stopped."""
    slow_s: float = 0.0
    """How long it thinks."""
    together: int = 1
    """It answers once so many requests wait with it."""


class ScriptedServer(QuietServer):
    """Answers a prompt by its text: the first try with the first answer of its script, and so on, the last one for ever."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.scripts: dict[str, tuple[Answer, ...]] = {}
        self.otherwise = Answer()
        self.models: object = {"object": "list", "data": [{"id": "org/model-a", "object": "model"}]}
        self.asked: list[dict[str, Any]] = []
        """Bodies of the requests, in order of arrival."""
        self.headers: list[dict[str, str]] = []
        self.tries: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Condition()
        self.stopped = threading.Event()

    def script(self, text: str, *answers: Answer) -> None:
        self.scripts[text] = answers


class _Handler(JsonHandler):
    server: ScriptedServer
    timeout = WAIT_S
    wbufsize = 0
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(Answer(self.server.models) if self.path == "/v1/models" else Answer(b"no such page", status=404))

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = "".join(part.get("text", "") for part in body["messages"][-1]["content"])
        with server.lock:
            server.asked.append(body)
            server.headers.append(dict(self.headers))
            answers = server.scripts.get(text, (server.otherwise,))
            answer = answers[min(server.tries[text], len(answers) - 1)]
            server.tries[text] += 1
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            server.lock.notify_all()
            server.lock.wait_for(lambda: server.most_in_flight >= answer.together, WAIT_S)
        server.stopped.wait(WAIT_S if answer.stuck else answer.slow_s)
        with server.lock:  # before the answer leaves: the client may ask the next question as soon as it has it
            server.in_flight -= 1
        self._send(answer, text)

    def _send(self, answer: Answer, text: str = "") -> None:
        body = answer.body if answer.body is not None else completion(text)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if answer.sent_share == 0:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        sent = content[: int(len(content) * answer.sent_share)]
        size = max(1, -(-len(sent) // answer.num_bursts))
        with suppress(ConnectionError):
            for start in range(0, len(sent), size):
                self.wfile.write(sent[start : start + size])
                self.server.stopped.wait(0.001 if answer.num_bursts > 1 else 0)
        self.close_connection = answer.sent_share < 1


@contextmanager
def chat_server() -> Iterator[ScriptedServer]:
    """Run a server on a free port of this machine."""
    server = ScriptedServer()
    with serving(server):
        try:
            yield server
        finally:
            server.stopped.set()
