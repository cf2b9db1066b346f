"""What strangers may try against a server of our own on this machine, and against the index: bounded, loopback only, counts as options.

`make attack`, or `python -m tests.attack --quick` for small counts; a count of 0 leaves an attack out (`--texts 0`), and `--only kills`
runs one. Each line of results is written as soon as its attack has ended. Ends with an error if anything gives a traceback, a 5xx that is
none of ours, bytes from outside, or loses what was acknowledged.
"""

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import httpx
import PIL.Image

from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.tcot import ParseFailure, TCoT, parse, render
from embedrl.data.tcot import read as read_tcot
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
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
WORDS = (
    "red",
    "größe",
    "星",
    "\u200b",
    "\0",
    "</",
    "<|im_end|>",
    "<image>",
    "{",
    "}",
    "\ud83d",
    "a\u0301",
    "\r\n",
    "<b>",
    "&amp;",
    '"',
    "\\u0000",
    "–",
)
KEYS = (*[kind.key for kind in EVIDENCE_KINDS] * 3, "bbox", "frames", "image", "label", "")
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


def attack_with_texts(_: Path, rng: random.Random, number: int) -> str:
    """Parse texts that are put together from pieces of T-CoTs and of garbage: no exception."""
    good = 0
    for _number in range(number):
        outcome = parse("".join(rng.choices(PIECES, k=rng.randrange(1, 14))))
        assert isinstance(outcome, TCoT | ParseFailure)
        if isinstance(outcome, TCoT):
            good += 1
            render(outcome).encode()
    return f"{number} texts, {good} of them T-CoTs: no exception"


def odd_json(rng: random.Random, depth: int = 0) -> str:
    """Write a value as a model might write it in evidence: right, nearly right, or nothing like it."""
    match rng.randrange(11 if depth < 3 else 7):
        case 0 | 1:
            return str(rng.choice((rng.randrange(-5, 1100), rng.uniform(-5, 1100), rng.getrandbits(rng.choice((8, 64, 2000))))))
        case 2:
            return rng.choice(("null", "true", "NaN", "Infinity", "1e999", "-0", "0x10", "1,5"))
        case 3 | 4:
            quote = rng.choice('"""\'')
            return f"{quote}{rng.choice(WORDS)} {rng.randrange(10**6)}{quote}"
        case 5:
            return f'"\\ud{rng.randrange(0x800, 0x1000):03x}"'
        case 6:
            return str([rng.randrange(1001) for _ in range(rng.choice((0, 2, 3, 4, 4, 4, 5, 8)))])
        case 7 | 8:
            inner = ", ".join(odd_json(rng, depth + 1) for _ in range(rng.randrange(5)))
            return f"[{inner}{rng.choice(('', '', ','))}]"
        case 9:
            return "{" + f'"{rng.choice(KEYS)}": {odd_json(rng, depth + 1)}' + "}"
    return "[" * rng.randrange(1, 40)


def odd_tcot(rng: random.Random) -> str:
    """Write a T-CoT whose tags are there, with odd evidence and odd words."""

    def words() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 9))) + f" {rng.randrange(10**9)}"

    rows = []
    for _ in range(rng.randrange(4)):
        pairs = ", ".join(f'"{rng.choice(KEYS)}": {odd_json(rng)}' for _ in range(rng.randrange(1, 4)))
        rows.append("{" + pairs + rng.choice(("}", "}", "}", "", "}}")))
    before = rng.choice(("", "", "<think> hm </think>", "</think>", words()))
    tail = rng.choice(("</thinking>", "", "</thinking> {}"))
    rethink = rng.choice(("rethink", "rethinking"))
    return f"{before}<thinking> {words()} {' '.join(rows)} {tail}<{rethink}> {words()} </{rethink}>\n<answer> {words()} </answer>{before}"


def attack_with_tcots(_: Path, rng: random.Random, number: int) -> str:
    """Read T-CoTs that are all different: no exception, and what was read is the same after it is written and read, also in JSON."""
    read: set[str] = set()
    tried = repaired = dropped = 0
    while len(read) < number:
        reading, tried = read_tcot(odd_tcot(rng)), tried + 1
        assert tried <= 20 * number, f"{len(read)} T-CoTs in {tried} texts"
        if not isinstance(tcot := reading.outcome, TCoT):
            continue
        written = render(tcot)
        written.encode()
        assert parse(written) == tcot, written
        assert TCoT.model_validate_json(tcot.model_dump_json()) == tcot, written
        read.add(written)
        repaired, dropped = repaired + bool(reading.repaired), dropped + bool(reading.dropped)
    return (
        f"{len(read)} different T-CoTs in {tried} texts ({repaired} repaired, {dropped} with evidence dropped): no exception, all read back"
    )


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


