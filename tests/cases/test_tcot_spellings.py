"""What real models write around and inside a T-CoT: read as meant, or dropped and listed; never raised, never taken for something else.

Reported in the cases of models that think first (vllm-project/vllm#26239, #34684), of endless digits (deepseek-ai/DeepSeek-VL2#96), and of
labels and doubled boxes (QwenLM/Qwen3-VL#2020, #1916).
"""

import json
import random
import string

import pytest

from embedrl.annotate.rules import ungrounded
from embedrl.data.evidence import verify
from embedrl.data.plain_text import plain
from embedrl.data.reasoning import read_answer, read_bare_answer
from embedrl.data.records import read_outcome, write_outcome
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, Reading, TCoT, parse, read, render
from embedrl.media.content import Text

BOX = '{"bbox_2d": [[60, 80, 320, 340]]}'
GOOD = f"<thinking> A red star. {BOX} </thinking>\n<rethink> One. </rethink>\n<answer> a red star </answer>"
DRAFT = "I must write <thinking> then <rethink> then <answer>. Maybe " + GOOD.replace("A red star.", "a cat").replace("a red star", "a cat")


def written(thinking: str, rethink: str = "r", answer: str = "a") -> str:
    return f"<thinking>{thinking}</thinking><rethink>{rethink}</rethink><answer>{answer}</answer>"


def read_tcot(text: str) -> tuple[TCoT, Reading]:
    reading = read(text)
    assert isinstance(reading.outcome, TCoT), reading
    assert parse(render(reading.outcome)) == reading.outcome
    return reading.outcome, reading


OPENED = [
    "<think>{}</think>",
    "<think>\n<think>{}</think>\n</think>",
    "<thought>{}</thought>",
    "<thoughts>{}</thoughts>",
    "[THINK]{}[/THINK]",
]
OPENED += ["<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>", '<think lang="en">{}</think>']
OPENED += ["<|begin_of_thought|>{}<|end_of_thought|>", "<|START_THINKING|>{}<|END_THINKING|>", "<analysis>{}</analysis>"]
OPENED += ["<reasoning>{}</reasoning>", "<THINK>{}</ think >", "◁think▷{}◁/think▷", "<seed:think>{}</seed:think>"]
UNOPENED = ["{}</think>", "{}</thought>", "{}[/THINK]", "{} I close it with </think>.\n</think>", "<think> one </think> two {} </think>"]


@pytest.mark.parametrize("block", [*OPENED, *UNOPENED])
@pytest.mark.parametrize("draft", ["", "hm", DRAFT, GOOD.replace("star", "cat"), "<thinking>", "<answer>", "the tag <think> opens it"])
def test_what_a_model_thinks_first_is_cut(block: str, draft: str):
    tcot, reading = read_tcot(f"{block.format(draft)}\n\n{GOOD}")
    assert tcot == parse(GOOD)
    assert reading.dropped == ()
    assert reading.repaired == ()


@pytest.mark.parametrize("block", [*OPENED, *UNOPENED, "<think>{}", "[THINK]{}", "<think> a </think> <thought> {}"])
@pytest.mark.parametrize("draft", [DRAFT, GOOD])
def test_a_draft_is_never_the_tcot(block: str, draft: str):
    assert isinstance(parse(block.format(draft)), ParseFailure)


def test_what_is_missing_is_missing_behind_the_thinking():
    reasons = {
        f"<think>{GOOD}": FailureReason.TRUNCATED,
        f"<think>{GOOD}</think>": FailureReason.EMPTY,
        f"<think>{GOOD}</think> a red star": FailureReason.MISSING_THINKING,
        f"{GOOD}</think><thinking> a </thinking>": FailureReason.MISSING_RETHINK,
        f"<think>x</think>{GOOD[:-20]}": FailureReason.TRUNCATED,
    }
    assert {text: getattr(parse(text), "reason", None) for text in reasons} == reasons


def test_the_last_complete_tcot_counts():
    other = GOOD.replace("star", "ring")
    for text in (f"{GOOD}\n{other}", f"{GOOD} No, wait. {other} Done.", f"{DRAFT} {other}", f"Format: {DRAFT[:50]}\n{other}"):
        assert read_tcot(text)[0] == parse(other), text
    for text in (f"{other}\n<thinking> more", f"{other}<thinking>a</thinking><rethink>b</rethink><answer> </answer>", f"{other} <think>"):
        assert read_tcot(text)[0] == parse(other), text


