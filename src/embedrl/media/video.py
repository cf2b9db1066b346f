"""Videos (PyAV): frame sampling with presentation times, and deterministic writing.

Two passes. The first reads packet headers only and gives the exact time of every frame, whatever the frame rate does, so the
frames to show are chosen before anything is decoded. The second seeks to the key frame before each chosen frame and decodes up to
it. FFmpeg is given an open file and the name of one demuxer, so a file cannot make it fetch another file or address.
"""

import errno
import gc
import io
import math
import struct
import time
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import PIL.Image
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from embedrl.errors import ConfigError, EmbedRLError, MediaError
from embedrl.media.colour import HDR_TRANSFERS, tone_mapped
from embedrl.media.container import missing_bytes
from embedrl.media.content import FrameFiles, Frames, Video
from embedrl.media.image import load_image, shrink_factor, to_rgb
from embedrl.media.metadata import from_tags
from embedrl.media.sampling import end_of, frames_in_memory, sample
from embedrl.media.store import DEFAULT, Limits, container_format, open_regular, write_bytes

CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")
_BUFFER_BYTES = 256 * 1024
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
_SMALL = 0.02
_TURNS = {
    (0, 0, 0, 0): None,
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): PIL.Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): PIL.Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): PIL.Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): PIL.Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): PIL.Image.Transpose.TRANSVERSE,
}
"""Signs of a display matrix's a, b, c, d -> transpose."""


class _Index(NamedTuple):
    """Presentation times of all frames of a stream, in ticks of its time base."""

    ticks: list[int]
    key_ticks: list[int]
    end: int
    is_timed: bool
    """Whether the container stores presentation times. AVI does not: its frames are counted."""


class OpenedVideo(NamedTuple):
    """A video file with its stream of pictures."""

    path: Path
    container: InputContainer
    stream: VideoStream
    limits: Limits
    deadline: float


def load_frames(video: Video, num_frames: int | None, limits: Limits = DEFAULT) -> Frames:
    """Sample frames evenly over the video's span: RGB, upright, with times in seconds from the file's first frame.

    Each frame is the one on screen in the middle of its share of the span; none is shown twice. A span with fewer frames gives all
    it has, and so does `num_frames=None`, for frames in memory or in files of their own. Raises MediaError, naming the file, if it is
    damaged, cut short, or breaks a limit, and ConfigError for a video file without `num_frames`.
    """
    if num_frames is not None and num_frames < 1:
        raise ConfigError(f"num_frames={num_frames}: give at least 1")
    if video.frames is not None:
        return frames_in_memory(video, num_frames)
    if video.frame_files is not None:
        return _load_files(video, video.frame_files, num_frames, limits)
    return read_video(video, num_frames, limits)[0]


def read_video(video: Video, num_frames: int | None, limits: Limits = DEFAULT) -> tuple[Frames, float]:
    """Sample frames of a video file as `load_frames` does; returns (frames, duration of the file in seconds)."""
    assert video.path is not None
    if num_frames is None:
        raise ConfigError(f"{str(video.path)!r}: num_frames: say how many frames of a video file are sampled (a Reasoner's num_frames)")
    with open_video(video.path, limits) as opened:
        index = _index_of(opened)
        base = opened.stream.time_base or Fraction(1, 1)
        times = [float((tick - index.ticks[0]) * base) for tick in index.ticks]
        end_s = float((index.end - index.ticks[0]) * base)
        try:
            chosen = sample(times, end_s, video.start_s, video.end_s, num_frames)
        except MediaError as error:
            raise MediaError(f"{str(video.path)!r}: {error}") from error
        decoded = _decode(opened, index, [index.ticks[i] for i in chosen])
        times_s = tuple(round(float((tick - index.ticks[0]) * base), 6) for tick, _ in decoded)
        return Frames(tuple(image for _, image in decoded), times_s), end_s


