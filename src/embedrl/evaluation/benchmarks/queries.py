"""Query builders: from a benchmark row to the query Item."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.pair import plain, side
from embedrl.data.sources.row import ProblemKind, RowError
from embedrl.evaluation.benchmarks.extract import supply
from embedrl.evaluation.benchmarks.questions import QUESTIONS
from embedrl.evaluation.benchmarks.rows import list_of
from embedrl.evaluation.benchmarks.source import Source
from embedrl.media.content import Content, Image, Video

QUERY = "query"
"""The folder of a moment's whole video."""

Ask = Callable[[Mapping[str, Any]], Item]


@dataclass(frozen=True)
class FrameFolders:
    """Frame folders by video name."""

    media: MediaFolder
    num_frames: int

    def video(self, name: str) -> Video:
        """Choose frames of a video; a name may carry the suffix that its folder lacks. Raises MediaError."""
        plain = PurePosixPath(name)
        known = name if (self.media.root / name).is_dir() else str(plain.with_suffix("")) if plain.suffix else name
        supply(self.media.root / known, self.media.root)
        return self.media.frame_files(known, self.num_frames)


def asks(source: Source, data: Path, num_frames: int) -> Ask:
    """Return the query builder of an MMEB-V2 dataset.

    It raises RowError for a row without a query, MediaError for a missing file, KeyError, ValueError, IndexError or TypeError for a
    row that lacks a column or does not fit its dataset.
    """
    media = MediaFolder(data / source.media)
    frames = FrameFolders(media, num_frames)

    def content(row: Mapping[str, Any]) -> Content:
        match source.layout.name:
            case "image_text" | "image_path" | "image_both":
                return shown(media, row.get("qry_text") or "", row.get("qry_img_path") or "")
            case "video_label" | "video_texts":
                return (frames.video(str(row[source.columns[0]])),)
            case "text_video":
                texts = row[source.columns[1]]
                return side(texts if isinstance(texts, str) else next(iter(list_of(row, source.columns[1])), ""))
            case "moments":
                return side(row["query"], frames.video(f"{PurePosixPath(str(row['video_path'])).stem}/{QUERY}"))
            case "momentseeker":
                return side(row["query"], *_moment_seen(frames, str(row.get("input_frames") or "")))
            case "pages":
                return side(row["query"])
        asked = QUESTIONS[source.layout.name][1](row)
        return side(asked.text, frames.video(asked.video))

    def ask(row: Mapping[str, Any]) -> Item:
        wording = source.instruction(0, row.get("qry_inst") or "" if source.modality == "image" else None)
        return items.query(some(content(row)), plain(wording), looking_for=source.layout.wanted)

    return ask


def shown(media: MediaFolder, text: str, path: str) -> Content:
    """Return the side of a row that has a text, an image or both. Raises MediaError."""
    return side(text, *([media.image(path)] if path else []))


def some(content: Content) -> Content:
    """Return the content. Raises RowError if it is empty."""
    if not content:
        raise RowError(ProblemKind.EMPTY, "it has neither text nor a medium")
    return content


def clip_folder(name: str) -> str:
    """Return the folder of a clip of MomentSeeker, named by the video it was cut from."""
    return f"video_frames/{re.split(r'[.]mp4', name)[0].replace('/', '_')}"


def _moment_seen(frames: FrameFolders, name: str) -> tuple[Image | Video, ...]:
    if name.endswith(".mp4"):
        return (frames.video(clip_folder(name)),)
    return (frames.media.image(f"query_{name}"),) if name else ()