@pytest.mark.parametrize(
    "thinking",
    [
        f"<thinking> A red star. {BOX}",
        f"A red star. I put it in <answer> tags. {BOX}",
        f"A red star. I write <thinking>, <rethink> and <answer>. {BOX}",
        f"A red star. {BOX} I close it with </thinking> now.",
        f"A red star. The tag <think> comes {BOX} before </think>.",
        f"A red star. {BOX} The tag <think> comes first.",
    ],
)
def test_tags_named_inside_a_section_do_not_end_it(thinking: str):
    tcot, reading = read_tcot(f"<thinking> {thinking} </thinking>\n<rethink> One, no <answer>. </rethink>\n<answer> a red star </answer>")
    assert tcot.evidence.boxes == ((60, 80, 320, 340),)
    assert "A red star." in tcot.thinking
    assert (tcot.rethink, tcot.answer) == ("One, no .", "a red star")
    assert not reading.dropped


@pytest.mark.parametrize(
    ("plain_tag", "tag"), [("<", "< "), ("</", "< /"), ("<", "＜"), (">", "＞"), ("</", "＜／"), ("<answer", '<answer lang="en"')]
)
def test_spellings_of_tags(plain_tag: str, tag: str):
    """A tag with blanks, attributes or in full width is a tag, and no words of a section."""
    assert read_tcot(GOOD.replace(plain_tag, tag))[0] == parse(GOOD)


def test_the_fence_around_evidence_goes_with_it():
    assert read_tcot(written(f"A star. ```json\n{BOX}\n``` So."))[0].thinking == "A star. So."
    assert read_tcot(written(f"Marked ```x = 1``` there. {BOX}"))[0].thinking == "Marked ```x = 1``` there."


def test_doubled_tags_are_single_ones():
    doubled = (
        GOOD.replace("<thinking>", "<thinking><thinking>")
        .replace("<answer>", "<answer> <answer>")
        .replace("</answer>", "</answer></answer>")
    )
    assert read_tcot(doubled)[0] == parse(GOOD)


