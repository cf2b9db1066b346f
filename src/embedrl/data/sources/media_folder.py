"""Media files of a source, checked before a pair is made, so that a missing file is reported with its row."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from embedrl.errors import ConfigError, MediaError, unwritable
from embedrl.files import write_bytes
from embedrl.media.content import FrameFiles, Frames, Image, Page, Part, Video
from embedrl.media.decode import check, load_visual
from embedrl.media.kinds import MEDIA
from embedrl.media.store import Limits, limits_in_force, media_kind, still_format

NUM_FRAMES = 8
"""Default number of frames of a folder or list."""
FRAME_INTERVAL_S = 1.0
"""Assumed interval of frame files, which have no timestamps."""
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class MediaFolder:
    """Root folder of relative media paths, and the limits of the media."""

    root: Path
    limits: Limits = field(default_factory=limits_in_force)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise ConfigError(f"media_root={str(self.root)!r}: there is no such folder; give the one that holds the media")

    def image(self, name: str) -> Image:
        """Return an image of the folder. Raises MediaError, naming it, if it is missing or no image."""
        return self.located(Image(path=Path(name)))

    def located(self, part: P) -> P:
        """Return a part with its path completed. Raises MediaError, naming the file, if it is missing or of another kind."""
        if isinstance(part, Image | Video | Page) and part.path is not None:
            path = self.root / part.path
            kind = media_kind(path, self.limits)
            if kind != part.kind:
                raise MediaError(f"{str(path)!r}: holds {MEDIA[kind].noun if kind else 'nothing we read'}, not {MEDIA[part.kind].noun}")
            return part.model_copy(update={"path": path})
        return part

    def written(self, data: bytes, name: str) -> Image:
        """Write an image's bytes to a content-addressed file, unless it exists, and return it.

        Raises MediaError, with the name it had in its row, if it cannot be decoded within the limits; StoreError on a full disk.
        """
        encoding = still_format(data)
        if encoding is None:
            raise MediaError(f"{name!r}: {len(data)} bytes that are no image of a format we read")
        path = self.root / f"{hashlib.sha256(data).hexdigest()[:32]}.{encoding.lower()}"
        try:
            if path.exists() and path.stat().st_size == len(data):
                return Image(path=path)
            write_bytes(path, data)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            check(Image(path=path), self.limits)
        except MediaError as error:
            path.unlink()
            raise MediaError(str(error).replace(repr(str(path)), repr(name))) from error
        return Image(path=path)

    def frames(self, names: Sequence[str], num_frames: int = NUM_FRAMES) -> Video:
        """Decode frame files: at most `num_frames`, evenly from the first to the last.

        Raises MediaError, naming the frame, if one of them is missing, broken, or of another size than the first.
        """
        return self._decoded(self._chosen([self.root / name for name in names], num_frames), num_frames)

    def frame_folder(self, name: str, num_frames: int = NUM_FRAMES) -> Video:
        """Decode frames of a folder, in the order of the numbers in their names. Raises MediaError, naming folder or frame."""
        return self._decoded(self.frame_files(name, num_frames), num_frames)

    def frame_files(self, name: str, num_frames: int = NUM_FRAMES) -> Video:
        """Choose frames of a folder as `frame_folder` does, to be decoded lazily. Raises MediaError."""
        return self._chosen(self._frame_paths(name), num_frames)

    def _decoded(self, video: Video, num_frames: int) -> Video:
        frames = load_visual(video, num_frames=num_frames, limits=self.limits)
        assert isinstance(frames, Frames)
        return Video(frames=frames)

    def _chosen(self, paths: Sequence[Path], num_frames: int) -> Video:
        chosen = evenly(len(paths), num_frames)
        times_s = tuple(index * FRAME_INTERVAL_S for index in chosen)
        return Video(frame_files=FrameFiles(paths=tuple(paths[index] for index in chosen), times_s=times_s))

    def _frame_paths(self, name: str) -> list[Path]:
        folder = self.root / name
        try:
            frames = (path.name for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES)
            names = sorted((name for name in frames if not name.startswith(".")), key=_by_number)  # macOS adds `._1.jpg` to an archive
        except (OSError, ValueError) as error:
            raise MediaError(f"{str(folder)!r}: the frames cannot be listed ({getattr(error, 'strerror', None) or error})") from error
        if not names:
            raise MediaError(f"{str(folder)!r}: holds no frames")
        return [folder / name for name in names]


def evenly(count: int, wanted: int) -> list[int]:
    """Choose at most `wanted` of `count` indices, evenly, with the first and the last: as numpy's linspace, cut to whole numbers.

    Published T-CoTs count key frames of such a choice.
    """
    if wanted < 1:
        raise ConfigError(f"num_frames={wanted}: give at least 1")
    if count <= wanted:
        return list(range(count))
    return [number * (count - 1) // max(wanted - 1, 1) for number in range(wanted)]


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return a natural sort key."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)]
