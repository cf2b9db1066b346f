"""`--plan`: what it says of memory is what torch allocates; every wrong path and name is named; the shipped recipes are in order."""

import gc
import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, Qwen3VLConfig, Qwen3VLModel

from embedrl.cli.main import main
from embedrl.config import RECIPES, Lora, load_recipe
from embedrl.data.pair_file_rows import PairsConfig
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError
from embedrl.models.footprint import Footprint, Load
from embedrl.models.names import shipped
from embedrl.pipelines.plan import plan_embedder, plan_reasoner
from embedrl.pipelines.train_embedder import train_embedder
from embedrl.rl.config import Recipe, ReplayConfig
from tests.checkpoints import qwen3_vl_config, write_instruct
from tests.conftest import nano_processor, tiny_config


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most bytes that torch's CPU allocator held at once during a call, by its own account."""
    gc.collect()  # what an earlier run left would count as given back during this one
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        call()
    assert run.profiler is not None
    assert run.profiler.kineto_results is not None
    events = sorted((event.start_ns(), event.nbytes()) for event in run.profiler.kineto_results.events() if event.name() == "[memory]")
    return max(accumulate(size for _, size in events))


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 35 million weights, in bf16 as published ones are: wider, deeper, fewer key heads than query heads."""
    folder = tmp_path_factory.mktemp("larger")
    table = tiny_config().to_dict()
    text = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 8}
    vision = {"hidden_size": 256, "intermediate_size": 1024, "depth": 6, "out_hidden_size": 512}
    table["text_config"] |= text
    table["vision_config"] |= vision
    torch.manual_seed(0)
    Qwen3VLModel(Qwen3VLConfig.from_dict(table)).bfloat16().save_pretrained(folder)
    nano_processor().save_pretrained(folder)
    return folder


CHECKPOINTS = {"gradient_checkpointing": True}
PAPER_ADAPTER = Lora(rank=8, alpha=16, dropout=0.05, vision=True)
WAYS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "adapter": {"lora": Lora(rank=8, alpha=16)},
    "all weights, autocast": {"freeze_vision": False, "trainer": {"bf16": True}},
    "adapter, bf16": {"lora": PAPER_ADAPTER, "dtype": "bfloat16"},
    "adapter, bf16, autocast": {"lora": PAPER_ADAPTER, "dtype": "bfloat16", "trainer": {"bf16": True}},
    "all weights, checkpoints": {"freeze_vision": False, "trainer": CHECKPOINTS},
    "adapter, checkpoints": {"lora": PAPER_ADAPTER, "trainer": CHECKPOINTS},
    "adapter, bf16, autocast, checkpoints": {"lora": PAPER_ADAPTER, "dtype": "bfloat16", "trainer": {"bf16": True, **CHECKPOINTS}},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", ["nano", "larger"])
def test_planned_memory_is_that_of_the_run(size: str, way: str, larger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps, from loading on; both sides count tensors, and neither counts Python, libraries or an allocator's spare room."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # the profiler does not see what other threads allocate
    start, rows = (shipped("embedder")["nano"], 16) if size == "nano" else (larger, 6)
    settings = {**WAYS[way], "trainer": {"use_cpu": True, "save_strategy": "no", **WAYS[way].get("trainer", {})}}
    recipe = EmbedderRecipe(out=tmp_path / "run", start_from=start, num_batches=2, batch_size=rows, mini_batch_size=rows, **settings)
    plan = plan_embedder(recipe, num_sampled=2 * rows)
    measured = peak_bytes(lambda: train_embedder(recipe))
    assert plan.memory_bytes == pytest.approx(measured, rel=0.2), plan.rows


def write_full_size(folder: Path) -> Path:
    """The configuration of Qwen3-VL-2B with no weights, and a small tokenizer."""
    write_instruct(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    table = qwen3_vl_config()
    text = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
    table["text_config"] |= {
        **text,
        "head_dim": 128,
        "vocab_size": 151936,
        "rope_scaling": {"mrope_section": [24, 20, 20], "rope_type": "default"},
    }
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "num_heads": 16, "out_hidden_size": 2048}
    table["vision_config"] |= {**vision, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]}
    (folder / "config.json").write_text(json.dumps(table), "utf-8")
    return folder


def test_parameters_are_those_of_the_published_model(tmp_path: Path) -> None:
    """model.safetensors of Qwen3-VL-Embedding-2B has 4,255,140,312 bytes: two for each weight, and a header."""
    config = AutoConfig.from_pretrained(write_full_size(tmp_path / "2b"))
    counts = Footprint.of(config).counts
    assert 2 * sum(counts[part] for part in ("language", "embeddings", "vision")) == pytest.approx(4_255_140_312, rel=1e-4)
    adapter = Footprint.of(config, dtype="bfloat16", lora=Lora(rank=64, alpha=128, vision=True))
    text = (2048 + 2048) * 2 + (2048 + 1024) * 2 + (2048 + 6144) * 3
    block, mergers = (1024 + 3072) + (1024 + 1024) + 2 * (1024 + 4096), 4 * (4096 + 4096 + 4096 + 2048)
    assert adapter.counts["trained"] == 64 * (28 * text + 24 * block + mergers)
    assert adapter.weight_bytes == pytest.approx(4_255_140_312 + 4 * adapter.counts["trained"], rel=1e-4)


def test_an_accelerator_keeps_dropouts_masks_as_bytes() -> None:
    config, load = tiny_config(), Load(tokens=100, longest=10, patches=0)
    h, f, q = config.text_config.hidden_size, config.text_config.intermediate_size, 192
    settings = {"dtype": "bfloat16", "lora": PAPER_ADAPTER}
    there = Footprint.of(config, **settings).activation_bytes(load)
    here = Footprint.of(config, **settings, trainer={"use_cpu": True}).activation_bytes(load)
    assert here - there == 3 * 100 * config.text_config.num_hidden_layers * (5 * h + q + f)


@pytest.mark.parametrize("size", ["2b", "4b"])
def test_the_full_size_recipes_are_valid_and_say_what_they_miss(size: str) -> None:
    embedder = load_recipe(RECIPES / f"qwen3-vl-{size}/embedder.toml", [], EmbedderRecipe)
    assert embedder.pairs is not None
    assert embedder.pairs.files.keys() == embedder.pairs.weights.keys()
    assert embedder.pairs.files.keys() == embedder.pairs.caps.keys()
    assert len(embedder.pairs.files) == 22
    assert set(embedder.pairs.videos) <= embedder.pairs.files.keys()
    with pytest.raises(ConfigError) as raised:
        plan_embedder(embedder, num_processes=8)
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 + 22
    assert "start_from" in lines[0]
    assert not any("unknown" in line for line in lines)
    reasoner = load_recipe(RECIPES / f"qwen3-vl-{size}/reasoner.toml", [], Recipe)
    with pytest.raises(ConfigError) as raised:
        plan_reasoner(reasoner)
    assert [line.split(":")[0].split("=")[0] for line in str(raised.value).splitlines()] == ["start_from", "embedder", "pairs"]
    steps = reasoner.trainer["per_device_train_batch_size"] * reasoner.trainer["gradient_accumulation_steps"] * 8
    assert steps == 256
    assert reasoner.trainer["max_steps"] == 19_000 // (steps // (2 * reasoner.trainer["num_generations"]))


def test_a_full_size_run_is_planned_without_its_weights(tmp_path: Path) -> None:
    rows = [{"query": {"text": f"what is number {n}?"}, "target": {"text": f"it is {n}"}} for n in range(64)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    recipe = load_recipe(RECIPES / "qwen3-vl-2b/embedder.toml", [f'start_from="{write_full_size(tmp_path / "2b")}"'], EmbedderRecipe)
    pairs = PairsConfig(files={"a": tmp_path / "a.jsonl"})
    recipe = recipe.model_copy(update={"pairs": pairs, "batch_size": 16})
    one, eight = plan_embedder(recipe), plan_embedder(recipe, num_processes=8)
    table = dict(one.rows)
    assert table["batches of pairs"] == "8 of 16"
    assert table["parameters, and trained"].startswith("2,127.")
    assert eight.memory_bytes <= one.memory_bytes
    assert eight.flops == one.flops
    assert float(dict(eight.rows)["hours"]) <= float(table["hours"])
    assert one.flops > 8 * 32 * 2 * 1.4e9 * 10 * 4, "eight batches of 32 items, ten tokens or more, four passes over 1.4 G weights"
    assert any("400 TFLOP/s" in assumption for assumption in one.assumptions)


def test_eg_rl_is_planned_on_the_nano_models(tmp_path: Path) -> None:
    recipe = load_recipe(
        RECIPES / "nano/reasoner.toml",
        [f'out="{tmp_path}"', "num_families=1", "trainer.max_steps=100", "rewards.process_weight=0.2"],
        Recipe,
    )
    plan = plan_reasoner(recipe, num_sampled=8)
    table = dict(plan.rows)
    assert table["steps of rollouts"] == "100 of 128"
    assert "memory: embedder's weights" in table
    assert "memory: judge's weights" in table
    assert plan.flops > 0
    assert plan.memory_bytes > 0
    adapter = plan_reasoner(recipe.model_copy(update={"lora": Lora(rank=4, alpha=8)}), num_sampled=8)
    assert "memory: reference of the KL term" in table
    assert "memory: reference of the KL term" not in dict(adapter.rows)
    replaying = plan_reasoner(recipe.model_copy(update={"replay": ReplayConfig(batch_size=4)}), num_sampled=8)
    assert "memory: activations of 4 replayed examples" in dict(replaying.rows)
    assert replaying.memory_bytes > plan.memory_bytes
    assert replaying.flops > plan.flops


def test_wrong_settings_are_all_named(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "nano/embedder.toml", ["start_from=nowhere", "trainer.learning_rat=1", "batch_size=5"], EmbedderRecipe)
    with pytest.raises(ConfigError) as raised:
        plan_embedder(recipe, num_processes=2)
    text = str(raised.value)
    assert "trainer.learning_rat=1: unknown setting" in text
    assert "start_from='nowhere': not a folder" in text
    assert "batch_size=5" in text


@pytest.mark.parametrize(("words", "recipe"), [("embedder", "embedder.toml"), ("reasoner", "reasoner.toml")])
def test_the_commands_plan_and_train_nothing(words: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = [f'start_from="{shipped("embedder")["nano"]}"'] if words == "embedder" else ["num_families=1"]
    with pytest.raises(SystemExit) as ended:
        main(["train", words, str(RECIPES / "nano" / recipe), f'out="{tmp_path / "run"}"', *start, "--dry-run", "--tflops", "0.1"])
    out, err = capsys.readouterr()
    assert not ended.value.code
    assert "memory of a process, at most" in out
    assert "hours" in out
    assert "assumed:" in err
    assert not (tmp_path / "run").exists()
