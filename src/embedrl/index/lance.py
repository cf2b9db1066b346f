"""The table of an index: its columns, its commits, its indexes, in a folder or in object storage (LanceDB)."""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import cast

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, BTree, IvfFlat, IvfSq
from lancedb.query import BooleanQuery, FullTextOperator, LanceQueryBuilder, LanceVectorQueryBuilder, MatchQuery, Occur

from embedrl.errors import StoreError
from embedrl.index.approximate import Kind
from embedrl.index.connection import ALL_ROWS, ARRIVING, SCHEMA_VERSION, TABLE_NAME, Connection, is_foreign, short_message
from embedrl.index.exact import EVERYTHING, Candidates, Places, VectorBatch
from embedrl.index.location import is_remote
from embedrl.index.row import (
    ADDED,
    PART_COLUMNS,
    PLACE_COLUMNS,
    VECTOR_COLUMNS,
    Modality,
    Place,
    Row,
    Vectors,
    read_place,
    read_row,
    write_row,
    written_as,
)
from embedrl.media.store import status_of

_KEEP_VERSIONS = timedelta(minutes=1)
"""Replaced files stay this long for processes that are reading them."""
_WORDS_OF = {"name": "icu", "text": "icu", "answer": "icu", "about": "icu", "camera": "icu"}
"""Columns whose words can be asked for, and what cuts them: the rules of the script; of a name, only its letters and digits are there."""
_SETTINGS, _MODELS = "embedrl.searching", "embedrl.models"
_KINDS = {"ivf-flat": IvfFlat, "ivf-sq": IvfSq}
_REFINED = 4
"""Oversampling of quantised vectors: this multiple of the wanted hits is rescored with full vectors."""
_ALL = FullTextOperator.AND
_VECTORS = frozenset(VECTOR_COLUMNS.values())
_PLACES = ["key", "path", *PART_COLUMNS]
_TCOT_COLUMNS = ("reasoner", "tcot_failure")
_HAS_TCOT = "reasoner != '' AND tcot_failure IS NULL"
"""Two small columns that say it: to ask for the T-CoT itself would read all of them."""
COPY_COMMIT_ROWS = 4096


