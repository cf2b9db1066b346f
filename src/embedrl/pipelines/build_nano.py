"""Train the nano models before RL from nothing with the shipped recipes, and put them where the package finds them (`make nano`)."""

import shutil

from embedrl.config import RECIPES, load_recipe
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.log import info
from embedrl.nano.build import WEIGHTS, build_judge, build_reasoner
from embedrl.nano.recipes import JudgeRecipe, ReasonerRecipe
from embedrl.pipelines.train_embedder import train_embedder


def main() -> None:
    """Train Reasoners, judge and Embedders, stage by stage; finished stages of a killed build are kept."""
    recipes = RECIPES / "nano"
    start = build_reasoner(load_recipe(recipes / "reasoner-sft.toml", [], ReasonerRecipe))
    reasoner = build_reasoner(load_recipe(recipes / "reasoner-moments.toml", [f"start_from={start}"], ReasonerRecipe))
    judge = build_judge(load_recipe(recipes / "judge.toml", [f"start_from={start}"], JudgeRecipe))
    first = train_embedder(load_recipe(recipes / "embedder.toml", [f"start_from={start}"], EmbedderRecipe))
    embedder = train_embedder(load_recipe(recipes / "embedder-whole.toml", [f"start_from={first}"], EmbedderRecipe))
    sharp = train_embedder(load_recipe(recipes / "sharp-embedder.toml", [f"start_from={embedder}"], EmbedderRecipe))
    crowded = build_reasoner(load_recipe(recipes / "crowded-reasoner-sft.toml", [f"start_from={reasoner}"], ReasonerRecipe))
    crowded_embedder = train_embedder(load_recipe(recipes / "crowded-embedder.toml", [f"start_from={embedder}"], EmbedderRecipe))
    roomy = {"reasoner-sft": reasoner, "judge": judge, "embedder": embedder, "sharp-embedder": sharp}
    for name, folder in (roomy | {"crowded-reasoner-sft": crowded, "crowded-embedder": crowded_embedder}).items():
        shutil.copytree(folder, WEIGHTS / name, dirs_exist_ok=True)
        info(f"{name}: {WEIGHTS / name}")


if __name__ == "__main__":
    main()
