"""Constrained decoding of keywords: `text_keywords` can only copy spans of the item's text.

Both sides are compared as the tokenizer writes them, token by token, so that any tokenizer and any script will do.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

_LIST = re.compile(r'"text_keywords"[^\[\]{}"]*\[')
_LONGEST = 32
"""Longer tokens are runs of white space and signs."""
_STRING = re.compile(r'"((?:\\.|[^"\\])*\\?)("?)', re.DOTALL)


class KeywordCopyConstraint(LogitsProcessor):
    """Logits processor that forbids tokens that would misquote the text of their row; rows without a text are unconstrained.

    White space counts as one space, as it does when evidence is verified. Use a new one for each call of `generate`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prompt_length: int = 0) -> None:
        """Take the text of each row, and how many tokens the (left-padded) prompts have, which only `generate` hands over."""
        self.tokenizer, self.prompt_length = tokenizer, prompt_length
        self.vocabulary = _vocabulary(tokenizer)
        self.sources = [_source(tokenizer, text) for text in texts]
        self.written = [""] * len(texts)
        self.cannot_begin: dict[int, list[int]] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores (rows, vocabulary) of the next token; `input_ids` are (rows, prompt_length + tokens written)."""
        if input_ids.shape[1] > self.prompt_length:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                self.take(row, token)
        for row in range(len(self.written)):
            self._hold(row, scores[row])
        return scores

    def take(self, row: int, token: int) -> None:
        """Note a token that was written."""
        self.written[row] += self.tokenizer.convert_ids_to_tokens([token])[0] or ""  # some ids have none

    def likeliest(self, row: int, scores_V: Tensor) -> int:
        """Return the likeliest next token of a row that does not misquote; its scores are changed in place."""
        self._hold(row, scores_V)
        return int(scores_V.argmax())

    def _hold(self, row: int, scores_V: Tensor) -> None:
        """Set the scores of tokens that would misquote to -inf."""
        written = self.written[row]
        lists = [*_LIST.finditer(written)] if self.sources[row].text else []
        keywords, finished = _keywords(written[lists[-1].end() :]) if lists else ([], True)
        if finished:
            return
        if keywords and not keywords[-1][1]:
            allowed = self._going_on(keywords[-1][0], self.sources[row])
            kept = scores_V[allowed]
            scores_V[:] = -torch.inf
            scores_V[allowed] = kept
        else:
            scores_V[self._cannot_begin(row)] = -torch.inf

    def _going_on(self, start: str, source: "_Source") -> list[int]:
        """Return the tokens that continue or end a keyword."""
        longer = (source.text[end : end + length] for end in source.ends(start) for length in range(1, self.vocabulary.longest + 1))
        ending = (
            token
            for before, tokens in self.vocabulary.with_quote.items()
            if before.endswith("\\") or source.holds(start + before, closed=True)
            for token in tokens
            if _says(source, f'"{start}{token}')
        )
        ids = self.vocabulary.ids
        return sorted({ids[token] for token in (*longer, *ending) if token in ids})

    def _cannot_begin(self, row: int) -> list[int]:
        """Return the tokens that would begin a keyword that the text does not say; between two keywords all others may follow."""
        if row not in self.cannot_begin:
            tokens = (token for tokens in self.vocabulary.with_quote.values() for token in tokens)
            self.cannot_begin[row] = [self.vocabulary.ids[token] for token in tokens if not _says(self.sources[row], token)]
        return self.cannot_begin[row]


class _Source(NamedTuple):
    """An item's text as its tokens are spelled, escaped as in JSON, and where its characters begin and end."""

    text: str
    edges: frozenset[int]

    def ends(self, start: str) -> list[int]:
        """Return the end positions of `start` in the text, at character boundaries."""
        positions, place = [], self.text.find(start)
        while place >= 0:
            if place in self.edges:
                positions.append(place + len(start))
            place = self.text.find(start, place + 1)
        return positions

    def holds(self, keyword: str, *, closed: bool) -> bool:
        """Return whether the text contains a keyword; a closed one must be complete and not empty."""
        return any(not closed or (keyword and end in self.edges) for end in self.ends(keyword))


def _says(source: _Source, listed: str) -> bool:
    return all(source.holds(keyword, closed=closed) for keyword, closed in _keywords(listed)[0])


def _source(tokenizer: PreTrainedTokenizerBase, text: str) -> _Source:
    characters = [json.dumps(character, ensure_ascii=False)[1:-1] for character in " ".join(text.split())]
    ids = tokenizer("".join(characters), add_special_tokens=False)["input_ids"]
    spelled = "".join(tokenizer.convert_ids_to_tokens(ids))
    lengths = (len(character.encode("utf-8", "surrogatepass")) for character in characters)  # one letter a byte, in most tokenizers
    edges = [0, *accumulate(lengths)]
    return _Source(spelled, frozenset(edges if edges[-1] == len(spelled) else range(len(spelled) + 1)))


class _Vocabulary(NamedTuple):
    """A tokenizer's ordinary tokens."""

    ids: dict[str, int]
    with_quote: dict[str, list[str]]
    """Those that hold a quotation mark, which may begin or end a keyword, by what stands before it."""
    longest: int
    """Letters of the longest token that is looked for."""


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> _Vocabulary:
    added = tokenizer.added_tokens_decoder  # made anew each time it is asked for
    ids = {token: index for token, index in tokenizer.get_vocab().items() if index not in added}
    with_quote: dict[str, list[str]] = {}
    for token in ids:
        if '"' in token:
            with_quote.setdefault(token.split('"', 1)[0], []).append(token)
    return _Vocabulary(ids, with_quote, min(max(map(len, ids)), _LONGEST))


def _keywords(listed: str) -> tuple[list[tuple[str, bool]], bool]:
    """Parse the text after `[`: ([(keyword, is_closed)], whether the list is closed)."""
    keywords: list[tuple[str, bool]] = []
    place = 0
    for match in _STRING.finditer(listed):
        if "]" in listed[place : match.start()]:
            return keywords, True
        keywords.append((match.group(1), bool(match.group(2))))
        place = match.end()
    return keywords, "]" in listed[place:]
