"""How fast the server answers with the nano models: many searches at once against one by one, and the plain result against the reasoned.

Both figures of a line are measured on the same running server. Every query is asked once, so no T-CoT or vector is known before.
"""

import itertools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from embedrl.app.models import load_embedder, load_reasoner
from embedrl.app.serving.server import listen, make_server, make_service
from embedrl.app.serving.settings import Settings
from embedrl.index import Index, ingest
from embedrl.log import progress, result, table
from embedrl.world.write import make_world

NUM_PAIRS = 15
NUM_SEARCHES = 128
NUM_STREAMS = 12
PARALLEL = 32
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
SHAPES = ("star", "ring", "cross", "circle", "square", "triangle", "heart", "moon")
PLACES = ("at the top", "at the bottom", "at the left", "at the right", "in the middle")


def main() -> None:
    """Index a small world, serve it, ask, and write the tables."""
    queries = _queries()
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as url:
        for think in (False, True):
            _throughput(url, queries, think=think)
        _first_result(url, queries)


def _queries() -> Iterator[str]:
    for number in itertools.count():
        for place, shape, colour in itertools.product(PLACES, SHAPES, COLOURS):
            yield f"a {colour} {shape} {place}" + (f" number {number}" if number else "")


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    make_world(folder, num_pairs=NUM_PAIRS, seed=0)
    reasoner, embedder = load_reasoner("nano-sft"), load_embedder("nano")
    with progress(None, "index") as bar:
        ingest(folder, Index.open(folder, embedder=embedder), reasoner, embedder, batch_size=32, on_progress=bar.reach)
    service = make_service(Settings(port=0), {"main": (folder, "nano-sft", reasoner)}, embedder, "nano")
    listener = listen(service.settings)
    server = make_server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started or service.librarian.state.state != "idle":
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _throughput(url: str, queries: Iterator[str], *, think: bool) -> None:
    rows = []
    rates = {}
    for parallel in (1, PARALLEL):
        asked = list(itertools.islice(queries, NUM_SEARCHES if parallel > 1 else NUM_SEARCHES // 4))
        client = httpx.Client(base_url=url, timeout=600, trust_env=False, limits=httpx.Limits(max_connections=parallel))
        with client, ThreadPoolExecutor(parallel) as pool:
            client.get("/ready")
            started = time.perf_counter()
            seconds = sorted(pool.map(_timed(client, think), asked))
            rates[parallel] = len(asked) / (time.perf_counter() - started)
        p50, p99 = statistics.median(seconds), seconds[min(len(seconds) - 1, round(0.99 * len(seconds)))]
        rows.append((parallel, len(asked), f"{rates[parallel]:.1f}", f"{1000 * p50:.0f}", f"{1000 * p99:.0f}", f"{p99 / p50:.1f}"))
    ratio = rates[PARALLEL] / rates[1]
    kind = "reasoned" if think else "plain"
    result(f"{kind} searches: {PARALLEL} at once give {ratio:.1f} times the throughput of one by one")
    table(f"Searches, {kind}", ("at once", "searches", "a second", "p50 ms", "p99 ms", "p99/p50"), rows)


def _timed(client: httpx.Client, think: bool) -> Callable[[str], float]:
    def ask(text: str) -> float:
        started = time.perf_counter()
        answer = client.post("/api/search", data={"text": text, "think": str(think).lower(), "limit": "10"})
        answer.raise_for_status()
        return time.perf_counter() - started

    return ask


def _first_result(url: str, queries: Iterator[str]) -> None:
    plain, reasoned = [], []
    with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
        for text in itertools.islice(queries, NUM_STREAMS):
            started = time.perf_counter()
            with client.stream("POST", "/api/search/stream", data={"text": text, "limit": "10"}) as answer:
                times = {}
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        times[line.removeprefix("event: ")] = time.perf_counter() - started
                    elif line.startswith("data: "):
                        json.loads(line.removeprefix("data: "))
            plain.append(times["plain"])
            reasoned.append(times["reasoned"])
    first, second = statistics.median(plain), statistics.median(reasoned)
    row = (f"{1000 * first:.0f}", f"{1000 * second:.0f}", f"{100 * first / second:.0f} %")
    table("One search as a stream: the plain result comes first", ("plain ms", "reasoned ms", "share"), [row])


if __name__ == "__main__":
    main()
