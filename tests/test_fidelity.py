"""Reward fidelity: quality by hand, and a correlation that a perfect, a useless and a wrong reward show."""

import numpy as np
import pytest

from embedrl.data.tcot import Evidence, TCoT
from embedrl.errors import ConfigError
from embedrl.pipelines.reward_fidelity import reward_fidelity
from embedrl.rl.config import Recipe
from embedrl.rl.fidelity import fidelity, quality
from embedrl.world.claims import attributes


def says(answer: str, **evidence) -> TCoT:
    return TCoT(thinking="", evidence=Evidence(**evidence), rethink="", answer=answer)


TRUTH = says("large red star at top left, small blue ring at right on white", boxes=((0, 0, 300, 300), (700, 400, 900, 600)))


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("large red star at top left, small blue ring at right on white", (8, 8, 8)),
        ("red star, blue ring", (4, 4, 8)),
        ("large red star at bottom", (3, 4, 8)),
        ("small blue ring, small blue ring", (3, 6, 8)),
        ("nothing at all", (0, 0, 8)),
    ],
)
def test_attributes_count_what_is_unsaid(answer: str, counts: tuple[int, int, int]):
    assert attributes(says(answer), TRUTH) == counts


def test_quality_is_the_f1_of_attributes_and_evidence():
    assert quality(TRUTH, TRUTH) == 1
    assert quality(None, TRUTH) == 0
    assert quality(says("red star, blue ring", boxes=((0, 0, 290, 290),)), TRUTH) == pytest.approx(2 * 5 / (5 + 10))
    assert quality(says("red star, blue ring", boxes=((0, 0, 10, 10),)), TRUTH) == pytest.approx(2 * 4 / (5 + 10))


def test_correlation_is_inside_groups():
    groups = np.repeat([0, 1, 2], 4)
    true = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5])
    between = np.repeat([0.0, 1.0, 2.0], 4)  # tells groups apart, and nothing inside them
    void = np.where(np.arange(12) < 4, np.nan, true)
    rewards = {"same": true + between, "between": between, "wrong": -true, "void": void}
    found = {row.name: row for row in fidelity(rewards, true, groups)}
    assert found["same"].value == pytest.approx(1)
    assert found["same"].num_groups == 2
    assert np.isnan(found["between"].value)
    assert found["between"].num_groups == 0
    assert found["wrong"].value == pytest.approx(-1)
    assert found["void"].num_groups == 1


def test_groups_of_one_family_are_no_independent_evidence():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 8)
    families = groups // 8
    quality_ = rng.random(128)
    sign = np.where(families == 0, 1.0, -1.0)  # one family agrees, the other does not
    alone, together = (fidelity({"r": sign * quality_}, quality_, groups, families=names)[0] for names in (None, families))
    assert alone.value == pytest.approx(0)
    assert together.value == pytest.approx(0)
    assert (alone.num_families, together.num_families) == (16, 2)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_batches_are_as_large_as_the_recipes():
    trainer = {"max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 2, "use_cpu": True}
    settings = {"out": "out", "start_from": "annotator", "judge": None, "world": "crowded", "tasks": ("image_objects",), "trainer": trainer}
    with pytest.raises(ConfigError, match="1 pairs a task do not fill a batch of the recipe, 2 pairs; give at least 2"):
        reward_fidelity(Recipe.model_validate(settings), num_families=1)
    measured = {row.name: row for row in reward_fidelity(Recipe.model_validate(settings), num_families=5)}
    assert measured["shuffled_partners"].num_groups <= 8, "two batches of two pairs of two sides; the fifth pair fills none"
    assert measured["positive similarity"].num_groups > 4
