"""EG-RL end to end on tiny random models: the order of rows, two steps, and a killed run that goes on as if it had not been."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, Qwen3VLProcessor
from trl import GRPOConfig

from embedrl.data.sample import Pair
from embedrl.data.sources.row import AnnotatedPair
from embedrl.data.tcot import Evidence, TCoT, render
from embedrl.errors import ConfigError
from embedrl.models.trainer_settings import make_arguments
from embedrl.nano.data import REASONER_BUDGET
from embedrl.nano.models import FACTOR
from embedrl.reasoner.prompts import tcot_prompt
from embedrl.reasoner.train import SFTExample
from embedrl.rl.config import Config, ReplayConfig, RewardConfig
from embedrl.rl.replay import PairExamples
from embedrl.rl.train import for_rollouts, order, prompts, train
from tests.conftest import make_random_reasoner, nano_processor

TASKS = ["a"] * 12 + ["b"] * 8 + ["c"] * 3


def test_batches_are_of_one_task_with_whole_families_and_each_pass_is_shuffled_anew():
    chosen = order(TASKS[:20], 4, 2, 15, seed=0)
    batches = [chosen[start : start + 4] for start in range(0, 60, 4)]
    for batch in batches:
        assert len({TASKS[place] for place in batch}) == 1
        assert all(batch[i] % 2 == 0 for i in (0, 2))
        assert all(batch[i + 1] == batch[i] + 1 for i in (0, 2))
    assert sorted(place for batch in batches[:5] for place in batch) == list(range(20)), "one pass shows every pair once"
    assert batches[:5] != batches[5:10]
    assert order(TASKS[:20], 4, 2, 15, seed=0) == chosen
    assert order(TASKS[:20], 4, 2, 15, seed=1) != chosen
    assert order(TASKS[:20], 4, 2, 5, seed=0) == chosen[:20], "a longer run begins like a shorter one"


def test_any_stretch_of_a_pass_holds_the_tasks_in_their_shares():
    tasks = ["a"] * 40 + ["b"] * 40 + ["c"] * 80  # 10, 10 and 20 batches of 4
    chosen = order(tasks, 4, 2, 40, seed=0)
    firsts = [tasks[place] for place in chosen[::4]]
    for start in range(0, 40, 4):
        assert sorted(firsts[start : start + 4]) == ["a", "b", "c", "c"]
    assert len({tuple(firsts[start : start + 4]) for start in range(0, 40, 4)}) > 2, "in no fixed order"


def test_what_fills_no_batch_waits_and_nothing_at_all_is_an_error():
    assert not set(order(TASKS, 4, 1, 50, seed=0)) & {20, 21, 22}
    with pytest.raises(ConfigError, match="no task has the 16 pairs"):
        order(TASKS, 16, 1, 1, seed=0)
    with pytest.raises(ConfigError, match="several tasks"):
        order(TASKS, 4, 3, 1, seed=0)


def make_pairs() -> list[Pair]:
    from embedrl.world.tasks import make_families

    return [made.pair for made in make_families("rl", 0, 2, 2, ["image_i2t", "video_t2v"])]


def test_both_sides_of_a_pair_are_adjacent_rows_and_pictures_are_optional(tmp_path: Path):
    reasoner, pairs = make_random_reasoner(), make_pairs()
    rows = [prompts(reasoner, pairs, [4, 0])[place] for place in range(4)]
    assert [(row["pair"], row["is_query"]) for row in rows] == [(4, True), (4, False), (0, True), (0, False)]
    assert [len(row["images"]) for row in rows] == [0, 8, 1, 0]
    texts = [nano_processor().apply_chat_template(row["prompt"], add_generation_prompt=True) for row in rows]
    processor = for_rollouts(nano_processor())
    batch = processor(text=texts, images=[row["images"] or None for row in rows], padding=True, return_tensors="pt")
    assert len(batch["image_grid_thw"]) == 9
    processor.save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path, local_files_only=True)) is Qwen3VLProcessor


class Scorer:
    """Rewards short completions; remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.texts: list[str] = []

    def reward(self, completions, pair, is_query, trainer_state, log_metric, **_) -> list[float]:
        self.seen += zip(pair, is_query, strict=True)
        self.texts += [completion[0]["content"] for completion in completions]
        log_metric("reward/length", 0.0)
        return [-float(len(completion[0]["content"])) for completion in completions]


