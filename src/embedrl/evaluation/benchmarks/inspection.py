"""Problems in a benchmark's files: raised at once for a score, gathered for `embedrl doctor`."""

from typing import NamedTuple, TypeVar

from embedrl.errors import ConfigError

Id = TypeVar("Id", str, str | int)


class Problem(NamedTuple):
    """One thing that is wrong."""

    dataset: str
    row: int | None
    """From 1, in the order of the dataset's files; None if it is no row's fault."""
    what: str
    """With the fix."""

    def __str__(self) -> str:
        return f"{self.dataset}{f', row {self.row}' if self.row else ''}: {self.what}"


class Inspection:
    """Takes problems: raises the first as ConfigError, or gathers them all."""

    def __init__(self, *, gather: bool = False) -> None:
        self.gather = gather
        self.problems: list[Problem] = []

    def report(self, dataset: str, what: str, row: int | None = None) -> None:
        """Say what is wrong. Raises ConfigError unless problems are gathered."""
        problem = Problem(dataset, row, what)
        if not self.gather:
            raise ConfigError(str(problem))
        self.problems.append(problem)

    def is_first(self, rows: dict[Id, int], name: Id, dataset: str, part: str, row: int) -> bool:
        """Note the row of an id of a file in `rows`; report it and return False if it stood in a row before."""
        if (first := rows.setdefault(name, row)) == row:
            return True
        self.report(dataset, f"{part}: the id {name!r} stands in row {first} too; download it again", row)
        return False
