"""Content keys: the same bytes are the same content, wherever they lie and whatever they are called."""

import PIL.Image
import pytest

from embedrl.errors import MediaError
from embedrl.media.content import Frames, Image, Page, Text, Video, content_key, file_sha256
from tests.odd_media import corner_image, numbered_frames, special_files


def test_a_key_follows_bytes_not_names(tmp_path):
    for name in ("a.png", "b.png"):
        corner_image().save(tmp_path / name)
    corner_image().rotate(90).save(tmp_path / "c.png")
    first, same, other = (content_key((Image(path=tmp_path / name),)) for name in ("a.png", "b.png", "c.png"))
    assert same == first
    assert other != first
    assert len(first) == 64


def test_a_key_tells_parts_apart():
    frames = Frames(tuple(numbered_frames(2)), (0.0, 0.5))
    later = Frames(frames.images, (0.0, 0.6))
    contents = [
        (Text(text="ab"),),
        (Text(text="a"), Text(text="b")),
        (Text(text="b"), Text(text="a")),
        (Image(pixels=corner_image()),),
        (Page(pixels=corner_image()),),
        (Page(pixels=corner_image(), number=2),),
        (Image(pixels=corner_image().convert("L")),),
        (Video(frames=frames),),
        (Video(frames=later),),
        (Video(frames=frames, start_s=0.5),),
        (Video(frames=frames, end_s=0.5),),
    ]
    assert len({content_key(content) for content in contents}) == len(contents)


def test_same_bytes_of_another_shape_are_another_picture():
    wide, tall = PIL.Image.new("RGB", (4, 2)), PIL.Image.new("RGB", (2, 4))
    assert content_key((Image(pixels=wide),)) != content_key((Image(pixels=tall),))


def test_a_palette_is_part_of_a_picture():
    red, blue = (PIL.Image.new("P", (4, 4)) for _ in range(2))
    red.putpalette([220, 30, 30])
    blue.putpalette([30, 30, 220])
    assert content_key((Image(pixels=red),)) != content_key((Image(pixels=blue),))


def test_what_is_no_regular_file_has_no_key_and_does_not_wait(tmp_path):
    for path, _ in special_files(tmp_path).values():
        with pytest.raises(MediaError, match=r"not a regular file|cannot be read"):
            file_sha256(path)


def test_a_lone_surrogate_has_a_key():
    assert content_key((Text(text="\ud800"),)) != content_key((Text(text="?"),))


def test_a_changed_file_has_a_new_key(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = file_sha256(path)
    path.write_text("three")
    assert file_sha256(path) != before
    with pytest.raises(MediaError, match="gone"):
        file_sha256(tmp_path / "gone.txt")


def test_a_part_has_exactly_one_source(tmp_path):
    for part in (Image, Video, Page):
        with pytest.raises(ValueError, match="exactly one"):
            part()
    with pytest.raises(ValueError, match="exactly one"):
        Image(path=tmp_path, pixels=corner_image())


def test_frames_need_a_time_each():
    for images, times in ((), ()), (tuple(numbered_frames(2)), (0.0,)):
        with pytest.raises(MediaError, match="one time per frame"):
            Frames(images, times)
