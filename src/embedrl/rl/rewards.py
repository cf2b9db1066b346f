"""The rewards of EG-RL (paper, §3.3): pure tensor functions, and `REWARDS`, the table that a run's weights name them in.

All rollouts of a batch, of both sides, stand in one list of N = pairs x 2 sides x G; every value is indexed by rollout, and
a row compares with the rollouts of the *other* side: a query's with targets, a target's with queries.
"""
# N rollouts

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from embedrl.data.tcot import MAX_CHARS, TCoT
from embedrl.rl.config import RewardConfig

RANDOM_DIM = 64
"""Numbers of a vector of the control that learned nothing."""


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


def outcome(accuracy: Tensor, margin: Tensor, value: Literal["product", "half_product", "margin"] = "product") -> Tensor:
    """o = a · g, half of it (the released code), or g alone (ours: a product punishes a right choice whose margin is below 0) (N,)."""
    if value == "margin":
        return margin
    return accuracy * margin if value == "product" else 0.5 * accuracy * margin


def process(right: Tensor, margin: Tensor, value: Literal["one", "margin"]) -> Tensor:
    """p = 1 (or g) if the judge named an own rollout, else 0; NaN where it failed (N,). `right` is 1, 0 or NaN."""
    return right if value == "one" else torch.where(right == 1, margin, right)


def total(rewards: Mapping[str, Tensor], weights: Mapping[str, float], group: Tensor) -> Tensor:
    """R = Σ_k w_k r_k over the weighted rewards (N,). Where one is NaN (failed) anywhere in a group, the whole group is NaN: not scored.

    A reward of weight 0 is left out, failed or not.
    """
    summed = torch.zeros(len(group), dtype=torch.double)
    for name, weight in weights.items():
        if weight:
            summed = summed + weight * rewards[name]
    failed = group[summed.isnan()].unique()
    return summed.masked_fill(torch.isin(group, failed), torch.nan)


@dataclass(frozen=True)
class RewardBatch:
    """Everything that the rewards of a batch are computed from; tensors are (N,) over the rollouts of all ranks, in rank order."""

    config: RewardConfig
    rows: RolloutIds
    tcots: tuple[TCoT | None, ...]
    similarity: Tensor
    """(N, N) cosines."""
    format: Tensor
    """f, 0..1: the completion is a T-CoT as `config.format` understands it, less what had to be repaired."""
    informativeness: Tensor
    """How much each T-CoT tells, int64: orders by evidence, then by different words of the answer; -1 for one that is not valid."""
    right: Tensor
    """The judge's verdict: 1, 0, or NaN where it failed; 0 without a judge."""
    hard_similarity: Tensor | None = None
    """(N, M) cosines with the batch's hard negatives, -inf where one is no negative of the row; None if there are none."""

    @cached_property
    def positive(self) -> Tensor:
        """The mean similarity to the own rollouts."""
        return positive(self.similarity, self.rows.positive_mask)

    @cached_property
    def accuracy(self) -> Tensor:
        """a = Acc_m."""
        return accuracy(*_with_hard_negatives(self.hard_similarity, self.similarity, self.rows.positive_mask, self.rows.negative_mask))

    @cached_property
    def margin(self) -> Tensor:
        """g, with the temperature, weights and partners of the configuration."""
        return _configured_margin(self, self.similarity, self.rows.positive_mask, self.rows.negative_mask, hard=self.hard_similarity)

    @cached_property
    def rewards(self) -> dict[str, Tensor]:
        """Every reward of `REWARDS` by name, weighted or not."""
        return {name: reward(self) for name, reward in REWARDS.items()}

    @cached_property
    def total(self) -> Tensor:
        """The weighted sum of the rewards; NaN where a group is void."""
        return total(self.rewards, self.config.all_weights, self.rows.group)


def format_reward(batch: RewardBatch) -> Tensor:
    """f: whether the completion is a T-CoT whose evidence holds, or one by its tags (`RewardConfig.format`)."""
    return batch.format.float()


