import os
import shutil
from pathlib import Path

import pytest

from embedrl.data.tcot import parse, render
from embedrl.errors import ConfigError, ModelError, StoreError
from embedrl.index.failures import list_failures
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.row import Row
from embedrl.index.units import read_item
from embedrl.media.image import save_image
from embedrl.media.store import Limits
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import NUM_ITEMS, NUM_PLACES, make_folder, picture
from tests.odd_media import bad_files, special_files

NEW = {"added": NUM_ITEMS, "reused": NUM_PLACES - NUM_ITEMS}


class Collection:
    """A folder, its index and the fakes that fill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reasoner, self.embedder = FakeReasoner(), FakeEmbedder()
        self.index = Index.open(self.folder, embedder=self.embedder)

    def ingest(self, **options: object) -> IngestReport:
        """Run, and forget how often the fakes were asked before."""
        self.reasoner.reasoned.clear()
        self.embedder.embedded.clear()
        return ingest(self.folder, self.index, self.reasoner, self.embedder, batch_size=4, **options)

    @property
    def rows(self) -> dict[str, Row]:
        keys = {place.key for place in self.index.places()}
        found = self.index.rows(keys)
        rows = {f"{row.place.path}{'#' + str(row.place.page) if row.place.page else ''}": row for row in found}
        assert len(rows) == len(found), "no place may be there twice"
        assert len(found) == len(self.index)
        return rows

    @property
    def num_reasoned(self) -> int:
        return self.reasoner.reasoned.total()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is indexed once; a collection can be copied with its index."""
    collection = Collection(make_folder(tmp_path_factory.mktemp("template") / "media"))
    report = collection.ingest()
    assert (report.num_files, report.added, report.reused, report.failures) == (9, NUM_ITEMS, NUM_PLACES - NUM_ITEMS, ())
    assert (collection.num_reasoned, set(collection.reasoner.reasoned.values())) == (NUM_ITEMS, {1}), "one T-CoT for each content"
    return collection.folder


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Collection:
    return Collection(shutil.copytree(template, tmp_path / "media"))


@pytest.fixture
def empty(tmp_path: Path) -> Collection:
    return Collection(make_folder(tmp_path / "media"))


def counts(report: IngestReport) -> dict[str, int]:
    return {name: getattr(report, name) for name in ("unchanged", "added", "reused", "removed") if getattr(report, name)}


def test_every_file_and_page_becomes_a_row(filled: Collection):
    rows = filled.rows
    assert set(rows) == {
        *(f"{colour}.png" for colour in ("red", "green", "blue", "yellow")),
        *("deep/er/red again.png", "deep/clip.mp4", "pages.pdf#1", "pages.pdf#2", "line\nbreak \u2603.txt", "note.md"),
    }
    red, clip, page, note = rows["red.png"], rows["deep/clip.mp4"], rows["pages.pdf#2"], rows["note.md"]
    assert (red.modality, clip.modality, page.modality, note.modality) == ("image", "video", "page", "text")
    assert red.place.key == rows["deep/er/red again.png"].place.key
    assert read_item(filled.folder / "red.png", "image", None, Limits()).key == rows["deep/er/red again.png"].place.key
    assert red.answer == "a red picture"
    assert red.tcot_text
    assert render(parse(red.tcot_text)) == red.tcot_text
    assert (clip.start_s, clip.end_s, len(clip.frame_times_s)) == (0.0, pytest.approx(4.0), 8)
    assert clip.answer == "a purple clip"
    assert '"key_frames":[true]' in (clip.verification or "")
    assert note.text == "a letter about an elephant"
    assert not note.thumbnail
    assert all(row.thumbnail.startswith(b"\xff\xd8") for row in (red, clip, page))
    assert abs(red.plain @ red.tcot) < 0.999


def test_a_second_run_does_nothing(filled: Collection):
    size = sum(file.stat().st_size for file in filled.index.directory.rglob("*"))
    for _ in range(2):
        assert counts(filled.ingest()) == {"unchanged": NUM_PLACES}
    assert (filled.num_reasoned, filled.embedder.embedded.total()) == (0, 0)
    assert sum(file.stat().st_size for file in filled.index.directory.rglob("*")) == size


def test_a_changed_file_is_done_again_and_a_deleted_one_leaves(filled: Collection):
    save_image(picture("purple", 64), filled.folder / "green.png")
    (filled.folder / "pages.pdf").unlink()
    assert counts(filled.ingest()) == {"unchanged": NUM_PLACES - 3, "added": 1, "removed": 2}
    assert filled.num_reasoned == 1
    assert filled.rows["green.png"].answer == "a purple picture"
    assert not {"pages.pdf#1", "pages.pdf#2"} & filled.rows.keys()


