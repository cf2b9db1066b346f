"""Every dataset of MMEB-V2 and UVRB in the layout in which it is published: read, ranked among the right candidates, scored as stated."""

import math
from pathlib import Path

import pytest

from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.reading import choose, read_pool
from embedrl.evaluation.benchmarks.register import OFFICIAL
from embedrl.evaluation.metrics import score_one
from embedrl.evaluation.task import RetrievalTask
from tests.published_files import PUBLISHED, Published, every

SECOND = {"hit@1": 0.0, "hit@10": 1.0, "precision@1": 0.0, "ndcg_linear@5": 1 / math.log2(3)}
"""What one right candidate on rank 2 scores."""


def try_dataset(benchmark: str, name: str, data: Path) -> dict[str, str]:
    """Read a dataset as it is published; what holds is asserted, and the cells of its row in docs/parity.md are returned."""
    expected, official = PUBLISHED[benchmark][name](name, data), OFFICIAL[benchmark]
    [source] = choose(official, [name])
    task = read_pool(source, data, Inspection(), 8).task()
    check_pool(task, expected)
    check_labels(task, expected)
    row = official.benchmark.find(name)
    assert row is not None
    assert row.metric == expected.metric
    right = list(expected.labels[0])
    assert score_one(row.metric, [*right, "wrong"], dict.fromkeys(right, 1.0)) == 1
    assert score_one(row.metric, ["wrong", right[0], *right[1:]], {right[0]: 1.0}) == pytest.approx(SECOND[row.metric])
    grades = {grade for labels in expected.labels for grade in labels.values()}
    several = max(map(len, expected.labels))
    return {
        "rows": f"`{expected.rows.replace(name, '*') if benchmark == 'UVRB' else expected.rows}`",
        "pool": "all candidates" if expected.lists is None else "the row's own list",
        "labels": ("several" if several > 1 else "one") + (", graded" if grades != {1.0} else ""),
        "metric": row.metric,
    }


def check_pool(task: RetrievalTask, expected: Published) -> None:
    names = task.names
    assert tuple(names.values()) == expected.pool
    lists = None if task.local is None else tuple(tuple(names[key] for key in row) for row in task.local)
    assert lists == expected.lists
    first = task.candidates[0]
    assert first.text == expected.candidate
    assert first.content, "a candidate shows something"


def check_labels(task: RetrievalTask, expected: Published) -> None:
    assert tuple({task.names[key]: grade for key, grade in row.items()} for row in task.relevant) == expected.labels
    assert task.queries[0].text == expected.query
    assert all(query.content for query in task.queries)


@pytest.mark.parametrize(("benchmark", "name"), [pytest.param(*pair, id="/".join(pair)) for pair in every()])
def test_a_dataset_is_read_as_it_is_published(benchmark: str, name: str, tmp_path: Path):
    try_dataset(benchmark, name, tmp_path)


def test_every_dataset_that_a_column_counts_has_its_files():
    for benchmark, datasets in PUBLISHED.items():
        assert set(datasets) == {row.name for row in OFFICIAL[benchmark].benchmark.datasets}
    assert [len(datasets) for datasets in PUBLISHED.values()] == [78, 16]
