"""Recommendation and filters, on vectors that a person can check by hand and on a folder that the fakes understand."""

import os

import numpy as np
import pytest

from embedrl.errors import ConfigError
from embedrl.index import Index, Where, ingest, recommend, search
from embedrl.index.exact import Neighbour
from embedrl.index.recommend import _diverse
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
    found = search(index, EMBEDDER, REASONER, content=(Text(text=text),), top=20, where=Where(**where))
    return sorted(str(hit.path) for hit in found.hits)


def keys(index: Index) -> dict[str, str]:
    return {str(place.path): place.key for place in index.places()}


def test_filters_by_place_date_and_exact_words(index: Index):
    assert names(index, path="deep") == ["deep/clip.mp4", "deep/er/red again.png"]
    assert names(index, path="*.pdf") == ["pages.pdf", "pages.pdf"]
    assert names(index, path="nowhere") == []
    assert names(index, words=("Elephant",)) == ["note.md"]
    assert names(index, words=("grocer", "invoice")) == ["line\nbreak \u2603.txt"]
    assert names(index, words=("grocer", "elephant")) == []
    assert names(index, words=("%", "' OR 1=1 --")) == []
    before, after = names(index, until_s=1003), names(index, since_s=1003)
    assert before == ["blue.png", "deep/clip.mp4", "deep/er/red again.png"]  # in the order in which they were dated
    assert sorted({*before, *after}) == sorted(set(names(index))) and set(before) & set(after) == {"deep/er/red again.png"}  # red.png
    assert names(index, path="deep", since_s=1001, until_s=1002) == ["deep/clip.mp4"]
    with pytest.raises(ValueError, match="earlier"):
        Where(since_s=2, until_s=1)


def test_a_filtered_search_is_exact_above_the_threshold_too(index: Index):
    large = Index.open(index.directory, embedder=EMBEDDER, exact_below=1)
    large.finish()
    assert large.stats().search == "approximate"
    vector = index.rows([keys(index)["green.png"]])[0].tcot
    only = {keys(index)[name] for name in ("blue.png", "yellow.png", "note.md")}
    found = large.nearest(vector, "tcot", 5, only_keys=only)
    assert found == index.nearest(vector, "tcot", 5, only_keys=only) and {neighbour.key for neighbour in found} == only
    assert large.nearest(vector, "tcot", 5, only_keys=only, exclude_keys=[keys(index)["blue.png"]], modality=["text"]) == found[2:]


def test_likes_attract_and_dislikes_repel(index: Index):
    known = keys(index)
    [first, *_] = recommend(index, {known["blue.png"]: 1.0}, modality=["image"])
    assert first.reason.key == known["blue.png"] and first.reason.shared == ("picture",) and first.reason.shared_kinds == ("boxes",)
    both = recommend(index, {known["note.md"]: 1.0, known["red.png"]: 1.0}, top=9)
    assert {known["note.md"], known["red.png"]}.isdisjoint(found.hit.key for found in both)

    def score(disliked: dict[str, float], wanted: str) -> float:
        found = recommend(index, {known["yellow.png"]: 1.0}, disliked, top=9, diversity=0)
        return {recommended.hit.key: recommended.hit.score for recommended in found}[known[wanted]]

    assert score({known["red.png"]: 1.0}, "green.png") < score({}, "green.png")  # a picture as such is liked less


def test_weights_say_how_much(index: Index):
    known = keys(index)

    def first(weight: float) -> str:
        return str(recommend(index, {known["deep/clip.mp4"]: 1.0, known["note.md"]: weight}, top=1, diversity=0)[0].hit.path)

    assert (first(0.01), first(100.0)) == (first(0.02), first(50.0)) and first(0.01) != first(100.0)


def test_diversity_by_hand():
    vectors = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    found = [Neighbour("a", 0.9), Neighbour("b", 0.89), Neighbour("c", 0.5)]
    assert [neighbour.key for neighbour in _diverse(found, vectors, 2, 0.0)] == ["a", "b"]
    assert [neighbour.key for neighbour in _diverse(found, vectors, 2, 0.5)] == ["a", "c"]  # b: .445 - .5, c: .25 - 0
    assert [neighbour.key for neighbour in _diverse(found, vectors, 9, 0.5)] == ["a", "c", "b"]
    assert _diverse([], np.empty((0, 3)), 5, 0.5) == []


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
            recommend(index, likes, dislikes, **options)