FRAMES, WORDS = Evidence(key_frames=(3,)), Evidence(keywords=("coin",))
ONE = Evidence(boxes=((60, 80, 320, 340),))
SECOND = Evidence(boxes=ONE.boxes, box_images=(2,))
TWO = Evidence(boxes=((60, 80, 320, 340), (1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ('{"label": "star", "bbox_2d": [60, 80, 320, 340]}', ONE),
        ('{"bbox_2d": [60, 80, 320, 340], "label": "star"}', ONE),
        ('{"evidence": {"bbox_2d": [[60, 80, 320, 340]]}}', ONE),
        ('{"objects": [{"bbox_2d": [60, 80, 320, 340], "label": "star"}, {"bbox_2d": [1, 2, 3, 4]}]}', TWO),
        ('[{"bbox_2d": [60, 80, 320, 340], "label": "star"}, {"label": "b", "bbox_2d": [1, 2, 3, 4]}]', TWO),
        ('{"bbox_2d": [60, 80, 320, 340], "bbox_2d": [[1, 2, 3, 4]]}', TWO),
        ('```json\n[\n  {"bbox_2d": [60, 80, 320, 340]}\n]\n```', ONE),
        ('{"a": {"b": [{"c": {"text_keywords": ["coin"]}}]}, "key_frames": [3]}', Evidence(key_frames=(3,), keywords=("coin",))),
        ('(see {"other": 1}) {"key_frames": [3]}', FRAMES),
        ('{x} {"key_frames": [3]}', FRAMES),
    ],
)
def test_evidence_in_any_order_and_depth_is_read(evidence: str, expected: Evidence):
    tcot, reading = read_tcot(written(f"A star. {evidence} So."))
    assert tcot.evidence == expected
    assert (reading.repaired, reading.dropped) == ((), ())
    assert "A star." in tcot.thinking
    assert tcot.thinking.count("star") == 1 + evidence.count("star"), "labels are words of the thinking"


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ('{"text_keywords": ["coin", 1913]}', Evidence(keywords=("coin", "1913"))),
        ('{"text_keywords": [19.130, "coin"]}', Evidence(keywords=("19.130", "coin"))),
        ('{"text_keywords": "coin"}', WORDS),
        ('{"text_keywords": 1913}', Evidence(keywords=("1913",))),
        ('{"key_frames": 3}', FRAMES),
        ('{"key_frames": "3"}', FRAMES),
        ('{"key_frames": ["3"]}', FRAMES),
        ('{"bbox_2d": null, "key_frames": [3]}', FRAMES),
        ('{"bbox_2d": ["60", "80", "320", "340"]}', ONE),
        ("{'bbox_2d': [60, 80, 320, 340]}", ONE),
        ("{'label': 'the child\\'s star', 'bbox_2d': [60, 80, 320, 340]}", ONE),
        ("{'label': 'the child's star', 'bbox_2d': [60, 80, 320, 340]}", ONE),
        ('{"label": "star", "bbox_2d": [60, 80, 320, 340],}', ONE),
        ('{"bbox_2d": [[60, 80, 320, 340,],],}', ONE),
        ("{“bbox_2d”: [[60, 80, 320, 340]]}", ONE),
        ("{‘key_frames’: [3]}", FRAMES),
        ("{“text_keywords”: [“coin”]}", WORDS),
        ("{bbox_2d: [60, 80, 320, 340]}", ONE),
        ('{"bbox_2d": [(60, 80, 320, 340)]}', ONE),
        ('{"bbox_2d": [60 80 320 340]}', ONE),
        ('{"bbox_2d": [60, 80, 320, 340] "label": "star"}', ONE),
        ('{"bbox_2d": [60, 80, 320, 340], "sure": True, "why": None}', ONE),
        ('{"bbox_2d": [[60, 80, 320, 340]]', ONE),
        ('{"evidence": [{"bbox_2d": [60, 80, 320, 340],},],}', ONE),
        ('{"BBox_2D": [60, 80, 320, 340]}', ONE),
        ('{"bbox\\_2d": [60, 80, 320, 340]}', ONE),
        ('{"bbox_2d": "60, 80, 320, 340"}', ONE),
        ('{"bbox_2d": "[60 80 320 340]"}', ONE),
        ('{"bbox_2d": [[[60, 80, 320, 340], [1, 2, 3, 4]]]}', TWO),
        ('{"bbox_2d": [[60, 80], [320, 340]]}', ONE),
        ('{"bbox_2d": {"x1": 60, "y1": 80, "x2": 320, "y2": 340}}', ONE),
        ('{"bbox_2d": [[60, 80, 320, 340], null]}', ONE),
        ('{"bbox_2d" [[60, 80, 320, 340]]}', ONE),
        ("{bbox_2d [60, 80, 320, 340]}", ONE),
        ('{"bbox_2d"：[[60，80，320，340]]}', ONE),
        ('{"bbox_2d": [[60; 80; 320; 340]]}', ONE),
        ('{"bbox_2d": [[060, 80., +320, 340]]}', ONE),
        ('{"key_frames": [[3]]}', FRAMES),
        ('{"key_frame": [3]}', FRAMES),
        ("{'bbox_2d': [60, 80, 320, 340]} and {\"bbox_2d\": [1, 2, 3, 4]}", TWO),
        ('｛"bbox_2d"：［６０，８０，３２０，３４０］｝', ONE),
        ("{「text_keywords」: [「coin」]}", WORDS),
        ('{"bbox-2d": [60, 80, 320, 340]}', ONE),
        ('{"key frames": [3]}', FRAMES),
        ('{"text-keywords": ["coin"]}', WORDS),
        ('{"bbox_2d": ["60,80,320,340", "1，2，3，4"]}', TWO),
        ('{"bbox_2d": [[[60, 80], [320, 340]], [[1, 2], [3, 4]]]}', TWO),
        ('{"bbox_2d": [[0.06, 0.08, 0.32, 0.34]]}', ONE),
        ('{"bbox_2d": [[0, 0.08, 1.02, 0.34]]}', Evidence(boxes=((0, 80, 1020, 340),))),
        ('{"bbox_2d": [[-0.01, 0.08, 0.32, 1]]}', Evidence(boxes=((-10, 80, 320, 1000),))),
        ('{"key_frames": ["Frame 3"]}', FRAMES),
        ('{"bbox": [[60, 80, 320, 340]]}', ONE),
        ('{"bbox": [60, 80, 320, 340], "label": "star"}', ONE),
        ('{"bbox_2d": [[60, 80, 320, 340]], "bbox": [[1, 2, 3, 4]]}', TWO),
        ('{"bbox_2d": [[0, 0, 1, 1]]}', Evidence(boxes=((0, 0, 1000, 1000),))),
        ('{"bbox": [0, 0, 1, 1]}', Evidence(boxes=((0, 0, 1000, 1000),))),
        ('{"bbox_2d": [[0, 0, 1, 1], [0.06, 0.08, 0.32, 0.34]]}', Evidence(boxes=((0, 0, 1000, 1000), (60, 80, 320, 340)))),
        ('{"bbox_2d": [[0.0, 0.0, 1.0, 1.0]]}', Evidence(boxes=((0, 0, 1000, 1000),))),
        ('{"bbox_2d": [[60, 80, 320, 340]], "image": "2"}', SECOND),
        ('{"image": 2.0, "bbox_2d": [[60, 80, 320, 340]]}', SECOND),
        ('{"bbox_2d": [[60, 80, 320, 340]], "image": "Image 2"}', SECOND),
        ('{"bbox_2d": [60, 80, 320, 340], "image": "picture #2"}', SECOND),
    ],
)
def test_evidence_that_is_clear_is_read_and_counted_as_repaired(evidence: str, expected: Evidence):
    tcot, reading = read_tcot(written(f"A star. {evidence}"))
    assert tcot.evidence == expected
    assert reading.repaired
    assert not reading.dropped


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ('{"bbox_2d": [[60, 80, 320, 340, 5], [60, 80, 320, 340]]}', ONE),
        ('{"bbox_2d": [[60, 80, 320, 340], ["top", "left", "of", "it"]]}', ONE),
        ('{"bbox_2d": [60, 80, 320]}', Evidence()),
        ('{"bbox_2d": "top left"}', Evidence()),
        ('{"bbox_2d": {"a": 1}}', Evidence()),
        ('{"bbox_2d": [1, 2, 3, NaN]}', Evidence()),
        ('{"bbox_2d": [1, 2, 3, 1e999]}', Evidence()),
        ('{"bbox_2d": [1, 2, 3, -Infinity]}', Evidence()),
        ('{"key_frames": [true, 3]}', FRAMES),
        ('{"key_frames": [[3, 4], [5]]}', Evidence()),
        ('{"key_frames": ["third"]}', Evidence()),
        ('{"text_keywords": [{"a": "b"}, "coin"]}', WORDS),
        ('{"text_keywords": [false, "coin"]}', WORDS),
        ('"bbox_2d": [60, 80, 320, 340]', Evidence()),
        ("bbox_2d = [60, 80, 320, 340]", Evidence()),
        ('"bbox": [60, 80, 320, 340]', Evidence()),
        ("bbox_2d:\n  - [60, 80, 320, 340]", Evidence()),
        ('{"key_frames": [3, 2.5]}', FRAMES),
        ('{"key_frames": [3, "00:12"]}', FRAMES),
        ("{&quot;bbox_2d&quot;: [60, 80, 320, 340]}", Evidence()),
        ('{"key_frames": [3]} and text_keywords: ["coin"]', FRAMES),
        *[
            (f'{{"bbox_2d": [[60, 80, 320, 340]], "image": {image}, "key_frames": [3]}}', FRAMES)
            for image in ("-1", "1.5", "true", "[1]", "1e400", "99999")
        ],
        *[(f'{{"bbox_2d": [[1, 2, 3, {"9" * count}]], "key_frames": [3]}}', FRAMES) for count in (10, 309, 310, 4300, 4301, 15000)],
        *[(f'{{"key_frames": [3, {"1" * count}]}}', FRAMES) for count in (10, 309, 4301, 15000)],
        *[(f"{{'bbox_2d': [1, 2, 3, {'9' * count}], 'key_frames': [3]}}", FRAMES) for count in (309, 4301)],
    ],
)
def test_a_piece_that_cannot_be_read_is_dropped_and_listed_and_nothing_else_is(evidence: str, expected: Evidence):
    for text in (written(f"A star. {evidence} So."), written(evidence)) if evidence[:2] != "{&" else (written(f"A star. {evidence} So."),):
        tcot, reading = read_tcot(text)
        assert tcot.evidence == expected
        assert tcot.answer == "a"
        assert len(reading.dropped) == evidence.count("], [5") + 1
        assert len(reading.dropped[0]) < 100


