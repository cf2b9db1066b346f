"""Recipes of the nano Reasoner and judge; imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.config import Seed, WorldName
from embedrl.errors import ConfigError


@dataclass(frozen=True)
class VisionConfig:
    """Settings of the vision stage."""

    steps: Annotated[int, Field(ge=1)] = 1800
    batch_size: Annotated[int, Field(ge=1)] = 56
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.5e-3
    warmup: Annotated[int, Field(ge=2)] = 60
    seed: Seed = 0


class ReasonerRecipe(BaseModel):
    """recipes/nano/reasoner-sft.toml and reasoner-moments.toml: tokenizer, vision stage, supervised stage, and what goes on from there."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    seed: Seed = 0
    vision: VisionConfig = VisionConfig()
    batch_size: int = Field(default=16, ge=1)
    num_batches: int = Field(ge=1)
    num_answers: int = Field(default=0, ge=0)
    """Number of initial batches with bare answers; the others have T-CoTs."""
    answer_share: float = Field(default=0, ge=0, le=1)
    """Share of bare answers among the other batches."""
    start_from: Path | None = None
    """A nano Reasoner to continue from, a shipped name ("nano-sft") or a folder; None: from scratch."""
    world: WorldName = "roomy"
    """Where its T-CoTs come from: a world that has room for all that is true, or one that has not."""
    tasks: tuple[str, ...] = ()
    """Tasks of that world, a task named twice twice as often; empty: all."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Settings of transformers.TrainingArguments."""

    @model_validator(mode="after")
    def _warm_before_the_end(self) -> "ReasonerRecipe":
        if self.vision.warmup >= self.vision.steps:
            raise ConfigError(f"vision.warmup={self.vision.warmup}: must be below vision.steps={self.vision.steps}")
        return self


class JudgeRecipe(BaseModel):
    """recipes/nano/judge.toml: the Reasoner's weights learn to judge, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    seed: Seed = 0
    start_from: Path
    """A nano Reasoner: a shipped name ("nano-sft"), or a folder."""
    batch_size: int = Field(default=32, ge=1)
    num_batches: int = Field(ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    warmup: int = Field(default=50, ge=1)
    """Warm-up, in batches."""
    word_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Weight of the language-modelling loss on the question beside the verdicts."""
    whole_share: float = Field(default=0.7, ge=0, le=1)
    """Share of questions with complete T-CoTs; the others have the annotator's."""
