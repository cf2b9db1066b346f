"""The settings of an EG-RL run (recipes/nano/reasoner.toml), without torch, so that a wrong one is named at once."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedrl.config import Lora


class RewardConfig(BaseModel):
    """How the three rewards are computed and weighted. The defaults are ours, which track the truth best (docs/LOG.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format_weight: float = 0.1
    outcome_weight: float = 1.0
    process_weight: float = 0.0
    negative_temperature: float = 0.5
    """τ_n of the margin: small values look at the nearest negative only."""
    weighted_negatives: bool = True
    """Weight negatives by softmax(s / τ_n); False takes their plain mean."""
    negative_weight: float = Field(default=0.5, ge=0)
    """λ of the margin: what the negatives' term counts. (In the paper: 1.)"""
    partners: Literal["all", "fullest"] = "fullest"
    """The margin's own similarity is to all rollouts of the other side (the paper), or to those that tell most: most evidence that
    holds, then most different words in the answer. The judge, too, is shown any of them, or those of each item that tell most."""
    outcome_value: Literal["product", "margin"] = "margin"
    """The outcome is accuracy times margin (the paper), or the margin alone."""
    process_value: Literal["one", "margin"] = "margin"
    """What a right choice of the judge is worth."""
    format: Literal["evidence", "tags"] = "evidence"
    """A T-CoT must parse and its evidence must hold, or it must parse only (the released code)."""
    num_own: int = Field(default=2, ge=1)
    """The judge is shown at most so many rollouts of the anchor's pair, drawn at random. (In the paper: all G.)"""
    num_others: int = Field(default=4, ge=1)
    """And of at most so many other pairs one each: those whose best rollout is most similar to the anchor."""


_PUBLISHED = RewardConfig(format_weight=0.05, negative_weight=1.0, partners="all", outcome_value="product")
PRESETS = {
    "paper": _PUBLISHED.model_copy(update={"outcome_weight": 0.2, "process_weight": 0.8, "process_value": "one"}),
    "release": _PUBLISHED.model_copy(update={"outcome_weight": 0.8, "process_weight": 0.2, "process_value": "margin"}),
}
"""The paper's text and its released code swap the two large weights."""


class Config(BaseModel):
    """Settings of an EG-RL run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    """Run folder: checkpoints and metrics.jsonl."""
    seed: int = 0
    family_size: int = Field(default=1, ge=1)
    """So many adjacent pairs stay in one batch, as negatives of each other."""
    rewards: RewardConfig | Literal["paper", "release"] = RewardConfig()
    """A preset, or every setting by name."""
    trainable: tuple[str, ...] = ()
    """Only weights whose name holds one of these are trained ("norm", "layers.3"); all, if none is given."""
    lora: Lora | None = None
    """Train an adapter in place of the weights; it is saved in `adapter/`, and merged in `model/`."""
    control_every: int = 20
    """Every so many steps, also score with T-CoTs dropped, and shuffled between items; 0 never."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Passed verbatim to trl.GRPOConfig; `max_steps` is required."""

    @property
    def reward_config(self) -> RewardConfig:
        """The rewards' settings, a preset resolved."""
        return PRESETS[self.rewards] if isinstance(self.rewards, str) else self.rewards


class Recipe(Config):
    """recipes/nano/reasoner.toml: which models, on which pairs."""

    start_from: str = "nano-sft"
    """The Reasoner to train: a name or a folder. It is also the reference of the KL term."""
    embedder: str = "nano"
    """The frozen Embedder that rewards it."""
    judge: str | None = "nano-judge"
    """The Reasoner that judges for the process reward; None: no judge, for `rewards.process_weight = 0`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the trained Reasoner's weights; an adapter is always float32."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    show_evidence: bool = True
    """The Embedder sees the crops and key frames that evidence points at, and not only its words."""
    pairs: Path | None = None
    """JSON Lines of pairs to train on, such as rl.jsonl of `embedrl filter`; None: the generated world's RL split."""
    num_families: int = Field(default=64, ge=1)
    """Families of the generated world's RL split to draw for each task."""


class AblationRow(BaseModel):
    """One way to train."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    overrides: tuple[str, ...] = ()
    """Settings that replace the recipe's, as on the command line."""
    seeds: tuple[int, ...] = (0,)


class Ablation(BaseModel):
    """recipes/nano/ablation.toml: ways to train that are compared on the same held-out queries."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    recipe: Path
    """The recipe that every row starts from."""
    out: Path
    """A run folder for each row and seed goes below it."""
    num_queries: int = Field(default=20, ge=1)
    """Per task."""
    pool_size: int = Field(default=256, ge=2)
    """Candidates per task, at least."""
    overrides: tuple[str, ...] = ()
    """Settings of all rows, before their own, as on the command line."""
    rows: tuple[AblationRow, ...]
