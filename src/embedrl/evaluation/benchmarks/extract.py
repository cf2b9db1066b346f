"""Frames of raw videos, in the folders in which the readers of a benchmark look for them.

A folder appears whole or not at all: frames are written beside it and moved into place, so a run that ends early is gone on with.
"""

import shutil
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from embedrl.errors import MediaError, unwritable
from embedrl.media.content import Frames, Video
from embedrl.media.decode import load_visual
from embedrl.media.image import save_image
from embedrl.media.kinds import MEDIA

MAX_FRAMES = 64
"""Frames that are kept of a video, evenly over its time: as many as MMEB-V2's archives hold."""
SUFFIXES = MEDIA["video"].suffixes


@dataclass
class Extractor:
    """Finds the raw video that a missing folder of frames is named after, and extracts its frames."""

    videos: Path
    num_videos: int = field(default=0, init=False)
    num_extracted: int = field(default=0, init=False)
    failed: dict[Path, str] = field(default_factory=dict, init=False)
    """Folders that are still missing, with the reason."""

    def __post_init__(self) -> None:
        """List the videos by every name that a folder of frames may have: stem, path, and path with "_" for "/"."""
        self._named: defaultdict[str, set[Path]] = defaultdict(set)
        for path in sorted(self.videos.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                self.num_videos += 1
                parts = path.relative_to(self.videos).with_suffix("").parts
                for start in range(len(parts)):
                    for joint in "/_":
                        self._named[joint.join(parts[start:])].add(path)

    def find(self, folder: Path, root: Path) -> Path:
        """Return the video of a folder of frames under `root`. Raises MediaError if there is none, or more than one."""
        whole = folder.relative_to(root).as_posix()
        for name in (whole, folder.name):
            bare = name.removesuffix(Path(name).suffix) if Path(name).suffix.lower() in SUFFIXES else name
            if len(paths := self._named.get(bare, set())) == 1:
                return next(iter(paths))
            if paths:
                raise MediaError(f"{len(paths)} videos are called {bare!r}; rename or move all but one out of {str(self.videos)!r}")
        raise MediaError(f"no video of {str(self.videos)!r} is called {folder.name!r}; download it, or the archive of frames")

    def extract(self, folder: Path, root: Path) -> None:
        """Extract the frames of a folder that is missing; why it cannot be is kept in `failed`. Raises StoreError on a full disk."""
        if folder in self.failed or folder.is_dir():
            return
        partial = folder.with_name(f".{folder.name}.part")
        try:
            frames = load_visual(Video(path=self.find(folder, root)), num_frames=MAX_FRAMES)
        except MediaError as error:
            self.failed[folder] = str(error)
            return
        assert isinstance(frames, Frames)
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
            partial.mkdir(parents=True)
            for number, frame in enumerate(frames.images, 1):
                save_image(frame, partial / f"frame_{number:04}.jpg")
            partial.rename(folder)
        except OSError as error:
            raise unwritable(partial, error) from error
        self.num_extracted += 1


_EXTRACTOR: ContextVar[Extractor | None] = ContextVar("extractor", default=None)


@contextmanager
def extracting(videos: Path) -> Generator[Extractor]:
    """Let readers extract frames that they miss from the raw videos of a folder."""
    extractor = Extractor(videos)
    token = _EXTRACTOR.set(extractor)
    try:
        yield extractor
    finally:
        _EXTRACTOR.reset(token)


def supply(folder: Path, root: Path) -> None:
    """Extract the frames of a folder if it is missing and raw videos were given."""
    extractor = _EXTRACTOR.get()
    if extractor is not None and not folder.is_dir():
        extractor.extract(folder, root)
