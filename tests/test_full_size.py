"""What full-size training needs, on tiny checkpoints in full-size layouts: start from Instruct, train an adapter, resume, merge."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from embedrl.config import Lora, load_recipe
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError
from embedrl.models.adapters import load_adapter
from embedrl.models.load import load
from embedrl.nano.data import REASONER_BUDGET
from embedrl.pipelines.train_embedder import embedder_rows, train_embedder
from embedrl.reasoner.local import LocalReasoner
from embedrl.rl.config import Config, RewardConfig
from embedrl.rl.train import train
from tests.checkpoints import write_instruct, write_qwen3_vl_embedding
from tests.test_checkpoints import make_items
from tests.test_rl_train import Scorer, make_pairs


@pytest.fixture(scope="module")
def instruct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instruct(tmp_path_factory.mktemp("models") / "Qwen3-VL-2B-Instruct")


def recipe(out: Path, start_from: Path, **changes) -> EmbedderRecipe:
    trainer = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "use_cpu": True, "save_steps": 1, **changes.pop("trainer", {})}
    settings = {"num_batches": 2, "batch_size": 4, "mini_batch_size": 2, "lora": Lora(rank=2, alpha=4, vision=True), **changes}
    return EmbedderRecipe(out=out, start_from=start_from, trainer=trainer, **settings)


@pytest.fixture(scope="module")
def trained(instruct: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in bf16 with an adapter and gradient checkpointing."""
    out = tmp_path_factory.mktemp("run")
    train_embedder(recipe(out, instruct, dtype="bfloat16", trainer={"gradient_checkpointing": True}))
    return out


def test_an_instruct_model_becomes_an_embedder_by_its_adapter(instruct: Path, trained: Path) -> None:
    config = json.loads((trained / "model/config.json").read_text("utf-8"))
    assert config["emb_token_ids"] == [282]
    weights = load_file(trained / "adapter/adapter_model.safetensors")
    assert all(".lora_" in name for name in weights)
    assert any(weight.abs().max() > 0 for name, weight in weights.items() if "lora_B" in name)
    assert sum("visual" in name for name in weights) > 0
    base, after = (
        {name: weight for part in folder.glob("*.safetensors") for name, weight in load_file(part).items()}
        for folder in (instruct, trained / "model")
    )
    changed = {name for name in base if not torch.equal(base[name], after[name])}
    adapted = {name.removeprefix("base_model.").replace("lora_A.", "") for name in weights if "lora_A" in name}
    assert changed <= adapted
    assert len(changed) > 20
    assert not any("embed_tokens" in name or "norm" in name for name in changed)


def test_the_adapter_alone_and_the_merged_model_give_the_same_vectors(trained: Path, instruct: Path) -> None:
    merged = Embedder.load(trained / "model", dtype="float32")
    model, _, _ = load(AutoModel, instruct, dtype="float32")
    alone = Embedder(load_adapter(model, trained / "adapter"), merged.processor, merged.budget, "alone")
    items = make_items()
    first, second = merged.embed(items, [None] * 3), alone.embed(items, [None] * 3)
    assert (first * second).sum(1).min() > 0.999, "the merged weights are rounded to bf16"


@pytest.mark.slow
def test_a_resumed_adapter_run_equals_an_uninterrupted_one(instruct: Path, tmp_path: Path) -> None:
    def weights(name: str, *steps: int) -> dict[str, torch.Tensor]:
        for number in steps:
            train_embedder(recipe(tmp_path / name / str(number), instruct, trainer={"max_steps": number}))
        return load_file(tmp_path / name / str(steps[-1]) / "adapter/adapter_model.safetensors")

    whole = weights("whole", 2)
    half = weights("cut", 1)
    (tmp_path / "cut/2").mkdir()
    (tmp_path / "cut/1/checkpoints").rename(tmp_path / "cut/2/checkpoints")
    resumed = weights("cut", 2)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], half[name]) for name in whole)


def test_an_embedder_with_its_own_ending_keeps_it(tmp_path: Path) -> None:
    start = write_qwen3_vl_embedding(tmp_path / "Qwen3-VL-Embedding-2B")
    folder = train_embedder(recipe(tmp_path / "run", start, num_batches=1, lora=None, freeze_vision=True))
    embedder = Embedder.load(folder)
    assert embedder.layout.end == "<|endoftext|>"
    assert embedder.layout.request is None
    assert np.isfinite(embedder.embed(make_items(), [None] * 3)).all()


def test_epochs_count_the_rows_of_the_files(tmp_path: Path) -> None:
    rows = [{"task": "t", "query": {"text": f"q{number}"}, "target": {"text": f"t{number}"}} for number in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    settings = [f'out="{tmp_path}"', 'start_from="x"', f'pairs.files.a="{tmp_path / "a.jsonl"}"', "batch_size=3"]
    assert embedder_rows(load_recipe(None, [*settings, "num_epochs=2", "pairs.weights.a=5"], EmbedderRecipe)).num_batches == 8
    with pytest.raises(ConfigError, match="num_batches, num_epochs: give one"):
        load_recipe(None, settings, EmbedderRecipe)


def test_processes_share_the_batch(instruct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="batch_size=4: must be a multiple of the 3 processes"):
        train_embedder(recipe(tmp_path, instruct))


def test_eg_rl_trains_an_adapter_and_leaves_a_plain_model(instruct: Path, tmp_path: Path) -> None:
    trainer = {"max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 4, "learning_rate": 1e-2}
    trainer |= {"bf16": False, "use_cpu": True, "save_steps": 1, "gradient_checkpointing": False}
    reasoner = LocalReasoner.load(instruct, dtype="float32")
    reasoner.settings = reasoner.settings.model_copy(update={"prompts": "nano", "budget": REASONER_BUDGET})
    before = {name: weight.clone() for name, weight in reasoner.model.state_dict().items()}
    config = Config(out=tmp_path, family_size=2, rewards=RewardConfig(process_weight=0), lora=Lora(rank=2, alpha=4), trainer=trainer)
    train(reasoner, make_pairs(), Scorer(), config)
    after = reasoner.model.state_dict()
    assert after.keys() == before.keys(), "the adapter is merged"
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all("language_model.layers" in name for name in changed)
    assert all("proj" in name for name in changed)
    model, _, _ = load(AutoModel, instruct, dtype="float32")
    merged = load_adapter(model, tmp_path / "adapter").merge_and_unload().state_dict()
    assert all(torch.allclose(merged[name], after[f"model.{name}"], atol=1e-5) for name in merged)
    with pytest.raises(ConfigError, match="an adapter is trained"):
        train(reasoner, make_pairs(), Scorer(), config.model_copy(update={"trainable": ("norm",), "out": tmp_path / "no"}))


def test_an_adapter_brings_the_row_that_its_base_has_no_room_for(tmp_path: Path) -> None:
    """A base with a row for each of its tokens: `<emb>` gets a new one, without which the adapter alone was unusable (peft 1457)."""
    text = {**json.loads((write_instruct(tmp_path / "spare") / "config.json").read_text("utf-8"))["text_config"], "vocab_size": 282}
    base = write_instruct(tmp_path / "base", text_config=text)
    train_embedder(recipe(tmp_path / "run", base, num_batches=1))
    adapter, whole = (Embedder.load(tmp_path / "run" / name, dtype=torch.float32) for name in ("adapter", "model"))
    items = make_items()
    assert adapter.model.get_input_embeddings().num_embeddings == 283
    assert np.abs(adapter.embed(items, [None] * 3) - whole.embed(items, [None] * 3)).max() < 2e-2
