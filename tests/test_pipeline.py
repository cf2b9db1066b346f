"""World, annotate, filter, mix, train: the paper's pipeline, on one small folder."""

from pathlib import Path

from embedrl.annotate.filter import filter_pairs
from embedrl.config import RECIPES, load_recipe
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.models.names import shipped
from embedrl.pipelines.annotate import annotate_source
from embedrl.pipelines.eg_rl import train_reasoner, training_pairs
from embedrl.pipelines.train_embedder import train_embedder
from embedrl.rl.config import Recipe
from embedrl.world.write import make_world

NANO = RECIPES / "nano"


def test_from_raw_pairs_to_trained_models(tmp_path: Path):
    make_world(tmp_path / "library", 45, seed=3, split="train")
    folder = tmp_path / "annotated"
    assert annotate_source("lines", tmp_path / "library/pairs.jsonl", folder, "fake").num_pairs == 45
    report = filter_pairs(folder, rl_share=1)
    assert sum(report.kept.values()) + report.num_rl == 45
    assert report.waiting == 0

    start = f'start_from="{shipped("embedder")["nano"]}"'
    files = [f'pairs.files.{name}="{folder / name}.jsonl"' for name in ("contrastive", "rl") if (folder / f"{name}.jsonl").stat().st_size]
    settings = [*files, start, f'out="{tmp_path / "embedder"}"', "batch_size=4", "mini_batch_size=4", "num_batches=2"]
    model = train_embedder(load_recipe(NANO / "embedder.toml", settings, EmbedderRecipe))
    assert (model / "model.safetensors").is_file()

    rl_file = max(folder.glob("[cr]*.jsonl"), key=lambda path: path.stat().st_size if path.stem in ("contrastive", "rl") else 0)
    settings = [f'pairs="{rl_file}"', f'out="{tmp_path / "rl"}"', "family_size=1", "trainer.max_steps=1", "rewards.process_weight=0"]
    settings += ["trainer.per_device_train_batch_size=8", "trainer.num_generations=2", "control_every=0", f'embedder="{model}"']
    recipe = load_recipe(NANO / "reasoner.toml", settings, Recipe)
    tasks = [pair.task for pair in training_pairs(recipe)]
    assert tasks == sorted(tasks)
    assert (train_reasoner(recipe) / "model.safetensors").is_file()
