"""Images: decoding to 8-bit RGB, upright, on white, and deterministic writing."""

import io
import math
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from embedrl.errors import ConfigError, MediaError
from embedrl.files import write_bytes
from embedrl.media.colour import ColourTransform, colour_transform
from embedrl.media.content import Image, Page
from embedrl.media.metadata import from_exif
from embedrl.media.stills import FILTERS, canvas_size, frame_numbers, open_still, select
from embedrl.media.store import DEFAULT, HEAD_BYTES, Limits, open_regular, still_format

_STRIP_PIXELS = 4_000_000
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transpose to upright."""
_VARIANT = re.compile("unsupported|not supported|unknown", re.IGNORECASE)
"""What Pillow says of files that are as they should be, but that it does not read."""
_NO_DECODER = "could not create decoder object"
_ENCODERS = {
    ".png": ("PNG", {"compress_level": 6}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}


def load_image(source: Path | Image | Page, limits: Limits = DEFAULT) -> PIL.Image.Image:
    """Decode an image to RGB; pixels in memory are only converted. Of an animation, the first frame; of several images, the numbered one.

    EXIF rotation and the ICC profile are applied (damaged ones count as none), transparency is laid on white, 16-bit greys are scaled
    to 8 bits, and stills above `max_kept_pixels` come scaled down. Raises MediaError, naming the file, for whatever cannot be decoded
    in full, and MemoryError.
    """
    if isinstance(source, Image | Page) and source.pixels is not None:
        return to_rgb(source.pixels)
    if isinstance(source, Page):
        raise ConfigError(f"load_image got page {source.number} of {str(source.path)!r}: render it with load_page")
    path, number = (source.path, source.number) if isinstance(source, Image) else (source, None)
    assert path is not None
    with open_regular(path, limits) as file, _naming(path, limits):
        try:
            return _decode(file, limits, number)
        except (MediaError, MemoryError, PIL.Image.DecompressionBombError, PIL.UnidentifiedImageError):
            raise
        except Exception as error:
            if not _is_out_of_memory(error) and (whole := _decode_without_end(file, limits)) is not None:
                return whole
            raise


@contextmanager
def _naming(path: Path, limits: Limits) -> Generator[None]:
    """Context manager that makes every failure of Pillow and its plugins a MediaError that names the file, or a MemoryError."""
    # Boundary: Pillow lets through whatever its decoders trip over (struct.error, KeyError, SyntaxError, …).
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{str(path)!r}: {error}") from error
    except MemoryError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise MediaError(f"{str(path)!r}: declares more than max_pixels={limits.max_pixels} pixels") from error
    except PIL.UnidentifiedImageError as error:
        known = ", ".join(limits.image_formats) + ("" if limits.allow_tiff else "; TIFF with allow_tiff=true")
        raise MediaError(f"{str(path)!r}: is not an image of a format we read ({known}), or its header is damaged") from error
    except Exception as error:
        if _is_out_of_memory(error) or (_NO_DECODER in str(error) and not _has_room_for_webp(path, limits)):
            raise MemoryError from error
        if _VARIANT.search(str(error)):
            raise MediaError(f"{str(path)!r}: is of a variant of its format that is not read ({error}); convert it to PNG") from error
        if "MAX_TEXT" in str(error):
            raise MediaError(f"{str(path)!r}: holds more text beside its pixels than is read of a PNG; save it without") from error
        raise MediaError(f"{str(path)!r}: the image is damaged or cut short ({error})") from error


def _is_out_of_memory(error: Exception) -> bool:
    return "out of memory" in str(error) or "Memory allocation error" in str(error)


def _has_room_for_webp(path: Path, limits: Limits) -> bool:
    """Return whether the two canvases of libwebp's decoder fit in memory, or are of no size: it has one error for that and for damage."""
    with path.open("rb") as file:
        width, height = canvas_size(file.read(HEAD_BYTES))
    try:
        bytearray(8 * width * height if width * height <= limits.max_pixels else 0)
    except MemoryError:
        return False
    return True


def num_images(path: Path, limits: Limits = DEFAULT) -> int:
    """Return the number of images of a still file. Raises MediaError if it cannot be opened or holds more than `max_pages`."""
    with open_regular(path, limits) as file, _naming(path, limits), open_still(file, limits) as image:
        return len(frame_numbers(image, limits))


def still_metadata(path: Path, limits: Limits = DEFAULT) -> list[dict[str, Any]]:
    """Return what a still says of itself (EXIF, XMP, IPTC); nothing for one that cannot be opened."""
    with open_regular(path, limits) as file:
        # Boundary: whatever is wrong with the file, decoding it will say.
        try:
            with open_still(file, limits) as image, FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return from_exif(image)
        except Exception:
            return []


