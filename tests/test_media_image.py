"""Pictures of every odd kind come out upright, in 8-bit RGB."""

import io

import numpy as np
import PIL.Image
import pytest

from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Image, Page
from embedrl.media.image import load_image, save_image
from embedrl.media.store import Limits
from tests.odd_media import BLUE, EXIF_ORIENTATION, GREEN, RED, corner_image, good_files


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp("good"))


def near(pixel, colour, tolerance=12):
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


@pytest.mark.parametrize("name", ["rotated.jpg", "animated.gif", "animated.webp", "bitmap.bmp", "jpeg_named.png", "new\nline é.png"])
def test_odd_files_show_the_same_picture(good, name):
    image = load_image(good[name])
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert near(image.getpixel((8, 8)), RED)
    assert near(image.getpixel((56, 40)), BLUE)
    assert near(image.getpixel((56, 8)), BLUE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_upright(tmp_path, orientation):
    path, exif = tmp_path / "turned.png", PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored = corner_image()
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    if orientation > 1:
        stored = stored.transpose(PIL.Image.Transpose[turns[orientation]])
    stored.save(path, exif=exif)
    image = load_image(path)
    assert image.tobytes() == corner_image().tobytes()
    assert not image.info, "a later save must not turn it again"


def test_damaged_exif_does_not_lose_the_picture(tmp_path):
    path = tmp_path / "exif.jpg"
    for junk in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        corner_image().save(path, exif=junk)
        assert near(load_image(path).getpixel((8, 8)), RED)


def test_cmyk_keeps_its_colours(good):
    image = load_image(good["cmyk.jpg"])
    assert near(image.getpixel((8, 8)), RED)
    assert near(image.getpixel((56, 40)), BLUE)


def test_sixteen_bits_are_scaled_not_clipped(good):
    levels = np.asarray(load_image(good["sixteen.png"]))[..., 0].ravel()
    assert (levels[0], levels[-1]) == (0, 255)
    assert abs(int(levels[len(levels) // 2]) - 128) <= 1


def test_transparency_is_white(good):
    image = load_image(good["palette_alpha.png"])
    assert image.getpixel((8, 8)) == RED
    assert image.getpixel((56, 40)) == (255, 255, 255)
    assert load_image(good["alpha.webp"]).getpixel((8, 8)) == (255, 255, 255)


def test_pixels_in_memory_pass_through():
    image = corner_image()
    assert load_image(Image(pixels=image)) is image
    assert load_image(Page(pixels=image.convert("L"))).mode == "RGB"
    floats = PIL.Image.fromarray(np.array([[0.0, 0.5], [1.0, np.nan]], dtype=np.float32))
    with pytest.raises(MediaError, match="floating point"):
        load_image(Image(pixels=floats))
    with pytest.raises(ConfigError, match="load_page"):
        load_image(Page(path="a.pdf"))


def test_a_large_jpeg_is_decoded_smaller(tmp_path):
    corner_image(3200, 1600).save(tmp_path / "large.jpg")
    image = load_image(tmp_path / "large.jpg", Limits(max_kept_pixels=1_500_000))
    assert image.size == (1600, 800)
    assert near(image.getpixel((8, 8)), RED)


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    path = tmp_path / "image.png"
    corner_image(100, 100).save(path)
    assert load_image(path, Limits(max_pixels=10_000)).size == (100, 100)
    with pytest.raises(MediaError, match=r"100 x 100 pixels, more than max_pixels=9999"):
        load_image(path, Limits(max_pixels=9_999))


def test_tiff_only_when_allowed(tmp_path):
    path = tmp_path / "scan.tif"
    corner_image().save(path)
    with pytest.raises(MediaError, match="allow_tiff"):
        load_image(path, Limits(allow_tiff=False))
    assert load_image(path).getpixel((8, 8)) == RED


def test_every_cut_of_a_file_decodes_or_is_a_media_error(tmp_path):
    path = tmp_path / "cut.bin"
    for options in ({"format": "JPEG"}, {"format": "PNG"}, {"format": "GIF"}, {"format": "WEBP"}, {"format": "BMP"}):
        buffer = io.BytesIO()
        corner_image().save(buffer, **options)
        data = bytearray(buffer.getvalue())
        rng = np.random.default_rng(0)
        for _ in range(40):
            broken = data.copy()
            for position in rng.integers(0, len(data), 4):
                broken[position] = rng.integers(0, 256)
            path.write_bytes(broken[: rng.integers(1, len(data) + 1)])
            try:
                assert load_image(path).mode == "RGB"
            except MediaError as error:
                assert repr(str(path)) in str(error)


def test_saving_is_deterministic_and_png_is_exact(tmp_path):
    for name in ("a.png", "b.png", "a.jpg", "b.jpg"):
        save_image(corner_image(), tmp_path / name)
    for suffix in (".png", ".jpg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert load_image(tmp_path / "a.png").tobytes() == corner_image().tobytes()
    assert near(load_image(tmp_path / "a.jpg").getpixel((8, 8)), RED, 4)
    with pytest.raises(ConfigError, match=r"\.webp"):
        save_image(PIL.Image.new("RGB", (8, 8), GREEN), tmp_path / "a.webp")
