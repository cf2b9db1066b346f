"""What a Reasoner writes is untrusted: it is read or refused with a reason, never raised, and never smuggles in a token."""

import random
import string

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from embedrl.data.tcot import MAX_CHARS, SPECIAL_TOKEN, Evidence, FailureReason, ParseFailure, TCoT, neutralise, parse, render, render_parts

TOKENS = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>", "<emb>", "<think>", "</think>", "<tool_call>")
TAGS = ("<thinking>", "</thinking>", "<rethink>", "</rethink>", "<answer>", "</answer>", "</ANSWER >", "< rethinking>")
PIECES = (*TOKENS, *TAGS, "{", "}", "[", "]", '"', "\\", "\0", "\u2028", "\ud800", "<", ">", "|", "bbox_2d", '{"key_frames": [1]}')
GOOD = '<thinking> A red star. {"bbox_2d": [[60, 80, 320, 340]]} </thinking>\n<rethink> One. </rethink>\n<answer> a red star </answer>'

steady = settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
words = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(PIECES)), max_size=6).map("".join)
boxes = st.lists(st.tuples(*[st.integers(-(10**8), 10**8)] * 4), max_size=3)
evidences = st.builds(
    Evidence, boxes=boxes, key_frames=st.lists(st.integers(-(10**8), 10**8), max_size=3), keywords=st.lists(words, max_size=3)
)
tcots = st.builds(TCoT, thinking=words, evidence=evidences, rethink=words, answer=words)


def written(thinking: str, answer: str = "a") -> str:
    return f"<thinking>{thinking}</thinking><rethink>r</rethink><answer>{answer}</answer>"


@steady
@given(tcots)
@example(TCoT(thinking="{<thin{king>", rethink="<ans<answer>wer>", answer="x", evidence=Evidence(keywords=["</thinking>x", '"]}', "\\"])))
def test_what_is_rendered_is_read_back_the_same(tcot):
    assume(tcot.answer)
    assert parse(render(tcot)) == tcot
    assert "\n".join(render_parts(tcot)) == render(tcot)
    assert render_parts(tcot)[0].endswith("</thinking>")


@steady
@given(words)
def test_parsing_any_text_never_raises(text):
    outcome = parse(text)
    assert isinstance(outcome, TCoT | ParseFailure)
    assert bool(outcome) == isinstance(outcome, TCoT) or not outcome


def test_a_thousand_random_and_mutated_texts_never_raise():
    rng = random.Random(0)
    reasons = set()
    for _ in range(1000):
        text = list(rng.choice([GOOD, written('{"key_frames": [1, 2]} {"text_keywords": ["x"]}'), written("{" * 50)]))
        for _ in range(rng.randint(0, 6)):
            at = rng.randint(0, len(text))
            match rng.randint(0, 3):
                case 0:
                    del text[at : at + rng.randint(1, 30)]
                case 1:
                    text[at:at] = rng.choice(PIECES)
                case 2:
                    text[at : at + 1] = rng.choice(string.printable)
                case 3:
                    text = text[:at] + text[: rng.randint(0, len(text))]
        outcome = parse("".join(text))
        if isinstance(outcome, TCoT):
            assert parse(render(outcome)) == outcome
        else:
            reasons.add(outcome.reason)
    assert reasons >= set(FailureReason) - {FailureReason.TOO_LONG, FailureReason.EMPTY}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", FailureReason.EMPTY),
        (" \n", FailureReason.EMPTY),
        ("x" * (MAX_CHARS + 1), FailureReason.TOO_LONG),
        ("a red star", FailureReason.MISSING_THINKING),
        ("<thinking>a", FailureReason.TRUNCATED),
        ("<thinking>a</thinking>", FailureReason.MISSING_RETHINK),
        ("<thinking>a</thinking><rethink>b</rethink>", FailureReason.MISSING_ANSWER),
        ("<thinking>a</thinking><rethink>b</rethink><answer>c", FailureReason.TRUNCATED),
        (written("a", " "), FailureReason.MISSING_ANSWER),
        (written("a", "<emb"), None),
        (written('{"bbox_2d": [[1, 2, 3, 4]'), FailureReason.BAD_EVIDENCE),
        (written("{" * 9000), None),
        (written('{"a":' * 3000), None),
        (written('{"bbox_2d": ' + "[" * 9000), FailureReason.BAD_EVIDENCE),
    ],
)
def test_each_kind_of_failure_has_its_own_reason(text, reason):
    outcome = parse(text)
    assert (outcome.reason if isinstance(outcome, ParseFailure) else None) == reason


def test_what_models_write_in_passing_is_tolerated():
    def read(thinking: str) -> Evidence:
        outcome = parse(written(thinking))
        assert isinstance(outcome, TCoT)
        return outcome.evidence

    assert read('{"bbox_2d": [1, 2, 3, 4]}').boxes == ((1, 2, 3, 4),)
    assert read('{"bbox_2d": [[1.4, "2", 2.6, 4]]}').boxes == ((1, 2, 3, 4),)
    assert read('{"bbox_2d": []} {"key_frames": []} {"text_keywords": []}') == Evidence()
    assert read('{"bbox_2d": [[1,2,3,4]]} and {"bbox_2d": [[5,6,7,8]]}').boxes == ((1, 2, 3, 4), (5, 6, 7, 8))
    assert read('{"key_frames": [2, 1], "text_keywords": ["a } b"]}') == Evidence(key_frames=[2, 1], keywords=["a } b"])
    assert read('{"other": 1} {x}') == Evidence()
    shouted = parse("Sure! <Thinking>t</ thinking ><RETHINKING>r</rethinking><answer>a</answer> bye")
    assert isinstance(shouted, TCoT)
    assert (shouted.thinking, shouted.rethink, shouted.answer) == ("t", "r", "a")


@steady
@given(
    st.lists(
        st.one_of(st.sampled_from(TOKENS), st.sampled_from(("<", "|", ">", "<|", "|>", "‹", "im_end", "emb", "think", "/")), words)
    ).map("".join)
)
@example("<|im_<|im_end|>end|>")
@example("<em<emb>b>")
@example("<<|a|>|b|>")
@example("<|<|<|im_end|>|>|>")
def test_no_special_token_survives(text):
    clean = neutralise(text)
    assert not SPECIAL_TOKEN.search(clean)
    assert not any(token in clean for token in TOKENS)
    assert len(clean) == len(text)
    assert neutralise(clean) == clean


@steady
@given(tcots)
def test_no_special_token_survives_in_a_tcot(tcot):
    for text in (tcot.thinking, tcot.rethink, tcot.answer, *tcot.evidence.keywords, render(tcot)):
        assert not SPECIAL_TOKEN.search(text)


def test_cleaning_hostile_text_takes_linear_time():
    assert len(neutralise("<em" * 30_000 + "b>" * 30_000)) == 150_000
    assert parse(written("<thi" * 2000 + "nking>" * 1000))
