"""`embedrl models`: facts of known models are right, a preset names both roles, and a check says what differs from plain transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import Qwen3VLConfig

from embedrl.cli.main import main
from embedrl.errors import ConfigError, ModelError
from embedrl.integrations.parity import probes
from embedrl.models.known import KnownModel, known_models, preset, presets
from embedrl.models.load import empty_model
from embedrl.models.names import is_hub_id, shipped

SHAPES: dict[str, tuple[dict[str, int], dict[str, Any], bool]] = {
    "Qwen/Qwen3-VL-2B-Instruct": ({"hidden_size": 2048, "num_hidden_layers": 28, "intermediate_size": 6144}, {}, False),
    "Qwen/Qwen3-VL-4B-Instruct": ({"hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728}, {}, False),
    "Qwen/Qwen3-VL-8B-Instruct": ({"hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288}, {"depth": 27}, True),
    "Qwen/Qwen3-VL-Embedding-2B": ({"hidden_size": 2048, "num_hidden_layers": 28, "intermediate_size": 6144}, {}, False),
    "Qwen/Qwen3-VL-Embedding-8B": ({"hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288}, {"depth": 27}, False),
}
"""Of the published config.json files: the text model, the larger tower of 27 layers or the one of 24, and a head of its own."""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_are_those_of_the_published_configuration(name: str):
    text, vision, has_head = SHAPES[name]
    small = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
    large = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
    heads = {
        "num_attention_heads": 32 if text["hidden_size"] > 2048 else 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    }
    shape = {"num_heads": 16, "num_position_embeddings": 2304, "patch_size": 16, "out_hidden_size": text["hidden_size"]}
    model = empty_model(Qwen3VLConfig(text_config={**text, **heads}, vision_config={**(large if vision else small), **shape}))
    row = next(row for row in known_models() if row.name == name)
    head = heads["vocab_size"] * text["hidden_size"] if has_head else 0
    assert row.parameters == sum(weight.numel() for weight in model.parameters()) + head
    assert row.linear == sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))


def test_what_fits():
    row = KnownModel(name="x/y", role="embedder", parameters=1000, linear=800, license="", source="", tested="")
    assert (row.bf16_bytes, row.int8_bytes) == (2000, 1200)
    assert [row.fit(memory) for memory in (2500, 2499, 1500, 1499)] == ["bf16", "int8", "int8", "no"]


def test_every_preset_names_known_models():
    roles = {(row.name, row.role) for row in known_models()}
    for pair in presets().values():
        assert (pair.reasoner, "reasoner") in roles
        assert (pair.embedder, "embedder") in roles
    assert all(is_hub_id(row.name) or row.name in shipped(row.role) for row in known_models())
    with pytest.raises(ConfigError, match="--models 'qwen': choose one of nano, qwen3-vl-2b"):
        preset("qwen")


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]):
    assert run("models") == 0
    assert "Qwen/Qwen3-VL-Embedding-2B\tembedder\t2,128 M\tApache-2.0\t4.26\t4.26\t2.44" in capsys.readouterr().out
    assert run("models", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["fits"] for row in told["models"]} <= {"bf16", "int8", "no"}
    assert told["presets"]["qwen3-vl-2b"]["embedder"] == "Qwen/Qwen3-VL-Embedding-2B"


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("nano", ["nano", "nano"]),
        ("qwen3-vl-embedding-2B", ["Qwen/Qwen3-VL-Embedding-2B"]),
        ("qwen3-vl-2b", ["Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-Embedding-2B"]),
    ],
)
def test_a_name_shows_its_models(name: str, models: list[str], capsys: pytest.CaptureFixture[str]):
    assert run("models", name, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == models
    assert run("models", "show", name) == 0
    told = capsys.readouterr()
    assert f"use it with --{rows[0]['role']} {models[0]}" in told.out + told.err


@pytest.mark.parametrize(("name", "near"), [("qwen3-vl-3b", "qwen3-vl-"), ("chek", "check")])
def test_an_unknown_name_is_told_what_there_is(name: str, near: str, capsys: pytest.CaptureFixture[str]):
    assert run("models", name) == 2
    told = capsys.readouterr().err
    assert f"{name!r} is no known model: did you mean {near}" in told
    assert f"`embedrl models check {name}` tries" in told


def test_a_preset_takes_the_place_of_both_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.txt").write_text("a red star")
    assert run("index", str(tmp_path), "--models", "nano", "--no-think") == 0
    assert run("index", str(tmp_path), "--models", "nano", "--embedder", "fake") == 2
    assert "names both models" in capsys.readouterr().err
    assert run("search", "a star", "--index", str(tmp_path), "--models", "qwen") == 2


def test_a_check_says_what_a_model_is_good_for(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run("models", "check", "nano", "--json") == 0
    embedder, reasoner = json.loads(capsys.readouterr().out)
    assert len(embedder["outcomes"]) == len(reasoner["outcomes"]) == len(probes())
    assert not embedder["differences"]
    assert all("pixel grid" in found for found in embedder["by_design"]), "nano was trained on grids nearest to a picture's area"
    assert len(embedder["by_design"]) == 2
    assert not reasoner["differences"]
    for role in (embedder, reasoner):
        assert 1e6 < role["weight_bytes"] < role["peak_bytes"] < 64e9
    assert run("models", "check", str(shipped("embedder")["nano"])) == 0
    assert "is the folder of an Embedder" in capsys.readouterr().out
    assert run("models", "check", str(tmp_path)) == 2
    with pytest.raises(ModelError, match=r"as Embedder: .*; as Reasoner: "):
        from embedrl.pipelines.check_model import check_model

        check_model(str(tmp_path))