class Replayed(list[SFTExample]):
    """Remembers which examples were read."""

    def __init__(self, examples: Iterable[SFTExample]) -> None:
        super().__init__(examples)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> SFTExample:
        self.read.append(index)
        return super().__getitem__(index)


def run(
    out: Path,
    model: Path,
    steps: int,
    *,
    save_steps: int = 2,
    trainable: tuple[str, ...] = (),
    scorer: Scorer | None = None,
    replayed: Replayed | None = None,
) -> Scorer:
    from embedrl.reasoner.local import LocalReasoner

    trainer = {
        "max_steps": steps,
        "per_device_train_batch_size": 8,
        "num_generations": 2,
        "max_completion_length": 6,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "bf16": False,
        "gradient_checkpointing": False,
        "save_steps": save_steps,
        "use_cpu": True,
    }
    reasoner, scorer = LocalReasoner.load(model), scorer or Scorer()
    replay = None if replayed is None else ReplayConfig(weight=1.0, batch_size=3)
    config = Config(out=out, family_size=2, rewards=RewardConfig(process_weight=0), trainable=trainable, trainer=trainer, replay=replay)
    train(reasoner, make_pairs(), scorer, config, replayed)
    return scorer


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_random_reasoner().save(folder)
    return folder


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path, random_model: Path):
    whole = run(tmp_path / "whole", random_model, 4)
    assert whole.seen[::2][:4] == whole.seen[1::2][:4], "the rollouts of a prompt stand together"
    assert len(whole.seen) == 4 * 8
    assert {is_query for _, is_query in whole.seen} == {True, False}
    assert not any("<|" in text or "<emb>" in text for text in whole.texts), "special tokens are never sampled"
    first = run(tmp_path / "cut", random_model, 2)
    for number, state in ((3, None), (4, "{")):  # of a run that was killed as it wrote them
        torn = tmp_path / "cut" / "checkpoints" / f"checkpoint-{number}"
        torn.mkdir()
        (torn / "model.safetensors").write_bytes(b"half")
        if state:
            (torn / "trainer_state.json").write_text(state)
    second = run(tmp_path / "cut", random_model, 4)
    assert first.seen + second.seen == whole.seen
    assert first.texts + second.texts == whole.texts
    one, other = (load_file(tmp_path / name / "checkpoints" / "checkpoint-4" / "model.safetensors") for name in ("whole", "cut"))
    start = load_file(tmp_path / "whole" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], start[name]) for name in one), "it trains"
    metrics = (tmp_path / "whole" / "metrics.jsonl").read_text("utf-8")
    assert "rl/kl" in metrics
    assert "rl/reward/length" in metrics
    assert "rl/frac_reward_zero_std" in metrics


def test_only_the_named_weights_are_trained(tmp_path: Path, random_model: Path):
    run(tmp_path, random_model, 2, trainable=("language_model.layers.1.mlp",))
    before = load_file(random_model / "model.safetensors")
    after = load_file(tmp_path / "checkpoints" / "checkpoint-2" / "model.safetensors")
    changed = {name for name in after if not torch.equal(after[name].bfloat16(), before[name].bfloat16())}
    assert changed
    assert all("language_model.layers.1.mlp" in name for name in changed)
    with pytest.raises(ConfigError, match=r"trainable=\['nothing'\]"):
        run(tmp_path / "none", random_model, 2, trainable=("nothing",))


class Indifferent(Scorer):
    """Rewards all rollouts alike, so that GRPO itself changes nothing."""

    def reward(self, completions, **rest) -> list[float]:
        return [0.0 for _ in super().reward(completions, **rest)]


