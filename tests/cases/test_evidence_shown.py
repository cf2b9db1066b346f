"""What the Embedder is shown of evidence: what holds, each piece once, and the frames that the Reasoner pointed at.

QwenLM/Qwen3-VL#1741 and #1916 (boxes in pixels, doubled boxes); a key frame counts the frames that its writer saw.
"""

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pytest

from embedrl.annotate.filter import SortedPair
from embedrl.data.evidence import about, verify
from embedrl.data.reasoning import RecordedTCoTs, ask, reason_missing
from embedrl.data.records import Records, read_outcome, write_outcome
from embedrl.data.sample import Item, Pair, Role
from embedrl.data.sources.lines import read_lines
from embedrl.data.sources.row import AnnotatedPair
from embedrl.data.tcot import Box, Evidence, TCoT, parse, read, render, with_facts
from embedrl.embedder.inputs import build, collate
from embedrl.evaluation.cache import Cache, CachedEmbedder
from embedrl.media.content import Frames, Image, Text, Video
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.media.video import save_video
from embedrl.reasoner.prompts import tcot_prompt
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.conftest import nano_processor
from tests.odd_media import corner_image, frame_number, numbered_frames

BUDGET = VisualBudget(**dict.fromkeys(("image", "frame", "crop"), PixelRange(min_pixels=1, max_pixels=10**6)))
PICTURE = Item(content=(Image(pixels=corner_image(640, 480)),), role=Role.TARGET_IMAGE)
GOOD = (60, 80, 320, 340)
TIMES = tuple(number / 10 for number in range(100))
FRAMES = Frames(tuple(PIL.Image.new("RGB", (32, 32), (2 * number,) * 3) for number in range(100)), TIMES)
CLIP = Item(content=(Video(frames=FRAMES),), role=Role.TARGET_VIDEO)


def pointing(**evidence) -> TCoT:
    return TCoT(thinking="t", evidence=Evidence(**evidence), rethink="r", answer="a")


def of_frames(tcot: TCoT, num_frames: int) -> TCoT:
    return with_facts(tcot, num_frames=num_frames)


def crops_shown(boxes: Sequence[Box]) -> int:
    return len(build(PICTURE, pointing(boxes=boxes), BUDGET, 16).images) - 1


@pytest.mark.parametrize("box", [(700, 500, 1800, 1900), (-500, -500, 60, 80), (320, 340, 60, 80), (60, 80, 60, 340), (0, 0, 1000, 1001)])
def test_a_box_that_does_not_hold_is_not_shown(box: Box):
    assert not verify(Evidence(boxes=(box,)), PICTURE, None).valid
    assert crops_shown([box]) == 0
    assert crops_shown([box, GOOD]) == 1


def test_equal_boxes_are_shown_once_and_the_ninth_different_thing_is_reached():
    assert crops_shown([GOOD] * 8) == 1
    assert crops_shown([GOOD] * 8 + [(500, 500, 900, 900)]) == 2
    assert crops_shown([(0, 0, 2000, 2000)] * 8 + [GOOD]) == 1
    assert crops_shown([(0, 0, 500, 500 + number) for number in range(20)]) == 8


