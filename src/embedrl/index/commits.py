"""Commits of an ingestion: rows gathered into few writes, their checksums noted before."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from embedrl.data.records import Records
from embedrl.index.checksums import note_rows
from embedrl.index.index import Index
from embedrl.index.row import Row

COMMIT_ROWS = 256
COMMIT_INTERVAL_S = 10.0
"""Rows are committed after COMMIT_ROWS rows or COMMIT_INTERVAL_S seconds: every commit adds files, and costs more the more there
are. T-CoTs are written at once."""
COMPACT_AFTER = 64
"""Number of commits after which the table is compacted first; then whenever their number has doubled."""


class Commits:
    """Rows on their way into an index. `timed` measures what a stage takes."""

    def __init__(self, index: Index, checksums: Records, timed: Callable[[str], AbstractContextManager[None]]) -> None:
        self.index, self.checksums, self.timed = index, checksums, timed
        self.uncommitted: list[Row] = []
        self.committed_s = time.monotonic()
        self.num_commits = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows, and commit if it is time to."""
        self.uncommitted += rows
        if len(self.uncommitted) >= COMMIT_ROWS or time.monotonic() - self.committed_s >= COMMIT_INTERVAL_S:
            self.commit()

    def commit(self) -> None:
        """Write what was taken. Raises StoreError."""
        with self.timed("write"):
            if self.uncommitted:
                note_rows(self.checksums, self.uncommitted)
                self.index.upsert(self.uncommitted)
                self.num_commits += 1
                if self.num_commits in {COMPACT_AFTER * 2**doubling for doubling in range(32)}:
                    self.index.compact()
        self.uncommitted, self.committed_s = [], time.monotonic()