class Table(Connection):
    """A table that may not be there yet. It sees what others write, and what a write has returned from, a kill cannot undo."""

    @property
    def is_shared(self) -> bool:
        """Whether each path begins with the name of a folder's shelf, so that several folders may write."""
        return self.is_there() and self._metadata().get("embedrl.shared") == "yes"

    def __len__(self) -> int:
        return self._read(lambda table: table.count_rows())

    @property
    def size_bytes(self) -> int:
        """Size of what the newest version holds, in object storage; of all files, in a folder."""
        if is_remote(self.uri):
            return self._read(lambda table: cast("dict[str, int]", table.stats()))["total_bytes"]  # a dict, whatever it is declared as
        files = (status_of(os.path.join(folder, name)) for folder, _, names in os.walk(self.uri) for name in names)
        return sum(status.st_size for status in files if status)

    def checksum(self) -> tuple[int, str]:
        """Return the number of rows, and a hash (SHA-256) of all that is in them; the order of the rows does not matter."""
        count, total = 0, 0
        for batch in self._scan():
            others = batch.select([name for name in batch.schema.names if name not in _VECTORS]).to_pylist()
            vectors = [_matrix(batch[name], self.identity[1]) for name in sorted(_VECTORS)]
            for position, record in enumerate(others):
                row = hashlib.sha256(repr(sorted(record.items())).encode("utf-8", "surrogatepass"))
                for held in vectors:
                    row.update(held[position].tobytes())
                total ^= int.from_bytes(row.digest(), "big")
            count += batch.num_rows
        return count, hashlib.sha256(f"{count}:{total:x}".encode()).hexdigest()

    # ---- reading

    def rows(self, keys: Collection[str]) -> list[Row]:
        """Return all rows of the items with these keys, in no order."""
        return [read_row(record) for record in self._select(_is_among("key", keys)).to_pylist()] if keys else []

    def scan_rows(self) -> Iterator[Row]:
        """Yield all rows, in no order, as of one version."""
        for batch in self._scan():
            yield from map(read_row, batch.to_pylist())

    def places_of(self, keys: Collection[str]) -> list[Place]:
        """Return all places of the items with these keys, in no order."""
        return [read_place(record) for record in self._select(_is_among("key", keys), PLACE_COLUMNS).to_pylist()] if keys else []

    def keys_by_medium(self, keys: Collection[str]) -> dict[str, str]:
        """Return the keys of items in whose media words were read, by the keys that they would have without these."""
        if not keys or not self._known(["medium"]):
            return {}
        records = self._select(_is_among("medium", keys), ["medium", "key"]).to_pylist()
        return {record["medium"]: record["key"] for record in records}

    def keys_of(self, modality: Collection[Modality]) -> set[str]:
        """Return the keys of all items of these modalities."""
        return self._keys(_is_among("modality", modality))

    def find_keys(self, prefix: str) -> set[str]:
        """Return the keys that start with these hex digits, or some of them if they are many."""
        return self._keys(f"key LIKE '{prefix}%'", limit=100)

    def parts_of(self, keys: Collection[str]) -> Places:
        """Return where the items with these keys lie, in no order."""
        return _places(self._select(_is_among("key", keys), _PLACES))

    def vectors_of(self, keys: Collection[str], vectors: Vectors) -> dict[str, np.ndarray]:
        """Return the vectors of those of these items that are there, float32 (dim,) each, by key."""
        if not keys:
            return {}
        table = self._select(_is_among("key", keys), ["key", VECTOR_COLUMNS[vectors]])
        matrix = _matrix(table[VECTOR_COLUMNS[vectors]].combine_chunks(), self.identity[1])
        return dict(zip(table["key"].to_pylist(), matrix, strict=True))

    def without_tcot(self, keys: Collection[str]) -> set[str]:
        """Return those of these items that have no T-CoT."""
        return self._keys(f"{_is_among('key', keys)} AND NOT ({_HAS_TCOT})") if keys else set()

    def tcot_failures(self) -> dict[str, str]:
        """Return why items have no T-CoT although a Reasoner was asked, by key."""
        table = self._select("tcot_failure IS NOT NULL", ["key", "tcot_failure"])
        return dict(zip(table["key"].to_pylist(), table["tcot_failure"].to_pylist(), strict=True))

    def num_without_tcot(self) -> int:
        """Count the rows that have no T-CoT."""
        return self._read(lambda table: table.count_rows(f"NOT ({_HAS_TCOT})"))

    def scan_vectors(self, vectors: Vectors) -> Iterator[VectorBatch]:
        """Yield the vectors of all rows, in no order, as of one version."""
        column = VECTOR_COLUMNS[vectors]
        for batch in self._scan([*_PLACES, "modality", *_TCOT_COLUMNS, column]):
            has_tcot = np.array(_have_tcots(batch), dtype=bool)
            yield VectorBatch(_places(batch), batch["modality"].to_pylist(), has_tcot, _matrix(batch[column], self.identity[1]))

    def scan_kinds(self) -> Iterator[tuple[str, Modality, bool]]:
        """Yield key and modality of each row, and whether it has a T-CoT, in no order."""
        for batch in self._scan(["key", "modality", *_TCOT_COLUMNS]):
            yield from zip(batch["key"].to_pylist(), batch["modality"].to_pylist(), _have_tcots(batch), strict=True)

    def scan_places(self) -> Iterator[tuple[Place, Modality, bool]]:
        """Yield place and modality of each row, and whether it has a T-CoT, in no order."""
        for batch in self._scan(list(dict.fromkeys([*PLACE_COLUMNS, "modality", *_TCOT_COLUMNS]))):
            modalities, have_tcots = batch["modality"].to_pylist(), _have_tcots(batch)
            places = batch.select([name for name in PLACE_COLUMNS if name in batch.schema.names]).to_pylist()
            yield from zip(map(read_place, places), modalities, have_tcots, strict=True)

    def scan_segments(self) -> Iterator[str]:
        """Yield the words that were read in each row's medium (`write_segments`), in no order; none of a table of a former version."""
        for batch in self._scan(["key", "segments"]):
            yield from filter(None, batch["segments"].to_pylist() if "segments" in batch.schema.names else ())

    def places(self, words: Sequence[str] = ()) -> Iterator[Place]:
        """Yield every place, in no order; with `words`, those where each stands in the name, the text or the answer, in any case."""
        for batch in self._with_words(words, PLACE_COLUMNS, ALL_ROWS, None) if words else self._scan(PLACE_COLUMNS):
            yield from map(read_place, batch.to_pylist())

    def keys_with(self, word: str, limit: int, among: Collection[str] | None = None) -> list[str]:
        """Return the keys of rows, `among` these or all, in whose name, text or answer a word stands: at most `limit`, in no order."""
        return [key for batch in self._with_words([word], ["key"], limit, among) for key in batch["key"].to_pylist()]

    def probe(
        self, vector: np.ndarray, vectors: Vectors, limit: int, num_probes: int, kind: Kind, among: Candidates = EVERYTHING
    ) -> tuple[Places, np.ndarray]:
        """Ask the approximate index for candidates of a modality, or with a T-CoT: where they lie, and true cosines, best first."""
        conditions = [_is_among("modality", among.modality)] if among.modality is not None else []
        conditions += [f"({_HAS_TCOT})"] if among.reasoned_only else []

        def ask(table: lancedb.table.Table) -> pa.Table:
            query = table.search(vector, vector_column_name=VECTOR_COLUMNS[vectors])
            assert isinstance(query, LanceVectorQueryBuilder)
            query = query.distance_type("dot").nprobes(num_probes).limit(limit)
            if kind != "ivf-flat":
                query = query.refine_factor(_REFINED)
            if conditions:
                query = query.where(" AND ".join(conditions), prefilter=True)
            return query.select([*self._known(_PLACES), "_distance"]).to_arrow()

        neighbours = self._read(ask)
        return _places(neighbours), 1.0 - neighbours["_distance"].to_numpy()

    @property
    def settings(self) -> str | None:
        """What `keep_settings` wrote."""
        return self._noted("key", _SETTINGS)

    @property
    def model_names(self) -> str | None:
        """What `keep_model_names` wrote."""
        return self._noted("embedder", _MODELS)

    # ---- writing

    def create(self, *, is_shared: bool, arriving_from: str | None = None) -> None:
        """Make the table, unless another process just did. While rows arrive from elsewhere, nobody else may read or write."""
        assert self.wanted is not None, "only an index that was opened with an Embedder can be new"
        schema = _schema(*self.wanted, is_shared=is_shared)
        if arriving_from is not None:
            schema = schema.set(0, schema.field("id").with_metadata({ARRIVING: arriving_from}))
        self._admits_arriving = arriving_from is not None
        if self.folder:
            self.folder.begin()
        try:
            self._table = self._database().create_table(TABLE_NAME, schema=schema, exist_ok=True)
            self._opened_as = self.folder.identity if self.folder else None
        except (ValueError, RuntimeError, OSError) as error:
            raise self._unwritten(error) from error
        self.index_words()

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows in one commit: one whose id is there is replaced."""
        self.add_columns()
        self._merge(pa.Table.from_pylist([write_row(row) for row in rows], schema=self._opened().schema))

    def add_columns(self) -> None:
        """Add columns that a table of a former version lacks, in one commit."""
        known = self._opened().schema.names
        if missing := [name for name in ADDED if name not in known]:
            fields = _schema(*self.identity, is_shared=False)
            self._write(lambda table: table.add_columns([fields.field(name) for name in missing]))

    def upsert_batches(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write rows as another table holds them, in one commit."""
        self._merge(pa.Table.from_batches(batches).cast(self._opened().schema))

    def copy_from(self, source: "Table", on_progress: Callable[[int, int], None]) -> None:
        """Copy all rows of another table, in portions of one commit each; those that are here are replaced."""
        done, total = 0, len(source)
        held: list[pa.RecordBatch] = []
        on_progress(done, total)
        for batch in chain(source._scan(), [None]):
            held += [] if batch is None else [batch]
            num_held = sum(part.num_rows for part in held)
            if held and (batch is None or num_held >= COPY_COMMIT_ROWS):
                self.upsert_batches(held)
                done, held = done + num_held, []
                on_progress(done, total)

    def remove(self, ids: Sequence[str]) -> None:
        """Take rows out, by id; those that are not there are ignored."""
        for start in range(0, len(ids), 1000):
            condition = _is_among("id", ids[start : start + 1000])
            self._write(lambda table, condition=condition: table.delete(condition))

    def compact(self) -> None:
        """Merge the small files of many commits and drop replaced versions; indexes take in new rows."""
        self._write(lambda table: table.optimize(cleanup_older_than=_KEEP_VERSIONS))

    def index_words(self) -> None:
        """Make words findable, where they are not yet."""
        for column in set(self._known(list(_WORDS_OF))) - self._indexed():
            tokens = FTS(base_tokenizer=_WORDS_OF[column], stem=False, remove_stop_words=False, ascii_folding=False, max_token_length=None)
            self._write(lambda table, column=column, tokens=tokens: table.create_index(column, config=tokens))

    def index_scalars(self) -> None:
        """Make ids and keys quick to find, where they are not yet."""
        for column in sorted({"id", "key"} - self._indexed()):
            self._write(lambda table, column=column: table.create_index(column, config=BTree()))

    def index_vectors(self, vectors: Vectors, kind: Kind, num_partitions: int) -> None:
        """Build the approximate index over one kind of vectors, in place of the one that is there."""
        config = _KINDS[kind](distance_type="dot", num_partitions=num_partitions)
        self._write(lambda table: table.create_index(VECTOR_COLUMNS[vectors], config=config))

    def keep_settings(self, settings: str) -> None:
        """Note how the table is searched, in one commit."""
        self._write(lambda table: table.update_field_metadata({"path": "key", "metadata": {_SETTINGS: settings}}))

    def keep_model_names(self, names: str) -> None:
        """Note by which names the models are loaded, in one commit."""
        self._write(lambda table: table.update_field_metadata({"path": "embedder", "metadata": {_MODELS: names}}))

    def arrived(self) -> None:
        """Note that all rows have arrived: from now on it is an index like any other."""
        self._write(lambda table: table.update_field_metadata({"path": "id", "metadata": {ARRIVING: None}}))

    def drop(self) -> None:
        """Delete the table with all that is in it."""
        if self.is_there(arriving=True):
            self._database().drop_table(TABLE_NAME)
            self._table = self._identity = None
        if self.folder:
            shutil.rmtree(self.folder.path, ignore_errors=True)

    # ---- inside

    def _noted(self, column: str, name: str) -> str | None:
        noted = self._read(lambda table: table.schema.field(column).metadata or {}).get(name.encode())
        return noted.decode() if noted is not None else None

    def _scan(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield these columns of all rows, or all columns, in no order, as of one version."""
        columns = None if columns is None else self._known(columns)
        batches = self._read(lambda table: _first_read(iter(_columns(table, columns).limit(ALL_ROWS).to_batches())))
        while True:
            try:
                batch = next(batches, None)
            except BaseException as error:
                if not is_foreign(error):
                    raise
                raise StoreError(f"{self.uri!r}: cannot be read ({short_message(error)}); {self._remedy}") from error
            if batch is None:
                return
            yield batch

    def _select(self, condition: str, columns: Sequence[str] | None = None, *, limit: int = ALL_ROWS) -> pa.Table:
        """Return these columns, or all, of the rows that fulfil a condition (SQL)."""
        columns = None if columns is None else self._known(columns)
        return self._read(lambda table: _columns(table, columns).where(condition).limit(limit).to_arrow())

    def _known(self, columns: Sequence[str]) -> list[str]:
        """Return those of these columns that there are: a table of a former version may lack some."""
        known = self._read(lambda table: table.schema.names)
        return [name for name in columns if name in known or name not in ADDED]

    def _keys(self, condition: str, *, limit: int = ALL_ROWS) -> set[str]:
        return set(self._select(condition, ["key"], limit=limit)["key"].to_pylist())

    def _merge(self, data: pa.Table) -> None:
        self._write(lambda table: table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(data))

    def _with_words(self, words: Sequence[str], columns: Sequence[str], limit: int, among: Collection[str] | None) -> list[pa.RecordBatch]:
        searched = sorted(self._indexed() & _WORDS_OF.keys())
        anywhere = [[MatchQuery(written_as(word, name), name, operator=_ALL) for name in searched] for word in words]
        wanted = BooleanQuery([(Occur.MUST, BooleanQuery([(Occur.SHOULD, match) for match in of_word])) for of_word in anywhere])
        shown = [*self._known(columns), "_score"]

        def ask(table: lancedb.table.Table) -> pa.Table:
            query = table.search(wanted, query_type="fts").limit(limit).select(shown)
            return (query if among is None else query.where(_is_among("key", among), prefilter=True)).to_arrow()

        return self._read(ask).to_batches()

    def _indexed(self) -> set[str]:
        return {name for config in self._read(lambda table: table.list_indices()) for name in config.columns}


def _first_read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read the first batch now: what is lazy fails where it can be asked for again."""
    first = next(batches, None)
    return batches if first is None else chain([first], batches)


def _matrix(column: pa.Array, dim: int) -> np.ndarray:
    """Return a column of vectors as an array (rows, dim)."""
    return column.flatten().to_numpy().reshape(-1, dim)


def _columns(table: lancedb.table.Table, columns: Sequence[str] | None) -> LanceQueryBuilder:
    return table.search() if columns is None else table.search().select(list(columns))


def _places(rows: pa.RecordBatch | pa.Table) -> Places:
    """Return what rows hold of `_PLACES`; a table of a former version may lack some."""
    names, nothing = rows.schema.names, np.full(rows.num_rows, np.nan)
    parts = [rows[name].to_numpy(zero_copy_only=False) if name in names else nothing for name in PART_COLUMNS]
    return Places(rows["key"].to_pylist(), rows["path"].to_pylist(), np.stack(parts, axis=1).astype(np.float64))


def _have_tcots(batch: pa.RecordBatch) -> list[bool]:
    """Say of each row whether it has a T-CoT: a Reasoner was asked and did not fail."""
    return [bool(name) and why is None for name, why in zip(*(batch[name].to_pylist() for name in _TCOT_COLUMNS), strict=True)]


def _is_among(column: str, values: Iterable[str]) -> str:
    """Return the condition (SQL) that a column holds one of these hashes or modalities; what is neither is in no row."""
    known = [value for value in values if value.isascii() and value.isalnum()]
    return f"{column} IN ({','.join(map(repr, known))})" if known else "false"


def _schema(embedder: str, dim: int, *, is_shared: bool) -> pa.Schema:
    text, vector = pa.string(), pa.list_(pa.float32(), dim)
    fields = {
        "id": text, "key": text, "path": pa.binary(), "name": text, "page": pa.int32(), "unit": pa.int32(),
        "num_places": pa.int32(), "split": text,
        "size": pa.int64(), "mtime_ns": pa.int64(), "modality": text, "start_s": pa.float64(), "end_s": pa.float64(),
        "captured_s": pa.float64(), "captured_from": text, "camera": text, "latitude": pa.float64(), "longitude": pa.float64(),
        "about": text, "sidecars": text, "readers": text, "medium": text, "segments": text,
        "start_char": pa.int64(), "end_char": pa.int64(), "start_byte": pa.int64(), "end_byte": pa.int64(),
        "frame_times_s": pa.list_(pa.float64()), "text": text, "answer": text, "tcot_text": text, "tcot_failure": text,
        "verification": text, "thumbnail": pa.binary(), "reasoner": text, "embedder": text, "created_s": pa.float64(),
        "plain_vector": vector, "tcot_vector": vector,
    }  # fmt: skip
    metadata = {"embedrl.schema": str(SCHEMA_VERSION), "embedrl.embedder": embedder, "embedrl.dim": str(dim)}
    return pa.schema(list(fields.items()), metadata={**metadata, **({"embedrl.shared": "yes"} if is_shared else {})})
