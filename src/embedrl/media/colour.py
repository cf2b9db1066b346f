"""Colour conversion to sRGB: ICC profiles of images, transfer functions (PQ, HLG) of HDR video."""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import PIL.Image

ColourTransform = Callable[[PIL.Image.Image], PIL.Image.Image]
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""By the colour space of a profile: the mode of images it is for."""


def colour_transform(image: PIL.Image.Image) -> ColourTransform | None:
    """Return the transform from an image's ICC profile to sRGB; None if it has none, a damaged one, or sRGB's own.

    The transform takes a part of the image and returns RGB; transparency is left out.
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


PQ, HLG = 16, 18
HDR_TRANSFERS = (PQ, HLG)
"""Transfer characteristics of HDR video (ITU-T H.273): SMPTE ST 2084 and ARIB STD-B67."""
_WHITE_NITS = (100.0, 203.0)
"""What is shown as white: the brightest of a frame within these. Older masters have their white at 100 cd/m2, BT.2408 says 203."""
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
_2020_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32)
_BT709_PRIMARIES = 1
_KNEE = 0.8
"""Share of white from which highlights are compressed."""
_STRIP_ROWS = 256


def tone_mapped(codes: np.ndarray, transfer: int, primaries: int) -> PIL.Image.Image:
    """Tone-map an HDR frame (PQ or HLG) to sRGB: linear light, scaled to white, BT.709 primaries, soft-clipped highlights.

    `codes` are its 16-bit RGB, (height, width, 3); transfer and primaries are numbers of ITU-T H.273. Equations: ITU-R BT.2100, tables 4
    and 5.
    """
    is_hlg = transfer == HLG
    lights = _hlg_lights() if is_hlg else _pq_lights()
    brightest = float(np.percentile(_nits(codes[::4, ::4], lights, is_hlg=is_hlg).max(axis=-1), 99.9))
    white = min(max(brightest, _WHITE_NITS[0]), _WHITE_NITS[1])
    shown = np.empty(codes.shape, dtype=np.uint8)
    for top in range(0, len(codes), _STRIP_ROWS):
        linear = _nits(codes[top : top + _STRIP_ROWS], lights, is_hlg=is_hlg) / white
        if primaries != _BT709_PRIMARIES:
            linear = linear @ _2020_TO_709.T
        if brightest > white:
            linear = np.where(linear > _KNEE, _rolled_off(linear, brightest / white), linear)
        shown[top : top + _STRIP_ROWS] = _srgb_codes()[(linear.clip(0, 1) * 65_535 + 0.5).astype(np.uint16)]
    return PIL.Image.fromarray(shown)


def _rolled_off(linear: np.ndarray, peak: float) -> np.ndarray:
    """Compress values between the knee and the peak to knee..1, with slope 1 at the knee."""
    slope = (peak - _KNEE) / (1 - _KNEE)
    share = (linear - _KNEE) / (peak - _KNEE)
    return _KNEE + (1 - _KNEE) * slope * share / (1 + (slope - 1) * share)


def _nits(codes: np.ndarray, lights: np.ndarray, *, is_hlg: bool) -> np.ndarray:
    """Return the display luminance of each channel, in cd/m2."""
    light = lights[codes]
    if is_hlg:
        light = _HLG_PEAK_NITS * light * np.power(light @ _LUMA_2020, _HLG_GAMMA - 1)[..., None]
    return light


@lru_cache
def _pq_lights() -> np.ndarray:
    """Return the luminance of each 16-bit PQ code, in cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16_384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = np.linspace(0, 1, 65_536) ** (1 / m2)
    return (10_000 * (np.maximum(powered - c1, 0) / (c2 - c3 * powered)) ** (1 / m1)).astype(np.float32)


@lru_cache
def _hlg_lights() -> np.ndarray:
    """Return the scene light of each 16-bit HLG code, 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    codes = np.linspace(0, 1, 65_536)
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12).astype(np.float32)


@lru_cache
def _srgb_codes() -> np.ndarray:
    """Return the 8-bit code of sRGB for each of 65,536 steps of linear light."""
    linear = np.linspace(0, 1, 65_536)
    return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(np.uint8)
