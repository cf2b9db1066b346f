"""A run folder has one writer, one number of processes, any spelling of its path, and is resumed exactly at any step.

Reported: EG-RL with several steps a generation went on with other rollouts, and two runs shared a folder (models.md F16;
https://github.com/huggingface/trl/pull/3148).
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from embedrl.config import load_recipe, write_run_config
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError, StoreError
from embedrl.models.training import last_checkpoint, run_folder
from embedrl.pipelines.eg_rl import train_reasoner
from embedrl.pipelines.quickstart import live_recipe
from embedrl.pipelines.train_embedder import train_embedder
from embedrl.reasoner.local import LocalReasoner
from embedrl.rl.config import Config, RewardConfig
from embedrl.rl.train import train
from tests.conftest import make_random_embedder, make_random_reasoner
from tests.test_rl_train import Scorer, make_pairs


class Run(BaseModel):
    out: Path
    start: str = "a"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_random_reasoner().save(folder)
    return folder


def steps(out: Path, model: Path, max_steps: int, **options: int) -> Scorer:
    trainer = {"max_steps": max_steps, "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 4, **options}
    trainer |= {"learning_rate": 1e-3, "lr_scheduler_type": "constant", "bf16": False, "gradient_checkpointing": False}
    trainer |= {"save_steps": 1, "use_cpu": True}
    scorer = Scorer()
    config = Config(out=out, family_size=2, rewards=RewardConfig(process_weight=0), trainer=trainer)
    train(LocalReasoner.load(model), make_pairs(), scorer, config)
    return scorer


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/checkpoint-{step}/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"num_iterations": 2},
        {"steps_per_generation": 2},
        {"num_iterations": 3, "gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_eg_rl_goes_on_between_two_generations(options: dict[str, int], model: Path, tmp_path: Path) -> None:
    whole = steps(tmp_path / "whole", model, 4, **options)
    first = steps(tmp_path / "cut", model, 1, **options)
    second = steps(tmp_path / "cut", model, 4, **options)
    assert first.texts + second.texts == whole.texts
    assert first.seen + second.seen == whole.seen
    one, other = weights(tmp_path / "whole", 4), weights(tmp_path / "cut", 4)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_checkpoint_without_its_rollouts_is_not_whole(model: Path, tmp_path: Path) -> None:
    """A kill between the two leaves one; the run goes on from the one before."""
    whole = steps(tmp_path / "whole", model, 4, num_iterations=3)
    steps(tmp_path / "cut", model, 2, num_iterations=3)
    (tmp_path / "cut/checkpoints/checkpoint-2/rollouts-0.safetensors").unlink()
    steps(tmp_path / "cut", model, 4, num_iterations=3)
    one, other = weights(tmp_path / "whole", 4), weights(tmp_path / "cut", 4)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(whole.texts) == 16


def test_another_number_of_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    with run_folder(tmp_path, Run(out=tmp_path)):
        assert json.loads((tmp_path / "config.json").read_text("utf-8"))["num_processes"] == 8
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="holds a run of 8 processes, and this is one of 4"), run_folder(tmp_path, Run(out=tmp_path)):
        pass


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    recipe = live_recipe(tmp_path, "nano-sft", "nano", 1, seed=0)
    with run_folder(tmp_path, Run(out=tmp_path)):
        with pytest.raises(StoreError, match=r"run\.lock': another process is writing here"):
            train_reasoner(recipe)
        make_random_embedder().save(tmp_path / "start")
        with pytest.raises(StoreError, match="another process is writing here"):
            train_embedder(EmbedderRecipe(out=tmp_path, start_from=tmp_path / "start", num_batches=1, trainer={"use_cpu": True}))
    with run_folder(tmp_path, Run(out=tmp_path)):
        pass


def test_a_run_is_the_same_by_another_spelling_and_in_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_run_config(Path("run"), Run(out=Path("run"), start="data"))
    write_run_config(tmp_path / "run", Run(out=tmp_path / "run", start=str(tmp_path / "data")))
    shutil.move(tmp_path / "run", tmp_path / "moved")
    write_run_config(tmp_path / "moved", Run(out=tmp_path / "moved", start="./data/"))
    with pytest.raises(ConfigError, match="start="):
        write_run_config(tmp_path / "moved", Run(out=tmp_path / "moved", start="nano"))


@pytest.mark.parametrize("text", ["", '{"config": {', "[]", '{"model_type": "qwen3_vl"}'])
def test_a_config_that_is_no_runs_is_left_as_it_is(text: str, tmp_path: Path) -> None:
    """A damaged one was overwritten, and so was that of a model whose folder was given as out=."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json' (cannot be read|is no JSON object|is not of a run).*choose another out="):
        write_run_config(tmp_path, Run(out=tmp_path))
    assert (tmp_path / "config.json").read_text() == text


def test_a_run_of_other_prompts_is_refused(tmp_path: Path) -> None:
    write_run_config(tmp_path, Run(out=tmp_path), prompt_hashes={"nano": "abc"})
    write_run_config(tmp_path, Run(out=tmp_path), prompt_hashes={"nano": "abc"})
    with pytest.raises(ConfigError, match="a run of other prompts: this version of embedrl asks 'nano' in other words"):
        write_run_config(tmp_path, Run(out=tmp_path), prompt_hashes={"nano": "def"})


