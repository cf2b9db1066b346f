"""Move the table of an index between its folder and object storage. What was killed on its way is finished by a second call."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embedrl.errors import ConfigError, StoreError
from embedrl.index.home import Home, find_home, is_remote, keep_home
from embedrl.index.index import Index
from embedrl.index.lance import Batch, Table

COMMIT_ROWS = 4096


class Moved(BaseModel):
    """What was moved."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: str
    target: str
    num_rows: int
    """Files and pages; counted at both ends."""
    checksum: str
    """SHA-256 over all rows, in any order; equal at both ends."""


def move(source: str, target: str, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Moved:
    """Move a table: from a folder to object storage, from there back to its folder, or from one place in object storage to another.

    `source` and `target` are the folder, or `s3://bucket/name`. The folder then knows where its table lies. The source is deleted
    only after counts and checksums agree. Raises ConfigError for a move that cannot be, StoreError if something is out of reach or
    the copy differs.
    """
    home = find_home(source)
    there = _target(home, target)
    if home.uri == there:
        _forget_local(home)
        raise ConfigError(f"{source!r}: its table lies at {there!r} already")
    lock = None if home.directory is None else Index.open(source).writing()
    try:
        old, new = Table(home.uri, None), Table(there, None)
        if not old.is_there():
            raise StoreError(f"{source!r}: there is no index here")
        new.wanted = old.identity
        if not new.is_there(arriving=True):
            new.create(is_shared=old.is_shared)
            new.arrive_from(home.uri)
        elif new.arriving_from != home.uri:
            raise ConfigError(f"{target!r}: there is an index already; give another place")
        on_progress(0, len(old))
        for rows in _commits(old):
            new.upsert(rows)
            on_progress(len(new), len(old))
        counted, copied = old.checksum(), new.checksum()
        if counted != copied:
            raise StoreError(f"{target!r}: the copy ({copied[0]} rows) differs from the source ({counted[0]}); nothing was deleted")
        new.arrive_from(None)
        settled = Home(directory=home.directory, uri=there, shelf=home.shelf)
        Index(settled, None).finish()
        if home.directory is not None:
            keep_home(settled)
        old.drop()
        return Moved(source=home.uri, target=there, num_rows=counted[0], checksum=counted[1])
    finally:
        if lock is not None:
            lock.release()


def _target(home: Home, target: str) -> str:
    """Return the place that is meant. Raises ConfigError for a folder that is not the index's own."""
    if is_remote(target):
        return find_home(target).uri
    folder = Path(os.path.realpath(Path(target).expanduser()))
    if home.directory is None or folder != home.base:
        raise ConfigError(
            f"{target!r}: a table comes back to the folder it was made for: give it as source and as target. "
            "(An index that lies in its folder moves with it.)"
        )
    if home.shelf:
        raise ConfigError(f"{target!r}: its table is shared with other folders, and stays in object storage")
    return str(home.directory)


def _forget_local(home: Home) -> None:
    """Delete what a killed move left of the table in the folder."""
    if home.directory is not None and home.is_remote and Table(home.uri, None).is_there():
        Table(str(home.directory), None).drop()


def _commits(table: Table) -> Iterator[list[Batch]]:
    """Yield the rows in portions of one commit each."""
    held: list[Batch] = []
    for batch in table.scan():
        held.append(batch)
        if sum(each.num_rows for each in held) >= COMMIT_ROWS:
            yield held
            held = []
    if held:
        yield held