def test_replayed_examples_are_learned_beside_rollouts_and_a_resumed_run_goes_on_with_the_next(tmp_path: Path, random_model: Path):
    items = [item for pair in make_pairs() for item in (pair.query, pair.target)][:5]
    examples = [SFTExample(tcot_prompt(item, "nano", REASONER_BUDGET, FACTOR), f"star {number}") for number, item in enumerate(items)]
    still = run(tmp_path / "still", random_model, 2, scorer=Indifferent())
    assert len(still.seen) == 2 * 8
    before, unmoved = (load_file(folder / "model.safetensors") for folder in (random_model, tmp_path / "still/checkpoints/checkpoint-2"))
    assert all(torch.equal(unmoved[name].bfloat16(), before[name].bfloat16()) for name in unmoved), "equal rewards teach nothing"
    whole, first, second = Replayed(examples), Replayed(examples), Replayed(examples)
    run(tmp_path / "whole", random_model, 4, scorer=Indifferent(), replayed=whole)
    assert whole.read == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    losses = [
        row["rl/replay"]
        for row in map(json.loads, (tmp_path / "whole/metrics.jsonl").read_text("utf-8").splitlines())
        if "rl/replay" in row
    ]
    assert len(losses) == 4
    assert losses[-1] < losses[0] - 0.5
    run(tmp_path / "cut", random_model, 2, scorer=Indifferent(), replayed=first)
    run(tmp_path / "cut", random_model, 4, scorer=Indifferent(), replayed=second)
    assert first.read + second.read == whole.read


def test_pairs_of_a_file_are_replayed_with_the_tcots_that_they_carry():
    plain = make_pairs()[0]
    told = TCoT(thinking="Two things.", evidence=Evidence(), rethink="Fine.", answer="a star")
    pair = AnnotatedPair(query=plain.query, target=plain.target, task=plain.task, target_tcot=told)
    examples = PairExamples.of_annotated(make_random_reasoner(), [plain, pair])
    assert [example.completion for example in map(examples.__getitem__, range(len(examples)))] == [render(told)]
    assert examples.rows == [(1, False, render(told))]
    with pytest.raises(ConfigError, match="replay: no pair has a T-CoT to replay"):
        PairExamples.of_annotated(make_random_reasoner(), [plain])


@pytest.mark.parametrize(
    ("settings", "number", "num_pairs"),
    [
        ({}, 6, 2),
        ({"gradient_accumulation_steps": 3}, 6, 6),
        ({"gradient_accumulation_steps": 3, "steps_per_generation": 1}, 18, 2),
        ({"generation_batch_size": 16}, 3, 4),
        ({"num_iterations": 2, "steps_per_generation": 2}, 2, 4),
    ],
)
def test_batches_are_those_of_trl(settings: dict[str, int], number: int, num_pairs: int):
    trainer = {"max_steps": 6, "per_device_train_batch_size": 8, "num_generations": 2, **settings}
    batches = Config(out=Path("out"), trainer=trainer).batches()
    assert batches == (number, num_pairs, 2)
    resolved = make_arguments(GRPOConfig, Path("out"), {**trainer, "use_cpu": True, "bf16": False})
    assert resolved.generation_batch_size == num_pairs * 2 * 2
    steps_a_batch = resolved.steps_per_generation * resolved.num_iterations / resolved.gradient_accumulation_steps
    assert (number - 1) * steps_a_batch < 6 <= number * steps_a_batch


def test_a_batch_that_cuts_a_pair_is_refused(tmp_path: Path, random_model: Path):
    from embedrl.reasoner.local import LocalReasoner

    trainer = {"max_steps": 1, "per_device_train_batch_size": 6, "num_generations": 2, "bf16": False, "use_cpu": True}
    with pytest.raises(ConfigError, match="generation_batch_size=6"):
        train(LocalReasoner.load(random_model), make_pairs(), Scorer(), Config(out=tmp_path, family_size=2, trainer=trainer))
    with pytest.raises(ConfigError, match="max_steps"):
        train(LocalReasoner.load(random_model), make_pairs(), Scorer(), Config(out=tmp_path))