@pytest.mark.parametrize("image", ['"a photo"', '"star.jpg"', "null", "{}", '"2024-01-01"'])
def test_what_describes_an_image_is_no_number_of_one(image: str):
    tcot, reading = read_tcot(written(f'A star. {{"image": {image}, "bbox_2d": [[60, 80, 320, 340]]}}'))
    assert tcot.evidence == ONE
    assert not reading.dropped
    tcot, _ = read_tcot(written('A star. {"image": {"bbox_2d": [[60, 80, 320, 340]]}}'))
    assert tcot.evidence == ONE


@pytest.mark.parametrize("blank", ["\u200b", "\u200b\u200d \ufeff", "\u202e\u202c", "\x00", "\u2060\xad", "\x1b"])
def test_what_nobody_sees_is_no_answer_and_no_keyword(blank: str):
    failure = parse(written("A star.", answer=blank))
    assert isinstance(failure, ParseFailure)
    assert failure.reason == FailureReason.MISSING_ANSWER
    tcot, _ = read_tcot(written(f'A star. {{"text_keywords": ["coin", "{blank}"]}}', answer=f"a{blank}b"))
    assert tcot.evidence == WORDS
    made = TCoT(thinking=blank, rethink=blank, answer=blank)
    assert (made.thinking, made.rethink, made.answer) == ("", "", "")


