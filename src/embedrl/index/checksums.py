"""Row checksums, stored beside the table, and the integrity check of an index: journals, files, rows.

LanceDB notices no flipped bit in a vector or a text. A row is noted before it is committed, with what was noted before: a kill in
between leaves a row that fits one of the two.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrl.data.records import Records
from embedrl.errors import StoreError
from embedrl.index.index import Index
from embedrl.index.location import CHECKSUMS
from embedrl.index.row import ADDED_COLUMNS, ADDED_ROW_TEXTS, ADDED_TEXTS, Row, shown, write_row


def row_checksum(row: Row) -> str:
    """Return the checksum of a row (SHA-256, 32 hex digits)."""
    checksum = hashlib.sha256()
    for name, value in sorted(write_row(row).items()):
        if (name in ADDED_COLUMNS and value is None) or (name in ADDED_TEXTS + ADDED_ROW_TEXTS and value == ""):
            continue  # as it was noted before there was such a column
        plain = np.asarray(value, dtype="<f4").tobytes() if isinstance(value, np.ndarray) else value
        checksum.update(f"{name}={plain!r};".encode("utf-8", "surrogatepass"))
    return checksum.hexdigest()[:32]


def note_rows(checksums: Records, rows: Sequence[Row]) -> None:
    """Store the checksums of rows before they are committed."""
    noted = {row.place.id: checksums.get(row.place.id) or [] for row in rows}
    checksums.put_many({row.place.id: [row_checksum(row), *noted[row.place.id][:1]] for row in rows})


def forget_rows(checksums: Records, ids: Sequence[str]) -> None:
    """Delete the checksums of removed rows; compact the file when half of it is stale."""
    checksums.drop_many(ids)
    if checksums.num_stale > max(100, len(checksums)):
        checksums.compact()


@dataclass(frozen=True)
class IndexCheck:
    """Result of an integrity check of an index."""

    num_rows: int
    num_unnoted: int
    """Rows without a checksum: of an older version, or moved from elsewhere."""
    damaged_rows: tuple[str, ...]
    """Places whose row does not match its checksum."""
    damaged_lines: dict[str, int]
    """Damaged lines of each journal."""
    damaged_files: tuple[str, ...]
    """Truncated files of the table."""
    error: str | None
    """Error of reading the table; None if it can be read."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.damaged_rows or any(self.damaged_lines.values()) or self.damaged_files or self.error)


def check_index(folder: Path) -> IndexCheck:
    """Read a whole index and verify its checksums. Raises StoreError if there is no index."""
    index = Index.open(folder)
    damaged_lines, num_rows, num_unnoted = {}, 0, 0
    for path in sorted(index.directory.glob("*.jsonl")):
        with Records(path) as records:
            damaged_lines[path.name] = records.num_damaged
    damaged: Counter[str] = Counter()
    error = None
    with Records(index.directory / CHECKSUMS) as checksums:
        try:
            for row in index.table.scan_rows():
                num_rows += 1
                noted = checksums.get(row.place.id)
                num_unnoted += noted is None
                if noted is not None and row_checksum(row) not in noted:
                    damaged[shown(row.place.path)] += 1
        except StoreError as caught:
            error = str(caught)
        except (ValueError, TypeError) as caught:  # a row that no longer has the shape of one
            error = f"a row cannot be read ({caught})"
    files = index.table.folder.damaged_files() if index.table.folder else []
    return IndexCheck(num_rows, num_unnoted, tuple(sorted(damaged)), damaged_lines, tuple(path.name for path in files), error)
