"""Settings of `[trainer]` mean what they say, in every spelling, or are refused before any model is loaded.

Reported: `trainer.gradient_checkpointing=False` switched it on, and fifteen wrong values were tracebacks (models.md F10;
https://github.com/NVIDIA/OpenSeq2Seq/issues/130).
"""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments
from trl import GRPOConfig

from embedrl.cli.main import main
from embedrl.config import RECIPES, load_recipe
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import read_trainer as embedder_trainer
from embedrl.errors import ConfigError
from embedrl.models.trainer_settings import read_settings
from embedrl.rl.config import Recipe
from embedrl.rl.train import read_trainer as reasoner_trainer

COMMANDS = {"embedder": "embedder.toml", "reasoner-sft": "reasoner-sft.toml", "reasoner": "reasoner.toml"}


@pytest.mark.parametrize(
    ("name", "spellings", "expected"),
    [
        ("gradient_checkpointing", ["False", "false", "0", '"False"', "no", "off"], False),
        ("bf16", ["True", "true", "1", "yes", "on"], True),
        ("ddp_find_unused_parameters", ["None"], None),
        ("learning_rate", ["1e-4", "1E-4", ".0001", "0.000_1", "+1e-4", '"1e-4"'], 1e-4),
        ("warmup_steps", ["3", "3.", "3.0", "+3", "0x3", "03"], 3),
        ("max_steps", ["10", "1e1", "10.0", "1_0", "0b1010", "010"], 10),
    ],
)
def test_every_spelling_of_a_value_is_that_value(name: str, spellings: list[str], expected: Any) -> None:
    for text in spellings:
        recipe = load_recipe(RECIPES / "nano/embedder.toml", ["trainer.use_cpu=True", f"trainer.{name}={text}"], EmbedderRecipe)
        value = embedder_trainer(recipe)[name]
        assert value == expected, text
        assert isinstance(value, bool) == isinstance(expected, bool), text


def test_a_table_in_a_recipe_is_typed_as_an_override_is() -> None:
    assert read_settings(GRPOConfig, {"bf16": "False", "num_generations": "4", "temperature": "0.9", "loss_type": "dapo"}) == {
        "bf16": False,
        "num_generations": 4,
        "temperature": 0.9,
        "loss_type": "dapo",
    }


WRONG = {
    "nonsense=1": "unknown setting",
    "learning_rat=1": "did you mean trainer.learning_rate",
    "learning_rate=fast": "give a number",
    "learning_rate=-1": "greater than or equal to 0",
    "learning_rate=inf": "finite",
    "learning_rate=nan": "finite",
    "learning_rate=True": "give a number",
    "warmup_steps=None": "give a number",
    "logging_steps=0": "greater than 0",
    "save_steps=yes": "give a number",
    "seed=-1": "greater than or equal to 0",
    "seed=99999999999999999999": "less than",
    "bf16=2": "give true or false",
    "bf16=maybe": "give true or false",
    "eval_strategy=steps": "embedrl evaluate",
    "output_dir=x": "set out=",
    "optim=nope": "nope",
    "lr_scheduler_type=nope": "nope",
    "save_only_model=True": "optimiser",
}
OF_ONE = {
    "embedder": {
        "per_device_train_batch_size=4": "set batch_size",
        "num_train_epochs=2": "set num_batches",
        "max_steps=1.5": "whole number",
    },
    "reasoner-sft": {"max_steps=5": "set num_batches", "per_device_train_batch_size=4": "set batch_size"},
    "reasoner": {
        "max_steps=0": "max_steps",
        "max_steps=1.5": "give a whole number",
        "temperature=0": "greater than 0",
        "num_generations=1": "greater than or equal to 2",
        "loss_type=nope": "choose from grpo",
        "shuffle_dataset=True": "laid out",
        "num_generations=3": "divisible",
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_usage_names_key_value_and_fix_and_exits_2(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No model is loaded and no folder is made: `start_from` does not exist."""
    start = [] if command == "reasoner-sft" else ["start_from=nowhere"]
    for setting, reason in (WRONG | OF_ONE[command]).items():
        with pytest.raises(SystemExit) as ended:
            main(["train", command, str(RECIPES / "nano" / COMMANDS[command]), f"out={tmp_path / 'run'}", *start, f"trainer.{setting}"])
        text = " ".join(capsys.readouterr().err.split())
        assert ended.value.code == 2, setting
        assert reason in text, (setting, text)
        assert "nowhere" not in text, setting
        assert f"trainer.{setting.split('=')[0]}" in text or "trainer:" in text, (setting, text)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("embedder", "temperature=0"),
        ("embedder", "temperature=-0.02"),
        ("embedder", "temperature=nan"),
        ("embedder", "seed=-1"),
        ("embedder", "mini_batch_size=0"),
        ("embedder", "num_epochs=inf"),
        ("reasoner", "rewards.negative_temperature=0"),
        ("reasoner", "rewards.negative_temperature=inf"),
        ("reasoner", "rewards.format_weight=-1"),
        ("reasoner", "rewards.outcome_weight=nan"),
        ("reasoner", "control_every=-1"),
        ("reasoner", "seed=4294967296"),
        ("judge", "learning_rate=inf"),
        ("judge", "seed=-1"),
        ("reasoner-sft", "vision.learning_rate=-1"),
        ("reasoner-sft", "num_batches=0"),
        ("reasoner-sft", "batch_size=0"),
    ],
)
def test_numbers_of_a_recipe_are_within_their_bounds(recipe: str, override: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", recipe, str(RECIPES / "nano" / f"{recipe}.toml"), override])
    assert ended.value.code == 2
    assert override.split("=")[0] in capsys.readouterr().err


def test_none_means_none_where_a_setting_may_be_left_out() -> None:
    recipe = load_recipe(RECIPES / "nano/reasoner.toml", ["judge=None", "control_every=0"], Recipe)
    assert recipe.judge is None
    assert reasoner_trainer(recipe)["max_steps"] == 100


def test_all_wrong_settings_are_named_together() -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(TrainingArguments, {"seed": -1, "nonsense": 1, "learning_rate": "x"})
    assert len(str(raised.value).splitlines()) == 3
