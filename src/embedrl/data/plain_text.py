"""Text that any later layer can hold: well-formed Unicode, without special tokens, without the tags of a T-CoT."""

import re
from collections.abc import Iterable

from embedrl.media.content import well_formed

SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,64}\|>|<emb>|</?(?:tool_call|tool_response|think)>")
"""Added tokens of the Qwen3-VL family and ours: never allowed to reach a chat template from text."""

TAG = re.compile(r"<(?P<close>/?)\s*(?P<name>thinking|rethink(?:ing)?|answer)\s*>", re.IGNORECASE)
"""Opens or closes a section of a T-CoT."""
THOUGHT = re.compile(
    r"<(?P<close>/?)\s*(?:seed:)?(?:think|thoughts?|reason|reasoning|analysis|reflection|scratchpad)(?:\s[^<>]{0,80})?>"
    r"|\[(?P<close_bracket>/?)think\]|◁(?P<close_triangle>/?)think▷"
    r"|<\|(?:begin_of_thought|start_thinking|(?P<close_token>end_of_thought|end_thinking))\|>"
    r"|<\|channel\|>\s*(?:analysis|(?P<close_channel>final))\s*<\|message\|>",
    re.IGNORECASE,
)
"""Opens or closes what a model thinks before it answers, in the spellings of several families."""

_LOOKALIKES = {"<": "‹", "[": "⟦", "{": "⦃", "＜": "‹"}
"""What the first character of a special token becomes; no normalisation makes it the same again."""


def special_tokens(added: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of a tokenizer's added tokens beside `SPECIAL_TOKEN`."""
    escaped = [re.escape(token) for token in sorted(added, key=len, reverse=True)]
    return re.compile("|".join([SPECIAL_TOKEN.pattern, *escaped]))


def neutralise(text: str, special: re.Pattern[str] = SPECIAL_TOKEN) -> str:
    """Return the text with every special token broken up, so that a tokenizer reads plain characters, and well formed."""
    text = well_formed(text)
    while special.search(text):
        text = special.sub(lambda match: _broken(match.group()), text)
    return text


def _broken(token: str) -> str:
    first, rest = token[0], token[1:]
    return _LOOKALIKES[first] + rest if first in _LOOKALIKES else f"{first} {rest}" if rest else " "


def plain(text: str) -> str:
    """Return the text without tags of T-CoTs and of thinking, without special tokens, and with single spaces; twice is as good as once."""
    while True:
        cleaned = " ".join(neutralise(THOUGHT.sub(" ", TAG.sub(" ", text))).split())
        if cleaned == text:
            return text
        text = cleaned  # what is taken out may have kept two halves of a tag apart
