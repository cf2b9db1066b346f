"""Files that are not read are counted by kind and told by name, and what no one would search for is left out by a list.

Reported: a folder of HEIC photos gave "0 new, 0 failed"; camcorder and office files were passed over in silence; thumbnails of other
programs, deleted photos and drawings as text were indexed (media.md 2, 6, 16 and 17).
"""

import shutil
from pathlib import Path

import PIL.Image
import pytest

from embedrl.errors import MediaError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.media import decode
from embedrl.media.content import Image, Video
from embedrl.media.image import load_image, save_image
from embedrl.media.store import Limits, media_kind
from embedrl.media.video import load_frames
from embedrl.server.sandbox import decode as decode_upload
from embedrl.testing import FakeEmbedder
from tests.coloured_folder import picture
from tests.odd_media import RED, corner_image, encode, frame_number, numbered_frames

JXL = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0" + bytes(range(256)) * 8
Y4M = b"YUV4MPEG2 W4 H4 F25:1\n" + b"FRAME\n" + bytes(24)


def take_in(folder: Path, **options: Limits) -> IngestReport:
    embedder = FakeEmbedder()
    return ingest(folder, Index.open(folder, embedder=embedder), None, embedder, think=False, **options)


def test_nothing_is_passed_over_in_silence(tmp_path: Path):
    contents = {
        "IMG_1.JXL": JXL,
        "IMG_2.jxl": JXL,
        "clip.Y4M": Y4M,
        "letter.doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200),
        "sheet.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200),
        "film.swf": b"FWS\x08" + bytes(200),
        "song.mp3": b"ID3\x04" + bytes(200),
        "pack.zip": b"PK\x03\x04" + bytes(200),
        "data.json": b'{"a": 1}',
        "README": bytes(range(256)),
        "code.ts": b"let a: number = 1\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    expected = {".jxl": 2, ".y4m": 1, ".doc": 1, ".xls": 1, ".swf": 1, ".zip": 1, ".json": 1, "no suffix": 1}
    for _ in range(2):
        report = take_in(tmp_path)
        assert report.unread_kinds == expected
        assert len(report.failures) == 7
        assert report.unsupported == 3
        assert report.added + report.unchanged == 1, "TypeScript is text"
        reasons = {failure.path.name: failure.reason for failure in report.failures}
        assert "a photo of a kind that is not read (.jxl); convert it to JPEG" in reasons["IMG_1.JXL"]
        assert "convert it to MP4" in reasons["clip.Y4M"]
        assert "convert it to PDF" in reasons["letter.doc"]
        assert "damaged" in reasons["song.mp3"]


@pytest.mark.parametrize("name", ["photo.jpg", "upload", "photo.jxl"])
def test_a_photo_that_is_not_read_is_known_by_its_content(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(JXL)
    with pytest.raises(MediaError, match=r"not read .*JPEG"):
        media_kind(tmp_path / name)
    with pytest.raises(MediaError, match=r"^is a photo of a kind that is not read"):
        decode_upload(tmp_path / name, Limits(), num_frames=8)


def test_a_reason_names_what_the_file_is(tmp_path: Path):
    compound = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200)
    noise = bytes((number * 89 + number // 7) % 256 for number in range(5000))
    for name, data in {"a.fpx": compound, "a.doc": compound, "b.fli": b"\xff\xfe\0\0" + noise, "c.fli": b"\xff\xfe" + noise}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "wide.log2").write_bytes("größe\n".encode("utf-32"))
    report = take_in(tmp_path)
    reasons = {failure.path.name: failure.reason for failure in report.failures}
    assert reasons.keys() == {"a.fpx", "a.doc"}
    assert reasons["a.fpx"] == "is an Office file or another of its container of a kind that is not read (.ole); convert it to PDF"
    assert "(.doc)" in reasons["a.doc"]
    assert report.unread_kinds == {".fli": 2, ".doc": 1}
    assert report.added == 1


@pytest.mark.parametrize("suffix", [".dng", ".nef", ".tif"])
def test_of_a_raw_photo_the_small_copy_is_not_taken_for_it(tmp_path: Path, suffix: str):
    path = tmp_path / f"raw{suffix}"
    corner_image().save(path, "TIFF", tiffinfo={50_706: b"\1\4\0\0"})
    with pytest.raises(MediaError, match="raw photo"):
        decode.check(Image(path=path)) if media_kind(path) else None


@pytest.mark.parametrize(("suffix", "options"), [(".avif", {"quality": 95}), (".tif", {}), (".tiff", {"compression": "jpeg"})])
def test_stills_that_are_read(tmp_path: Path, suffix: str, options: dict):
    path = tmp_path / f"still{suffix}"
    corner_image().save(path, **options)
    assert media_kind(path) == "image"
    shown = load_image(path).getpixel((8, 8))
    assert isinstance(shown, tuple)
    assert all(abs(a - b) < 12 for a, b in zip(shown, RED, strict=True))


def test_what_no_one_would_search_for_is_left_out_by_a_list_that_can_be_changed(tmp_path: Path):
    for folder in ("@eaDir/a.jpg", "#recycle", "$RECYCLE.BIN", "node_modules/x/y", "private", "kept"):
        (tmp_path / folder).mkdir(parents=True)
        save_image(picture("red"), tmp_path / folder / "red.png")
    (tmp_path / "private" / ".nomedia").touch()
    for name in ("drawing.svg", "IMG.AAE", "desktop.ini", "photo.XMP", "fig.eps", "~$note.txt", "note.txt"):
        (tmp_path / name).write_text("some words", "utf-8")
    report = take_in(tmp_path)
    assert (report.num_files, report.added) == (2, 2)
    assert sum(report.skipped.values()) == 11
    assert report.skipped["@eaDir"] == 1
    assert report.skipped["*.svg"] == 1
    assert report.skipped[".nomedia"] == 1
    everything = take_in(tmp_path, limits=Limits(skip_names=()))
    assert (everything.num_files, everything.skipped) == (13, {})


def test_hidden_files_are_counted(tmp_path: Path):
    """Files and folders whose names begin with a dot were left out without a word."""
    for name in (".hidden.jpg", "shown.jpg"):
        save_image(picture("red"), tmp_path / name)
    (tmp_path / ".folder").mkdir()
    for _ in range(2):  # our own folder is none of them
        report = take_in(tmp_path)
        assert (report.num_files, report.skipped) == (1, {"hidden": 2})


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx"])
def test_an_office_file_with_a_password_is_named_as_such(tmp_path: Path, suffix: str):
    """Office encrypts a file as a whole, inside the container of its old formats: it "held no format we read"."""
    (tmp_path / f"secret{suffix}").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    [failure] = take_in(tmp_path).failures
    assert failure.reason.startswith("is protected by a password, or an old binary document")


def test_a_text_with_a_zero_byte_is_no_utf_16(tmp_path: Path):
    """Every pair of its letters was read as an ideograph."""
    (tmp_path / "log.txt").write_bytes(b"hello\0world, elephant\n")
    report = take_in(tmp_path)
    assert report.added == 0
    assert report.failures[0].reason.startswith("is named like a text, but holds no format we read")


def test_a_folder_is_indexed_under_its_own_name_not_that_of_a_link(tmp_path: Path):
    (tmp_path / "zz_real").mkdir()
    save_image(picture("red"), tmp_path / "zz_real" / "red.png")
    (tmp_path / "aa_link").symlink_to(tmp_path / "zz_real", target_is_directory=True)
    take_in(tmp_path)
    assert [place.path.as_posix() for place in Index.open(tmp_path).places()] == ["zz_real/red.png"]


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {"g": "10"}), ("mjpeg", {}), ("libx264", {"g": "10", "bf": "0"})])
def test_a_long_avi_is_sampled_by_its_key_frames(tmp_path: Path, codec: str, options: dict):
    path = tmp_path / "long.avi"
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encode(path, [image for _ in range(20) for image in numbered_frames(20)], codec, fps=10, options=options, pixel_format=pixel_format)
    frames = load_frames(Video(path=path), 5, Limits(max_frames=60))
    assert [round(10 * time_s) % 20 for time_s in frames.times_s] == [frame_number(image) for image in frames.images]
    assert len(frames.images) == 5


def test_large_photos_of_phones_are_read(tmp_path: Path):
    path = tmp_path / "phone.jpg"
    PIL.Image.new("RGB", (16_320, 12_240), RED).save(path, quality=50)
    shown = decode.load_visual(Image(path=path))
    assert isinstance(shown, PIL.Image.Image)
    assert shown.size == (4080, 3060)


def test_a_copy_of_what_is_left_out_by_name_can_be_indexed_alone(tmp_path: Path):
    (tmp_path / "node_modules").mkdir()
    save_image(picture("red"), tmp_path / "node_modules" / "red.png")
    shutil.copytree(tmp_path / "node_modules", tmp_path / "other" / "node_modules")
    assert take_in(tmp_path / "other" / "node_modules").added == 1, "who names a folder means it"
