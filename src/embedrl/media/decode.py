"""The one way from a visual part to pixels."""

import PIL.Image

from embedrl.media.content import Frames, Image, Page, Video
from embedrl.media.document import load_page
from embedrl.media.image import load_image
from embedrl.media.store import DEFAULT, Limits
from embedrl.media.video import load_frames


def load_visual(part: Image | Video | Page, *, num_frames: int = 8, limits: Limits = DEFAULT) -> PIL.Image.Image | Frames:
    """Decode a part: RGB pixels of an image or a page, sampled frames of a video. Raises MediaError, naming the file."""
    match part:
        case Image():
            return load_image(part, limits)
        case Page():
            return load_page(part, limits)
        case Video():
            return load_frames(part, num_frames, limits)


def count_frames(part: Image | Video | Page | None, *, num_frames: int = 8) -> int | None:
    """Return how many frames of a video are shown, which decodes one that is a file; None for anything else. Raises MediaError."""
    if not isinstance(part, Video):
        return None
    if part.frame_files is not None and (part.start_s, part.end_s) == (0.0, None):
        return min(num_frames, len(part.frame_files.paths))
    seen = load_visual(part, num_frames=num_frames)
    assert isinstance(seen, Frames)
    return len(seen.images)


def check(part: Image | Video | Page, limits: Limits = DEFAULT) -> None:
    """Decode a part and forget it. Raises MediaError, naming the file, if it cannot be used."""
    load_visual(part, limits=limits)
