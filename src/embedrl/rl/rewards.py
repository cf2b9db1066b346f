"""EG-RL rewards (Embed-RL, §3.3) as pure tensor functions, and `REWARDS`, the table of rewards by name.

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

TOKENS_PER_COST = 100
"""Tokens that cost a `brevity` of 1."""
RANDOM_DIM = 1024
"""Dimension of the untrained Embedder: with few, words of different spelling are alike by chance."""


class RolloutIds(NamedTuple):
    """Group, pair and side of each rollout: int64 (N,), `is_query` bool (N,)."""

    pair: Tensor
    is_query: Tensor
    query: Tensor
    """Id of the pair's query item."""
    target: Tensor
    """Id of the pair's target item."""
    also_answers: Tensor | None = None
    """Bool (N, N): the column's pair is another, and the target of one answers the query of the other; None: none does."""

    @property
    def positive_mask(self) -> Tensor:
        """Bool (N, N): the column is a rollout of the other side of the row's pair."""
        return (self.pair[:, None] == self.pair[None, :]) & self._across

    @property
    def negative_mask(self) -> Tensor:
        """Bool (N, N): the column is on the other side, of a pair that shares neither query nor target with the row's, nor answers it."""
        equal = (self.query[:, None] == self.query[None, :]) | (self.target[:, None] == self.target[None, :])
        if self.also_answers is not None:
            equal |= self.also_answers
        return self._across & ~equal & (self.pair[:, None] != self.pair[None, :])

    @property
    def group(self) -> Tensor:
        """Group id of each rollout (N,): rollouts of one item share it."""
        return 2 * self.pair + self.is_query.long()

    @property
    def _across(self) -> Tensor:
        return self.is_query[:, None] != self.is_query[None, :]


def accuracy(similarity: Tensor, positive_mask: Tensor, negative_mask: Tensor) -> Tensor:
    """Retrieval accuracy Acc_m: share of a row's m positives among its m most similar columns (N,); 0 if m = 0.

    A negative that ties with a positive ranks before it.
    """
    order = positive_mask.long().argsort(dim=1, stable=True)  # negatives first, so that the stable sort below puts them before equals
    scores = similarity.masked_fill(~(positive_mask | negative_mask), -torch.inf).gather(1, order)
    order = order.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    count = positive_mask.sum(1)
    among_top = torch.arange(positive_mask.shape[1], device=positive_mask.device)[None, :] < count[:, None]
    return (positive_mask.gather(1, order) & among_top).sum(1) / count.clamp(min=1)


def most_informative(positive_mask: Tensor, informativeness: Tensor) -> Tensor:
    """Keep, per row, the positives with the highest `informativeness` (N,): bool (N, N). Ours.

    Averaging over all rollouts of the other side rewards a T-CoT for omitting what most of them omit. A rollout cannot raise its own
    reward this way, since it is a positive of others only.
    """
    among_positives = informativeness.expand_as(positive_mask).masked_fill(~positive_mask, informativeness.min() - 1)
    return positive_mask & (among_positives == among_positives.max(dim=1, keepdim=True).values)


def nearest(similarity: Tensor, mask: Tensor, pair: Tensor) -> Tensor:
    """Keep, per row and pair, the column of `mask` with the highest similarity: bool (N, N). Ours.

    Maximum similarity, as in late interaction: naming the right aspect is rewarded once a single rollout of the other side names it, too.
    The mean hardly ever rewards what few name, and a Reasoner settles on the aspect that most name, whatever its instruction asks.
    """
    column = pair.unique(return_inverse=True)[1].expand_as(similarity)
    scores = similarity.masked_fill(~mask, -torch.inf)
    highest = torch.full_like(scores, -torch.inf).scatter_reduce(1, column, scores, "amax").gather(1, column)
    return mask & (scores == highest)


def margin(
    similarity: Tensor,
    positive_mask: Tensor,
    negative_mask: Tensor,
    *,
    temperature: float = 0.5,
    weighted: bool = True,
    negative_weight: float = 1.0,
) -> Tensor:
    """Similarity margin g = mean positive similarity - λ Σ_j softmax_j(s_j / τ_n) s_j over negatives j (N,). λ = 1 in the paper.

    `weighted=False` takes the negatives' mean. Without positives, or without negatives, that term is 0.
    """
    return _mean(similarity, positive_mask, None) - negative_weight * _mean(similarity, negative_mask, temperature if weighted else None)


