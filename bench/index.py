"""How fast the index takes in files and answers, how good its approximate search is, and that its memory does not grow.

First with fakes for models, so that the figures are those of the machinery around them (decoding, records, table, search);
then with the nano models, in batches and one by one.
"""

import io
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.index.approximate import Kind, Policy
from embedrl.index.exact import exact_scores, measure_recall
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.row import Place, Row, Stamp, place_id
from embedrl.log import progress, result, table
from embedrl.media.video import save_video
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.testing import FakeEmbedder, FakeReasoner
from embedrl.world.write import make_world

DIM = 192
SIZES = (1_000, 10_000, 100_000)
NUM_QUERIES = 40
COMMIT_ROWS = 20_000
TOP = 10
NUM_FILES = 200
NUM_AHEAD_FILES = 80
NUM_PAIRS = 90
MAX_GROWTH = 1.25
"""With four times the files, the process may need this many times the memory at most."""


def main(size: str = "") -> None:
    """Run everything and write the tables; ends with an error if memory grows with the folder. `--full`: a million vectors alone,
    `--overlap`: decoding beside the model alone."""
    with tempfile.TemporaryDirectory() as folder:
        if size == "--full":
            _search(Path(folder), (1_000_000,))
            return
        if size == "--overlap":
            _overlap(Path(folder))
            return
        _ingest(Path(folder))
        _nano(Path(folder))
        _overlap(Path(folder))
        _search(Path(folder), SIZES)


