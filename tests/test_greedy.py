"""Greedy decoding with slots and verified drafts writes what `generate` writes, in fewer passes."""

import pytest

from embedrl.models.architectures import decodes_greedily
from embedrl.models.names import shipped
from embedrl.reasoner.drafts import Drafter, Habits, skeletons
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import Prompt, tcot_prompt
from embedrl.world.tasks import Side
from tests.conftest import make_random_reasoner, nano_processor


@pytest.fixture(scope="module")
def nano_reasoner() -> LocalReasoner:
    return LocalReasoner.load(shipped("reasoner")["nano"])


def _prompts(reasoner: LocalReasoner, sides: list[Side]) -> list[Prompt]:
    return [tcot_prompt(side.item, reasoner.settings.prompts, reasoner.settings.budget, reasoner.factor) for side in sides]


def _write(reasoner: LocalReasoner, prompts: list[Prompt], **ways: object) -> tuple[list[str], int]:
    """Return the texts, and how many passes they took."""
    for name, value in ways.items():
        setattr(reasoner, name, value)
    before = reasoner.num_steps
    return reasoner.write(prompts), reasoner.num_steps - before


def test_slots_and_drafts_write_what_generate_writes(nano_reasoner: LocalReasoner, mixed_sides: list[Side]) -> None:
    prompts = _prompts(nano_reasoner, mixed_sides[::5])
    today, _ = _write(nano_reasoner, prompts, continuous=False, batch_size=64)
    undrafted, many = _write(nano_reasoner, prompts, continuous=True, batch_size=4, max_draft=0)
    drafted, few = _write(nano_reasoner, prompts, max_draft=4)
    assert undrafted == today
    assert drafted == today
    assert few < many, "tags and what was written before are drafted"


def test_noise_is_written_as_generate_does_and_cut_at_the_limit(mixed_sides: list[Side]) -> None:
    reasoner = make_random_reasoner()
    prompts = _prompts(reasoner, mixed_sides[:9])
    today, _ = _write(reasoner, prompts, continuous=False)
    before = reasoner.num_written
    written, _ = _write(reasoner, prompts, continuous=True, batch_size=2, max_draft=3)
    assert written == today
    assert reasoner.num_written - before <= 12 * len(prompts)


def test_settings_of_generation_that_change_a_text_are_left_to_generate() -> None:
    model = make_random_reasoner().model
    assert decodes_greedily(model)
    model.generation_config.repetition_penalty = 1.05
    assert not decodes_greedily(model)


def test_the_skeleton_is_drafted_before_anything_was_written() -> None:
    tokenizer = nano_processor().tokenizer
    drafter = Drafter(Habits([tokenizer(text, add_special_tokens=False)["input_ids"] for text in skeletons()]), [])
    drafter.take(tokenizer("<thinking> {", add_special_tokens=False)["input_ids"][:1])
    drafter.take(tokenizer(" </thinking>", add_special_tokens=False)["input_ids"])
    assert tokenizer.decode(drafter.draft(2)) == "\n<rethink>"


def test_what_follows_in_the_prompt_is_drafted() -> None:
    drafter = Drafter(Habits(), [1, 2, 3, 4, 5])
    drafter.take([9, 2, 3])
    assert drafter.draft(8) == [4, 5]
    assert drafter.draft(1) == [4]


def test_what_follows_now_this_and_now_that_is_not_drafted() -> None:
    habits = Habits([[1, 2, 3], [1, 2, 4]])
    drafter = Drafter(habits, [])
    drafter.take([1, 2])
    assert drafter.draft(8) == []
    habits.learn([1, 2, 4])
    assert drafter.draft(8) == [4]
