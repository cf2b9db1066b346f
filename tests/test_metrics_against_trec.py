"""Every metric against trec_eval, the evaluation program of the Text Retrieval Conference, through pytrec_eval."""

import numpy as np
import pytest
import pytrec_eval

from embedrl.evaluation.metrics import CUTOFFS, score_ranking

MEASURES = {"success", "P", "recall", "map_cut", "ndcg_cut", "recip_rank", "set_F"}

Case = tuple[list[str], dict[str, int]]
"""A ranking, best first, and the grades."""


def cases() -> list[Case]:
    """Random rankings with few and many relevant candidates, in and out of the ranking, and the ends of every range."""
    rng = np.random.default_rng(0)
    found: list[Case] = []
    for number in range(400):
        num = int(rng.integers(1, 40))
        names = [f"d{index}" for index in rng.permutation(num + 5)]
        labels = rng.choice(names, size=int(rng.integers(1, num + 1)), replace=False)
        found.append((names[:num], {str(name): int(grade) for name, grade in zip(labels, rng.integers(1, 5, num), strict=False)}))
        if number < 20:
            found.append((names[:num], dict.fromkeys(names[:num], 1 + number % 3)))
            found.append((names[:num], {names[-1]: 2}))
    return found


def by_trec(ranking: list[str], grades: dict[str, int], k: int) -> dict[str, float]:
    def run(names: list[str], labels: dict[str, int], measures: set[str]) -> dict[str, float]:
        scores = {name: float(len(names) - place) for place, name in enumerate(names)}
        cut = {f"{name}.{k}" if name in ("success", "P", "recall", "map_cut", "ndcg_cut") else name for name in measures}
        return pytrec_eval.RelevanceEvaluator({"q": labels}, cut).evaluate({"q": scores})["q"]

    values = run(ranking, grades, MEASURES)
    first = run(ranking[:k], grades, MEASURES)
    return {
        "hit": values[f"success_{k}"],
        "precision": values[f"P_{k}"],
        "recall": values[f"recall_{k}"],
        # trec_eval divides by the number of relevant documents, however small k is.
        "map": values[f"map_cut_{k}"] * len(grades) / min(len(grades), k),
        "mrr": first["recip_rank"],
        "ndcg_linear": values[f"ndcg_cut_{k}"],
        "ndcg_exponential": run(ranking, {name: 2**grade - 1 for name, grade in grades.items()}, MEASURES)[f"ndcg_cut_{k}"],
        # trec_eval's set precision divides by the number of documents that are there, so a short ranking is filled up.
        "f1": run([*ranking[:k], *(f"none{place}" for place in range(k - len(ranking)))], grades, MEASURES)["set_F"],
    }


@pytest.mark.parametrize("k", CUTOFFS)
def test_every_metric_agrees_with_trec_eval(k: int):
    for ranking, grades in cases():
        expected = by_trec(ranking, grades, k)
        values = score_ranking(ranking, {name: float(grade) for name, grade in grades.items()})
        assert {name: values[f"{name}@{k}"] for name in expected} == pytest.approx(expected, abs=1e-9), (ranking, grades)
