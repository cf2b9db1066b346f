import json
from pathlib import Path
from typing import Any

import pytest

from embedrl.data.tcot import FailureReason, ParseFailure
from embedrl.errors import ConfigError
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, recommend
from embedrl.index.search import SearchResult, search
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
    return [str(hit.path) for hit in search_text(index, text, **options).hits]


def search_text(index: Index, text: str, reasoner: FakeReasoner | None = REASONER, **options: Any) -> SearchResult:
    return search(index, Query((Text(text=text),), **options), EMBEDDER, reasoner)


def test_text_finds_what_it_names(index: Index):
    assert ask(index, "something yellow", limit=1) == ["yellow.png"]
    assert ask(index, "elephant", limit=1) == ["note.md"]
    assert ask(index, "a purple clip", limit=1) == ["deep/clip.mp4"]
    assert ask(index, "the invoice", limit=1) == ["line\nbreak \u2603.txt"]


def test_a_picture_finds_its_like(index: Index, tmp_path: Path):
    query = (Image(pixels=picture("green")),)
    for use_tcot in (True, False):
        assert str(search(index, Query(query, use_tcot=use_tcot), EMBEDDER, REASONER).hits[0].path) == "green.png"
    composed = Query((*query, Text(text="but yellow, yellow")), instruction="Change the picture.")
    assert str(search(index, composed, EMBEDDER, REASONER).hits[0].path) == "yellow.png"


def test_thinking_uses_the_tcots_of_both_sides(index: Index):
    thought = search_text(index, "blue")
    plain = search_text(index, "blue", use_tcot=False)
    assert thought.query_tcot is not None
    assert plain.query_tcot is None
    assert str(thought.hits[0].path) == "blue.png"
    assert thought.hits[0].score > 2 * max(hit.score for hit in plain.hits if hit.key == thought.hits[0].key)


def test_a_query_without_a_tcot_is_still_searched(index: Index):
    class Mute(FakeReasoner):
        def reason(self, items):
            return [ParseFailure(reason=FailureReason.EMPTY, text="") for _ in items]

    result = search_text(index, "red", Mute())
    assert (result.query_tcot, result.query_tcot_failure, str(result.hits[0].path)) == (None, "empty", "deep/er/red again.png")


def test_a_hit_shows_its_evidence(index: Index):
    clip = search_text(index, "purple", filter=Filter(modality=("video",))).hits[0]
    assert clip.tcot
    assert clip.verification
    assert clip.tcot.evidence.key_frames == (3,)
    assert clip.verification.key_frames == (True,)
    assert (clip.start_s, clip.end_s) == (0.0, pytest.approx(4.0))
    assert clip.key_frame_times_s == (pytest.approx(1.0),)
    page = search_text(index, "pink page", filter=Filter(modality=("page",))).hits[0]
    assert (str(page.path), page.page, page.modality) == ("pages.pdf", 1, "page")
    red = search_text(index, "red picture").hits[0]
    assert (str(red.path), red.other_paths, red.answer) == ("deep/er/red again.png", (Path("red.png"),), "a red picture")
    assert red.tcot
    assert red.tcot.evidence.boxes == ((250, 250, 750, 750),)
    assert index.thumbnail(red.key).startswith(b"\xff\xd8")
    assert index.locate(red.path).is_file()
    note = search_text(index, "elephant").hits[0]
    assert note.tcot
    assert note.tcot.evidence.keywords == ("letter", "about", "elephant")
    assert note.excerpt == "a letter about an elephant"
    assert note.verification
    assert note.verification.valid
    assert len(note.verification.keywords) == 3


def test_results_are_json(index: Index):
    result = search_text(index, "green grocer")
    assert SearchResult.model_validate(json.loads(result.model_dump_json())) == result
    assert Hit.model_validate_json(result.hits[0].model_dump_json()) == result.hits[0]


def test_filters(index: Index):
    everything = search_text(index, "red picture", unit="unit", limit=100).hits
    assert len(everything) == NUM_ITEMS, "the same content is one hit"
    assert len({hit.key for hit in everything}) == NUM_ITEMS, "the same content is one hit"
    assert [hit.score for hit in everything] == sorted((hit.score for hit in everything), reverse=True)
    assert len(ask(index, "red picture", limit=3)) == 3
    assert ask(index, "red picture", min_score=everything[0].score) == [str(everything[0].path)]
    assert ask(index, "red picture", min_score=1.0) == []
    assert set(ask(index, "red picture", filter=Filter(modality=("text", "video")))) == {
        "note.md",
        "line\nbreak \u2603.txt",
        "deep/clip.mp4",
    }
    assert str(everything[0].path) not in ask(index, "red picture", exclude_keys=[everything[0].key], limit=100)


def test_recommend_leaves_the_item_itself_out(index: Index):
    blue = search_text(index, "blue picture", filter=Filter(modality=("image",))).hits[0]
    for use_tcot in (True, False):
        hits = [item.hit for item in recommend(index, Examples(liked={blue.key[:8]: 1.0}, use_tcot=use_tcot, unit="unit", limit=100)).items]
        assert len(hits) == NUM_ITEMS - 1
        assert blue.key not in {hit.key for hit in hits}
    clips = Examples(liked={blue.key: 1.0}, use_tcot=False, filter=Filter(modality=("video",)))
    assert [item.hit.modality for item in recommend(index, clips).items] == ["video"]
    with pytest.raises(ConfigError, match="no such item"):
        recommend(index, Examples(liked={"0123456789": 1.0}))
    with pytest.raises(ConfigError, match="first 6 hex digits"):
        recommend(index, Examples(liked={"red.png": 1.0}))
