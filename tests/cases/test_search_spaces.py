"""Searches that compared vectors of two kinds: a query or an item without a T-CoT (report of five users, findings 4 and 6j).

The fake Embedder's vectors with T-CoTs lie closer together than its plain ones would suggest, and a `Shifted` one moves every vector with
a T-CoT far to one side, as a trained Embedder does: whoever compares the two kinds gets an order that has nothing to do with the query.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrl.cli.listing import show
from embedrl.data import items
from embedrl.data.protocols import Unanswered
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import ModelError
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, recommend
from embedrl.index.search import QueryVectors, SearchResult, rank, search
from embedrl.media.content import Content, Image, Text
from embedrl.media.image import save_image
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import picture
from tests.served import served

ANIMALS = ("cat", "dog", "horse", "owl", "seal", "crab", "moth", "toad", "wolf", "goat")
NUM_MUTE = 3
TOPICS = ("a cat", "rocket launch", "packaging of a seal", "coffee with an owl")


class Shifted(FakeEmbedder):
    """Plain vectors lean to one side, those with a T-CoT to the other: cosines across the kinds are all low, or all high."""

    def __init__(self, lean: float) -> None:
        super().__init__("shifted")
        self.lean = lean

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        vectors = super().embed(items, tcots)
        vectors[:, 0] += [self.lean if tcot is None else 0.3 for tcot in tcots]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def content(text: str) -> Content:
    return (Text(text=text),)


def make_library(folder: Path) -> Path:
    """Write forty texts about ten animals."""
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.txt").write_text(f"the {ANIMALS[number % 10]} number {number} and its coffee or rocket", "utf-8")
    return folder


def mute_keys(folder: Path) -> set[str]:
    """Return the keys of the first texts: the Reasoner of these tests writes no T-CoT of them."""
    files = sorted(folder.glob("*.txt"))[:NUM_MUTE]
    return {items.candidate(content(path.read_text())).key for path in files}


def test_a_table_of_hits_says_which_scores_are_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, embedder = make_library(tmp_path / "library"), FakeEmbedder()
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, FakeReasoner(fail_keys=mute_keys(folder)), embedder)
    for limit, said in ((40, f"{NUM_MUTE} of these have no T-CoT"), (1, "")):
        show(search(index, Query("coffee", limit=limit), embedder, FakeReasoner()), as_json=False)
        error = capsys.readouterr().err
        assert (said in error) if said else ("of these have no T-CoT" not in error)


@pytest.fixture(scope="module", params=[0.0, 3.0], ids=["the same side", "two sides"])
def embedder(request: pytest.FixtureRequest) -> Shifted:
    return Shifted(request.param)


@pytest.fixture(scope="module")
def index(embedder: Shifted, tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = make_library(tmp_path_factory.mktemp("spaces") / "library")
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, FakeReasoner(fail_keys=mute_keys(folder)), embedder)
    return index


def ranks(result: SearchResult) -> dict[str, int]:
    return {hit.key: position for position, hit in enumerate(result.hits)}


def test_which_items_have_no_tcot_is_told_from_two_small_columns(index: Index):
    rows = index.rows([place.key for place in index.places()])
    without = {row.place.key for row in rows if row.tcot_text is None}
    assert without == mute_keys(index.base)
    assert index.without_tcot([row.place.key for row in rows]) == without
    assert index.table.without_tcot([row.place.key for row in rows]) == without
    assert index.table.num_without_tcot() == NUM_MUTE
    assert index.stats().num_without_tcot == NUM_MUTE


def test_a_query_without_a_tcot_is_ranked_by_plain_vectors_and_says_so(index: Index, embedder: Shifted):
    for topic in TOPICS:
        query = Query(content(topic), limit=40)
        mute = FakeReasoner(fail_keys={query.item.key})
        plain = search(index, Query(content(topic), use_tcot=False, limit=40), embedder)
        failed = search(index, query, embedder, mute)
        assert failed.hits == plain.hits
        assert failed.used_tcot is False
        assert failed.query_tcot_failure == "missing_thinking"
        assert plain.query_tcot_failure is None


def test_a_reasoner_that_refuses_a_query_costs_its_tcot_and_not_the_answer(index: Index, embedder: Shifted):
    class Refuses(FakeReasoner):
        def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
            raise Unanswered("no answer for 1 of 1 items: too long", [ModelError("too long")])

    refused = search(index, Query(content("a cat")), embedder, Refuses())
    assert refused.hits == search(index, Query(content("a cat"), use_tcot=False), embedder).hits
    assert refused.used_tcot is False
    assert refused.query_tcot_failure == "model_error"
    assert refused.query_tcot_error == "too long"


@pytest.mark.parametrize("topic", TOPICS)
def test_items_without_a_tcot_keep_the_rank_of_the_plain_search(index: Index, embedder: Shifted, topic: str):
    plain = ranks(search(index, Query(content(topic), use_tcot=False, limit=40), embedder))
    reasoned = search(index, Query(content(topic), limit=40), embedder, FakeReasoner())
    assert reasoned.used_tcot is True
    mute = mute_keys(index.base)
    assert {key: rank for key, rank in ranks(reasoned).items() if key in mute} == {key: plain[key] for key in mute}
    others = [hit.score for hit in reasoned.hits if hit.key not in mute]
    assert others == sorted(others, reverse=True)
    assert len(reasoned.hits) == 40


def test_not_all_items_without_a_tcot_come_to_the_top_whatever_is_asked(index: Index, embedder: Shifted):
    mute, num_at_the_top = mute_keys(index.base), 0
    for topic in TOPICS:
        best = search(index, Query(content(topic), limit=4), embedder, FakeReasoner()).hits
        num_at_the_top += len(mute & {hit.key for hit in best})
    assert num_at_the_top < len(TOPICS) * NUM_MUTE


def test_pages_of_a_merged_ranking_fit_together(index: Index, embedder: Shifted):
    whole = search(index, Query(content("a cat"), limit=40), embedder, FakeReasoner()).hits
    parts = [search(index, Query(content("a cat"), offset=offset, limit=7), embedder, FakeReasoner()) for offset in range(0, 40, 7)]
    assert [hit for part in parts for hit in part.hits] == list(whole)
    assert [part.more for part in parts] == [True] * 5 + [False]


def test_an_approximate_index_merges_as_an_exact_one_does(index: Index, embedder: Shifted):
    exact = search(index, Query(content("a cat"), limit=12), embedder, FakeReasoner())
    large = Index.open(index.directory, embedder=embedder)
    large.change_policy(exact_below=1)
    large.finish()
    assert large.stats().search == "approximate"
    assert search(large, Query(content("a cat"), limit=12), embedder, FakeReasoner()).hits == exact.hits


def test_an_index_in_which_nothing_has_a_tcot_is_ranked_plainly(embedder: Shifted, tmp_path: Path):
    folder = make_library(tmp_path / "library")
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, None, embedder, think=False)
    plain = search(index, Query(content("a cat"), use_tcot=False), embedder)
    assert search(index, Query(content("a cat")), embedder, FakeReasoner()).hits == plain.hits


def test_an_item_in_both_rankings_is_one_hit(index: Index, embedder: Shifted):
    [vector] = embedder.embed([Query(content("a cat")).item], [None])
    hits = rank(index, QueryVectors(plain=vector, tcot=vector), 100)
    assert len({hit.key for hit in hits}) == 40
    assert len(hits) == 40


def test_examples_without_a_tcot_are_compared_plainly(index: Index):
    mute = min(mute_keys(index.base))
    asked = recommend(index, Examples(liked={mute: 1.0}, limit=40))
    plain = recommend(index, Examples(liked={mute: 1.0}, limit=40, use_tcot=False))
    assert asked == plain
    assert asked.used_tcot is False


@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_recommendations_do_not_favour_items_without_a_tcot(index: Index, diversity: float):
    mute = mute_keys(index.base)
    liked = sorted(place.key for place in index.places() if place.key not in mute)[0]
    result = recommend(index, Examples(liked={liked: 1.0}, limit=39, diversity=diversity))
    assert result.used_tcot is True
    assert {item.hit.key for item in result.items[:NUM_MUTE]} != mute
    assert len(result.items) == 39


# ---- the query's own bytes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("pictures")
    for number, colour in enumerate(("red", "green", "blue", "yellow", "pink")):
        save_image(picture(colour, 40 + number), folder / f"{colour}.png")
    (folder / "note.txt").write_text("purple", "utf-8")
    embedder = FakeEmbedder(picture_weight=0.0)  # blind: an image's own cosine says nothing
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, FakeReasoner(), embedder)
    return index


def test_equal_bytes_come_first(pictures: Index, tmp_path: Path):
    embedder = FakeEmbedder(picture_weight=0.0)
    for colour in ("red", "green", "blue", "yellow", "pink"):
        copy = tmp_path / f"{colour} elsewhere.png"
        copy.write_bytes((pictures.base / f"{colour}.png").read_bytes())
        for use_tcot in (True, False):
            hits = search(pictures, Query((Image(path=copy),), use_tcot=use_tcot, limit=6), embedder, FakeReasoner()).hits
            assert str(hits[0].path) == f"{colour}.png"
            assert len({hit.key for hit in hits}) == 6
            assert len(hits) == 6
    again = search(pictures, Query((Image(path=pictures.base / "pink.png"),), offset=1, limit=5), embedder, FakeReasoner()).hits
    assert "pink.png" not in {str(hit.path) for hit in again}


def test_equal_bytes_come_first_only_where_the_filters_admit_them(pictures: Index):
    embedder, content = FakeEmbedder(picture_weight=0.0), (Image(path=pictures.base / "red.png"),)
    red = search(pictures, Query(content, use_tcot=False), embedder).hits[0].key
    for narrowed in (
        Query(content, use_tcot=False, filter=Filter(modality=("text",))),
        Query(content, use_tcot=False, filter=Filter(path="g*")),
        Query(content, use_tcot=False, exclude_keys=[red]),
    ):
        assert red not in {hit.key for hit in search(pictures, narrowed, embedder).hits}


def test_a_composed_search_leaves_its_own_reference_out(pictures: Index):
    composed = (Image(path=pictures.base / "red.png"), Text(text="make it blue"))
    hits = search(pictures, Query(composed, limit=9), FakeEmbedder(), FakeReasoner()).hits
    assert "red.png" not in {str(hit.path) for hit in hits}
    assert len(hits) == 5


def test_over_http_too(tmp_path: Path):
    folder = make_library(tmp_path / "library")
    save_image(picture("red"), folder / "red.png")
    mute = Query(content("a cat")).item.key
    with served(folder, reasoner=FakeReasoner(fail_keys={mute})) as server:
        upload = ("x.png", (folder / "red.png").read_bytes())
        assert server.paths(file=upload, limit=1, think=True) == ["red.png"]
        assert server.paths(file=upload, limit=1, think=False) == ["red.png"]
        assert "red.png" not in server.paths(file=upload, text="make it blue", limit=100)
        answer = server.search(text="a cat", think=True, limit=50)
        assert answer["think"] is False
        assert answer["query"] == {"tcot": None, "failure": "missing_thinking", "evidence": None, "key": None}
        assert [hit["key"] for hit in answer["hits"]] == [hit["key"] for hit in server.search(text="a cat", think=False, limit=50)["hits"]]


def test_rerank_compares_all_as_they_are_if_one_has_no_tcot(tmp_path: Path):
    documents = ["a cat and coffee", "a dog", "an owl", "the cat"]
    mute = items.candidate(content(documents[1])).key
    with served(make_library(tmp_path / "library"), reasoner=FakeReasoner(fail_keys={mute}), embedder=Shifted(3.0)) as server:

        def rerank(think: bool, documents: list[str]) -> dict[str, Any]:
            answer = server.client.post("/v1/rerank", json={"query": "a cat", "documents": documents, "think": think})
            assert answer.status_code == 200, answer.text
            return answer.json()

        plain, reasoned = rerank(False, documents), rerank(True, documents)
        assert reasoned["think"] is False
        assert reasoned["results"] == plain["results"]
        assert rerank(True, [documents[0], *documents[2:]])["think"] is True
        asked = {"input": documents[:2], "think": True}
        vectors = server.client.post("/v1/embeddings", json=asked).json()["data"]
        assert [vector["tcot_failure"] for vector in vectors] == [None, "missing_thinking"]
