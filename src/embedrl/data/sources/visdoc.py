"""Training sets of ViDoRe (ColPali) and VisRAG: document pages with their questions, as Parquet.

Images come inside the rows: {"query": "Which year had the peak?", "answer": "2019", "image": {"bytes": …, "path": "p.jpg"}}.
They are written under `media_root`, once, by the hash of their bytes: pairs stay small, and keys do not depend on where they lie.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from embedrl.data.items import ANSWER, DESCRIBE, FIND
from embedrl.data.sample import Pair
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.pair import make_pair, side
from embedrl.data.sources.parquet import read_parquet
from embedrl.data.sources.row import Outcome, ProblemKind, RowError, make_pairs
from embedrl.errors import ConfigError, cause
from embedrl.media.content import Image


class _EmbeddedImage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    data: bytes | None = Field(default=None, alias="bytes")
    path: str | None = None


class VisRAGRow(BaseModel):
    """A question and the page that answers it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    query: str | None
    image: _EmbeddedImage

    @field_validator("image", mode="before")
    @classmethod
    def _struct(cls, value: object) -> object:
        """Read a column of bare bytes, or of paths, as well."""
        return {"bytes": value} if isinstance(value, bytes) else {"path": value} if isinstance(value, str) else value


class ViDoReRow(VisRAGRow):
    """A page, a question about it, and the answer."""

    answer: str | None
    image_filename: str | None = None


def read_vidore(path: Path, media_root: Path | None = None, *, task: str = "vidore") -> Iterator[Outcome]:
    """Read ViDoRe rows: the query is a page with a question, the target the answer."""
    media = _writable(media_root)

    def make(raw: Any) -> Iterator[Pair]:
        row = ViDoReRow.model_validate(raw)
        page = _page(row.image, row.image_filename, media)
        yield make_pair(task, side(row.query, page), side(row.answer), instructions=(ANSWER["page"], DESCRIBE["text"]))

    return make_pairs(path, read_parquet(path, ("query", "answer", "image"), ("image_filename",)), make)


def read_visrag(path: Path, media_root: Path | None = None, *, task: str = "visrag") -> Iterator[Outcome]:
    """Read VisRAG rows: the query is a question, the target the page."""
    media = _writable(media_root)

    def make(raw: Any) -> Iterator[Pair]:
        row = VisRAGRow.model_validate(raw)
        yield make_pair(task, side(row.query), (_page(row.image, None, media),), instructions=(FIND["page"], DESCRIBE["page"]))

    return make_pairs(path, read_parquet(path, ("query", "image")), make)


def _writable(media_root: Path | None) -> MediaFolder:
    if media_root is None:
        raise ConfigError("media_root=None: give a folder; the images inside the rows are written there")
    try:
        media_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"media_root={str(media_root)!r}: cannot be made {cause(error)}") from error
    return MediaFolder(media_root)


def _page(image: _EmbeddedImage, name: str | None, media: MediaFolder) -> Image:
    if image.data:
        return media.written(image.data, name or image.path or "image")
    if image.path:
        return media.image(image.path)
    raise RowError(ProblemKind.EMPTY, "the row holds no image")
