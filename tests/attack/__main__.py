"""What strangers may try against a server of our own on this machine, and against the index: bounded, loopback only, counts as options.

`make attack`, or `python -m tests.attack --tcots 1000000 --mutations 1700 --requests 4000 --swaps 2000 --kills 25`. Ends with an error if
anything gives a traceback, a 5xx that is none of ours, bytes from outside, or loses what was acknowledged.
"""

import argparse
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import PIL.Image

from embedrl.data.tcot import ParseFailure, TCoT, parse, render
from embedrl.index import Index, ingest
from embedrl.log import result, table
from embedrl.testing import FakeEmbedder
from tests.bombs import MIB, bomb_pdf
from tests.cases.test_links_out import make, swapping
from tests.coloured_folder import make_folder
from tests.odd_media import good_files, png_header
from tests.test_serve_indexing import start

PIECES = (
    *("<thinking>", "</thinking>", "<rethink>", "</rethink>", "<answer>", "</answer>", "<think>", "<|im_end|>"),
    *('{"bbox_2d": [[1,2,3,4]]}', '{"key_frames": [', "9" * 400, "]}", "\\ud83d", "\ud83d", "{", "[" * 50, "null"),
    *("größe", "\0", '"', "NaN", "1e999"),
)
RSS_LIMIT_MB = 1500


@contextmanager
def server(folder: Path) -> Iterator[tuple[subprocess.Popen, httpx.Client]]:
    """Run a server with the fakes over a folder, in a process of its own."""
    process, url = start(folder)
    try:
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def rss_mb(process: subprocess.Popen) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize() // MIB


def bombs() -> dict[str, bytes]:
    """Return small files that are large once decoded."""
    found = {f"pdf-{size}.pdf": bomb_pdf(size * MIB) for size in (64, 512, 1536, 3584)}
    found |= {f"pages-{count}.pdf": bomb_pdf(8 * MIB, count) for count in (3, 20)}
    found |= {f"header-{side}.png": png_header(side, side) for side in (9_000, 20_000, 60_000, 2**31 - 1)}
    for side in (4_000, 9_000):
        for mode, kind in (
            ("RGB", "PNG"),
            ("RGBA", "PNG"),
            ("L", "PNG"),
            ("I;16", "PNG"),
            ("1", "PNG"),
            ("P", "GIF"),
            ("RGB", "WEBP"),
            ("RGBA", "WEBP"),
        ):
            buffer = io.BytesIO()
            PIL.Image.new(mode, (side, side)).save(
                buffer, kind, **({"lossless": True, "quality": 0, "method": 0} if kind == "WEBP" else {})
            )
            found[f"{side}-{mode.replace(';', '')}.{kind.lower()}"] = buffer.getvalue()
    return found


def attack_with_bombs(folder: Path, _: random.Random, number: int) -> str:
    """Send bombs to a server, then index them; the server must live, stay small, and take the next upload."""
    chosen = dict(list(bombs().items())[:number])
    statuses: Counter[int] = Counter()
    with server(make_folder(folder / "served")) as (process, client):
        largest = rss_mb(process)
        for name, data in chosen.items():
            statuses[client.post("/api/items", files={"file": (name, data)}).status_code] += 1
            largest = max(largest, rss_mb(process))
        assert process.poll() is None, "the server died"
        assert client.post("/api/items", files={"file": ("next.txt", "a zebra")}).status_code == 201
    assert set(statuses) <= {201, 413, 415}, statuses
    assert largest <= RSS_LIMIT_MB, f"{largest} MB"
    (folder / "indexed").mkdir()
    for name, data in {**chosen, "good.txt": b"a zebra"}.items():
        (folder / "indexed" / name).write_bytes(data)
    report = ingest(folder / "indexed", Index.open(folder / "indexed", embedder=FakeEmbedder()), None, FakeEmbedder(), think=False)
    assert report.added >= 1
    return f"{len(chosen)} bombs: {dict(statuses)} by upload, server at most {largest} MB, {len(report.failures)} failures of `index`"


def attack_with_tcots(_: Path, rng: random.Random, number: int) -> str:
    """Parse texts that a model might write: no exception, and what is read is written and read the same."""
    good = 0
    for _number in range(number):
        outcome = parse("".join(rng.choices(PIECES, k=rng.randrange(1, 14))))
        assert isinstance(outcome, TCoT | ParseFailure)
        if isinstance(outcome, TCoT):
            good += 1
            render(outcome).encode()
    return f"{number} texts, {good} of them T-CoTs: no exception"


def attack_with_mutations(folder: Path, rng: random.Random, number: int) -> str:
    """Index files with flipped, cut and repeated bytes: each is indexed or a failure."""
    sources = [path for path in good_files(folder / "good").values() if path.is_file() and path.stat().st_size < MIB]
    (folder / "mutated").mkdir()
    for index in range(number):
        source = rng.choice(sources)
        data = bytearray(source.read_bytes())
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = rng.randrange(len(data)) if rng.random() < 0.3 else len(data)
        (folder / "mutated" / f"{index}{source.suffix}").write_bytes(data[:cut])
    report = ingest(folder / "mutated", Index.open(folder / "mutated", embedder=FakeEmbedder()), None, FakeEmbedder(), think=False)
    return f"{number} files: {report.added + report.reused} indexed, {len(report.failures)} failures, no traceback"