def test_a_run_from_before_a_setting_existed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new setting, at its default, was refused as another one: "matryoshka_dims=None is now []"."""

    class Table(BaseModel):
        size: int = 3
        dims: tuple[int, ...] = ()

    class Newer(Run):
        table: Table = Table()
        dims: tuple[int, ...] = ()
        place: Path = Path("a")

    write_run_config(tmp_path, Run(out=tmp_path))
    assert not capsys.readouterr().err
    write_run_config(tmp_path, Newer(out=tmp_path))
    said = capsys.readouterr().err
    assert "without table=Table(size=3, dims=()), dims=(), place=" in said
    record = json.loads((tmp_path / "config.json").read_text("utf-8"))
    del record["config"]["table"]["dims"]
    (tmp_path / "config.json").write_text(json.dumps(record), "utf-8")
    write_run_config(tmp_path, Newer(out=tmp_path))
    assert "without table.dims=()" in capsys.readouterr().err
    for changed in ({"dims": (1,)}, {"table": Table(dims=(1,))}, {"start": "b"}):
        with pytest.raises(ConfigError, match="holds a run with other settings"):
            write_run_config(tmp_path, Newer(out=tmp_path, **changed))
    write_run_config(tmp_path / "older", Newer(out=tmp_path, dims=(1,)))
    with pytest.raises(ConfigError, match=r"dims=\[1\] is now None"):
        write_run_config(tmp_path / "older", Run(out=tmp_path))


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "r.toml").write_text('out = "~/run"\nnum_batches = 1\n[pairs.files]\na = "~/a.jsonl"\n', "utf-8")
    recipe = load_recipe(tmp_path / "r.toml", ["start_from=~/model"], EmbedderRecipe)
    assert recipe.pairs is not None
    assert (recipe.out, recipe.start_from, recipe.pairs.files["a"]) == (tmp_path / "run", tmp_path / "model", tmp_path / "a.jsonl")
    assert os.path.expanduser("~") == str(tmp_path)


def lines(path: Path, *targets: str) -> Path:
    rows = [{"query": {"text": f"query {number}"}, "target": {"text": target}} for number, target in enumerate(targets)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> EmbedderRecipe:
    """A run of an Embedder on pairs of a file, with a checkpoint at each of its three steps."""
    tmp_path = tmp_path_factory.mktemp("finished")
    make_random_embedder().save(tmp_path / "start")
    pairs: dict[str, Any] = {"files": {"words": lines(tmp_path / "pairs.jsonl", "one", "two", "three", "four")}}
    trainer = {"use_cpu": True, "save_steps": 1, "save_total_limit": 3, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    recipe = EmbedderRecipe.model_validate(
        {"out": tmp_path / "run", "start_from": tmp_path / "start", "pairs": pairs, "batch_size": 2, "num_batches": 3, "trainer": trainer}
    )
    train_embedder(recipe)
    return recipe


def test_a_run_goes_on_with_the_files_and_models_it_began_with(finished: EmbedderRecipe, tmp_path: Path) -> None:
    """Another file behind the same name would be trained on from the middle, and rewards or weights be those of another model."""
    shutil.copytree(finished.out.parent, tmp_path, dirs_exist_ok=True)
    recipe = finished.model_copy(update={"out": tmp_path / "run", "start_from": tmp_path / "start"})
    assert recipe.pairs is not None
    recipe = recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update={"files": {"words": tmp_path / "pairs.jsonl"}})})
    config = recipe.out / "config.json"
    config.write_text(config.read_text("utf-8").replace(str(finished.out.parent), str(tmp_path)), encoding="utf-8")
    lines(tmp_path / "pairs.jsonl", "four", "three", "two", "one")
    with pytest.raises(ConfigError, match=r"pairs\.files\.words names has changed since it began"):
        train_embedder(recipe)
    lines(tmp_path / "pairs.jsonl", "one", "two", "three", "four")
    settings = tmp_path / "start/embedrl.json"
    before = settings.read_bytes()
    settings.write_bytes(b"{}")
    with pytest.raises(ConfigError, match="start_from names has changed"):
        train_embedder(recipe)
    settings.write_bytes(before)
    train_embedder(recipe)


def test_eg_rl_names_its_inputs(tmp_path: Path) -> None:
    recipe = live_recipe(tmp_path / "run", "nano-sft", "nano", 1, seed=0).model_copy(update={"pairs": lines(tmp_path / "a.jsonl", "one")})
    inputs = recipe.inputs()
    with run_folder(recipe.out, recipe, inputs=inputs):
        assert set(json.loads((recipe.out / "config.json").read_text("utf-8"))["inputs"]) == {"pairs"}
    assert {"embedder", "judge", "start_from"} < inputs.keys()
    lines(tmp_path / "a.jsonl", "two")
    with pytest.raises(ConfigError, match="what pairs names has changed"), run_folder(recipe.out, recipe, inputs=inputs):
        pass


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    finished: EmbedderRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A power cut leaves files that are empty, cut short or missing though the trainer's state, written last, is whole."""
    for file in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
        folder = tmp_path / file
        shutil.copytree(finished.out / "checkpoints", folder)
        (folder / "checkpoint-3 (copy)").mkdir()
        assert last_checkpoint(folder) == str(folder / "checkpoint-3")
        content = (folder / "checkpoint-3" / file).read_bytes()
        (folder / "checkpoint-3" / file).write_bytes(content[: len(content) // 2])
        assert last_checkpoint(folder) == str(folder / "checkpoint-2")
        assert f"checkpoint-3' is damaged ({file})" in capsys.readouterr().err
        (folder / "checkpoint-2" / file).unlink()
        assert last_checkpoint(folder) == str(folder / "checkpoint-1")
