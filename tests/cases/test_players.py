"""Videos as players show them: mirrored, the stream that is meant, with other things behind the end, in HDR, cut without encoding anew.

Reported: a mirrored clip was shown upside down; a thumbnail's stream was taken for the film; whole MP4s with an ID3 tag were "cut short";
HDR was grey; cut MKVs had "frames without a time" (media.md 3, 4, 5, 8 and 10).
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import PIL.Image
import pytest

from embedrl.errors import MediaError
from embedrl.media.content import Video
from embedrl.media.video import load_frames, save_video
from tests.odd_media import BLUE, RED, X265, corner_image, encode, frame_number, numbered_frames

PQ, HLG = 16, 18


def shown(path: Path) -> PIL.Image.Image:
    return load_frames(Video(path=path), 1).images[0]


def filtered(path: Path, filters: Sequence[tuple[str, str]]) -> PIL.Image.Image:
    """Decode a video's first frame with FFmpeg's own filters."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(template=stream), *[graph.add(name, options) for name, options in filters], graph.add("buffersink")
        ).configure()
        graph.push(next(container.decode(stream)))
        pulled = graph.pull()
        assert isinstance(pulled, av.VideoFrame)
        return pulled.to_image()


def with_matrix(source: Path, target: Path, matrix: tuple[int, int, int, int]) -> Path:
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("matrix", "filters"),
    [
        ((1, 0, 0, 1), []),
        ((-1, 0, 0, 1), [("hflip", "")]),
        ((1, 0, 0, -1), [("vflip", "")]),
        ((-1, 0, 0, -1), [("hflip", ""), ("vflip", "")]),
        ((0, 1, -1, 0), [("transpose", "dir=clock")]),
        ((0, -1, 1, 0), [("transpose", "dir=cclock")]),
        ((0, 1, 1, 0), [("transpose", "dir=cclock_flip")]),
        ((0, -1, -1, 0), [("transpose", "dir=clock_flip")]),
        ((-2, 0, 0, 2), [("hflip", "")]),
        ((0, 0, 0, 0), []),
    ],
)
def test_turned_and_mirrored_videos_are_shown_as_players_show_them(tmp_path: Path, matrix, filters):
    save_video([corner_image()] * 2, tmp_path / "base.mp4", fps=2)
    path = with_matrix(tmp_path / "base.mp4", tmp_path / "turned.mp4", matrix)
    expected = filtered(tmp_path / "base.mp4", [("format", "pix_fmts=rgb24"), *filters])
    assert shown(path).size == expected.size
    assert np.abs(np.asarray(shown(path), int) - np.asarray(expected, int)).max() <= 3


def test_a_mirrored_clip_is_mirrored_left_to_right(tmp_path: Path):
    save_video([corner_image()] * 4, tmp_path / "base.mp4", fps=2)
    frame = shown(with_matrix(tmp_path / "base.mp4", tmp_path / "mirrored.mp4", (-1, 0, 0, 1)))
    for corner, colour in (((56, 6), RED), ((56, 40), BLUE), ((6, 6), BLUE)):
        pixel = frame.getpixel(corner)
        assert isinstance(pixel, tuple)
        assert all(abs(a - b) < 30 for a, b in zip(pixel, colour, strict=True))


def two_streams(path: Path, sizes: Sequence[tuple[int, int]], codecs: Sequence[str], default: int | None) -> None:
    with av.open(str(path), "w") as container:
        streams = []
        for number, (size, codec) in enumerate(zip(sizes, codecs, strict=True)):
            stream = container.add_stream(codec, rate=10)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.codec_context.thread_count = 1
            if default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for size, stream in zip(sizes, streams, strict=True):
            count = 1 if stream.codec_context.name == "mjpeg" else 6
            for index, image in enumerate(numbered_frames(count, size)):
                frame = av.VideoFrame.from_image(image)
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "sizes", "codecs", "default", "expected"),
    [
        ("thumb.mp4", [(32, 32), (96, 64)], ["mjpeg", "libx264"], None, (96, 64)),
        ("small.mkv", [(96, 64), (64, 48)], ["libx264", "libx264"], 1, (64, 48)),
        ("first.mkv", [(64, 48), (96, 64)], ["libx264", "libx264"], 0, (64, 48)),
        ("largest.mkv", [(64, 48), (96, 64)], ["libx264", "libx264"], None, (96, 64)),
    ],
)
def test_the_default_stream_is_shown_or_else_the_largest(tmp_path: Path, name, sizes, codecs, default, expected):
    two_streams(tmp_path / name, sizes, codecs, default)
    frames = load_frames(Video(path=tmp_path / name), 8)
    assert frames.images[0].size == expected
    assert [frame_number(image) for image in frames.images] == list(range(6))


