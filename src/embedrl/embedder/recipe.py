"""Recipe of a contrastive run (recipes/*/embedder.toml); imports no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.config import Lora, Seed, WorldName
from embedrl.data.pair_file_rows import PairsConfig
from embedrl.errors import ConfigError
from embedrl.media.resize import VisualBudget


class DistillConfig(BaseModel):
    """A cosine term to the vectors of a frozen teacher that reads each item's T-CoT (`embedder.distill`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    teacher: str = Field(min_length=1)
    """Embedder by name, as for `embedrl index`: "nano", a folder, or a hub id. Its vectors have as many numbers as the student's."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Of 1 - cosine, beside the contrastive loss."""


class EmbedderRecipe(BaseModel):
    """Contrastive training of an Embedder, started from any Qwen3-VL: nano or full size, a Reasoner or an Embedder."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    seed: Seed = 0
    start_from: Path
    """Model whose weights it starts from: a shipped name, a folder, or a hub id."""
    pairs: PairsConfig | None = None
    """Train on these pairs; None: on the generated world's."""
    world: WorldName = "roomy"
    """Which generated world: one whose T-CoTs have room for all that is true, or one whose have not."""
    tasks: tuple[str, ...] = ()
    """Tasks of that world, a task named twice twice as often; empty: all."""
    plain_share: float = Field(default=0.25, ge=0, le=1)
    """Fraction of the generated world's pairs without T-CoTs."""
    annotated_share: float = Field(default=0.3, ge=0, le=1)
    """Fraction with the annotator's T-CoTs; the others have ground-truth ones."""
    mixed_sides: bool = False
    """Draw that for each side of a pair by itself, so that plain vectors come to lie beside those of T-CoTs; False: for both alike."""
    media_dropout: float = Field(default=0.15, ge=0, le=1)
    """Fraction of the generated world's sides with a T-CoT whose media are dropped, so that the Embedder learns to read."""
    budget: VisualBudget | Literal["nano", "nano-sharp", "paper"] = "nano"
    """What the Embedder gets to see; "nano-sharp" is as much as the nano Reasoner sees."""
    batch_size: int = Field(default=80, ge=1)
    """Pairs in a batch, over all processes."""
    num_batches: int | None = Field(default=None, ge=1)
    num_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Epochs over the pair files, instead of `num_batches`; which rows are drawn depends on the weights."""
    mini_batch_size: int = Field(default=40, ge=1)
    """Items of a process whose activations are held at once (gradient caching)."""
    temperature: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    matryoshka_dims: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Matryoshka dimensions (MatryoshkaLoss, all weights 1): prefixes of the vector that are trained beside the full one."""
    distill: DistillConfig | None = None
    """Bring vectors to those of a teacher that reads the items' T-CoTs; every query and target needs one, shown or not."""
    freeze_vision: bool = True
    """Leave the vision tower as it is. With `lora`, `lora.vision` decides."""
    lora: Lora | None = None
    """Train an adapter in place of the weights; it is saved in `adapter/`, and merged in `model/`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights that are loaded; an adapter is always float32."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Settings of SentenceTransformerTrainingArguments."""

    @model_validator(mode="after")
    def _one_length(self) -> "EmbedderRecipe":
        if (self.num_batches is None) == (self.num_epochs is None):
            raise ConfigError("num_batches, num_epochs: give one of the two")
        if self.num_epochs is not None and self.pairs is None:
            raise ConfigError("num_epochs: the generated world has no end; give num_batches")
        if self.plain_share + self.annotated_share > 1:
            raise ConfigError(f"plain_share={self.plain_share}, annotated_share={self.annotated_share}: together at most 1")
        plain_name, plain = ("pairs.tcot_dropout", self.pairs.tcot_dropout) if self.pairs else ("plain_share", self.plain_share)
        if self.distill is not None and plain == 0:
            raise ConfigError(f"{plain_name}=0: with [distill] some items must be shown without their T-CoTs; give more than 0")
        return self

    def inputs(self) -> dict[str, Path | str]:
        """Return the files and models that the recipe names, by setting."""
        files = {f"pairs.files.{name}": path for name, path in (self.pairs.files if self.pairs else {}).items()}
        return {**files, "start_from": self.start_from, **({"distill.teacher": self.distill.teacher} if self.distill else {})}
