"""Tasks, evaluation, grounding and intervals, with an Embedder whose cosines can be worked out by hand."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import pytest

from embedrl.data.sample import Item, Pair, Role
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, TCoT
from embedrl.errors import ConfigError, ModelError
from embedrl.evaluation.bootstrap import Figure, figure, mean_figure, mean_over_tasks, replicates
from embedrl.evaluation.evaluate import FIGURES, evaluate
from embedrl.evaluation.grounding import compare
from embedrl.evaluation.report import figure_row, read_figure
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import Image, Text

WORDS = ("red", "blue", "green", "star", "ring", "heart")


class WordEmbedder:
    """Counts the words of an item's text and of its T-CoT's answer."""

    fingerprint = "words"
    dim = len(WORDS) + 1

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        rows = []
        for item, tcot in zip(items, tcots, strict=True):
            self.seen.append(item.key)
            words = (item.text + (f" {tcot.answer}" if tcot else "")).split()
            rows.append([0.01, *(words.count(word) for word in WORDS)])
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class TableReasoner:
    """Answers from a table by text; a text that is not in it gets output that is no T-CoT."""

    fingerprint = "table"

    def __init__(self, table: dict[str, TCoT]) -> None:
        self.table = table
        self.seen: list[str] = []

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        self.seen += [item.key for item in items]
        return [self.table.get(item.text) or ParseFailure(reason=FailureReason.EMPTY, text="two words") for item in items]


def text(words: str, role: Role = Role.TARGET_TEXT) -> Item:
    return Item(content=(Text(text=words),), role=role)


def query(words: str) -> Item:
    return text(words, Role.QUERY_TEXT_TO_IMAGE)


def tcot(answer: str, **evidence: object) -> TCoT:
    return TCoT(thinking="a b", evidence=Evidence(**evidence), rethink="c", answer=answer)


def pairs() -> list[Pair]:
    return [
        Pair(task="t", query=query("red star"), target=text("red star"), negatives=(text("blue star"), text("red ring"))),
        Pair(task="t", query=query("ring"), target=text("blue ring"), negatives=(text("blue star"), text("red ring"))),
    ]


def test_a_pool_holds_targets_negatives_and_distractors_once():
    task = RetrievalTask.from_pairs("t", "image", pairs(), distractors=[text("green heart"), text("red star")])
    assert [item.text for item in task.candidates] == ["red star", "blue star", "red ring", "blue ring", "green heart"]
    assert task.relevant[0] == {text("red star").key: 1.0}


def test_equal_queries_are_merged_with_all_their_targets():
    twice = [*pairs(), Pair(task="t", query=query("red star"), target=text("red heart"))]
    task = RetrievalTask.from_pairs("t", "image", twice)
    assert len(task.queries) == 2
    assert task.relevant[0] == {text("red star").key: 1.0, text("red heart").key: 1.0}


def test_a_task_that_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="4 distinct candidates, 256 asked for"):
        RetrievalTask.from_pairs("t", "image", pairs(), min_candidates=256)
    with pytest.raises(ConfigError, match="hard negative equals a target"):
        RetrievalTask.from_pairs("t", "image", [*pairs(), Pair(task="t", query=query("red star"), target=text("blue star"))])
    one = text("red star")
    with pytest.raises(ConfigError, match="merge equal ones"):
        RetrievalTask("t", "image", (query("red"),), (one, one), ({one.key: 1.0},))
    with pytest.raises(ConfigError, match="not among its 1 candidates"):
        RetrievalTask("t", "image", (query("red"),), (one,), ({"other": 1.0},))
    with pytest.raises(ConfigError, match="relevance must be > 0"):
        RetrievalTask("t", "image", (query("red"),), (one,), ({one.key: 0.0},))
    with pytest.raises(ConfigError, match="not all in the pool"):
        RetrievalTask("t", "image", (query("red"),), (one,), ({},), local=(("other",),))


def test_plain_evaluation_against_cosines_worked_out_by_hand():
    result = evaluate([RetrievalTask.from_pairs("t", "image", pairs())], WordEmbedder())
    figures = result.tasks[0].figures
    assert result.name == "plain"
    assert set(figures) == set(FIGURES)
    assert figures["hit@1"][0] == 1
    assert figures["mrr@10"][0] == 1
    assert figures["positive_cosine"][0] == pytest.approx(1, abs=1e-3)
    assert figures["margin"][0] == pytest.approx(0.5, abs=1e-3), "red star against blue star: one word of two"
    assert figures["positive_cosine"][1] == pytest.approx(2**-0.5, abs=1e-3)
    assert figures["margin"][1] == pytest.approx(0, abs=1e-6), "blue ring and red ring tie"
    assert np.isnan(figures["tcot_valid"]).all()
    assert not result.tcots


def test_tcots_change_what_is_found_and_are_measured_on_both_sides():
    reasoner = TableReasoner({"ring": tcot("blue"), "blue ring": tcot("blue ring", keywords=("blue", "heart"))})
    truths = {
        text("blue ring").key: tcot("blue ring", keywords=("blue", "ring")),
        query("ring").key: tcot("blue ring"),
    }
    task = RetrievalTask.from_pairs("t", "image", pairs(), truths=truths)
    found = evaluate([task], WordEmbedder(), name="before_rl", reasoner=reasoner, claims=lambda tcot, truth: (1, 2, 4)).tasks[0].figures
    assert found["hit@1"].tolist() == [1, 1]
    assert found["tcot_valid"].tolist() == [0, 0.5], "no T-CoT on either side; a keyword that is not in the text on one side"
    assert found["tcot_tokens"][0] == 2, "output that is not a T-CoT has a length too"
    assert found["evidence/keyword_precision"][1] == pytest.approx(0.5)
    assert found["claims/precision"][1] == 0.5
    assert found["claims/recall"][1] == 0.25
    assert np.isnan(found["evidence/box_iou50"]).all()


def test_evidence_outside_its_medium_makes_a_tcot_invalid():
    picture = Item(content=(Image(pixels=PIL.Image.new("RGB", (40, 30))),), role=Role.TARGET_IMAGE)
    task = RetrievalTask.from_pairs("t", "image", [Pair(task="t", query=query("red"), target=picture, negatives=(text("blue"),))])
    for box, valid in (((0, 0, 500, 500), 1.0), ((0, 0, 1200, 500), 0.5)):
        given = {query("red").key: tcot("red"), picture.key: tcot("red", boxes=(box,))}
        assert evaluate([task], WordEmbedder(), name="given", tcots=given).tasks[0].figures["tcot_valid"] == [valid]


def test_an_item_is_reasoned_about_and_embedded_once_however_many_tasks_share_it():
    embedder, reasoner = WordEmbedder(), TableReasoner({})
    tasks = [RetrievalTask.from_pairs("one", "image", pairs()), RetrievalTask.from_pairs("two", "video", pairs()[::-1])]
    result = evaluate(tasks, embedder, name="before_rl", reasoner=reasoner, batch_size=2)
    for seen in (embedder.seen, reasoner.seen):
        assert len(seen) == len(set(seen))
        assert sorted(seen) == sorted(result.tcots)


def test_given_tcots_are_not_written_again():
    given = {query("ring").key: tcot("blue")}
    reasoner = TableReasoner({})
    result = evaluate([RetrievalTask.from_pairs("t", "image", pairs())], WordEmbedder(), name="mixed", reasoner=reasoner, tcots=given)
    assert query("ring").key not in reasoner.seen
    assert result.tcots[query("ring").key] == tcot("blue")


def test_batch_size_does_not_change_a_result():
    tasks = [RetrievalTask.from_pairs("t", "image", pairs())]
    one, all_ = (evaluate(tasks, WordEmbedder(), batch_size=size).tasks[0] for size in (1, 64))
    assert one.rankings == all_.rankings


def test_a_model_that_breaks_its_contract_is_named():
    class Short(WordEmbedder):
        fingerprint = "short"

        def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
            return super().embed(items, tcots) * 0.5

    with pytest.raises(ModelError, match="'short' must return"):
        evaluate([RetrievalTask.from_pairs("t", "image", pairs())], Short())


def test_grounding_figures():
    truth = Evidence(boxes=[(0, 0, 100, 100), (500, 500, 700, 700)], key_frames=[2, 6], keywords=["Red star"])
    given = Evidence(boxes=[(0, 0, 100, 60), (300, 0, 400, 100)], key_frames=[2, 3, 4], keywords=["red star", "ring"])
    assert compare(given, truth) == {
        "box_iou50": 0.5,
        "box_recall": 0.5,
        "key_frame_f1": pytest.approx(2 * 1 / 5),
        "keyword_precision": 0.5,
    }
    assert compare(Evidence(), truth) == {"box_recall": 0.0, "key_frame_f1": 0.0}
    assert compare(Evidence(), Evidence()) == {}
    assert compare(Evidence(boxes=[(9, 9, 9, 20)]), Evidence()) == {"box_iou50": 0.0}


def test_replicates_start_with_the_figures_as_measured_and_skip_what_is_not_defined():
    table = replicates(np.array([[1.0, np.nan], [0.0, 0.5], [1.0, np.nan]]), task="t", num_resamples=50)
    assert table.values.shape == (51, 2)
    assert table.values[0].tolist() == [pytest.approx(2 / 3), 0.5]
    assert set(table.values[1:, 1][np.isfinite(table.values[1:, 1])]) == {0.5}
    assert table.num_families.tolist() == [3, 1]
    assert figure(replicates(np.full((3, 1), np.nan), task="t")) is None


def test_an_interval_has_the_width_that_theory_gives():
    hits = np.array([1.0] * 60 + [0.0] * 40)[:, None]
    found = figure(replicates(hits, task="t"), bounds=(0.0, 1.0))
    assert found is not None
    assert found.value == 0.6
    width = 2 * 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert found.high - found.low == pytest.approx(width, rel=0.1)


def test_pairing_makes_the_interval_of_a_constant_difference_a_point():
    first = np.random.default_rng(0).random((40, 1))
    difference = replicates(first + 0.25, task="t") - replicates(first, task="t")
    found = figure(difference)
    assert found == pytest.approx((0.25, 0.25, 0.25))


def test_intervals_depend_on_seed_and_task_only():
    values = np.random.default_rng(0).random((40, 1))
    assert np.array_equal(replicates(values, task="t", seed=1).values, replicates(values, task="t", seed=1).values)
    assert not np.array_equal(replicates(values, task="t", seed=1).values, replicates(values, task="t", seed=2).values)


def test_a_group_is_the_mean_of_its_tasks_whatever_their_sizes():
    small, large = replicates(np.ones((2, 1)), task="a"), replicates(np.zeros((50, 1)), task="b")
    undefined = replicates(np.full((5, 1), np.nan), task="c")
    assert mean_over_tasks([small, large, undefined]).values[0, 0] == 0.5


@pytest.mark.parametrize(("num_right", "num", "low", "high"), [(0, 80, 0.0, 0.0451), (100, 100, 0.9638, 1.0), (1, 80, 0.0003, 0.0677)])
def test_intervals_of_shares_do_not_collapse_at_their_bounds(num_right: int, num: int, low: float, high: float):
    """Issue 27: 0 of 80 was ".000 (.000-.000)". The expected bounds are Clopper and Pearson's."""
    hits = np.array([1.0] * num_right + [0.0] * (num - num_right))[:, None]
    found = figure(replicates(hits, task="t"), bounds=(0.0, 1.0))
    assert found is not None
    assert found.value == num_right / num
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)


