"""Search with results folded by file, beside the plain search of units: median times in one run, in turns.

    python bench/folding.py [rows ...]

Rows are passages of files with `UNITS_PER_FILE` each, clustered vectors of 64 numbers; a search is everything behind the Embedder (ranking,
places, folding, rows of the ten hits). As the command line and Python search, and as a server does, which keeps the places in memory.
Wanted: at most 1.5 times.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.index.hit import WHOLE, Catalogue, View, places_by_key
from embedrl.index.index import Index
from embedrl.index.query import Query, ResultUnit
from embedrl.index.row import Place, Row, Stamp, place_id
from embedrl.index.search import search
from embedrl.log import progress, result, table
from embedrl.media.content import Text

DIM = 64
SIZES = (20_000, 100_000)
UNITS_PER_FILE = 20
NUM_QUERIES = 40
COMMIT_ROWS = 20_000
WANTED = 1.5
COLUMNS = ("rows", "units ms", "by file ms", "ratio", "served: units ms", "by file ms", "ratio", "write s", "finish s", "MB")


class NumberedEmbedder:
    """Gives the vector of a number that a text is."""

    fingerprint, dim = "numbered", DIM

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, DIM), unit length."""
        rows = np.stack([self.vectors[int(item.text)] for item in items])
        noisy = rows + np.random.default_rng(int(items[0].text)).normal(size=rows.shape) * (0.3 / DIM**0.5)
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def main(*sizes: str) -> None:
    """Measure for each size and print the table."""
    rows = []
    for size in map(int, sizes or SIZES):
        with tempfile.TemporaryDirectory() as name:
            rows.append(measure(Path(name), size))
    table(f"{NUM_QUERIES} searches for 10 results, median", COLUMNS, rows)
    result(f"wanted: a ratio of at most {WANTED}")


def measure(folder: Path, size: int) -> tuple[str, ...]:
    """Write an index and search it both ways."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(size // UNITS_PER_FILE, DIM))
    vectors = np.repeat(centres, UNITS_PER_FILE, axis=0)[:size] + 0.9 * rng.normal(size=(size, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    embedder = NumberedEmbedder(vectors)
    index = Index.open(folder, embedder=embedder)
    started = time.perf_counter()
    for start in progress(range(0, size, COMMIT_ROWS), f"write {size:,} rows"):
        index.upsert([row_of(number, vectors[number]) for number in range(start, min(start + COMMIT_ROWS, size))])
    written = time.perf_counter()
    index.finish()
    finished = time.perf_counter()
    catalogue = Catalogue(index.version, places_by_key(index.places()))
    views = (WHOLE, View(catalogue=lambda: catalogue))
    units: tuple[ResultUnit, ...] = ("unit", "file")
    times: list[list[float]] = []
    for number in rng.integers(size, size=NUM_QUERIES + 1):
        queries = [Query((Text(text=str(number)),), use_tcot=False, unit=unit) for unit in units]
        times.append([search(index, query, embedder, view=view).timings.search_s for view in views for query in queries])
    unit_s, file_s, served_unit_s, served_file_s = (statistics.median(taken) for taken in zip(*times[1:], strict=True))
    milliseconds = (
        1000 * unit_s,
        1000 * file_s,
        file_s / unit_s,
        1000 * served_unit_s,
        1000 * served_file_s,
        served_file_s / served_unit_s,
    )
    figures = (*milliseconds, written - started, finished - written, index.stats().size_bytes / 1e6)
    return (f"{size:,}", *(f"{figure:.2f}" for figure in figures))


def row_of(number: int, vector: np.ndarray) -> Row:
    """Make the row of a passage."""
    path, unit = Path(f"{number // UNITS_PER_FILE}.txt"), number % UNITS_PER_FILE + 1
    places = {"id": place_id(path, None, unit), "key": f"{number:064x}", "path": path, "unit": unit, "num_places": UNITS_PER_FILE}
    places |= {"start_char": 1000 * unit, "end_char": 1000 * unit + 900}
    place = Place(**places, stamp=Stamp(size=1, mtime_ns=1))
    return Row(place=place, modality="text", plain=vector, tcot=vector, text=f"passage {number}", embedder="numbered", created_s=0.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
