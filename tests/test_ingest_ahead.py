"""Files are read and batches decoded while a model works: how far ahead, in which order, and what an interruption leaves."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from embedrl.concurrency import ReadAhead, Stop, Stopped
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.data.vectors import ShortenedEmbedder, builds_inputs
from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.media.image import save_image
from embedrl.runtime.names import load_embedder
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder

BATCH, NUM_IMAGES = 3, 14
WAIT_S = 30.0


class BuildingEmbedder(FakeEmbedder):
    """Builds its inputs apart. Its first forward pass waits until the next batch is built; the largest number of built ones is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.num_built, self.num_embedded, self.most_ahead = 0, 0, 0
        self.is_next_built = threading.Event()
        self.waited = True

    def build(self, item: Item, tcot: TCoT | None) -> Item:
        self.num_built += 1
        self.most_ahead = max(self.most_ahead, self.num_built - self.num_embedded)
        if self.num_built == 2 * BATCH:
            self.is_next_built.set()
        return item

    def embed_built(self, built: Sequence[Item]) -> np.ndarray:
        if not self.num_embedded:
            self.waited = self.is_next_built.wait(WAIT_S)
        self.num_embedded += len(built)
        return super().embed(built, [None] * len(built))


def write_images(folder: Path, count: int = NUM_IMAGES) -> Path:
    folder.mkdir()
    for number in range(count):
        save_image(PIL.Image.new("RGB", (32, 32), (9 * number, 255 - 9 * number, 90)), folder / f"{number:02}.png")
    return folder


def index_plainly(folder: Path, embedder: FakeEmbedder, **options: int) -> IngestReport:
    return ingest(folder, Index.open(folder, embedder=embedder), None, embedder, think=False, batch_size=BATCH, **options)


def rows_of(folder: Path) -> dict[str, bytes]:
    index = Index.open(folder)
    rows = index.rows({place.key for place in index.places()})
    return {row.place.id: row.plain.tobytes() + row.tcot.tobytes() for row in rows}


def test_the_next_batch_is_decoded_while_the_model_works_and_no_more_than_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedrl.index.ingest_run.FILE_PATIENCE_S", WAIT_S)
    embedder = BuildingEmbedder()
    report = index_plainly(write_images(tmp_path / "media"), embedder)
    assert report.added == NUM_IMAGES
    assert embedder.waited, "the second batch was not decoded before the first was embedded"
    assert embedder.most_ahead <= 3 * BATCH, "one batch with the model, one ready, one begun at most"


@pytest.mark.parametrize("num_ahead", [0, 1])
@pytest.mark.parametrize("count", [1, BATCH, 2 * BATCH])
def test_batches_at_the_end_are_finished(tmp_path: Path, count: int, num_ahead: int):
    assert index_plainly(write_images(tmp_path / "media", count), FakeEmbedder(), num_ahead=num_ahead).added == count


def test_the_share_in_which_models_work_is_reported(tmp_path: Path):
    report = index_plainly(write_images(tmp_path / "media"), BuildingEmbedder())
    assert 0 < report.model_share <= 1
    assert report.seconds.keys() >= {"model", "read", "embed"}


@pytest.mark.parametrize("options", [{"num_ahead": 1}, {"num_ahead": 3}, {"max_in_flight": 3}])
def test_what_is_ahead_changes_no_row(tmp_path: Path, options: dict[str, int]):
    both = []
    for name, chosen in (("serial", {"num_ahead": 0}), ("ahead", options)):
        folder = make_folder(tmp_path / name / "media")
        for copy in range(4):  # the same content again, while the first is under way
            (folder / f"a{copy}.txt").write_text("the same words in four files")
        report = ingest(folder, Index.open(folder, embedder=FakeEmbedder()), FakeReasoner(), FakeEmbedder(), batch_size=2, **chosen)
        both.append((rows_of(folder), report.model_dump(exclude={"seconds"})))
    assert both[0][0].keys() == both[1][0].keys()
    assert both[0] == both[1]


def test_an_input_that_cannot_be_built_costs_that_item_alone(tmp_path: Path):
    class Odd(BuildingEmbedder):
        def build(self, item: Item, tcot: TCoT | None) -> Item:
            if "odd" in item.text:
                raise ValueError("no such shape")
            return super().build(item, tcot)

        def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
            return super().embed([self.build(item, None) for item in items], tcots)

    for word in ("odd", "plain", "good", "new"):
        (tmp_path / f"{word}.txt").write_text(f"a {word} word")
    report = index_plainly(tmp_path, Odd())
    assert report.added == 3
    assert [failure.path.name for failure in report.failures] == ["odd.txt"]
    assert "no such shape" in report.failures[0].reason


def test_an_interruption_leaves_no_thread_and_nothing_half(tmp_path: Path):
    class Interrupted(BuildingEmbedder):
        def embed_built(self, built: Sequence[Item]) -> np.ndarray:
            if self.num_embedded >= BATCH:
                raise KeyboardInterrupt
            return super().embed_built(built)

    folder = write_images(tmp_path / "media")
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        index_plainly(folder, Interrupted())
    assert set(threading.enumerate()) <= before
    assert len(Index.open(folder)) == BATCH
    again = index_plainly(folder, BuildingEmbedder())
    assert (again.unchanged, again.added, again.failures) == (BATCH, NUM_IMAGES - BATCH, ())


def test_a_number_of_batches_ahead_below_0_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="num_ahead=-1: give at least 0"):
        index_plainly(write_images(tmp_path / "media", 1), FakeEmbedder(), num_ahead=-1)


def test_the_nano_embedder_gives_the_same_bits_ahead(tmp_path: Path):
    nano = load_embedder("nano")
    assert builds_inputs(nano) is nano
    assert builds_inputs(ShortenedEmbedder(FakeEmbedder(), 8)) is None
    short = ShortenedEmbedder(nano, 16)
    rows = []
    for num_ahead in (0, 1):
        folder = write_images(tmp_path / str(num_ahead), 2)
        (folder / "words.txt").write_text("a red disc on blue")
        index_plainly(folder, short, num_ahead=num_ahead)
        rows.append({Path(name).name: vectors for name, vectors in rows_of(folder).items()})
    assert len(rows[0]) == 3
    assert rows[0] == rows[1]


def test_results_are_made_ahead_in_order_up_to_their_weight():
    made: list[int] = []
    is_full = threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if len(made) == 3:
            is_full.set()
        return number

    with ReadAhead(make, range(10), lambda number: 2, 6, Stop()) as results:
        assert is_full.wait(WAIT_S)
        assert next(results) == 0
        assert list(results) == list(range(1, 10))
    assert made == list(range(10))


def test_an_error_ahead_is_raised_in_its_turn():
    def make(number: int) -> int:
        return 6 // (2 - number)

    with ReadAhead(make, range(5), lambda number: 1, 100, Stop()) as results:
        assert [next(results), next(results)] == [3, 6]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_who_leaves_early_stops_the_call_under_way():
    stop, ended = Stop(), threading.Event()

    def wait(number: int) -> int:
        if number:
            for _ in range(int(WAIT_S / 0.01)):
                try:
                    stop.check()
                except Stopped:
                    ended.set()
                    raise
                ended.wait(0.01)
        return number

    with ReadAhead(wait, range(3), lambda number: 1, 100, stop) as results:
        assert next(results) == 0
    assert ended.is_set()
