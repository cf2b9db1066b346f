"""MMEB-train: pairs of texts and images, some with a hard negative; one Parquet or JSON file per data set.

A row: {"qry": "<|image_1|>\\nName the thing on the table.\\n", "qry_image_path": "images/OK-VQA/a.jpg", "pos_text": "a kettle",
"pos_image_path": "", "neg_text": "a cup", "neg_image_path": ""}. Rows do not mark where the instruction ends and the text
begins, so the whole stays text.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embedrl.data.sample import Pair
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.pair import make_pair, side
from embedrl.data.sources.parquet import read_parquet
from embedrl.data.sources.row import Outcome, ProblemKind, RowError, make_pairs
from embedrl.data.sources.row_file import task_name
from embedrl.data.sources.stream import read_json
from embedrl.errors import MediaError
from embedrl.media.content import Content


class MMEBRow(BaseModel):
    """A row of MMEB-train. An empty or missing path means that there is no image."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    qry: str | None
    qry_image_path: str | None = None
    pos_text: str | None
    pos_image_path: str | None = None
    neg_text: str | None = None
    neg_image_path: str | None = None


def read_mmeb(path: Path, media_root: Path | None = None, *, task: str | None = None) -> Iterator[Outcome]:
    """Read MMEB-train rows of a .parquet file, or else of JSON. Images lie under `media_root` (default: the file's folder).

    `task` is the file's name (a shard's folder's) unless given.
    """
    media, name = MediaFolder(media_root or path.parent), task or task_name(path)
    columns = tuple(MMEBRow.model_fields)
    required = tuple(column for column, field in MMEBRow.model_fields.items() if field.is_required())
    rows = read_parquet(path, required, columns) if path.suffix == ".parquet" else read_json(path)
    return make_pairs(path, rows, lambda row: mmeb_pair(MMEBRow.model_validate(row), name, media))


def mmeb_pair(row: MMEBRow, task: str, media: MediaFolder) -> Iterator[Pair | RowError]:
    """Make the pair of a row, and a RowError if its hard negative is unusable."""
    query = _side(row.qry, row.qry_image_path, media)
    target = _side(row.pos_text, row.pos_image_path, media)
    negative: Content = ()
    try:
        negative = _side(row.neg_text, row.neg_image_path, media)
    except MediaError as error:
        yield RowError(ProblemKind.MEDIA, f"the hard negative is left out: {error}")
    yield make_pair(task, query, target, negatives=[negative] if negative else [])


def _side(text: str | None, image: str | None, media: MediaFolder) -> Content:
    return side(text, *([media.image(image)] if image else []))
