"""Frames come with the times at which they are truly shown, whatever the container, the frame rate or the span."""

import os
import sys
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import FrameFiles, Frames, Video, content_key
from embedrl.media.decode import count_frames
from embedrl.media.store import Limits
from embedrl.media.video import load_frames, read_video, save_video
from tests.odd_media import BLUE, RED, X265, encode, frame_number, good_files, moving_frames, numbered_frames


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp("good"))


def numbers(frames: Frames) -> list[int]:
    return [frame_number(image) for image in frames.images]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.webm"])
def test_every_container_gives_the_same_frames_and_times(good, name):
    frames = load_frames(Video(path=good[name]), 8)
    assert numbers(frames) == list(range(8))
    assert frames.times_s == pytest.approx([0.5 * index for index in range(8)], abs=0.01)
    assert read_video(Video(path=good[name]), 1)[1] == pytest.approx(4.0, abs=0.01)
    assert {image.mode for image in frames.images} == {"RGB"}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"bf": "3", "g": "9", "x264-params": "open-gop=1"}),
        ("b_frames.avi", "libx264", {"bf": "3", "g": "9"}),
        ("b_frames.mkv", "mpeg4", {"bf": "2", "g": "9", "b": "4M"}),
        ("hevc.mov", "libx265", {"x265-params": f"{X265}:keyint=9"}),
        ("hidden.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k", "g": "9"}),
        ("hidden.mkv", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k", "g": "9"}),
    ],
)
def test_frames_and_times_agree_for_every_codec(tmp_path, name, codec, options):
    path = tmp_path / name
    encode(path, moving_frames(24), codec, fps=10, options=options)
    for count in (1, 5, 24):
        frames = load_frames(Video(path=path), count)
        assert len(frames.images) == count
        assert numbers(frames) == [round(10 * time_s) for time_s in frames.times_s]


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    path = tmp_path / "anamorphic.mp4"
    encode(path, numbered_frames(1), "libx264", pixel_shape=Fraction(4, 3))
    assert load_frames(Video(path=path), 1).images[0].size == (85, 48)


def test_sampling_is_even_and_takes_the_middle_of_each_share(good):
    video = Video(path=good["clip.mp4"])
    assert numbers(load_frames(video, 1)) == [4]
    assert numbers(load_frames(video, 2)) == [2, 6]
    assert numbers(load_frames(video, 4)) == [1, 3, 5, 7]
    assert numbers(load_frames(video, 99)) == list(range(8))
    with pytest.raises(ConfigError, match="num_frames=0"):
        load_frames(video, 0)


def test_a_span_is_honoured(good):
    span = Video(path=good["clip.mp4"], start_s=1.0, end_s=3.0)
    frames = load_frames(span, 8)
    assert numbers(frames) == [2, 3, 4, 5]
    assert frames.times_s == pytest.approx([1.0, 1.5, 2.0, 2.5])
    between = load_frames(Video(path=good["clip.mp4"], start_s=1.1, end_s=1.2), 8)
    assert (numbers(between), between.times_s) == ([2], (1.0,))
    assert numbers(load_frames(Video(path=good["clip.mp4"], start_s=3.0, end_s=99.0), 8)) == [6, 7]


@pytest.mark.parametrize("span", [(5.0, None), (-1.0, None), (3.0, 1.0), (float("nan"), None)])
def test_a_span_outside_the_video_is_refused(good, span):
    frames = Frames(tuple(numbered_frames(8)), tuple(0.5 * index for index in range(8)))
    for source in ({"path": good["clip.mp4"]}, {"frames": frames}):
        with pytest.raises((MediaError, ValueError), match="span"):
            load_frames(Video(**source, start_s=span[0], end_s=span[1]), 4)


def test_variable_frame_rate_keeps_true_times(good):
    times = (0.0, 0.1, 0.2, 0.3, 2.0, 3.0, 3.1, 5.0)
    frames = load_frames(Video(path=good["vfr.mp4"]), 8)
    assert frames.times_s == pytest.approx(times)
    assert numbers(frames) == list(range(8))
    in_memory = Video(frames=Frames(tuple(numbered_frames(8)), times))
    for count in (1, 2, 3, 5):
        from_file = load_frames(Video(path=good["vfr.mp4"], end_s=5.0), count)
        chosen = load_frames(in_memory.model_copy(update={"end_s": 5.0}), count)
        assert numbers(from_file) == numbers(chosen)
        assert from_file.times_s == pytest.approx(chosen.times_s)
        assert len(set(chosen.times_s)) == count


def test_frames_in_memory_are_sampled_by_their_own_length():
    frames = Frames(tuple(image.convert("L") for image in numbered_frames(8)), tuple(0.5 * index for index in range(8)))
    sampled = load_frames(Video(frames=frames), 4)
    assert sampled.times_s == (0.5, 1.5, 2.5, 3.5)
    assert {image.mode for image in sampled.images} == {"RGB"}
    assert len(load_frames(Video(frames=Frames(frames.images[:1], (0.0,))), 8).images) == 1


