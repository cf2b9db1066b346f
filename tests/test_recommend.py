"""Recommendation and filters, on vectors that a person can check by hand and on a folder that the fakes understand."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrl.errors import ConfigError
from embedrl.index.exact import Candidates, Neighbour
from embedrl.index.filter import Filter, read_time
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.phrases import MAX_PHRASES, shared_phrases
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, Recommended, _diverse, recommend
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder

EMBEDDER, REASONER = FakeEmbedder(), FakeReasoner()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = make_folder(tmp_path_factory.mktemp("recommend") / "media")
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        os.utime(path, (1000 + number, 1000 + number))
    index = Index.open(folder, embedder=EMBEDDER)
    ingest(folder, index, REASONER, EMBEDDER)
    return index


def names(index: Index, text: str = "picture", **where: object) -> list[str]:
    query = Query((Text(text=text),), filter=Filter(**where), unit="unit", limit=20)
    return sorted(str(hit.path) for hit in search(index, query, EMBEDDER, REASONER).hits)


def recommended(index: Index, liked: dict[str, float], disliked: dict[str, float] | None = None, **options: Any) -> list[Recommended]:
    return [*recommend(index, Examples(liked=liked, disliked=disliked or {}, **options)).items]


def keys(index: Index) -> dict[str, str]:
    return {str(place.path): place.key for place in index.places()}


def test_filters_by_place(index: Index):
    assert names(index, path="deep") == ["deep/clip.mp4", "deep/er/red again.png"]
    assert names(index, path="./deep/") == ["deep/clip.mp4", "deep/er/red again.png"]
    assert names(index, path="/deep") == ["deep/clip.mp4", "deep/er/red again.png"]
    assert names(index, path="*.pdf") == ["pages.pdf", "pages.pdf"]
    assert names(index, path="dee") == []
    assert names(index, path="nowhere") == []
    assert names(index, path="%") == []
    assert names(index, path="' OR 1=1 --") == []
    assert names(index, path="line\nbreak \u2603.txt") == ["line\nbreak \u2603.txt"]
    assert names(index, path=".") == names(index)


def test_filters_by_date_of_the_file(index: Index):
    before, after = names(index, until_s=1003), names(index, since_s=1003)
    assert before == ["blue.png", "deep/clip.mp4", "deep/er/red again.png"]  # in the order in which they were dated
    assert sorted({*before, *after}) == sorted(set(names(index)))
    assert set(before) & set(after) == {"deep/er/red again.png"}  # red.png
    assert names(index, path="deep", since_s=1001, until_s=1002) == ["deep/clip.mp4"]
    with pytest.raises(ValueError, match="earlier"):
        Filter(since_s=2, until_s=1)


def test_filters_by_exact_words_in_name_text_and_answer(index: Index):
    assert names(index, words=("Elephant",)) == ["note.md"]  # its text
    assert names(index, words=("MD",)) == ["note.md"]  # its name
    assert names(index, words=("clip",)) == ["deep/clip.mp4"]
    assert names(index, words=("purple", "clip.mp4")) == ["deep/clip.mp4"]
    assert names(index, words=("grocer", "invoice")) == ["line\nbreak \u2603.txt"]
    assert names(index, words=("grocer", "elephant")) == []
    assert names(index, words=("eleph",)) == []
    assert names(index, words=("red",)) == ["deep/er/red again.png"]  # the other place's name counts as well
    for odd in ("%", "_", "' OR 1=1 --", '"', "\0", "*", "a" * 5000, "\ud800".encode("utf-8", "replace").decode()):
        assert names(index, words=(odd,)) == [], odd


def test_words_are_found_at_once_after_a_compaction_and_in_scripts_without_blanks(tmp_path: Path):
    def found(*words: str) -> list[str]:
        return sorted(str(place.path) for place in index.places(words))

    names = ("a.txt", os.fsdecode(b"bad\xff name.txt"), "it's 100% [odd].txt")
    for name, text in zip(names, ("北京大学 is a university", "second", "third"), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    index = Index.open(tmp_path, embedder=EMBEDDER)
    assert found("second") == []
    ingest(tmp_path, index, None, EMBEDDER, think=False)
    for _ in range(2):
        assert found("大学") == ["a.txt"]
        assert found("University", "北京") == ["a.txt"]
        assert found("second") == [names[1]]
        assert found("bad", "name") == [names[1]]
        assert found("it's", "100%", "[odd]") == [names[2]]
        index.compact()
    (tmp_path / "a.txt").write_text("fourth", "utf-8")
    ingest(tmp_path, index, None, EMBEDDER, think=False)
    assert found("大学") == []
    assert found("fourth") == ["a.txt"]


def test_dates_are_read_as_utc_and_an_end_includes_its_day():
    assert read_time("1970-01-02") == 86_400
    assert read_time("1970-01-02T00:00") == 86_400
    assert read_time("1970-01-02", is_end=True) == 2 * 86_400
    assert read_time("1970-01-01T02:00+02:00") == 0
    assert read_time("9999-12-31", is_end=True) == read_time("9999-12-31T23:59:59.999999")
    for wrong in ("yesterday", "", "2024-13-01", "9999-12-31T25:00"):
        with pytest.raises(ConfigError, match="give a date"):
            read_time(wrong)


def test_sorted_and_paged(index: Index):
    def found(**options: Any) -> list[Hit]:
        return list(search(index, Query((Text(text="something red"),), **options), EMBEDDER, REASONER).hits)

    everything = found(limit=20)
    assert [hit.key for offset in (0, 4, 8) for hit in found(limit=4, offset=offset)] == [hit.key for hit in everything]
    names = [str(hit.path) for hit in found(limit=20, sort="name")]
    assert names == sorted(names, key=str.casefold)
    assert found(limit=2, offset=3, sort="name") == found(limit=20, sort="name")[3:5]
    newest = found(limit=20, sort="newest")
    assert [hit.modified_s for hit in newest] == sorted((hit.modified_s for hit in everything), reverse=True)
    assert [hit.modified_s for hit in found(limit=20, sort="oldest")] == sorted(hit.modified_s for hit in everything)
    kept = found(limit=20, sort="oldest", min_score=everything[2].score)
    assert {hit.key for hit in kept} == {hit.key for hit in everything[:3]}


def test_a_filtered_search_is_exact_above_the_threshold_too(index: Index):
    large = Index.open(index.directory, embedder=EMBEDDER)
    large.change_policy(exact_below=1)
    large.finish()
    assert large.stats().search == "approximate"
    vector = index.rows([keys(index)["green.png"]])[0].tcot
    only = {keys(index)[name] for name in ("blue.png", "yellow.png", "note.md")}
    found = large.nearest(vector, "tcot", 5, Candidates(only_keys=only))
    assert found == index.nearest(vector, "tcot", 5, Candidates(only_keys=only))
    assert {neighbour.key for neighbour in found} == only
    among = Candidates(only_keys=only, exclude_keys=[keys(index)["blue.png"]], modality=["text"])
    assert large.nearest(vector, "tcot", 5, among) == found[2:]


def test_likes_attract_and_dislikes_repel(index: Index):
    known = keys(index)
    [first, *_] = recommended(index, {known["blue.png"]: 1.0}, filter=Filter(modality=("image",)))
    assert first.reason.key == known["blue.png"]
    assert first.reason.shared == ("picture",)
    assert first.reason.say("blue.png") == "like blue.png: both show picture"
    both = recommended(index, {known["note.md"]: 1.0, known["red.png"]: 1.0}, limit=9)
    assert {known["note.md"], known["red.png"]}.isdisjoint(found.hit.key for found in both)

    def score(disliked: dict[str, float], wanted: str) -> float:
        found = recommended(index, {known["yellow.png"]: 1.0}, disliked, limit=9, diversity=0)
        return {item.hit.key: item.hit.score for item in found}[known[wanted]]

    assert score({known["red.png"]: 1.0}, "green.png") < score({}, "green.png")  # a picture as such is liked less


def test_weights_say_how_much(index: Index):
    known = keys(index)

    def first(weight: float) -> str:
        return str(recommended(index, {known["deep/clip.mp4"]: 1.0, known["note.md"]: weight}, limit=1, diversity=0)[0].hit.path)

    assert (first(0.01), first(100.0)) == (first(0.02), first(50.0))
    assert first(0.01) != first(100.0)


def test_filtered_and_paged_recommendations_fit_together(index: Index):
    liked = {keys(index)["red.png"]: 1.0}
    for diversity in (0.0, 0.6):
        everything = recommended(index, liked, limit=9, diversity=diversity)
        assert [
            *recommended(index, liked, limit=3, diversity=diversity),
            *recommended(index, liked, limit=9, offset=3, diversity=diversity),
        ] == [*everything]
    assert {str(found.hit.path) for found in recommended(index, liked, filter=Filter(words=("picture",)))} == {
        "blue.png",
        "green.png",
        "yellow.png",
    }
    assert [str(found.hit.path) for found in recommended(index, liked, filter=Filter(path="deep"))] == ["deep/clip.mp4"]
    assert recommended(index, liked, min_score=1.0) == []
    assert recommended(index, liked, diversity=0.5, min_score=1.0) == []


def test_reasons_are_the_longest_phrases_that_both_hold():
    liked = ["There is a small red star left of the blue ring", "pie chart"]
    assert shared_phrases(["A small red star", "a large blue ring. Pie chart!"], liked) == ("small red star", "blue ring", "pie chart")
    assert shared_phrases(["star star red star", "of the"], liked) == ("red star",)
    assert shared_phrases(["", "a b c d"], []) == ()
    assert shared_phrases([], liked) == ()
    assert shared_phrases(["star pie"], ["star", "pie"]) == ("star", "pie")  # runs end where the other's texts end
    assert len(shared_phrases([f"w{number} x" for number in range(50)], [f"w{number}" for number in range(50)])) == MAX_PHRASES


def test_diversity_by_hand():
    vectors = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    near = [Neighbour("a", 0.9), Neighbour("b", 0.89), Neighbour("c", 0.5)]

    def chosen(top: int, diversity: float) -> list[str]:
        relevance = np.array([neighbour.score for neighbour in near])
        return [neighbour.key for neighbour in _diverse(near, relevance, lambda best: vectors @ vectors[best], top, diversity)]

    assert chosen(2, 0.0) == ["a", "b"]
    assert chosen(2, 0.5) == ["a", "c"]  # b: .445 - .5, c: .25 - 0
    assert chosen(9, 0.5) == ["a", "c", "b"]
    assert _diverse([], np.empty(0), lambda best: np.empty(0), 5, 0.5) == []


def test_wrong_wishes_are_refused(index: Index):
    key = keys(index)["red.png"]
    for likes, dislikes, options, message in (
        ({}, {}, {}, "at least 1 liked"),
        ({key: 0.0}, {}, {}, "above 0"),
        ({key: 1.0}, {key[:12]: 1.0}, {}, "both liked and disliked"),
        ({key: 1.0}, {}, {"diversity": 2.0}, "diversity=2.0"),
        ({"f" * 12: 1.0}, {}, {}, "no such item"),
    ):
        with pytest.raises(ConfigError, match=message):
            recommended(index, likes, dislikes, **options)