@pytest.mark.parametrize(
    "tail",
    [
        b"TAG" + bytes(125),
        np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes(),
        b"Made by my camera, thank you\n",
        bytes(100),
        b"\n",
        struct.pack(">I4s", 10_000, b"free") + b"x" * 20,
    ],
)
def test_what_lies_behind_the_end_of_an_mp4_does_not_matter(tmp_path: Path, tail: bytes):
    path = tmp_path / "clip.mp4"
    save_video(numbered_frames(8), path, fps=2)
    path.write_bytes(path.read_bytes() + tail)
    assert [frame_number(image) for image in load_frames(Video(path=path), 8).images] == list(range(8))


@pytest.mark.parametrize("faststart", [False, True])
def test_an_mp4_that_is_cut_in_its_frames_or_its_index_is_still_refused(tmp_path: Path, faststart: bool):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in numbered_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    for size in (len(data) - 1, len(data) * 2 // 3):
        path.write_bytes(data[:size])
        with pytest.raises(MediaError, match="cut short"):
            load_frames(Video(path=path), 8)


def gradient() -> np.ndarray:
    """A colourful picture with a white edge, 0..1, (96, 128, 3)."""
    y, x = np.mgrid[0:96, 0:128] / np.array([96, 128])[:, None, None]
    colours = np.stack([x, y, 1 - (x + y) / 2], axis=-1)
    colours[:8] = 1
    return colours


def hdr_codes(transfer: int, white_nits: float) -> np.ndarray:
    """Encode the picture as HDR with its white at a brightness: 16-bit codes, by the equations of BT.2100 and the sRGB curve."""
    srgb = gradient()
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    wide = linear @ np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]).T
    nits = wide * white_nits
    if transfer == PQ:
        powered = (nits / 10_000) ** (2610 / 16_384)
        codes = ((3424 / 4096 + 2413 / 128 * powered) / (1 + 2392 / 128 * powered)) ** (2523 / 32)
    else:
        luma = nits @ np.array([0.2627, 0.6780, 0.0593])
        scene = nits / 1000 * np.maximum(luma / 1000, 1e-9)[..., None] ** (1 / 1.2 - 1)
        codes = np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)
    return np.round(65_535 * codes.clip(0, 1)).astype(np.uint16)


@pytest.mark.parametrize("white_nits", [100, 203])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_is_shown_in_the_colours_of_sdr(tmp_path: Path, transfer: int, white_nits: float):
    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=10, options={"crf": "4", "x265-params": f"{X265}:bframes=0"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p10le"
        context = stream.codec_context
        context.thread_count = 1
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        frame = av.VideoFrame.from_ndarray(hdr_codes(transfer, white_nits), format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
        frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
        for index in range(2):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    difference = np.abs(np.asarray(shown(path), float) - 255 * gradient())
    assert difference.mean() < 3, difference.mean()


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
def test_a_video_cut_without_encoding_anew_shows_what_can_be_decoded(tmp_path: Path, name: str):
    whole, cut = tmp_path / "whole.mp4", tmp_path / name
    options = {"x265-params": f"{X265}:open-gop=1:keyint=10:min-keyint=10:bframes=4:scenecut=0"}
    encode(whole, [image for _ in range(2) for image in numbered_frames(20)], "libx265", fps=10, options=options)
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = source.streams.video[0]
        assert stream.time_base is not None
        copied = target.add_stream_from_template(stream)
        start = None
        for packet in source.demux(stream):
            if start is None and packet.is_keyframe and packet.pts is not None and packet.pts * stream.time_base >= 1:
                start = packet.pts
            if start is not None and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copied
                target.mux(packet)
    frames = load_frames(Video(path=cut), 8)
    assert len(frames.images) == 8
    assert frames.times_s[0] >= 0
