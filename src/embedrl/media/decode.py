"""The one way from a visual part to pixels."""

import PIL.Image

from embedrl.media.content import Frames, Image, Page, Video
from embedrl.media.document import load_page
from embedrl.media.image import load_image
from embedrl.media.store import DEFAULT, Limits
from embedrl.media.video import load_frames

NUM_CHECKED_FRAMES = 8
"""Frames of a video that are decoded to see whether it can be used."""


def load_visual(part: Image | Video | Page, *, num_frames: int | None = None, limits: Limits = DEFAULT) -> PIL.Image.Image | Frames:
    """Decode a part: RGB pixels of an image or a page, sampled frames of a video. Raises MediaError, naming the file.

    `num_frames` is a fact of who looks (a Reasoner's `num_frames`, a budget's); see `load_frames` for None.
    """
    match part:
        case Image():
            return load_image(part, limits)
        case Page():
            return load_page(part, limits)
        case Video():
            return load_frames(part, num_frames, limits)


def count_frames(part: Image | Video | Page | None, *, num_frames: int | None = None) -> int | None:
    """Return how many frames of a video are shown to who sees at most `num_frames`; None for anything else. Raises MediaError.

    A video that is a file is decoded for it, and needs `num_frames`; of others, None stands for all that there are.
    """
    if not isinstance(part, Video):
        return None
    if part.frame_files is not None and (part.start_s, part.end_s) == (0.0, None):
        count = len(part.frame_files.paths)
        return count if num_frames is None else min(num_frames, count)
    seen = load_visual(part, num_frames=num_frames)
    assert isinstance(seen, Frames)
    return len(seen.images)


def check(part: Image | Video | Page, limits: Limits = DEFAULT) -> None:
    """Decode a part and forget it. Raises MediaError, naming the file, if it cannot be used."""
    load_visual(part, num_frames=NUM_CHECKED_FRAMES, limits=limits)
