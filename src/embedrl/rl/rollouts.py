"""Scoring of GRPO completions: parse T-CoTs, embed as at test time, gather over ranks, compute rewards, ask the judge.

Every rank computes the rewards of the whole batch from gathered vectors and returns its own, so negatives span all ranks and
N processes give what one gives. A completion that is no T-CoT is embedded plain, which is what retrieval would do with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from embedrl.data.evidence import verify
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.lazy_pairs import LazyPairs, tasks_of
from embedrl.data.protocols import ExplainsFailure, Judges
from embedrl.data.sample import Item, Pair
from embedrl.data.tcot import MAX_CHARS, Reading, TCoT, count_words, read, tcot_or_none
from embedrl.errors import ConfigError, ModelError
from embedrl.media.decode import count_frames
from embedrl.rl import rewards
from embedrl.rl.config import RewardConfig
from embedrl.rl.judge import ask, list_candidates
from embedrl.rl.rewards import RewardBatch, RolloutIds

EncodeGroups = Callable[[Sequence[Item], Sequence[Sequence[TCoT | None]]], list[np.ndarray]]
"""(items, the T-CoTs of each) -> unit vectors of each: `embedder.prefix.embed_groups` with an Embedder."""
T = TypeVar("T")


@dataclass(frozen=True)
class Rollout:
    """One sampled completion for one side of a pair."""

    pair: int
    """Index of the pair in the training set."""
    is_query: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Scores(RewardBatch):
    """Rewards of a batch over the rollouts of all ranks, and the slice of this rank."""

    num_repaired: Tensor
    """Number of repairs in each completion (N,)."""
    num_dropped: Tensor
    """Number of pieces of evidence that could not be parsed (N,)."""
    local: slice


class Scorer:
    """Scores rollouts with a frozen Embedder and an optional judge."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        encode: EncodeGroups,
        judge: Judges | None,
        config: RewardConfig,
        *,
        num_frames: int | None = None,
        control_every: int = 0,
        count_tokens: Callable[[str], int] = count_words,
    ) -> None:
        self.pairs, self.encode, self.judge = pairs, encode, judge
        self.config, self.tasks = config, tasks_of(pairs)
        if unknown := sorted(config.brevity_of.keys() - set(self.tasks)):
            tasks = ", ".join(sorted(set(self.tasks)))
            raise ConfigError(f"rewards.brevity_of: there are no pairs of the task {unknown[0]!r}; choose from {tasks}")
        self.num_frames = num_frames
        """How many frames of a video the Reasoner is shown, at most; None: all that items hold."""
        self.count_tokens = count_tokens
        """Length of a completion, for the cost of it (`brevity`): in the Reasoner's tokens, or in words."""
        self.control_every = control_every
        """Interval of the control figures, in steps; 0: never."""

    def reward(
        self,
        completions: list[Any],
        pair: list[int],
        is_query: list[bool],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        """Reward function of TRL's GRPOTrainer for this rank's completions; None for rollouts of a void group.

        Raises ModelError if too many are void.
        """
        rollouts = [Rollout(*row) for row in zip(pair, is_query, [completion[0]["content"] for completion in completions], strict=True)]
        step = trainer_state.global_step
        scores = self.score(rollouts, seed=str(step))
        for name, value in figures(scores).items():
            log_metric(name, value)
        if self.control_every and step % self.control_every == 0:
            for name, value in self.controls(rollouts).items():
                log_metric(name, value)
        self.require_judge(scores, step)
        return [None if value != value else value for value in scores.total[scores.local].tolist()]

    def score(self, rollouts: Sequence[Rollout], *, seed: str) -> Scores:
        """Score the rollouts of all ranks; the judge is asked about this rank's only. `seed` draws its candidates."""
        readings = [read(rollout.text) for rollout in rollouts]
        tcots = [self._tcot(reading) for reading in readings]
        frames: dict[str, int | None] = {}
        formats = [self._format(rollout, reading, frames) for rollout, reading in zip(rollouts, readings, strict=True)]
        counts = [
            (len(reading.repaired), len(reading.dropped), self.count_tokens(rollout.text))
            for reading, rollout in zip(readings, rollouts, strict=True)
        ]
        vectors = self._embed(rollouts, tcots)
        everyone, start = _gather(list(zip(rollouts, tcots, formats, counts, vectors, strict=True)))
        all_rollouts, all_tcots, all_formats, all_counts, all_vectors = zip(*everyone, strict=True)
        rows = self._rows(all_rollouts)
        vectors_ND = torch.from_numpy(np.stack(all_vectors)).double()
        similarity = vectors_ND @ vectors_ND.T
        hard, _ = _gather(self._hard_negatives(rollouts))
        informativeness = torch.tensor(
            [_fullness(tcot) if tcot and format > 0 else -1 for tcot, format in zip(all_tcots, all_formats, strict=True)]
        )
        here = slice(start, start + len(rollouts))
        return Scores(
            config=self.config,
            rows=rows,
            tcots=all_tcots,
            similarity=similarity,
            format=torch.tensor(all_formats, dtype=torch.double),
            informativeness=informativeness,
            judge_correct=self._ask(similarity, rows, all_tcots, informativeness, here, seed),
            hard_similarity=self._hard_similarity(all_rollouts, vectors_ND, dict(hard)),
            num_repaired=torch.tensor([num_repaired for num_repaired, _, _ in all_counts]),
            num_dropped=torch.tensor([num_dropped for _, num_dropped, _ in all_counts]),
            num_tokens=torch.tensor([num_tokens for _, _, num_tokens in all_counts]),
            token_prices=self._token_prices(all_rollouts),
            local=here,
        )

    def controls(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Score this rank's rollouts with T-CoTs dropped, and with T-CoTs shuffled between items of one side.

        Figures as good as the actual ones mean that T-CoTs do not matter.
        """
        tcots = [self._tcot(read(rollout.text)) for rollout in rollouts]
        control_figures = {}
        for name, changed in (("dropped", [None] * len(tcots)), ("shuffled", _from_another_item(rollouts, tcots))):
            vectors = torch.from_numpy(self._embed(rollouts, changed)).double()
            rows = self._rows(rollouts)
            similarity = vectors @ vectors.T
            control_figures[f"control/{name}_positive"] = rewards.positive(similarity, rows.positive_mask).mean().item()
            control_figures[f"control/{name}_accuracy"] = rewards.accuracy(similarity, rows.positive_mask, rows.negative_mask).mean().item()
        return control_figures

    def _hard_negatives(self, rollouts: Sequence[Rollout]) -> list[tuple[str, np.ndarray]]:
        """Return (key, plain vector) of the hard negatives of these rollouts' pairs."""
        pairs = {rollout.pair: self.pairs[rollout.pair] for rollout in rollouts} if self.config.hard_negatives else {}
        items = {item.key: item for pair in pairs.values() for item in pair.negatives}
        vectors = self.encode(list(items.values()), [[None]] * len(items)) if items else []
        return [(key, group[0]) for key, group in zip(items, vectors, strict=True)]

    def _hard_similarity(self, rollouts: Sequence[Rollout], vectors_ND: Tensor, hard: Mapping[str, np.ndarray]) -> Tensor | None:
        """Return cosines with hard negatives (N, M): -inf for targets' rollouts and for a negative that is a positive of an equal query."""
        if not hard:
            return None
        answers: dict[str, set[str]] = {}
        for pair in (self.pairs[rollout.pair] for rollout in rollouts):
            answers.setdefault(pair.query.key, set()).add(pair.target.key)
        is_negative = [
            [rollout.is_query and key not in answers[self.pairs[rollout.pair].query.key] for key in hard] for rollout in rollouts
        ]
        similarity = vectors_ND @ torch.from_numpy(np.stack(list(hard.values()))).double().T
        return similarity.masked_fill(~torch.tensor(is_negative), -torch.inf)

    def require_judge(self, scores: Scores, step: int) -> None:
        """Raise ModelError with the judge's message if it failed for more than `max_void_share` of the groups."""
        group, num_groups = scores.rows.group, len(scores.rows.group.unique())
        num_void = len(group[scores.total.isnan()].unique())
        if num_void <= self.config.max_void_share * num_groups:
            return
        words, _ = _gather([self.judge.last_failure if isinstance(self.judge, ExplainsFailure) else ""])
        said = next(filter(None, words), "it gave no reason")
        raise ModelError(
            f"step {step + 1}: the judge failed for {num_void} of {num_groups} groups, more than rewards.max_void_share="
            f"{self.config.max_void_share:g} allows ({said}); see to the judge and start the run again: it goes on from its last checkpoint"
        )

    def _rows(self, rollouts: Sequence[Rollout]) -> RolloutIds:
        pairs = [self.pairs[rollout.pair] for rollout in rollouts]
        also_answers = None
        if isinstance(self.pairs, LazyPairs) and (answers := self.pairs.answers):
            places = [rollout.pair for rollout in rollouts]
            is_query = torch.tensor([rollout.is_query for rollout in rollouts])[:, None]
            answered = torch.tensor([[answers(query, target) for target in places] for query in places])
            also_answers = torch.where(is_query, answered, answered.T)
        return RolloutIds(
            torch.tensor([rollout.pair for rollout in rollouts]),
            torch.tensor([rollout.is_query for rollout in rollouts]),
            _numbers([pair.query.key for pair in pairs]),
            _numbers([pair.target.key for pair in pairs]),
            also_answers,
        )

    def _token_prices(self, rollouts: Sequence[Rollout]) -> Tensor | None:
        prices = self.config.brevity_of
        return torch.tensor([prices.get(self.tasks[rollout.pair], 1.0) for rollout in rollouts], dtype=torch.double) if prices else None

    def _item(self, rollout: Rollout) -> Item:
        pair = self.pairs[rollout.pair]
        return pair.query if rollout.is_query else pair.target

    def _tcot(self, reading: Reading) -> TCoT | None:
        return tcot_or_none(reading.written(self.num_frames))

    def _format(self, rollout: Rollout, reading: Reading, frames: dict[str, int | None]) -> float:
        """Return the format score, 0..1, of a completion. `frames` caches frame counts of videos."""
        if self.config.format == "tags":
            return float(has_tags(rollout.text))
        tcot = self._tcot(reading)
        if tcot is None:
            return 0.0
        item = self._item(rollout)
        if tcot.evidence.key_frames and item.key not in frames:
            frames[item.key] = count_frames(item.visual, num_frames=self.num_frames)
        holds = verify(tcot.evidence, item, frames.get(item.key)).valid
        return float(holds) * (1 - self.config.repair_cost * bool(reading.repaired))

    def _embed(self, rollouts: Sequence[Rollout], tcots: Sequence[TCoT | None]) -> np.ndarray:
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, rollout in enumerate(rollouts):
            groups.setdefault((rollout.pair, rollout.is_query), []).append(row)
        members = list(groups.values())
        group_vectors = self.encode([self._item(rollouts[rows[0]]) for rows in members], [[tcots[row] for row in rows] for rows in members])
        vectors = np.empty((len(rollouts), group_vectors[0].shape[1]), np.float32)
        for rows, group in zip(members, group_vectors, strict=True):
            vectors[rows] = group
        if not np.isfinite(vectors).all():
            raise ModelError("the Embedder's vector of a rollout holds NaN or infinite numbers: it rewards nothing; load it in float32")
        return vectors

    def _ask(
        self, similarity: Tensor, rows: RolloutIds, tcots: Sequence[TCoT | None], informativeness: Tensor, here: slice, seed: str
    ) -> Tensor:
        if self.judge is None:
            return torch.zeros(len(tcots), dtype=torch.double)
        shown = informativeness if self.config.partners == "fullest" else None
        listings = list_candidates(similarity, rows, tcots, self.config, seed, informativeness=shown)
        asked = [listing if here.start <= row < here.stop else None for row, listing in enumerate(listings)]
        judge_correct, _ = _gather(ask(self.judge, asked, tcots, rows.positive_mask)[here].tolist())
        return torch.tensor(judge_correct, dtype=torch.double)


_TAGS = tuple(tag for name in ("thinking", "rethink", "answer") for tag in (f"<{name}>", f"</{name}>"))


def has_tags(text: str) -> bool:
    """Return whether the three blocks occur in order and closed, with any text around them (released code's format reward)."""
    position = 0
    for tag in _TAGS:
        place = text.find(tag, position)
        if place < 0:
            return False
        position = place + len(tag)
    return True


def figures(scores: Scores) -> dict[str, float]:
    """Return a batch's mean figures by name, with the spread of group vectors (1 - mean cosine)."""
    group = scores.rows.group
    same = (group[:, None] == group[None, :]).double()
    spread = 1 - (scores.similarity * same).sum(1) / same.sum(1)
    return {
        **{f"reward/{name}": value.double().nanmean().item() for name, value in scores.rewards.items()},
        **{f"reward/{name}": getattr(scores, name).mean().item() for name in ("positive", "accuracy", "margin")},
        "reward/group_spread": spread.mean().item(),
        "reward/void": scores.total.isnan().double().mean().item(),
        **{f"tcot/{kind.name}": _mean(len(kind.pieces(tcot.evidence)) for tcot in scores.tcots if tcot) for kind in EVIDENCE_KINDS},
        "tcot/repaired": scores.num_repaired.double().mean().item(),
        "tcot/dropped": scores.num_dropped.double().mean().item(),
        "tcot/distinct": _mean(
            len({tcot for tcot, member in zip(scores.tcots, group, strict=True) if member == number}) for number in group.unique()
        ),
    }


def _fullness(tcot: TCoT) -> int:
    num_pieces = sum(len({*kind.pieces(tcot.evidence)}) for kind in EVIDENCE_KINDS)
    return MAX_CHARS * num_pieces + len({*tcot.answer.split()})


def _from_another_item(rollouts: Sequence[Rollout], tcots: Sequence[TCoT | None]) -> list[TCoT | None]:
    """Give queries the T-CoTs of the next pair's query, and targets those of the target two pairs on.

    With one step for both, the two sides of a pair would still agree, about another pair.
    """
    exchanged: list[TCoT | None] = [None] * len(rollouts)
    for is_query, step in ((True, 1), (False, 2)):
        by_pair: dict[int, list[int]] = {}
        for row, rollout in enumerate(rollouts):
            if rollout.is_query == is_query:
                by_pair.setdefault(rollout.pair, []).append(row)
        members = list(by_pair.values())
        for number, mine in enumerate(members):
            others = members[(number + step) % len(members)]
            for place, row in enumerate(mine):
                exchanged[row] = tcots[others[place % len(others)]]
    return exchanged


def _gather(rows: list[T]) -> tuple[list[T], int]:
    """All-gather rows: those of all ranks in rank order, and the offset of this rank's. Collective: every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows, 0
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part], sum(len(part) for part in parts[: dist.get_rank()])


def _numbers(keys: Sequence[str]) -> Tensor:
    known: dict[str, int] = {}
    return torch.tensor([known.setdefault(key, len(known)) for key in keys])


def _mean(values: Any) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else float("nan")
