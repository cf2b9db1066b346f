"""The reference of EG-RL's KL term is the model at the start of the run, whatever it was loaded from.

Reported: a run that starts from a LoRA adapter measures its KL from the adapter's base (models.md F6; https://github.com/huggingface/trl/pull/4723).
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from embedrl.config import Lora, read_metrics
from embedrl.models.adapters import add_lora
from embedrl.reasoner.local import LocalReasoner
from embedrl.rl.config import Config, RewardConfig
from embedrl.rl.train import train
from tests.conftest import make_random_reasoner
from tests.test_rl_train import Scorer, make_pairs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model, an adapter of it that changes it much, and the two merged."""
    root = tmp_path_factory.mktemp("starts")
    make_random_reasoner().save(root / "plain")
    reasoner = LocalReasoner.load(root / "plain", dtype="float32")
    reasoner.model = add_lora(reasoner.model, Lora(rank=4, alpha=8))
    noise = torch.Generator().manual_seed(1)
    for name, weight in reasoner.model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=noise) * 0.5
    reasoner.model.save_pretrained(root / "adapter")
    reasoner.save_settings(root / "adapter")
    LocalReasoner.load(root / "adapter", dtype="float32").save(root / "merged")
    assert json.loads((root / "adapter/adapter_config.json").read_text("utf-8"))["base_model_name_or_path"] == str(root / "plain")
    return root


def first_kl(reasoner: LocalReasoner, out: Path, *, lora: Lora | None = None, steps: int = 1, learning_rate: float = 0.0) -> float:
    trainer = {"max_steps": steps, "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 6, "beta": 0.1}
    trainer |= {"learning_rate": learning_rate, "lr_scheduler_type": "constant", "bf16": False, "gradient_checkpointing": False}
    trainer |= {"save_steps": 1, "use_cpu": True}
    config = Config(out=out, family_size=2, rewards=RewardConfig(process_weight=0), trainer=trainer, lora=lora)
    train(reasoner, make_pairs(), Scorer(), config)
    return read_metrics(out / "metrics.jsonl")[0]["rl/kl"]


STARTS: dict[str, Callable[[Path], LocalReasoner]] = {
    "plain": lambda root: LocalReasoner.load(root / "plain", dtype="float32"),
    "adapter": lambda root: LocalReasoner.load(root / "adapter", dtype="float32"),
    "merged": lambda root: LocalReasoner.load(root / "merged", dtype="float32"),
    "never saved": lambda root: make_random_reasoner(),
}


@pytest.mark.parametrize(
    ("start", "lora"),
    [
        ("plain", None),
        ("adapter", None),
        pytest.param("merged", None, marks=pytest.mark.slow),
        pytest.param("never saved", None, marks=pytest.mark.slow),
        ("adapter", Lora(rank=2, alpha=4)),
    ],
)
def test_the_kl_before_any_update_is_zero(start: str, lora: Lora | None, folders: Path, tmp_path: Path) -> None:
    assert first_kl(STARTS[start](folders), tmp_path, lora=lora) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_a_resumed_run_keeps_the_reference_of_its_start(folders: Path, tmp_path: Path) -> None:
    first_kl(STARTS["adapter"](folders), tmp_path / "whole", steps=2, learning_rate=1e-2)
    first_kl(STARTS["adapter"](folders), tmp_path / "cut", steps=1, learning_rate=1e-2)
    first_kl(STARTS["adapter"](folders), tmp_path / "cut", steps=2, learning_rate=1e-2)
    whole, cut = (
        [row["rl/kl"] for row in read_metrics(tmp_path / name / "metrics.jsonl") if "rl/kl" in row][-1] for name in ("whole", "cut")
    )
    assert whole > 1e-4
    assert cut == whole
    assert not (tmp_path / "cut/reference").exists(), "a finished run needs it no longer"