def walk_frames(path: Path, start_s: float, side: int, limits: Limits = DEFAULT) -> Iterator[tuple[float, np.ndarray | None, float]]:
    """Yield each frame that appears from `start_s` on, in order: its time in seconds, its pixels, and the length of the file.

    Pixels are scaled to a square, uint8 (side, side, 3). Frames that are damaged are left out. At first comes the length alone.
    """
    with open_video(path, limits) as opened:
        index = _index_of(opened)
        base = opened.stream.time_base or Fraction(1, 1)
        end_s = float((index.end - index.ticks[0]) * base)
        yield start_s, None, end_s
        start = index.ticks[0] + math.floor(start_s / base)
        for tick, frame in _frames(opened, index, start, skip_damaged=True):
            if tick is not None and tick >= start:
                pixels = frame.to_ndarray(format="rgb24", width=side, height=side, interpolation="AREA", threads=1)
                yield float((tick - index.ticks[0]) * base), pixels, end_s


def _load_files(video: Video, files: FrameFiles, num_frames: int | None, limits: Limits) -> Frames:
    chosen = sample(files.times_s, end_of(files.times_s), video.start_s, video.end_s, num_frames)
    images = [load_image(files.paths[index], limits) for index in chosen]
    for index, image in zip(chosen, images, strict=True):
        if image.size != images[0].size:
            raise MediaError(f"{str(files.paths[index])!r}: has {image.size} pixels, while the first frame has {images[0].size}")
    return Frames(tuple(images), tuple(files.times_s[index] for index in chosen))


@contextmanager
def open_video(path: Path, limits: Limits) -> Generator[OpenedVideo]:
    """Open a video file; FFmpeg's errors become MediaErrors that name it."""
    deadline = time.monotonic() + limits.decode_timeout_s
    with open_regular(path, limits) as file:
        demuxer = container_format(file.read(64))
        if demuxer is None:
            raise MediaError(f"{str(path)!r}: is not a video container we read (MP4, MOV, MKV, WebM, AVI)")
        if missing := missing_bytes(file, demuxer):
            raise MediaError(f"{str(path)!r}: the video is cut short ({missing} bytes are missing)")
        file.seek(0)
        with (
            ffmpeg_named(path, "the video"),
            av.open(file, "r", format=demuxer, buffer_size=_BUFFER_BYTES, metadata_errors="replace") as container,
        ):
            yield OpenedVideo(path, container, _video_stream(container, path, limits), limits, deadline)


@contextmanager
def ffmpeg_named(path: Path, what: str) -> Generator[None]:
    """Turn FFmpeg's errors into MediaErrors that name the file."""
    # Boundary: FFmpeg's errors are one tree, but PyAV also raises plain ValueErrors for streams that it cannot describe.
    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, EmbedRLError):
            raise
        if getattr(error, "errno", None) in (errno.ENOMEM, errno.EAGAIN):  # no memory, or none for a thread: no fault of the file
            raise MemoryError from error
        raise MediaError(f"{str(path)!r}: {what} is damaged or cut short ({getattr(error, 'strerror', None) or error})") from error


def _video_stream(container: InputContainer, path: Path, limits: Limits) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    if not streams:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise MediaError(f"{str(path)!r}: has no video, only {others}")
    stream = max(streams, key=_prominence)
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    codec = "av1" if codec in ("libdav1d", "libaom-av1") else codec
    if codec not in CODECS:
        raise MediaError(f"{str(path)!r}: its codec is {codec!r}, and we decode {', '.join(CODECS)}; convert it to H.264")
    _require_size(path, stream.codec_context.width, stream.codec_context.height, limits)
    stream.codec_context.thread_count = 1
    stream.thread_type = "NONE"
    return stream


def _prominence(stream: VideoStream) -> tuple[bool, bool, int]:
    """Rank a video stream as players do: moving pictures, then the default stream, then the largest."""
    context = stream.codec_context
    return stream.frames != 1, bool(stream.disposition & Disposition.default), context.width * context.height if context else 0


