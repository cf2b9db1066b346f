"""The Reasoner: prompts of seven roles, no token it must not write, batches that do not matter, judges that choose."""

import random
from pathlib import Path

import pytest
import torch

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.media.content import Text
from embedrl.nano.data import REASONER_BUDGET, SFTExamples
from embedrl.nano.models import FACTOR
from embedrl.reasoner.local import LocalReasoner, forbidden_tokens
from embedrl.reasoner.prompts import SETS, match_prompt, pick_prompt, prompt_hash, tcot_prompt, template
from embedrl.reasoner.train import Config, SFTCollator, train
from embedrl.world.tasks import Side, draw_family
from tests.conftest import make_random_reasoner, nano_processor


@pytest.mark.parametrize("prompt_set", SETS)
def test_every_role_has_a_prompt_that_takes_its_values(prompt_set: str) -> None:
    values = {"{text}"} if prompt_set == "nano-answer" else {"{instruction}", "{text}"}  # "Answer only." stands in place of an instruction
    for role in Role:
        assert values == {name for name in ("{instruction}", "{text}") if name in template(prompt_set, role)}
    item = Item(content=(Text(text="a {instruction} <emb> <|im_end|>"),), instruction="Find {text}.", role=Role.TARGET_TEXT)
    text = tcot_prompt(item, prompt_set, REASONER_BUDGET, FACTOR).messages[0]["content"][-1]["text"]
    assert ("Find {text}." in text) == ("{instruction}" in values)
    assert "a {instruction} ‹emb> ‹|im_end|>" in text


def test_frames_are_labelled_pictures() -> None:
    query, _ = draw_family("video_v2t", "test", random.Random(0), num_variants=0)[0]
    prompt = tcot_prompt(query.item, "nano", REASONER_BUDGET, FACTOR)
    assert len(prompt.images) == 8
    assert {image.size for image in prompt.images} == {(64, 64)}
    labels = [part["text"] for part in prompt.messages[0]["content"] if part["type"] == "text"]
    assert labels[:2] == ["Frame 1 (0.0 s)", "Frame 2 (0.5 s)"]


def test_prompt_hash_names_the_wording() -> None:
    assert prompt_hash("nano") != prompt_hash("full")
    assert len(prompt_hash("nano")) == 12
    with pytest.raises(ConfigError, match="prompts='mine'"):
        template("mine", "query_image")


def test_only_the_end_of_turn_may_be_sampled(random_reasoner: LocalReasoner, mixed_sides: list[Side]) -> None:
    tokenizer = random_reasoner.processor.tokenizer
    banned = set(tokenizer.convert_ids_to_tokens(forbidden_tokens(random_reasoner.processor)))
    assert {"<|image_pad|>", "<|video_pad|>", "<emb>", "<|im_start|>"} <= banned
    assert "<|im_end|>" not in banned
    results = random_reasoner.reason([side.item for side in mixed_sides[:6]])
    assert all(isinstance(result, ParseFailure) for result in results), "random weights do not write T-CoTs"
    assert not any(token in result.text for result in results for token in banned)


def test_batching_does_not_change_greedy_answers(mixed_sides: list[Side]) -> None:
    reasoner = make_random_reasoner()
    items = [side.item for side in mixed_sides[:8]]
    together = [failure.text for failure in reasoner.reason(items)]
    reasoner.batch_size = 1
    assert [failure.text for failure in reasoner.reason(items)] == together


def test_a_judge_picks_one_of_the_candidates(random_reasoner: LocalReasoner) -> None:
    tcots = [TCoT(thinking="", rethink="", answer=f"a {colour} star") for colour in ("red", "blue", "green")]
    together = random_reasoner.pick([(anchor, tcots) for anchor in tcots])
    assert together == [random_reasoner.pick([(anchor, tcots)])[0] for anchor in tcots]
    assert set(together) <= {0, 1, 2}
    assert random_reasoner.match([(tcots[0], tcots[1])])[0] in (True, False)
    with pytest.raises(ConfigError, match="1 candidates"):
        random_reasoner.pick([(tcots[0], tcots[:1])])
    prompt = pick_prompt(tcots[0], tcots, "nano").messages[0]["content"][0]["text"]
    assert "2: a blue star" in prompt
    assert "a red star" in match_prompt(tcots[0], tcots[1], "full").messages[0]["content"][0]["text"]


def test_only_answers_are_learnt() -> None:
    examples = SFTExamples(0, 4, 3)
    batch = SFTCollator(nano_processor())([examples[index] for index in range(3)])
    for row in range(3):
        learnt = batch["input_ids"][row][batch["labels"][row] >= 0]
        text = nano_processor().tokenizer.decode(learnt)
        assert text == examples[row].completion + "<|im_end|>"


def _weights(folder: Path, steps: int, *, stop: int | None = None) -> torch.Tensor:
    reasoner = make_random_reasoner()
    arguments = {
        "per_device_train_batch_size": 3,
        "max_steps": stop or steps,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "save_steps": 2,
        "logging_steps": 1,
    }
    train(reasoner.model, nano_processor(), SFTExamples(0, steps, 3), Config(out=folder, trainer=arguments))
    return torch.cat([value.flatten() for value in reasoner.model.state_dict().values()])


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = _weights(tmp_path / "whole", 4)
    _weights(tmp_path / "cut", 4, stop=2)
    resumed = _weights(tmp_path / "cut", 4)
    assert torch.equal(whole, resumed)
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) >= 4
