"""The world: truth that holds, hard negatives that differ, splits that do not overlap, bytes that repeat."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from embedrl.data.evidence import iou, verify
from embedrl.data.tcot import TCoT, parse, render
from embedrl.errors import ConfigError, StoreError
from embedrl.world.annotator import Habits
from embedrl.world.claims import claims
from embedrl.world.clips import NUM_FRAMES, sample_clip
from embedrl.world.clips import variant as clip_variant
from embedrl.world.objects import SPLITS, Thing, allowed
from embedrl.world.scenes import sample_scene
from embedrl.world.scenes import variant as scene_variant
from embedrl.world.tasks import TASKS, draw_family, make_pairs
from embedrl.world.write import make_world, read_world


@pytest.mark.parametrize("task", TASKS)
def test_truth_is_a_valid_tcot_with_evidence_that_holds(task: str) -> None:
    for pair in make_pairs("test", 1, [task], 6):
        for side in (pair.query, pair.target, *pair.negatives):
            assert parse(render(side.truth)) == side.truth
            checked = verify(side.truth.evidence, side.item, NUM_FRAMES)
            assert checked.valid, (task, side.truth)
            assert side.truth.evidence, (task, side.truth)
            right, made, true = claims(side.truth, side.truth)
            assert right > 0
            assert made == right
            assert true == right


@pytest.mark.parametrize("task", TASKS)
def test_a_query_singles_out_its_target(task: str) -> None:
    for pair in make_pairs("test", 2, [task], 12):
        signatures = [side.signature for side in (pair.target, *pair.negatives)]
        assert len(signatures) >= 4
        assert len(set(signatures)) == len(signatures)
        for negative in pair.negatives:
            assert negative.truth.answer != pair.target.truth.answer, f"{task}: a hard negative says what the target says"


def test_splits_show_their_own_combinations() -> None:
    star = Thing("star", "red", "small", 0)
    assert [allowed(star, split) for split in SPLITS] == [False, False, True]
    assert all(allowed(replace(star, size="large"), split) for split in SPLITS)
    for split in SPLITS:
        for seed in range(300):
            rng = random.Random(seed)
            scene, clip = sample_scene(rng, split), sample_clip(rng, split)
            scenes, clips = (scene, scene_variant(rng, scene, split)), (clip, clip_variant(rng, clip, split))
            drawn = [thing for each in scenes for thing in each.things]
            drawn += [thing for each in clips for frame in range(1, NUM_FRAMES + 1) for thing in each.things(frame)]
            assert all(allowed(thing, split) for thing in drawn)
            assert scenes[0] != scenes[1]
            assert clips[0] != clips[1]
    held = [any(not allowed(thing, "train") for thing in sample_scene(random.Random(seed), "test").things) for seed in range(300)]
    assert 0.4 < sum(held) / len(held) < 0.8


def test_the_annotator_keeps_its_stated_rates() -> None:
    rng, habits = random.Random(0), Habits()
    sides = [draw_family("image_t2i", "train", rng, num_variants=0)[0][1] for _ in range(600)]
    written = [side.annotated(rng) for side in sides]
    hasty = 1 - habits.careful
    sized = sum("large" in tcot.answer or "small" in tcot.answer for tcot in written) / len(written)
    assert abs(sized - (1 - hasty * habits.forgets_size)) < 0.06
    remarked = [(tcot.thinking.count("."), tcot.rethink.count(".")) for tcot in written]
    assert set(remarked) == {(1, 1), (2, 2)}
    assert abs(remarked.count((2, 2)) / len(written) - hasty * habits.remarks) < 0.06
    whole = sum(len(tcot.evidence.boxes) == len(side.seen.facts) for tcot, side in zip(written, sides, strict=True)) / len(written)
    assert abs(whole - (1 - hasty * habits.stops_half_way)) < 0.06
    right, made, true = map(sum, zip(*(claims(tcot, side.truth) for tcot, side in zip(written, sides, strict=True)), strict=True))
    assert 0.97 < right / made < 1
    assert abs(right / true - (1 - hasty * habits.stops_half_way * 0.4)) < 0.06


def test_a_careful_annotator_writes_the_truth_and_a_hasty_one_half_of_it() -> None:
    family = draw_family("image_composed", "train", random.Random(1), num_variants=0)
    for side in family[0]:
        assert side.annotated(random.Random(0), Habits(careful=1)) == side.truth
        hasty = side.annotated(random.Random(0), Habits(0, 1, 1, 1, 1, 0, mistake=0))
        count = (len(side.seen.facts) + 1) // 2
        assert hasty.evidence.boxes == side.truth.evidence.boxes[:count]
        assert count < len(side.seen.facts)
        assert hasty.answer == ", ".join(f"{fact.get('colour')} {fact.get('shape')}" for fact in side.wanted.facts[:count])
        mistaken = side.annotated(random.Random(0), Habits(0, 0, 0, 0, 0, 0, mistake=1))
        assert mistaken.evidence == side.truth.evidence
        assert mistaken.answer != side.truth.answer


def test_claims_are_checked_by_hand() -> None:
    truth = TCoT(thinking="", rethink="", answer="large red star at top left, small blue ring at center on white")
    assert claims(TCoT(thinking="", rethink="", answer="red star, blue ring"), truth) == (2, 2, 2)
    assert claims(TCoT(thinking="", rethink="", answer="small red star"), truth) == (0, 1, 2)
    assert claims(TCoT(thinking="", rethink="", answer="red star, red star"), truth) == (1, 2, 2)
    page = TCoT(thinking="", rethink="", answer="tea table: oslo 35, lima 60")
    assert claims(TCoT(thinking="", rethink="", answer="tea table: oslo 40"), page) == (1, 2, 3)


def test_true_boxes_cover_the_things() -> None:
    pair = make_pairs("test", 3, ["image_t2i"], 1)[0]
    for fact, box in zip(pair.target.seen.facts, pair.target.truth.evidence.boxes, strict=True):
        assert fact.box is not None
        assert iou(fact.box, box) > 0.7


def test_two_runs_write_the_same_bytes_and_read_back(tmp_path: Path) -> None:
    num_files = make_world(tmp_path / "a", 15, seed=5)
    make_world(tmp_path / "b", 15, seed=5)
    digests = [
        {
            path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in "ab"
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == num_files + 1
    pairs = read_world(tmp_path / "a")
    assert len(pairs) == 15
    assert {pair.pair.task for pair in pairs} == set(TASKS)
    assert all(part.path.is_file() for pair in pairs for part in pair.pair.target.content if part.kind != "text")


def test_wrong_wishes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'video_x'"):
        make_pairs("test", 0, ["video_x"], 1)
    with pytest.raises(ConfigError, match="split='dev'"):
        make_pairs("dev", 0, None, 1)
    with pytest.raises(ConfigError, match="pairs=0"):
        make_world(tmp_path, 0)
    make_world(tmp_path, 1)
    with pytest.raises(StoreError, match="already holds a world"):
        make_world(tmp_path, 1)
