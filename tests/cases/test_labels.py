"""Labels and vectors that do not fit: refused by name, or scored as they are; no NaN and no KeyError.

Reported: nDCG of a grade of 2,000 was NaN; a label outside of the pool was a KeyError.
"""

import math

import numpy as np
import pytest

from embedrl.data.sample import Item, Role
from embedrl.errors import ConfigError
from embedrl.evaluation.metrics import METRIC_NAMES, score_ranking
from embedrl.evaluation.ranking import rank
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import Text

QUERIES, CANDIDATES, KEYS = np.eye(2, 4, dtype=np.float32), np.eye(3, 4, dtype=np.float32), ["a", "b", "c"]


def test_grades_of_any_size_have_an_ndcg():
    for grade in (1.0, 600.0, 2000.0, 1e6):
        assert score_ranking(["a", "b"], {"a": grade})["ndcg_exponential@5"] == pytest.approx(1.0)
        assert score_ranking(["b", "a"], {"a": grade})["ndcg_exponential@5"] == pytest.approx(1 / math.log2(3))
    close = score_ranking(["b", "a"], {"a": 2000.0, "b": 1999.0})["ndcg_exponential@5"]
    assert close == pytest.approx((0.5 + 1 / math.log2(3)) / (1 + 0.5 / math.log2(3)))
    assert set(score_ranking(["a", "b"], {"a": 1e300, "b": 1e-300})) == set(METRIC_NAMES)


@pytest.mark.parametrize("grade", [0.0, -1.0, math.nan, math.inf])
def test_a_grade_is_a_finite_number_above_zero(grade: float):
    item = Item(content=(Text(text="a"),), role=Role.TARGET_TEXT)
    with pytest.raises(ConfigError, match="> 0 and finite"):
        RetrievalTask(name="t", modality="image", queries=(item,), candidates=(item,), relevant=({item.key: grade},))


def test_labels_and_vectors_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match="query 1: its relevant candidate 'z' is not in the pool"):
        rank(QUERIES, CANDIDATES, KEYS, [{"a": 1}, {"b": 1, "z": 1}])
    with pytest.raises(ConfigError, match="query 0: its ranked candidate 'z' is not in the pool"):
        rank(QUERIES, CANDIDATES, KEYS, [{"a": 1}, {"a": 1}], [["a", "z"], ["a"]])
    with pytest.raises(ConfigError, match=r"queries of \(3,\) numbers, candidates of \(4,\)"):
        rank(QUERIES[:, :3], CANDIDATES, KEYS, [{"a": 1}, {"a": 1}])
