"""A typed query names a part: targets of other pairs that hold that part are no negatives of it, in EG-RL as in evaluation."""

import numpy as np
import torch

from embedrl.rl.config import RewardConfig
from embedrl.rl.rollouts import Rollout, Scorer
from embedrl.world.tasks import answers, lazy_pairs, make_families


def test_a_target_that_holds_what_is_asked_is_no_negative():
    made = make_families("rl", 0, 64, 1, ["image_part"])
    query, target = next(
        (query, target)
        for query in range(len(made))
        for target in range(len(made))
        if query != target and answers(made[query].query, made[target].target) and not answers(made[target].query, made[query].target)
    )
    pairs = lazy_pairs(made)
    rollouts = [Rollout(pair, is_query, "") for pair in (query, target) for is_query in (True, False)]
    scorer = Scorer(pairs, lambda items, tcots: [np.ones((len(group), 1), np.float32) for group in tcots], None, RewardConfig())
    negative = torch.zeros(4, 4, dtype=torch.bool)
    negative[1, 2] = negative[2, 1] = True  # the query of the second pair and the target of the first
    assert torch.equal(scorer.score(rollouts, seed="0").rows.negative_mask, negative)
    first, last = sorted((query, target))
    part = pairs[first : last + 1]
    assert part.answers is not None
    assert part.answers(query - first, target - first)
