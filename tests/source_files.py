"""Small files in the formats of other people's data, made by the test that reads them."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from embedrl.data.sample import Pair
from embedrl.data.sources import SOURCES, SourceProblem
from tests.odd_media import numbered_frames

QUESTION = "<|image_1|>\nWhat is on the table?\n"
GOOD = '<thinking> A bus. {"bbox_2d": [[120, 300, 540, 800]]} </thinking><rethink> ok </rethink><answer> a green bus </answer>'


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (32, 24), (level, 40, 200)).save(path)
    return path


def encoded(level: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (32, 24), (level, 40, 200)).save(buffer, kind)
    return buffer.getvalue()


def mmeb_row(**changes: Any) -> dict[str, Any]:
    row = {"qry": QUESTION, "qry_image_path": "images/a.png", "pos_text": "a kettle", "pos_image_path": "", "neg_text": ""}
    return {**row, "neg_image_path": None, **changes}


def tcot_row(query: str | None = GOOD, target: str | None = GOOD, **changes: Any) -> dict[str, Any]:
    return mmeb_row(**{"query_cot": query, "pos_cot": target, "error": "", **changes})


def write_json(path: Path, rows: Iterable[Any], indent: int | None = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(rows), indent=indent, ensure_ascii=False), "utf-8")
    return path


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def read(source: str, path: Path, *args: Any, **settings: Any) -> tuple[list[Pair], list[SourceProblem]]:
    outcomes = list(SOURCES[source](path, *args, **settings))
    pairs = [outcome for outcome in outcomes if isinstance(outcome, Pair)]
    return pairs, [outcome for outcome in outcomes if isinstance(outcome, SourceProblem)]


def frame_folder(folder: Path, count: int) -> list[str]:
    """Write frames whose level tells their number, under names that do not sort as text, and return these."""
    folder.mkdir(parents=True)
    names = [f"c01_{number + 1}.png" for number in range(count)]
    for name, frame in zip(names, numbered_frames(count), strict=True):
        frame.save(folder / name)
    (folder / "info.json").write_text("{}")
    return names
