"""Judge questions of the process reward: which T-CoT belongs to the anchor's?

A judge reads T-CoTs only. It gets some of the anchor's own counterparts and the best-scoring rollouts of the hardest other
pairs, in shuffled order unless the settings say otherwise, and names one.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from embedrl.data.protocols import Judges
from embedrl.data.tcot import TCoT
from embedrl.rl.config import RewardConfig
from embedrl.rl.rewards import RolloutIds, most_informative


class Listing(NamedTuple):
    """One question: the anchor's row, and the rows of the candidates in the order shown."""

    anchor: int
    candidates: tuple[int, ...]


def list_candidates(
    similarity: Tensor,
    rows: RolloutIds,
    tcots: Sequence[TCoT | None],
    config: RewardConfig,
    seed: str,
    *,
    informativeness: Tensor | None = None,
) -> list[Listing | None]:
    """Build the judge's question for each rollout; None without a valid T-CoT or without a distractor.

    With `informativeness` (N,), only the most informative rollouts of each item are shown, own ones and others. Draws depend on
    `seed` and the row only, so any number of processes asks the same.
    """
    positive_mask, negative_mask = rows.positive_mask, rows.negative_mask
    readable = torch.tensor([tcot is not None for tcot in tcots])
    if informativeness is not None:
        readable &= most_informative(positive_mask, informativeness).any(0)
    listings: list[Listing | None] = []
    for row, tcot in enumerate(tcots):
        rng = random.Random(f"{seed}:{row}")
        mine = torch.nonzero(positive_mask[row] & readable).flatten().tolist()
        if config.num_own != "all":
            mine = rng.sample(mine, min(config.num_own, len(mine)))
        best: dict[int, int] = {}
        for column in similarity[row].argsort(descending=True, stable=True).tolist():
            if negative_mask[row, column] and readable[column]:
                best.setdefault(int(rows.pair[column]), column)
            if len(best) == config.num_others:
                break
        shown = [*mine, *best.values()]
        if config.judge_order == "shuffled":
            rng.shuffle(shown)
        listings.append(Listing(row, tuple(shown)) if tcot is not None and mine and best else None)
    return listings


def ask(judge: Judges, listings: Sequence[Listing | None], tcots: Sequence[TCoT | None], positive_mask: Tensor) -> Tensor:
    """Ask the judge: 1 where it picked a positive, 0 where it did not or there was no question, NaN where it failed (N,)."""
    asked = [listing for listing in listings if listing is not None]
    questions = [(_known(tcots[listing.anchor]), [_known(tcots[row]) for row in listing.candidates]) for listing in asked]
    judge_correct = torch.zeros(len(listings))
    for listing, choice in zip(asked, judge.pick(questions), strict=True):
        judge_correct[listing.anchor] = torch.nan if choice is None else float(positive_mask[listing.anchor, listing.candidates[choice]])
    return judge_correct


def _known(tcot: TCoT | None) -> TCoT:
    assert tcot is not None
    return tcot
