"""Settings of an EG-RL run (recipes/*/reasoner.toml); imports no torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from embedrl.config import Lora, Seed, WorldName
from embedrl.errors import ConfigError

PresetName = Literal["ours", "paper", "release"]


class RewardConfig(BaseModel):
    """Definitions and weights of the rewards. Defaults are ours; docs/nano.md compares them with the presets."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: PresetName = "ours"
    """Where the settings that are not named come from: ours, the paper's text, or its released code."""
    format_weight: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    outcome_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    process_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Weights of further rewards, by their names in rl/rewards.py."""
    brevity_of: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """What a token costs in a task's T-CoTs, in multiples of `weights.brevity`: 0 where they may be long; in all others 1."""
    negative_temperature: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """Temperature τ_n of the margin's softmax over negatives: towards 0, only the hardest negative counts."""
    weighted_negatives: bool = True
    """Weight negatives by softmax(s / τ_n); False: plain mean."""
    negative_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Weight λ of the margin's negative term (paper: 1)."""
    partners: Literal["all", "fullest", "nearest"] = "fullest"
    """The margin's own similarity is to all rollouts of the other side (the paper), or to those that tell most: most evidence that
    holds, then most different words in the answer. The judge, too, is shown any of them, or those of each item that tell most.
    "nearest": a rollout's similarity to a pair, its own or another, is that of the pair's most similar rollout on the other side."""
    outcome_value: Literal["product", "half_product", "margin"] = "margin"
    """The outcome is accuracy times margin (the paper), half of it (the released code), or the margin alone."""
    process_value: Literal["one", "margin"] = "margin"
    """Process reward of a correct choice of the judge: 1 (paper) or the margin (released code)."""
    format: Literal["evidence", "tags"] = "evidence"
    """A T-CoT must parse and its evidence must hold (the paper), or its three blocks of tags must stand in order (the released code)."""
    repair_cost: float = Field(default=0.1, ge=0, le=1)
    """What a T-CoT loses of its format reward if something in it had to be read as meant, such as JSON in single quotes. (Paper: 0.)"""
    num_own: int | Literal["all"] = 2
    """Maximum number of rollouts of the anchor's pair that the judge is shown, drawn at random; or all G (the paper)."""
    num_others: int = Field(default=4, ge=1)
    """Maximum number of other pairs that it is shown one rollout each of: those whose best rollout is most similar to the anchor."""
    hard_negatives: bool = True
    """Add the hard negatives of a batch's pairs, embedded plain, to the negatives of its queries (paper: no)."""
    max_void_share: float = Field(default=0.5, ge=0, le=1)
    """A judge that fails for more than this share of a batch's groups ends the run, which goes on from its last checkpoint."""
    judge_order: Literal["shuffled", "own_first"] = "shuffled"
    """In which order the judge is shown them; the released code puts the right answers first, so that naming the first always pays."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, value: Any) -> Any:
        table = {"preset": value} if isinstance(value, str) else value
        name = table.get("preset", "ours") if isinstance(table, Mapping) else None
        return {**_PRESETS.get(name, {}), **table} if isinstance(name, str) else table

    @field_validator("num_own")
    @classmethod
    def _at_least_one(cls, num_own: int | str) -> int | str:
        if isinstance(num_own, int) and num_own < 1:
            raise ValueError('give at least 1, or "all"')
        return num_own

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        if weights:
            from embedrl.rl.rewards import REWARDS  # it needs torch

            own = {name for name in REWARDS if f"{name}_weight" in cls.model_fields}
            for name in weights:
                if name in own:
                    raise ValueError(f"{name!r} has a key of its own: set {name}_weight")
                if name not in REWARDS:
                    raise ValueError(f"there is no reward {name!r}; choose from {', '.join(sorted(REWARDS.keys() - own)) or 'none yet'}")
        return weights

    @model_validator(mode="after")
    def _has_a_price(self) -> Self:
        if self.brevity_of and not self.weights.get("brevity"):
            raise ValueError("brevity_of: multiplies weights.brevity, which is 0; set it too")
        return self

    @property
    def all_weights(self) -> dict[str, float]:
        """Reward name -> weight, of all rewards in `REWARDS`."""
        return {"format": self.format_weight, "outcome": self.outcome_weight, "process": self.process_weight, **self.weights}


_PAPER = {
    **{"format_weight": 0.05, "outcome_weight": 0.2, "process_weight": 0.8},
    **{"negative_weight": 1.0, "partners": "all", "outcome_value": "product", "process_value": "one", "num_own": "all", "repair_cost": 0.0},
    "hard_negatives": False,
}
_RELEASE = {
    **_PAPER,
    **{"outcome_weight": 0.8, "process_weight": 0.2, "outcome_value": "half_product", "process_value": "margin"},
    **{"format": "tags", "judge_order": "own_first"},
}
_PRESETS: dict[str, dict[str, Any]] = {"ours": {}, "paper": _PAPER, "release": _RELEASE}
PRESETS = {name: RewardConfig(preset=name) for name in get_args(PresetName)}
"""Ours, the paper's text (arXiv 2602.13823, §3.3), and its released code, which swaps the two large weights.

