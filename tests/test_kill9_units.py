"""What is left of a long film and a long text whose indexing was killed inside them: every unit, once (issue 23)."""

from pathlib import Path

import pytest

from tests.forking import drive

DRIVER = """
import os, random, shutil, signal, sys, time
from pathlib import Path

import av
import PIL.Image
import pyarrow.compute

from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.media.video import save_video
from embedrl.testing import COLOURS, FakeEmbedder
from tests.forking import check_opens, finish, fork

FOLDER, LOG = Path(sys.argv[1]) / "media", Path(sys.argv[1]) / "embedded"
BATCH, COMMIT = 2, 8
sys.modules["embedrl.index.commits"].COMMIT_ROWS = COMMIT
NAMES, WORDS = list(COLOURS), ["quiet", "rain", "falls", "again", "here", "today"]


class LoggingEmbedder(FakeEmbedder):
    def embed(self, items, tcots):
        with LOG.open("a") as file:
            file.writelines(item.key + "\\n" for item in items)
        time.sleep(0.01)
        return super().embed(items, tcots)


def write_film(rng: random.Random) -> None:
    colours = [rng.choice(NAMES)]
    while len(colours) < 12:
        colours.append(rng.choice([name for name in NAMES if name != colours[-1]]))
    save_video([PIL.Image.new("RGB", (48, 32), COLOURS[name]) for name in colours for _ in range(10)], FOLDER / "film.mp4", fps=2)


def write_text(rng: random.Random) -> None:
    paragraphs = [" ".join(rng.choices(WORDS, k=60)) + f" {rng.random()}." for _ in range(80)]
    (FOLDER / "book.txt").write_text("\\n\\n".join(paragraphs))


def run(folder: Path = FOLDER, embedder: FakeEmbedder | None = None) -> None:
    embedder = embedder or LoggingEmbedder()
    report = ingest(folder, Index.open(folder, embedder=embedder), None, embedder, think=False, batch_size=BATCH)
    assert report.failures == ()


def units(folder: Path) -> list[tuple]:
    places = Index.open(folder).places()
    return sorted((place.path.name, place.unit, place.start_char, place.end_char, place.key) for place in places)


def check_whole() -> None:
    whole = FOLDER.parent / "whole"
    shutil.copytree(FOLDER, whole, ignore=shutil.ignore_patterns(".*"))
    run(whole, FakeEmbedder())
    assert len(units(whole)) > 25
    assert units(FOLDER) == units(whole)


FOLDER.mkdir()
rng = random.Random(0)
write_film(rng)
write_text(rng)
started = time.monotonic()
finish(fork(run))
span_s = time.monotonic() - started
num_killed = 0
for step in range(20):
    write_film(rng) if step % 2 else write_text(rng)
    pid = fork(run)
    time.sleep((step + 0.5) / 20 * span_s)
    os.kill(pid, signal.SIGKILL)
    num_killed += os.waitpid(pid, 0)[1] != 0
    finish(fork(lambda: check_opens(FOLDER))) if step % 4 == 3 else None
finish(fork(run))
finish(fork(check_whole))
before = LOG.read_text()
finish(fork(run))
assert LOG.read_text() == before, "nothing was left to do"
keys = before.split()
lost = len(keys) - len(set(keys))
assert lost <= (BATCH + COMMIT) * num_killed, (lost, num_killed)
sys.stdout.write(f"{num_killed} killed, {lost} embedded twice")
"""


@pytest.mark.slow
def test_kills_inside_a_film_and_a_text_lose_no_unit_and_double_none(tmp_path: Path):
    said = drive(DRIVER, str(tmp_path), timeout_s=900)
    assert int(said.split()[0]) >= 10, f"most kills came too late to matter: {said}"