def _require_size(path: Path, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(f"{str(path)!r}: its frames have {width} x {height} pixels, more than max_pixels={limits.max_pixels}")


def video_metadata(path: Path, limits: Limits = DEFAULT) -> dict[str, Any]:
    """Return what a video file says of itself in its tags. Raises MediaError."""
    with open_video(path, limits) as opened:
        return from_tags({**opened.stream.metadata, **opened.container.metadata})


def span_of(opened: OpenedVideo) -> tuple[float, float]:
    """Return when the first frame appears and when the last one ends, in seconds of the container's clock."""
    index, base = _index_of(opened), opened.stream.time_base or Fraction(1, 1)
    return float(index.ticks[0] * base), float(index.end * base)


_last_index: tuple[tuple[object, ...], _Index] | None = None
"""Of the file that was opened last: the scenes of a film are decoded one after the other."""


def _index_of(opened: OpenedVideo) -> _Index:
    global _last_index
    status = opened.path.stat()
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, opened.stream.index, opened.limits)
    if _last_index is None or _last_index[0] != key:
        _last_index = key, _read_index(opened)
    return _last_index[1]


def _read_index(opened: OpenedVideo) -> _Index:
    path, container, stream, limits, _ = opened
    base = float(stream.time_base or 1)
    ticks: list[int] = []
    keys: list[int] = []
    ends: list[int] = []
    is_timed = container.format.name != "avi"
    for packet in container.demux(stream):
        require_time(opened.path, opened.deadline, opened.limits)
        if packet.size == 0 or packet.is_discard:
            continue
        tick = packet.pts if is_timed and packet.pts is not None else packet.dts
        if tick is None:  # cut without encoding anew: what it shows came before the cut
            continue
        ticks.append(tick)
        ends.append(tick + max(packet.duration or 0, 0))
        if packet.is_keyframe:
            keys.append(tick)
        if (ticks[-1] - ticks[0]) * base > limits.max_duration_s:
            raise MediaError(f"{str(path)!r}: is longer than max_duration_s={limits.max_duration_s:g}")
    ticks = sorted(set(ticks))
    if not ticks:
        raise MediaError(f"{str(path)!r}: the video has no frames, or none with a time")
    end = max(ends)
    if end <= ticks[-1]:
        end = round(end_of(ticks)) if len(ticks) > 1 else ticks[-1] + max(1, round(1 / base))
    # Where frames are only counted, a key frame says which one it is if none is shown out of order.
    can_jump = is_timed or not stream.codec_context.has_b_frames
    return _Index(ticks, sorted(keys) if can_jump else ticks[:1], end, is_timed)


def _decode(opened: OpenedVideo, index: _Index, wanted: Sequence[int]) -> list[tuple[int, PIL.Image.Image]]:
    """Decode the frames shown at these increasing times; returns (true time in ticks, image) of each.

    A packet may hold a hidden frame (VP8), so a time can lead to the next frame, which is then given once.
    """
    path, _, stream, limits, _ = opened
    decoded: list[tuple[int, PIL.Image.Image]] = []
    position, num_decoded, frames = -math.inf, 0, _frames(opened, index, index.ticks[0])
    for tick in wanted:
        if decoded and decoded[-1][0] >= tick:
            continue
        key = index.key_ticks[max(bisect_right(index.key_ticks, tick) - 1, 0)] if index.key_ticks else index.ticks[0]
        restarts = [key, index.ticks[0]] if key > max(position, index.ticks[0]) else [index.ticks[0]]
        if key > max(position, index.ticks[0]):
            frames, position = _frames(opened, index, restarts.pop(0)), -math.inf
        frame = None
        while True:
            before = position
            tick_of_frame, frame = next(frames, (None, None))
            num_decoded += 1
            if num_decoded > limits.max_frames:
                raise MediaError(f"{str(path)!r}: sampling it takes more than max_frames={limits.max_frames} decoded frames")
            position = before if tick_of_frame is None else tick_of_frame
            # The seek came out behind the frame (or at the end): this container's index is off, so walk from the start, once.
            if restarts and (frame is None or (position > tick and before == -math.inf)):
                frames, position = _frames(opened, index, restarts.pop(0)), -math.inf
            elif frame is None or position >= tick:
                break
        if frame is None or frame.is_corrupt:
            at_s = float((tick - index.ticks[0]) * (stream.time_base or 1))
            raise MediaError(f"{str(path)!r}: the frame at {at_s:.3f} s cannot be decoded; the video is damaged or cut short")
        decoded.append((int(position), _displayed(frame, stream, limits.max_kept_pixels)))
    return decoded


