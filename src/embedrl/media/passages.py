"""Passages of a long text: cut at headings, paragraphs and sentences, with an overlap, by character offsets."""

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise

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
"""A passage that is filled by so much ends before a heading, or before one in two paragraphs, chosen by what stands in them: an edit
then moves the ends of the passages around it, and not of all that follow."""


def passages(text: str, max_chars: int, overlap_chars: int) -> list[tuple[int, int]]:
    """Return the (start, end) of each passage, in characters: at most `max_chars` long, without white space at its ends.

    Each begins with the last whole sentences of the one before, `overlap_chars` at most, unless it begins with a heading. A text that
    is short enough is one passage, as it is. Only passages in which something stands are returned.
    """
    if len(text) <= max_chars:
        return [(0, len(text))] if text.strip() else []
    spans = []
    for start, end in pairwise(_ends(text, max_chars - overlap_chars)):
        written = text[start:end]
        if written.strip():
            start += len(written) - len(written.lstrip())
            earliest = max(start - overlap_chars, spans[-1][0] + 1 if spans else start)
            spans.append((_with_overlap(text, start, earliest), end - len(written) + len(written.rstrip())))
    return spans


def _ends(text: str, max_chars: int) -> Iterator[int]:
    """Yield where passages begin, and the end of the text."""
    headings = {match.start() for match in _HEADING.finditer(text)}
    blocks = sorted({0, len(text), *headings, *(match.end() for match in _PARAGRAPH.finditer(text))})
    start = 0
    yield start
    for block, block_end in pairwise(blocks):
        is_border = block in headings or _is_chosen(text[block:block_end])
        piece = block
        for piece_end in _cuts(text, block, block_end, max_chars, 1):
            is_enough = piece == block and is_border and piece - start >= _ENOUGH * max_chars
            if piece > start and (is_enough or piece_end - start > max_chars):
                start = piece
                yield start
            piece = piece_end
    yield len(text)


def _cuts(text: str, start: int, end: int, max_chars: int, level: int) -> list[int]:
    """Return the ends of pieces of at most `max_chars`: of the whole, or of what the first level that cuts it makes of it."""
    if end - start <= max_chars:
        return [end]
    if level == len(_LEVELS):
        return [*range(start + max_chars, end, max_chars), end]
    ends: list[int] = []
    for border in (*(match.end() for match in _LEVELS[level].finditer(text, start, end) if start < match.end() < end), end):
        ends += _cuts(text, ends[-1] if ends else start, border, max_chars, level + 1)
    return ends


def _is_chosen(block: str) -> bool:
    return zlib.crc32(block.strip().encode("utf-8", "replace")) % 2 == 0


def _with_overlap(text: str, start: int, earliest: int) -> int:
    """Return where a passage begins with the whole sentences that stand before it."""
    if earliest >= start or _HEADING.match(text, start):
        return start
    borders = (match.end() for match in _SENTENCE.finditer(text, earliest - 1, start) if earliest <= match.end() < start)
    return next((border for border in borders if not text[border].isspace()), start)