@pytest.mark.parametrize("answer", ["\U0001fae9", "\U000e0fff", "\ue000", "a\x1b"])
def test_a_sign_newer_than_the_table_of_unicode_is_an_answer(answer: str):
    tcot, _ = read_tcot(written("A star.", answer=answer))
    assert tcot.answer == answer


@pytest.mark.parametrize(
    "evidence", ['{"bbox_2d": [[1, 2, 3, 4]', '{"label": "star", "bbox_2d": [60, 80', "{'key_frames': [", '{"bbox_2d": ' + "[" * 9000]
)
def test_evidence_that_is_cut_off_is_listed_and_the_rest_stays(evidence: str):
    tcot, reading = read_tcot(written(f"A star. {evidence}"))
    assert tcot.thinking.startswith("A star.")
    assert len(reading.dropped) == 1
    alone = read(written(evidence))
    assert isinstance(alone.outcome, ParseFailure)
    assert alone.outcome.reason == FailureReason.BAD_EVIDENCE
    assert len(alone.dropped) == 1


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (f"<thinking> A star. </thinking> {BOX} <rethink> r </rethink><answer> a </answer>", 1),
        (written("A star.", rethink=f"It is {BOX}."), 0),
        (written("A star.", answer=f"a star {BOX}"), 0),
        (f"{BOX} {written('A star.')}", 0),
        (f"{written('A star.')} {BOX}", 0),
    ],
)
def test_evidence_elsewhere_is_read_or_listed(text: str, boxes: int):
    tcot, reading = read_tcot(text)
    assert len(tcot.evidence.boxes) == boxes
    assert bool(reading.repaired) == bool(boxes)
    assert bool(reading.dropped) == (not boxes)


@pytest.mark.parametrize(
    "text", ["</think 340<emb>", "<think" + " " * 100 + "x>", "<ans<emb>wer>", "<th<think>ink>", "<|im_<answer>end|>", "\ud83d<emb>"]
)
def test_cleaning_twice_is_cleaning_once(text: str):
    built = TCoT(thinking=text, rethink=text, answer=f"a {text}", evidence=Evidence(keywords=(text,)))
    assert parse(render(built)) == built
    assert plain(plain(text)) == plain(text)