def test_jumping_to_key_frames_finds_the_same_frames(tmp_path):
    path = tmp_path / "long.mp4"
    encode(path, [image for _ in range(30) for image in numbered_frames(20, (32, 32))], "libx264", fps=10)
    frames = load_frames(Video(path=path), 7)
    assert numbers(frames) == [round(at * 10) % 20 for at in frames.times_s]
    late = load_frames(Video(path=path, start_s=58.0), 3)
    assert numbers(late) == [round(at * 10) % 20 for at in late.times_s]
    assert load_frames(Video(path=path, start_s=59.0), 1, Limits(max_frames=300)).times_s[0] == pytest.approx(59.5)


def test_rotation_and_odd_sizes(good):
    turned = load_frames(Video(path=good["turned.mp4"]), 1).images[0]
    assert turned.size == (48, 64)
    for corner, colour in (((8, 56), RED), ((40, 8), BLUE)):  # a quarter turn counter-clockwise
        shown = turned.getpixel(corner)
        assert isinstance(shown, tuple)
        assert all(abs(a - b) < 30 for a, b in zip(shown, colour, strict=True))
    assert load_frames(Video(path=good["odd_size.mp4"]), 1).images[0].size == (64, 48)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_pixels=100), "max_pixels=100"),
        (Limits(max_frames=3), "max_frames=3"),
        (Limits(max_duration_s=1), "max_duration_s=1"),
        (Limits(decode_timeout_s=1e-9), "decode_timeout_s"),
        (Limits(max_bytes=100), "max_bytes=100"),
    ],
)
def test_every_limit_stops_with_its_name(good, limits, words):
    with pytest.raises(MediaError, match=words) as caught:
        load_frames(Video(path=good["clip.mp4"]), 8, limits)
    assert "clip.mp4" in str(caught.value)


def test_every_cut_is_a_media_error(good, tmp_path):
    for name in ("clip.mp4", "clip.mkv", "clip.avi", "clip.webm"):
        data = good[name].read_bytes()
        path = tmp_path / name
        for size in (1, 100, len(data) // 2, len(data) * 9 // 10):
            path.write_bytes(data[:size])
            with pytest.raises(MediaError, match="clip"):
                load_frames(Video(path=path), 8)


def test_no_playlist_reaches_another_file(good, tmp_path):
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXTINF:4,\n{good['clip.mp4']}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"ffconcat version 1.0\nfile {good['clip.mp4']}\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(MediaError):
            load_frames(Video(path=path), 1)


def test_saving_is_deterministic_and_close_to_the_pixels(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        save_video(numbered_frames(8), tmp_path / name, fps=2)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert numbers(load_frames(Video(path=tmp_path / "a.mp4"), 8)) == list(range(8))
    with pytest.raises(ConfigError, match="at least one frame"):
        save_video([], tmp_path / "none.mp4", fps=2)
    with pytest.raises(ConfigError, match="fps"):
        save_video(numbered_frames(1), tmp_path / "none.mp4", fps=0)
    assert not (tmp_path / "none.mp4").exists()


def test_frames_in_files_are_decoded_when_they_are_looked_at(tmp_path: Path):
    pictures = numbered_frames(4)
    paths = tuple(tmp_path / f"{number}.png" for number in range(4))
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    video = Video(frame_files=FrameFiles(paths=paths, times_s=(0.0, 1.0, 2.0, 3.0)))
    frames = load_frames(video, 8)
    assert frames.times_s == (0.0, 1.0, 2.0, 3.0)
    assert [image.getpixel((0, 0)) for image in frames.images] == [image.getpixel((0, 0)) for image in pictures]
    assert load_frames(video, 2).times_s == (1.0, 3.0)
    assert count_frames(video) == 4
    assert count_frames(video, num_frames=2) == 2
    key = content_key((video,))
    assert key != content_key((Video(frame_files=FrameFiles(paths=paths[:2], times_s=(0.0, 1.0))),))
    pictures[0].resize((9, 9)).save(paths[3])
    assert content_key((video,)) != key
    with pytest.raises(MediaError, match=r"3\.png.*while the first frame has"):
        load_frames(video, 8)
    with pytest.raises(ValueError, match="2 frames with 1 times"):
        FrameFiles(paths=paths[:2], times_s=(0.0,))


@pytest.mark.skipif(sys.platform != "linux", reason="threads of libraries are counted where Linux lists them")
def test_decoding_leaves_no_threads_behind(good):
    num_threads, num_tasks = threading.active_count(), len(os.listdir("/proc/self/task"))
    for _ in range(4):
        load_frames(Video(path=good["clip.mp4"]), 8)
    assert threading.active_count() <= num_threads, "threads of earlier tests may end meanwhile"
    assert len(os.listdir("/proc/self/task")) <= num_tasks
