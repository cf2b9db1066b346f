"""A folder of images and videos, each with its caption in a text file of the same name."""

from collections.abc import Iterator
from pathlib import Path

from embedrl.data.items import DESCRIBE, FIND
from embedrl.data.sample import Pair
from embedrl.data.sources.pair import make_pair, side
from embedrl.data.sources.row import Outcome, ProblemKind, SourceProblem
from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Image, Video
from embedrl.media.store import limits_in_force, media_kind, walk
from embedrl.media.text import load_text

CAPTION_SUFFIX = ".txt"


def read_folder(path: Path, media_root: Path | None = None, *, task: str | None = None) -> Iterator[Outcome]:
    """Read captions (queries) and the media they describe (targets), recursively. `task` defaults to the folder's name.

    With `media_root`, the media lie there, at the same places. A medium without a caption, a caption without a medium, and any
    other file is a problem. Raises ConfigError if there is no such folder.
    """
    media = media_root or path
    for folder in (path, media):
        if not folder.is_dir():
            raise ConfigError(f"{str(folder)!r}: there is no such folder")
    used: set[Path] = set()
    for file, problem in walk(media):
        if problem or file.suffix != CAPTION_SUFFIX:
            caption = (path / file.relative_to(media)).with_suffix(CAPTION_SUFFIX)
            used.add(caption)
            yield _problem(file, problem) if problem else _pair(file, caption, task or path.resolve().name)
    for file, problem in walk(path):
        if file.suffix == CAPTION_SUFFIX and file not in used:
            yield _problem(file, problem or f"is the caption of nothing: there is no image or video of this name in {str(media)!r}")


def _pair(file: Path, caption: Path, task: str) -> Pair | SourceProblem:
    try:
        kind = media_kind(file, limits_in_force())
        if kind not in ("image", "video"):
            return _problem(file, "is neither an image nor a video nor a caption")
        if not caption.exists():
            return _problem(file, f"has no caption: there is no {caption.name!r}")
        target = Image(path=file) if kind == "image" else Video(path=file)
        return make_pair(task, side(load_text(caption, limits_in_force())), (target,), instructions=(FIND[kind], DESCRIBE[kind]))
    except MediaError as error:
        return SourceProblem(path=file, kind=ProblemKind.MEDIA, reason=str(error))


def _problem(file: Path, reason: str) -> SourceProblem:
    return SourceProblem(path=file, kind=ProblemKind.MEDIA, reason=reason)
