"""The world's tasks as retrieval tasks: pools, truths, and that no wrong candidate is right."""

import pytest

from embedrl.errors import ConfigError
from embedrl.evaluation.world import SHARED_POOLS, world_tasks
from embedrl.world.tasks import TASKS


def test_every_task_has_its_queries_its_pool_and_all_truths():
    tasks = world_tasks(seed=1, num_queries=2, pool_size=12)
    assert [task.name for task in tasks] == list(TASKS)
    assert {task.modality for task in tasks} == {"image", "video", "visdoc"}
    for task in tasks:
        assert len(task.queries) == 2
        assert len(task.candidates) >= 12
        assert task.truths.keys() == task.items.keys()
        answers = [task.truths[item.key].answer for item in task.candidates]
        assert len(set(answers)) == len(answers), "two candidates that mean the same would both be right"


def test_tasks_of_one_pool_rank_each_others_targets_but_no_second_right_one():
    names = ["visdoc_notes", "visdoc_table"]
    notes, table = world_tasks(tasks=names, num_queries=3, pool_size=40)
    shared = {item.key for item in notes.candidates} & {item.key for item in table.candidates}
    assert len(shared) >= 40
    (alone,) = world_tasks(tasks=["visdoc_notes"], num_queries=3, pool_size=20)
    assert alone.queries[0].key == notes.queries[0].key
    for pool in SHARED_POOLS:
        assert set(pool) <= set(TASKS)


def test_a_seed_gives_the_same_tasks_and_another_seed_others():
    first, again, other = (world_tasks(seed=seed, tasks=["image_cls"], num_queries=3, pool_size=10)[0] for seed in (0, 0, 1))
    assert first.items.keys() == again.items.keys()
    assert {item.key for item in first.queries}.isdisjoint(item.key for item in other.queries)


def test_what_the_world_cannot_give_is_refused():
    with pytest.raises(ConfigError, match="choose from image_cls"):
        world_tasks(tasks=["nope"])
    with pytest.raises(ConfigError, match="num_queries=0"):
        world_tasks(num_queries=0)
    with pytest.raises(ConfigError, match="ask for no more"):
        world_tasks(tasks=["image_cls"], num_queries=1, pool_size=500)
