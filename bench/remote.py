"""Annotate over a chat server that takes its time: many requests at once beside one by one.

The server stands for a real one with room for all: it answers each request after 0.1 to 0.5 s, and every twentieth with 429 or 500
at first. `python bench/remote.py 64` asks 64 at once.
"""

import itertools
import json
import random
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from embedrl.data.tcot import TCoT, render
from embedrl.log import result, table
from embedrl.pipelines.annotate import annotate_source

NUM_PAIRS = 120
CONCURRENCY = 32
WAIT_S = (0.1, 0.5)
MIN_RATIO = 10.0
ANSWER = render(TCoT(thinking="a mug on a table", rethink="that fits", answer="a mug"))


def main(concurrency: str = str(CONCURRENCY)) -> None:
    """Annotate twice and write the table; ends with an error if concurrency does not pay."""
    rows, per_s = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowServer) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pairs = Path(folder) / "pairs.jsonl"
        pairs.write_text("".join(f'{{"query": {{"text": "mug {n}"}}, "target": {{"text": "a mug {n}"}}}}\n' for n in range(NUM_PAIRS)))
        for at_once in (1, int(concurrency)):
            began = time.perf_counter()
            url = f"http://127.0.0.1:{server.server_port}/v1#m"
            report = annotate_source("lines", pairs, Path(folder) / str(at_once), url, concurrency=at_once)
            seconds = time.perf_counter() - began
            assert report.made == 2 * NUM_PAIRS, report
            per_s.append(2 * NUM_PAIRS / seconds)
            rows.append([f"{at_once}", f"{seconds:.1f}", f"{per_s[-1]:.0f}"])
        server.shutdown()
    table(
        f"{2 * NUM_PAIRS} texts, {WAIT_S[0] * 1e3:.0f} to {WAIT_S[1] * 1e3:.0f} ms each", ["requests at once", "seconds", "items/s"], rows
    )
    result(f"{per_s[1] / per_s[0]:.1f} times as fast as one by one (at least {MIN_RATIO:g})")
    assert per_s[1] >= MIN_RATIO * per_s[0], "asking many at once does not pay"


class SlowServer(BaseHTTPRequestHandler):
    """Answers every question alike, late, and now and then only when asked again."""

    protocol_version = "HTTP/1.1"
    numbers = itertools.count()
    rng = random.Random(0)

    def do_POST(self) -> None:
        """Answer a chat request."""
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.rng.uniform(*WAIT_S))
        number = next(self.numbers)
        status = {0: 429, 20: 500}.get(number % 40, 200)
        message = {"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop", "index": 0}
        body = json.dumps({"choices": [message], "usage": {"completion_tokens": 40}}).encode() if status == 200 else b"later"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    main(*sys.argv[1:])
