"""The vector index of a folder: items, their vectors and their T-CoTs.

Below `Policy.exact_below` rows, vectors are searched exactly in memory. Above, an approximate index is built. Its recall is measured
against exact search after each build, and the number of probes is raised until the recall is reached; otherwise search stays exact.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from embedrl.data.protocols import Embeds
from embedrl.data.records import WriterLock
from embedrl.data.vectors import as_indexed, same_embedder
from embedrl.errors import ConfigError
from embedrl.index.approximate import NUM_NEIGHBOURS, Approximate, Policy, Searching, num_partitions, read_searching, tune
from embedrl.index.exact import EVERYTHING, NOWHERE, TIE_DECIMALS, Candidates, ExactVectors, Neighbour
from embedrl.index.location import IndexLocation, clean_key, find_home, is_remote, save_location
from embedrl.index.model_names import ModelNames
from embedrl.index.row import MODALITIES, VECTOR_COLUMNS, Modality, Place, Row, Vectors

if TYPE_CHECKING:
    from embedrl.index.lance import Table


class IndexStats(BaseModel):
    """Size and search mode of an index."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_places: int
    """Number of files and document pages."""
    num_items: int
    """Number of distinct contents."""
    modalities: dict[str, int]
    """Number of places of each modality."""
    num_without_tcot: int
    embedder: str
    dim: int
    search: str
    """`exact` or `approximate`."""
    recall: float
    """Measured recall@10 of the approximate index against exact search (the worse of both kinds of vectors); 1 if exact."""
    size_bytes: int


_SCALAR_INDEX_FROM = 5_000


