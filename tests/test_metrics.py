"""Metrics and rankings against answers worked out by hand."""

import math

import numpy as np
import pytest

from embedrl.errors import ConfigError
from embedrl.evaluate.metrics import METRIC_NAMES, Ranking, rank, score_ranking

LOG2_3 = math.log2(3)


def test_every_query_gets_the_24_values_of_mmeb():
    values = score_ranking(["a"], {"a": 1.0})
    assert tuple(values) == METRIC_NAMES and len(values) == 24


def test_one_relevant_candidate_at_rank_two():
    values = score_ranking(["x", "a", "y"], {"a": 1.0})
    assert [values[f"hit@{k}"] for k in (1, 5, 10)] == [0, 1, 1]
    assert [values[f"mrr@{k}"] for k in (1, 5, 10)] == [0, 0.5, 0.5]
    assert values["precision@5"] == pytest.approx(1 / 5)
    assert values["recall@5"] == 1
    assert values["f1@5"] == pytest.approx(2 * 0.2 * 1 / 1.2)
    assert values["map@5"] == pytest.approx(0.5)
    assert values["ndcg_linear@5"] == values["ndcg_exponential@5"] == pytest.approx(1 / LOG2_3)


def test_two_of_three_relevant_are_found():
    values = score_ranking(["a", "x", "b", "y", "z"], {"a": 1.0, "b": 1.0, "c": 1.0})
    assert values["recall@5"] == pytest.approx(2 / 3)
    assert values["precision@5"] == pytest.approx(2 / 5)
    assert values["map@5"] == pytest.approx((1 + 2 / 3) / 3)
    assert values["map@1"] == 1, "one of three can be in the top 1: the divisor is min(3, 1)"
    assert values["ndcg_linear@5"] == pytest.approx((1 + 1 / 2) / (1 + 1 / LOG2_3 + 1 / 2))


def test_graded_relevance_stays_with_its_candidate():
    gold_first = score_ranking(["gold", "b", "c"], {"b": 2.0, "c": 2.0, "gold": 3.0})
    assert all(gold_first[f"ndcg_{kind}@{k}"] == pytest.approx(1) for kind in ("linear", "exponential") for k in (1, 5, 10))
    gold_second = score_ranking(["b", "gold"], {"b": 2.0, "gold": 3.0})
    assert gold_second["ndcg_linear@1"] == pytest.approx(2 / 3)
    assert gold_second["ndcg_exponential@1"] == pytest.approx(3 / 7)
    assert gold_second["ndcg_linear@5"] == pytest.approx((2 + 3 / LOG2_3) / (3 + 2 / LOG2_3))
    assert gold_second["ndcg_exponential@5"] == pytest.approx((3 + 7 / LOG2_3) / (7 + 3 / LOG2_3))


def test_nothing_relevant():
    values = score_ranking(["a", "b"], {})
    assert values["recall@5"] == 1
    assert all(values[f"{name}@5"] == 0 for name in ("hit", "precision", "map", "mrr", "ndcg_linear", "ndcg_exponential"))


def test_a_repeated_candidate_counts_once():
    assert score_ranking(["a", "a", "b"], {"a": 1.0, "b": 1.0}) == score_ranking(["a", "b"], {"a": 1.0, "b": 1.0})


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_rank_reports_the_top_the_place_and_both_cosines():
    (ranking,) = rank(unit((1, 0)), unit((0.6, 0.8), (0.8, 0.6), (0, 1)), ["b", "a", "c"], [{"b": 1.0}])
    assert ranking == Ranking(
        top=(("a", pytest.approx(0.8)), ("b", pytest.approx(0.6)), ("c", 0.0)),
        rank=2,
        positive=pytest.approx(0.6),
        negative=pytest.approx(0.8),
    )


def test_ties_go_to_the_smaller_key_in_any_order():
    for keys in (["b", "a", "c"], ["c", "b", "a"], ["a", "c", "b"]):
        (ranking,) = rank(unit((1, 0)), unit((1, 1), (1, 1), (1, 1)), keys, [{"b": 1.0}])
        assert [key for key, _ in ranking.top] == ["a", "b", "c"]
        assert ranking.rank == 2


def test_local_candidates_are_the_only_ones_ranked():
    vectors = unit((1, 0), (0.9, 0.1), (0.5, 0.5), (0, 1))
    (everything,) = rank(vectors[:1], vectors, ["a", "b", "c", "d"], [{"c": 1.0}])
    (two,) = rank(vectors[:1], vectors, ["a", "b", "c", "d"], [{"c": 1.0}], local=[["d", "c"]])
    assert (everything.rank, two.rank) == (3, 1)
    assert [key for key, _ in two.top] == ["c", "d"]
    assert two.negative == 0


def test_rank_without_positives_or_negatives():
    (no_positive,) = rank(unit((1, 0)), unit((1, 0)), ["a"], [{}])
    assert no_positive.rank == 0 and math.isnan(no_positive.positive)
    (no_negative,) = rank(unit((1, 0)), unit((1, 0)), ["a"], [{"a": 1.0}])
    assert no_negative.rank == 1 and math.isnan(no_negative.negative)


def test_blocks_and_order_of_candidates_do_not_change_a_ranking():
    rng = np.random.default_rng(0)
    queries, candidates = unit(*rng.normal(size=(23, 8))), unit(*rng.normal(size=(60, 8)))
    keys = [f"{index:03}" for index in rng.permutation(60)]
    relevant = [{keys[index]: 1.0, keys[index + 1]: 2.0} for index in range(23)]
    expected = rank(queries, candidates, keys, relevant)
    order = rng.permutation(60)
    again = rank(queries, candidates[order], [keys[index] for index in order], relevant, block_size=4)
    assert again == expected
    for ranking, scores, labels in zip(expected, queries @ candidates.T, relevant, strict=True):
        best_first = [keys[index] for index in np.argsort(-scores)]
        assert ranking.rank == 1 + min(best_first.index(key) for key in labels)
        assert [key for key, _ in ranking.top] == best_first[:10]


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="1 keys for 2 candidates"):
        rank(unit((1, 0)), unit((1, 0), (0, 1)), ["a"], [{}])
