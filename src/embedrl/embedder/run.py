"""A contrastive run from a recipe: load the model to start from, make it an Embedder, train it or an adapter, save both."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AddedToken, ProcessorMixin, Qwen3VLModel

from embedrl.config import write_run_config
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder, ending
from embedrl.embedder.inputs import DEFAULT_FORMAT, EmbedderInput, PromptFormat
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import Config, train
from embedrl.errors import ConfigError, ModelError
from embedrl.log import is_main_process
from embedrl.media.resize import VisualBudget
from embedrl.models.load import EMB, add_lora, load
from embedrl.models.training import old_names


class ContrastiveRows(Protocol):
    """What a run is trained on: keys, and what they stand for."""

    num_batches: int

    def datasets(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Return (query key, target key) rows by data set, batch after batch."""
        ...

    def resolve(self, key: str) -> tuple[Item, TCoT | None, bool]:
        """Return the item of a key, its T-CoT (or None) and whether its media are shown."""
        ...


def run_recipe(recipe: EmbedderRecipe, rows: ContrastiveRows, budget: VisualBudget) -> Path:
    """Train; a killed run goes on where it stopped. Returns the folder of the finished model."""
    if recipe.batch_size % (num_processes := int(os.environ.get("WORLD_SIZE", "1"))):
        raise ConfigError(f"batch_size={recipe.batch_size}: must be a multiple of the {num_processes} processes")
    torch.manual_seed(recipe.seed)
    if is_main_process():
        write_run_config(recipe.out, recipe)
    embedder = starting_embedder(recipe, budget)

    @lru_cache(maxsize=4 * recipe.batch_size)
    def resolve(key: str) -> EmbedderInput:
        item, tcot, show_media = rows.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    arguments: dict[str, Any] = {
        "per_device_train_batch_size": recipe.batch_size // num_processes,
        "num_train_epochs": 1,
        "seed": recipe.seed,
        **recipe.trainer,
    }
    if arguments.pop("gradient_checkpointing", False):
        with old_names():
            embedder.model.gradient_checkpointing_enable(arguments.pop("gradient_checkpointing_kwargs", {"use_reentrant": False}))
    config = Config(out=recipe.out, temperature=recipe.temperature, mini_batch_size=recipe.mini_batch_size, trainer=arguments)
    return train(embedder, rows.datasets(), resolve, config)


def starting_embedder(recipe: EmbedderRecipe, budget: VisualBudget) -> Embedder:
    """Load the model to start from, with what is to be trained unfrozen, or with an adapter on it. Raises ModelError."""
    loaded = load(Qwen3VLModel, recipe.start_from, device="cpu", dtype=recipe.dtype, attention=recipe.attention)
    model: Any = loaded[0]
    processor = loaded[1]
    layout, num_tokens = learn_ending(processor, model.config)
    if num_tokens > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(num_tokens, mean_resizing=False)
    model.visual.requires_grad_(not recipe.freeze_vision)
    if recipe.lora is not None:
        torch.manual_seed(recipe.seed)
        model = add_lora(model, recipe.lora)
    return Embedder(model, processor, budget, "embedder", layout=layout)


def learn_ending(processor: ProcessorMixin, config: Any) -> tuple[PromptFormat, int]:
    """Return how a model is asked, and its tokenizer's size; the tokenizer of one that gives no vectors yet learns `<emb>`."""
    try:
        end = ending(processor, config)
    except ModelError:
        processor.tokenizer.add_tokens([AddedToken(EMB, special=True, normalized=False)], special_tokens=True)
        end = ending(processor, config)
    return DEFAULT_FORMAT if end == EMB else PromptFormat(end, None), len(processor.tokenizer)
