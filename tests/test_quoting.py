"""Keywords are quotes of the item's text, whatever the scores want; everything else is left to the model."""

import json
import random
import re

import pytest
import torch

from embedrl.reasoner.keyword_copy import KeywordCopyConstraint
from tests.conftest import nano_processor

TEXTS = (
    "a large red star at the top left, a small blue ring",
    'she said "stop" \\ and\n\tleft [1] {2} ]',
    "größere Straße — 東京 🌟 star",
    "x",
)


def _write(text: str, wish: str, *, seed: int = 0) -> str:
    """Write what a model would under the processor that wants to write `wish`, and then anything."""
    tokenizer = nano_processor().tokenizer
    rng = random.Random(seed)
    wanted = tokenizer(wish, add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    ordinary = [index for index in range(len(tokenizer)) if index not in added]
    quoting = KeywordCopyConstraint(tokenizer, [text], prompt_length=1)
    ids = [0]
    for step in range(60):
        scores = torch.full((1, len(tokenizer)), -torch.inf)
        scores[0, ordinary] = torch.tensor([rng.random() for _ in ordinary])
        if step < len(wanted):
            scores[0, wanted[step]] = 2.0
        chosen = int(quoting(torch.tensor([ids]), scores)[0].argmax())
        ids.append(chosen)
    return tokenizer.decode(ids[1:])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_wanted_keywords_stand_in_the_text(text: str, seed: int) -> None:
    written = _write(text, '{"text_keywords": ["', seed=seed)
    listed = written.split('{"text_keywords": [', 1)[1]
    if closed := re.match(r'"(?:\\.|[^"\\])*"', listed):
        keyword = json.loads(closed.group())
        assert keyword
        assert keyword in " ".join(text.split())


def test_a_quote_that_is_wanted_is_written_and_a_wrong_one_is_mended() -> None:
    text = "rice table: oslo 30, paris 55"
    right = '{"text_keywords": ["oslo 30", "paris 55"]} so'
    assert _write(text, right).startswith(right)
    mended = _write(text, '{"text_keywords": ["oslo 55"]}')
    assert mended.startswith('{"text_keywords": ["oslo ')
    assert "oslo 55" not in mended


def test_a_second_list_is_held_to_the_text_too() -> None:
    first = '{"text_keywords": ["oslo 30"]} and '
    written = _write("rice table: oslo 30, paris 55", first + '{"text_keywords": ["rome"]}')
    assert written.startswith(first + '{"text_keywords": ["')
    assert "rome" not in written


def test_an_item_without_a_text_is_left_alone() -> None:
    wish = '{"text_keywords": ["anything", ""]}'
    assert _write("", wish).startswith(wish)


def test_only_keywords_are_held_to_the_text() -> None:
    wish = '{"bbox_2d": [[1, 2, 3, 4]]} "not there" {"text_keywords": []} "nor this"'
    assert _write("a ring", wish).startswith(wish)


def test_an_id_that_the_tokenizer_does_not_know_is_nothing() -> None:
    """Full-size models have more rows than their tokenizers have tokens."""
    tokenizer = nano_processor().tokenizer
    quoting = KeywordCopyConstraint(tokenizer, ["a ring"], prompt_length=1)
    scores = torch.zeros(1, len(tokenizer) + 8)
    assert quoting(torch.tensor([[0, len(tokenizer) + 3]]), scores.clone()).equal(scores)
