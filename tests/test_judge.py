"""What the judge is asked, and what its answers are worth."""

import torch

from embedrl.data.tcot import TCoT
from embedrl.rl.config import RewardConfig
from embedrl.rl.judge import ask, list_candidates
from embedrl.testing import FakeJudge
from tests.test_rewards import make_rows, random_similarity


def tcot(answer: str) -> TCoT:
    return TCoT(thinking="", rethink="", answer=answer)


NAMES = ("red star", "blue ring", "green heart", "pink cross", "cyan disc", "grey dot", "white bar")
ROWS = make_rows(7, 3)
TCOTS = [tcot(NAMES[pair]) for pair in ROWS.pair.tolist()]
SIMILARITY = random_similarity(42)


def test_candidates_are_own_ones_and_the_hardest_others_shuffled():
    config = RewardConfig(num_own=2, num_others=4)
    listings = list_candidates(SIMILARITY, ROWS, TCOTS, config, "0")
    own_places = set()
    for row, listing in enumerate(listings):
        assert listing is not None
        assert listing.anchor == row
        assert len(listing.candidates) == 6
        positive_mask = [bool(ROWS.positive_mask[row, column]) for column in listing.candidates]
        assert sum(positive_mask) == 2
        assert all(ROWS.positive_mask[row, c] or ROWS.negative_mask[row, c] for c in listing.candidates)
        own_places.update(place for place, is_own in enumerate(positive_mask) if is_own)
        others = [column for column in listing.candidates if not ROWS.positive_mask[row, column]]
        assert len({int(ROWS.pair[column]) for column in others}) == 4, "one rollout of each other pair"
        best = {
            pair: max(SIMILARITY[row, c].item() for c in range(42) if ROWS.negative_mask[row, c] and ROWS.pair[c] == pair)
            for pair in range(7)
            if pair != ROWS.pair[row]
        }
        assert {int(ROWS.pair[column]) for column in others} == set(sorted(best, key=lambda pair: -best[pair])[:4])
    assert own_places == set(range(6)), "the place gives nothing away"
    assert list_candidates(SIMILARITY, ROWS, TCOTS, config, "0") == listings
    assert list_candidates(SIMILARITY, ROWS, TCOTS, config, "1") != listings


def test_with_fullness_only_those_are_shown_that_tell_most_of_their_item():
    group = ROWS.group.tolist()
    informativeness = torch.tensor([number % 3 for number in range(42)])  # of each item's three rollouts one tells most
    told = {number: max(informativeness[row].item() for row in range(42) if group[row] == number) for number in group}
    listings = list_candidates(SIMILARITY, ROWS, TCOTS, RewardConfig(num_own=2, num_others=4), "0", informativeness=informativeness)
    for listing in listings:
        assert listing is not None
        assert all(informativeness[row] == told[group[row]] for row in listing.candidates)
        assert sum(bool(ROWS.positive_mask[listing.anchor, row]) for row in listing.candidates) == 1
        assert len(listing.candidates) == 5


def test_a_right_choice_is_one_a_wrong_one_zero_a_failure_nan():
    tcots = list(TCOTS)
    tcots[0] = tcot("blue ring")  # a rollout of pair 0 that says what pair 1 is
    tcots[7] = tcot("xyzzy")
    listings = list_candidates(SIMILARITY, ROWS, tcots, RewardConfig(num_own=2, num_others=6), "0")
    right = ask(FakeJudge(), listings, tcots, ROWS.positive_mask)
    assert right[0] == 0
    assert right[7].isnan()
    assert right[1] == 1
    assert (right[12:] == 1).all()


def test_without_a_tcot_nothing_is_asked():
    tcots: list[TCoT | None] = [*TCOTS]
    tcots[0] = None
    listings = list_candidates(SIMILARITY, ROWS, tcots, RewardConfig(), "0")
    assert listings[0] is None
    assert not any(listing and 0 in listing.candidates for listing in listings)
    assert ask(FakeJudge(), listings, tcots, ROWS.positive_mask)[0] == 0
    assert list_candidates(SIMILARITY, ROWS, [None] * 42, RewardConfig(), "0") == [None] * 42
    alone = make_rows(1, 2)
    assert list_candidates(torch.ones(4, 4), alone, TCOTS[:4], RewardConfig(), "0") == [None] * 4, "no other pair, no choice"