def positive(similarity: Tensor, positive_mask: Tensor) -> Tensor:
    """Mean similarity to the positives (N,); 0 without any."""
    return _mean(similarity, positive_mask, None)


def _mean(similarity: Tensor, chosen: Tensor, temperature: float | None) -> Tensor:
    """Masked mean of each row, weighted by softmax(s / temperature) or uniformly (N,); 0 for an empty mask."""
    scores = torch.zeros_like(similarity) if temperature is None else similarity / temperature
    weights = scores.masked_fill(~chosen, -torch.inf).softmax(dim=1).nan_to_num(0.0)
    return (weights * similarity).sum(1)


def outcome(accuracy: Tensor, margin: Tensor, value: Literal["product", "half_product", "margin"] = "product") -> Tensor:
    """Outcome reward o = a · g (paper), a · g / 2 (released code), or g (ours: a product punishes a hit with a negative margin) (N,)."""
    if value == "margin":
        return margin
    return accuracy * margin if value == "product" else 0.5 * accuracy * margin


def process(judge_correct: Tensor, margin: Tensor, value: Literal["one", "margin"]) -> Tensor:
    """Process reward p = 1 (or g) if the judge picked a positive, else 0; NaN where it failed (N,). `judge_correct` is 1, 0 or NaN."""
    return judge_correct if value == "one" else torch.where(judge_correct == 1, margin, judge_correct)


def total(rewards: Mapping[str, Tensor], weights: Mapping[str, float], group: Tensor) -> Tensor:
    """Total reward R = Σ_k w_k r_k (N,). A NaN (failure) anywhere in a group makes the whole group NaN, that is, not scored.

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
    """Inputs of the rewards of one batch. Tensors are (N,) over the rollouts of all ranks, in rank order."""

    config: RewardConfig
    rows: RolloutIds
    tcots: tuple[TCoT | None, ...]
    similarity: Tensor
    """(N, N) cosines."""
    format: Tensor
    """Format score f, 0..1: a valid T-CoT by `config.format`, minus the cost of repairs."""
    informativeness: Tensor
    """Informativeness, int64: ordered by valid pieces of evidence, then distinct answer words; -1 for an invalid T-CoT."""
    judge_correct: Tensor
    """Verdict of the judge: 1, 0, or NaN where it failed; 0 without a judge."""
    num_tokens: Tensor | None = None
    """Tokens of each completion, int64; None where nobody counts them."""
    token_prices: Tensor | None = None
    """What a token costs of each completion, by its task (`RewardConfig.brevity_of`); None: 1."""
    hard_similarity: Tensor | None = None
    """Cosines with the batch's M hard negatives (N, M), -inf where one is not a negative of the row; None if there are none."""

    @cached_property
    def positive(self) -> Tensor:
        """Mean similarity to the positives."""
        return positive(self.similarity, self.rows.positive_mask)

    @cached_property
    def accuracy(self) -> Tensor:
        """Retrieval accuracy a."""
        return accuracy(*_with_hard_negatives(self.hard_similarity, self.similarity, self.rows.positive_mask, self.rows.negative_mask))

    @cached_property
    def margin(self) -> Tensor:
        """Similarity margin g, as configured."""
        return _configured_margin(self, self.similarity, self.rows.positive_mask, self.rows.negative_mask, hard=self.hard_similarity)

    @cached_property
    def rewards(self) -> dict[str, Tensor]:
        """Reward name -> (N,), of all in `REWARDS`."""
        return {name: reward(self) for name, reward in REWARDS.items()}

    @cached_property
    def total(self) -> Tensor:
        """Weighted sum of the rewards; NaN for void groups."""
        return total(self.rewards, self.config.all_weights, self.rows.group)


def format_reward(batch: RewardBatch) -> Tensor:
    """Format reward f: a T-CoT with valid evidence, or only its tags (`RewardConfig.format`)."""
    return batch.format.float()


def outcome_reward(batch: RewardBatch) -> Tensor:
    """Outcome reward o: retrieval quality under the frozen Embedder."""
    return outcome(batch.accuracy, batch.margin, batch.config.outcome_value)


