"""Streaming reader of Parquet rows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedrl.data.sources.row import ProblemKind, RowError
from embedrl.data.sources.row_file import required_file
from embedrl.errors import ConfigError

BATCH_ROWS = 16
"""Number of rows held in memory; a row may hold a page of some megabytes."""


def read_parquet(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), spellings: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Iterator[dict[str, Any] | RowError]:
    """Yield rows with the named columns, which may have other `spellings`. A block that cannot be read costs its rows only: a RowError.

    Raises ConfigError for what is no Parquet file, or has not the required columns.
    """
    try:
        file = pq.ParquetFile(required_file(path))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{str(path)!r}: is not a Parquet file, or is damaged ({error})") from error
    with file:
        present = file.schema_arrow.names
        column_of = {
            name: next((spelt for spelt in (name, *spellings.get(name, ())) if spelt in present), "") for name in (*required, *optional)
        }
        if missing := sorted(name for name in required if not column_of[name]):
            raise ConfigError(f"{str(path)!r}: has no column {', '.join(missing)}, only {', '.join(present)}; choose the source that fits")
        columns = [name for name in present if name in column_of.values()]
        for group in range(file.num_row_groups):
            num_left = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                    for row in _rows(batch):
                        yield row if isinstance(row, RowError) else {name: row[column] for name, column in column_of.items() if column}
                        num_left -= 1
            except (OSError, pa.ArrowException) as error:
                yield RowError(ProblemKind.UNREADABLE, f"{num_left} rows from here on cannot be read ({error})", num_left)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any] | RowError]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [RowError(ProblemKind.UNREADABLE, "is not UTF-8")]
        return [row for number in range(len(batch)) for row in _rows(batch.slice(number, 1))]
