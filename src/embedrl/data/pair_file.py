"""Random access to the pairs of a JSON Lines file.

Only the places of the lines are held. Pairs that share a query or a target are one *group*, and a batch takes one pair of a
group at most: two pairs with one target are no negatives of each other.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from embedrl.data.sample import Pair
from embedrl.data.sources.lines import read_line
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.row import RowError
from embedrl.errors import ConfigError, MediaError


class PairFile:
    """The pairs of one file, such as contrastive.jsonl of `embedrl filter`."""

    def __init__(self, path: Path, media_root: Path | None = None) -> None:
        """Read the file once. Raises ConfigError, naming the line, for a line that is no pair or whose media are missing."""
        self.path = path
        self._media = MediaFolder(media_root or path.parent)
        self._places: list[tuple[int, int]] = []
        try:
            self.groups = _groups((pair.query.key, pair.target.key) for pair in self._read_all())
            """Numbers of the pairs of each group."""
        except OSError as error:
            raise ConfigError(f"{str(path)!r}: cannot be read ({error.strerror})") from error

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Pair:
        """Return a pair, with the T-CoTs that its line holds (`AnnotatedPair`)."""
        start, length = self._places[number]
        with self.path.open("rb") as file:
            file.seek(start)
            return self._parse(file.read(length), number)

    def _read_all(self) -> Iterator[Pair]:
        """Yield all pairs and note where they stand."""
        start = 0
        with self.path.open("rb") as file:
            for line in file:
                if line.strip():
                    self._places.append((start, len(line)))
                    yield self._parse(line, len(self._places) - 1)
                start += len(line)

    def _parse(self, line: bytes, number: int) -> Pair:
        try:
            return read_line(json.loads(line), self._media, default_task=self.path.stem)
        except (ValueError, MediaError, RowError) as error:
            raise ConfigError(f"{str(self.path)!r}, pair {number + 1}: {error}") from error


def _groups(keys: Iterable[tuple[str, str]]) -> Sequence[tuple[int, ...]]:
    """Return the numbers of those that share a query or a target, directly or through others, in order."""
    parents: list[int] = []
    first: dict[tuple[str, str], int] = {}

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for number, (query, target) in enumerate(keys):
        parents.append(number)
        for name in (("query", query), ("target", target)):
            other = root(first.setdefault(name, number))
            parents[max(other, root(number))] = min(other, root(number))
    found: dict[int, list[int]] = {}
    for number in range(len(parents)):
        found.setdefault(root(number), []).append(number)
    return [tuple(members) for members in found.values()]
