"""Photos of phones, files with several images, and images of 16 bits a channel, as other decoders show them (issue 23, 2)."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pillow_heif
import pytest

from embedrl.errors import MediaError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media import decode, kinds
from embedrl.media.content import Image, content_key
from embedrl.media.image import load_image
from embedrl.media.kinds import Package
from embedrl.media.store import Limits, media_kind
from embedrl.server.sandbox import decode as decode_upload
from embedrl.testing import FakeEmbedder
from tests.coloured_folder import picture
from tests.odd_media import corner_image


def gradient(width: int = 128, height: int = 96) -> PIL.Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return PIL.Image.fromarray(np.stack([255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)], axis=-1).astype(np.uint8))


def pixels(image: PIL.Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=float)


def decoded_by_ffmpeg(path: Path, pixel_format: str) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format=pixel_format)


def take_in(folder: Path, limits: Limits | None = None) -> IngestReport:
    embedder = FakeEmbedder()
    return ingest(folder, Index.open(folder, embedder=embedder), None, embedder, think=False, limits=limits)


def write_heic(path: Path, *images: PIL.Image.Image, primary: int = 0) -> Path:
    file = pillow_heif.HeifFile()
    for image in images:
        file.add_from_pillow(image)
    file.save(path, quality=95, primary_index=primary)
    return path


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "photo.jpg", "upload"])
def test_a_heic_photo_is_read_as_another_decoder_reads_it(tmp_path: Path, name: str):
    path = write_heic(tmp_path / name, gradient())
    assert media_kind(path) == "image"
    shown = pixels(decode.look(Image(path=path), "pixels").images[0])
    assert np.abs(shown - decoded_by_ffmpeg(path, "rgb24")).mean() < 1.5
    assert decode_upload(path, Limits(), num_frames=8).format == "HEIF"


def test_a_heic_photo_is_upright_and_its_metadata_are_read(tmp_path: Path):
    path, exif = tmp_path / "turned.heic", PIL.Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "Phone 9"
    exif.get_ifd(0x8769)[0x9003] = "2019:07:01 12:34:56"
    pillow_heif.register_heif_opener()
    gradient().save(path, exif=exif.tobytes(), quality=95)
    assert np.abs(pixels(load_image(path)) - pixels(gradient().transpose(PIL.Image.Transpose.ROTATE_270))).mean() < 3
    metadata = decode.read_metadata(path, "image")
    assert (metadata.camera, metadata.captured_from, metadata.damaged) == ("Phone 9", "exif", ())


def test_a_large_or_damaged_heic_photo_is_refused_with_the_reason(tmp_path: Path):
    path = write_heic(tmp_path / "a.heic", gradient())
    with pytest.raises(MediaError, match="128 x 96 pixels, more than max_pixels=5000"):
        load_image(path, Limits(max_pixels=5000))
    assert load_image(path, Limits(max_kept_pixels=4000)).size == (64, 48)
    (tmp_path / "cut.heic").write_bytes(path.read_bytes()[:-300])
    with pytest.raises(MediaError, match=r"cut\.heic'.*damaged"):
        load_image(tmp_path / "cut.heic")


def avif(path: Path) -> Path:
    gradient().save(path, "AVIF", quality=95)
    return path


BRANDS = [b"miaf", b"MA1B", b"\0\0\0\0", b"hekc"]
"""Major brands that a decoder does not know: two of the standard (ISO 23008-12, MIAF), and damaged ones."""


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("write", [lambda path: write_heic(path, gradient()), avif], ids=["heic", "avif"])
def test_a_still_of_an_unknown_brand_is_an_image_and_no_video(write: Callable[[Path], Path], brand: bytes, tmp_path: Path):
    """It was taken for a video of one frame, and a damaged one for a damaged video."""
    path = write(tmp_path / "photo")
    whole = path.read_bytes()
    expected = pixels(load_image(path))
    path.write_bytes(whole[:8] + brand + whole[12:])
    assert media_kind(path) == "image"
    assert np.array_equal(pixels(load_image(path)), expected)
    for damaged in (whole[: len(whole) // 2], whole[:40] + bytes(200) + whole[240:]):
        path.write_bytes(damaged[:8] + brand + damaged[12:])
        assert media_kind(path) == "image"
        with pytest.raises(MediaError, match="image") as error:
            load_image(path)
        assert "video" not in str(error.value)


def test_without_the_package_the_extra_is_named_and_with_it_the_file_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_heic(tmp_path / "a.heic", gradient())
    with monkeypatch.context() as patch:
        patch.setitem(kinds.PACKAGES, "HEIF", Package("a HEIF photo", "no-such-package", "no_such_package", "media", (".heic",)))
        report = take_in(tmp_path)
        assert report.unread_kinds == {".heic": 1}
        assert "needs the package no-such-package: pip install 'embedrl[media]'" in report.failures[0].reason
    report = take_in(tmp_path)
    assert (report.added, report.failures, report.unread_kinds) == (1, (), {})


def colours(*names: str) -> list[PIL.Image.Image]:
    return [picture(name) for name in names]


def test_every_image_of_a_file_is_a_unit(tmp_path: Path):
    write_heic(tmp_path / "burst.heic", *colours("red", "green", "blue"), primary=1)
    first, *others = colours("yellow", "red")
    first.save(tmp_path / "fax.tif", save_all=True, append_images=others)
    report = take_in(tmp_path)
    assert (report.added, report.failures) == (5, ())
    index = Index.open(tmp_path)
    hits = search(index, Query("blue", limit=20, unit="unit", use_tcot=False), FakeEmbedder()).hits
    assert sorted((hit.path.name, hit.unit, hit.num_units) for hit in hits) == [
        *(("burst.heic", number, 3) for number in (1, 2, 3)),
        *(("fax.tif", number, 2) for number in (1, 2)),
    ]
    assert hits[0].unit == 3, "the blue one of the burst"
    assert len(search(index, Query("blue", limit=20, use_tcot=False), FakeEmbedder()).hits) == 2
    assert take_in(tmp_path).unchanged == 5
    assert decode_upload(tmp_path / "fax.tif", Limits(), number=2, num_frames=8).images[0].getpixel((5, 5)) == others[0].getpixel((5, 5))


def test_a_tiff_is_read_by_a_process_that_has_seen_no_heif(tmp_path: Path):
    corner_image().save(tmp_path / "a.tif")
    code = "import sys; from pathlib import Path; from embedrl.media.image import load_image; print(load_image(Path(sys.argv[1])).size)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.tif")], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str(corner_image().size), done.stderr


def test_thumbnails_and_masks_of_a_tiff_are_no_images_of_their_own(tmp_path: Path):
    small = corner_image().resize((16, 12))
    for image, kind in ((small, 1), (small, 4)):
        image.encoderinfo = {"tiffinfo": {254: kind}}
    corner_image().save(tmp_path / "a.tif", save_all=True, append_images=[small, small.copy()], tiffinfo={254: 0})
    with PIL.Image.open(tmp_path / "a.tif") as image:
        tags = []
        for number in range(3):
            image.seek(number)
            tags.append(getattr(image, "tag_v2", {}).get(254))
    expected = sum(not (tag or 0) & 5 for tag in tags)
    assert decode.num_images(tmp_path / "a.tif") == expected


def test_many_images_are_bounded_and_an_animation_is_its_first_frame(tmp_path: Path):
    first, *others = colours("red", "green", "blue", "yellow")
    first.save(tmp_path / "many.tif", save_all=True, append_images=others)
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    first.save(tmp_path / "moving.png", save_all=True, append_images=others)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others, lossless=True)
    report = take_in(tmp_path, Limits(max_pages=3))
    assert [(failure.path.name, failure.reason) for failure in report.failures] == [
        ("many.tif", "holds more images than max_pages=3; divide it")
    ]
    assert report.added == 3
    with pytest.raises(MediaError, match="holds 4 images, no image 5"):
        load_image(Image(path=tmp_path / "many.tif", number=5))


def test_the_key_of_one_image_of_several_is_its_own(tmp_path: Path):
    first, *others = colours("red", "green")
    first.save(tmp_path / "two.tif", save_all=True, append_images=others)
    keys = {content_key((Image(path=tmp_path / "two.tif", number=number),)) for number in (None, 1, 2)}
    assert len(keys) == 3
    assert "number" not in Image(path=tmp_path / "two.tif").model_dump(), "an image alone is written as it always was"


def png16(values: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """Write a PNG of 16 bits a channel: rows x columns x channels (1 grey, 2 with alpha, 3 colour, 4 with alpha)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    hidden = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + hidden + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_what_another_decoder_shows(tmp_path: Path, channels: int):
    path = tmp_path / "deep.png"
    values = np.random.default_rng(channels).integers(0, 65_536, (24, 32, channels), dtype=np.uint16)
    path.write_bytes(png16(values))
    other = decoded_by_ffmpeg(path, "rgba64be" if channels in (2, 4) else "rgb48be").astype(float) / 65_535
    alpha = other[..., 3:] if channels in (2, 4) else 1.0
    expected = 255 * (other[..., :3] * alpha + 1 - alpha)
    assert np.abs(pixels(load_image(path)) - expected).max() <= 2


