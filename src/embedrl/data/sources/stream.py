"""Rows of JSON files that are too large to load: one array of rows, or one row after the other, read piece by piece.

A row that is not JSON costs itself only, if rows start on lines of their own: the next row is then found by the indentation.
"""

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Protocol

from embedrl.data.sources.row import ProblemKind, RowError
from embedrl.data.sources.row_file import open_rows

CHUNK_CHARS = 1 << 18
"""Characters per read."""
MAX_ROW_CHARS = 1 << 22
"""A longer row is broken: no caption is as long, but a text without its closing quote is."""

_DECODER = json.JSONDecoder()
_GAP = re.compile(r"[\s,]*")
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_NEAR = 16
"""An error so close to the end of what was read may be a row that is cut there."""


class Readable(Protocol):
    """An open text file."""

    def read(self, size: int, /) -> str:
        """Return at most `count` characters, "" at the end."""
        ...


def read_json(path: Path) -> Iterator[Any]:
    """Yield the rows of a file, plain or gzip, and a RowError for each that is broken. Raises ConfigError if it cannot be read."""
    # What is no UTF-8 becomes surrogates, which tell where it was.
    with open_rows(path) as file, TextIOWrapper(file, "utf-8-sig", "surrogateescape", "") as text:
        yield from stream_rows(text)


def stream_rows(file: Readable, chunk_chars: int = CHUNK_CHARS) -> Iterator[Any]:
    """Yield the rows of an open file, and a RowError for each that is broken, holding little more than one row and one chunk."""
    text = _Text(file, chunk_chars)
    opening = text.skip_gap()
    is_array = text.next_char() == "["
    if is_array:
        text.at += 1
        opening = text.skip_gap()
    _, newline, indentation = opening.rpartition("\n")
    mark = f"\n{indentation}{{" if newline or not is_array else None
    while text.next_char():
        if is_array and text.next_char() == "]":
            text.at += 1
            text.skip_gap()
            if text.next_char():
                yield RowError(ProblemKind.UNREADABLE, "there is something behind the end of the array", num_rows=0)
            return
        value, reason = text.decode()
        if not reason:
            yield value
        elif mark:
            yield RowError(ProblemKind.UNREADABLE, f"is not JSON ({reason})")
            if not text.find(mark):
                return
        else:
            yield RowError(ProblemKind.UNREADABLE, f"is not JSON ({reason}); rows do not start on lines, so those behind it are lost")
            return
        text.skip_gap()
    if is_array:
        yield RowError(ProblemKind.UNREADABLE, "the array is not closed: the file may be cut short", num_rows=0)


class _Text:
    """Sliding window over the text of a file."""

    def __init__(self, file: Readable, chunk_chars: int) -> None:
        self.file, self.chunk_chars = file, chunk_chars
        self.held, self.at, self.at_end = "", 0, False

    def next_char(self) -> str:
        """Return the current character, "" at the end of the file."""
        while self.at == len(self.held) and not self.at_end:
            self._more()
        return self.held[self.at : self.at + 1]

    def skip_gap(self) -> str:
        """Skip white space and commas, and return them."""
        gap = ""
        while self.next_char():
            match = _GAP.match(self.held, self.at)
            assert match is not None
            gap = (gap + match.group())[-CHUNK_CHARS:]  # its end is all that counts
            self.at = match.end()
            if self.at < len(self.held):
                break
        return gap

    def decode(self) -> tuple[Any, str]:
        """Step over the value here; returns it, or the reason why it is none (and stays)."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.held, self.at)
                reason, is_open = "", end == len(self.held)
            except (ValueError, RecursionError) as error:
                value, end = None, self.at
                reason, is_open = self._explain(error)
            if not is_open or self.at_end:
                break
            self._more()
        if _NOT_UTF8.search(self.held, self.at, end):
            value = RowError(ProblemKind.UNREADABLE, "is not UTF-8")
        self.at = end
        return value, reason

    def _explain(self, error: Exception) -> tuple[str, bool]:
        """Return why no value stands here, and whether more of the file could mend it."""
        if len(self.held) - self.at > MAX_ROW_CHARS:
            return f"longer than {MAX_ROW_CHARS} characters", False
        if not isinstance(error, json.JSONDecodeError):
            return str(error), False
        return error.msg, error.msg.startswith("Unterminated string") or error.pos > len(self.held) - _NEAR

    def find(self, mark: str) -> bool:
        """Step to the last character of the next mark; False if there is none."""
        while (place := self.held.find(mark, self.at)) < 0:
            if self.at_end:
                return False
            self.at = max(self.at, len(self.held) - len(mark) + 1)
            self._more()
        self.at = place + len(mark) - 1
        return True

    def _more(self) -> None:
        """Read a chunk and drop consumed text."""
        chunk = self.file.read(self.chunk_chars)
        self.at_end = not chunk
        self.held, self.at = self.held[self.at :] + chunk, 0
