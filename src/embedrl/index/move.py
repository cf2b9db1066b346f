"""Move an index table between its folder and object storage; a killed move is resumed."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from embedrl.errors import ConfigError, StoreError
from embedrl.index.approximate import read_searching
from embedrl.index.index import Index, open_table
from embedrl.index.location import IndexLocation, find_home, save_location


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
    there = _target(find_home(source), target)
    index = Index.open(source)
    home, old = index.home, index.table
    if home.uri == there:
        if home.directory is not None and home.is_remote:
            open_table(str(home.directory), None).drop()  # what a killed move left
        raise ConfigError(f"{source!r}: its table lies at {there!r} already")
    lock = None if home.directory is None else index.writing()
    try:
        old.add_columns()
        new = open_table(there, old.identity)
        if not new.is_there(arriving=True):
            new.create(is_shared=old.is_shared, arriving_from=home.uri)
        elif new.arriving_from != home.uri and new.checksum() != old.checksum():  # else it was killed just before its end
            raise ConfigError(f"{target!r}: there is an index already; give another place")
        new.copy_from(old, on_progress)
        counted, copied = old.checksum(), new.checksum()
        if counted != copied:
            raise StoreError(f"{target!r}: the copy ({copied[0]} rows) differs from the source ({counted[0]}); nothing was deleted")
        new.arrived()
        if (names := old.model_names) is not None and names != new.model_names:
            new.keep_model_names(names)
        settled = IndexLocation(directory=home.directory, uri=there, shelf=home.shelf)
        Index(settled, None, read_searching(old.settings, home.uri).policy).finish()
        if home.directory is not None:
            save_location(settled)
        old.drop()
        return Moved(source=home.uri, target=there, num_rows=counted[0], checksum=counted[1])
    finally:
        if lock is not None:
            lock.release()


def _target(home: IndexLocation, target: str) -> str:
    """Return the place that is meant. Raises ConfigError for a folder that is not the index's own."""
    wanted = find_home(target)
    if wanted.directory is None:
        return wanted.uri
    if wanted.directory != home.directory:
        raise ConfigError(
            f"{target!r}: a table comes back to the folder it was made for: give it as source and as target. "
            "(An index that lies in its folder moves with it.)"
        )
    if home.shelf:
        raise ConfigError(f"{target!r}: its table is shared with other folders, and stays in object storage")
    return str(home.directory)
