"""The ablation: every row from one recipe, done once, and a table of what came of it."""

import json
from pathlib import Path

import pytest

from embedrl.config import RECIPES, load_recipe
from embedrl.errors import ConfigError
from embedrl.pipelines.ablation import COLUMNS, ablate, kept_report, table_rows
from embedrl.rl.config import Ablation, AblationRow, Recipe


def small(out: Path, *rows: AblationRow) -> Ablation:
    return Ablation(recipe=RECIPES / "nano/reasoner.toml", out=out, num_queries=1, pool_size=4, rows=rows)


@pytest.mark.parametrize("name", ["nano/ablation.toml", "nano/crowded-ablation.toml"])
def test_the_shipped_rows_are_recipes(name: str):
    shipped = load_recipe(Path(name), [], Ablation)
    assert len({row.name for row in shipped.rows}) == len(shipped.rows)
    for row in shipped.rows:
        load_recipe(shipped.recipe, row.overrides, Recipe)


def test_a_wrong_row_is_named_before_anything_is_trained(tmp_path: Path):
    wanted = small(tmp_path, AblationRow(name="good"), AblationRow(name="bad", overrides=("rewards.weight=1",)))
    with pytest.raises(ConfigError, match=r"rewards.weight"):
        ablate(wanted)
    with pytest.raises(ConfigError, match="'other': choose from 'good', 'bad'"):
        ablate(wanted, only=("other",))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_result_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A file that was cut off ended the run with a traceback at each start."""
    path = tmp_path / "ablation.json"
    assert kept_report(path) is None
    for text in ('{"after": {', "[]", '{"after": {}}'):
        path.write_text(text)
        assert kept_report(path) is None
        assert "its run is evaluated again" in capsys.readouterr().err
    figure = {"overall": {"hit@1": {"value": 0.5, "ci95": [0.0, 1.0]}}}
    path.write_text(json.dumps({"after": figure, "after-before": figure}))
    assert kept_report(path) == {"after": figure, "after-before": figure}


@pytest.mark.slow
def test_rows_are_evaluated_in_the_world_of_their_recipe(tmp_path: Path):
    """An ablation of the crowded world's recipe was evaluated in the roomy one."""
    short = ("trainer.max_steps=1", "trainer.per_device_train_batch_size=8", "trainer.num_generations=2", "num_families=1")
    short += ("trainer.gradient_accumulation_steps=1", "trainer.steps_per_generation=1")
    models = ('start_from="nano-sft"', 'embedder="nano"', 'tasks=["image_part"]', "family_size=2")
    row = AblationRow(name="one step", overrides=(*models, *short))
    recipe = RECIPES / "nano/crowded-reasoner.toml"
    [result] = ablate(Ablation(recipe=recipe, out=tmp_path, num_queries=1, pool_size=4, test_seed=3, rows=(row,)))
    assert list(result.report["after"]["tasks"]) == ["image_part"]
    assert "true" in result.report["after"]["overall"]["claims"]


@pytest.mark.slow
def test_rows_are_trained_evaluated_and_then_left_alone(tmp_path: Path):
    short = (
        "trainer.max_steps=1",
        "trainer.per_device_train_batch_size=16",
        "trainer.num_generations=2",
        "num_families=1",
        "control_every=0",
    )
    wanted = small(tmp_path, AblationRow(name="Format only", overrides=(*short, "rewards.outcome_weight=0", "rewards.process_weight=0")))
    [result] = ablate(wanted)
    folder = tmp_path / "format-only-0"
    assert (folder / "model" / "model.safetensors").is_file()
    assert result.report == json.loads((folder / "ablation.json").read_text())
    [row] = table_rows([result])
    assert len(row) == len(COLUMNS)
    assert row[:2] == ["Format only", "0"]
    (folder / "model" / "model.safetensors").unlink()
    assert ablate(wanted) == [result], "neither trained nor evaluated again"
    assert json.loads((tmp_path / "ablation.json").read_text())["rows"][0]["name"] == "Format only"
