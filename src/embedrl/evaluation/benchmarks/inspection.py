"""Problems in benchmark files: raised at once when scoring, collected for `embedrl doctor`."""

from typing import NamedTuple, TypeVar

from embedrl.errors import ConfigError

Id = TypeVar("Id", str, str | int)


class Problem(NamedTuple):
    """One problem of a benchmark file."""

    dataset: str
    row: int | None
    """1-based row in the order of the dataset's files; None if not about a row."""
    what: str
    """With the fix."""

    def __str__(self) -> str:
        return f"{self.dataset}{f', row {self.row}' if self.row else ''}: {self.what}"


class Inspection:
    """Problem sink: raises the first as ConfigError, or collects them all."""

    def __init__(self, *, gather: bool = False) -> None:
        self.gather = gather
        self.problems: list[Problem] = []
        self.row: int | None = None
        """Row that is being read."""

    def report(self, dataset: str, what: str, row: int | None = None) -> None:
        """Report a problem. Raises ConfigError unless problems are collected."""
        problem = Problem(dataset, row, what)
        if not self.gather:
            raise ConfigError(str(problem))
        self.problems.append(problem)

    def is_first(self, rows: dict[Id, int], name: Id, dataset: str, part: str, row: int) -> bool:
        """Record the row of an id in `rows`; report a duplicate and return False."""
        if (first := rows.setdefault(name, row)) == row:
            return True
        self.report(dataset, f"{part}: the id {name!r} stands in row {first} too; download it again", row)
        return False
