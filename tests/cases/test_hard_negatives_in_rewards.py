"""Hard negatives of the pairs of a batch are negatives of its queries in EG-RL's margin and accuracy (house/negatives.py)."""

import pytest
import torch

from embedrl.data.sample import Item, Pair, Role
from embedrl.media.content import Text
from embedrl.rl.config import PRESETS, RewardConfig
from embedrl.rl.rewards import RewardBatch, RolloutIds
from embedrl.rl.rollouts import Rollout, Scorer
from embedrl.testing import FakeEmbedder
from tests.test_rollouts import encode, says


def text(words: str) -> Item:
    return Item(content=(Text(text=words),), role=Role.TARGET_TEXT)


def pairs(*negatives: str) -> list[Pair]:
    """Two pairs; the first brings hard negatives."""
    first = Pair(task="t", query=text("something red"), target=text("red mug"), negatives=tuple(map(text, negatives)))
    return [first, Pair(task="t", query=text("something green"), target=text("green cup"))]


ROLLOUTS = [
    Rollout(0, True, says("red")),
    Rollout(0, False, says("mug")),
    Rollout(1, True, says("green")),
    Rollout(1, False, says("cup")),
]


def scores(listed: list[Pair], **config):
    return Scorer(listed, encode, None, RewardConfig(partners="all", **config)).score(ROLLOUTS, seed="0")


def test_the_cosines_are_those_of_plain_vectors() -> None:
    found = scores(pairs("red jug", "red mug"))
    assert found.hard_similarity is not None
    plain = FakeEmbedder().embed([text("red jug")], [None])[0]
    query = encode([pairs()[0].query], [[found.tcots[0]]])[0][0]
    assert found.hard_similarity[0, 0].item() == pytest.approx(float(query @ plain), abs=1e-6)
    assert found.hard_similarity[0, 1].item() == -torch.inf, "it equals the target of this query"
    assert found.hard_similarity[2, 1].isfinite(), "and is a negative of the other"
    assert found.hard_similarity[[1, 3]].isinf().all(), "targets are compared with queries alone"


def test_a_near_negative_lowers_the_margin_and_the_accuracy() -> None:
    without, far, near = scores(pairs()), scores(pairs("zebra crossing")), scores(pairs("something red"))
    assert without.hard_similarity is None
    assert near.margin[0] < without.margin[0]
    assert near.margin[0] < far.margin[0]
    assert torch.equal(near.margin[[1, 3]], without.margin[[1, 3]])
    assert (near.accuracy[0], without.accuracy[0]) == (0, 1)


def test_the_margin_by_hand() -> None:
    rows = RolloutIds(torch.tensor([0, 0, 1, 1]), torch.tensor([True, False] * 2), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1]))
    similarity = torch.tensor([[1.0, 0.8, 0.0, 0.2], [0.8, 1.0, 0.1, 0.0], [0.0, 0.1, 1.0, 0.6], [0.2, 0.0, 0.6, 1.0]]).double()
    hard = torch.tensor([[0.9], [-torch.inf], [0.3], [-torch.inf]]).double()
    batch = RewardBatch(
        config=RewardConfig(partners="all", weighted_negatives=False, negative_weight=1),
        rows=rows,
        tcots=(None,) * 4,
        similarity=similarity,
        format=torch.ones(4),
        informativeness=torch.zeros(4, dtype=torch.long),
        judge_correct=torch.zeros(4),
        hard_similarity=hard,
    )
    assert batch.margin.tolist() == pytest.approx([0.8 - (0.2 + 0.9) / 2, 0.8 - 0.1, 0.6 - (0.1 + 0.3) / 2, 0.6 - 0.2])
    assert batch.accuracy.tolist() == [0, 1, 1, 1]


def test_the_presets_have_none_as_published() -> None:
    assert not PRESETS["paper"].hard_negatives
    assert not PRESETS["release"].hard_negatives
    assert scores(pairs("red jug"), hard_negatives=False).hard_similarity is None
