"""Contrastive training of an Embedder from a recipe: on files of pairs (any size of model) or on the generated world."""

from pathlib import Path

from embedrl.data.pair_file_rows import PairFileRows
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import ContrastiveRows, run_recipe
from embedrl.media.resize import PAPER_BUDGET, VisualBudget


def train_embedder(recipe: EmbedderRecipe) -> Path:
    """Train an Embedder, resuming an interrupted run. Returns the folder of the finished model."""
    return run_recipe(recipe, embedder_rows(recipe), embedder_budget(recipe))


def embedder_rows(recipe: EmbedderRecipe) -> ContrastiveRows:
    """Return the contrastive rows of a recipe. Raises ConfigError for pair files that cannot be used."""
    if recipe.pairs is not None:
        size = {"seed": recipe.seed, "batch_size": recipe.batch_size}
        rows = PairFileRows(recipe.pairs, num_batches=recipe.num_batches, num_epochs=recipe.num_epochs, **size)
        if recipe.distill is not None:
            rows.require_tcots()
        return rows
    from embedrl.nano.data import WorldRows

    assert recipe.num_batches is not None, "the recipe checks it"
    return WorldRows(
        recipe.seed,
        recipe.num_batches,
        recipe.batch_size,
        plain_share=recipe.plain_share,
        annotated_share=recipe.annotated_share,
        mixed_sides=recipe.mixed_sides,
        media_dropout=recipe.media_dropout,
        world=recipe.world,
        tasks=recipe.tasks,
    )


def embedder_budget(recipe: EmbedderRecipe) -> VisualBudget:
    """Return the visual budget of a recipe."""
    if recipe.budget in ("nano", "nano-sharp"):
        from embedrl.nano.data import EMBEDDER_BUDGET, REASONER_BUDGET

        return EMBEDDER_BUDGET if recipe.budget == "nano" else REASONER_BUDGET
    return PAPER_BUDGET if recipe.budget == "paper" else recipe.budget
