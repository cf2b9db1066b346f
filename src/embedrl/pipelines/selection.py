"""Toy study of rewards: policy gradient on a policy that only selects among true facts.

It sees perfectly and words as the annotator does; all it can learn is, for each instruction, from which aspects it takes the facts that
its T-CoT has room for, and whether it adds to a typed query what was not asked. It is trained by policy gradient with the rewards of a
recipe on the RL split. What this shows is whether a reward tells the right selection from others, not what a model makes of it.
"""

import math
import random
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from embedrl.data.tcot import TCoT, render
from embedrl.embedder.prefix import embed_groups
from embedrl.errors import ConfigError
from embedrl.log import progress
from embedrl.rl.config import Recipe
from embedrl.rl.rewards import REWARDS
from embedrl.rl.rollouts import EncodeGroups, Rollout, Scorer
from embedrl.rl.train import order
from embedrl.runtime.names import load_local_embedder
from embedrl.world.clips import NUM_FRAMES
from embedrl.world.crowded.side import CrowdedSide, compose
from embedrl.world.facts import Fact
from embedrl.world.tasks import lazy_pairs, make_families, names_to_draw

LEARNING_RATE = 0.5
"""With 1.5 the noise of the first steps was locked in (docs/LOG.md)."""
INVENTS_AT_FIRST = -0.85
"""Logit of the annotator's rate, .3."""
_INVENTS = "(invents)"
_BLIND = ("fullness", "words", "random_embedder", "format")
"""Rewards without an Embedder."""
COLUMNS = ("reward", "instruction", "share that matters, before", "after", "F1, after", "invents, before", "after")


class Learned(NamedTuple):
    """Result of one reward for one instruction."""

    reward: str
    instruction: str
    matters_before: float
    matters_after: float
    """Precision of the selected facts, over fresh sides of the test split."""
    f1_after: float
    invents_before: float
    invents_after: float
    num_sides: int


class SelectionPolicy:
    """Logits by instruction and aspect: softmax over the aspects that have a fact left, then a fact of it at random."""

    def __init__(self) -> None:
        self.logits: dict[tuple[str, str], float] = {}

    def sample(self, side: CrowdedSide, rng: random.Random) -> tuple[TCoT, dict[tuple[str, str], float]]:
        """Return a T-CoT, and the gradient of its log-probability."""
        instruction = side.instruction
        left: dict[str, list[Fact]] = {}
        for fact, aspect in zip(side.facts, side.aspects, strict=True):
            left.setdefault(aspect, []).append(fact)
        gradient: dict[tuple[str, str], float] = {}
        chosen: list[Fact] = []
        for _ in range(side.num_facts):
            names = [name for name, facts in left.items() if facts]
            scores = np.array([self.logits.get((instruction, name), 0.0) + np.log(len(left[name])) for name in names])
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            picked = rng.choices(names, shares.tolist())[0]
            for name, share in zip(names, shares, strict=True):
                gradient[instruction, name] = gradient.get((instruction, name), 0.0) + (name == picked) - float(share)
            chosen.append(left[picked].pop(rng.randrange(len(left[picked]))))
        if side.is_text:
            share = 1 / (1 + math.exp(-self.logits.get((instruction, _INVENTS), INVENTS_AT_FIRST)))
            invents = rng.random() < share
            gradient[instruction, _INVENTS] = float(invents - share)
            chosen += [Fact((("invented", rng.choice(side.others)),))] * invents
        return compose(chosen), gradient

    def learn(self, gradients: Sequence[dict[tuple[str, str], float]], advantages: np.ndarray) -> None:
        """Take one gradient step, averaged over the rollouts of each instruction."""
        counts: dict[tuple[str, str], int] = {}
        sums: dict[tuple[str, str], float] = {}
        for gradient, advantage in zip(gradients, advantages, strict=True):
            for name, value in gradient.items():
                sums[name] = sums.get(name, 0.0) + float(advantage) * value
                counts[name] = counts.get(name, 0) + 1
        for name, total in sums.items():
            start = INVENTS_AT_FIRST if name[1] == _INVENTS else 0.0
            self.logits[name] = self.logits.get(name, start) + LEARNING_RATE * total / counts[name]


