"""Connection to an index's LanceDB table: opening, reads and commits with retries, and errors of damaged tables."""

import errno
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import lancedb

from embedrl.data.vectors import same_embedder
from embedrl.errors import NO_SPACE, StoreError
from embedrl.index.durability import TableFolder
from embedrl.index.location import TABLE_NAME, is_remote

SCHEMA_VERSION = 1
ARRIVING = "embedrl.arriving"
ALL_ROWS = 2**31 - 1
_TRIES = 5
"""A commit that another writer came before is tried again so often; LanceDB itself has tried some times by then."""

T = TypeVar("T")


class Connection:
    """Connection to a table that may not exist yet, may be recreated by others, and may be damaged."""

    def __init__(self, uri: str, wanted: tuple[str, int] | None) -> None:
        """`wanted` is the name and the dimension of the Embedder whose vectors it holds, or None to take what is there."""
        self.uri, self.wanted = uri, wanted
        self._table: lancedb.table.Table | None = None
        self._identity: tuple[str, int] | None = None
        self.folder = None if is_remote(uri) else TableFolder(Path(uri) / f"{TABLE_NAME}.lance")
        self._opened_as: tuple[int, ...] | None = None
        self._admits_arriving = False
        self._versions_before = self._last_version = 0
        """Versions of tables that were deleted since, so that this one's numbers go on from there."""

    def is_there(self, *, arriving: bool = False) -> bool:
        """Open the table if it exists. Raises StoreError if it is damaged or out of reach, or was not made for our Embedder.

        So does one whose rows are still arriving from elsewhere, unless that is allowed.
        """
        arriving = arriving or self._admits_arriving  # whoever opened it so goes on with it
        now = self.folder.identity if self.folder else None
        if self._table is not None and now != self._opened_as:  # deleted, and perhaps made anew
            self._table = self._identity = None
        if self._table is None and (self.folder is None or now is not None):
            try:
                self._table = self._database().open_table(TABLE_NAME)
                self._opened_as = now
                self._check(arriving)
                self._admits_arriving = arriving
                if self._table.version <= self._last_version:
                    self._versions_before += self._last_version
            except BaseException as error:
                self._table = self._identity = None
                if isinstance(error, StoreError) or not is_foreign(error):
                    raise
                if self.folder is None:
                    if "was not found" in str(error):
                        return False
                    raise StoreError(f"{self.uri!r}: cannot be reached or read ({short_message(error)})") from error
                if self.folder.fall_back():
                    return self.is_there(arriving=arriving)
                raise StoreError(f"{self.uri!r}: cannot be opened ({short_message(error)}); {self._remedy}") from error
        return self._table is not None

    @property
    def identity(self) -> tuple[str, int]:
        """(fingerprint, dimension) of the Embedder of the vectors."""
        if self._table is None and not self.is_there():
            assert self.wanted is not None, "a table that is not there has no identity"
            return self.wanted
        if self._identity is None:  # it never changes, and object storage is far
            metadata = self._metadata()
            self._identity = metadata["embedrl.embedder"], int(metadata["embedrl.dim"])
        return self._identity

    @property
    def version(self) -> int:
        """Version, which grows with every commit of any process."""
        self._last_version = self._read(lambda table: table.version)
        return self._versions_before + self._last_version

    @property
    def arriving_from(self) -> str | None:
        """Source of an unfinished copy; None if the table is complete."""
        return _source(self._opened())

    # ---- inside

    def _database(self) -> lancedb.DBConnection:
        return lancedb.connect(self.uri, read_consistency_interval=timedelta(0))

    def _opened(self) -> lancedb.table.Table:
        if not self.is_there():
            raise StoreError(f"{self.uri!r}: there is no index here")
        assert self._table is not None
        return self._table

    def _read(self, ask: Callable[[lancedb.table.Table], T]) -> T:
        """Read from the table, retrying once if a writer replaced files meanwhile."""
        table = self._opened()
        try:
            return ask(table)
        except BaseException as error:
            if not is_foreign(error):
                raise
        try:
            table.checkout_latest()
            return ask(table)
        except BaseException as error:
            if not is_foreign(error):
                raise
            if self._fall_back():
                return self._read(ask)
            raise StoreError(f"{self.uri!r}: cannot be read ({short_message(error)}); {self._remedy}") from error

    def _fall_back(self) -> bool:
        """Restore the last readable version if files of the newest are damaged; return whether that was done."""
        if self.folder is None or self._table is None or not self.folder.damaged_files():
            return False
        newest = self._table.version
        for version in sorted((row["version"] for row in self._table.list_versions() if row["version"] < newest), reverse=True):
            try:
                self._table.checkout(version)
                for _ in self._table.search().limit(ALL_ROWS).to_batches():
                    pass
            except BaseException as error:
                if not is_foreign(error):
                    raise
                continue
            done = self.folder.set_aside_after(version)
            self._table = self._identity = None
            return done
        self._table = None
        return False

    def _write(self, commit: Callable[[lancedb.table.Table], object]) -> None:
        """Commit, retrying on conflicts with another writer."""
        table = self._opened()
        if self.folder:
            self.folder.begin()
        for tries_left in reversed(range(_TRIES)):
            try:
                commit(table)
                if self.folder:
                    self.folder.sync()
                return
            except BaseException as error:
                if not is_foreign(error):
                    raise
                if not tries_left or "conflict" not in str(error).lower():
                    raise self._unwritten(error) from error
            table.checkout_latest()

    def _unwritten(self, error: BaseException) -> StoreError:
        full = "no space" in str(error).lower() or getattr(error, "errno", None) in NO_SPACE
        failure = StoreError(f"{self.uri!r}: cannot be written ({short_message(error)}){'; free some space and run again' if full else ''}")
        failure.errno = errno.ENOSPC if full else None
        return failure

    @property
    def _remedy(self) -> str:
        table = f"{str(self.folder.path)!r} (no more: T-CoTs lie beside it)" if self.folder else "that table"
        return f"delete {table} and run `embedrl index` again"

    def _metadata(self) -> dict[str, str]:
        assert self._table is not None
        return {key.decode(): value.decode() for key, value in (self._table.schema.metadata or {}).items()}

    def _check(self, arriving: bool) -> None:
        identity, layout = self.identity, self._metadata()["embedrl.schema"]
        assert self._table is not None
        if not arriving and (source := _source(self._table)) is not None:
            raise StoreError(f"{self.uri!r}: is still being moved here from {source!r}; run that `embedrl index move` again to its end")
        if int(layout) != SCHEMA_VERSION:
            raise StoreError(f"{self.uri!r}: has layout {layout}, this version reads {SCHEMA_VERSION}; {self._remedy}")
        if self.wanted is None:
            return
        (old, old_dim), (new, new_dim) = identity, self.wanted
        if not same_embedder(old, new) or old_dim != new_dim:
            made = f"holds vectors of {old!r} ({old_dim} numbers), not of {new!r} ({new_dim})"
            raise StoreError(f"{self.uri!r}: {made}. Use that Embedder, or {self._remedy} with the new one")


def _source(table: lancedb.table.Table) -> str | None:
    """Return where the rows of an unfinished copy come from; None if the table is complete."""
    metadata = table.schema.field("id").metadata or {}
    return metadata[ARRIVING.encode()].decode() if ARRIVING.encode() in metadata else None


def is_foreign(error: BaseException) -> bool:
    """Whether an error comes from the library: a panic of its Rust code is no Exception."""
    return isinstance(error, OSError | RuntimeError | ValueError | KeyError) or type(error).__name__ == "PanicException"


def short_message(error: BaseException) -> str:
    """Return the beginning of a message: object storage tells whole answers, with the places in its source."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} …"
