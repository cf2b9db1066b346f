"""Colours as a screen shows them: ICC profiles of stills, and the transfer functions of HDR video, to sRGB."""

import io
from collections.abc import Callable

import PIL.Image

ColourTransform = Callable[[PIL.Image.Image], PIL.Image.Image]
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""By the colour space of a profile: the mode of pictures it is for."""


def colour_transform(image: PIL.Image.Image) -> ColourTransform | None:
    """Return what brings a picture with an ICC profile to sRGB; None if it has none, a damaged one, or sRGB's own.

    The transform takes a part of the picture and returns RGB; transparency is left out.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return None
    from PIL import ImageCms

    # Boundary: a damaged profile counts as none, as damaged EXIF does; the pixels are fine.
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(source.profile.xcolor_space.strip())
        is_cmyk = image.mode == "CMYK"
        if mode is None or is_cmyk != (mode == "CMYK") or (ImageCms.getProfileDescription(source) or "").startswith("sRGB"):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

    def to_srgb(part: PIL.Image.Image) -> PIL.Image.Image:
        changed = ImageCms.applyTransform(part if part.mode == mode else part.convert(mode), transform)
        assert changed is not None
        return changed

    return to_srgb
