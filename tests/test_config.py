"""Recipes, overrides and their errors; config.json; metrics.jsonl across a kill."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from embedrl.config import Metrics, library_versions, load_recipe, write_run_config
from embedrl.errors import ConfigError, StoreError


@dataclass(frozen=True)
class Vision:
    steps: int = 10
    learning_rate: float = 1e-3


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    seed: int = 0
    name: str = ""
    split: Literal["train", "test"] = "train"
    tasks: list[str] = []
    vision: Vision = Vision()
    trainer: dict[str, Any] = Field(default_factory=dict)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text('out = "runs/a"\nseed = 3\n[vision]\nsteps = 5\n[trainer]\nlearning_rate = 1e-3\n')
    return path


def test_a_recipe_is_read_and_overridden(recipe: Path):
    assert load_recipe(recipe, [], Recipe) == Recipe(out=Path("runs/a"), seed=3, vision=Vision(steps=5), trainer={"learning_rate": 1e-3})
    overrides = ["seed=7", "trainer.learning_rate=2e-4", "trainer.optim.kind=adamw", 'tasks=["a", "b"]', "vision.steps=6", "seed = 8"]
    loaded = load_recipe(recipe, overrides, Recipe)
    assert (loaded.seed, loaded.tasks, loaded.vision.steps) == (8, ["a", "b"], 6)
    assert loaded.trainer == {"learning_rate": 2e-4, "optim": {"kind": "adamw"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("runs/b", "runs/b"), ("a b=c", "a b=c"), ('"7"', "7"), ("2026-01-02", "2026-01-02"), ("C:\\x", "C:\\x"), ("x\nseed=1", "x\nseed=1")],
)
def test_strings_may_be_bare(text: str, value: str):
    loaded = load_recipe(None, ["out=o", f"name={text}"], Recipe)
    assert (loaded.name, loaded.seed) == (value, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", r"override: sed=1: unknown key \(did you mean seed\?\); allowed: out, seed, .*vision\.\*, trainer\.\*"),
        ("vision.step=1", r"vision\.step=1: unknown key \(did you mean vision\.steps\?\); allowed: vision\.steps, vision\.learning_rate"),
        ("learning_rate=1", r"did you mean vision\.learning_rate\?"),
        ("zzz=1", r"zzz=1: unknown key; allowed"),
        ("seed=many", r"override: seed='many': Input should be a valid integer"),
        ("split=dev", r"split='dev': Input should be 'train' or 'test'"),
        ("seed.x=1", r"seed\.x=1: seed is the value 3, not a table"),
        ("seed", r"'seed': write key=value"),
        ("seed=", r"write key=value"),
        ("a..b=1", r"write key=value"),
        ("tasks=[1", r"'\[1' is not a TOML value"),
    ],
)
def test_a_wrong_override_is_named_with_its_fix(recipe: Path, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe, [override], Recipe)


def test_errors_in_the_file_name_the_file(recipe: Path, tmp_path: Path):
    recipe.write_text('seed = "x"\n')
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, [], Recipe)
    assert str(caught.value).count(str(recipe)) == 2
    assert "out is required" in str(caught.value)
    assert "seed='x'" in str(caught.value)
    recipe.write_text("seed = = 1")
    with pytest.raises(ConfigError, match=r"small.toml.*not a TOML file.*line 1"):
        load_recipe(recipe, [], Recipe)
    with pytest.raises(ConfigError, match=r"none.toml.*there is no such file, nor a shipped recipe of that name \(nano/ablation.toml"):
        load_recipe(tmp_path / "none.toml", [], Recipe)


def test_config_json_holds_the_resolved_config_and_versions(tmp_path: Path):
    path = write_run_config(tmp_path / "run", Recipe(out=Path("runs/a")), prompt_hashes={"nano": "abc"})
    found = json.loads(path.read_text())
    assert found["config"]["out"] == "runs/a"
    assert found["config"]["vision"]["steps"] == 10
    assert found["prompt_hashes"] == {"nano": "abc"}
    assert found["versions"] == library_versions()
    assert {"python", "torch", "pydantic"} <= found["versions"].keys()
    assert [file.name for file in path.parent.iterdir()] == ["config.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_run_config(tmp_path / "file" / "run", Recipe(out=Path("a")))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_are_appended_and_a_resumed_run_writes_each_step_once(tmp_path: Path):
    path = tmp_path / "run" / "metrics.jsonl"
    first = Metrics(path)
    for step in (10, 20, 30):
        first.write(step, {"sft/loss": 1 / step})
    first.write(30, {"sft/runtime": 1.0})
    assert [row["step"] for row in lines(path)] == [10, 20, 30, 30]
    with path.open("a") as file:
        file.write('{"step": 40, "sec')
    resumed = Metrics(path)
    resumed.write(20, {"sft/loss": float("nan")})
    resumed.write(30, {"sft/loss": 0.5})
    rows = lines(path)
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[0]["sft/loss"] == 0.1
    assert rows[1]["sft/loss"] is None
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_a_resumed_run_goes_on_counting_its_seconds(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "seconds": 100.0}\n')
    Metrics(path).write(2, {})
    assert 100 <= lines(path)[1]["seconds"] < 160


def test_only_rank_0_writes_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    Metrics(tmp_path / "metrics.jsonl").write(1, {"a/b": 1.0})
    assert not list(tmp_path.iterdir())


def test_no_heavy_library_is_imported():
    code = (
        "import sys, embedrl.config as config, embedrl.log; config.library_versions(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'av', 'lancedb')))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
