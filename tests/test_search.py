import json
from pathlib import Path

import pytest

from embedrl.data.tcot import FailureReason, ParseFailure
from embedrl.errors import ConfigError
from embedrl.index import Hit, Index, SearchResult, ingest, recommend, search
from embedrl.media.content import Image, Text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import NUM_ITEMS, make_folder, picture

EMBEDDER, REASONER = FakeEmbedder(), FakeReasoner()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = make_folder(tmp_path_factory.mktemp("search") / "media")
    index = Index.open(folder, embedder=EMBEDDER)
    ingest(folder, index, REASONER, EMBEDDER)
    return index


def ask(index: Index, text: str, **options: object) -> list[str]:
    return [str(hit.path) for hit in search(index, EMBEDDER, REASONER, content=(Text(text=text),), **options).hits]


def test_text_finds_what_it_names(index: Index):
    assert ask(index, "something yellow", top=1) == ["yellow.png"]
    assert ask(index, "elephant", top=1) == ["note.md"]
    assert ask(index, "a purple clip", top=1) == ["deep/clip.mp4"]
    assert ask(index, "the invoice", top=1) == ["line\nbreak \u2603.txt"]


def test_a_picture_finds_its_like(index: Index, tmp_path: Path):
    query = (Image(pixels=picture("green")),)
    for options in ({"reasoner": REASONER}, {"think": False}):
        assert str(search(index, EMBEDDER, content=query, **options).hits[0].path) == "green.png"
    composed = search(index, EMBEDDER, REASONER, content=(*query, Text(text="but yellow, yellow")), instruction="Change the picture.")
    assert str(composed.hits[0].path) == "yellow.png"


def test_thinking_uses_the_tcots_of_both_sides(index: Index):
    thought = search(index, EMBEDDER, REASONER, content=(Text(text="blue"),))
    plain = search(index, EMBEDDER, REASONER, content=(Text(text="blue"),), think=False)
    assert thought.query_tcot is not None and plain.query_tcot is None
    assert str(thought.hits[0].path) == "blue.png"
    assert thought.hits[0].score > 2 * max(hit.score for hit in plain.hits if hit.key == thought.hits[0].key)


def test_a_query_without_a_tcot_is_still_searched(index: Index):
    class Mute(FakeReasoner):
        def reason(self, items):
            return [ParseFailure(reason=FailureReason.EMPTY, text="") for _ in items]

    result = search(index, EMBEDDER, Mute(), content=(Text(text="red"),))
    assert (result.query_tcot, result.query_tcot_failure, str(result.hits[0].path)) == (None, FailureReason.EMPTY, "deep/er/red again.png")


def test_a_hit_shows_its_evidence(index: Index):
    clip = search(index, EMBEDDER, REASONER, content=(Text(text="purple"),), modality=["video"]).hits[0]
    assert clip.tcot and clip.verification and clip.tcot.evidence.key_frames == (3,)
    assert clip.verification.key_frames == (True,) and (clip.start_s, clip.end_s) == (0.0, pytest.approx(4.0))
    assert clip.key_frame_times_s == (pytest.approx(1.0),)
    page = search(index, EMBEDDER, REASONER, content=(Text(text="pink page"),), modality=["page"]).hits[0]
    assert (str(page.path), page.page, page.modality) == ("pages.pdf", 1, "page")
    red = search(index, EMBEDDER, REASONER, content=(Text(text="red picture"),)).hits[0]
    assert (str(red.path), red.other_paths, red.answer) == ("deep/er/red again.png", (Path("red.png"),), "a red picture")
    assert red.tcot and red.tcot.evidence.boxes == ((250, 250, 750, 750),)
    assert index.thumbnail(red.key).startswith(b"\xff\xd8") and index.locate(red.path).is_file()
    note = search(index, EMBEDDER, REASONER, content=(Text(text="elephant"),)).hits[0]
    assert note.tcot and note.tcot.evidence.keywords == ("letter", "about", "elephant") and note.excerpt == "a letter about an elephant"
    assert note.verification and note.verification.valid and len(note.verification.keywords) == 3


def test_results_are_json(index: Index):
    result = search(index, EMBEDDER, REASONER, content=(Text(text="green grocer"),))
    assert SearchResult.model_validate(json.loads(result.model_dump_json())) == result
    assert Hit.model_validate_json(result.hits[0].model_dump_json()) == result.hits[0]


def test_filters(index: Index):
    everything = search(index, EMBEDDER, REASONER, content=(Text(text="red picture"),), top=100).hits
    assert len(everything) == NUM_ITEMS == len({hit.key for hit in everything}), "the same content is one hit"
    assert [hit.score for hit in everything] == sorted((hit.score for hit in everything), reverse=True)
    assert len(ask(index, "red picture", top=3)) == 3
    assert ask(index, "red picture", min_score=everything[0].score) == [str(everything[0].path)]
    assert ask(index, "red picture", min_score=1.0) == []
    assert set(ask(index, "red picture", modality=["text", "video"])) == {"note.md", "line\nbreak \u2603.txt", "deep/clip.mp4"}
    assert str(everything[0].path) not in ask(index, "red picture", exclude_keys=[everything[0].key], top=100)


def test_recommend_leaves_the_item_itself_out(index: Index):
    blue = search(index, EMBEDDER, REASONER, content=(Text(text="blue picture"),), modality=["image"]).hits[0]
    for think in (True, False):
        found = [each.hit for each in recommend(index, {blue.key[:8]: 1.0}, think=think, top=100)]
        assert len(found) == NUM_ITEMS - 1 and blue.key not in {hit.key for hit in found}
    assert [each.hit.modality for each in recommend(index, {blue.key: 1.0}, think=False, modality=["video"])] == ["video"]
    with pytest.raises(ConfigError, match="no such item"):
        recommend(index, {"0123456789": 1.0})
    with pytest.raises(ConfigError, match="first 6 hex digits"):
        recommend(index, {"red.png": 1.0})
