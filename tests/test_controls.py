"""The controls that tell a gain from a trick."""

import pytest

from embedrl.errors import ConfigError
from embedrl.evaluation.report import figure_fields
from embedrl.evaluation.world import world_tasks
from embedrl.pipelines.controls import COLUMNS, count_leaks, exchanged, measure_controls, table_rows


def test_every_item_gets_the_tcot_of_another_of_its_role():
    tasks = world_tasks(num_queries=3, pool_size=12, tasks=["image_t2i"])
    truths = tasks[0].truths
    found = exchanged(tasks, truths)
    items = tasks[0].items
    writer = {id(tcot): key for key, tcot in truths.items()}
    assert found.keys() == truths.keys()
    for key, tcot in found.items():
        assert writer[id(tcot)] != key
        assert items[writer[id(tcot)]].role == items[key].role
    pairs = [(query.key, next(iter(relevant))) for query, relevant in zip(tasks[0].queries, tasks[0].relevant, strict=True)]
    moved = {(writer[id(found[query])], writer[id(found[target])]) for query, target in pairs}
    assert not moved & set(pairs), "the two sides must not agree about another pair"


def test_short_targets_are_seen():
    """Issue 27: targets of fewer than six words were skipped, so 3 of 300 answers seemed to hold their target where 35 did."""
    tasks = world_tasks(num_queries=3, pool_size=12, tasks=["image_cls", "image_t2i"])
    num_long, num_holding, num_wrong, num_text = count_leaks(tasks, tasks[0].truths)
    assert num_text == 3, "targets that are pictures hold no text"
    assert num_holding == 3, "a right answer is worded as its target is"
    assert num_long == 0
    assert num_wrong == 0
    other = {query.key: tasks[0].truths[tasks[0].queries[(place + 1) % 3].key] for place, query in enumerate(tasks[0].queries)}
    assert count_leaks(tasks, other)[1:3] == (0, 3), "the answers of other queries hold wrong candidates"


@pytest.mark.slow
def test_controls_of_the_nano_reasoner():
    [control] = measure_controls(["nano-sft"], "nano", "nano-sft", num_queries=2, pool_size=4)
    assert control.hits.value > control.shuffled.value
    assert 0 <= control.judged.value <= 1
    assert len(table_rows([control])[0]) == len(COLUMNS)
    assert figure_fields(control)["shuffled"]["value"] == pytest.approx(control.shuffled.value, abs=1e-6)
    with pytest.raises(ConfigError, match="loaded weights"):
        measure_controls(["nano-sft"], "fake", "nano-sft")
