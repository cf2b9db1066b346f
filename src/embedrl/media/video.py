"""Videos (PyAV): frame sampling with presentation times, and deterministic writing.

Two passes. The first reads packet headers only and gives the exact time of every frame, whatever the frame rate does, so the
frames to show are chosen before anything is decoded. The second seeks to the key frame before each chosen frame and decodes up to
it.
"""

import gc
import io
import math
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
from av.video.stream import VideoStream

from embedrl.errors import ConfigError, MediaError
from embedrl.files import write_bytes
from embedrl.media.colour import HDR_TRANSFERS, tone_mapped
from embedrl.media.content import FrameFiles, Frames, Video
from embedrl.media.frame_index import FrameIndex, counter, index_of, packets_from
from embedrl.media.image import load_image, shrink_factor, to_rgb
from embedrl.media.metadata import from_tags
from embedrl.media.sampling import end_of, frames_in_memory, sample
from embedrl.media.store import DEFAULT, Limits
from embedrl.media.video_file import OpenedVideo, alpha_decoder, open_video, require_size, require_time

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
        index = index_of(opened)
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
        index = index_of(opened)
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


def video_metadata(path: Path, limits: Limits = DEFAULT) -> dict[str, Any]:
    """Return what a video file says of itself in its tags. Raises MediaError."""
    with open_video(path, limits) as opened:
        return from_tags({**opened.stream.metadata, **opened.container.metadata})


def _decode(opened: OpenedVideo, index: FrameIndex, wanted: Sequence[int]) -> list[tuple[int, PIL.Image.Image]]:
    """Decode the frames shown at these increasing times; returns (true time in ticks, image) of each.

    A packet may hold a hidden frame (VP8), so a time can lead to the next frame, which is then given once. In a stream that may lose
    packets, damaged frames are passed over as well.
    """
    path, _, stream, limits, _ = opened
    decoded: list[tuple[int, PIL.Image.Image]] = []
    may_lose = index.may_lose
    position, num_decoded, frames = -math.inf, 0, _frames(opened, index, index.ticks[0], skip_damaged=may_lose)
    for tick in wanted:
        if decoded and decoded[-1][0] >= tick:
            continue
        key = index.key_at(tick)
        restarts = [key, index.ticks[0]] if key > max(position, index.ticks[0]) else [index.ticks[0]]
        if key > max(position, index.ticks[0]):
            frames, position = _frames(opened, index, restarts.pop(0), skip_damaged=may_lose), -math.inf
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
                frames, position = _frames(opened, index, restarts.pop(0), skip_damaged=may_lose), -math.inf
            elif frame is None or (position >= tick and not (may_lose and frame.is_corrupt)):
                break
        if frame is None and may_lose and decoded:  # the end was lost
            break
        if frame is None or frame.is_corrupt:
            at_s = float((tick - index.ticks[0]) * (stream.time_base or 1))
            raise MediaError(f"{str(path)!r}: the frame at {at_s:.3f} s cannot be decoded; the video is damaged or cut short")
        decoded.append((int(position), _displayed(frame, stream, limits.max_kept_pixels)))
    return decoded


def _frames(
    opened: OpenedVideo, index: FrameIndex, start: int, *, skip_damaged: bool = False
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Decode from the key frame at or before a time; yields (time in ticks, frame).

    Where damage is skipped, so is what follows a packet that came incomplete, up to the next key frame: decoders make it up.
    """
    counted = None
    lost_from, lost_to, follows_loss = math.inf, -math.inf, False
    decoder = alpha_decoder(opened.stream)
    for packet in packets_from(opened, opened.stream, start):
        counted = counter(index, packet) if counted is None else counted
        if packet.is_corrupt and packet.dts is not None and lost_to != math.inf:
            lost_from, lost_to = packet.dts, math.inf
        elif packet.is_keyframe and packet.pts is not None and lost_to == math.inf and not follows_loss:
            lost_to = packet.pts
        follows_loss = packet.is_corrupt  # FFmpeg's parsers mark the packet before the one that misses its end
        try:
            frames = packet.decode() if decoder is None else decoder.decode(packet)
        except av.error.InvalidDataError:
            if not skip_damaged:
                raise
            continue
        for frame in frames:
            require_time(opened.path, opened.deadline, opened.limits)
            require_size(opened.path, frame.width, frame.height, opened.limits)
            if not (skip_damaged and frame.pts is not None and lost_from <= frame.pts < lost_to):
                yield (frame.pts if index.is_timed else next(counted, None)), frame


def _displayed(frame: av.VideoFrame, stream: VideoStream, max_kept_pixels: int) -> PIL.Image.Image:
    """Convert a frame for display: deinterlaced, on white where it is transparent, square pixels, display matrix applied, sRGB."""
    shrink = shrink_factor(frame.width * frame.height, max_kept_pixels)
    size: dict[str, Any] = {}
    if shrink > 1:
        gc.collect()  # PyAV's frames lie in reference cycles: those before would keep their memory
        size = {"width": math.ceil(frame.width / shrink), "height": math.ceil(frame.height / shrink), "interpolation": "AREA"}
    if frame.color_trc in HDR_TRANSFERS:
        image = tone_mapped(frame.to_ndarray(format="rgb48le", threads=1, **size), frame.color_trc, frame.color_primaries)
    elif any(component.is_alpha for component in frame.format.components):
        image = to_rgb(PIL.Image.fromarray(frame.to_ndarray(format="rgba", threads=1, **size)))
    else:
        image = frame.to_image(threads=1, **size)  # each thread would take memory of the child's, and one frame after the other is wanted
    if frame.interlaced_frame and shrink == 1 and image.height % 2 == 0:
        image = _one_field(image)
    shape = stream.sample_aspect_ratio
    if shape and shape != 1 and Fraction(1, 4) <= shape <= 4:
        image = image.resize((max(1, round(image.width * shape)), image.height), PIL.Image.Resampling.BICUBIC)
    return _upright(image, frame)


def _one_field(image: PIL.Image.Image) -> PIL.Image.Image:
    """Replace every other line, which an interlaced frame took at another moment, by the mean of its neighbours."""
    pixels = np.array(image)
    pixels[1:-1:2] = (pixels[0:-2:2].astype(np.uint16) + pixels[2::2]) // 2
    return PIL.Image.fromarray(pixels)


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
