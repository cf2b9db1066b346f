"""Search with results folded by file read the places of its 1,000 best units at each search: 2.7 times the plain search (issue 23, 6)."""

import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.index.approximate import Policy
from embedrl.index.exact import Places
from embedrl.index.hit import WHOLE, Catalogue, Hit, View, places_by_key
from embedrl.index.index import Index
from embedrl.index.lance import Table
from embedrl.index.query import Query
from embedrl.index.row import Place, Row, Stamp, place_id
from embedrl.index.search import search
from embedrl.media.content import Text

NUM_FILES, UNITS, DIM = 30, 20, 16


class CountingTable(Table):
    """Counts the items whose rows are looked up."""

    num_looked_up = 0

    def rows(self, keys: Collection[str]) -> list[Row]:
        self.num_looked_up += len(keys)
        return super().rows(keys)

    def places_of(self, keys: Collection[str]) -> list[Place]:
        self.num_looked_up += len(keys)
        return super().places_of(keys)

    def parts_of(self, keys: Collection[str]) -> Places:
        self.num_looked_up += len(keys)
        return super().parts_of(keys)


class FixedEmbedder:
    """Embeds everything as the same vector."""

    fingerprint, dim = "fixed", DIM

    def embed(self, items: list[Item], tcots: list[TCoT | None]) -> np.ndarray:
        return np.repeat(np.eye(1, DIM, dtype=np.float32), len(items), axis=0)


def row(path: str, unit: int, key: str, vector: np.ndarray, **part: float) -> Row:
    name = Path(path)
    place = Place(
        id=place_id(name, None, unit),
        key=key,
        path=name,
        unit=unit,
        num_places=UNITS,
        start_char=None if part else 100 * unit,
        end_char=None if part else 100 * unit + 90,
        stamp=Stamp(size=1, mtime_ns=1),
    )
    modality = "video" if part else "text"
    return Row(place=place, modality=modality, plain=vector, tcot=vector, embedder="fixed", created_s=time.time(), **part)


def filled(folder: Path, rows: list[Row], policy: Policy | None = None) -> Index:
    index = Index.open(folder, embedder=FixedEmbedder())
    if policy is not None:
        index.change_policy(**policy.model_dump())
    index.upsert(rows)
    index.finish()
    return index


def unit_rows() -> list[Row]:
    """20 passages of 15 texts, and 20 scenes of 15 films."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(NUM_FILES * UNITS):
        vector = rng.normal(size=DIM)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        file, unit = divmod(number, UNITS)
        span = {"start_s": 2.0 * unit, "end_s": 2.0 * unit + 2} if file % 2 else {}
        rows.append(row(f"{file:02}.{'mp4' if span else 'txt'}", unit + 1, f"{number:064x}", vector, **span))
    return rows


def hits_of(index: Index, unit: str = "file", view: View = WHOLE) -> tuple[Hit, ...]:
    return search(index, Query((Text(text="?"),), use_tcot=False, unit=unit), FixedEmbedder(), view=view).hits


@pytest.mark.parametrize("policy", [None, Policy(exact_below=100, recall=0.5)], ids=["exact", "approximate"])
def test_folding_looks_up_no_more_than_the_search_for_units(tmp_path: Path, policy: Policy | None):
    index = filled(tmp_path, unit_rows(), policy)
    assert index.stats().search == ("exact" if policy is None else "approximate")
    index.table = CountingTable(index.home.uri, None)
    hits_of(index, "unit")
    by_unit, index.table.num_looked_up = index.table.num_looked_up, 0
    hits = hits_of(index)
    assert len(hits) == 10
    assert index.table.num_looked_up <= by_unit


@pytest.mark.parametrize("policy", [None, Policy(exact_below=100, recall=1.0)], ids=["exact", "approximate"])
def test_folded_results_are_the_units_grouped(tmp_path: Path, policy: Policy | None):
    rows = unit_rows()
    index = filled(tmp_path, rows, policy)
    best_first = sorted(rows, key=lambda row: (-round(float(row.plain[0]), 6), row.place.key))
    files: dict[Path, list[Row]] = {}
    for each in best_first:
        files.setdefault(each.place.path, []).append(each)
    catalogue = Catalogue(index.version, places_by_key(index.places()))
    for view in (WHOLE, View(catalogue=lambda: catalogue)):
        hits = hits_of(index, view=view)
        assert [hit.path for hit in hits] == list(files)[:10]
        for hit in hits:
            units = files[hit.path]
            assert hit.key == units[0].place.key
            assert hit.num_other_units == UNITS - 1
            parts = [(row.place.key, row.place.unit, row.place.start_char, row.start_s, row.end_s) for row in units[1:6]]
            assert [(other.key, other.unit, other.start_char, other.start_s, other.end_s) for other in hit.other_units] == parts


@pytest.mark.parametrize("policy", [None, Policy(exact_below=20, recall=1.0)], ids=["exact", "approximate"])
def test_content_of_two_files_is_a_unit_of_the_first(tmp_path: Path, policy: Policy | None):
    vectors = np.eye(DIM, dtype=np.float32)
    closest = ((vectors[0] + 0.1 * vectors[1]) / np.linalg.norm(vectors[0] + 0.1 * vectors[1])).astype(np.float32)
    both = [row(name, unit, "b" * 64, closest) for name, unit in (("z.txt", 3), ("a.txt", 9), ("a.txt", 2))]
    others = [row("q.txt", number, f"{number:064x}", vectors[1 + number % 15]) for number in range(1, 40)]
    index = filled(tmp_path, [*both, row("a.txt", 1, "a" * 64, vectors[0]), *others], policy)
    first = hits_of(index)[0]
    assert first.path == Path("a.txt")
    assert [(other.key[0], other.unit, other.start_char) for other in first.other_units] == [("b", 2, 200)]
