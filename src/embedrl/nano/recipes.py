"""The recipes of the nano models (recipes/nano/*.toml), without torch, so that a wrong one is named at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.mixed_pairs import PairsConfig


@dataclass(frozen=True)
class VisionConfig:
    """Settings of the vision stage."""

    steps: int = 1800
    batch_size: int = 56
    learning_rate: float = 1.5e-3
    warmup: int = 60
    seed: int = 0


class ReasonerRecipe(BaseModel):
    """recipes/nano/reasoner-sft.toml: tokenizer, vision stage, supervised stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    seed: int = 0
    vision: VisionConfig = VisionConfig()
    batch_size: int = 16
    num_batches: int
    num_answers: int = 0
    """How many of the batches come first, with bare answers; the others have T-CoTs."""
    start_from: Path | None = None
    """Folder of a nano Reasoner to train further; None starts from nothing."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Passed verbatim to transformers.TrainingArguments."""


class EmbedderRecipe(BaseModel):
    """recipes/nano/embedder.toml: the contrastive stage, started from a Reasoner."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    seed: int = 0
    start_from: Path
    """Folder of the model whose weights it starts from."""
    pairs: PairsConfig | None = None
    """Train on these pairs; None: on the generated world's."""
    batch_size: int = 80
    num_batches: int
    mini_batch_size: int = 40
    temperature: float = 0.02
    freeze_vision: bool = True
    """Leave the vision tower as the Reasoner's first stage trained it, at twice the resolution."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Passed verbatim to SentenceTransformerTrainingArguments."""