def frames_shown(tcot: TCoT, num_frames: int, item: Item = CLIP) -> list[int]:
    built = build(item, tcot, BUDGET.model_copy(update={"num_frames": num_frames}), 16)
    return [image.getpixel((0, 0))[0] // 2 for image in built.images]


@pytest.mark.parametrize("num_frames", [4, 8, 64, 100, 200])
def test_a_key_frame_is_the_one_that_the_reasoner_saw(num_frames: int):
    """Frame 5 of 8 of a clip of 100 is its frame 56, whatever the Embedder samples; it was 6 of 64."""
    tcot = pointing(key_frames=(5, 5, 1, 9, 0))
    assert frames_shown(of_frames(tcot, 8), num_frames) == [56, 6]
    assert frames_shown(of_frames(tcot, 16), num_frames)[0] == 28
    part = Item(content=(Video(frames=FRAMES, start_s=5.0, end_s=7.0),), role=Role.TARGET_VIDEO)
    assert frames_shown(of_frames(tcot, 8), num_frames, part) == [61, 51]
    if num_frames >= 5:
        assert frames_shown(tcot, num_frames)[0] == frames_shown(of_frames(tcot, num_frames), num_frames)[0]


def test_a_key_frame_of_a_file_is_looked_up_in_the_file(tmp_path: Path):
    save_video(numbered_frames(24), tmp_path / "clip.mp4", fps=8)
    clip = Item(content=(Video(path=tmp_path / "clip.mp4"),), role=Role.TARGET_VIDEO)
    for sampled in (3, 4, 24):
        built = build(clip, of_frames(pointing(key_frames=(3,), keywords=("x",)), 4), BUDGET.model_copy(update={"num_frames": sampled}), 16)
        assert [frame_number(image) for image in built.images] == [15]


def test_whoever_asks_learns_which_frames_are_counted(tmp_path: Path):
    red = PIL.Image.new("RGB", (32, 32), "red")
    clip = Item(content=(Video(frames=Frames((red,) * 20, TIMES[:20])),), role=Role.TARGET_VIDEO)
    reasoner = FakeReasoner(num_frames=5)
    [answer] = ask(reasoner, [clip])
    assert isinstance(answer, TCoT)
    assert answer.evidence.num_frames == 5
    with Records(tmp_path / "tcots.jsonl") as records:
        for _ in range(2):
            assert reason_missing(reasoner, [clip], RecordedTCoTs(records)) == [answer]
    assert reasoner.reasoned[clip.key] == 2
    [picture] = ask(reasoner, [PICTURE])
    assert isinstance(picture, TCoT)
    assert picture.evidence.num_frames is None


def test_it_is_kept_with_the_tcot_and_is_no_part_of_its_text():
    plain, counted = pointing(key_frames=(2,)), of_frames(pointing(key_frames=(2,)), 16)
    assert render(plain) == render(counted)
    assert read(render(plain)).written(16) == counted
    assert of_frames(counted, 8) == counted, "the first word stands"
    assert read_outcome(write_outcome(counted)) == counted
    assert write_outcome(plain) == {"tcot": render(plain)}
    assert "num_frames" not in plain.model_dump_json()
    assert TCoT.model_validate_json(counted.model_dump_json()) == counted
    assert verify(counted.evidence, CLIP, 16).valid
    assert about(counted.evidence, 1) == counted.evidence
    assert of_frames(pointing(boxes=(GOOD,)), 8) == pointing(boxes=(GOOD,))


def test_filtered_pairs_say_what_their_key_frames_count(tmp_path: Path):
    picture = Item(content=(Image(path=tmp_path / "a.png"),), role=Role.TARGET_IMAGE)
    corner_image(64, 48).save(tmp_path / "a.png")
    pair = Pair(task="t", query=picture, target=picture)
    row = SortedPair(pair=pair, query_tcot=render(pointing(key_frames=(2,))), target_tcot=render(pointing(boxes=(GOOD,))), num_frames=16)
    (tmp_path / "rows.jsonl").write_text(f"{row.model_dump_json()}\n", "utf-8")
    [found] = read_lines(tmp_path / "rows.jsonl")
    assert isinstance(found, AnnotatedPair)
    assert found.query_tcot == of_frames(pointing(key_frames=(2,)), 16)
    assert found.target_tcot == pointing(boxes=(GOOD,))


def test_vectors_are_kept_apart_by_what_key_frames_count(tmp_path: Path):
    embedder = FakeEmbedder()
    with Cache(tmp_path) as cache:
        cached = CachedEmbedder(embedder, cache.vectors)
        for tcot in (pointing(key_frames=(2,)), of_frames(pointing(key_frames=(2,)), 8), of_frames(pointing(key_frames=(2,)), 16)):
            for _ in range(2):
                cached.embed([CLIP], [tcot])
    assert embedder.embedded[CLIP.key] == 3


def test_a_second_image_can_be_pointed_at():
    """Boxes name the image they are about; a box without a name is about the first, as ever."""
    two = Item(content=(Image(pixels=corner_image(640, 480)), Image(pixels=PIL.Image.new("RGB", (64, 64), "lime"))), role=Role.QUERY_IMAGE)
    text = '{"bbox_2d": [[60, 80, 320, 340]]} {"bbox_2d": [[0, 0, 500, 500]], "image": 2} {"image": 3, "bbox_2d": [[0, 0, 500, 500]]}'
    tcot = parse(f"<thinking> {text} </thinking> <rethink> r </rethink> <answer> a </answer>")
    assert isinstance(tcot, TCoT)
    assert tcot.evidence.box_images == (1, 2, 3)
    assert parse(render(tcot)) == tcot
    verification = verify(tcot.evidence, two, None)
    assert verification.boxes == (True, True, False)
    assert verify(tcot.evidence, PICTURE, None).boxes == (True, False, False)
    built = build(two, tcot, BUDGET, 16)
    assert [image.getpixel((1, 1)) == (0, 255, 0) for image in built.images] == [False, True, False, True]
    assert about(tcot.evidence, 2) == Evidence(boxes=((0, 0, 500, 500),))
    assert about(tcot.evidence, 1) == Evidence(boxes=((60, 80, 320, 340),))
    assert Evidence(boxes=(GOOD, GOOD), box_images=(1, 1)) == Evidence(boxes=(GOOD, GOOD))
    assert "box_images" not in Evidence(boxes=(GOOD,)).model_dump()
    with pytest.raises(ValueError, match="one image for each box"):
        Evidence(boxes=(GOOD,), box_images=(1, 2))


def test_the_names_of_images_survive_the_text():
    for images in ((1, 2), (2, 1), (2, 2), (3, 1, 3), (1, 1, 2, 2)):
        tcot = pointing(boxes=(GOOD,) * len(images), box_images=images)
        assert parse(render(tcot)) == tcot


def test_a_reasoner_is_asked_which_image_a_box_lies_in_if_there_are_several():
    """No prompt said that a second picture can be named, so that none was ever pointed at."""
    two = Item(content=(*PICTURE.content * 2, Text(text="What is left?")), role=Role.QUERY_IMAGE)
    asked = tcot_prompt(two, "full", BUDGET, 32)
    said = [part["text"] for part in asked.messages[0]["content"] if part["type"] == "text"]
    assert len(said) == 2
    assert "The 2 pictures and videos above" in said[0]
    assert asked.own is not None
    assert asked.own[0] == said[0]
    answer = '<thinking> Both. {"bbox_2d": [[0, 0, 9, 9]], "image": 1} {"bbox_2d": [[1, 1, 8, 8]], "image": 2} </thinking>'
    tcot = parse(f"{answer}<rethink> Yes. </rethink><answer> A lamp. </answer>")
    assert isinstance(tcot, TCoT)
    assert tcot.evidence.box_images == (1, 2)
    for item, prompt_set in ((PICTURE, "full"), (CLIP, "full"), (PICTURE, "nano"), (two, "nano")):
        words = [part.get("text", "") for part in tcot_prompt(item, prompt_set, BUDGET, 32).messages[0]["content"]]
        assert not any("numbered from 1" in text for text in words), "asked as it was trained, or as before"


@pytest.mark.parametrize("text", ["a star \ud83d", "\udcff", "\ud83d\ude00"])
def test_half_a_character_of_an_item_reaches_no_tokenizer(text: str):
    """Kept as it is in its item and in the item's key, and replaced where prompts are made (openai/tiktoken#82)."""
    item = Item(content=(Text(text=text),), instruction=text, role=Role.TARGET_TEXT)
    batch = collate(nano_processor(), [build(item, pointing(keywords=(text,)), BUDGET, 16)])
    assert batch["input_ids"].shape[0] == 1
    prompt = tcot_prompt(item, "nano", BUDGET, 16)
    nano_processor().apply_chat_template(prompt.messages, tokenize=False).encode()