class Index:
    """Vector index of a folder: items with a plain vector, a vector with T-CoT, the T-CoT and its evidence.

    Readers see what other processes write; one process at a time may write for a folder.
    """

    def __init__(self, home: IndexLocation, embedder: Embeds | None, policy: Policy | None = None) -> None:
        self.home = home
        self._policy = policy
        self.table = open_table(home.uri, None if embedder is None else (embedder.fingerprint, embedder.dim))
        self._searching: tuple[int, Searching, int] | None = None
        self._exact: dict[Vectors, tuple[int, ExactVectors]] = {}
        self._num_without_tcot: tuple[int, int] | None = None
        self._loading = threading.Lock()
        self.names_to_note: ModelNames | None = None
        """Noted when the table is made."""

    @classmethod
    def open(cls, path: str | Path, *, embedder: Embeds | None = None) -> "Index":
        """Open the index of a folder, or a table in object storage (`s3://bucket/name`) to read it without its folder.

        A missing index is created by the first write, which needs an Embedder. Raises StoreError for a missing index without
        an Embedder, and for an index of another Embedder's vectors.
        """
        home = find_home(path)
        if embedder is None and not home.is_begun:
            raise home.missing()
        index = cls(home, embedder)
        if embedder is None and not index.table.is_there():
            raise home.missing()
        return index

    @property
    def directory(self) -> Path:
        """Folder of the index's own files (T-CoTs, failures, checksums, lock). Raises ConfigError for a table without its folder."""
        if self.home.directory is None:
            raise ConfigError(f"{self.home.uri!r}: this needs the folder that was indexed, and not its table alone")
        return self.home.directory

    @property
    def base(self) -> Path:
        """Folder that the paths of places are relative to."""
        return self.home.base

    @property
    def embedder_name(self) -> str:
        """Fingerprint of the Embedder that made the vectors."""
        return self.table.identity[0]

    def check(self, embedder: Embeds) -> None:
        """Raise ConfigError for another Embedder than the one whose vectors are here."""
        if not same_embedder(embedder.fingerprint, self.embedder_name) or embedder.dim != self.dim:
            raise ConfigError(f"the index holds vectors of {self.embedder_name!r}, not of {embedder.fingerprint!r}: use the same Embedder")

    @property
    def model_names(self) -> ModelNames | None:
        """By which names its models are loaded; None if that was never noted, as for models that were given as objects."""
        return ModelNames.read(self.table.model_names) if self.table.is_there() else None

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.table.identity[1]

    @property
    def version(self) -> int:
        """Version number, which grows with every write of any process; 0 for an empty index."""
        return self.table.version if self.table.is_there() else 0

    def __len__(self) -> int:
        return len(self.table) if self.table.is_there() else 0

    # ---- reading

    def places(self, words: Sequence[str] = ()) -> Iterator[Place]:
        """Yield all places, unordered; with `words`, those whose name, text or answer contains all of them, case ignored."""
        if self.table.is_there():
            yield from self.table.places(words)

    def keys_with(self, word: str, limit: int, among: Collection[str] | None = None) -> list[str]:
        """Return the keys of places where a word stands in the name, the text or the answer: at most `limit`, a key for each place.

        `among`: only of the items with these keys.
        """
        return self.table.keys_with(word, limit, among) if self.table.is_there() else []

    def tcot_failures(self) -> dict[str, str]:
        """Return item key -> reason for items whose T-CoT failed."""
        return self.table.tcot_failures() if self.table.is_there() else {}

    def places_of(self, keys: Collection[str]) -> list[Place]:
        """Return all places of the items with these keys, unordered."""
        return self.table.places_of(keys) if self.table.is_there() else []

    def keys_of(self, modality: Collection[Modality]) -> set[str]:
        """Return the keys of all items of these modalities."""
        return self.table.keys_of(modality) if self.table.is_there() else set()

    def rows(self, keys: Collection[str]) -> list[Row]:
        """Return all rows of the items with these keys, ordered by key, path and page."""
        return sorted(self.table.rows(keys) if self.table.is_there() else (), key=lambda row: (row.place.key, *row.place.position))

    def find(self, prefix: str) -> str:
        """Return the key that starts with `prefix` (at least 6 hex digits). Raises ConfigError if none or several do."""
        prefix = clean_key(prefix)
        keys = sorted(self.table.find_keys(prefix))
        if not keys:
            raise ConfigError(f"key {prefix!r}: there is no such item in {self.home.uri!r}; search shows the keys")
        if len(keys) > 1:
            raise ConfigError(f"key {prefix!r}: {len(keys)} items start like this ({keys[0][:12]}, {keys[1][:12]}, …); give more digits")
        return keys[0]

    def thumbnail(self, key: str) -> bytes:
        """Return the thumbnail of an item as JPEG; empty bytes for a text. Raises ConfigError for an unknown key."""
        return self.rows([self.find(key)])[0].thumbnail

    def parts_of(self, keys: Collection[str]) -> dict[str, tuple[bytes, list[float]]]:
        """Return the file of each of these items that is there, and which part of it it is (`PART_COLUMNS`), by key."""
        places = self.table.parts_of(keys) if keys and self.table.is_there() else NOWHERE
        return {key: (places.files[at], places.parts[at].tolist()) for key, at in places.first_of_each().items()}

    def vectors(self, keys: Collection[str], vectors: Vectors) -> dict[str, np.ndarray]:
        """Return item key -> vector, float32 (dim,), for the keys that exist; `vectors` is "plain" or "tcot"."""
        return self.table.vectors_of(keys, vectors) if self.table.is_there() else {}

    def keys_by_medium(self, keys: Collection[str]) -> dict[str, str]:
        """Return the keys of items in whose media words were read, by those of the media alone."""
        return self.table.keys_by_medium(keys) if keys and self.table.is_there() else {}

    def locate(self, path: Path) -> Path:
        """Return the absolute path of a place's or Hit's file."""
        return self.home.locate(path)

    def nearest(self, vector: np.ndarray, vectors: Vectors, top: int, among: Candidates = EVERYTHING) -> list[Neighbour]:
        """Return the `top` nearest items of a unit vector, float32 (dim,), by cosine, ties by key. A search among `only_keys` is exact.

        Raises ConfigError for a vector of another dimension.
        """
        if vector.shape != (self.dim,):
            raise ConfigError(f"a query vector of shape {vector.shape} does not fit an index of dimension {self.dim}")
        vector = np.asarray(vector, dtype=np.float32)
        searching, num_rows = self._how()
        approximate = searching.good(vectors, num_rows)
        if approximate is None:
            return self._in_memory(vectors).nearest(vector, top, among)
        if among.only_keys is not None:
            best: dict[str, Neighbour] = {}
            for batch in self.table.scan_vectors(vectors):
                for near in ExactVectors.first_of_each([batch], self.dim).nearest(vector, top, among):
                    best[near.key] = min(near, best.get(near.key, near), key=lambda near: near.position)
            return sorted(best.values(), key=lambda near: (-near.score, near.key))[:top]
        return self._probe(vector, vectors, top, among, approximate)

    def without_tcot(self, keys: Collection[str]) -> set[str]:
        """Return the keys among these whose items have no T-CoT; both of their vectors are the plain one."""
        if not keys or not self.lacks_tcots:
            return set()
        searching, num_rows = self._how()
        if searching.good("plain", num_rows) is None:
            return self._in_memory("plain").without_tcot(keys)
        return self.table.without_tcot(keys)

    @property
    def lacks_tcots(self) -> bool:
        """Whether some items have no T-CoT."""
        version = self.version
        if self._num_without_tcot is None or self._num_without_tcot[0] != version:
            self._num_without_tcot = version, self.table.num_without_tcot() if version else 0
        return self._num_without_tcot[1] > 0

    def stats(self) -> IndexStats:
        """Count items, places, modalities and T-CoTs."""
        keys, without, modalities = set(), 0, dict.fromkeys(MODALITIES, 0)
        for key, modality, has_tcot in self.table.scan_kinds():
            keys.add(key)
            without += not has_tcot
            modalities[modality] += 1
        num_places = sum(modalities.values())
        searching, num_rows = self._how()
        approximate = [built for vectors in VECTOR_COLUMNS if (built := searching.good(vectors, num_rows))]
        used = len(approximate) == len(VECTOR_COLUMNS)
        return IndexStats(
            num_places=num_places,
            num_items=len(keys),
            modalities={name: count for name, count in modalities.items() if count},
            num_without_tcot=without,
            embedder=self.embedder_name,
            dim=self.dim,
            search="approximate" if used else "exact",
            recall=min(built.recall for built in approximate) if used else 1.0,
            size_bytes=self.table.size_bytes,
        )

    # ---- writing

    def writing(self) -> WriterLock:
        """Acquire the folder's writer lock; `release()` it when done. Raises StoreError if another process holds it."""
        return WriterLock(self.directory / "writer.lock")

    def create_at(self, uri: str, shelf: str | None = None) -> None:
        """Create the table in object storage. Several folders can share it; each gets its own path prefix (`shelf`, by default its name).

        Raises ConfigError if the folder already has an index elsewhere, or the table belongs to another folder.
        """
        wanted = IndexLocation(directory=self.directory, uri=find_home(uri).uri, shelf=self.base.name if shelf is None else shelf)
        if not is_remote(uri) or wanted.shelf in ("", ".", ".."):
            raise ConfigError(f"table {uri!r}, shelf {wanted.shelf!r}: give a place such as s3://bucket/name, and a plain name")
        if wanted == self.home:
            return
        if self.table.is_there() or self.home.uri != str(self.directory):
            raise ConfigError(f"{str(self.base)!r}: its index lies at {self.home.uri!r}; `embedrl index move` moves it")
        table = open_table(wanted.uri, self.table.wanted)
        if table.is_there():
            if not table.is_shared:
                raise ConfigError(f"{wanted.uri!r}: this index belongs to one folder; give another place")
            if any(place.path.is_relative_to(wanted.shelf) for place in table.places()):
                raise ConfigError(f"{wanted.uri!r}: holds a folder named {wanted.shelf!r} already; give another --shelf")
        save_location(wanted)
        self.home, self.table = wanted, table

    def change_policy(self, **changes: object) -> None:
        """Change fields of the Policy: at once for this Index, and for all after its next `finish()`. Raises ConfigError."""
        try:
            self._policy = Policy.model_validate({**self._how()[0].policy.model_dump(), **changes})
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ConfigError(f"{wrong['loc'][0]}={wrong['input']!r}: {wrong['msg']}") from error
        self._searching = None

    def note_models(self, names: ModelNames) -> None:
        """Note by which names its models are loaded: now, or with the first rows."""
        self.names_to_note = names
        if self.table.is_there() and (names := names.after(before := self.model_names)) != before:
            self.table.keep_model_names(names.model_dump_json())

    def upsert(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows by place, in one commit. Durable when this returns."""
        if not rows:
            return
        if not self.table.is_there():
            self.table.create(is_shared=bool(self.home.shelf))
            if self.names_to_note:
                self.note_models(self.names_to_note)
        self.table.upsert(rows)

    def remove(self, ids: Sequence[str]) -> None:
        """Delete places by id; unknown ids are ignored."""
        self.table.remove(ids)

    def compact(self) -> None:
        """Compact the table: merge small files, drop old versions, and add new rows to its indexes."""
        if self.table.is_there():
            self.table.compact()

    def finish(self) -> None:
        """Finish a series of writes: compact, and build or extend the indexes that this number of rows needs."""
        if not self.table.is_there():
            return
        searching, num_rows = self._how()
        policy = searching.policy
        self.table.index_words()
        if num_rows >= _SCALAR_INDEX_FROM:
            self.table.index_scalars()
        built = self._build(searching, num_rows) if num_rows >= policy.exact_below else {}
        self.compact()
        measured = {vectors: self._measure(vectors, policy, num_rows, *fitted) for vectors, fitted in built.items()}
        searching = Searching(policy=policy, approximate=searching.approximate | measured)
        if searching != read_searching(self.table.settings, self.home.uri):
            self.table.keep_settings(searching.model_dump_json())

    # ---- inside

    def _how(self) -> tuple[Searching, int]:
        """Return the search settings and the number of rows, cached per version."""
        version = self.version
        if self._searching is None or self._searching[0] != version:
            settings = read_searching(self.table.settings, self.home.uri) if version else Searching()
            self._searching = version, settings if self._policy is None else settings.model_copy(update={"policy": self._policy}), len(self)
        return self._searching[1:]

    def _build(self, searching: Searching, num_rows: int) -> dict[Vectors, tuple[int, int]]:
        """Build the missing or outdated approximate indexes.

        Returns, for each index whose recall is to be measured, the number of rows it was fitted to and of its partitions.
        """
        to_measure: dict[Vectors, tuple[int, int]] = {}
        for vectors in VECTOR_COLUMNS:
            known = searching.approximate.get(vectors)
            if known is None or not known.serves(searching.policy, num_rows):
                to_measure[vectors] = num_rows, num_partitions(num_rows)
                self.table.keep_settings(Searching(policy=searching.policy).model_dump_json())  # exact, until it is measured
                self.table.index_vectors(vectors, searching.policy.kind, to_measure[vectors][1])
            elif not known.is_measured(searching.policy, num_rows):
                to_measure[vectors] = known.num_rows_built, known.num_partitions
        return to_measure

    def _measure(self, vectors: Vectors, policy: Policy, num_rows: int, num_rows_built: int, partitions: int) -> Approximate:
        def probe(query: np.ndarray, num_probes: int) -> np.ndarray:
            return self.table.probe(query, vectors, NUM_NEIGHBOURS, num_probes, policy.kind)[-1]

        def batches() -> Iterator[np.ndarray]:
            return (batch.vectors_ND for batch in self.table.scan_vectors(vectors))

        probes, recall = tune(probe, batches, num_rows, partitions, policy.recall)
        return Approximate(
            kind=policy.kind, num_rows_built=num_rows_built, num_rows=num_rows, num_partitions=partitions, num_probes=probes, recall=recall
        )

    def _probe(self, vector: np.ndarray, vectors: Vectors, top: int, among: Candidates, how: Approximate) -> list[Neighbour]:
        """Query the approximate index with a doubling limit until there are `top` items or no more rows."""
        excluded, limit = set(among.exclude_keys), top + len(among.exclude_keys)
        while True:
            places, scores = self.table.probe(vector, vectors, limit, how.num_probes, how.kind, among)
            best = np.array([position for key, position in places.first_of_each().items() if key not in excluded], dtype=int)
            if among.min_score is not None:
                best = best[np.round(scores[best], TIE_DECIMALS) >= among.min_score]
            if len(best) >= top or len(scores) < limit or (among.min_score is not None and scores[-1] < among.min_score):
                return places.ranked(best, scores, top)
            limit *= 2

    def _in_memory(self, vectors: Vectors) -> ExactVectors:
        with self._loading:
            version = self.version
            if vectors not in self._exact or self._exact[vectors][0] != version:
                self._exact[vectors] = (version, ExactVectors.first_of_each(self.table.scan_vectors(vectors), self.dim))
            return self._exact[vectors][1]


def embedder_of(path: str | Path, embedder: Embeds) -> Embeds:
    """Return an Embedder as the index of a folder holds its vectors: shortened, if it was made with fewer dimensions."""
    home = find_home(path)
    if not home.is_begun:
        return embedder
    table = open_table(home.uri, None)
    return as_indexed(embedder, *table.identity) if table.is_there() else embedder


def open_table(uri: str, wanted: tuple[str, int] | None) -> "Table":
    """Return the table at a place, for vectors of the `wanted` Embedder (fingerprint, dimension) if not None. Nothing is read yet."""
    from embedrl.index.lance import Table  # its library takes longer to import than what a wrong argument should cost

    return Table(uri, wanted)