def write_files(folder: Path, count: int) -> Path:
    """Write pictures (1000 x 750, JPEG) and a clip per twenty of them; all differ."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 15, 20, 3), dtype=np.uint8)
    pictures = [PIL.Image.fromarray(each).resize((1000, 750), PIL.Image.Resampling.BICUBIC) for each in pixels]
    encoded = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    save_video([picture.resize((320, 240)) for picture in pictures], folder / "clip.mp4", fps=2)
    clip = (folder / "clip.mp4").read_bytes()
    (folder / "clip.mp4").unlink()
    for number in range(count):
        mark = number.to_bytes(4)
        if number % 20 == 0:  # a box of type "free" that players skip
            (folder / f"{number:05d}.mp4").write_bytes(clip + b"\0\0\0\x0cfree" + mark)
        else:
            (folder / f"{number:05d}.jpg").write_bytes(encoded[number % 8] + mark)
    return folder


def ingest_in_process(folder: Path) -> tuple[IngestReport, float, float]:
    """Index a folder; return the report and the memory of this process before and at its peak, MB."""
    embedder = FakeEmbedder(dim=DIM)
    before = _peak_mb()
    report = ingest(folder, Index.open(folder, embedder=embedder), FakeReasoner(), embedder, batch_size=16)
    return report, before, _peak_mb()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ingest(folder: Path) -> None:
    rows, peaks = [], []
    for count in (NUM_FILES, 4 * NUM_FILES):
        written = write_files(folder / f"files-{count}", count)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            report, before, peak = pool.submit(ingest_in_process, written).result()
            again, _, _ = pool.submit(ingest_in_process, written).result()
        assert report.added == count == again.unchanged, (report, again)
        peaks.append(peak)
        rates = [f"{count / report.seconds[phase]:.0f}" for phase in ("decode", "reason", "embed", "write", "total")]
        rows.append([count, *rates, f"{count / again.seconds['total']:.0f}", f"{before:.0f}", f"{peak:.0f}"])
    columns = ["files", "decode/s", "reason/s (fake)", "embed/s (fake)", "write/s", "all/s", "unchanged/s", "MB before", "MB at peak"]
    table("index: files a second, by phase, and memory", columns, rows)
    growth = peaks[1] / peaks[0]
    result(f"four times the files: {growth:.2f} times the memory (at most {MAX_GROWTH})")
    assert growth <= MAX_GROWTH, "memory grows with the folder"


def _nano(folder: Path) -> None:
    """Index one library with the nano models, in batches and one by one."""
    embedder, reasoner = load_embedder("nano"), load_reasoner("nano-sft")
    rows, totals = [], []
    for batch_size in (32, 1):
        library = folder / f"library-{batch_size}"
        make_world(library, NUM_PAIRS, seed=0)
        media = library / "media"
        media.mkdir()
        for kind in ("images", "videos", "documents"):
            (library / kind).rename(media / kind)
        report = ingest(media, Index.open(media, embedder=embedder), reasoner, embedder, batch_size=batch_size)
        totals.append(report.seconds["total"])
        rates = [f"{report.added / report.seconds[phase]:.1f}" for phase in ("decode", "reason", "embed", "write", "total")]
        rows.append([batch_size, report.added, *rates])
    table("index with the nano models: items a second, by phase", ["batch", "items", "decode", "reason", "embed", "write", "all"], rows)
    result(f"one by one takes {totals[1] / totals[0]:.2f} times as long as batches of 32")


class Elsewhere:
    """The nano Embedder's inputs, built here, and a forward pass that leaves this machine's cores alone: a wait of `item_s` an item."""

    def __init__(self, embedder: Embedder, item_s: float) -> None:
        self.embedder, self.item_s = embedder, item_s
        self.fingerprint, self.dim = f"{embedder.fingerprint}-elsewhere", embedder.dim

    def build(self, item: Item, tcot: TCoT | None) -> EmbedderInput:
        """Build an item's input."""
        return self.embedder.build(item, tcot)

    def embed_built(self, built: Sequence[EmbedderInput]) -> np.ndarray:
        """Return one direction for all, after the wait."""
        time.sleep(self.item_s * len(built))
        return np.tile(np.eye(1, self.dim, dtype=np.float32), (len(built), 1))

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Build and embed."""
        return self.embed_built([self.build(item, tcot) for item, tcot in zip(items, tcots, strict=True)])


def _overlap(folder: Path) -> None:
    """Index the same files one thing after the other, and with reading and decoding ahead of the model: in turns, in one run."""
    nano = load_embedder("nano")
    assert isinstance(nano, Embedder)
    rows = []
    for name, embedder in (("nano, on these cores", nano), ("a model elsewhere, 20 ms an item", Elsewhere(nano, 0.02))):
        seconds, shares = {0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0}
        for turn, num_ahead in enumerate((0, 1, 1, 0)):
            media = write_files(folder / f"ahead-{embedder.fingerprint}-{turn}", NUM_AHEAD_FILES)
            index = Index.open(media, embedder=embedder)
            report = ingest(media, index, None, embedder, think=False, batch_size=16, num_ahead=num_ahead)
            assert report.added == NUM_AHEAD_FILES, report
            seconds[num_ahead] += report.seconds["total"] / 2
            shares[num_ahead] += report.model_share / 2
        ratio = f"{seconds[0] / seconds[1]:.2f}"
        rows.append((name, *(f"{seconds[ahead]:.1f} ({shares[ahead]:.0%})" for ahead in (0, 1)), ratio))
    columns = ("model", "one after the other, s (model busy)", "ahead, s (model busy)", "times as fast")
    table(f"index {NUM_AHEAD_FILES} pictures and clips, plain vectors, batches of 16", columns, rows)


def _search(folder: Path, sizes: Sequence[int]) -> None:
    rows = []
    for size in sizes:
        vectors = _vectors(size)
        rng = np.random.default_rng(1)
        queries = vectors[rng.integers(size, size=NUM_QUERIES)] + rng.normal(size=(NUM_QUERIES, DIM)).astype(np.float32) * (0.3 / DIM**0.5)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        index = Index.open(folder / f"vectors-{size}", embedder=FakeEmbedder(dim=DIM))
        started = time.perf_counter()
        for start in progress(range(0, size, COMMIT_ROWS), f"write {size} vectors"):
            index.upsert(_rows(vectors[start : start + COMMIT_ROWS], start))
        write_s = time.perf_counter() - started
        plain_ms = _latency_ms(lambda query, vectors=vectors: np.argpartition(-(vectors @ query), TOP)[:TOP], queries)
        truth = exact_scores(np.array_split(vectors, max(1, size // 50_000)), queries, TOP)
        for kind in get_args(Kind) if size >= Policy().exact_below else ("exact",):
            if kind != "exact":
                index.change_policy(kind=kind)
            started = time.perf_counter()
            index.finish()
            finish_s = time.perf_counter() - started
            found = lambda query, index=index: np.array([hit.score for hit in index.nearest(query, "plain", TOP)])  # noqa: E731
            recall = measure_recall(found, queries, truth)
            index_ms = _latency_ms(lambda query, index=index: index.nearest(query, "plain", TOP), queries)
            rows_ms = _latency_ms(lambda query, index=index: index.rows([hit.key for hit in index.nearest(query, "plain", TOP)]), queries)
            figures = [write_s, finish_s, plain_ms, index_ms, index_ms / plain_ms, rows_ms, index.stats().size_bytes / 1e6]
            rows.append([f"{size:,}", kind, f"{recall:.4f}", *(f"{figure:.2f}" for figure in figures)])
    columns = [
        "vectors",
        "index",
        "recall@10",
        "write s",
        "build s",
        "numpy ms",
        "nearest ms",
        "nearest / numpy",
        "with rows ms",
        "MB on disk",
    ]
    table(f"search: median of {NUM_QUERIES} queries, dimension {DIM}; numpy is the exact product and selection alone", columns, rows)


def _vectors(count: int) -> np.ndarray:
    """Return clustered unit vectors, float32 (count, DIM)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, DIM)).astype(np.float32)
    vectors = centres[rng.integers(300, size=count)] + 0.7 * rng.normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rows(vectors: np.ndarray, first: int) -> list[Row]:
    rows = []
    for number, vector in enumerate(vectors, first):
        path = Path(f"{number}.jpg")
        place = Place(id=place_id(path, None), key=f"{number:064x}", path=path, stamp=Stamp(size=1, mtime_ns=1), reasoner="fake")
        rows.append(Row(place=place, modality="image", plain=vector, tcot=vector, embedder="fake-embedder", created_s=0.0))
    return rows


def _latency_ms(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Return the median time of a query, after one that warms up."""
    search(queries[0])
    times = []
    for query in queries:
        started = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
