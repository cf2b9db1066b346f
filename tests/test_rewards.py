"""The rewards against answers worked out by hand, against a slow loop written from the equations, and under permutation."""

import dataclasses
import math

import pytest
import torch

from embedrl.data.tcot import MAX_CHARS, TCoT
from embedrl.rl import rewards
from embedrl.rl.config import PRESETS, RewardConfig
from embedrl.rl.rewards import REWARDS, RewardBatch, RolloutIds


def make_rows(num_pairs: int, group: int, *, queries=None, targets=None) -> RolloutIds:
    pair = torch.arange(num_pairs).repeat_interleave(2 * group)
    is_query = torch.tensor(([True] * group + [False] * group) * num_pairs)
    queries, targets = torch.tensor(queries or range(num_pairs)), torch.tensor(targets or range(num_pairs))
    return RolloutIds(pair, is_query, queries[pair], targets[pair])


def random_similarity(num: int, seed: int = 0) -> torch.Tensor:
    vectors = torch.nn.functional.normalize(torch.randn(num, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.double), dim=1)
    return vectors @ vectors.T


def by_hand() -> tuple[RolloutIds, torch.Tensor]:
    """Two pairs, two rollouts a side: rows q0a q0b t0a t0b q1a q1b t1a t1b."""
    queries_by_targets = torch.tensor(
        # t0a  t0b  t1a  t1b
        [
            [0.9, 0.5, 0.7, 0.1],  # q0a: own ranks 1 and 3 of 4
            [0.8, 0.6, 0.2, 0.0],  # q0b: own ranks 1 and 2
            [0.4, 0.3, 0.2, 0.1],  # q1a: own ranks 3 and 4
            [0.1, 0.1, 0.5, 0.1],  # q1b: own rank 1; the other ties with both negatives
        ],
        dtype=torch.double,
    )
    queries, targets = [0, 1, 4, 5], [2, 3, 6, 7]
    similarity = torch.eye(8, dtype=torch.double)
    for row, query in enumerate(queries):
        for column, target in enumerate(targets):
            similarity[query, target] = similarity[target, query] = queries_by_targets[row, column]
    return make_rows(2, 2), similarity


def make_batch(rows: RolloutIds, similarity: torch.Tensor, config: RewardConfig, **inputs) -> RewardBatch:
    num = len(rows.pair)
    given = {"format": torch.ones(num), "informativeness": torch.arange(num), "judge_correct": torch.zeros(num), **inputs}
    return RewardBatch(config=config, rows=rows, tcots=(None,) * num, similarity=similarity, **given)


def test_accuracy_by_hand():
    rows, similarity = by_hand()
    found = rewards.accuracy(similarity, rows.positive_mask, rows.negative_mask)
    #                              q0a  q0b  t0a  t0b  q1a  q1b  t1a  t1b
    assert found.tolist() == [0.5, 1.0, 1.0, 1.0, 0.0, 0.5, 0.5, 0.5]


def test_a_pair_is_as_similar_as_its_nearest_rollout():
    rows, similarity = by_hand()
    batch = make_batch(rows, similarity, RewardConfig(partners="nearest", negative_weight=1, hard_negatives=False))
    #                                                q0a  q0b  t0a  t0b  q1a   q1b  t1a   t1b
    assert batch.margin.tolist() == pytest.approx([0.2, 0.6, 0.5, 0.3, -0.2, 0.4, -0.2, 0.0])
    kept = rewards.nearest(similarity, rows.negative_mask, rows.pair)
    assert kept[0].nonzero().flatten().tolist() == [6]
    assert not (kept & ~rows.negative_mask).any()


def test_margin_by_hand():
    rows, similarity = by_hand()
    found = rewards.margin(similarity, rows.positive_mask, rows.negative_mask, temperature=0.5)
    weight = math.exp(0.7 / 0.5) / (math.exp(0.7 / 0.5) + math.exp(0.1 / 0.5))
    assert found[0].item() == pytest.approx(0.7 - (weight * 0.7 + (1 - weight) * 0.1))
    plain = rewards.margin(similarity, rows.positive_mask, rows.negative_mask, weighted=False)
    assert plain[0].item() == pytest.approx(0.7 - 0.4)
    assert plain[4].item() == pytest.approx(0.15 - 0.35)
    assert rewards.positive(similarity, rows.positive_mask)[:4].tolist() == pytest.approx([0.7, 0.7, 0.85, 0.55])


