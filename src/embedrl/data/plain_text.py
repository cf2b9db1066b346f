"""Sanitised text: well-formed Unicode without special tokens and T-CoT tags."""

import re
import unicodedata
from collections.abc import Iterable

from embedrl.media.content import well_formed

SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,64}\|>|<emb>|</?(?:tool_call|tool_response|think)>")
"""Added tokens of the Qwen3-VL family and ours: never allowed to reach a chat template from text."""

TAG = re.compile(
    r"[<＜]\s{0,9}(?P<close>[/／]?)\s*(?P<name>thinking|rethink(?:ing)?|answer)(?:\s+[\w:-]{1,20}\s*=[^<>＜＞]{0,80})?\s*[>＞]",
    re.IGNORECASE,
)
"""Opening or closing tag of a T-CoT section, also with attributes, blanks or in full width."""
THOUGHT = re.compile(
    r"<(?P<close>/?)\s*(?:seed:)?(?:think|thoughts?|reason|reasoning|analysis|reflection|scratchpad)(?:\s[^<>]{0,80})?>"
    r"|\[(?P<close_bracket>/?)think\]|◁(?P<close_triangle>/?)think▷"
    r"|<\|(?:begin_of_thought|start_thinking|(?P<close_token>end_of_thought|end_thinking))\|>"
    r"|<\|channel\|>\s*(?:analysis|(?P<close_channel>final))\s*<\|message\|>",
    re.IGNORECASE,
)
"""Opening or closing tag of a model's own thinking, in the spellings of several families."""

_END = re.compile(r"\s*(?:<\|(?:im_end|endoftext|end_of_text|end|eot_id|eom_id)\|>|</s>|<eos>|<end_of_turn>)\Z", re.IGNORECASE)
_MAX_END_CHARS = 24

_LOOKALIKES = {"<": "‹", "[": "⟦", "{": "⦃", "＜": "‹"}
"""What the first character of a special token becomes; no normalisation makes it the same again."""

_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Categories of control and zero-width characters and of white space (Cn, unassigned, may be an emoji newer than Python's table)."""


def special_tokens(added: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of `SPECIAL_TOKEN` and a tokenizer's added tokens."""
    escaped = [re.escape(token) for token in sorted(added, key=len, reverse=True)]
    return re.compile("|".join([SPECIAL_TOKEN.pattern, *escaped]))


def neutralise(text: str, special: re.Pattern[str] = SPECIAL_TOKEN) -> str:
    """Break up special tokens, so that a tokenizer reads them as plain characters; the result is well-formed Unicode."""
    text = well_formed(text)
    while special.search(text):
        text = special.sub(lambda match: _broken(match.group()), text)
    return text


def _broken(token: str) -> str:
    first, rest = token[0], token[1:]
    return _LOOKALIKES[first] + rest if first in _LOOKALIKES else f"{first} {rest}" if rest else " "


def without_end(text: str) -> str:
    """Remove the tokens that end a model's turn from the end of its text, where a server did not."""
    while match := _END.search(text := text.rstrip(), max(0, len(text) - _MAX_END_CHARS)):
        text = text[: match.start()]
    return text


def plain(text: str) -> str:
    """Remove T-CoT and thinking tags and special tokens, and collapse white space; empty if nothing visible is left. Idempotent."""
    while True:
        cleaned = " ".join(neutralise(THOUGHT.sub(" ", TAG.sub(" ", text))).split())
        if cleaned == text:
            return "" if all(unicodedata.category(character) in _INVISIBLE for character in text) else text
        text = cleaned  # what is taken out may have kept two halves of a tag apart