def outcome_reward(batch: RewardBatch) -> Tensor:
    """o: does retrieval by the frozen Embedder get better?"""
    return outcome(batch.accuracy, batch.margin, batch.config.outcome_value)


def process_reward(batch: RewardBatch) -> Tensor:
    """p: does a judge, reading only T-CoTs, find the right partner?"""
    return process(batch.right, batch.margin, batch.config.process_value)


def fullness_reward(batch: RewardBatch) -> Tensor:
    """Control: pieces of evidence that hold and different words of the answer, whatever they say; 0 for a T-CoT that is not valid."""
    amount = batch.informativeness.clamp(min=0)
    return (amount // MAX_CHARS + amount % MAX_CHARS).double()


def words_reward(batch: RewardBatch) -> Tensor:
    """Control: different words of the answer, whatever they say."""
    return torch.tensor([len({*tcot.answer.split()}) if tcot else 0 for tcot in batch.tcots]).double()


def shuffled_partners_reward(batch: RewardBatch) -> Tensor:
    """Control: g, with the next pair of the batch taken for the own one."""
    pairs = batch.rows.pair.unique()
    following = pairs.roll(-1)[torch.searchsorted(pairs, batch.rows.pair)]
    across = batch.rows.is_query[:, None] != batch.rows.is_query[None, :]
    taken = across & (following[:, None] == batch.rows.pair[None, :])
    return _configured_margin(batch, batch.similarity, taken, across & ~taken)


def random_embedder_reward(batch: RewardBatch) -> Tensor:
    """Control: g of a fixed Embedder that learned nothing: it reads T-CoTs alone, and every word is a random direction."""
    vectors = torch.stack([_random_vector(tcot.answer if tcot else "") for tcot in batch.tcots])
    return _configured_margin(batch, vectors @ vectors.T, batch.rows.positive_mask, batch.rows.negative_mask)


def _with_hard_negatives(
    hard: Tensor | None, similarity: Tensor, positive_mask: Tensor, negative_mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (similarity, positive_mask, negative_mask) with the hard negatives (N, M) as columns behind the rollouts' (N, N + M)."""
    if hard is None:
        return similarity, positive_mask, negative_mask
    is_negative = hard.isfinite()
    filled = hard.masked_fill(~is_negative, 0.0)
    masks = torch.cat([positive_mask, torch.zeros_like(is_negative)], 1), torch.cat([negative_mask, is_negative], 1)
    return torch.cat([similarity, filled], 1), *masks


def _configured_margin(
    batch: RewardBatch, similarity: Tensor, positive_mask: Tensor, negative_mask: Tensor, *, hard: Tensor | None = None
) -> Tensor:
    """Return the margin as the configuration computes it, of another similarity or of other partners."""
    chosen = most_informative(positive_mask, batch.informativeness) if batch.config.partners == "fullest" else positive_mask
    return margin(
        *_with_hard_negatives(hard, similarity, chosen, negative_mask),
        temperature=batch.config.negative_temperature,
        weighted=batch.config.weighted_negatives,
        negative_weight=batch.config.negative_weight,
    )


def _random_vector(text: str) -> Tensor:
    return nn.functional.normalize(sum((_word_vector(word) for word in text.split()), torch.zeros(RANDOM_DIM, dtype=torch.double)), dim=0)


@lru_cache(maxsize=4096)
def _word_vector(word: str) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:4], "big")
    return torch.randn(RANDOM_DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


Reward = Callable[[RewardBatch], Tensor]
CONTROLS: dict[str, Reward] = {
    "fullness": fullness_reward,
    "words": words_reward,
    "shuffled_partners": shuffled_partners_reward,
    "random_embedder": random_embedder_reward,
}
"""Rewards that know nothing of retrieval. One that helps as much as the Embedder's says that the gain is not the Embedder's."""
REWARDS: dict[str, Reward] = {"format": format_reward, "outcome": outcome_reward, "process": process_reward, **CONTROLS}
"""By the name that a weight has in a recipe (`format_weight`, or `weights.<name>` for any but the first three). NaN: failed.

Another reward is one more function in this file and one more row; metrics (`reward/<name>`) and reward fidelity follow.
"""
