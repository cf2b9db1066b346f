"""EG-RL over the generated world was killed by memory: the media of all families were rendered beforehand (16 GB), then pickled."""

import gc
from pathlib import Path

import pytest

from embedrl.data.lazy_pairs import NUM_KEPT, LazyPairs, tasks_of
from embedrl.data.sample import Item
from embedrl.pipelines.eg_rl import training_pairs
from embedrl.rl.config import Recipe
from embedrl.rl.train import prompts
from embedrl.world.tasks import WORLDS, make_families
from tests.conftest import make_random_reasoner

TASKS = {"roomy": ("image_cls", "image_grounding"), "crowded": ("image_layout", "image_relation")}


def num_items() -> int:
    """Number of rendered items in memory."""
    gc.collect()
    return sum(type(thing) is Item for thing in gc.get_objects())


@pytest.mark.parametrize("world", TASKS)
def test_pairs_of_a_world_are_rendered_when_they_are_read_and_the_last_ones_kept(world: str, tmp_path: Path):
    before = num_items()
    recipe = Recipe(out=tmp_path, world=world, tasks=TASKS[world], num_families=NUM_KEPT, family_size=1)
    pairs = training_pairs(recipe)
    assert len(pairs) == 2 * NUM_KEPT
    assert tasks_of(pairs) == [name for name in TASKS[world] for _ in range(NUM_KEPT)]
    assert num_items() == before, "nothing is rendered yet"
    keys = [pair.key for pair in pairs]
    assert num_items() == before + 2 * NUM_KEPT, "a query and a target of each pair that is kept"
    assert pairs[0].key == keys[0]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("task", sorted(task for tasks in WORLDS.values() for task in tasks))
def test_a_side_is_rendered_to_equal_bytes_each_time_and_keeps_nothing_of_a_pair(task: str):
    [made] = make_families("rl", 5, 1, 1, [task])
    assert made.pair.key == made.pair.key
    assert made.pair.query is not made.pair.query
    assert "item" not in vars(made.query)
    assert made.pair.query.key == made.query.item.key
    assert made.query.is_text == (made.query.item.visual is None)


def test_a_slice_of_lazy_pairs_makes_none():
    made = make_families("rl", 0, 3, 1, ["image_cls"])
    numbers: list[int] = []

    def make(number: int):
        numbers.append(number)
        return made[number].pair

    pairs = LazyPairs(["image_cls"] * 3, make)
    last = pairs[1:]
    assert numbers == []
    assert last[0] is pairs[1]
    assert pairs[-1] is last[-1]
    assert numbers == [1, 2]
    with pytest.raises(IndexError):
        pairs[3]


class Pickled(list):
    """A list that counts how often it is pickled."""

    times = 0

    def __reduce_ex__(self, protocol):
        self.times += 1
        return super().__reduce_ex__(protocol)


def test_prompts_of_a_training_run_are_set_up_without_pickling_weights_and_media():
    pairs = Pickled(made.pair for made in make_families("rl", 0, 1, 1, ["image_cls"]))
    rows = prompts(make_random_reasoner(), pairs, [0])
    assert pairs.times == 0
    assert len(rows[0]["images"]) == 1