def test_a_rollout_is_measured_by_the_partners_that_tell_most():
    rows, similarity = by_hand()
    #                        q0a q0b t0a t0b q1a q1b t1a t1b
    informativeness = torch.tensor([3, 1, 2, 5, -1, -1, 4, 4])
    partners = rewards.most_informative(rows.positive_mask, informativeness)
    named = {row: partners[row].nonzero().flatten().tolist() for row in range(8)}
    assert named == {0: [3], 1: [3], 2: [0], 3: [0], 4: [6, 7], 5: [6, 7], 6: [4, 5], 7: [4, 5]}, "the fullest; all that are equally full"
    found = rewards.margin(similarity, partners, rows.negative_mask, weighted=False)
    assert found[0].item() == pytest.approx(similarity[0, 3].item() - 0.4)


def test_nothing_is_won_by_telling_most():
    """How much a rollout tells decides by whom its partners are measured, and not what it gets itself."""
    rows, similarity = by_hand()
    informativeness = torch.arange(8)
    fuller = informativeness.clone()
    fuller[0] = 100
    before, after = (make_batch(rows, similarity, RewardConfig(), informativeness=values).margin for values in (informativeness, fuller))
    assert before[rows.is_query].equal(after[rows.is_query])
    assert not before[~rows.is_query].equal(after[~rows.is_query])


def test_the_negatives_count_as_much_as_is_said():
    rows, similarity = by_hand()
    found = rewards.margin(similarity, rows.positive_mask, rows.negative_mask, weighted=False, negative_weight=0.5)
    assert found[0].item() == pytest.approx(0.7 - 0.5 * 0.4)


def test_the_outcome_as_the_settings_say():
    rows, similarity = by_hand()
    positive_mask, negative_mask = rows.positive_mask, rows.negative_mask
    batch = make_batch(rows, similarity, PRESETS["release"])
    assert torch.equal(batch.margin, rewards.margin(similarity, positive_mask, negative_mask))
    assert torch.equal(batch.rewards["outcome"], 0.5 * batch.accuracy * batch.margin)
    batch = make_batch(rows, similarity, PRESETS["paper"])
    assert torch.equal(batch.rewards["outcome"], batch.accuracy * batch.margin)
    batch = make_batch(rows, similarity, RewardConfig())
    partners = rewards.most_informative(positive_mask, torch.arange(8))
    assert torch.equal(batch.margin, rewards.margin(similarity, partners, negative_mask, negative_weight=0.5))
    assert torch.equal(batch.rewards["outcome"], batch.margin)


def test_every_value_belongs_to_its_own_rollout():
    """The released code hands six of eight rewards to another rollout: only the second rollout of the first query differs here."""
    rows, similarity = make_rows(2, 2), torch.zeros(8, 8, dtype=torch.double)
    similarity[1, rows.positive_mask[1]] = 1.0
    assert rewards.margin(similarity, rows.positive_mask, rows.negative_mask).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("weighted", [True, False])
def test_against_a_slow_loop(weighted: bool):
    rows, similarity = make_rows(4, 3, targets=[0, 1, 0, 2]), random_similarity(24)
    accuracy = rewards.accuracy(similarity, rows.positive_mask, rows.negative_mask)
    margin = rewards.margin(similarity, rows.positive_mask, rows.negative_mask, temperature=0.3, weighted=weighted)
    same = {(0, 2), (2, 0)}
    for row in range(24):
        positive_mask, negative_mask = [], []
        for column in range(24):
            if rows.is_query[row] == rows.is_query[column]:
                continue
            pairs = int(rows.pair[row]), int(rows.pair[column])
            if pairs[0] == pairs[1]:
                positive_mask.append(column)
            elif pairs not in same:
                negative_mask.append(column)
        ranked = sorted(positive_mask + negative_mask, key=lambda column: -similarity[row, column].item())[: len(positive_mask)]
        assert accuracy[row].item() == pytest.approx(sum(column in positive_mask for column in ranked) / len(positive_mask))
        scores = [similarity[row, column].item() for column in negative_mask]
        weights = [math.exp(score / 0.3) if weighted else 1.0 for score in scores]
        expected = sum(similarity[row, column].item() for column in positive_mask) / len(positive_mask)
        expected -= sum(weight * score for weight, score in zip(weights, scores, strict=True)) / sum(weights)
        assert margin[row].item() == pytest.approx(expected)


def test_permuting_a_batch_permutes_its_rewards():
    rows, similarity = make_rows(3, 4), random_similarity(24, seed=3)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    either = (rows.pair[:, None] + rows.pair[None, :]) == 1  # pairs 0 and 1 answer each other
    rows = rows._replace(also_answers=either)
    moved = RolloutIds(*(part[order] for part in rows[:4]), also_answers=either[order][:, order])
    for value in (rewards.accuracy, rewards.margin):
        before = value(similarity, rows.positive_mask, rows.negative_mask)
        assert torch.allclose(value(similarity[order][:, order], moved.positive_mask, moved.negative_mask), before[order])


