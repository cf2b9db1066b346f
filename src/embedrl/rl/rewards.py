"""The rewards of EG-RL (paper, §3.3) as pure tensor functions.

All rollouts of a batch, of both sides, stand in one list of N = pairs x 2 sides x G; every value is indexed by rollout, and
a row compares with the rollouts of the *other* side: a query's with targets, a target's with queries.
"""
# N rollouts

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from embedrl.rl.config import RewardConfig


class RolloutIds(NamedTuple):
    """What each rollout belongs to; int64 (N,), `is_query` bool (N,)."""

    pair: Tensor
    is_query: Tensor
    query: Tensor
    """A number for what the pair's query is: equal queries, equal numbers."""
    target: Tensor
    """A number for what the pair's target is."""

    @property
    def positive_mask(self) -> Tensor:
        """(N, N): the column is a rollout of the other side of the row's pair."""
        return (self.pair[:, None] == self.pair[None, :]) & self._across

    @property
    def negative_mask(self) -> Tensor:
        """(N, N): the column is of the other side, of another pair that shares neither query nor target with the row's."""
        equal = (self.query[:, None] == self.query[None, :]) | (self.target[:, None] == self.target[None, :])
        return self._across & ~equal & (self.pair[:, None] != self.pair[None, :])

    @property
    def group(self) -> Tensor:
        """(N,): equal for the rollouts of one item."""
        return 2 * self.pair + self.is_query.long()

    @property
    def _across(self) -> Tensor:
        return self.is_query[:, None] != self.is_query[None, :]


def accuracy(similarity: Tensor, positive_mask: Tensor, negative_mask: Tensor) -> Tensor:
    """Acc_m: the share of a row's m own rollouts that are among its m most similar columns (N,); 0 without any.

    A negative that is exactly as similar as an own rollout counts as more similar: ties are not won.
    """
    order = positive_mask.long().argsort(dim=1, stable=True)  # negatives first, so that the stable sort below puts them before equals
    scores = similarity.masked_fill(~(positive_mask | negative_mask), -torch.inf).gather(1, order)
    order = order.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    count = positive_mask.sum(1)
    among_top = torch.arange(positive_mask.shape[1], device=positive_mask.device)[None, :] < count[:, None]
    return (positive_mask.gather(1, order) & among_top).sum(1) / count.clamp(min=1)


def most_informative(positive_mask: Tensor, informativeness: Tensor) -> Tensor:
    """Keep of each row's own columns those with the greatest `informativeness` (N,) among them (ours): (N, N).

    A T-CoT that is measured by all rollouts of the other side is measured by what most of them leave out. Measured by the fullest, it is
    worth while to tell everything before most do; and nothing is won by being the fullest, since that only measures others.
    """
    among_own = informativeness.expand_as(positive_mask).masked_fill(~positive_mask, informativeness.min() - 1)
    return positive_mask & (among_own == among_own.max(dim=1, keepdim=True).values)


def margin(
    similarity: Tensor,
    positive_mask: Tensor,
    negative_mask: Tensor,
    *,
    temperature: float = 0.5,
    weighted: bool = True,
    negative_weight: float = 1.0,
) -> Tensor:
    """g = mean own similarity - λ Σ_j softmax_j(s_j / τ_n) s_j over the negatives j (N,); the paper has λ = 1. May be below 0.

    `weighted=False` takes the negatives' mean. Without own rollouts, or without negatives, that term is 0.
    """
    return _mean(similarity, positive_mask, None) - negative_weight * _mean(similarity, negative_mask, temperature if weighted else None)


def positive(similarity: Tensor, positive_mask: Tensor) -> Tensor:
    """Return the mean similarity to the own rollouts (N,); 0 without any."""
    return _mean(similarity, positive_mask, None)


def _mean(similarity: Tensor, chosen: Tensor, temperature: float | None) -> Tensor:
    """Average each row over its chosen columns, each weighted by softmax(s / temperature), or all alike (N,); 0 without any."""
    scores = torch.zeros_like(similarity) if temperature is None else similarity / temperature
    weights = scores.masked_fill(~chosen, -torch.inf).softmax(dim=1).nan_to_num(0.0)
    return (weights * similarity).sum(1)


def outcome(accuracy: Tensor, margin: Tensor, value: Literal["product", "margin"] = "product") -> Tensor:
    """o = a · g, or g alone (ours: a product punishes a right choice whose margin is below 0) (N,)."""
    return accuracy * margin if value == "product" else margin


def margin_and_outcome(
    similarity: Tensor, accuracy: Tensor, informativeness: Tensor, rows: RolloutIds, config: RewardConfig
) -> tuple[Tensor, Tensor]:
    """Return g and o as a run's settings say, each (N,)."""
    found = margin(
        similarity,
        most_informative(rows.positive_mask, informativeness) if config.partners == "fullest" else rows.positive_mask,
        rows.negative_mask,
        temperature=config.negative_temperature,
        weighted=config.weighted_negatives,
        negative_weight=config.negative_weight,
    )
    return found, outcome(accuracy, found, config.outcome_value)


def process(right: Tensor, margin: Tensor, value: Literal["one", "margin"]) -> Tensor:
    """p = 1 (or g) if the judge named an own rollout, else 0; NaN where it failed (N,). `right` is 1, 0 or NaN."""
    return right if value == "one" else torch.where(right == 1, margin, right)


def total(format: Tensor, outcome: Tensor, process: Tensor, group: Tensor, config: RewardConfig) -> Tensor:
    """R = w_f f + w_o o + w_p p (N,). If p failed (NaN) anywhere in a group, the whole group is NaN: it is not scored.

    A reward of weight 0 is left out, failed or not.
    """
    parts = zip((config.format_weight, config.outcome_weight, config.process_weight), (format.float(), outcome, process), strict=True)
    summed = sum((weight * part for weight, part in parts if weight), torch.zeros_like(outcome))
    failed = group[summed.isnan()].unique()
    return summed.masked_fill(torch.isin(group, failed), torch.nan)