def _decode(file: BinaryIO, limits: Limits, number: int | None = None) -> PIL.Image.Image:
    # Our own limit decides, by the header; Pillow's warnings (of size, of damaged EXIF) would only be noise. Its hard limit still raises.
    with open_still(file, limits) as image:
        select(image, number, limits)
        width, height = image.size
        if width * height > limits.max_pixels:
            raise MediaError(f"declares {width} x {height} pixels, more than max_pixels={limits.max_pixels}")
        shrink = shrink_factor(width * height, limits.max_kept_pixels)
        if shrink > 1:
            image.draft(None, (math.ceil(width / shrink), math.ceil(height / shrink)))
        image.load()
        rgb = _to_small_rgb(image, shrink_factor(image.width * image.height, limits.max_kept_pixels))
        turn = _turn(image)
    rgb = rgb if turn is None else rgb.transpose(turn)
    rgb.info = {}  # metadata (EXIF above all) no longer fits the pixels
    return rgb


def _decode_without_end(file: BinaryIO, limits: Limits) -> PIL.Image.Image | None:
    """Decode a JPEG that lacks only its end marker; None for any other file.

    Where image data is missing, decoders make up what follows. So it must make no difference what follows.
    """
    file.seek(0)
    data = file.read()
    if still_format(data) != "JPEG":
        return None
    data = data.removesuffix(b"\xff")
    try:
        whole, other = (_decode(io.BytesIO(data + filling + b"\xff\xd9"), limits) for filling in (b"", b"\x5a\xc3" * 64))
    except MemoryError:
        raise
    except Exception:  # boundary: it is damaged, as the caller knows already
        return None
    return whole if whole.tobytes() == other.tobytes() else None


def _to_small_rgb(image: PIL.Image.Image, shrink: int) -> PIL.Image.Image:
    """Convert an image to RGB in sRGB, both sides divided by `shrink`; large ones strip by strip, to bound memory."""
    to_srgb = colour_transform(image)
    if shrink == 1:
        return to_rgb(image, to_srgb)
    small = PIL.Image.new("RGB", (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
    rows = max(_STRIP_PIXELS // (image.width * shrink), 1) * shrink
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(to_rgb(strip, to_srgb).reduce(shrink), (0, top // shrink))
    return small


def _turn(image: PIL.Image.Image) -> PIL.Image.Transpose | None:
    """Return the transpose of an image's EXIF orientation; damaged EXIF counts as none."""
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Boundary: Pillow's EXIF reader fails in many ways (SyntaxError, struct.error, KeyError, …), and the pixels are fine.
        try:
            return _TURNS.get(image.getexif().get(PIL.ExifTags.Base.Orientation, 1))
        except Exception:
            return None


def shrink_factor(pixels: int, kept: int) -> int:
    """Return the smallest power of two to divide both sides by."""
    return 2 ** max(0, math.ceil(math.log2(pixels / kept) / 2)) if pixels > kept else 1


def from_pillow(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return a Pillow image as its file would be decoded: turned as its EXIF data say, on white, 8-bit RGB. Raises MediaError."""
    if not image.width or not image.height:
        raise MediaError(f"a Pillow image of {image.width} x {image.height} pixels: there is nothing to see")
    try:
        return to_rgb(PIL.ImageOps.exif_transpose(image))
    except (OSError, ValueError) as error:  # ValueError: of one that was closed, and MediaError
        raise MediaError(
            f"a Pillow image {error if isinstance(error, MediaError) else f'cannot be read ({error}); open it again'}"
        ) from error


def to_rgb(image: PIL.Image.Image, to_srgb: ColourTransform | None = None) -> PIL.Image.Image:
    """Convert an image of any mode to 8-bit RGB on white; an RGB image without transparency is returned as it is."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _from_deep(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if to_srgb:
            alpha, layered = layered.getchannel("A"), to_srgb(image).convert("RGBA")
            layered.putalpha(alpha)
        white = PIL.Image.new("RGBA", layered.size, "white")
        return PIL.Image.alpha_composite(white, layered).convert("RGB")
    if to_srgb:
        return to_srgb(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale 16-bit greyscale to 8 bits; a transparent value becomes an alpha channel."""
    if image.mode == "F":
        raise MediaError("holds floating point pixels, which have no fixed white; convert it to 8 or 16 bits")
    values = np.asarray(image)
    if values.dtype != np.uint16 and (values.min() < 0 or values.max() > 65_535):
        raise MediaError("holds pixels of more than 16 bits; convert it to 8 or 16 bits")
    grey = PIL.Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    alpha = PIL.Image.fromarray(np.where(values == transparent, np.uint8(0), np.uint8(255)))
    return PIL.Image.merge("LA", (grey, alpha))


def save_image(image: PIL.Image.Image, path: Path) -> None:
    """Write RGB pixels and nothing else (no metadata) as PNG, or as JPEG without chroma subsampling, by the suffix."""
    if path.suffix.lower() not in _ENCODERS:
        raise ConfigError(f"{str(path)!r}: images are written as {', '.join(_ENCODERS)}")
    encoding, options = _ENCODERS[path.suffix.lower()]
    rgb = to_rgb(image).copy()
    rgb.info = {}
    buffer = io.BytesIO()
    rgb.save(buffer, encoding, **options)
    write_bytes(path, buffer.getvalue())
