"""A policy that only chooses what to tell: its gradient, and that a reward which knows what matters teaches it."""

import random
from pathlib import Path

import numpy as np
import pytest

from embedrl.config import load_recipe
from embedrl.errors import ConfigError
from embedrl.pipelines.selection import COLUMNS, SelectionPolicy, learn_selection, table_rows
from embedrl.rl.config import Recipe
from embedrl.world.claims import told
from embedrl.world.crowded.side import CrowdedSide
from embedrl.world.tasks import draw_family


def side(task: str, of_target: bool) -> CrowdedSide:
    found = draw_family(task, "rl", random.Random(0))[0][of_target]
    assert isinstance(found, CrowdedSide)
    return found


def test_at_first_it_chooses_as_the_annotator_does():
    target, rng, policy = side("image_objects", True), random.Random(0), SelectionPolicy()
    tcots = [policy.sample(target, rng)[0] for _ in range(300)]
    assert all(len(set(told(tcot.answer))) == 5 for tcot in tcots), "without putting a fact back"
    counts = [text.startswith("on ") for tcot in tcots for text in told(tcot.answer)]
    assert np.mean(counts) == pytest.approx(1 / 16, abs=0.02), "one of 16 facts is the background"


def test_the_gradient_is_of_the_log_probability():
    target, policy = side("image_layout", True), SelectionPolicy()
    gradients = [policy.sample(target, random.Random(seed))[1] for seed in range(400)]
    assert all(sum(gradient.values()) == pytest.approx(0, abs=1e-9) for gradient in gradients)
    for name in gradients[0]:
        assert np.mean([gradient.get(name, 0.0) for gradient in gradients]) == pytest.approx(0, abs=0.1), "the score has mean 0"


def test_a_reward_that_knows_what_matters_teaches_it():
    target, query, policy, rng = side("image_layout", True), side("image_part", False), SelectionPolicy(), random.Random(0)
    for _ in range(30):
        for shown in (target, query):
            drawn = [policy.sample(shown, rng) for _ in range(16)]
            matters = {fact.tell() for fact in shown.matters}
            scores = np.array([np.mean([text in matters for text in told(tcot.answer)]) for tcot, _ in drawn])
            policy.learn([gradient for _, gradient in drawn], (scores - scores.mean()) / (scores.std() + 1e-9))
    said = [told(policy.sample(target, rng)[0].answer) for _ in range(50)]
    assert np.mean([text in {fact.tell() for fact in target.matters} for texts in said for text in texts]) > 0.9
    assert np.mean([set(told(policy.sample(query, rng)[0].answer)) == query.asks for _ in range(50)]) > 0.9, "and not to invent"


def test_rewards_by_name():
    recipe = load_recipe(Path("nano/crowded-reasoner.toml"), ["num_families=4", 'tasks=["visdoc_values"]'], Recipe)
    found = learn_selection(recipe, ["words"], num_steps=2)
    assert {row.instruction for row in found} == {"Find a page with the same values.", "Name the values."}
    assert all(len(row) == len(COLUMNS) for row in table_rows(found))
    with pytest.raises(ConfigError, match="reward='luck'"):
        learn_selection(recipe, ["luck"])
    with pytest.raises(ConfigError, match="world='roomy'"):
        learn_selection(recipe.model_copy(update={"world": "roomy", "tasks": ()}), ["words"])
