"""Random access to the pairs of a JSON Lines file.

Only the places of the lines are held, and which pairs have hard negatives.
"""

import gzip
import json
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from embedrl.data.sample import Pair
from embedrl.data.sources.lines import read_line
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.row import AnnotatedPair, RowError
from embedrl.data.sources.row_file import open_rows, stem_of
from embedrl.data.sources.stream import MAX_ROW_CHARS
from embedrl.data.tcot import TCoT, tcot_or_none
from embedrl.errors import ConfigError, MediaError


class PairFile:
    """Pairs of one JSON Lines file, such as contrastive.jsonl of `embedrl filter`."""

    def __init__(self, path: Path) -> None:
        """Index the file, plain or packed by gzip. Raises ConfigError, naming the line, for an invalid pair or missing media."""
        self.path = path
        self._media = MediaFolder(path.parent)
        self._places: list[tuple[int, int]] = []
        self.has_tcot = bytearray()
        """By pair: 1 if its target has a T-CoT."""
        self.negatives: dict[int, tuple[str, ...]] = {}
        """Keys of the hard negatives of each pair that has some."""
        self.first_without: tuple[int, str] | None = None
        """The first pair of which a side ("query" or "target") has no T-CoT, and the side."""
        self._with_tcot: dict[str, int] = {}
        self._unpacked: BinaryIO | None = None
        """What a packed file packs, in a temporary file: pairs are read from anywhere."""
        for number, pair in enumerate(self._read_all()):
            missing = [side for side in ("query", "target") if side_tcot(pair, side) is None]
            self.has_tcot.append("target" not in missing)
            if missing and self.first_without is None:
                self.first_without = number, missing[0]
            if pair.negatives:
                self.negatives[number] = tuple(negative.key for negative in pair.negatives)
        self._find_tcots({key for keys in self.negatives.values() for key in keys})

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Pair:
        """Return a pair, with the T-CoTs that its line holds (`AnnotatedPair`)."""
        start, length = self._places[number]
        if self._unpacked is not None:
            return self._parse(os.pread(self._unpacked.fileno(), length, start), number)
        with self.path.open("rb") as file:
            file.seek(start)
            return self._parse(file.read(length), number)

    def tcot_of(self, key: str) -> TCoT | None:
        """Return the T-CoT of a hard negative: that of an equal target of this file, if there is one."""
        number = self._with_tcot.get(key)
        return None if number is None else side_tcot(self[number], "target")

    def knows_tcot(self, key: str) -> bool:
        """Return whether a hard negative has a T-CoT."""
        return key in self._with_tcot

    def _find_tcots(self, wanted: set[str]) -> None:
        """Find the targets with a T-CoT that are hard negatives elsewhere."""
        if wanted:
            for number in range(len(self)):
                if self.has_tcot[number] and (key := self[number].target.key) in wanted:
                    self._with_tcot.setdefault(key, number)

    def _read_all(self) -> Iterator[Pair]:
        """Yield all pairs and note their offsets."""
        start = 0
        with open_rows(self.path) as file:
            if isinstance(file, gzip.GzipFile):
                self._unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
                weakref.finalize(self, self._unpacked.close)
            while line := file.readline(MAX_ROW_CHARS + 1):
                if len(line) > MAX_ROW_CHARS:
                    raise ConfigError(f"{str(self.path)!r}, pair {len(self) + 1}: longer than {MAX_ROW_CHARS} bytes; give each pair a line")
                if self._unpacked is not None:
                    self._unpacked.write(line)
                if line.strip():
                    self._places.append((start, len(line)))
                    yield self._parse(line, len(self._places) - 1)
                start += len(line)
        if self._unpacked is not None:
            self._unpacked.flush()

    def _parse(self, line: bytes, number: int) -> Pair:
        try:
            return read_line(json.loads(line), self._media, default_task=stem_of(self.path))
        except (ValueError, MediaError, RowError, RecursionError) as error:
            raise ConfigError(f"{str(self.path)!r}, pair {number + 1}: {error}") from error


def side_tcot(pair: Pair, side: str) -> TCoT | None:
    """Return the T-CoT of a pair's "query" or "target"; None if it has none, or what was written is none."""
    return tcot_or_none(getattr(pair, f"{side}_tcot")) if isinstance(pair, AnnotatedPair) else None
