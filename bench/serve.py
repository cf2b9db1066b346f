"""How the server answers with the nano models: searches at once against one by one, plain against reasoned, under change, after a kill.

Every search is asked once, so no T-CoT or vector is known before. The server is a process of its own; both figures of a line come
from the same one. `python bench/serve.py --full` asks 10,000 requests while items come and go. Ends with an error for any request
that failed and any acknowledged item that is lost; figures of time stand beside what is wanted.
"""

import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from embedrl.log import result, table
from embedrl.world.write import make_world

NUM_PAIRS = 15
PARALLEL = 32
PHASE_S = 300.0
"""A phase that takes longer has failed; ten times as long with `--full`."""
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
SHAPES = ("star", "ring", "cross", "circle", "square", "triangle", "heart", "moon")
PLACES = ("at the top", "at the bottom", "at the left", "at the right", "in the middle")


class Asker:
    """A client that says which request failed, and ends when the time of its phase is over."""

    def __init__(self, url: str, phase: str, limit_s: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=limit_s, trust_env=False, limits=httpx.Limits(max_connections=2 * PARALLEL))
        self._phase, self._limit_s, self._ends = phase, limit_s, time.monotonic() + limit_s

    def ask(self, method: str, path: str, **options: object) -> dict:
        """Send a request, and return the answer. Raises SystemExit that names it if it fails or comes too late."""
        asked = f"{self._phase}: {method} {path} {str(options)[:200]}"
        if time.monotonic() > self._ends:
            raise SystemExit(f"{asked}: not sent within {self._limit_s:g} s")
        try:
            answer = self._client.request(method, path, **options)  # ty: ignore[invalid-argument-type]
        except httpx.TransportError as error:
            raise SystemExit(f"{asked}: {error!r}") from error
        if not answer.is_success:
            raise SystemExit(f"{asked}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def search(self, text: str, *, think: bool) -> float:
        """Search, and return the seconds that it took."""
        started = time.perf_counter()
        self.ask("POST", "/api/search", data={"text": text, "think": str(think).lower(), "limit": "10"})
        return time.perf_counter() - started

    def upload(self, name: str) -> str:
        """Send a text, and return its key."""
        return self.ask("POST", "/api/items", files={"file": (f"{name}.txt", f"a note called {name}")})["items"][0]["keys"][0]


def main(size: str = "", num_searches: str = "96") -> None:
    """Index a small world, serve it, ask, and write the tables."""
    full = size == "--full"
    limit_s = 10 * PHASE_S if full else PHASE_S
    queries = _queries()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder, num_pairs=NUM_PAIRS, seed=0)
        if _embedrl("index", str(folder), "--reasoner", "nano-sft").wait(limit_s):
            raise SystemExit(f"{folder}: was not indexed")
        with _server(folder, limit_s) as (url, _):
            for think in (False, True):
                _throughput(Asker(url, f"throughput, think={think}", limit_s), queries, int(num_searches), think=think)
            _first_result(url, queries, max(1, int(num_searches) // 8), limit_s)
            _changing(Asker(url, "while items come and go", limit_s), queries, 10_000 if full else 2 * int(num_searches))
        _killed(folder, limit_s, 200 if full else 20)


def _queries() -> Iterator[str]:
    for number in itertools.count():
        for place, shape, colour in itertools.product(PLACES, SHAPES, COLOURS):
            yield f"a {colour} {shape} {place}" + (f" number {number}" if number else "")


def _embedrl(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "from embedrl.cli.main import main; main()", *arguments])


@contextmanager
def _server(folder: Path, limit_s: float) -> Generator[tuple[str, subprocess.Popen]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _embedrl("serve", "--index", str(folder), "--reasoner", "nano-sft", "--port", str(port))
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + limit_s
    try:
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit(f"start: the server did not get ready within {limit_s:g} s (exit code {process.returncode})")
            time.sleep(0.05)
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=10, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _throughput(asker: Asker, queries: Iterator[str], num_searches: int, *, think: bool) -> None:
    rows, rates = [], {}
    for parallel in (1, PARALLEL):
        asked = list(itertools.islice(queries, num_searches if parallel > 1 else max(1, num_searches // 4)))
        with ThreadPoolExecutor(parallel) as pool:
            started = time.perf_counter()
            seconds = sorted(pool.map(lambda text: asker.search(text, think=think), asked))
        rates[parallel] = len(asked) / (time.perf_counter() - started)
        p50, p99 = statistics.median(seconds), seconds[min(len(seconds) - 1, round(0.99 * len(seconds)))]
        rows.append((parallel, len(asked), f"{rates[parallel]:.1f}", f"{1000 * p50:.0f}", f"{1000 * p99:.0f}", f"{p99 / p50:.1f}"))
    kind = "reasoned" if think else "plain"
    table(f"Searches, {kind} (p99/p50 wanted: under 5)", ("at once", "searches", "a second", "p50 ms", "p99 ms", "p99/p50"), rows)
    wanted = " (wanted: 3)" if think else ""
    result(f"{kind} searches: {PARALLEL} at once give {rates[PARALLEL] / rates[1]:.1f} times the throughput of one by one{wanted}")


def _first_result(url: str, queries: Iterator[str], num_searches: int, limit_s: float) -> None:
    """Follow searches as streams, one after the other: when does each kind of result come?"""
    times: dict[str, list[float]] = {"plain": [], "reasoned": []}
    with httpx.Client(base_url=url, timeout=limit_s, trust_env=False) as client:
        for text in itertools.islice(queries, num_searches):
            started = time.perf_counter()
            with client.stream("POST", "/api/search/stream", data={"text": text, "limit": "10"}) as answer:
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        times.setdefault(line.removeprefix("event: "), []).append(time.perf_counter() - started)
    if [len(times[name]) for name in ("plain", "reasoned")] != [num_searches] * 2:
        raise SystemExit(f"first result: of {num_searches} streams came { ({name: len(found) for name, found in times.items()}) }")
    first, second = statistics.median(times["plain"]), statistics.median(times["reasoned"])
    row = (f"{1000 * first:.0f}", f"{1000 * second:.0f}", f"{100 * first / second:.0f} %")
    table("One search as a stream: the plain result comes first (wanted: under 10 %)", ("plain ms", "reasoned ms", "share"), [row])


def _changing(asker: Asker, queries: Iterator[str], num_requests: int) -> None:
    """Search, one in twenty with the Reasoner, while a thread uploads items and deletes every other one."""
    stop, failed = threading.Event(), []
    num_changes = 0

    def change() -> None:
        nonlocal num_changes
        try:
            for number in itertools.count():
                key = asker.upload(f"change {number}")
                if number % 2:
                    asker.ask("DELETE", f"/api/items/{key}")
                num_changes += 1 + number % 2
                if stop.is_set():
                    return
        except SystemExit as error:
            failed.append(error)

    changing = threading.Thread(target=change)
    changing.start()
    started = time.perf_counter()
    try:
        with ThreadPoolExecutor(8) as pool:
            asked = enumerate(itertools.islice(queries, num_requests))
            seconds = list(pool.map(lambda each: asker.search(each[1], think=each[0] % 20 == 0), asked))
    finally:
        stop.set()
        changing.join()
    if failed:
        raise failed[0]
    result(f"{len(seconds)} searches and {num_changes} uploads and deletions in {time.perf_counter() - started:.0f} s, none failed")


def _killed(folder: Path, limit_s: float, num_items: int) -> None:
    """Upload, kill -9 while more is on its way, start again, and look for everything that was acknowledged."""
    acknowledged: list[str] = []

    def send(asker: Asker) -> None:
        try:
            for number in itertools.count():
                acknowledged.append(asker.upload(f"kept {number}"))
        except SystemExit:
            return  # the kill

    with _server(folder, limit_s) as (url, process):
        sender = threading.Thread(target=send, args=(Asker(url, "before the kill", limit_s),))
        sender.start()
        while len(acknowledged) < num_items and sender.is_alive():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        sender.join()
    if len(acknowledged) < num_items:
        raise SystemExit(f"before the kill: {len(acknowledged)} of {num_items} uploads were acknowledged within {limit_s:g} s")
    started = time.perf_counter()
    with _server(folder, limit_s) as (url, _):
        back_s = time.perf_counter() - started
        asker = Asker(url, "after the kill", limit_s)
        for key in acknowledged:
            asker.ask("GET", f"/api/items/{key}")
    result(f"killed, and ready again after {back_s:.1f} s with all {len(acknowledged)} acknowledged items")


if __name__ == "__main__":
    main(*sys.argv[1:])
