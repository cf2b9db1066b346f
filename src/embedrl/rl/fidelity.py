"""Reward fidelity: within-group correlation of rewards with true T-CoT quality, on generated items with known truth.

The measure is the correlation, inside groups, of a reward with the T-CoT's true quality: the F1 of all attributes it states
and all evidence it points at. A reward that does not track the truth is mended before any long run.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.tcot import TCoT
from embedrl.rl import rewards
from embedrl.rl.config import PRESETS, RewardConfig
from embedrl.rl.rollouts import Scores
from embedrl.world.claims import attributes, selected

TEMPERATURES = (0.03, 0.1, 0.25, 0.5, 1.0)
NEGATIVE_WEIGHTS = (0.0, 0.25, 0.5, 1.0)
NUM_RESAMPLES = 1000


class Fidelity(NamedTuple):
    """Within-group correlation of one reward with quality, with a 95 % cluster bootstrap interval over families."""

    name: str
    value: float
    low: float
    high: float
    num_groups: int
    """Number of groups in which both vary."""
    num_families: int
    """Number of families of these groups, the clusters of the bootstrap."""
    best: float = float("nan")
    """Best-of-n gain: quality of the group's highest-reward rollout minus the group's mean quality."""


def quality(tcot: TCoT | None, truth: TCoT) -> float:
    """Return the F1, 0..1, of the attributes that the answer states and the evidence; 0 for no T-CoT."""
    if tcot is None:
        return 0.0
    right, stated, true = attributes(tcot, truth)
    for kind in EVIDENCE_KINDS:
        pieces, real = {*kind.pieces(tcot.evidence)}, kind.pieces(truth.evidence)
        right += sum(any(kind.meets(piece, other) for other in real) for piece in pieces)
        stated += len(pieces)
        true += len(real)
    return 2 * right / (stated + true) if stated + true else 0.0


def selection_quality(tcot: TCoT | None, truth: TCoT) -> float:
    """Return the F1, 0..1, of the statements told and those that matter (crowded world); 0 for no T-CoT."""
    if tcot is None:
        return 0.0
    right, num_told, num_matter = selected(tcot, truth)
    return 2 * right / (num_told + num_matter) if num_told + num_matter else 0.0


def alternatives(scores: Scores, recipe: RewardConfig) -> dict[str, np.ndarray]:
    """Compute all reward variants for one batch of rollouts: name -> (N,). `recipe` is a run's reward configuration."""
    positive_mask, negative_mask = scores.rows.positive_mask, scores.rows.negative_mask
    margins = {
        f"margin, τ_n = {temperature:g}": rewards.margin(scores.similarity, positive_mask, negative_mask, temperature=temperature)
        for temperature in TEMPERATURES
    }
    margins["margin, plain mean of negatives"] = rewards.margin(scores.similarity, positive_mask, negative_mask, weighted=False)
    partners = rewards.most_informative(positive_mask, scores.informativeness)
    for weight in NEGATIVE_WEIGHTS:
        margins[f"margin, τ_n = 0.5, λ = {weight:g}, fullest partners"] = rewards.margin(
            scores.similarity, partners, negative_mask, negative_weight=weight
        )
    named = {
        **scores.rewards,
        "positive similarity": scores.positive,
        "accuracy": scores.accuracy,
        **margins,
        **{f"outcome, {name.removeprefix('margin, ')}": rewards.outcome(scores.accuracy, value) for name, value in margins.items()},
        "process": scores.judge_correct,  # the verdict alone, whatever a recipe makes of it
    }
    for name, config in {**{f"preset {name}": preset for name, preset in PRESETS.items()}, "recipe": recipe}.items():
        named[name] = dataclasses.replace(scores, config=config).total
    return {name: value.double().numpy() for name, value in named.items()}


def fidelity(
    values: Mapping[str, np.ndarray], qualities: np.ndarray, groups: np.ndarray, *, families: np.ndarray | None = None, seed: int = 0
) -> list[Fidelity]:
    """Correlate rewards with quality within groups and average over groups, as GRPO normalises advantages per group.

    All arrays are (N,) over rollouts. `families` are the clusters of the bootstrap; None: each group is its own.
    """
    families = groups if families is None else families
    results = []
    for reward, value in values.items():
        inside: list[tuple[float, int]] = []
        gains: list[float] = []
        for number in np.unique(groups):
            rows = groups == number
            r = _correlation(value, qualities, rows)
            if r is not None:
                inside.append((r, int(families[rows][0])))
            if np.isfinite(value[rows]).all():
                liked = value[rows] >= value[rows].max() - 1e-9
                gains.append(float(qualities[rows][liked].mean() - qualities[rows].mean()))
        if not inside:
            results.append(Fidelity(reward, float("nan"), float("nan"), float("nan"), 0, 0))
            continue
        names = sorted({family for _, family in inside})
        sums = np.array([[sum(r for r, family in inside if family == name), sum(family == name for _, family in inside)] for name in names])
        drawn = sums[np.random.default_rng(seed).choice(len(names), size=(NUM_RESAMPLES, len(names)))].sum(axis=1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        mean = float(np.mean([r for r, _ in inside]))
        best = float(np.mean(gains)) if gains else float("nan")
        results.append(Fidelity(reward, mean, float(low), float(high), len(inside), len(names), best))
    return results


def _correlation(value: np.ndarray, quality: np.ndarray, rows: np.ndarray) -> float | None:
    """Return Pearson's r over these rows without NaN rewards; None if either side is constant."""
    rows = rows & np.isfinite(value)
    if rows.sum() < 2 or np.ptp(value[rows]) < 1e-9 or np.ptp(quality[rows]) < 1e-9:
        return None
    return float(np.corrcoef(value[rows], quality[rows])[0, 1])
