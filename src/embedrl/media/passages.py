"""Passages of a long text: cut at headings, paragraphs and sentences, of a length in tokens, with an overlap, by character offsets."""

import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

_HEADING = re.compile(r"^(?:#{1,6}[ \t]+\S|[^\n]{1,200}\n(?:={3,}|-{3,})[ \t]*$)", re.MULTILINE)
_LEVELS = (
    re.compile(r"\n[ \t]*\n\s*"),  # paragraphs
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])"),  # sentences
    re.compile(r"\s+"),
)
"""What a text is cut behind, the coarsest first."""
_PARAGRAPH, _SENTENCE = _LEVELS[0], _LEVELS[2]
_ENOUGH = 0.5
"""A passage that is filled by this fraction ends before a heading, or before one in two paragraphs, chosen by what stands in them: an edit
then moves the ends of the passages around it, and not of all that follow."""


CHARS_PER_TOKEN = 4
"""Estimated length of a token where there is no tokenizer: that of English."""


@dataclass(frozen=True)
class TextMeasure:
    """How a model measures texts, and how much of one it reads."""

    token_ends: Callable[[str], Sequence[int]] | None = None
    """Returns where each token of a text ends, in characters, rising. None: no tokenizer is here, and tokens are estimated."""
    max_tokens: int | None = None
    max_chars: int | None = None
    """What it reads of a text; None: no such limit."""


IN_CHARACTERS = TextMeasure()


@dataclass(frozen=True)
class PassageLength:
    """Greatest length of a passage, with its overlap."""

    tokens: int
    chars: int
    overlap_tokens: int = 0


class _Ruler:
    """Measures spans of one text; a length of 1 is that of a passage without its overlap."""

    def __init__(self, text: str, length: PassageLength, token_ends: Callable[[str], Sequence[int]] | None) -> None:
        estimated = CHARS_PER_TOKEN * length.tokens
        self.max_chars, self.max_tokens = (length.chars if token_ends else min(length.chars, estimated)), length.tokens
        self.overlap_chars, self.overlap_tokens = self.max_chars * length.overlap_tokens // length.tokens, length.overlap_tokens
        self._ends = range(CHARS_PER_TOKEN, len(text) + CHARS_PER_TOKEN, CHARS_PER_TOKEN) if token_ends is None else token_ends(text)

    def _token(self, position: int) -> int:
        """Return the number of tokens that end there or before."""
        return bisect_right(self._ends, position)

    def length(self, start: int, end: int) -> float:
        """Return the length of a span, in passages."""
        num_tokens = self._token(end) - self._token(start)
        return max(num_tokens / (self.max_tokens - self.overlap_tokens), (end - start) / (self.max_chars - self.overlap_chars))

    def fits(self, start: int, end: int) -> bool:
        """Return whether a span may be a passage, if it has no overlap."""
        return end - start <= self.max_chars and self._token(end) - self._token(start) <= self.max_tokens

    def reach(self, start: int) -> int:
        """Return the last end of a span of length 1, of one character at least."""
        number = self._token(start) + self.max_tokens - self.overlap_tokens
        end = self._ends[number - 1] if number <= len(self._ends) else start + self.max_chars
        return max(min(end, start + self.max_chars - self.overlap_chars), start + 1)

    def overlap_from(self, start: int, end: int) -> int:
        """Return where an overlap before a passage may begin: so far that both fit."""
        number = max(self._token(start) - self.overlap_tokens, self._token(end) - self.max_tokens)
        return max(start - self.overlap_chars, end - self.max_chars, self._ends[number - 1] if number > 0 else 0)


def passages(text: str, length: PassageLength, token_ends: Callable[[str], Sequence[int]] | None = None) -> list[tuple[int, int]]:
    """Return the (start, end) of each passage, in characters: at most `length` long, without white space at its ends.

    Each begins with the last whole sentences of the one before, `overlap_tokens` at most, unless it begins with a heading. A text that
    is short enough is one passage, as it is. Only passages in which something stands are returned. Tokens are those of `token_ends`,
    of which a passage may have a few more when it stands alone (its first word has lost its space); without it, they are estimated.
    """
    ruler = _Ruler(text, length, token_ends)
    if ruler.fits(0, len(text)):
        return [(0, len(text))] if text.strip() else []
    spans = []
    for start, end in pairwise(_ends(text, ruler)):
        written = text[start:end]
        if written.strip():
            start, end = start + len(written) - len(written.lstrip()), end - len(written) + len(written.rstrip())
            earliest = max(ruler.overlap_from(start, end), spans[-1][0] + 1 if spans else start)
            spans.append((_with_overlap(text, start, earliest), end))
    return spans


def _ends(text: str, ruler: _Ruler) -> Iterator[int]:
    """Yield where passages begin, and the end of the text."""
    headings = {match.start() for match in _HEADING.finditer(text)}
    blocks = sorted({0, len(text), *headings, *(match.end() for match in _PARAGRAPH.finditer(text))})
    start = 0
    yield start
    for block, block_end in pairwise(blocks):
        is_border = block in headings or _is_chosen(text[block:block_end])
        is_full = ruler.length(start, block_end) > 1
        if (
            block > start
            and (is_border or is_full)
            and (ruler.length(start, block) >= _ENOUGH or (is_full and ruler.fits(block, block_end)))
        ):
            start = block
            yield start
        if ruler.length(start, block_end) <= 1 or (start == block and ruler.fits(block, block_end)):
            continue
        piece = block
        for piece_end in _cuts(text, block, block_end, ruler, 1):
            if piece > start and ruler.length(start, piece_end) > _share(ruler.length(start, block_end)):
                start = piece
                yield start
            piece = piece_end
    yield len(text)


def _share(length: float) -> float:
    """Return how long the next of the passages of a span is: full, but for the last two, which are alike, so that none is a few words."""
    return 1.0 if length > 2 else length / ceil(length)


def _cuts(text: str, start: int, end: int, ruler: _Ruler, level: int) -> list[int]:
    """Return the ends of pieces that fit: of the whole, or of what the first level that cuts it makes of it."""
    if ruler.length(start, end) <= 1:
        return [end]
    ends: list[int] = []
    if level == len(_LEVELS):
        while (border := ruler.reach(ends[-1] if ends else start)) < end:
            ends.append(border)
        return [*ends, end]
    for border in (*(match.end() for match in _LEVELS[level].finditer(text, start, end) if start < match.end() < end), end):
        ends += _cuts(text, ends[-1] if ends else start, border, ruler, level + 1)
    return ends


def _is_chosen(block: str) -> bool:
    return zlib.crc32(block.strip().encode("utf-8", "replace")) % 2 == 0


def _with_overlap(text: str, start: int, earliest: int) -> int:
    """Return where a passage begins with the whole sentences that stand before it."""
    if earliest >= start or _HEADING.match(text, start):
        return start
    borders = (match.end() for match in _SENTENCE.finditer(text, earliest - 1, start) if earliest <= match.end() < start)
    return next((border for border in borders if not text[border].isspace()), start)
