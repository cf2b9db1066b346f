"""From completions to rewards, with fakes: the right rollout is rewarded, and any number of processes gives the same."""

import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import ValidationError

from embedrl.data.sample import Item, Pair, Role
from embedrl.data.tcot import Evidence, TCoT, render
from embedrl.errors import ConfigError
from embedrl.media.content import Image, Text
from embedrl.rl.config import RewardConfig
from embedrl.rl.fidelity import alternatives
from embedrl.rl.rollouts import Rollout, Scorer, figures
from embedrl.testing import FakeEmbedder, FakeJudge

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 50), "blue": (30, 60, 220)}


def make_pairs() -> list[Pair]:
    pairs = []
    for name, colour in COLOURS.items():
        query = Item(content=(Text(text=f"something {name}"),), role=Role.QUERY_TEXT_TO_IMAGE)
        target = Item(content=(Image(pixels=PIL.Image.new("RGB", (32, 32), colour)),), role=Role.TARGET_IMAGE)
        pairs.append(Pair(task="colours", query=query, target=target))
    return pairs


def says(answer: str, **evidence) -> str:
    return render(TCoT(thinking="look.", evidence=Evidence(**evidence), rethink="fine.", answer=answer))


def encode(items, tcots) -> list[np.ndarray]:
    embedder = FakeEmbedder()
    return [embedder.embed([item] * len(group), group) for item, group in zip(items, tcots, strict=True)]


def make_scorer(**config) -> Scorer:
    return Scorer(make_pairs(), encode, FakeJudge(), RewardConfig(**config), control_every=1)


def make_rollouts() -> list[Rollout]:
    """Pair by pair, query before target, two rollouts each: one says the colour, one says something else."""
    return [
        Rollout(pair, is_query, says(name if right else "shape"))
        for pair, name in enumerate(COLOURS)
        for is_query in (True, False)
        for right in (True, False)
    ]


def test_the_better_rollout_of_each_group_gets_the_higher_reward():
    scores = make_scorer().score(make_rollouts(), seed="0")
    total = scores.total.view(-1, 2)
    assert (total[:, 0] > total[:, 1]).all()
    assert (scores.format == 1).all()
    assert scores.local == slice(0, 12)
    assert (scores.margin.view(-1, 2)[:, 0] > scores.margin.view(-1, 2)[:, 1]).all()


def test_a_token_costs_what_its_task_says():
    """A description may be long where an answer may not: the cost of length is set for each task."""
    pairs = [pair.model_copy(update={"task": task}) for pair, task in zip(make_pairs(), ("free", "dear", "others"), strict=True)]

    def costs(**prices: float) -> list[float]:
        config = RewardConfig(weights={"brevity": 0.5}, brevity_of=prices)
        scores = Scorer(pairs, encode, FakeJudge(), config).score(make_rollouts(), seed="0")
        return scores.rewards["brevity"].view(3, 4)[:, 0].tolist()

    plain = costs()
    assert all(cost < 0 for cost in plain)
    assert costs(free=0.0, dear=2.0) == pytest.approx([0.0, 2 * plain[1], plain[2]])
    with pytest.raises(ConfigError, match=r"rewards.brevity_of: there are no pairs of the task 'ohters'; choose from dear, free, others"):
        costs(ohters=0.0)
    with pytest.raises(ValidationError, match=r"brevity_of: multiplies weights.brevity, which is 0; set it too"):
        RewardConfig(brevity_of={"free": 0.0})


def test_fidelity_measures_the_reward_that_the_run_would_give():
    for config in ({"format_weight": 0.3, "process_weight": 0.0, "negative_temperature": 0.2}, {"weighted_negatives": False}):
        scorer = make_scorer(**config)
        scores = scorer.score(make_rollouts(), seed="0")
        assert np.allclose(alternatives(scores, scorer.config)["recipe"], scores.total.numpy())


def test_how_much_a_tcot_tells():
    """Evidence counts before words, repeats count nothing, and what does not hold tells nothing."""
    rollouts = make_rollouts()
    box, other = (0, 0, 500, 500), (500, 500, 1000, 1000)
    rollouts[0] = Rollout(0, True, says("a red thing that is rather red", keywords=("red",)))
    rollouts[1] = Rollout(0, True, says("red red red", keywords=("red", "something")))
    rollouts[2] = Rollout(0, False, says("red", boxes=(box, box)))
    rollouts[3] = Rollout(0, False, says("red and more", boxes=(box,)))
    rollouts[4] = Rollout(1, True, says("red", keywords=("purple", "something", "green")))
    rollouts[5] = Rollout(1, True, "nonsense")
    rollouts[6] = Rollout(1, False, says("green", boxes=(box, other)))
    found = make_scorer().score(rollouts, seed="0").informativeness.tolist()
    assert found[1] > found[0] > found[8]
    assert found[3] > found[2]
    assert found[4] == -1
    assert found[5] == -1
    assert found[6] > found[3]


def test_evidence_must_hold_for_the_format_reward():
    rollouts = make_rollouts()
    rollouts[0] = Rollout(0, True, says("red", keywords=("purple",)))  # not in the query's text
    rollouts[1] = Rollout(0, True, "nonsense")
    rollouts[2] = Rollout(0, False, says("red", boxes=((0, 0, 500, 500),)))
    rollouts[3] = Rollout(0, False, says("red", boxes=((0, 0, 500, 2000),)))
    assert make_scorer().score(rollouts, seed="0").format[:4].tolist() == [0, 0, 1, 0]
    assert make_scorer(format="tags").score(rollouts, seed="0").format[:4].tolist() == [1, 0, 1, 1]


