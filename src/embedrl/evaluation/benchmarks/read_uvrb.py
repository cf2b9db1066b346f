"""Reader of UVRB's files: `jsonl/queries.jsonl`, `corpus.jsonl`, `instances.jsonl` and frame folders.

Lines: {"id": "q7", "text": "camera tilts up", "video": "", "image": ""}, {"id": "d3", "video": "clip_3.mp4"} and {"qid": "q7",
"pos": ["d3"]}. A query's image counts before its video. Several lines of instances about one query are merged; a query
without any counts as 0, as in the benchmark.
"""

from pathlib import Path
from typing import Any

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.pair import plain, side
from embedrl.data.sources.row_file import PACKED_SUFFIX
from embedrl.data.sources.stream import read_json
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.pool import Name, Pool
from embedrl.evaluation.benchmarks.queries import FrameFolders, some
from embedrl.evaluation.benchmarks.rows import columns_of, list_of
from embedrl.evaluation.benchmarks.source import Layout, Source


def read_uvrb(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset; every query ranks the whole corpus."""
    pool = Pool(source, inspection)
    root = dataset_folder(source.name, data)
    if root is None:
        inspection.report(source.name, f"no folder of it with jsonl/queries.jsonl in {str(data)!r}; download {source.rows} there")
        return pool
    frames = FrameFolders(MediaFolder(root / "videos_frames" if (root / "videos_frames").is_dir() else root), num_frames)
    images = MediaFolder(root / "images" if (root / "images").is_dir() else root)
    known: dict[str, int] = {}
    for number, row in _lines(root, "corpus", ("id", "video"), source, inspection):
        inspection.is_first(known, row["id"], source.name, "corpus", number)
        pool.offer(row["id"], lambda row=row: (frames.video(row["video"]),), number)
    relevant: dict[str, dict[Name, float]] = {}
    for _, row in _lines(root, "instances", ("qid", "pos"), source, inspection):
        relevant.setdefault(row["qid"], {}).update(dict.fromkeys(list_of(row, "pos"), 1.0))

    def ask(row: dict[str, Any]) -> Item:
        name, video = row.get("image"), row.get("video")
        seen = [images.image(name)] if name else [frames.video(video)] if video else []
        return items.query(
            some(side(row.get("text"), *seen)),
            plain(source.instruction(0)),
            looking_for=source.layout.wanted,
        )

    asked: dict[str, int] = {}
    for number, row in _lines(root, "queries", ("id",), source, inspection):
        if inspection.is_first(asked, row["id"], source.name, "queries", number):
            pool.ask(lambda row=row: ask(row), relevant.get(row["id"], {}), number, allow_unlabelled=True)
    return pool


def dataset_folder(name: str, data: Path) -> Path | None:
    """Return where a dataset lies under `data`: in its own folder, inside a second UVRB/<name>, with hyphens or underscores."""
    spellings = dict.fromkeys((name, name.replace("-", "_")))
    homes = [data / place for spelling in spellings for place in (f"{spelling}/UVRB/{spelling}", f"UVRB/{spelling}", spelling)]
    return next((home for home in homes if _part_file(home, "queries")), None)


def _part_file(root: Path, part: str) -> Path | None:
    return next((path for suffix in ("", PACKED_SUFFIX) if (path := root / "jsonl" / f"{part}.jsonl{suffix}").is_file()), None)


def _lines(root: Path, part: str, required: tuple[str, ...], source: Source, inspection: Inspection) -> Any:
    path = _part_file(root, part)
    if path is None:
        inspection.report(source.name, f"{str(root / 'jsonl' / f'{part}.jsonl')!r} is missing; download it")
        return
    for number, row in enumerate(read_json(path), 1):
        if not isinstance(row, dict) or any(row.get(name) is None for name in required):
            what = str(row) if isinstance(row, Exception) else f"it needs {', '.join(required)}"
            what += f", and has only {columns_of(row)}" if isinstance(row, dict) else ""
            inspection.report(source.name, f"{part}: {what}; download {str(path)!r} again", number)
        else:
            inspection.row = number
            yield number, row


UVRB_ROWS = Layout("uvrb", read_uvrb, wanted="video", has_media=False)
