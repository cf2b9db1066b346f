"""Still pictures: any accepted file becomes upright 8-bit RGB, or a MediaError that names it."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Image, Page
from embedrl.media.store import DEFAULT, Limits, open_file

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
DRAFT_ABOVE = 4096
"""JPEGs with a longer side, in pixels, are decoded at 1/2, 1/4 or 1/8 of their size ..."""
DRAFT_SIDE = 2048
"""... with the longer side never below this."""


def load_image(source: Path | Image | Page, limits: Limits = DEFAULT) -> PIL.Image.Image:
    """Decode a picture to upright RGB: the first frame of an animation, transparency on white, 16 bits scaled to 8.

    Pixels in memory are only converted. Raises MediaError for a file that is broken, not allowed or over a limit.
    """
    if isinstance(source, Image | Page):
        if source.pixels is not None:
            return _to_rgb(source.pixels)
        if isinstance(source, Page):
            raise ConfigError("load_image got a Page that names a file: render it with media.document.load_page")
        assert source.path is not None
        source = source.path
    return _decode(source, limits)


def _decode(path: Path, limits: Limits) -> PIL.Image.Image:
    formats = (*FORMATS, "TIFF") if limits.allow_tiff else FORMATS
    with open_file(path, limits) as file:
        try:
            with PIL.Image.open(file, formats=formats) as image:
                width, height = image.size
                if width * height > limits.max_pixels:
                    raise MediaError(
                        f"{str(path)!r}: {width} x {height} pixels are more than max_pixels={limits.max_pixels}: scale it down or raise the limit"
                    )
                if image.format == "JPEG" and max(width, height) > DRAFT_ABOVE:
                    scale = DRAFT_SIDE / max(width, height)
                    image.draft(None, (max(1, round(width * scale)), max(1, round(height * scale))))
                image.load()
                return _to_rgb(PIL.ImageOps.exif_transpose(image))
        except MediaError:
            raise
        except PIL.UnidentifiedImageError as error:
            hint = "" if limits.allow_tiff else " (TIFF needs allow_tiff=True)"
            raise MediaError(f"{str(path)!r}: is not a readable {', '.join(formats)} file{hint}") from error
        # A boundary: on hostile bytes Pillow's decoders raise a dozen types, from struct.error to SyntaxError.
        except Exception as error:
            raise MediaError(f"{str(path)!r}: cannot be decoded ({type(error).__name__}: {error})") from error


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "RGB":
        # Not a decoder's lazy subclass: the caller gets pixels that depend on no open file.
        return image if type(image) is PIL.Image.Image else image.copy()
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return PIL.Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, "white")
        return PIL.Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _stretched(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale 32-bit values, whose range no header tells, from their own minimum and maximum to 0..255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    scaled = (values - low) * (255 / (high - low)) if high > low else values * 0
    return PIL.Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


def save_image(image: PIL.Image.Image, path: Path) -> None:
    """Write PNG or JPEG (quality 95), as the suffix says; the same pixels always give the same bytes."""
    buffer = io.BytesIO()
    match path.suffix.lower():
        case ".png":
            image.convert("RGB").save(buffer, "PNG", compress_level=6)
        case ".jpg" | ".jpeg":
            image.convert("RGB").save(buffer, "JPEG", quality=95, subsampling=0)
        case suffix:
            raise ConfigError(f"cannot write {str(path)!r}: suffix {suffix!r} is none of .png, .jpg, .jpeg")
    path.write_bytes(buffer.getvalue())
