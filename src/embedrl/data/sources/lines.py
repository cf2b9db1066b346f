"""Our own JSON Lines: one pair a line, written by hand or by `embedrl world make`.

By hand, a side is a text, one medium, or both; roles follow from that::

    {"task": "shop", "query": {"text": "red mug", "instruction": "Find the picture that fits the text."},
     "target": {"image": "mugs/red.jpg"}, "negatives": [{"image": "mugs/blue.jpg"}], "query_tcot": "<thinking> …"}

The media of a side are "image", "video" (with "start_s" and "end_s") and "page" (with "number"). A line of a world, or of what
`embedrl filter` wrote, holds a whole Pair under "pair", and perhaps the same T-CoTs; what else it holds is left.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.sample import Item, Pair
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.pair import make_pair, side
from embedrl.data.sources.row import Outcome, annotated, make_pairs
from embedrl.data.sources.row_file import task_name
from embedrl.data.sources.stream import read_json
from embedrl.media.content import Content, Image, Page, Video


class Side(BaseModel):
    """One side in the hand-written format."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    image: Path | None = None
    video: Path | None = None
    start_s: float = 0.0
    end_s: float | None = None
    page: Path | None = None
    number: int = 1
    instruction: str = ""


class Line(BaseModel):
    """A pair in the hand-written format."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str | None = None
    query: Side
    target: Side
    negatives: tuple[Side, ...] = ()
    query_tcot: str | None = None
    target_tcot: str | None = None
    num_frames: int | None = Field(default=None, ge=1)
    """How many frames of a video whoever wrote the T-CoTs was shown at most: their key frames count these."""


class WholeLine(BaseModel):
    """A pair in the format this package writes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pair: Pair
    query_tcot: str | None = None
    target_tcot: str | None = None
    num_frames: int | None = None


def read_lines(path: Path, media_root: Path | None = None, *, task: str | None = None) -> Iterator[Outcome]:
    """Read JSON Lines of pairs; paths are relative to `media_root` (default: the file's folder).

    `task` is what the line says, or else the file's name, unless given.
    """
    media = MediaFolder(media_root or path.parent)

    def make(raw: object) -> Iterator[Pair]:
        yield read_line(raw, media, task=task, default_task=task_name(path))

    return make_pairs(path, read_json(path), make)


def read_line(raw: object, media: MediaFolder, *, task: str | None = None, default_task: str = "") -> Pair:
    """Read one line (JSON types). Raises pydantic's ValidationError, RowError and MediaError."""
    if isinstance(raw, dict) and "pair" in raw:
        line = WholeLine.model_validate(raw)
        query, target, *negatives = (_located(item, media) for item in (line.pair.query, line.pair.target, *line.pair.negatives))
        pair = Pair(task=task or line.pair.task, query=query, target=target, negatives=tuple(negatives))
        return _with_tcots(pair, line)
    line = Line.model_validate(raw)
    return _pair(line, task or line.task or default_task, media)


def _located(item: Item, media: MediaFolder) -> Item:
    return Item(content=tuple(media.located(part) for part in item.content), instruction=item.instruction, role=item.role)


def _pair(line: Line, task: str, media: MediaFolder) -> Pair:
    query, target, *negatives = (_content(side, media) for side in (line.query, line.target, *line.negatives))
    pair = make_pair(task, query, target, instructions=(line.query.instruction, line.target.instruction), negatives=negatives)
    return _with_tcots(pair, line)


def _with_tcots(pair: Pair, line: Line | WholeLine) -> Pair:
    if line.query_tcot is None and line.target_tcot is None:
        return pair
    return annotated(pair, line.query_tcot, line.target_tcot, num_frames=line.num_frames)


def _content(written: Side, media: MediaFolder) -> Content:
    seen: list[Image | Video | Page] = []
    if written.image is not None:
        seen.append(Image(path=written.image))
    if written.video is not None:
        seen.append(Video(path=written.video, start_s=written.start_s, end_s=written.end_s))
    if written.page is not None:
        seen.append(Page(path=written.page, number=written.number))
    return side(written.text, *(media.located(part) for part in seen))
