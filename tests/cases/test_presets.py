"""Presets are as published: `paper` as the text of arXiv 2602.13823 (§3.3), `release` as its code. What is ours is a third name.

The code is github.com/ZoengHN/Embed-RL while its constants still existed: vlm2vec_reward.py of the parent of 87b52f7.
"""

import re
from pathlib import Path

import pytest
import torch

from embedrl.config import load_recipe
from embedrl.data.tcot import Evidence, TCoT, render
from embedrl.errors import ConfigError
from embedrl.rl.config import PRESETS, Recipe, RewardConfig
from embedrl.rl.judge import list_candidates
from embedrl.rl.rollouts import has_tags
from tests.test_rewards import make_batch, make_rows, random_similarity

PUBLISHED = {
    "paper": {
        "format_weight": 0.05,  # α
        "process_weight": 0.8,  # β
        "outcome_weight": 0.2,  # γ: the text swaps the two big weights of the code
        "format": "evidence",  # "the T-CoT and its evidence are well formed"
        "outcome_value": "product",  # o = a · g
        "process_value": "one",  # p = 1 or 0
        "judge_order": "shuffled",
    },
    "release": {
        "format_weight": 0.05,
        "outcome_weight": 0.8,
        "process_weight": 0.2,
        "format": "tags",  # an expression over the tags; evidence is not looked at
        "outcome_value": "half_product",  # o = 0.5 · a · g
        "process_value": "margin",  # p = g or 0
        "judge_order": "own_first",  # the n positives are numbered first
    },
}
BOTH = {
    **{"negative_temperature": 0.5, "negative_weight": 1.0, "weighted_negatives": True, "partners": "all"},
    **{"num_own": "all", "num_others": 4, "repair_cost": 0.0, "hard_negatives": False},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_as_published(name: str):
    settings = PRESETS[name].model_dump(exclude={"preset", "weights", "brevity_of", "max_void_share"})
    assert settings == {**PUBLISHED[name], **BOTH}


def test_ours_is_a_name_of_its_own_and_the_default():
    assert RewardConfig() == PRESETS["ours"]
    assert Recipe(out="x").rewards == PRESETS["ours"]
    assert PRESETS["ours"].num_own == 2
    assert set(PRESETS) == {"ours", *PUBLISHED}


def test_one_setting_of_a_preset_is_changed_in_one_setting(tmp_path: Path):
    def read(*overrides: str, recipe: str = 'out = "x"') -> RewardConfig:
        (tmp_path / "recipe.toml").write_text(recipe, "utf-8")
        return load_recipe(tmp_path / "recipe.toml", overrides, Recipe).rewards

    changed = PRESETS["paper"].model_copy(update={"format": "tags"})
    assert read("rewards=paper", "rewards.format=tags") == changed
    assert read("rewards.preset=paper", "rewards.format=tags") == changed
    assert read("rewards.format=tags", recipe='out = "x"\nrewards = "paper"') == changed
    assert read(recipe='out = "x"\n[rewards]\npreset = "paper"\nformat = "tags"') == changed
    assert read("rewards=release", recipe='out = "x"\n[rewards]\nformat_weight = 1.0') == PRESETS["release"], "a preset replaces the table"
    with pytest.raises(ConfigError, match=r"'rewards=paper' replaces what 'rewards.format=tags' sets before it: give it first"):
        read("rewards.format=tags", "rewards=paper")
    with pytest.raises(ConfigError, match=r"rewards\.preset='papr': Input should be 'ours', 'paper' or 'release'"):
        read("rewards=papr")


def test_the_released_outcome_is_half_the_product():
    rows, similarity = make_rows(3, 4), random_similarity(24)
    right = torch.tensor([1.0, 0.0] * 12)
    batch = make_batch(rows, similarity, PRESETS["release"], judge_correct=right)
    expected = 0.05 + 0.8 * 0.5 * batch.accuracy * batch.margin + 0.2 * right * batch.margin
    assert torch.allclose(batch.total, expected.double())
    batch = make_batch(rows, similarity, PRESETS["paper"], judge_correct=right)
    assert torch.allclose(batch.total, 0.05 + 0.2 * batch.accuracy * batch.margin + 0.8 * right)


def test_the_judge_is_shown_all_own_rollouts_and_in_the_released_code_first():
    rows, similarity = make_rows(6, 4), random_similarity(48)
    tcots = [TCoT(thinking="t", rethink="r", answer=f"a{row}") for row in range(48)]
    for name, first in (("paper", False), ("release", True), ("ours", False)):
        listings = list_candidates(similarity, rows, tcots, PRESETS[name], "0")
        own = [[bool(rows.positive_mask[listing.anchor, row]) for row in listing.candidates] for listing in listings if listing]
        assert {sum(shown) for shown in own} == {2 if name == "ours" else 4}
        assert {len(shown) for shown in own} == {6 if name == "ours" else 8}
        assert all(all(shown[:4]) for shown in own) == first


TAGS = re.compile("<thinking>.*?</thinking>.*?<rethink>.*?</rethink>.*?<answer>.*?</answer>", re.DOTALL)
"""Three blocks in order, with anything around them: what the released code asks for."""


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        (render(TCoT(thinking="t", evidence=Evidence(boxes=((9, 9, 1, 5000),)), rethink="r", answer="a")), True),
        ('Sure!\n<thinking>{"bbox_2d": [</thinking>\nso <rethink></rethink> and\n<answer></answer> bye', True),
        ("<thinking>t</thinking><rethink>r</rethink><answer>a", False),
        ("<thinking>t</thinking><rethinking>r</rethinking><answer>a</answer>", False),
        ("<answer>a</answer><rethink>r</rethink><thinking>t</thinking>", False),
        ("<Thinking>t</Thinking><rethink>r</rethink><answer>a</answer>", False),
        ("<thinking><rethink></thinking><rethink></rethink><answer><rethink></answer>", True),
        ("", False),
    ],
)
def test_the_tags_of_the_released_code(text: str, passes: bool):
    assert has_tags(text) == passes
    assert bool(TAGS.search(text)) == passes


def test_tags_are_looked_for_in_linear_time():
    assert not has_tags("<thinking></thinking><rethink></rethink><answer>" * 20_000)
