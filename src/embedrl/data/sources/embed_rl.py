"""The published training files of Embed-RL: gigabytes of JSON, one array each, with a T-CoT for each side and no media.

Rows about images and pages are MMEB-train rows with "query_cot", "pos_cot" and "error". Rows about videos::

    {"dataset_name": "llavahound_qa", "qry": {"conversations": [{"from": "human", "value": "<video>\\nWhat is added last?"}],
     "video": ["train_300k/v_ab/c01_0001.jpeg", …]}, "pos": {"conversations": [{"from": "gpt", "value": "Salt."}],
     "video": ["images/blank.jpg"]}, "query_cot": "<thinking> …", "pos_cot": "<thinking> …", "error": ""}

T-CoTs go through our parser. One that it refuses stays with its pair, as a ParseFailure.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from embedrl.data.sample import Pair
from embedrl.data.sources.llava_hound import TASKS, Turn, exchange_pair, said
from embedrl.data.sources.media_folder import NUM_FRAMES, MediaFolder
from embedrl.data.sources.mmeb import MMEBRow, mmeb_pair
from embedrl.data.sources.row import Outcome, ProblemKind, RowError, annotated, make_pairs
from embedrl.data.sources.row_file import task_name
from embedrl.data.sources.stream import read_json

BLANK = "blank.jpg"
"""File name of the placeholder for no image."""


class _Annotated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    query_cot: str | None = None
    pos_cot: str | None = None
    error: str | None = None


class ImageRow(MMEBRow, _Annotated):
    """A row about images, pages or texts."""


class VideoSide(BaseModel):
    """A side of a row about a video."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    conversations: tuple[Turn, ...]
    video: str | tuple[str, ...] | None = None
    image: str | tuple[str, ...] | None = None


class VideoRow(_Annotated):
    """A row about a video."""

    dataset_name: str
    qry: VideoSide
    pos: VideoSide


def read_embed_rl(
    path: Path,
    media_root: Path | None = None,
    *,
    task: str | None = None,
    num_frames: int = NUM_FRAMES,
) -> Iterator[Outcome]:
    """Read a published file, row by row; pairs are AnnotatedPairs. Media lie under `media_root` (default: the file's folder).

    `task` is the file's name, or what a row about a video says, unless given. Pairs of videos hold `num_frames` decoded frames.
    """
    media = MediaFolder(media_root or path.parent)

    def make(raw: Any) -> Iterator[Pair | RowError]:
        if isinstance(raw, dict) and isinstance(raw.get("qry"), dict):
            row = VideoRow.model_validate(raw)
            made = _video_pair(row, task, media, num_frames)
        else:
            row = ImageRow.model_validate(raw)
            made = mmeb_pair(row, task or task_name(path), media)
        for pair in made:
            yield pair if isinstance(pair, RowError) else annotated(pair, row.query_cot, row.pos_cot)
        if row.error:
            yield RowError(ProblemKind.ANNOTATION, f"its T-CoTs came with an error: {row.error[:200]}")

    return make_pairs(path, read_json(path), make)


def _video_pair(row: VideoRow, task: str | None, media: MediaFolder, num_frames: int) -> Iterator[Pair]:
    use = next((use for use, name in TASKS.items() if name == row.dataset_name), None)
    if use is None:
        raise RowError(ProblemKind.FIELDS, f"dataset_name: {row.dataset_name!r} is none of {', '.join(TASKS.values())}")
    shown, answering = (row.pos, row.qry) if use == "video" else (row.qry, row.pos)
    human, gpt = said(shown.conversations, "human"), said(answering.conversations, "gpt")
    frames = _files(shown.video)
    if not frames:
        raise RowError(ProblemKind.EMPTY, "the row names no frames")
    if others := [*_files(answering.video), *_files(answering.image), *_files(shown.image)]:
        raise RowError(ProblemKind.FIELDS, f"there should be frames on one side and nothing else to see, but there is {others[0]!r}")
    yield exchange_pair(task or row.dataset_name, use, human, gpt, media.frames(frames, num_frames))


def _files(names: str | tuple[str, ...] | None) -> list[str]:
    return [name for name in ([names] if isinstance(names, str) else names or ()) if name and Path(name).name != BLANK]