def test_the_mean_of_a_figure_by_task_is_that_of_its_tables():
    values = {"a": [1.0, 0.0, 1.0], "b": [0.5]}
    tables = [
        replicates(np.array([[1.0], [0.0], [1.0]]), task="a", seed=3, families=["x", "x", "y"]),
        replicates(np.array([[0.5]]), task="b", seed=3),
    ]
    found = mean_figure(values, {"a": ["x", "x", "y"], "b": ()}, seed=3, bounds=(0.0, 1.0))
    assert found == figure(mean_over_tasks(tables), bounds=(0.0, 1.0))
    assert mean_figure({"a": [float("nan")]}, {"a": ()}) is None


def test_a_figure_is_shown_with_its_interval():
    shown = Figure(0.5, 0.25, 0.754)
    assert shown.text() == "0.500 (0.250 to 0.754)"
    assert shown.text("+.1f", scale=100) == "+50.0 (+25.0 to +75.4)"
    assert read_figure(figure_row(shown)) == shown


def test_a_mean_over_tasks_is_smoothed_once_not_once_a_task():
    tables = [replicates(np.zeros((20, 1)), task=name) for name in "abcd"]
    found = figure(mean_over_tasks(tables), bounds=(0.0, 1.0))
    assert found is not None
    assert found.high == pytest.approx(0.0451, abs=0.003), "80 queries of four tasks are 80 queries"


def test_a_difference_of_nothing_is_not_known_to_be_nothing():
    hits = np.array([1.0, 0.0] * 40)[:, None]
    found = figure(replicates(hits, task="t") - replicates(hits, task="t"), bounds=(-1.0, 1.0))
    assert found is not None
    assert found.value == 0
    assert -0.05 < found.low < -0.03
    assert 0.03 < found.high < 0.05


def test_families_are_drawn_whole():
    values = np.repeat(np.random.default_rng(0).random(25), 4)[:, None]
    families = [row // 4 for row in range(100)]
    alone, together = (replicates(values, task="t", families=names) for names in (None, families))
    assert alone.values[0, 0] == together.values[0, 0]
    assert (alone.num_families[0], together.num_families[0]) == (100, 25)
    widths = [found.high - found.low for table in (alone, together) if (found := figure(table))]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25), "four copies of a query are one observation"
