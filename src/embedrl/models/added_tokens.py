"""Added tokens of tokenizers, which untrusted text must never contain.

A chat template writes the parts of a message without anything between, so parts are joined before tokens are broken up; which tokens
there are is read from the tokenizer, not from a list. `check_added_tokens` holds the result: the ids of a prompt have the added tokens
of its template and of our own wording, and no others.
"""

import re
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from embedrl.data.tcot import neutralise, special_tokens
from embedrl.errors import ModelError

MIN_PLAIN_CHARS = 3
"""An added token that is not special is broken up from this length on, if it holds more than letters, digits and blanks."""


class AddedTokens(NamedTuple):
    """Added tokens of a tokenizer with a meaning for its model: special tokens and markup."""

    pattern: re.Pattern[str]
    """Pattern of them and of the Qwen3-VL family's."""
    names: dict[int, str]
    """Token id -> token."""


_known: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, AddedTokens]]" = WeakKeyDictionary()
_reading = threading.Lock()


def added_tokens(processor: ProcessorMixin) -> AddedTokens:
    """Return the added tokens of a processor's tokenizer."""
    tokenizer = processor.tokenizer
    with _reading:
        size, tokens = _known.get(tokenizer, (-1, None))
        if tokens is None or size != len(tokenizer):  # it may have learned tokens since
            names = {
                index: token.content
                for index, token in tokenizer.added_tokens_decoder.items()
                if token.content.strip(" \t\r\n▁") and (token.special or _is_markup(token.content))
            }
            tokens = AddedTokens(special_tokens(names.values()), names)
            _known[tokenizer] = len(tokenizer), tokens
        return tokens


def _is_markup(token: str) -> bool:
    return len(token) >= MIN_PLAIN_CHARS and any(not (char.isalnum() or char.isspace() or char in "▁_-") for char in token)


def seal(messages: Sequence[dict[str, Any]], pattern: re.Pattern[str]) -> list[dict[str, Any]]:
    """Return chat messages with adjacent text parts joined and all added tokens broken up."""
    return [{**message, "content": _sealed(message["content"], pattern)} for message in messages]


def _sealed(content: str | Sequence[dict[str, Any]], pattern: re.Pattern[str]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return neutralise(content, pattern)
    joined: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1] = {**part, "text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return [{**part, "text": neutralise(part["text"], pattern)} if part["type"] == "text" else part for part in joined]


def skeleton(messages: Sequence[dict[str, Any]], own: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return chat messages with our own wording only: `own` holds what of each text part is ours, None that nothing is."""
    ours = iter(own or ())

    def bare(content: str | Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return f"x{next(ours, '')}x"
        return [{**part, "text": f"x{next(ours, '')}x"} if part["type"] == "text" else part for part in content]

    return [{**message, "content": bare(message["content"])} for message in messages]


def check_added_tokens(processor: ProcessorMixin, prompts: Sequence[str], skeletons: Sequence[str]) -> None:
    """Hold prompts to the added tokens of their skeletons, each rendered by the chat template, media still placeholders.

    Raises ModelError for a prompt with another one: part of its text would be read as a turn, an image or an end.
    """
    names = added_tokens(processor).names
    tokenizer = processor.tokenizer
    ids = tokenizer([*prompts, *skeletons], add_special_tokens=False)["input_ids"] if prompts else []
    counts = [Counter(index for index in row if index in names) for row in ids]
    for prompt, bare in zip(counts[: len(prompts)], counts[len(prompts) :], strict=True):
        if prompt != bare:
            wrong = sorted({names[index] for index in (prompt - bare) | (bare - prompt)})
            raise ModelError(f"a text is read as {', '.join(map(repr, wrong))} by the model's tokenizer: take that out of it")
