"""One LanceDB table of items, their vectors and their T-CoTs. The only file that knows LanceDB.

Below `exact_below` rows, vectors are searched exactly in memory. Above, an approximate index is built, its recall is measured
against exact search after each build, and it probes more until the recall is good; where that fails, search stays exact.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, BTree, IvfFlat
from lancedb.query import BooleanQuery, FullTextOperator, LanceVectorQueryBuilder, MatchQuery, Occur

from embedrl.data.records import WriterLock
from embedrl.data.roles import Embeds
from embedrl.errors import ConfigError, StoreError
from embedrl.index.approximate import (
    NUM_NEIGHBOURS,
    Approximate,
    drop_approximate,
    keep_approximate,
    load_approximate,
    num_partitions,
    tune,
)
from embedrl.index.exact import ExactVectors, Neighbour, ranked
from embedrl.index.row import MODALITIES, PLACE_COLUMNS, VECTOR_COLUMNS, Modality, Place, Row, Vectors, read_place, read_row, write_row
from embedrl.index.stats import IndexStats

INDEX_NAME = ".embedrl-index"
SCHEMA_VERSION = 1
_TABLE = "items"
_KEEP_VERSIONS = timedelta(minutes=1)
"""Replaced files stay this long for processes that are reading them."""
_SCALAR_INDEX_FROM = 5_000
_WORDS_OF = {"name": "simple", "text": "icu", "answer": "icu"}
"""Columns whose words can be asked for, and what cuts them: any character but a letter or digit, or the rules of the script."""

T = TypeVar("T")


class Index:
    """An open index. Sees what other processes write; one process at a time may write."""

    def __init__(self, directory: Path, embedder: Embeds | None, exact_below: int) -> None:
        self.directory = directory
        self.base = directory.parent
        """Paths of places are relative to this folder."""
        self.exact_below = exact_below
        self._wanted = None if embedder is None else (embedder.name, embedder.dim)
        self._table: lancedb.table.Table | None = None
        self._exact: dict[Vectors, tuple[int, ExactVectors]] = {}
        self._loading = threading.Lock()

    @classmethod
    def open(cls, path: str | Path, *, embedder: Embeds | None = None, exact_below: int = 50_000) -> "Index":
        """Open the index of a folder: `path/.embedrl-index`, or `path` itself if it has that name.

        An index that is not there is made by the first write, which needs an Embedder; with none, it is a StoreError. So is an
        index that was made by another Embedder.
        """
        path = Path(os.path.realpath(Path(path).expanduser()))
        index = cls(path if path.name == INDEX_NAME else path / INDEX_NAME, embedder, exact_below)
        if not index._is_there() and embedder is None:
            raise index._missing()
        return index

    @property
    def embedder_name(self) -> str:
        """Name of the Embedder whose vectors these are."""
        return self._identity()[0]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._identity()[1]

    @property
    def version(self) -> int:
        """Grows with every write, of this or another process; 0 while there is nothing."""
        return self._read(lambda table: table.version) if self._is_there() else 0

    def __len__(self) -> int:
        return self._read(lambda table: table.count_rows()) if self._is_there() else 0

    # ---- reading

    def places(self, words: Sequence[str] = ()) -> Iterator[Place]:
        """Yield every place, in no order; with `words`, those where each stands in the name, the text or the answer, in any case."""
        if self._is_there():
            for batch in self._with_words(words) if words else self._scan(PLACE_COLUMNS):
                yield from map(read_place, batch.to_pylist())

    def rows(self, keys: Collection[str]) -> list[Row]:
        """Return all rows of the items with these keys, ordered by key, path and page."""
        if not keys:
            return []
        condition = f"key IN ({_quoted(keys)})"
        found = self._read(lambda table: table.search().where(condition).limit(2**31 - 1).to_arrow())
        rows = [read_row(record) for record in found.to_pylist()]
        return sorted(rows, key=lambda row: (row.place.key, os.fsencode(row.place.path), row.place.page or 0))

    def find(self, prefix: str) -> str:
        """Return the one key that starts with `prefix` (at least 6 hex digits). Raises ConfigError if there is none, or several."""
        prefix = prefix.strip().lower()
        if not 6 <= len(prefix) <= 64 or prefix.strip("0123456789abcdef"):
            raise ConfigError(f"key {prefix!r}: give an item's key, or at least its first 6 hex digits")
        condition = f"key LIKE '{prefix}%'"
        found = self._read(lambda table: table.search().where(condition).select(["key"]).limit(100).to_arrow())
        keys = sorted(set(found["key"].to_pylist()))
        if not keys:
            raise ConfigError(f"key {prefix!r}: there is no such item in {str(self.directory)!r}; search shows the keys")
        if len(keys) > 1:
            raise ConfigError(f"key {prefix!r}: {len(keys)} items start like this ({keys[0][:12]}, {keys[1][:12]}, …); give more digits")
        return keys[0]

    def thumbnail(self, key: str) -> bytes:
        """Return the JPEG of an item's small picture; empty for a text. Raises ConfigError for an unknown key."""
        return self.rows([self.find(key)])[0].thumbnail

    def vectors(self, keys: Collection[str], vectors: Vectors) -> dict[str, np.ndarray]:
        """Return the vectors of those of these items that are there, float32 (dim,) each, by key."""
        if not keys:
            return {}
        column, condition = VECTOR_COLUMNS[vectors], f"key IN ({_quoted(keys)})"
        found = self._read(lambda table: table.search().where(condition).select(["key", column]).limit(2**31 - 1).to_arrow())
        return dict(zip(found["key"].to_pylist(), _matrix(found[column].combine_chunks(), self.dim), strict=True))

    def locate(self, path: Path) -> Path:
        """Return where the file of a place or Hit lies now."""
        return self.base / path

    def nearest(
        self,
        vector: np.ndarray,
        vectors: Vectors,
        top: int,
        *,
        modality: Collection[Modality] | None = None,
        exclude_keys: Collection[str] = (),
        only_keys: Collection[str] | None = None,
        min_score: float | None = None,
    ) -> list[Neighbour]:
        """Return the `top` items with the highest cosine to a unit vector, ties by key. A search among `only_keys` is exact."""
        if vector.shape != (self.dim,):
            raise ConfigError(f"a query vector of shape {vector.shape} does not fit an index of dimension {self.dim}")
        vector = np.asarray(vector, dtype=np.float32)
        approximate = load_approximate(self.directory).get(vectors) if len(self) >= self.exact_below else None
        if approximate is None or not approximate.good:
            exact = self._in_memory(vectors)
            return exact.nearest(vector, top, modality=modality, exclude_keys=exclude_keys, only_keys=only_keys, min_score=min_score)
        if only_keys is not None:
            best = {}
            for batch in self._scan(["key", "modality", VECTOR_COLUMNS[vectors]]):
                matrix = _matrix(batch[VECTOR_COLUMNS[vectors]], self.dim)
                part = ExactVectors(batch["key"].to_pylist(), batch["modality"].to_pylist(), matrix)
                near = part.nearest(vector, top, modality=modality, exclude_keys=exclude_keys, only_keys=only_keys, min_score=min_score)
                best |= {neighbour.key: neighbour.score for neighbour in near}
            return ranked(list(best), np.array(list(best.values())), top)
        excluded, limit = set(exclude_keys), top + len(exclude_keys)
        while True:
            found = self._probe(vector, vectors, limit, approximate.num_probes, modality)
            best = {key: score for key, score in reversed(found) if key not in excluded}
            if min_score is not None:
                best = {key: score for key, score in best.items() if round(score, 6) >= min_score}
            if len(best) >= top or len(found) < limit or (min_score is not None and found[-1][1] < min_score):
                return ranked(list(best), np.array(list(best.values())), top)
            limit *= 2

    def stats(self) -> IndexStats:
        """Count what is there."""
        keys, without, modalities = set(), 0, dict.fromkeys(MODALITIES, 0)
        for batch in self._scan(["key", "modality", "tcot_text"]):
            keys.update(batch["key"].to_pylist())
            without += batch["tcot_text"].null_count
            for name in batch["modality"].to_pylist():
                modalities[name] += 1
        num_places = sum(modalities.values())
        approximate = list(load_approximate(self.directory).values()) if num_places >= self.exact_below else []
        used = bool(approximate) and all(found.good for found in approximate)
        files = (Path(folder) / name for folder, _, names in os.walk(self.directory) for name in names)
        return IndexStats(
            num_places=num_places,
            num_items=len(keys),
            modalities={name: count for name, count in modalities.items() if count},
            num_without_tcot=without,
            embedder=self.embedder_name,
            dim=self.dim,
            search="approximate" if used else "exact",
            recall=min(found.recall for found in approximate) if used else 1.0,
            size_bytes=sum(file.lstat().st_size for file in files if file.exists()),
        )

    # ---- writing

    def writing(self) -> WriterLock:
        """Take the right to write; release it when done. Raises StoreError if another process has it."""
        return WriterLock(self.directory / "writer.lock")

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows in one commit: a place that is there is replaced. When this returns, a kill cannot undo it."""
        if not rows:
            return
        table = self._table if self._is_there() else self._create()
        assert table is not None
        batch = pa.Table.from_pylist([write_row(row) for row in rows], schema=table.schema)
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)

    def remove(self, ids: Sequence[str]) -> None:
        """Take places out, by id; those that are not there are ignored."""
        for start in range(0, len(ids), 1000):
            self._opened().delete(f"id IN ({_quoted(ids[start : start + 1000])})")

    def compact(self) -> None:
        """Merge the small files of many commits and drop replaced versions; indexes take in new rows."""
        if self._is_there():
            self._opened().optimize(cleanup_older_than=_KEEP_VERSIONS)

    def finish(self) -> None:
        """End a run of writes: compact, and build or extend the indexes that the number of rows calls for."""
        if not self._is_there():
            return
        table, num_rows = self._opened(), len(self)
        self._index_words(table)
        if num_rows >= _SCALAR_INDEX_FROM:
            indexed = {name for config in table.list_indices() for name in config.columns}
            for column in sorted({"id", "key"} - indexed):
                table.create_index(column, config=BTree())
        if num_rows < self.exact_below:
            self.compact()
            return
        known = load_approximate(self.directory)
        if len(known) == len(VECTOR_COLUMNS) and all(found.num_rows == num_rows for found in known.values()):
            self.compact()
            return
        built: dict[Vectors, tuple[int, int]] = {}
        for vectors, column in VECTOR_COLUMNS.items():
            if vectors in known and known[vectors].fits(num_rows):
                built[vectors] = (known[vectors].num_rows_built, known[vectors].num_partitions)
            else:
                built[vectors] = (num_rows, num_partitions(num_rows))
                drop_approximate(self.directory)
                table.create_index(column, config=IvfFlat(distance_type="dot", num_partitions=built[vectors][1]))
        self.compact()
        keep_approximate(self.directory, {vectors: self._tune(vectors, num_rows, built[vectors]) for vectors in VECTOR_COLUMNS})

    # ---- inside

    def _tune(self, vectors: Vectors, num_rows: int, built: tuple[int, int]) -> Approximate:
        def probe(query: np.ndarray, num_probes: int) -> np.ndarray:
            return np.array([score for _, score in self._probe(query, vectors, NUM_NEIGHBOURS, num_probes, None)])

        def batches() -> Iterator[np.ndarray]:
            return (_matrix(batch[VECTOR_COLUMNS[vectors]], self.dim) for batch in self._scan([VECTOR_COLUMNS[vectors]]))

        return tune(probe, batches, num_rows, built)

    def _probe(
        self, vector: np.ndarray, vectors: Vectors, limit: int, num_probes: int, modality: Collection[Modality] | None
    ) -> list[tuple[str, float]]:
        def ask(table: lancedb.table.Table) -> pa.Table:
            query = table.search(vector, vector_column_name=VECTOR_COLUMNS[vectors])
            assert isinstance(query, LanceVectorQueryBuilder)
            query = query.distance_type("dot").nprobes(num_probes).limit(limit)
            if modality is not None:
                query = query.where(f"modality IN ({_quoted(modality)})", prefilter=True)
            return query.select(["key", "_distance"]).to_arrow()

        found = self._read(ask)
        return [(key, 1.0 - distance) for key, distance in zip(found["key"].to_pylist(), found["_distance"].to_pylist(), strict=True)]

    def _in_memory(self, vectors: Vectors) -> ExactVectors:
        with self._loading:
            version = self.version
            if vectors not in self._exact or self._exact[vectors][0] != version:
                first: dict[str, Modality] = {}
                parts = [np.empty((0, self.dim), dtype=np.float32)]
                for batch in self._scan(["key", "modality", VECTOR_COLUMNS[vectors]]):
                    new = []
                    for position, (key, modality) in enumerate(zip(batch["key"].to_pylist(), batch["modality"].to_pylist(), strict=True)):
                        if key not in first:
                            first[key] = modality
                            new.append(position)
                    parts.append(_matrix(batch[VECTOR_COLUMNS[vectors]], self.dim)[new])
                self._exact[vectors] = (version, ExactVectors(list(first), list(first.values()), np.concatenate(parts)))
            return self._exact[vectors][1]

    def _with_words(self, words: Sequence[str]) -> list[pa.RecordBatch]:
        def anywhere(word: str) -> BooleanQuery:
            return BooleanQuery([(Occur.SHOULD, MatchQuery(word, column, operator=FullTextOperator.AND)) for column in _WORDS_OF])

        wanted = BooleanQuery([(Occur.MUST, anywhere(word)) for word in words])
        columns = [*PLACE_COLUMNS, "_score"]
        return self._read(lambda table: table.search(wanted, query_type="fts").limit(2**31 - 1).select(columns).to_arrow()).to_batches()

    def _scan(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        reader = self._read(lambda table: table.search().select(columns).limit(2**31 - 1).to_batches())
        yield from reader

    def _read(self, ask: Callable[[lancedb.table.Table], T]) -> T:
        """Ask the table; once more if a writer replaced files between the look at the version and the read."""
        table = self._opened()
        try:
            return ask(table)
        except (OSError, RuntimeError):
            table.checkout_latest()
        try:
            return ask(table)
        except (OSError, RuntimeError) as error:
            raise StoreError(f"{str(self.directory)!r}: cannot be read ({error})") from error

    def _is_there(self) -> bool:
        """Open the table if it exists. Raises StoreError if it is damaged, or was not made for our Embedder."""
        if self._table is None and (self.directory / f"{_TABLE}.lance" / "_versions").is_dir():
            try:
                self._table = self._database().open_table(_TABLE)
                self._identity()
            except (ValueError, RuntimeError, OSError, KeyError) as error:
                self._table = None
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"{str(self.directory)!r}: cannot be opened ({error}); {_AGAIN}") from error
        return self._table is not None

    def _opened(self) -> lancedb.table.Table:
        if not self._is_there():
            raise self._missing()
        assert self._table is not None
        return self._table

    def _missing(self) -> StoreError:
        return StoreError(f"{str(self.base)!r}: there is no index here; make one with `embedrl index {self.base}`")

    def _database(self) -> lancedb.DBConnection:
        return lancedb.connect(self.directory, read_consistency_interval=timedelta(0))

    def _create(self) -> lancedb.table.Table:
        assert self._wanted is not None, "only an index that was opened with an Embedder can be new"
        self._table = self._database().create_table(_TABLE, schema=_schema(*self._wanted), exist_ok=True)
        self._index_words(self._table)
        return self._table

    def _index_words(self, table: lancedb.table.Table) -> None:
        indexed = {name for config in table.list_indices() for name in config.columns}
        for column in _WORDS_OF.keys() - indexed:
            tokens = FTS(base_tokenizer=_WORDS_OF[column], stem=False, remove_stop_words=False, ascii_folding=False, max_token_length=None)
            table.create_index(column, config=tokens)

    def _identity(self) -> tuple[str, int]:
        if self._table is None and not self._is_there():
            if self._wanted is None:
                raise self._missing()
            return self._wanted
        assert self._table is not None
        metadata = {key.decode(): value.decode() for key, value in (self._table.schema.metadata or {}).items()}
        found = (metadata["embedrl.embedder"], int(metadata["embedrl.dim"]))
        if int(metadata["embedrl.schema"]) != SCHEMA_VERSION:
            raise StoreError(
                f"{str(self.directory)!r}: has layout {metadata['embedrl.schema']}, this version reads {SCHEMA_VERSION}; {_AGAIN}"
            )
        if self._wanted is not None and found != self._wanted:
            (old, old_dim), (new, new_dim) = found, self._wanted
            made = f"holds vectors of {old!r} ({old_dim} numbers), not of {new!r} ({new_dim})"
            raise StoreError(f"{str(self.directory)!r}: {made}. Use that Embedder, or {_AGAIN} with the new one")
        return found


_AGAIN = "delete that folder and run `embedrl index` again"


def _schema(embedder: str, dim: int) -> pa.Schema:
    text, vector = pa.string(), pa.list_(pa.float32(), dim)
    fields = {
        "id": text, "key": text, "path": pa.binary(), "name": text, "page": pa.int32(), "num_places": pa.int32(),
        "size": pa.int64(), "mtime_ns": pa.int64(), "modality": text, "start_s": pa.float64(), "end_s": pa.float64(),
        "frame_times_s": pa.list_(pa.float64()), "text": text, "answer": text, "tcot_text": text, "tcot_failure": text,
        "verification": text, "thumbnail": pa.binary(), "reasoner": text, "embedder": text, "created_s": pa.float64(),
        "plain_vector": vector, "tcot_vector": vector,
    }  # fmt: skip
    metadata = {"embedrl.schema": str(SCHEMA_VERSION), "embedrl.embedder": embedder, "embedrl.dim": str(dim)}
    return pa.schema(list(fields.items()), metadata=metadata)


def _matrix(column: pa.Array, dim: int) -> np.ndarray:
    return column.flatten().to_numpy().reshape(-1, dim)


def _quoted(values: Iterable[str]) -> str:
    values = list(values)
    assert all(value.isalnum() for value in values), "only hashes and modalities are asked for"
    return ",".join(f"'{value}'" for value in values)