def attack_with_requests(folder: Path, rng: random.Random, number: int) -> str:
    """Send odd requests: an answer each, never a 5xx, never a path of this machine."""
    odd: list[Any] = [
        None,
        "",
        "x" * 3000,
        -1,
        1e308,
        [],
        {},
        [[]],
        {"a": [{}]},
        "\ud800",
        True,
        "../../etc/passwd",
        "data:image/png;base64,AA",
    ]
    fields = (
        "text",
        "input",
        "messages",
        "query",
        "documents",
        "liked",
        "limit",
        "offset",
        "under",
        "since",
        "words",
        "model",
        "stop",
        "tools",
    )
    paths = (
        "/v1/embeddings",
        "/v1/chat/completions",
        "/v1/rerank",
        "/api/similar",
        "/api/search",
        "/api/items",
        "/api/login",
        "/api/items/x",
    )
    statuses: Counter[int] = Counter()
    with server(make_folder(folder / "requested")) as (process, client):
        for _ in range(number):
            body = {rng.choice(fields): rng.choice(odd) for _ in range(rng.randrange(4))}
            sent = (
                {"content": json.dumps(body).encode(), "headers": {"content-type": "application/json"}}
                if rng.random() < 0.8
                else {"data": {"text": "x"}}
            )
            answer = client.request(rng.choice(("GET", "POST", "POST", "HEAD", "DELETE", "BREW")), rng.choice(paths), **sent)
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (answer.request.url, body, answer.text)
            assert str(folder) not in answer.text
        assert process.poll() is None
    return f"{number} requests: {dict(sorted(statuses.items()))}"


def attack_with_links(folder: Path, _: random.Random, number: int) -> str:
    """Ask for a file while its name is swapped with a link out of the library: no byte from outside."""
    library = make(folder)
    ingest(library, Index.open(library, embedder=FakeEmbedder()), None, FakeEmbedder(), think=False)
    statuses: Counter[int] = Counter()
    with server(library) as (_process, client):
        listed = client.get("/api/items", params={"limit": 100}).json()["items"]
        url = next(item["media"] for item in listed if item["path"] == "note.txt" or "note.txt" in item["other_paths"])
        with swapping(library / "note.txt", folder / "outside" / "note.txt", library / ".spare"):
            for _number in range(number):
                answer = client.get(url)
                statuses[answer.status_code] += 1
                assert "SECRET" not in answer.text
    return f"{number} requests: {dict(statuses)}, 0 bytes from outside"


def attack_with_kills(folder: Path, rng: random.Random, number: int) -> str:
    """Kill the server while it takes uploads: what was acknowledged is found after the last start."""
    library, acknowledged = make_folder(folder / "killed"), set()
    for kill in range(number):
        process, url = start(library)
        deadline = time.monotonic() + rng.uniform(2, 4)
        for upload in range(10_000):
            name = f"{kill}-{upload}.txt"
            answer = httpx.post(f"{url}/api/items", files={"file": (name, f"note {name}")}, timeout=60, trust_env=False)
            acknowledged |= set(answer.json()["items"][0]["keys"]) if answer.status_code == 201 else set()
            if time.monotonic() > deadline:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    found = {place.key for place in Index.open(library).places()}
    assert acknowledged <= found, f"{len(acknowledged - found)} lost"
    return f"{number} kills, {len(acknowledged)} acknowledged, 0 lost"


ATTACKS: dict[str, tuple[Callable[[Path, random.Random, int], str], int]] = {
    "bombs": (attack_with_bombs, 26),
    "tcots": (attack_with_tcots, 20_000),
    "mutations": (attack_with_mutations, 100),
    "requests": (attack_with_requests, 500),
    "swaps": (attack_with_links, 500),
    "kills": (attack_with_kills, 3),
}


def main() -> int:
    """Run all, and say what held."""
    options = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    for name, (_, number) in ATTACKS.items():
        options.add_argument(f"--{name}", type=int, default=number)
    chosen = options.parse_args()
    rows = []
    for name, (attack, _) in ATTACKS.items():
        if not (number := getattr(chosen, name)):
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                state, said = "held", attack(Path(folder), random.Random(chosen.seed), number)
            except Exception as error:  # boundary: the other attacks go on
                state, said = "BROKE", f"{type(error).__name__}: {error}"[:400]
        rows.append((name, state, f"{time.monotonic() - started:.0f} s", said))
        result(f"{name}: {state}: {said}")
    table("attacks", ["attack", "state", "time", "what happened"], rows)
    return any(state == "BROKE" for _, state, _, _ in rows)


if __name__ == "__main__":
    sys.exit(main())