def test_moved_copied_and_touched_files_keep_their_tcots(filled: Collection):
    before = filled.rows
    (filled.folder / "green.png").rename(filled.folder / "deep" / "moved.png")
    (filled.folder / "pages.pdf").rename(filled.folder / "renamed.pdf")
    shutil.copy(filled.folder / "note.md", filled.folder / "note copy.md")
    os.utime(filled.folder / "blue.png", (1, 1))
    assert counts(filled.ingest()) == {"unchanged": NUM_PLACES - 4, "reused": 5, "removed": 3}
    assert (filled.num_reasoned, filled.embedder.embedded.total()) == (0, 0)
    after = filled.rows
    assert after["deep/moved.png"].tcot_text == before["green.png"].tcot_text
    assert after["renamed.pdf#2"].tcot.tolist() == before["pages.pdf#2"].tcot.tolist()
    assert counts(filled.ingest()) == {"unchanged": NUM_PLACES + 1}


def test_files_that_swap_their_contents(filled: Collection):
    red, green = filled.folder / "red.png", filled.folder / "green.png"
    (filled.folder / "deep" / "er" / "red again.png").unlink()
    red.rename(filled.folder / "aside"), green.rename(red), (filled.folder / "aside").rename(green)
    filled.ingest()
    assert (filled.rows["red.png"].answer, filled.rows["green.png"].answer, filled.num_reasoned) == ("a green picture", "a red picture", 0)
    assert len(filled.index) == NUM_PLACES - 1


def test_a_collection_can_move_with_its_index(filled: Collection, tmp_path: Path):
    filled.folder.rename(tmp_path / "elsewhere")
    index = Index.open(tmp_path / "elsewhere", embedder=filled.embedder)
    report = ingest(tmp_path / "elsewhere", index, filled.reasoner, filled.embedder)
    assert counts(report) == {"unchanged": NUM_PLACES}
    assert index.locate(index.rows([next(index.places()).key])[0].place.path).is_file()


def test_an_index_may_lie_elsewhere_and_hold_several_folders(filled: Collection, tmp_path: Path):
    index = Index.open(tmp_path / "index", embedder=filled.embedder)
    make_folder(tmp_path / "second")
    first = ingest(filled.folder, index, filled.reasoner, filled.embedder)
    second = ingest(tmp_path / "second", index, filled.reasoner, filled.embedder)
    assert counts(first) == NEW
    assert counts(second) == {"reused": NUM_PLACES}
    shutil.rmtree(filled.folder / "deep")
    assert counts(ingest(filled.folder, index, filled.reasoner, filled.embedder)) == {"unchanged": NUM_PLACES - 2, "removed": 2}
    assert len(index) == 2 * NUM_PLACES - 2, "a run over one folder leaves the others alone"


def test_bad_files_are_listed_with_their_reasons_and_cost_nothing_else(filled: Collection):
    bad, special = bad_files(filled.folder / "bad"), special_files(filled.folder / "special")
    del bad["audio_only.mp4"]  # it is an audio file, and counted as left out
    report = filled.ingest()
    assert len(filled.rows) == NUM_PLACES
    failed = {failure.path.name: failure.reason for failure in report.failures}
    assert bad.keys() | special.keys() >= failed.keys() >= bad.keys()
    assert [name for name, (_, words) in bad.items() if words not in failed[name]] == []
    assert list_failures(filled.index) == list(report.failures)
    again = filled.ingest()
    assert again.failures == report.failures, "what failed is not tried again, but told again"
    assert counts(again) == {"unchanged": NUM_PLACES}, "what failed is not tried again, but told again"


def test_a_failed_file_is_tried_again_when_it_changed_or_limits_did(filled: Collection):
    (filled.folder / "new.jpg").write_bytes(b"no picture")
    small = Limits(max_pixels=1000)
    assert [failure.path.name for failure in filled.ingest().failures] == ["new.jpg"]
    save_image(picture("pink"), filled.folder / "new.jpg")
    assert [failure.path.name for failure in filled.ingest(limits=small).failures] == ["new.jpg"], "48 x 48 is too much now"
    report = filled.ingest()
    assert (report.failures, counts(report)) == ((), {"unchanged": NUM_PLACES, "added": 1})
    assert list_failures(filled.index) == []


def test_a_file_that_becomes_bad_leaves_the_index(filled: Collection):
    (filled.folder / "pages.pdf").write_bytes(b"%PDF-1.7 and no more")
    report = filled.ingest()
    assert [failure.path.name for failure in report.failures] == ["pages.pdf"]
    assert report.removed == 2


