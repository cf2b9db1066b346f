"""The world in MMEB-V2's layout: the readers of official files find in it exactly what was written."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from embedrl.errors import StoreError
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.evaluation.benchmarks.source import Official
from embedrl.evaluation.evaluate import evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.mmeb_world import LAYOUTS, write_world

Written = tuple[Path, Official, list[RetrievalTask]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("mmeb")
    return folder, *write_world(world_tasks(seed=3, num_queries=2, pool_size=8), folder)


def without_copies(labels: Mapping[str, float]) -> dict[str, float]:
    return {name.split("#")[0]: grade for name, grade in labels.items()}


def test_the_reader_finds_what_was_written(written: Written):
    folder, official, direct = written
    read = list(read_tasks(official, folder))
    assert [task.name for task in read] == list(LAYOUTS)
    assert [task.name for task in direct] == list(LAYOUTS)
    for task, expected in zip(read, direct, strict=True):
        assert task.modality == expected.modality
        assert [item.key for item in task.queries] == [item.key for item in expected.queries], task.name
        assert {item.key for item in task.candidates} == {item.key for item in expected.candidates}, task.name
        assert [without_copies(labels) for labels in task.relevant] == list(expected.relevant)


@pytest.mark.parametrize("thinks", [False, True])
def test_both_paths_give_the_same_scores_to_the_last_digit(written: Written, thinks: bool):
    folder, official, direct = written
    reasoner = FakeReasoner() if thinks else None
    one, other = (evaluate(tasks, FakeEmbedder(), reasoner=reasoner) for tasks in (direct, list(read_tasks(official, folder))))
    for expected, found in zip(one.tasks, other.tasks, strict=True):
        assert {name: values.tobytes() for name, values in found.figures.items()} == {
            name: values.tobytes() for name, values in expected.figures.items()
        }
        # Every moment has clips of its own in the files: equal content under many names.
        assert [re.sub(r"#\d+", "", repr(ranking)) for ranking in found.rankings] == [repr(ranking) for ranking in expected.rankings]


def test_a_used_folder_is_refused(written: Written):
    with pytest.raises(StoreError, match="choose an empty"):
        write_world([], written[0])
