"""Measure reward fidelity on the world's RL split: sample rollouts as training does, and compare each reward with the truth."""

import math
import random

import numpy as np
import torch

from embedrl import log
from embedrl.errors import ConfigError
from embedrl.evaluation.compare import text
from embedrl.pipelines.annotate import load_judge
from embedrl.pipelines.eg_rl import local_reasoner, make_scorer
from embedrl.rl.config import Recipe
from embedrl.rl.fidelity import Fidelity, alternatives, fidelity, quality, selection_quality
from embedrl.rl.rollouts import Rollout
from embedrl.world.clips import NUM_FRAMES
from embedrl.world.tasks import lazy_pairs, make_families, names_to_draw

ANNOTATOR = "annotator"
"""Stands for a Reasoner that writes as the world's annotator does: a world can be looked at before anything is trained on it."""


def reward_fidelity(recipe: Recipe, *, num_families: int = 4, seed: int = 0) -> list[Fidelity]:
    """Score batches as large as the recipe's, one task at a time, and correlate every reward with the T-CoTs' quality.

    Which pairs stand together in a batch matters, since they are each other's negatives. With `start_from="annotator"` the rollouts are
    what the annotator writes. Raises ConfigError if a task's families do not fill a batch.
    """
    _, per_batch, group_size = recipe.batches()
    per_task = num_families * recipe.family_size
    if per_task < per_batch:
        raise ConfigError(
            f"num_families={num_families}: {per_task} pairs a task do not fill a batch of the recipe, {per_batch} pairs; "
            f"give at least {math.ceil(per_batch / recipe.family_size)}"
        )
    torch.manual_seed(seed)  # rollouts are sampled
    made = make_families("rl", seed, num_families, recipe.family_size, names_to_draw(recipe.world, recipe.tasks))
    reasoner = None
    if recipe.start_from != ANNOTATOR:
        reasoner = local_reasoner(recipe.start_from, temperature=recipe.trainer.get("temperature", 1.0))
        reasoner.quotes = False  # as in training
    pairs = lazy_pairs(made)
    scorer = make_scorer(
        recipe,
        pairs,
        num_frames=reasoner.num_frames if reasoner else NUM_FRAMES,
        **({"count_tokens": reasoner.num_tokens} if reasoner else {}),
    )
    measure = selection_quality if recipe.world == "crowded" else quality
    rng = random.Random(f"fidelity:{seed}")
    if scorer.judge is None and recipe.judge:  # its verdicts are measured even where the recipe does not count them
        scorer.judge = load_judge(recipe.judge)
    starts = [start for first in range(0, len(pairs), per_task) for start in range(first, first + per_task - per_batch + 1, per_batch)]
    values: dict[str, list[np.ndarray]] = {}
    qualities: list[float] = []
    groups: list[int] = []
    families: list[int] = []
    if rest := per_task % per_batch:
        log.info(f"{rest} pairs of each task are left out: a batch of the recipe has {per_batch}")
    with log.progress(len(starts), "reward fidelity") as bar:
        for start in starts:
            sides = [
                (place, is_query) for place in range(start, start + per_batch) for is_query in (True, False) for _ in range(group_size)
            ]
            if reasoner:
                outcomes = reasoner.reason([pairs[place].query if is_query else pairs[place].target for place, is_query in sides])
            else:
                outcomes = [(made[place].query if is_query else made[place].target).annotated(rng) for place, is_query in sides]
            rollouts = [Rollout(*side, text(outcome)) for side, outcome in zip(sides, outcomes, strict=True)]
            scores = scorer.score(rollouts, seed=str(start))
            for name, value in alternatives(scores, recipe.rewards).items():
                values.setdefault(name, []).append(value)
            truths = [(made[place].query if is_query else made[place].target).truth for place, is_query in sides]
            qualities += [measure(tcot, truth) for tcot, truth in zip(scores.tcots, truths, strict=True)]
            groups += scores.rows.group.tolist()
            families += [place // recipe.family_size for place, _ in sides]
            bar.advance()
    columns = {name: np.concatenate(parts) for name, parts in values.items()}
    correlations = fidelity(columns, np.array(qualities), np.array(groups), families=np.array(families), seed=seed)
    if all(math.isnan(row.value) for row in correlations):
        raise ConfigError("every group is of one quality or one reward: sample at a higher temperature, or more families")
    return correlations