def test_names_that_are_no_unicode(filled: Collection):
    path = Path(os.fsdecode(os.fsencode(filled.folder) + b"/caf\xe9.png"))
    save_image(picture("orange", 64), path)
    (path.parent / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"no picture")
    report = filled.ingest()
    assert report.added == 1
    assert counts(filled.ingest()) == {"unchanged": NUM_PLACES + 1}
    row = filled.rows[path.name]
    assert filled.index.locate(row.place.path) == path
    assert [failure.path for failure in list_failures(filled.index)] == [Path(os.fsdecode(b"bad\xff.jpg"))]
    assert "bad\ufffd.jpg" in report.model_dump_json()


def test_output_that_is_no_tcot_leaves_the_plain_vector(empty: Collection):
    item = read_item(empty.folder / "red.png", "image", None, Limits())
    empty.reasoner.fail_keys = {item.key}
    report = empty.ingest()
    row = empty.rows["red.png"]
    assert (report.without_tcot, report.failures, row.tcot_text, row.tcot_failure) == (1, (), None, "missing_thinking")
    assert row.tcot.tolist() == row.plain.tolist()
    assert counts(empty.ingest()) == {"unchanged": NUM_PLACES}
    assert empty.num_reasoned == 0


def test_thinking_can_follow_later_and_another_reasoner_is_asked_anew(empty: Collection):
    assert counts(empty.ingest(think=False)) == NEW
    assert empty.num_reasoned == 0
    assert empty.rows["red.png"].tcot_text is None
    assert counts(empty.ingest()) == NEW
    assert empty.num_reasoned == NUM_ITEMS
    assert counts(empty.ingest(think=False)) == {"unchanged": NUM_PLACES}, "what was thought is kept"
    first, empty.reasoner = empty.reasoner, FakeReasoner("another")
    assert counts(empty.ingest()) == NEW
    assert empty.num_reasoned == NUM_ITEMS
    empty.reasoner = first
    assert counts(empty.ingest()) == NEW, "its T-CoTs were kept"
    assert empty.num_reasoned == 0, "its T-CoTs were kept"


def test_as_many_frames_are_looked_at_as_the_reasoner_sees(empty: Collection):
    empty.ingest(think=False)
    assert len(empty.rows["deep/clip.mp4"].frame_times_s) == 8
    empty.reasoner = FakeReasoner("sees less", num_frames=4)
    empty.ingest()
    assert len(empty.rows["deep/clip.mp4"].frame_times_s) == 4


def test_the_order_and_the_result_do_not_depend_on_the_batch(filled: Collection, tmp_path: Path):
    index = Index.open(tmp_path / "other", embedder=filled.embedder)
    seen: list[tuple[int, int]] = []
    ingest(
        filled.folder, index, filled.reasoner, filled.embedder, batch_size=100, on_progress=lambda done, total: seen.append((done, total))
    )
    num_places = len(list(filled.index.places()))
    assert seen[0] == (0, 9), "files, before any is opened"
    assert seen[-1] == (num_places, num_places), "a document counts its pages"
    assert seen == sorted(seen)
    other = {row.place.key: row for row in index.rows({place.key for place in index.places()})}
    assert len(other) == NUM_ITEMS
    for row in filled.rows.values():
        assert row.tcot_text == other[row.place.key].tcot_text
        assert abs(row.tcot - other[row.place.key].tcot).max() < 1e-6


def test_a_vector_that_is_none_stops_the_run(empty: Collection):
    empty.embedder.picture_weight = float("nan")
    with pytest.raises(ModelError, match="not of unit length"):
        empty.ingest()
    empty.embedder.picture_weight = 1.0
    assert len(empty.rows) < NUM_PLACES
    empty.ingest()
    assert len(empty.rows) == NUM_PLACES
    assert empty.num_reasoned < NUM_ITEMS


def test_wrong_use_is_refused(filled: Collection, tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no such folder"):
        ingest(tmp_path / "nowhere", filled.index, filled.reasoner, filled.embedder)
    with pytest.raises(ConfigError, match="think=False"):
        ingest(filled.folder, filled.index, None, filled.embedder)
    with pytest.raises(ConfigError, match="holds vectors of 'fake-embedder'"):
        ingest(filled.folder, filled.index, filled.reasoner, FakeEmbedder("another"))
    lock = filled.index.writing()
    with pytest.raises(StoreError, match="another process is writing"):
        filled.ingest()
    lock.release()
    assert counts(filled.ingest()) == {"unchanged": NUM_PLACES}
