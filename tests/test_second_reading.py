"""The second reading as a reranker: the Reasoner answers anew, and both readings of both sides are compared."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from embedrl.data.items import candidate
from embedrl.data.protocols import Side
from embedrl.data.sample import Item
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.index.second_reading import WORD_WEIGHT, SecondReading
from embedrl.media.content import Text
from embedrl.reasoner.local import LocalReasoner
from embedrl.runtime.names import load_embedder, load_reasoner, load_reranker
from embedrl.testing import FakeEmbedder, FakeReasoner
from embedrl.world.tasks import draw_family


class Rereads:
    """Answers by the item's text; none of what it cannot read."""

    fingerprint, num_frames = "rereads", 8

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Return an answer that stands twice."""
        failure = ParseFailure(reason=FailureReason.EMPTY, text="")
        return [TCoT(thinking=text, rethink="", answer=text) if (text := self.answers.get(item.text)) else failure for item in items]


class Unasked(Rereads):
    """Is not to be asked."""

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        raise AssertionError(items)


def side(text: str, answer: str | None) -> Side:
    return candidate((Text(text=text),)), None if answer is None else TCoT(thinking=answer, rethink="", answer=answer)


def test_both_readings_of_both_sides_count() -> None:
    embedder = FakeEmbedder()
    reranker = SecondReading(Rereads({"q": "red star", "a": "red star", "b": "blue ring"}), embedder)
    query, *candidates = [side("q", "red ring"), side("a", "red ring"), side("b", "red ring")]
    first, second = reranker.rerank(query, candidates)
    assert first is not None
    assert second is not None
    assert first > second, "the first readings are equal, the second ones are not"
    readings = [[query[1], side("q", "red star")[1]], [candidates[0][1], side("a", "red star")[1]]]
    vectors = [embedder.embed([item] * 2, tcots) for item, tcots in zip((query[0], candidates[0][0]), readings, strict=True)]
    words = 1 + 1 / 3 + 1 / 3 + 1
    assert first == pytest.approx(float(np.sum(vectors[0] @ vectors[1].T)) + WORD_WEIGHT * words, abs=1e-5)


def test_what_lacks_a_reading_has_no_score() -> None:
    reranker = SecondReading(Rereads({"q": "red star", "a": "red star", "c": "red star"}), FakeEmbedder())
    scores = reranker.rerank(side("q", "red"), [side("a", "red"), side("b", "red"), side("c", None)])
    assert [score is None for score in scores] == [False, True, True]
    assert SecondReading(Unasked({}), FakeEmbedder()).rerank(side("q", None), [side("a", "red")]) == [None]
    assert reranker.rerank(side("unread", "red"), [side("a", "red")]) == [None]


def test_the_loaded_models_read_again() -> None:
    reasoner, embedder = load_reasoner("nano"), load_embedder("nano")
    assert isinstance(reasoner, LocalReasoner)
    reranker = load_reranker("reread", reasoner, embedder)
    assert isinstance(reranker, SecondReading)
    assert reranker.answers.fingerprint == load_reasoner("nano?form=answer").fingerprint
    family = draw_family("image_cls", "test", random.Random(0), num_variants=2)
    query, right = ((each.item, each.truth) for each in family[0])
    wrong = [(target.item, target.truth) for _, target in family[1:]]
    scores = reranker.rerank(query, [*wrong, right])
    assert None not in scores
    assert int(np.argmax(np.array(scores, dtype=float))) == len(wrong)


def test_without_a_reasoner_to_ask_again_it_is_refused() -> None:
    for reasoner, embedder in ((None, FakeEmbedder()), (FakeReasoner(), FakeEmbedder()), (load_reasoner("nano"), None)):
        with pytest.raises(ConfigError, match="--reranker reread: needs"):
            load_reranker("reread", reasoner, embedder)
    with pytest.raises(ConfigError, match="would read the same a second time"):
        load_reranker("reread", load_reasoner("nano?form=answer"), FakeEmbedder())