def learn_selection(recipe: Recipe, rewards: Sequence[str], *, num_steps: int = 45, seed: int = 0) -> list[Learned]:
    """Train a policy with each reward alone. Raises ConfigError for a reward that does not exist, or an Embedder without loaded weights."""
    if recipe.world != "crowded":
        raise ConfigError(f"world={recipe.world!r}: selection is to be learned in the crowded world")
    if unknown := [name for name in rewards if name not in REWARDS]:
        raise ConfigError(f"reward={unknown[0]!r}: choose from {', '.join(REWARDS)}")
    tasks = names_to_draw(recipe.world, recipe.tasks)
    _, per_batch, group_size = recipe.batches()
    made = make_families("rl", seed, recipe.num_families, recipe.family_size, tasks)
    chosen = order([pair.task for pair in made], per_batch, recipe.family_size, num_steps, seed)
    learned: list[Learned] = []
    for name in rewards:
        weights = {"format_weight": 0.0, "outcome_weight": 0.0, "process_weight": 0.0, "weights": {}}
        weights |= {f"{name}_weight": 1.0} if f"{name}_weight" in weights else {"weights": {name: 1.0}}
        config = recipe.rewards.model_copy(update=weights)
        scorer = Scorer(lazy_pairs(made), _encoder(recipe, name), None, config, num_frames=NUM_FRAMES)
        policy, rng = SelectionPolicy(), random.Random(f"selection:{seed}")
        with progress(num_steps, name) as bar:
            for step in range(num_steps):
                places = chosen[step * per_batch : (step + 1) * per_batch]
                sides = [(place, is_query) for place in places for is_query in (True, False) for _ in range(group_size)]
                drawn = [policy.sample(_crowded(made[place].query if is_query else made[place].target), rng) for place, is_query in sides]
                rollouts = [Rollout(*side, render(tcot)) for side, (tcot, _) in zip(sides, drawn, strict=True)]
                totals = scorer.score(rollouts, seed=str(step)).total.numpy().reshape(-1, group_size)
                centred = totals - totals.mean(axis=1, keepdims=True)
                policy.learn([gradient for _, gradient in drawn], (centred / (centred.std() + 1e-9)).ravel())
                bar.advance()
        learned += _measure(name, policy, tasks, seed)
    return learned


def table_rows(learned: Sequence[Learned]) -> list[list[str]]:
    """Return rows of a console table, in the order of `COLUMNS`."""
    return [[row.reward, row.instruction, *(f"{value:.3f}" for value in row[2:7])] for row in learned]


def _measure(reward: str, policy: SelectionPolicy, tasks: Sequence[str], seed: int) -> list[Learned]:
    """Measure the initial and the trained policy on fresh sides of the test split."""
    sides = [side for pair in make_families("test", seed, 20, 1, tasks) for side in (pair.query, pair.target)]
    rows_by_kind: dict[str, list[tuple[float, ...]]] = {}
    for side in map(_crowded, sides):
        matters = {fact.tell() for fact in side.matters}
        row: list[float] = []
        for chooser in (SelectionPolicy(), policy):
            tcot, _ = chooser.sample(side, random.Random(f"measure:{seed}:{side.signature}"))
            said = tcot.answer.split(", ")
            right = sum(text in matters for text in said)
            row += [right / len(said), 2 * right / (len(said) + len(matters)), float(side.is_text and right < len(said))]
        rows_by_kind.setdefault(side.instruction, []).append(tuple(row))
    means = {name: (*np.mean(rows, axis=0).tolist(), len(rows)) for name, rows in rows_by_kind.items()}
    return [Learned(reward, name, row[0], row[3], row[4], row[2], row[5], int(row[6])) for name, row in means.items()]


def _crowded(side: object) -> CrowdedSide:
    assert isinstance(side, CrowdedSide), "the recipe's world is the crowded one"
    return side


def _encoder(recipe: Recipe, reward: str) -> EncodeGroups:
    """Return the frozen Embedder's encoder, or zeros for rewards without an Embedder."""
    if reward in _BLIND:
        return lambda _, tcots: [np.zeros((len(group), 1), np.float32) for group in tcots]
    return partial(embed_groups, load_local_embedder(recipe.embedder), show_evidence=recipe.show_evidence)