def _frames(opened: OpenedVideo, index: _Index, start: int, *, skip_damaged: bool = False) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Decode from the key frame at or before a time; yields (time in ticks, frame)."""
    opened.container.seek(start, stream=opened.stream)
    counted = None
    for packet in opened.container.demux(opened.stream):
        if counted is None:
            counted = iter(index.ticks[bisect_left(index.ticks, packet.dts or index.ticks[0]) :])
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if not skip_damaged:
                raise
            continue
        for frame in frames:
            require_time(opened.path, opened.deadline, opened.limits)
            _require_size(opened.path, frame.width, frame.height, opened.limits)
            yield (frame.pts if index.is_timed else next(counted, None)), frame


def require_time(path: Path, deadline: float, limits: Limits) -> None:
    """Raise MediaError if the time for a file is over."""
    if time.monotonic() > deadline:
        raise MediaError(f"{str(path)!r}: decoding took longer than decode_timeout_s={limits.decode_timeout_s:g}")


def _displayed(frame: av.VideoFrame, stream: VideoStream, max_kept_pixels: int) -> PIL.Image.Image:
    """Convert a frame for display: square pixels, display matrix applied, sRGB."""
    shrink = shrink_factor(frame.width * frame.height, max_kept_pixels)
    size: dict[str, Any] = {}
    if shrink > 1:
        gc.collect()  # PyAV's frames lie in reference cycles: those before would keep their memory
        size = {"width": math.ceil(frame.width / shrink), "height": math.ceil(frame.height / shrink), "interpolation": "AREA"}
    if frame.color_trc in HDR_TRANSFERS:
        image = tone_mapped(frame.to_ndarray(format="rgb48le", threads=1, **size), frame.color_trc, frame.color_primaries)
    else:
        image = frame.to_image(threads=1, **size)  # each thread would take memory of the child's, and one frame after the other is wanted
    shape = stream.sample_aspect_ratio
    if shape and shape != 1 and Fraction(1, 4) <= shape <= 4:
        image = image.resize((max(1, round(image.width * shape)), image.height), PIL.Image.Resampling.BICUBIC)
    return _upright(image, frame)


def _upright(image: PIL.Image.Image, frame: av.VideoFrame) -> PIL.Image.Image:
    """Apply a frame's display matrix (ISO 14496-12, 6.2.2): x' = a x + c y, y' = b x + d y; whole turns and mirrorings without loss."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    a, b, _, c, d = struct.unpack("=5i", bytes(side_data)[:20])
    small = _SMALL * max(map(abs, (a, b, c, d)))
    signs = _sign(a, small), _sign(b, small), _sign(c, small), _sign(d, small)
    if signs in _TURNS:
        return image if (turn := _TURNS[signs]) is None else image.transpose(turn)
    if a * d - b * c < 0:
        image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _sign(value: int, small: float) -> int:
    return (value > small) - (value < -small)


def save_video(frames: Frames | Sequence[PIL.Image.Image], path: Path, fps: float) -> None:
    """Write frames at a constant rate as MP4 (H.264, yuv420p, CRF 18). Odd sides are padded by one repeated pixel."""
    images = [to_rgb(image) for image in (frames.images if isinstance(frames, Frames) else frames)]
    if not images or len({image.size for image in images}) > 1:
        raise ConfigError(f"{str(path)!r}: give at least one frame, all of one size")
    if not 0 < fps <= 1000:
        raise ConfigError(f"fps={fps}: give a rate above 0, at most 1000")
    width, height = (side + side % 2 for side in images[0].size)
    rate = Fraction(fps).limit_denominator(1001)
    buffer = io.BytesIO()
    # What x264 decides while it looks ahead depends on stray memory: without it, equal frames give equal bytes.
    options = {"crf": "18", "preset": "medium", "threads": "1", "flags": "+bitexact", "bf": "0", "rc-lookahead": "0"}
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for number, image in enumerate(images):
            pixels = np.pad(np.asarray(image), ((0, height - image.height), (0, width - image.width), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    write_bytes(path, buffer.getvalue())
