"""Which rows make which batch: a pure function of the settings and the number of the batch."""

from collections import Counter
from itertools import groupby, islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from embedrl.config import load_recipe
from embedrl.data.mixture import Mixture, MixtureConfig
from embedrl.errors import ConfigError

steady = settings(max_examples=80, deadline=None, derandomize=True, database=None)
SIZES = {"cats": 23, "dogs": 40, "clips": 17, "films": 9}
CONFIG = MixtureConfig(
    batch_size=4,
    weights={"cats": 2, "dogs": 0.5, "clips": 1, "films": 1},
    caps={"dogs": 30},
    videos=("clips", "films"),
    max_video_run=2,
    seed=3,
)


def drawn(config: MixtureConfig, sizes: dict[str, int], num_epochs: int = 3):
    mixture = Mixture(config, sizes)
    return mixture, list(islice(mixture.batches(), mixture.num_batches(num_epochs)))


@st.composite
def mixtures(draw) -> tuple[MixtureConfig, dict[str, int]]:
    sizes = draw(st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 60), min_size=1, max_size=5))
    config = MixtureConfig(
        batch_size=draw(st.integers(1, 5)),
        weights={name: draw(st.sampled_from((0.26, 0.35, 0.5, 1.0, 1.65, 2.25, 3.0))) for name in sizes},
        caps={name: draw(st.integers(1, 60)) for name in sizes if draw(st.booleans())},
        videos=tuple(name for name in sizes if draw(st.booleans())),
        max_video_run=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 9)),
    )
    try:
        Mixture(config, sizes)
    except ConfigError:
        assume(False)
    return config, sizes