def test_equal_targets_and_equal_queries_are_no_negatives():
    rows = make_rows(3, 2, queries=[0, 1, 0], targets=[0, 0, 1])
    pairs = {(int(rows.pair[i]), int(rows.pair[j])) for i, j in rows.negative_mask.nonzero().tolist()}
    assert pairs == {(1, 2), (2, 1)}, "pair 0 shares its target with 1 and its query with 2"
    assert rewards.margin(torch.ones(12, 12), rows.positive_mask, rows.negative_mask)[0].item() == 1.0, (
        "no negatives: nothing is subtracted"
    )


def test_ties_with_negatives_are_not_won():
    rows = make_rows(2, 2)
    assert rewards.accuracy(torch.ones(8, 8), rows.positive_mask, rows.negative_mask).tolist() == [0.0] * 8


def test_the_total_is_the_weighted_sum():
    rows, similarity = by_hand()
    judge_correct = torch.tensor([1.0, 0.0] * 4)
    for name, weights in (("ours", (0.1, 1.0, 0.0)), ("paper", (0.05, 0.2, 0.8)), ("release", (0.05, 0.8, 0.2))):
        batch = make_batch(rows, similarity, PRESETS[name], judge_correct=judge_correct)
        by_name = zip(weights, ("format", "outcome", "process"), strict=True)
        assert torch.allclose(batch.total, sum(weight * batch.rewards[part].double() for weight, part in by_name))


def test_a_reward_of_the_table_is_weighted_by_its_name(monkeypatch: pytest.MonkeyPatch):
    rows, similarity = by_hand()
    plain = make_batch(rows, similarity, RewardConfig())
    monkeypatch.setitem(REWARDS, "place", lambda batch: torch.arange(len(batch.tcots)).double())
    batch = make_batch(rows, similarity, RewardConfig(weights={"place": 2.0}))
    assert torch.equal(batch.total, plain.total + 2 * torch.arange(8))
    monkeypatch.setitem(REWARDS, "place", lambda batch: torch.full((8,), torch.nan))
    assert make_batch(rows, similarity, RewardConfig(weights={"place": 1.0})).total.isnan().all(), "a failure voids, whatever the reward"


def test_weights_are_of_rewards_that_exist():
    with pytest.raises(ValueError, match="there is no reward 'wrods'"):
        RewardConfig(weights={"wrods": 1.0})
    with pytest.raises(ValueError, match="'format' has a key of its own: set format_weight"):
        RewardConfig(weights={"format": 1.0})


def test_a_failed_judge_voids_its_group_and_no_other():
    judge_correct, group = torch.tensor([1.0, torch.nan, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    values = {"outcome": torch.ones(4), "process": rewards.process(judge_correct, torch.ones(4), "margin")}
    total = rewards.total(values, {"outcome": 1.0, "process": 0.2}, group)
    assert total[:2].isnan().all()
    assert not total[2:].isnan().any()
    assert not rewards.total(values, {"outcome": 1.0, "process": 0}, group).isnan().any(), "a reward that does not count cannot void"


def answer(text: str) -> TCoT:
    return TCoT(thinking="", rethink="", answer=text)


def test_controls_know_nothing_of_retrieval():
    rows, similarity = by_hand()
    tcots = [answer("red star"), answer("red red star"), answer("a large red star"), None] + [answer("blue ring")] * 4
    told = torch.tensor([2, MAX_CHARS + 2, 4, -1, 2, 2, 2, 2])
    batch = dataclasses.replace(make_batch(rows, similarity, RewardConfig()), tcots=tuple(tcots), informativeness=told)
    assert batch.rewards["fullness"].tolist() == [2, 3, 4, 0, 2, 2, 2, 2]
    assert batch.rewards["words"].tolist() == [2, 2, 4, 0, 2, 2, 2, 2]
    other = dataclasses.replace(batch, similarity=torch.zeros_like(similarity))
    for name in ("fullness", "words", "random_embedder"):
        assert torch.equal(batch.rewards[name], other.rewards[name]), f"{name} asks no Embedder"


def test_shuffled_partners_are_those_of_the_next_pair():
    rows = make_rows(3, 2)
    similarity = torch.zeros(12, 12)
    similarity[0, rows.positive_mask[0]] = 1.0
    batch = make_batch(rows, similarity, RewardConfig(partners="all", weighted_negatives=False))
    assert batch.rewards["outcome"][0] == 1
    assert batch.rewards["shuffled_partners"][0] == pytest.approx(-0.5 * 2 / 4), "what is its own counts as a negative"