@pytest.mark.parametrize("colour", [(1000,), (1000, 300, 60_000)])
def test_a_transparent_colour_of_16_bits_is_white(tmp_path: Path, colour: tuple[int, ...]):
    values = np.broadcast_to(np.array(colour, dtype=np.uint16), (8, 8, len(colour))).copy()
    values[1, 1] = 40_000
    (tmp_path / "deep.png").write_bytes(png16(values, colour))
    shown = pixels(load_image(tmp_path / "deep.png"))
    assert (shown[3, 3] == 255).all()
    assert np.abs(shown[1, 1] - 40_000 / 257).max() <= 1


def test_an_image_of_a_variant_that_is_not_read_is_not_called_damaged(tmp_path: Path):
    """A BMP of 2 bits a pixel, and a PNG with much text, were called damaged or cut short (Pillow's own test files)."""
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 2, 0, 0, 0, 0, 0, 0)
    (tmp_path / "deep.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54 + 32, 0, 0, 54) + header + b"\0" * 32)
    with pytest.raises(
        MediaError, match=r"is of a variant of its format that is not read \(Unsupported BMP pixel depth.*convert it to PNG"
    ):
        load_image(tmp_path / "deep.bmp")
    text = b"zTXt" + b"note\0\0" + zlib.compress(b"x" * 2_000_000)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    picture("red").save(tmp_path / "plain.png")
    data = (tmp_path / "plain.png").read_bytes()
    (tmp_path / "wordy.png").write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(MediaError, match="more text beside its pixels"):
        load_image(tmp_path / "wordy.png")
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="damaged or cut short"):
        load_image(tmp_path / "cut.png")
