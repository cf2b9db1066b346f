"""Stills as other decoders show them: colour profiles, transparency of 16-bit greys, a JPEG without its end marker.

Reported: ICC profiles were ignored; a 16-bit grey PNG with a transparent value stayed black; a JPEG that lacked only its last two bytes
was refused (media.md 19).
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from embedrl.errors import MediaError
from embedrl.media.image import load_image, to_rgb
from embedrl.media.store import Limits


def photo() -> PIL.Image.Image:
    y, x = np.mgrid[0:96, 0:128]
    waves = np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.sin(y / 7), 128 + 100 * np.sin((x + y) / 11)], axis=-1)
    return PIL.Image.fromarray(waves.astype(np.uint8))


def gamma_profile(gamma: float) -> bytes:
    """Write an ICC profile with sRGB's primaries and another gamma (ICC.1:2010)."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65_536))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    text = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"gamma\0" + bytes(78)
    tags = {
        b"desc": text + bytes(-len(text) % 4),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256)) + b"\0\0"),
    }
    table, data = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(tag))
        data += tag
    head = bytearray(128)
    head[0:4] = struct.pack(">I", 128 + len(table) + len(data))
    head[8:12], head[12:24], head[36:40] = b"\x02\x10\0\0", b"mntrRGB XYZ ", b"acsp"
    head[68:80] = fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return bytes(head) + table + data


def expected(image: PIL.Image.Image, gamma: float) -> np.ndarray:
    linear = (np.asarray(image.convert("RGB"), float) / 255) ** gamma
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_is_applied(tmp_path: Path, mode: str):
    image, path = photo().convert(mode), tmp_path / "wide.png"
    image.save(path, icc_profile=gamma_profile(1.4))
    assert np.abs(np.asarray(load_image(path), float) - expected(image, 1.4)).mean() < 1.5
    small = load_image(path, Limits(max_kept_pixels=4000))
    assert np.abs(np.asarray(small, float) - np.asarray(load_image(path).reduce(2), float)).mean() < 1.5


def test_srgb_and_damaged_profiles_change_nothing(tmp_path: Path):
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for name, icc in {"srgb": profile, "noise": b"no profile", "cut": gamma_profile(1.4)[:150]}.items():
        photo().save(tmp_path / f"{name}.png", icc_profile=icc)
        assert load_image(tmp_path / f"{name}.png").tobytes() == photo().tobytes(), name


def test_a_profile_of_another_colour_space_is_left_alone(tmp_path: Path):
    photo().convert("CMYK").save(tmp_path / "print.jpg", icc_profile=gamma_profile(1.4), quality=95)
    assert np.abs(np.asarray(load_image(tmp_path / "print.jpg"), float) - np.asarray(photo(), float)).mean() < 4


def deep_png(values: np.ndarray, transparent: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", struct.pack(">H", transparent)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)


def test_a_transparent_value_of_sixteen_bits_is_white(tmp_path: Path):
    values = np.full((8, 8), 1000, dtype=np.uint16)
    values[:4] = 257 * 80
    (tmp_path / "deep.png").write_bytes(deep_png(values, 1000))
    image = load_image(tmp_path / "deep.png")
    assert image.getpixel((2, 6)) == (255, 255, 255)
    assert image.getpixel((2, 2)) == (80, 80, 80)


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    photo().save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"optimize": True}])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(tmp_path: Path, options: dict, missing: int):
    data, path = jpeg(**options), tmp_path / "photo.jpg"
    path.write_bytes(data)
    whole = load_image(path)
    path.write_bytes(data[:-missing])
    assert load_image(path).tobytes() == whole.tobytes()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_lacks_more_is_refused(tmp_path: Path, options: dict):
    data, path = jpeg(**options), tmp_path / "photo.jpg"
    for missing in (12, 40, len(data) // 10, len(data) // 2, len(data) * 3 // 4):
        path.write_bytes(data[:-missing])
        with pytest.raises(MediaError, match="cut short"):
            load_image(path)


def test_greys_that_are_multiplied_by_their_transparency_are_on_white():
    """Such a TIFF was of a variant that is not read."""
    sheet = PIL.Image.new("LA", (8, 8), (100, 128)).convert("La")
    assert to_rgb(sheet).getpixel((3, 3)) == pytest.approx((177,) * 3, abs=2)
