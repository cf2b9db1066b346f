"""Rejection sampling: the best rollout of each group is learned from, and a killed run samples nothing twice."""

import json
from pathlib import Path

import pytest
import torch

from embedrl.data.tcot import TCoT, parse
from embedrl.errors import ConfigError
from embedrl.pipelines import rejection
from embedrl.pipelines.eg_rl import local_reasoner
from embedrl.rl.config import Recipe


def recipe(out: Path, **changes) -> Recipe:
    trainer = {"max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 2, "temperature": 1.0}
    settings = {"learning_rate": 1e-3, "max_steps": 1, "per_device_train_batch_size": 2, "save_steps": 10}
    values = {"out": out, "method": "rejection", "trainer": trainer, "rejection": settings, "tasks": ("visdoc_qa",), **changes}
    return Recipe(num_families=1, family_size=2, trainable=("language_model",), **values)


def test_the_best_of_each_group_is_learned_from_and_sampled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    score = rejection.Scorer.score

    def watch(self, rollouts, *, seed):
        scores = score(self, rollouts, seed=seed)
        seen.append((rollouts, scores.total.tolist()))
        return scores

    monkeypatch.setattr(rejection.Scorer, "score", watch)
    model = rejection.train_by_rejection(recipe(tmp_path / "run"))
    (rollouts, totals), *others = seen
    assert not others
    chosen = json.loads((tmp_path / "run" / "chosen" / "000000.json").read_text("utf-8"))
    assert len(chosen) == 4, "both sides of two pairs"
    for number, (place, is_query, written, reward) in enumerate(chosen):
        group = range(2 * number, 2 * number + 2)
        assert reward == max(totals[row] for row in group)
        assert (place, is_query) == (rollouts[2 * number].pair, rollouts[2 * number].is_query)
        assert written in [rollouts[row].text for row in group]
        assert isinstance(parse(written), TCoT)
    before, after = (local_reasoner(name).model.state_dict() for name in ("nano-sft", str(model)))
    moved = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert moved
    assert not any("visual" in name for name in moved), "what the recipe leaves out is not trained"
    rejection.train_by_rejection(recipe(tmp_path / "run"))
    assert len(seen) == 1, "a second run samples nothing again"
    file = tmp_path / "run" / "chosen" / "000000.json"
    content = file.read_bytes()
    file.write_bytes(content[:40])
    rejection.train_by_rejection(recipe(tmp_path / "run"))
    assert len(seen) == 2
    assert file.read_bytes() == content, "what a power cut left is sampled again, alike"


def test_batches_that_cannot_be_made_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="must hold both sides"):
        rejection.train_by_rejection(recipe(tmp_path, trainer={"max_steps": 1, "per_device_train_batch_size": 6, "num_generations": 2}))
    with pytest.raises(ConfigError, match="max_steps: give a whole number"):
        rejection.train_by_rejection(recipe(tmp_path, trainer={"per_device_train_batch_size": 8, "num_generations": 2}))


def test_replay_is_refused_where_nothing_replays(tmp_path: Path):
    with pytest.raises(ValueError, match="replay: stands beside GRPO's loss, and method=rejection has none"):
        recipe(tmp_path, replay={"weight": 0.1})
