"""Materialize in-memory media of pairs as content-addressed files, so that a pair is one JSON line."""

from pathlib import Path

from embedrl.data.sample import Item, Pair
from embedrl.errors import unwritable
from embedrl.media.content import Frames, Image, Page, Part, Text, Video, content_key
from embedrl.media.decode import load_visual
from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.media.kinds import MEDIA
from embedrl.media.video import save_video


def materialize(pair: Pair, folder: Path) -> Pair:
    """Return the plain Pair, without T-CoTs, with every medium as a file with an absolute path.

    Frames in memory become an MP4 under `folder`, at about their times. Raises MediaError for a medium that cannot be written, StoreError
    on a full disk.
    """
    return Pair(
        task=pair.task,
        query=_filed_item(pair.query, folder),
        target=_filed_item(pair.target, folder),
        negatives=tuple(_filed_item(item, folder) for item in pair.negatives),
    )


def _filed_item(item: Item, folder: Path) -> Item:
    return Item(content=tuple(_filed_part(part, folder) for part in item.content), instruction=item.instruction, role=item.role)


def _filed_part(part: Part, folder: Path) -> Part:
    if isinstance(part, Text):
        return part
    if part.path is not None:
        return part.model_copy(update={"path": part.path.absolute()})
    path = folder.absolute() / f"{content_key((part,))[:32]}{MEDIA[part.kind].saved_as}"
    if not path.exists():
        try:
            _write(part, path)
        except OSError as error:
            raise unwritable(path, error) from error
    if isinstance(part, Video):
        return Video(path=path)
    return Image(path=path) if isinstance(part, Image) else Page(path=path)


def _write(part: Image | Video | Page, path: Path) -> None:
    if isinstance(part, Video):
        assert part.frames is not None
        seen = load_visual(part, num_frames=len(part.frames.images))
        assert isinstance(seen, Frames)
        save_video(seen, path, fps=_rate(seen.times_s))
    elif part.pixels is not None:
        save_image(part.pixels, path) if isinstance(part, Image) else save_pdf([part.pixels], path)


def _rate(times_s: tuple[float, ...]) -> float:
    """Return the mean frame rate of frames, in frames per second."""
    span_s = times_s[-1] - times_s[0]
    return min(max((len(times_s) - 1) / span_s, 1e-3), 1000) if span_s > 0 else 1.0
