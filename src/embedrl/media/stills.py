"""Still files opened by Pillow and pillow-heif, and the images of a multi-image file (TIFF, HEIF).

Of animations (GIF, APNG, WebP, AVIF) the first frame is the image; thumbnails and masks inside a TIFF are no images of their own.
"""

import threading
import warnings
from io import BytesIO
from itertools import count
from typing import BinaryIO

import PIL.AvifImagePlugin
import PIL.Image

from embedrl.errors import MediaError
from embedrl.media.kinds import PACKAGES
from embedrl.media.store import HEAD_BYTES, ImageFormat, Limits, holds_still, still_format

PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # ty: ignore[invalid-assignment]
MULTI_IMAGE: tuple[ImageFormat, ...] = ("TIFF", "HEIF")
"""Formats whose files may hold several images."""
FILTERS = threading.Lock()
"""Held while warnings are filtered, which is a setting of the whole process."""
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _DNG_VERSION = 254, 255, 50_706
_REDUCED, _MASK = 1, 4
"""Bits of a TIFF's NewSubfileType: a thumbnail, a transparency mask."""


def open_still(file: BinaryIO, limits: Limits) -> PIL.Image.Image:
    """Open a still without decoding it. Raises whatever Pillow raises."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if holds_still(head):  # decoders go by the brand
        brand = b"avif" if still_format(head) == "AVIF" else b"heic"
        file = BytesIO(head[:8] + brand + file.read()[12:])
    formats: tuple[str, ...] = tuple(name for name in limits.image_formats if name != "HEIF")
    if still_format(head) == "HEIF":
        _register_heif()
        formats = ("HEIF",)
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = PIL.Image.open(file, formats=formats)
    if _DNG_VERSION in getattr(image, "tag_v2", ()):
        image.close()
        raise MediaError("is a camera's raw photo, of which only a small copy could be read; convert it to JPEG")
    _halve_transparency(image)
    return image


def _halve_transparency(image: PIL.Image.Image) -> None:
    """Take the high bytes of the transparent colour of a PNG of 16 bits a channel, as Pillow takes those of its pixels."""
    colour = image.info.get("transparency")
    if isinstance(colour, tuple) and any(tile[3] == "RGB;16B" for tile in getattr(image, "tile", ())):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _register_heif() -> None:
    if not PACKAGES["HEIF"].is_installed:
        raise MediaError(PACKAGES["HEIF"].missing)
    import pillow_heif

    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def frame_numbers(image: PIL.Image.Image, limits: Limits) -> list[int]:
    """Return which frames of an opened file are images of their own. Raises MediaError for more than `max_pages`."""
    if image.format not in MULTI_IMAGE:
        return [0]
    frames: list[int] = []
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if image.format == "HEIF":
            frames = list(range(getattr(image, "n_frames", 1)))
        else:
            for number in count():
                try:
                    image.seek(number)
                except EOFError:
                    break
                if not _is_subordinate(image):
                    frames.append(number)
                if number >= 4 * limits.max_pages or len(frames) > limits.max_pages:
                    frames += [number] * limits.max_pages
                    break
    if len(frames) > limits.max_pages:
        raise MediaError(f"holds more images than max_pages={limits.max_pages}; divide it")
    return frames or [0]


def _is_subordinate(image: PIL.Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)) or tags.get(_SUBFILE_TYPE) == 2


def select(image: PIL.Image.Image, number: int | None, limits: Limits) -> None:
    """Seek to an image of an opened file, by its 1-based number; None: the main one. Raises MediaError if there is none."""
    if number is None:
        return
    frames = frame_numbers(image, limits)
    if number > len(frames):
        raise MediaError(f"holds {len(frames)} images, no image {number}")
    image.seek(frames[number - 1])


def canvas_size(head: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP by its first bytes (RFC 9649, 2.5 to 2.7); zeros for what is none."""
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0, 0