def test_half_a_character_is_replaced_once_and_for_all():
    for text in ("half \ud83d of it", "\udc00", "a \ud83d\ude00 b"):
        tcot, reading = read_tcot(written(f"{text} {BOX}", text, f"a {text}"))
        assert reading.repaired == ("half a character",)
        tcot.model_dump_json().encode()
        json.dumps(write_outcome(tcot), ensure_ascii=False).encode()
        assert read_outcome(write_outcome(tcot)) == tcot
        json.dumps(write_outcome(parse(text)), ensure_ascii=False).encode()
    for keyword in ('{"text_keywords": ["\\ud83d"]}', "{'text_keywords': ['\\ud83d']}"):
        assert read_tcot(written(keyword))[0].evidence.keywords == ("\ufffd",)
    assert read_tcot(written('{"text_keywords": ["\\ud83d\\ude00"]}'))[0].evidence.keywords == ("\U0001f600",)
    built = TCoT(thinking="\ud83d", rethink="\ud83d", answer="\ud83d", evidence=Evidence(keywords=("\ud83d",)))
    render(built).encode()


ENDS = ("<|im_end|>", "<|im_end|>\n<|endoftext|>", " <|eot_id|> ", "</s>", "<end_of_turn>\n")


@pytest.mark.parametrize("end", ENDS)
def test_the_token_that_ends_a_turn_is_no_part_of_an_answer_and_closes_it(end: str):
    """Servers that show special tokens: the answer held `‹|im_end|>`, or counted as cut short."""
    assert read(f"{GOOD}{end}") == read(GOOD)
    for text in (GOOD.replace(" </answer>", f"{end}</answer>"), GOOD.replace(" </answer>", end)):
        tcot, reading = read_tcot(text)
        assert tcot == parse(GOOD)
        assert reading.repaired == ("an answer that the token of its turn's end closes",)
    bare = read_bare_answer(f"**Answer:** a red star{end}", is_cut=False)
    assert isinstance(bare, TCoT)
    assert bare.answer == "a red star"


def test_a_token_elsewhere_closes_nothing():
    texts = {
        GOOD.replace(" </answer>", ""): FailureReason.TRUNCATED,
        GOOD.replace(" a red star </answer>", "<|im_end|>"): FailureReason.TRUNCATED,
        GOOD.replace(" </answer>", "<|im_end|> and"): FailureReason.TRUNCATED,
        GOOD[: GOOD.index("</rethink>")] + "<|im_end|>": FailureReason.TRUNCATED,
        "<|im_end|>": FailureReason.EMPTY,
    }
    assert {text: getattr(parse(text), "reason", None) for text in texts} == texts
    kept = parse(GOOD.replace(" a red star ", " the words <|im_end|> on a sign "))
    assert isinstance(kept, TCoT)
    assert kept.answer == "the words ‹|im_end|> on a sign"


def test_prose_is_not_evidence():
    for thinking in (
        "Key frames: 3 and 5.",
        "keyframes: 3",
        "the bbox_2d says more than text_keywords do",
        "bbox_2d: none",
        "{x} {y}",
        "a bbox",
        '{"bbox_3d": [1, 2]}',
    ):
        tcot, reading = read_tcot(written(thinking))
        assert (reading.repaired, reading.dropped) == ((), ())
        assert tcot.evidence == Evidence()


def test_what_was_dropped_is_known_wherever_the_tcot_goes():
    """It holds no more than evidence that fails does: for the filter, the figures of an evaluation, the index and the reward."""
    text = written('A star. {"text_keywords": ["a", {"b": 1}]}')
    item = Item(content=(Text(text="a"),), role=Role.TARGET_TEXT)
    tcot = read_answer(text, is_cut=False, num_frames=8)
    assert isinstance(tcot, TCoT)
    assert tcot.evidence.num_unread == 1
    assert not verify(tcot.evidence, item, None).valid
    assert verify(parse(render(tcot)).evidence, item, None).valid
    assert read_outcome(write_outcome(tcot)) == tcot
    assert ungrounded("target", item, tcot, 8) == "the target: 1 that cannot be read"