@steady
@given(mixtures())
def test_batches_keep_every_promise(made):
    config, sizes = made
    mixture, batches = drawn(config, sizes)
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert [batch.epoch for batch in batches] == sorted(batch.epoch for batch in batches)
    assert batches[-1].epoch == 2
    for batch in batches:
        assert len(set(batch.rows)) == config.batch_size
        assert set(batch.rows) <= set(range(sizes[batch.dataset]))
    for is_video, run in groupby(batch.dataset in config.videos for batch in batches):
        assert not is_video or len(list(run)) <= config.max_video_run, "also where epochs meet"
    for name, portion in mixture.portions().items():
        num_rows = min(sizes[name], config.caps.get(name, 60))
        assert portion.num_rows == num_rows
        assert portion.num_capped == sizes[name] - num_rows
        assert portion.num_dropped == num_rows % config.batch_size
        assert len({row for batch in batches if batch.dataset == name for row in batch.rows}) <= num_rows
        passes = config.weights[name] * (num_rows // config.batch_size)
        for epoch in range(3):
            found = sum(batch.dataset == name for batch in batches if batch.epoch == epoch)
            assert abs(found - passes) < 1
            assert abs(portion.num_batches - passes) < 1e-9
        assert abs(sum(batch.dataset == name for batch in batches) - 3 * passes) < 1, "roundings do not add up"


@steady
@given(mixtures(), st.data())
def test_any_batch_comes_out_the_same_alone(made, data):
    config, sizes = made
    _, batches = drawn(config, sizes)
    number = data.draw(st.integers(0, len(batches) - 1))
    shuffled = {name: sizes[name] for name in data.draw(st.permutations(sorted(sizes)))}
    again = Mixture(MixtureConfig.model_validate_json(config.model_dump_json()), shuffled)
    assert again.batch(number) == batches[number]
    assert list(islice(again.batches(number), 5)) == [*batches[number : number + 5], *map(again.batch, range(len(batches), number + 5))]


def test_a_pass_shows_each_row_once_and_drops_another_tail_each_time():
    mixture = Mixture(MixtureConfig(batch_size=4, weights={"a": 1}), {"a": 10})
    batches = list(islice(mixture.batches(), 40))
    passes = [[row for batch in batches if batch.epoch == epoch for row in batch.rows] for epoch in range(20)]
    assert all(len(rows) == len(set(rows)) == 8 for rows in passes)
    assert len({tuple(rows) for rows in passes}) == 20, "each epoch is shuffled afresh"
    assert {row for rows in passes for row in rows} == set(range(10)), "no row is dropped for ever"
    assert mixture.portions()["a"].num_dropped == 2


def test_half_a_weight_spreads_one_pass_over_two_epochs():
    _, batches = drawn(MixtureConfig(batch_size=2, weights={"a": 0.5}), {"a": 8}, num_epochs=2)
    assert [batch.epoch for batch in batches] == [0, 0, 1, 1]
    assert sorted(row for batch in batches for row in batch.rows) == list(range(8))


def test_a_cap_keeps_the_same_rows_in_every_epoch():
    _, batches = drawn(MixtureConfig(batch_size=2, weights={"a": 1}, caps={"a": 6}), {"a": 1000}, num_epochs=9)
    kept = {row for batch in batches for row in batch.rows}
    assert len(kept) == 6, "drawn, not cut off"
    assert kept != set(range(6)), "drawn, not cut off"


def test_seeds_and_epochs_change_the_order():
    _, batches = drawn(CONFIG, SIZES)
    _, others = drawn(CONFIG.model_copy(update={"seed": 4}), SIZES)
    assert [batch.dataset for batch in batches] != [batch.dataset for batch in others]
    first, second = ([batch.dataset for batch in batches if batch.epoch == epoch] for epoch in (0, 2))
    assert first != second
    assert (Counter(first) - Counter(second)).total() <= 1


def test_the_order_stays_the_same_between_releases():
    mixture = Mixture(CONFIG, SIZES)
    assert [tuple(mixture.batch(number))[1:] for number in (0, 7, 1000)] == [
        (0, "clips", (7, 3, 6, 16)),
        (0, "cats", (2, 12, 3, 9)),
        (51, "dogs", (2, 23, 32, 25)),
    ], "whoever changes this breaks the resuming of every run"


def test_decimal_weights_are_exact():
    mixture = Mixture(MixtureConfig(batch_size=1, weights={"a": 0.7}), {"a": 10})
    assert [mixture.num_batches(epochs) for epochs in range(4)] == [0, 7, 14, 21]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=0"], r"batch_size=0: .*greater than or equal to 1"),
        (["weights.a=0"], r"weights.a=0: .*greater than 0"),
        (["weights.a=inf"], r"weights.a=inf: .*finite"),
        (["caps.a=0"], r"caps.a=0: .*greater than or equal to 1"),
        (["caps.c=5"], r"caps names 'c', which has no weight; give it one"),
        (["videos=['c']"], r"videos names 'c', which has no weight"),
        (["max_video_run=0"], r"max_video_run=0: .*greater than or equal to 1"),
        (["max_run=2"], r"max_run=2: unknown key"),
    ],
)
def test_a_wrong_setting_is_named(overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        load_recipe(None, ["batch_size=4", "weights={a = 1, b = 2}", *overrides], MixtureConfig)


@pytest.mark.parametrize(
    ("changes", "sizes", "message"),
    [
        ({}, {"a": 8}, r"'b' has a weight only"),
        ({}, {"a": 8, "b": 8, "c": 8}, r"'c' has rows only"),
        ({}, {"a": 8, "b": 3}, r"batch_size=4: 'b' has only 3 rows; lower it, or leave 'b' out"),
        ({"caps": {"b": 3}}, {"a": 8, "b": 8}, r"batch_size=4: 'b' has only 3 rows"),
        (
            {"weights": {"a": 0.3, "b": 1}},
            {"a": 12, "b": 8},
            r"weights.a=0.3: less than one of its 3 batches an epoch; give at least 0.3334",
        ),
        (
            {"videos": ("b",)},
            {"a": 4, "b": 20},
            r"max_video_run=1: up to 5 batches of videos an epoch, and 1 others between; give at least 5",
        ),
        ({"videos": ("a", "b")}, {"a": 4, "b": 20}, r"leave `videos` empty"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_named(changes: dict, sizes: dict[str, int], message: str):
    with pytest.raises(ConfigError, match=message):
        Mixture(MixtureConfig(**{"batch_size": 4, "weights": {"a": 1, "b": 1}, **changes}), sizes)


def test_there_is_no_batch_before_the_first():
    with pytest.raises(ConfigError, match=r"batch -1: .*from 0"):
        Mixture(CONFIG, SIZES).batch(-1)