class Torn:
    """The bytes of an upload, sent in pieces; the server is killed behind one of them, or while it works on all."""

    def __init__(self, rng: random.Random, process: subprocess.Popen, body: bytes) -> None:
        self.rng, self.process, self.body = rng, process, body
        self.cut = rng.randrange(1, 3 * len(body))
        """The byte behind which the server is killed; as often as not the upload is whole before that."""

    def __iter__(self) -> Iterator[bytes]:
        for place in range(0, len(self.body), 4096):
            yield self.body[place : place + 4096]
            if place + 4096 >= self.cut:
                self.process.kill()
                return
        delay_s = self.rng.uniform(0, 0.3)
        threading.Timer(delay_s, self.process.kill).start()


def kill_inside_an_upload(process: subprocess.Popen, url: str, rng: random.Random, name: str) -> tuple[bytes, set[str]]:
    """Send one upload, kill the server inside it, and return its bytes and the keys that were acknowledged all the same."""
    text = f"note {name} " + " ".join(rng.choices(("red", "green", "blue", "zebra"), k=12_000))
    mark = f"torn-{name}"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}.txt"\r\nContent-Type: text/plain\r\n\r\n'
    body = f"{head}{text}\r\n--{mark}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={mark}", "content-length": str(len(body))}
    keys: set[str] = set()
    try:
        torn = iter(Torn(rng, process, body))
        answer = httpx.post(f"{url}/api/items", content=torn, headers=headers, timeout=60, trust_env=False)
        keys |= {key for item in answer.json()["items"] for key in item["keys"]} if answer.status_code == 201 else set()
    except (httpx.TransportError, h11.LocalProtocolError):
        pass
    process.kill()
    return text.encode(), keys


def attack_with_kills(folder: Path, rng: random.Random, number: int) -> str:
    """Kill the server between uploads and inside one: what was acknowledged is found after the last start, and no file is half there."""
    library, acknowledged, torn = make_folder(folder / "killed"), set(), {}
    for kill in range(number):
        process, url = start(library)
        deadline = time.monotonic() + rng.uniform(0.5, 2)
        for upload in range(10_000):
            name = f"{kill}-{upload}.txt"
            answer = httpx.post(f"{url}/api/items", files={"file": (name, f"note {name}")}, timeout=60, trust_env=False)
            acknowledged |= set(answer.json()["items"][0]["keys"]) if answer.status_code == 201 else set()
            if time.monotonic() > deadline:
                break
        if kill % 2:
            torn[str(kill)], keys = kill_inside_an_upload(process, url, rng, f"torn-{kill}")
            acknowledged |= keys
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    with server(library) as (_process, client):
        assert client.get("/health").status_code == 200
    found = {place.key for place in Index.open(library).places()}
    assert acknowledged <= found, f"{len(acknowledged - found)} lost"
    kept = {path.name: path.read_bytes() for path in library.rglob("torn-*")}
    halves = [name for name, data in kept.items() if data != torn.get(name.split("-")[1])]
    assert not halves, f"half a file: {halves}"
    return (
        f"{number} kills, {len(torn)} of them inside an upload ({len(kept)} of these whole on the disk, the others absent), "
        f"{len(acknowledged)} acknowledged, 0 lost, 0 half files"
    )


ATTACKS: dict[str, tuple[Callable[[Path, random.Random, int], str], int, int]] = {
    "tcots": (attack_with_tcots, 20_000, 2_000),
    "texts": (attack_with_texts, 1_000_000, 20_000),
    "bombs": (attack_with_bombs, 26, 26),
    "kills": (attack_with_kills, 25, 4),
    "swaps": (attack_with_links, 2_000, 500),
    "requests": (attack_with_requests, 4_000, 500),
    "mutations": (attack_with_mutations, 1_700, 100),
}
"""Name -> what does it, how often, and how often with `--quick`."""


def main() -> int:
    """Run all, and say what held."""
    options = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="small counts")
    options.add_argument("--only", choices=tuple(ATTACKS), action="append", help="leave out all others; may be repeated")
    for name, (_, number, small) in ATTACKS.items():
        options.add_argument(f"--{name}", type=int, metavar="N", help=f"{number:,} ({small:,} with --quick)")
    chosen = options.parse_args()
    rows = []
    for name, (attack, number, small) in ATTACKS.items():
        count = given if (given := getattr(chosen, name)) is not None else small if chosen.quick else number
        if not count or (chosen.only and name not in chosen.only):
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                state, said = "held", attack(Path(folder), random.Random(chosen.seed), count)
            except Exception as error:  # boundary: the other attacks go on
                state, said = "BROKE", f"{type(error).__name__}: {error}"[:400]
        rows.append((name, state, f"{time.monotonic() - started:.0f} s", said))
        result(f"{name}: {state}: {said}")
    table("attacks", ["attack", "state", "time", "what happened"], rows)
    return any(state == "BROKE" for _, state, _, _ in rows)


if __name__ == "__main__":
    sys.exit(main())
