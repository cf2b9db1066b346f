"""LLaVA-Hound: instructions and answers about videos stored as frame folders.

A line: {"id": "v_ab_3", "video": "v_ab", "conversations": [{"from": "human", "value": "<video>\\nWhat does the cook add last?"},
{"from": "gpt", "value": "Salt."}]}. Its frames: train_300k/v_ab/c01_0001.jpeg and so on.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.items import ANSWER, CAPTION, DESCRIBE, FIND
from embedrl.data.sample import Pair
from embedrl.data.sources.media_folder import NUM_FRAMES, MediaFolder
from embedrl.data.sources.pair import make_pair, plain, side
from embedrl.data.sources.row import Outcome, ProblemKind, RowError, make_pairs
from embedrl.data.sources.stream import read_json
from embedrl.media.content import Video

Use = Literal["caption", "video", "qa"]
"""What is looked for: the caption of a clip, the clip of a caption, or the answer to a question about a clip."""
TASKS: dict[Use, str] = {"caption": "llavahound_caption_retrieval", "video": "llavahound_video_retrieval", "qa": "llavahound_qa"}
PARTS = ("", "train_300k", "train_600k")
"""Folders of frame folders."""


class Turn(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    speaker: str = Field(alias="from")
    value: str


class LLaVAHoundRow(BaseModel):
    """A line of an annotation file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    video: str = Field(min_length=1)
    conversations: tuple[Turn, ...]


def read_llava_hound(
    path: Path,
    media_root: Path | None = None,
    *,
    use: Use = "caption",
    task: str | None = None,
    num_frames: int = NUM_FRAMES,
) -> Iterator[Outcome]:
    """Read annotation lines; `media_root` (default: the file's folder) holds the frame folders, or train_300k and train_600k.

    Pairs hold `num_frames` decoded frames, so do not gather them: use them as they come.
    """
    media = MediaFolder(media_root or path.parent)

    def make(raw: object) -> Iterator[Pair | RowError]:
        row = LLaVAHoundRow.model_validate(raw)
        human, gpt = said(row.conversations, "human"), said(row.conversations, "gpt")
        home = next((part for part in PARTS if (media.root / part / row.video).is_dir()), "")
        video = media.frame_folder(f"{home}/{row.video}" if home else row.video, num_frames)
        yield exchange_pair(task or TASKS[use], use, human if use != "video" else "", gpt, video)

    return make_pairs(path, read_json(path), make)


def said(turns: Sequence[Turn], speaker: str) -> str:
    """Return a speaker's only turn. Raises RowError unless there is exactly one."""
    texts = [turn.value for turn in turns if turn.speaker == speaker]
    if len(texts) != 1:
        raise RowError(ProblemKind.FIELDS, f"conversations: {len(texts)} turns of {speaker!r}, where there should be one")
    return texts[0]


def exchange_pair(task: str, use: Use, human: str, gpt: str, video: Video) -> Pair:
    """Make the pair of a video, a question about it and the answer. Raises RowError for an empty side."""
    match use:
        case "caption":
            return make_pair(task, (video,), side(gpt), instructions=(plain(human) or CAPTION["video"], DESCRIBE["text"]))
        case "video":
            return make_pair(task, side(gpt), (video,), instructions=(FIND["video"], plain(human) or DESCRIBE["video"]))
        case "qa":
            if not plain(human):
                raise RowError(ProblemKind.EMPTY, "the question is empty")
            return make_pair(task, side(human, video), side(gpt), instructions=(ANSWER["video"], DESCRIBE["text"]))
