"""Train the nano models before RL from nothing with the shipped recipes, and put them where the package finds them (`make nano`)."""

import shutil

from embedrl.config import RECIPES, load_recipe
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.log import info
from embedrl.nano.build import WEIGHTS, build_judge, build_reasoner
from embedrl.nano.recipes import JudgeRecipe, ReasonerRecipe
from embedrl.pipelines.train_embedder import train_embedder


def main() -> None:
    """Train Reasoner, judge and Embedder, stage by stage; finished stages of a killed build are kept."""
    recipes = RECIPES / "nano"
    start = build_reasoner(load_recipe(recipes / "reasoner-sft.toml", [], ReasonerRecipe))
    reasoner = build_reasoner(load_recipe(recipes / "reasoner-moments.toml", [f"start_from={start}"], ReasonerRecipe))
    judge = build_judge(load_recipe(recipes / "judge.toml", [f"start_from={start}"], JudgeRecipe))
    first = train_embedder(load_recipe(recipes / "embedder.toml", [f"start_from={start}"], EmbedderRecipe))
    embedder = train_embedder(load_recipe(recipes / "embedder-whole.toml", [f"start_from={first}"], EmbedderRecipe))
    for name, folder in (("reasoner-sft", reasoner), ("judge", judge), ("embedder", embedder)):
        shutil.copytree(folder, WEIGHTS / name, dirs_exist_ok=True)
        info(f"{name}: {WEIGHTS / name}")


if __name__ == "__main__":
    main()
