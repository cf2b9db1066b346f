"""Decoding of untrusted files in child processes, within limits; errors name no path."""

from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from embedrl.errors import MediaError
from embedrl.media.content import Frames, Image, Page, Video
from embedrl.media.decode import Look, look, read_text
from embedrl.media.kinds import MediaKind
from embedrl.media.resize import Reduce
from embedrl.media.store import HEAD_BYTES, Limits, container_format, document_format, is_audio, media_kind, still_format

MAX_QUERY_PIXELS = 4_000_000
"""Maximum pixels of a decoded query image: more than any model is shown."""


@dataclass(frozen=True)
class Decoded:
    """Decoded contents of a file."""

    kind: MediaKind
    format: str
    """Of a still (`JPEG`), a container (`mov`) or a document (`DOCX`); else empty."""
    num_pages: int | None
    images: tuple[PIL.Image.Image, ...]
    """RGB: the still, the page, or the frames of a video; empty unless they were wanted."""
    times_s: tuple[float, ...]

    @property
    def frames(self) -> Frames:
        """The images as video frames."""
        return Frames(self.images, self.times_s)


_AUDIO = (
    "is an audio file, which is known by what is said in it: search with those words; to have it found, put it into the indexed folder, "
    "with subtitles or lyrics beside it (.srt, .vtt, .ass, .lrc) or --transcribe"
)


def decode(
    path: Path,
    limits: Limits,
    *,
    number: int | None = None,
    span_s: tuple[float, float | None] = (0.0, None),
    num_frames: int,
    keep: bool = True,
    max_pixels: int = MAX_QUERY_PIXELS,
) -> Decoded:
    """Decode a file; of a document, one page; of a multi-image file, one image; of a video, a span in seconds.

    `number` is that of the page or image, 1-based; by default the first or the main one.
    Raises MediaError, without a path, for one that cannot be used or takes too much.
    """
    try:
        if is_audio(path, limits):
            raise MediaError(_AUDIO)
        kind = media_kind(path, limits)
        if kind is None:
            raise MediaError("is not a supported file type: give an image, a video, a PDF, a document or a text")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if kind == "text":
            read_text(path, limits)
            seen = Look()
        else:
            part = {
                "image": Image(path=path, number=number),
                "video": Video(path=path, start_s=span_s[0], end_s=span_s[1]),
                "page": Page(path=path, number=number or 1),
            }[kind]
            want = ("pixels", "text", "num_pages") if kind == "page" else ("pixels",)
            scale = Reduce(max_pixels=max_pixels)
            seen = look(part, *want, num_frames=num_frames, limits=limits, scale=scale, keep_pixels=keep)
    except MediaError as error:
        raise MediaError(str(error).removeprefix(f"{str(path)!r}: ").replace(str(path), "the file")) from error
    medium = document_format(path.suffix, head) or still_format(head) or container_format(head)
    return Decoded(kind, medium or "", seen.num_pages, seen.images, seen.times_s)