def test_a_completion_that_is_no_tcot_is_embedded_plain():
    rollouts = make_rollouts()
    rollouts[0] = Rollout(0, True, "nonsense")
    scores = make_scorer().score(rollouts, seed="0")
    plain = FakeEmbedder().embed([make_pairs()[0].query], [None])
    with_tcot = scores.similarity[0, 2].item()
    target = FakeEmbedder().embed([make_pairs()[0].target], [TCoT(thinking="look.", rethink="fine.", answer="red")])
    assert with_tcot == pytest.approx(float(plain[0] @ target[0]), abs=1e-6)


def test_a_judge_that_fails_voids_the_group_and_trl_is_told_none():
    rollouts = make_rollouts()
    rollouts[1] = Rollout(0, True, says("xyzzy"))  # shares no word with any candidate: the fake judge fails
    logged: dict[str, float] = {}
    rewards = make_scorer(process_weight=0.2).reward(
        completions=[[{"role": "assistant", "content": rollout.text}] for rollout in rollouts],
        pair=[rollout.pair for rollout in rollouts],
        is_query=[rollout.is_query for rollout in rollouts],
        trainer_state=SimpleNamespace(global_step=0),
        log_metric=logged.__setitem__,
    )
    assert rewards[:2] == [None, None]
    assert None not in rewards[2:]
    assert logged["reward/void"] == pytest.approx(2 / 12)
    assert logged["reward/group_spread"] > 0


def test_without_their_tcots_and_with_those_of_others_items_are_further_apart():
    found = make_scorer().controls([Rollout(pair, is_query, says(name)) for pair, name in enumerate(COLOURS) for is_query in (True, False)])
    right = make_scorer().score(
        [Rollout(pair, is_query, says(name)) for pair, name in enumerate(COLOURS) for is_query in (True, False)], seed="0"
    )
    assert found["control/shuffled_positive"] < right.positive.mean()
    assert found["control/dropped_positive"] < right.positive.mean()
    assert found["control/shuffled_accuracy"] < right.accuracy.mean()


@pytest.mark.parametrize("cuts", [(7,), (3, 7, 11)])
def test_several_processes_give_the_rewards_of_one(tmp_path: Path, cuts: tuple[int, ...]):
    alone = make_scorer().score(make_rollouts(), seed="5")
    torch.multiprocessing.spawn(partial(_score_a_part, cuts=cuts, folder=tmp_path, path=list(sys.path)), nprocs=len(cuts) + 1)
    parts = [np.load(tmp_path / f"{rank}.npy") for rank in range(len(cuts) + 1)]
    assert np.array_equal(np.concatenate(parts), alone.total.numpy(), equal_nan=True)
    assert len(parts[0]) == cuts[0]


def _score_a_part(rank: int, cuts: tuple[int, ...], folder: Path, path: list[str]) -> None:
    sys.path[:] = path
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=len(cuts) + 1)
    rollouts = make_rollouts()
    part = slice((0, *cuts)[rank], (*cuts, None)[rank])  # groups straddle the ranks
    scores = make_scorer().score(rollouts[part], seed="5")
    np.save(folder / f"{rank}.npy", scores.total[scores.local].numpy())
    torch.distributed.destroy_process_group()


def test_a_broken_spelling_never_earns_more_than_an_honest_one():
    """QwenLM/Qwen3-VL#1916: evidence that could not be read once counted as none, and as good."""

    def formats(*thoughts: str, **config) -> list[float]:
        rollouts = make_rollouts()
        for row, thought in zip((2, 3), thoughts, strict=True):  # of a picture
            rollouts[row] = Rollout(0, False, f"<thinking> look. {thought} </thinking> <rethink> r </rethink> <answer> red </answer>")
        scores = make_scorer(**config).score(rollouts, seed="0")
        assert scores.tcots[2] is not None, "it is embedded with the rest"
        assert scores.tcots[3] is not None, "it is embedded with the rest"
        return scores.format[2:4].tolist()

    spellings = ("{…}", '{"label": "star", …,}', '{"evidence": {…}}', '[{…, "label": "x"}]', "{‘label’: ‘x’, …}")
    for spelling in spellings:
        thoughts = [spelling.replace("…", f'"bbox_2d": [[0, 0, 500, {edge}]]') for edge in (500, 2000)]
        honest, broken = formats(*thoughts)
        assert honest >= 0.9
        assert broken == 0
    good, quoted = '{"bbox_2d": [[0, 0, 500, 500]]}', "{'bbox_2d': [[0, 0, 500, 500]]}"
    assert formats(good, quoted) == pytest.approx([1, 0.9])
    assert formats(good, quoted, repair_cost=0) == [1, 1]
    for dropped in ('{"bbox_2d": [[0, 0, 500', '{"bbox_2d": "left"}', '{"bbox_2d": [[0, 0, 500, 500, 1]]}', "{'bbox_2d': [" + "9" * 400):
        assert formats(good, dropped) == [1, 0]


def test_repairs_and_drops_are_counted():
    rollouts = make_rollouts()
    rollouts[0] = Rollout(0, True, says("red").replace("look.", '{"text_keywords": "red"}'))
    rollouts[1] = Rollout(0, True, says("red").replace("look.", 'look. {"key_frames": [true, false]}'))
    found = figures(make_scorer().score(rollouts, seed="0"))
    assert (found["tcot/repaired"], found["tcot/dropped"]) == pytest.approx((1 / 12, 2 / 12))
