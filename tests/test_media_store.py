"""What may be opened, what a file holds, and walking folders that are not well behaved."""

import signal
from pathlib import Path

import pytest
from pydantic import ValidationError

from embedrl.errors import MediaError
from embedrl.media.content import Image, Page, Video
from embedrl.media.decode import check
from embedrl.media.store import Limits, media_kind, open_regular, walk
from embedrl.media.text import load_text
from tests.odd_media import bad_files, good_files, special_files

KINDS = {".jpg": "image", ".png": "image", ".webp": "image", ".gif": "image", ".bmp": "image", ".pdf": "page", ".txt": "text"}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp("good"))


def decode(path: Path) -> None:
    match media_kind(path):
        case "image":
            check(Image(path=path))
        case "video":
            check(Video(path=path))
        case "page":
            check(Page(path=path))
        case "text":
            load_text(path)
        case None:
            raise MediaError(f"{str(path)!r}: unknown")


def test_every_odd_but_good_file_is_known_and_decodes(good):
    for path in good.values():
        assert media_kind(path) == KINDS.get(path.suffix, "video"), path
        decode(path)


def test_every_bad_file_is_refused_by_name_and_reason(tmp_path):
    for path, words in bad_files(tmp_path).values():
        with pytest.raises(MediaError) as caught:
            decode(path)
        assert words in str(caught.value), (path.name, str(caught.value))
        assert repr(str(path)) in str(caught.value)


def test_special_files_are_refused_without_waiting(tmp_path):
    specials = special_files(tmp_path)
    signal.alarm(10)
    try:
        for path, _ in specials.values():
            for attempt in (open_regular, media_kind, load_text):
                with pytest.raises(MediaError, match=r"cannot be read|not a regular file|link to nothing"):
                    attempt(path)
    finally:
        signal.alarm(0)


def test_walk_reports_what_it_skips(tmp_path):
    specials = special_files(tmp_path)
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a.txt", "b/c/deep.txt", "b/new\nline.txt", ".hidden", "z.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".folder").mkdir()
    (tmp_path / ".folder" / "x.txt").write_text("x")
    (tmp_path / "linked.txt").symlink_to(tmp_path / "a.txt")
    found = list(walk(tmp_path))
    names = [path.relative_to(tmp_path).as_posix() for path, reason in found if reason is None]
    assert names == ["a.txt", "b/c/deep.txt", "b/new\nline.txt", "linked.txt", "z.txt"]
    reasons = {path.name: reason for path, reason in found if reason is not None}
    assert set(reasons) == set(specials)
    assert all(words in reasons[name] for name, (_, words) in specials.items())


def test_walk_of_nothing(tmp_path):
    with pytest.raises(MediaError, match="not a folder"):
        list(walk(tmp_path / "missing"))


def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(20 * 1024**3)
    with pytest.raises(MediaError, match="max_bytes"):
        media_kind(path)
    with pytest.raises(MediaError, match="cannot be read"):
        open_regular(Path("nul\0.jpg"))


def test_limits_reject_what_they_do_not_know():
    with pytest.raises(ValidationError):
        Limits(max_byte=3)  # ty: ignore[unknown-argument]
    with pytest.raises(ValidationError):
        Limits(max_frames=0)
    assert Limits.model_fields["max_bytes"].description


def test_text_that_looks_like_other_formats(tmp_path):
    for text in ("BMW and Mercedes are makers of cars.", "GIF is a format", "Go" * 300):
        path = tmp_path / "note.md"
        path.write_text(text)
        assert media_kind(path) == "text"


def test_unknown_binary_without_a_promise_is_none(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)))
    assert media_kind(path) is None


def test_text_encodings_and_limits(good, tmp_path):
    for name in ("plain.txt", "bom.txt", "wide.txt", "windows.txt"):
        assert load_text(good[name]) == "grün\n"
    assert load_text(good["latin.txt"]) == "grün und nicht blau\n"
    with pytest.raises(MediaError, match="max_text_chars=3"):
        load_text(good["plain.txt"], Limits(max_text_chars=3))
    junk = tmp_path / "junk.txt"
    junk.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(MediaError, match="binary"):
        load_text(junk)
    junk.write_bytes(b"\xff\xfea")
    with pytest.raises(MediaError, match="binary"):
        load_text(junk)


def test_sniffing_may_cut_a_character(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("x" + "ü" * 100_000, "utf-8")
    assert media_kind(path) == "text"
    assert load_text(path).count("ü") == 100_000