What stays ours in both: a failed judge voids its group, equal targets are no negatives, the judge reads T-CoTs only, ties are not won.
"""


class Batches(NamedTuple):
    """Generation batches of a run: a batch's rollouts are rewarded together, its pairs are each other's negatives."""

    number: int
    num_pairs: int
    """Pairs in a batch."""
    group_size: int
    """Rollouts of an item."""


class ReplayConfig(BaseModel):
    """Supervised examples beside the rollouts, which hold what the Reasoner could read before (ours; the paper has none)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weight: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Of their cross-entropy in the loss."""
    batch_size: int = Field(default=4, ge=1)
    """Examples beside each micro-batch of rollouts, `trainer.per_device_train_batch_size`."""
    answer_share: float = Field(default=1.0, ge=0, le=1)
    """In the generated world: the share of bare answers, which name what is there; the others are the annotator's T-CoTs."""


class Config(BaseModel):
    """Settings of an EG-RL run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    """Run folder: checkpoints and metrics.jsonl."""
    seed: Seed = 0
    family_size: int = Field(default=1, ge=1)
    """Number of adjacent pairs that stay in one batch, as in-batch negatives of each other."""
    rewards: RewardConfig = RewardConfig()
    """A preset's name, or settings by name; `rewards=paper rewards.format=tags` is a preset with one setting changed."""
    trainable: tuple[str, ...] = ()
    """Only weights whose name holds one of these are trained ("norm", "layers.3"); all, if none is given."""
    lora: Lora | None = None
    """Train an adapter in place of the weights; it is saved in `adapter/`, and merged in `model/`."""
    replay: ReplayConfig | None = None
    """Supervised examples beside the rollouts: T-CoTs that the file's pairs carry, or the generated world's examples. None: none."""
    control_every: int = Field(default=20, ge=0)
    """Interval in steps at which rollouts are also scored with T-CoTs dropped and with shuffled T-CoTs; 0: never."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Settings of trl.GRPOConfig; `max_steps` is required."""

    def batches(self, num_processes: int = 1) -> Batches:
        """Return the generation batches, of which a step of the optimiser may take several, as trl.GRPOConfig lays them out.

        Raises ConfigError for numbers that are none, or batches that do not hold whole families.
        """

        def setting(name: str, default: int) -> int:
            value = self.trainer.get(name, default)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"trainer.{name}: give a whole number of 1 or more")
            return value

        group_size, rows = setting("num_generations", 8), setting("per_device_train_batch_size", 8) * num_processes
        rows_a_step = rows * setting("gradient_accumulation_steps", 1)
        size = setting("generation_batch_size", rows * setting("steps_per_generation", rows_a_step // rows))
        num_pairs = size // group_size // 2
        if size % (2 * group_size) or num_pairs % self.family_size:
            raise ConfigError(
                f"generation_batch_size={size}: must hold both sides of whole families, "
                f"2 x family_size={self.family_size} x num_generations={group_size} rollouts each"
            )
        number = math.ceil(setting("max_steps", 0) * rows_a_step / (size * setting("num_iterations", 1)))
        return Batches(number, num_pairs, group_size)


class Recipe(Config):
    """recipes/nano/reasoner.toml: which models, on which pairs."""

    method: Literal["grpo", "rejection"] = "grpo"
    """EG-RL, or rejection sampling: the same rollouts and rewards, and supervised training on the best of each group."""
    rejection: dict[str, Any] = Field(default_factory=dict)
    """Of rejection sampling: passed verbatim to transformers.TrainingArguments. `trainer` says how many rollouts there are."""
    start_from: str = "nano-sft"
    """The Reasoner to train: a name or a folder. It is also the reference of the KL term."""
    embedder: str = "nano"
    """The frozen Embedder that rewards it."""
    judge: str | None = "nano-judge"
    """The Reasoner that judges for the process reward; None: no judge, for `rewards.process_weight = 0`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the trained Reasoner's weights; an adapter is always float32."""
    quantize: Literal["int8", "int4"] | None = None
    """Of the frozen Embedder and judge, which then take less memory (extra quantize)."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    show_evidence: bool = True
    """Show the Embedder the evidence's crops and key frames, not only its text."""
    pairs: Path | None = None
    """JSON Lines of pairs to train on, such as rl.jsonl of `embedrl filter`; None: the generated world's RL split."""
    world: WorldName = "roomy"
    """Which generated world: one whose T-CoTs have room for all that is true, or one whose have not."""
    tasks: tuple[str, ...] = ()
    """Tasks of that world, a task named twice twice as often; empty: all."""
    num_families: int = Field(default=64, ge=1)
    """Families of the generated world's RL split to draw for each task."""

    @model_validator(mode="after")
    def _replays_beside_rollouts(self) -> Self:
        if self.replay is not None and self.method == "rejection":
            raise ConfigError("replay: stands beside GRPO's loss, and method=rejection has none; leave one of the two out (replay=None)")
        return self

    def inputs(self) -> dict[str, Path | str | None]:
        """Return the files and models that the recipe names, by setting."""
        return {"pairs": self.pairs, "start_from": self.start_from, "embedder": self.embedder, "judge": self.judge}


class AblationRow(BaseModel):
    """One training variant."""

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
    test_seed: Seed = 0
    """Of the held-out queries: one that no decision was made with."""
    overrides: tuple[str, ...] = ()
    """Settings of all rows, before their own, as on the command line."""
    rows: tuple[AblationRow, ...]
