"""What an index promises when its writer is killed at any moment, and while others read.

The children are forked from one fresh process that has the imports done, so that twenty kills take seconds.
"""

from pathlib import Path

import pytest

from tests.forking import drive

DRIVER = """
import os, random, signal, sys, time
from pathlib import Path

from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.testing import COLOURS, FakeEmbedder, FakeReasoner
from tests.coloured_folder import picture
from tests.forking import check_opens, finish, fork

FOLDER, LOG = Path(sys.argv[1]) / "media", Path(sys.argv[1]) / "reasoned"
BATCH = 4
sys.modules["embedrl.index.commits"].COMMIT_ROWS = BATCH
NAMES = list(COLOURS)


class LoggingReasoner(FakeReasoner):
    def reason(self, items):
        with LOG.open("a") as file:
            file.writelines(item.key + "\\n" for item in items)
        return super().reason(items)


def write_picture(number: int, rng: random.Random) -> None:
    save_image(picture(rng.choice(NAMES), 32 + rng.randrange(64)), FOLDER / f"{number:03d}.png")


def run() -> None:
    embedder = FakeEmbedder()
    ingest(FOLDER, Index.open(FOLDER, embedder=embedder), LoggingReasoner(sleep_s=0.005), embedder, batch_size=BATCH)


def check_whole() -> None:
    check_opens(FOLDER)
    index = Index.open(FOLDER)
    found = sorted((str(place.path), place.page or 0) for place in index.places())
    pictures, documents = FOLDER.glob("*.png"), FOLDER.glob("*.pdf")
    expected = [(path.name, 0) for path in pictures] + [(path.name, page) for path in documents for page in (1, 2, 3)]
    assert found == sorted(expected), (found, expected)
    for row in index.rows({place.key for place in index.places()}):
        status = (FOLDER / row.place.path).stat()
        assert (row.place.stamp.size, row.place.stamp.mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert row.tcot_text and row.thumbnail


def read_until(stop: Path) -> None:
    embedder = FakeEmbedder()
    while not (FOLDER / ".embedrl-index" / "items.lance" / "_versions").exists():
        time.sleep(0.005)
    index = Index.open(FOLDER, embedder=embedder)
    sizes = [0]
    while not stop.exists() or len(sizes) < 3:
        hits = search(index, Query((Text(text="blue"),), use_tcot=False, limit=5), embedder).hits
        sizes.append(len(index))
        time.sleep(0.01)
        assert all(hit.score >= other.score for hit, other in zip(hits, hits[1:], strict=False))
    assert sizes == sorted(sizes), sizes


def change(step: int, rng: random.Random) -> None:
    for number in rng.sample(range(40), 10):  # new ones, changed ones
        write_picture(number, rng)
    (FOLDER / f"{rng.randrange(40):03d}.png").unlink(missing_ok=True)
    names = sorted(path.name for path in FOLDER.glob("*.png"))
    (FOLDER / rng.choice(names)).rename(FOLDER / f"{100 + step}.png")


def kills() -> None:
    rng = random.Random(int(sys.argv[3]))
    for number in range(24):
        write_picture(number, rng)
    for number in range(4):
        save_pdf([picture(rng.choice(NAMES)) for _ in range(3)], FOLDER / f"{number}.pdf")
    finish(fork(run))
    change(0, rng)
    started = time.monotonic()
    finish(fork(run))
    span_s = time.monotonic() - started
    num_killed = 0
    for step in range(1, 21):
        change(step, rng)
        pid = fork(run)
        time.sleep(rng.uniform(0.0, span_s))
        os.kill(pid, signal.SIGKILL)
        num_killed += os.waitpid(pid, 0)[1] != 0
        finish(fork(lambda: check_opens(FOLDER)))
    finish(fork(run))
    finish(fork(check_whole))
    before = LOG.read_text()
    finish(fork(run))
    assert LOG.read_text() == before, "nothing was left to do"
    keys = before.split()
    # A kill loses at most the batch under way.
    assert len(keys) - len(set(keys)) <= BATCH * num_killed, (len(keys), len(set(keys)), num_killed)
    sys.stdout.write(f"{num_killed} killed, {len(keys) - len(set(keys))} T-CoTs made twice")


def readers() -> None:
    rng = random.Random(0)
    for number in range(60):
        write_picture(number, rng)
    stop = FOLDER.parent / "stop"
    reading = [fork(lambda: read_until(stop)) for _ in range(3)]
    finish(fork(run))
    stop.touch()
    for pid in reading:
        finish(pid)
    sys.stdout.write("read well")


FOLDER.mkdir()
{"kills": kills, "readers": readers}[sys.argv[2]]()
"""


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path):
    said = drive(DRIVER, str(tmp_path), "kills", "0")
    assert int(said.split()[0]) >= 10, f"most kills came too late to matter: {said}"


def test_three_read_while_one_writes(tmp_path: Path):
    assert drive(DRIVER, str(tmp_path), "readers") == "read well"
