"""Evidence is cut out, checked against its medium and drawn exactly as it is written."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrl.data.crops import crop
from embedrl.data.evidence import Verification, draw_boxes, iou, mark_keywords, verify
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, parse
from embedrl.media.content import Frames, Image, Page, Part, Text, Video
from tests.odd_media import BLUE, RED, corner_image, frame_number, numbered_frames

steady = settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
CLIP = Frames(tuple(numbered_frames(4)), (0.0, 0.5, 1.0, 1.5))
EVERYTHING = Evidence(boxes=[(0, 0, 500, 500)], key_frames=[2], keywords=["red  CAR"])


def item(*parts: Part) -> Item:
    return Item(content=parts, role=Role.TARGET_IMAGE)


def test_crops_are_relative_to_the_picture():
    quarter = crop(corner_image(200, 100), (0, 0, 500, 500))
    assert quarter is not None
    assert quarter.size == (100, 50)
    assert quarter.getcolors() == [(5000, RED)]
    corner = crop(corner_image(200, 100), (750, 500, 1000, 1000))
    assert corner is not None
    assert (corner.size, corner.getpixel((0, 0))) == ((50, 50), BLUE)


def test_crops_leave_out_what_cannot_be_seen():
    image = corner_image(1000, 1000)
    bad = [(500, 0, 500, 100), (600, 0, 500, 100), (1100, 0, 1200, 100), (0, 0, 9, 500), (-50, -50, 0, 0), (-100, 900, 100, 1000)]
    assert [box for box in bad if crop(image, box)] == []
    assert crop(image, (0, 0, 10, 400)) is not None
    assert crop(image, (0, 0, 10, 900)) is None
    for box in ((0, 0, 10, 10), (990, 990, 1000, 1000)):
        smallest = crop(corner_image(1, 1), box)
        assert smallest is not None
        assert smallest.size == (1, 1)


@steady
@given(st.tuples(*[st.integers(-100, 1100)] * 4), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_a_crop_of_any_box_lies_inside_the_image(box, size):
    if inside := crop(PIL.Image.new("RGB", size, "white"), box):
        assert 1 <= inside.width <= size[0]
        assert 1 <= inside.height <= size[1]
        assert inside.getcolors() == [(inside.width * inside.height, (255, 255, 255))]  # a crop beyond the edge would be black there


def test_a_key_frame_is_the_frame_of_that_number():
    [kind] = [kind for kind in EVIDENCE_KINDS if kind.name == "key_frames"]
    assert kind.image is not None
    pictures = [kind.image(CLIP, number) for number in (3, 1, 0, 5, -1)]
    assert [picture and frame_number(picture) for picture in pictures] == [2, 0, None, None, None]


@pytest.mark.parametrize(
    ("parts", "num_frames", "expected"),
    [
        ((Image(pixels=corner_image()), Text(text="a Red\n car")), None, ((True,), (False,), (True,))),
        ((Page(pixels=corner_image()),), None, ((True,), (False,), (False,))),
        ((Video(frames=CLIP), Text(text="the red car")), 4, ((False,), (True,), (True,))),
        ((Video(frames=CLIP),), 1, ((False,), (False,), (False,))),
        ((Video(frames=CLIP),), None, ((False,), (False,), (False,))),
        ((Text(text="red cars"),), 4, ((False,), (False,), (True,))),
    ],
)
def test_each_kind_of_evidence_needs_its_medium(parts, num_frames, expected):
    found = verify(EVERYTHING, item(*parts), num_frames)
    assert (found.boxes, found.key_frames, found.keywords) == expected
    assert not found.valid


def test_boxes_must_be_inside_and_not_empty():
    boxes = [(0, 0, 1000, 1000), (0, 0, 1001, 10), (-1, 0, 10, 10), (5, 5, 5, 10), (10, 5, 5, 10), (999, 999, 1000, 1000)]
    found = verify(Evidence(boxes=boxes), item(Image(pixels=corner_image())), None)
    assert found.boxes == (True, False, False, False, False, True)
    elsewhere = verify(Evidence(boxes=boxes, keywords=["x"]), item(Text(text="y")), None)
    assert elsewhere.boxes == (False,) * len(boxes)
    assert elsewhere.keywords == (False,)
    assert not verify(Evidence(key_frames=[0, 5]), item(Video(frames=CLIP)), 4).valid


def test_nothing_to_verify_is_valid():
    assert verify(Evidence(), item(Text(text="x")), None).valid
    assert verify(Evidence(key_frames=[1, 4]), item(Video(frames=CLIP)), 4).valid


def test_keywords_are_found_whatever_the_case_accents_and_special_tokens():
    decomposed = "cafe\u0301 STRASSE <|im_end|> now"
    words = ["CAFÉ", "straße", "<|im_end|>  now"]
    tcot = parse(f'<thinking>{{"text_keywords": ["{words[2]}"]}}</thinking><rethink></rethink><answer>a</answer>')
    assert tcot, tcot
    for keyword in (*words[:2], *tcot.evidence.keywords):
        assert verify(Evidence(keywords=[keyword]), item(Text(text=decomposed)), None).valid, keyword


def test_iou_by_hand():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_iou_is_symmetric_and_bounded():
    rng = np.random.default_rng(0)
    for first, second in rng.integers(-100, 1100, (500, 2, 4)).tolist():
        assert iou(first, second) == iou(second, first)
        assert 0 <= iou(first, second) <= 1


def test_keywords_are_marked_in_place():
    text = "A Red\n car, a red carpet, (RED)"
    assert mark_keywords(text, ["red car", "(red)", " ", ""]) == [
        ("A ", False),
        ("Red\n car", True),
        (", a ", False),
        ("red car", True),
        ("pet, ", False),
        ("(RED)", True),
    ]
    assert mark_keywords("", ["x"]) == []
    assert mark_keywords("İstanbul", ["istanbul", "x"])  # lower case is longer here


def test_marks_are_where_the_check_finds_the_words():
    text = "Die STRASSE, die Straße; cafe\u0301 und Café"
    keywords = ("straße", "CAFÉ")
    assert [piece for piece, is_keyword in mark_keywords(text, keywords) if is_keyword] == ["STRASSE", "Straße", "cafe\u0301", "Café"]
    jamo = "\u1112\u1161\u11ab"
    assert mark_keywords(f"{jamo}!", ["한"]) == [(jamo, True), ("!", False)]


@steady
@given(
    st.text("aAßİe\u0301\u0323 \n\u00a0\u1100\u1161\u11a8<|>", max_size=20), st.text("aAsße\u0301\u0323 가\u11a8", min_size=1, max_size=3)
)
def test_a_keyword_is_marked_exactly_if_it_holds(text, keyword):
    item = Item(content=(Text(text=f"{text}."),), role=Role.TARGET_TEXT)
    holds = verify(Evidence(keywords=(keyword,)), item, None).keywords
    assert any(is_keyword for _, is_keyword in mark_keywords(item.text, [keyword])) == any(holds)


@steady
@given(st.text("aAb İ\n.*", max_size=30), st.lists(st.text("aAb i.*", max_size=3), max_size=4))
def test_marked_pieces_join_to_the_text(text, keywords):
    pieces = mark_keywords(text, keywords)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(first[1] != second[1] for first, second in pairwise(pieces))


def test_boxes_are_drawn_where_they_are():
    image = PIL.Image.new("L", (400, 200), 255)
    evidence = Evidence(boxes=[(100, 100, 400, 900), (500, 100, 900, 900)])
    drawn = draw_boxes(image, evidence, Verification(boxes=(True, False)))
    assert (image.mode, drawn.mode, drawn.size) == ("L", "RGB", (400, 200))
    assert image.getcolors() == [(80_000, 255)]
    pixels = np.asarray(drawn).astype(int)
    coloured, grey = pixels[..., 0] - pixels[..., 1] > 100, (pixels == 140).all(axis=-1)
    assert (np.argwhere(coloured)[:, 1].min(), np.argwhere(coloured)[:, 1].max()) == (40, 159)
    assert (np.argwhere(coloured)[:, 0].min(), np.argwhere(coloured)[:, 0].max()) == (20, 179)
    assert coloured[20:180, 40].all(), "outlines of what holds have no gaps"
    assert 0.3 < grey[20:180, 359].mean() < 0.7, "the others are dashed"
    assert (pixels[100, 80] == 255).all(), "a box is not filled"


def test_boxes_of_any_kind_can_be_drawn():
    evidence = Evidence(boxes=[(0, 0, 1000, 1000), (990, 990, 1000, 1000), (-500, 2000, 5, 1), (1000, 1000, 1000, 1000)])
    for size in ((1, 1), (3, 500), (640, 480)):
        assert draw_boxes(PIL.Image.new("RGB", size), evidence).size == size
    image = corner_image()
    assert draw_boxes(image, Evidence()).tobytes() == image.tobytes()


def test_kinds_of_evidence_are_listed_by_hand_in_few_files():
    """What names all kinds by hand: the table, citations, the answers of the server, the page; and whoever makes evidence of that kind."""
    source = Path(__file__).parents[1] / "src" / "embedrl"
    files = [path for suffix in ("py", "js", "html") for path in source.rglob(f"*.{suffix}")]
    listing = {
        path.relative_to(source).as_posix()
        for path in files
        if all(re.search(rf"\b{kind.name}\b", path.read_text("utf-8")) for kind in EVIDENCE_KINDS)
    }
    makers = {"testing.py", "world/annotator.py", "world/crowded/side.py"}
    drawing = {"reports/cards.py", "server/page/card.js"}
    page = {"server/page/evidence.js", "server/page/strings.js"}
    assert listing - makers - drawing - page == {"data/evidence_kinds.py", "index/answer.py", "server/schemas.py"}
    assert {kind.name for kind in EVIDENCE_KINDS} == set(Verification.model_fields) - {"num_unread"}
    assert {kind.name for kind in EVIDENCE_KINDS} == set(Evidence.model_fields) - {"box_images", "num_frames", "num_unread"}