HOSTILE = (
    "{" * 9000,
    '{"a":' * 3000 + BOX,
    '{"' * 9000 + BOX,
    "{'" * 9000 + "bbox_2d",
    "[{" * 9000 + BOX,
    '{"bbox_2d":[' * 1500,
    "{a:'" * 4500 + BOX,
)
HOSTILE += (
    "<thinking>" * 1900,
    "<think>" * 2800,
    "</think>" * 2400,
    "<thinking><rethink><answer>" * 700,
    "<answer>" * 2400,
    "{bbox_2d:" * 2000,
)
HOSTILE += (BOX[:-1] * 600, "{'bbox_2d': '" * 1400, '{"x": "bbox_2d" ' * 1200)


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: body[:12])
def test_hostile_text_is_read_within_steps_that_its_length_bounds(body: str):
    for text in (body, written(body), f"{body}{GOOD}"):
        assert isinstance(parse(text[:19_900]), TCoT | ParseFailure)


PIECES = [
    *(
        "<thinking>",
        "</thinking>",
        "<rethink>",
        "</rethink>",
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "[THINK]",
        "[/THINK]",
        "<thought>",
    ),
    *(
        '{"bbox_2d": [1, 2, 3, 4]}',
        '{"key_frames": [1]}',
        '{"text_keywords": ["a"]}',
        "{'bbox_2d': [[",
        "]]}",
        "bbox_2d",
        "key_frames",
        ": ",
        ", ",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        '"',
        "'",
        "“",
        "’",
        "\\",
        "\\ud83d",
        "\ud83d",
        "\0",
        "null",
        "true",
        "NaN",
        "1e999",
        "9" * 400,
        "-",
        "label",
        "```json",
        "```",
        "｛",
        "］",
        "「",
        "＜answer＞",
        '<answer lang="en">',
        "0.5",
    ),
    *(
        " ",
        "\n",
        " " * 90,
        "a red star",
        "<think a=",
        "<th",
        "ink>",
        "<ans",
        "wer>",
        "<|im_end|>",
        "<emb>",
        "</ANSWER >",
        "<rethinking>",
        "◁think▷",
        "\u2028",
        "İ",
        "x" * 50,
    ),
]


def mutated(rng: random.Random) -> str:
    """Make a text out of good ones, spoiled, or out of pieces."""
    if rng.random() < 0.3:
        return "".join(rng.choices(PIECES, k=rng.randint(0, 40)))
    text = rng.choice(
        [
            GOOD,
            f"<think>{DRAFT}</think>{GOOD}",
            written('a {"text_keywords": ["［x｝", "b"]} c'),
            written(f"a {BOX} b", "c", "d"),
            written("{'key_frames': [1, 2,], 'label': 'x'}"),
        ]
    )
    for _ in range(rng.randint(1, 8)):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        match rng.randint(0, 4):
            case 0:
                text = text[:at] + text[min(end, at + 20) :]
            case 1:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 2:
                text = text[:at] + rng.choice(string.printable) + text[at + 1 :]
            case 3:
                text = text[:end] + text[at:]
            case 4:
                text = text[:at] + "".join(rng.sample(text[at:end], end - at))[:30] + text[end:]
    return text


def attack(num: int, seed: int) -> int:
    """Read so many texts; return how many were T-CoTs. Raises at the first text that breaks a promise, naming it."""
    rng = random.Random(seed)
    num_tcots = 0
    for number in range(num):
        text = mutated(rng)
        try:
            reading = read(text)
            outcome = reading.outcome
            if isinstance(outcome, TCoT):
                num_tcots += 1
                rendered = render(outcome)
                rendered.encode()
                again = read(rendered)
                assert reading.dropped or not again.dropped, again.dropped
                assert again.outcome == outcome, "it is not read back the same"
                assert not again.repaired, again.repaired
            else:
                outcome.text.encode()
        except Exception as error:
            raise AssertionError(f"text {number} of seed {seed}: {text!r}") from error
    return num_tcots


def test_spoiled_texts_break_no_promise():
    assert attack(3_000, seed=0) > 300


if __name__ == "__main__":
    import sys

    num, seed = int(sys.argv[1]), int(sys.argv[2])
    sys.stdout.write(f"{num} texts of seed {seed}: {attack(num, seed)} T-CoTs, no exception\n")
