"""MMEB-V2 document datasets in BEIR layout (`queries`, `corpus`, `qrels`); every query ranks all pages.

Rows: {"query-id": 0, "query": "who signed page two?"}, {"corpus-id": 17, "image": …} and {"query-id": 0, "corpus-id": 17, "score": 1}.
Other layouts call these columns "corpus_id" and "query_id" (ViDoRe v3), "_id" and "text" (BEIR), or "id" and "text" (mteb).
A page lies as an image named after its id. One that does not is taken from its row and written there.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path, PurePath

from embedrl.data.sources.media_folder import MediaFolder
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.pool import Name, Pool
from embedrl.evaluation.benchmarks.queries import asks
from embedrl.evaluation.benchmarks.rows import read_rows
from embedrl.evaluation.benchmarks.source import Layout, Source
from embedrl.files import write_bytes
from embedrl.media.content import Content

_CORPUS = {"corpus-id": ("corpus_id", "_id", "id")}
_QUERY = {"query-id": ("query_id", "_id", "id"), "query": ("text",)}
_RELATIONS = {"corpus-id": ("corpus_id",), "query-id": ("query_id",)}
"""Column -> its names in other layouts."""
_STEM_CHARS = 50
_MAX_CHARS = 200
"""Of an id that is taken as it is; file systems end at 255 bytes."""


def read_pages(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset. A query that no page is right for is left out, as the benchmark's evaluator does; the counts show it."""
    pool = Pool(source, inspection)
    folder = data / source.media
    if inspection.gather and not folder.is_dir():
        inspection.report(
            source.name, f"the folder {str(folder)!r} is missing; unpack its pages there, or let an evaluation take them from the rows"
        )
        return pool
    folder.mkdir(parents=True, exist_ok=True)
    media, ask = MediaFolder(folder), asks(source, data, num_frames)
    pages = _ids(source, data, inspection, "corpus")
    _unpack(source, data, inspection, {page for page in pages if not (folder / image_name(page)).is_file()}, folder)
    for page, row in pages.items():
        pool.offer(page, _shown(media, page), row)
    page_of = {str(page): page for page in reversed(pages)}  # an id may be a number in one part and a text in another
    relevant: dict[str, dict[Name, float]] = {}
    for number, row in read_rows(source, data, inspection, ("query-id", "corpus-id", "score"), config="qrels", spellings=_RELATIONS):
        query, score = str(row["query-id"]), float(row["score"])
        if (page := page_of.get(str(row["corpus-id"]))) is None:
            inspection.report(source.name, f"qrels: there is no page {row['corpus-id']!r}; download the corpus again", number)
        elif not math.isfinite(score):
            inspection.report(source.name, f"qrels: {score} is no grade; download them again", number)
        elif score > 0:
            grades = relevant.setdefault(query, {})
            grades[page] = max(score, grades.get(page, 0.0))
    seen: dict[Name, int] = {}
    for number, row in read_rows(source, data, inspection, ("query-id", "query"), ("language",), config="queries", spellings=_QUERY):
        name = row["query-id"]
        if source.language and row.get("language") != source.language:
            continue
        if inspection.is_first(seen, name, source.name, "queries", number) and str(name) in relevant:
            pool.ask(lambda row=row: ask(row), relevant[str(name)], number)
    return pool


def image_name(page: Name) -> str:
    """Return the file name of a page: an id that is a file name itself, or is more than a name, is shortened, with 8 digits of its md5."""
    path = PurePath(str(page))
    if isinstance(page, int) or (not path.suffix and str(page) == path.name and 0 < len(path.name) <= _MAX_CHARS):
        return f"{page}.png"
    digits = hashlib.md5(str(page).encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{path.stem[:_STEM_CHARS]}_{digits}{path.suffix or '.png'}"


def _shown(media: MediaFolder, page: Name) -> Callable[[], Content]:
    return lambda: (media.image(image_name(page)),)


def _ids(source: Source, data: Path, inspection: Inspection, part: str) -> dict[Name, int]:
    """Return the ids of the corpus with their rows; one that repeats is reported."""
    row_of_id: dict[Name, int] = {}
    for number, row in read_rows(source, data, inspection, ("corpus-id",), config=part, spellings=_CORPUS):
        inspection.is_first(row_of_id, row["corpus-id"], source.name, part, number)
    return row_of_id


def _unpack(source: Source, data: Path, inspection: Inspection, missing: set[Name], folder: Path) -> None:
    """Write pages that have no file from the images in their rows; those without are reported when they are looked for."""
    if not missing or inspection.gather:
        return
    for _, row in read_rows(source, data, inspection, ("corpus-id",), ("image",), config="corpus", spellings=_CORPUS):
        image = row.get("image")
        held = image.get("bytes") if isinstance(image, dict) else image
        if row["corpus-id"] in missing and isinstance(held, bytes):
            write_bytes(folder / image_name(row["corpus-id"]), held)


PAGES = Layout("pages", read_pages, wanted="image", has_media=False)
