"""Small invented datasets in every layout of the official files, each with a table row of its own."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from embedrl.evaluation.benchmarks.image import IMAGE_BOTH, IMAGE_PATH, IMAGE_TEXT
from embedrl.evaluation.benchmarks.moments import MOMENTS, MOMENTSEEKER
from embedrl.evaluation.benchmarks.pages import PAGES
from embedrl.evaluation.benchmarks.read_uvrb import UVRB_ROWS
from embedrl.evaluation.benchmarks.source import Official, Source
from embedrl.evaluation.benchmarks.video import QUESTION_LAYOUTS, TEXT_VIDEO, VIDEO_LABEL, VIDEO_TEXTS
from embedrl.evaluation.tables import Benchmark, Dataset
from embedrl.evaluation.task import Modality
from tests.source_files import frame_folder, picture, write_parquet

ROWS = "rows/set"


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


LAYOUTS = {
    layout.name: layout
    for layout in (
        *(IMAGE_TEXT, IMAGE_PATH, IMAGE_BOTH, VIDEO_LABEL, VIDEO_TEXTS, TEXT_VIDEO, MOMENTS, MOMENTSEEKER, PAGES, UVRB_ROWS),
        *QUESTION_LAYOUTS.values(),
    )
}


def official(layout: str, num_queries: int = 2, modality: Modality = "video", **settings: Any) -> Official:
    """Return a benchmark of one dataset called "set"."""
    source = Source("set", modality, LAYOUTS[layout], ROWS, **{"media": "media", "instructions": ("Find it.", "Describe it."), **settings})
    return Official(Benchmark("small", (Dataset("set", modality, (), "hit@1", num_queries),), {"all": ("set",)}), (source,), "nowhere")


def frames(data: Path, *names: str) -> None:
    for name in names:
        if not (data / "media" / name).is_dir():
            frame_folder(data / "media" / name, 3)


def image_row(**changes: Any) -> dict[str, Any]:
    row = {"qry_inst": "<|image_1|>\nName it.\n", "qry_text": "", "qry_img_path": "a.png", "tgt_inst": ""}
    return {**row, "tgt_text": ["cat", "dog"], "tgt_img_path": ["", ""], **changes}


def images(data: Path, *rows: Mapping[str, Any]) -> Path:
    """Write image rows as Parquet, and two pictures."""
    for level, name in enumerate(("a.png", "b.png")):
        picture(data / "media" / name, 90 * level)
    return write_parquet(data / ROWS / "test-00000-of-00001.parquet", [dict(row) for row in rows])


def pages(data: Path, **changes: list[dict[str, Any]]) -> None:
    """Write queries, corpus and qrels, and the pages as files."""
    parts = {
        "queries": [{"query-id": 0, "query": "who signed?", "language": "english"}, {"query-id": 1, "query": "qui?", "language": "french"}],
        "corpus": [{"corpus-id": 17}, {"corpus-id": 18}, {"corpus-id": 19}],
        "qrels": [
            {"query-id": 0, "corpus-id": 18, "score": 3},
            {"query-id": 0, "corpus-id": 17, "score": 2},
            {"query-id": 0, "corpus-id": 18, "score": 1},
            {"query-id": 0, "corpus-id": 19, "score": 0},
            {"query-id": 1, "corpus-id": 19, "score": 1},
        ],
        **changes,
    }
    for number, page in enumerate((17, 18, 19)):
        picture(data / "media" / f"{page}.png", 80 * number)
    for part, rows in parts.items():
        lines(data / ROWS / part / "test.jsonl", rows)


def uvrb(data: Path, **changes: list[dict[str, Any]]) -> None:
    """Write a dataset of UVRB as it is downloaded: in a second folder of its name."""
    root = data / "set" / "UVRB" / "set"
    parts = {
        "queries": [
            {"id": "q1", "text": "it tilts", "video": "", "image": ""},
            {"id": "q2", "text": "", "image": "i.png", "video": "x.mp4"},
        ],
        "corpus": [{"id": "d1", "video": "one.mp4"}, {"id": "d2", "video": "sub/two.mp4"}],
        "instances": [{"qid": "q1", "pos": ["d1"]}, {"qid": "q2", "pos": ["d1"]}, {"qid": "q2", "pos": ["d2"]}],
        **changes,
    }
    for part, rows in parts.items():
        lines(root / "jsonl" / f"{part}.jsonl", rows)
    picture(root / "images" / "i.png")
    for number, name in enumerate(("one", "sub/two")):
        if not (root / "videos_frames" / name).is_dir():
            frame_folder(root / "videos_frames" / name, 2 + number)