def process_reward(batch: RewardBatch) -> Tensor:
    """Process reward p: a judge that reads only T-CoTs picks the matching target."""
    return process(batch.judge_correct, batch.margin, batch.config.process_value)


def brevity_reward(batch: RewardBatch) -> Tensor:
    """l = -tokens / 100: the cost of a completion's length; one that is not valid costs as much as the longest of its group (ours).

    So no rollout gains by stopping early. NaN where nobody counted tokens.
    """
    if batch.num_tokens is None:
        return torch.full((len(batch.tcots),), torch.nan, dtype=torch.double)
    tokens = batch.num_tokens.double()
    group = batch.rows.group.unique(return_inverse=True)[1]
    longest = torch.zeros(int(group.max()) + 1, dtype=torch.double).scatter_reduce(0, group, tokens, "amax")[group]
    costs = torch.where(batch.format > 0, tokens, longest) / TOKENS_PER_COST
    return -costs if batch.token_prices is None else -costs * batch.token_prices


def fullness_reward(batch: RewardBatch) -> Tensor:
    """Control: number of valid pieces of evidence plus distinct answer words, whatever their content; 0 for an invalid T-CoT."""
    amount = batch.informativeness.clamp(min=0)
    return (amount // MAX_CHARS + amount % MAX_CHARS).double()


def words_reward(batch: RewardBatch) -> Tensor:
    """Control: number of distinct answer words, whatever their content."""
    return torch.tensor([len({*tcot.answer.split()}) if tcot else 0 for tcot in batch.tcots]).double()


def shuffled_partners_reward(batch: RewardBatch) -> Tensor:
    """Control: margin with the next pair of the batch as positive."""
    pairs = batch.rows.pair.unique()
    following = pairs.roll(-1)[torch.searchsorted(pairs, batch.rows.pair)]
    across = batch.rows.is_query[:, None] != batch.rows.is_query[None, :]
    taken = across & (following[:, None] == batch.rows.pair[None, :])
    return _configured_margin(batch, batch.similarity, taken, across & ~taken)


def random_embedder_reward(batch: RewardBatch) -> Tensor:
    """Control: margin under an untrained Embedder of T-CoT text, with a random direction per word."""
    vectors = torch.stack([_random_vector(tcot.answer if tcot else "") for tcot in batch.tcots])
    return _configured_margin(batch, vectors @ vectors.T, batch.rows.positive_mask, batch.rows.negative_mask)


def _with_hard_negatives(
    hard: Tensor | None, similarity: Tensor, positive_mask: Tensor, negative_mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Append the hard negatives as columns: (similarity, positive_mask, negative_mask), each (N, N + M)."""
    if hard is None:
        return similarity, positive_mask, negative_mask
    is_negative = hard.isfinite()
    filled = hard.masked_fill(~is_negative, 0.0)
    masks = torch.cat([positive_mask, torch.zeros_like(is_negative)], 1), torch.cat([negative_mask, is_negative], 1)
    return torch.cat([similarity, filled], 1), *masks


def _configured_margin(
    batch: RewardBatch, similarity: Tensor, positive_mask: Tensor, negative_mask: Tensor, *, hard: Tensor | None = None
) -> Tensor:
    """Compute the margin as configured, for another similarity or other positives."""
    if batch.config.partners == "fullest":
        positive_mask = most_informative(positive_mask, batch.informativeness)
    elif batch.config.partners == "nearest":
        positive_mask, negative_mask = (nearest(similarity, mask, batch.rows.pair) for mask in (positive_mask, negative_mask))
    return margin(
        *_with_hard_negatives(hard, similarity, positive_mask, negative_mask),
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
"""Control rewards without knowledge of retrieval: if one helps as much, the gain is not due to the Embedder."""
REWARDS: dict[str, Reward] = {
    "format": format_reward,
    "outcome": outcome_reward,
    "process": process_reward,
    "brevity": brevity_reward,
    **CONTROLS,
}
"""By the name that a weight has in a recipe (`format_weight`, or `weights.<name>` for any but the first three). NaN: failed.

Another reward is one more function in this file and one more row; metrics (`reward/<name>`) and reward fidelity follow.
"""
