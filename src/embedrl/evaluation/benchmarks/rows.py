"""Rows of a dataset repository as it was downloaded: Parquet, or JSON Lines or arrays (plain or gzip), in the files that its card names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from embedrl.data.sources.parquet import read_parquet
from embedrl.data.sources.row import RowError
from embedrl.data.sources.row_file import stem_of
from embedrl.data.sources.stream import read_json
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.card import card_files
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.source import Source

SUFFIXES = ("parquet", "jsonl", "json", "jsonl.gz", "json.gz")
_SHOWN = 200
"""Characters of the names of a row's columns that are told."""
_PIECE = re.compile(r"-(\d+)-of-(\d+)$")


def row_files(folder: Path, config: str, split: str, published: str = "") -> list[Path]:
    """Return the files of one configuration and split, in order; none if they are not there.

    They are those that the repository's card names; else those of the pattern `published`, in which `{config}` stands for the
    configuration; else `<config>/<split>-*`, `<config>/<split>.*`, the same in `data/`, or `<config>.*` (without a config: `<split>…`).
    Raises ConfigError for a card that cannot be used.
    """
    if (named := card_files(folder, config, split)) is not None:
        return named
    if published and (files := sorted(folder.glob(published.format(config=config)))):
        return files
    homes = [folder / config, folder / "data" / config] if config else [folder, folder / "data"]
    for home in homes:
        for suffix in SUFFIXES:
            if pieces := sorted(path for path in home.glob(f"{split}-*.{suffix}") if _PIECE.search(stem_of(path))):
                return pieces
            if (whole := home / f"{split}.{suffix}").is_file():
                return [whole]
    return next(
        ([path] for home in homes for suffix in SUFFIXES if config and (path := home.with_name(f"{home.name}.{suffix}")).is_file()), []
    )


def _respelt(path: Path, spellings: Mapping[str, Sequence[str]]) -> Iterator[Any]:
    """Yield the rows of a JSON file, with the values of other spellings under the names of their columns."""
    for row in read_json(path):
        if isinstance(row, dict):
            values = {name: [row[spelt] for spelt in (name, *others) if row.get(spelt) is not None] for name, others in spellings.items()}
            row |= {name: spelt[0] for name, spelt in values.items() if spelt}
        yield row


def columns_of(row: Mapping[str, Any]) -> str:
    """Return the names of a row's columns, to be shown beside those that it lacks."""
    return ", ".join(row)[:_SHOWN] or "nothing"


def rows_folder(source: Source, data: Path) -> Path:
    """Return where a dataset's repository lies, under its name or another one it is published under."""
    folders = [data / name for name in (source.rows, *source.also)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def list_of(row: Mapping[str, Any], column: str) -> list[Any]:
    """Return the list in a column. Raises TypeError if there is no list: a text would be one of letters."""
    if not isinstance(row[column], list | tuple):
        raise TypeError(f"{column} is {str(row[column])[:60]!r}, where there should be a list")
    return list(row[column])


def read_rows(
    source: Source,
    data: Path,
    inspection: Inspection,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    config: str | None = None,
    spellings: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a dataset with their numbers from 1; what is missing or broken is reported.

    A column that is published under other names is found by these `spellings`, too.
    """
    configs = (source.config if config is None else config).split() or [""]
    rows = _all_rows(source, data, inspection, required, optional, configs, spellings)
    yield from islice(rows, source.max_rows)


def _all_rows(
    source: Source,
    data: Path,
    inspection: Inspection,
    required: Sequence[str],
    optional: Sequence[str],
    configs: Sequence[str],
    spellings: Mapping[str, Sequence[str]],
) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for config in configs:
        folder = rows_folder(source, data)
        try:
            files = row_files(folder, config, source.split, source.published)
        except ConfigError as error:
            inspection.report(source.name, str(error))
            continue
        if not files:
            where, names = str(folder / config), " or ".join((source.rows, *source.also))
            inspection.report(source.name, f"no file of the split {source.split!r} in {where!r}; download the dataset {names} there")
        elif (piece := _PIECE.search(stem_of(files[0]))) and len(files) != int(piece[2]):
            inspection.report(source.name, f"{len(files)} of {piece[2]} pieces in {str(files[0].parent)!r}; download the others")
        for path in files:
            try:
                for row in read_parquet(path, required, optional, spellings) if path.suffix == ".parquet" else _respelt(path, spellings):
                    number += row.num_rows if isinstance(row, RowError) else 1
                    if isinstance(row, RowError):
                        inspection.report(source.name, f"{str(path)!r}: {row}; download it again", number)
                    elif not isinstance(row, dict) or (missing := [name for name in required if row.get(name) is None]):
                        lacks = f"has no {', '.join(missing)}, only {columns_of(row)}" if isinstance(row, dict) else "is no JSON object"
                        inspection.report(source.name, f"{str(path)!r}: the row {lacks}; download it again", number)
                    else:
                        inspection.row = number
                        yield number, {"_subset": config, **row}
            except ConfigError as error:
                if not inspection.gather:
                    raise ConfigError(f"{source.name}: {error}") from error
                inspection.report(source.name, str(error))
