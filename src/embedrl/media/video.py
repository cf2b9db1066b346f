"""Videos: a few frames of a span, each with the time at which it is truly shown. The only home of PyAV.

FFmpeg gets an open file rather than a name, so no URL, playlist or second file can be reached through it, and only the
containers and codecs named here. Frame times come from the packets, never from a frame rate.
"""

import bisect
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import PIL.Image
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Frames, Video
from embedrl.media.store import DEFAULT, Limits, open_file

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
CODECS = "h264,hevc,vp8,vp9,av1,libdav1d,mpeg4,mpeg2video,mpeg1video,mjpeg,aac,mp3,mp3float,opus,vorbis,ac3,flac,pcm_s16le"
CLOCK = Fraction(1, 90_000)
"""Time base of the videos we write, in seconds."""


class _Reader:
    """One open video: its stream, the times of its frames, and what may still be spent on it."""

    def __init__(self, path: Path, container: InputContainer, limits: Limits) -> None:
        self.name, self.container, self.limits = repr(str(path)), container, limits
        self.deadline = time.monotonic() + limits.decode_timeout_s
        streams = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise MediaError(f"{self.name}: has no video stream")
        self.stream: VideoStream = streams[0]
        if self.stream.time_base is None or self.stream.codec_context is None:
            raise MediaError(f"{self.name}: its video stream cannot be decoded")
        self.time_base: Fraction = self.stream.time_base
        self.check_size(self.stream.codec_context.width, self.stream.codec_context.height)
        self.pts: list[int] = []
        self.keys: list[int] = []
        self.end_s = self._index()

    def check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise MediaError(f"{self.name}: its frames have no size")
        if width * height > self.limits.max_pixels:
            raise MediaError(f"{self.name}: frames of {width} x {height} pixels are more than max_pixels={self.limits.max_pixels}")

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise MediaError(f"{self.name}: takes longer than decode_timeout_s={self.limits.decode_timeout_s:g}: shorten it or raise the limit")

    def seconds(self, pts: int) -> float:
        """Time since the first frame."""
        return float((pts - self.pts[0]) * self.time_base)

    def _index(self) -> float:
        """Read all packets without decoding them. Returns when the video ends, in seconds since its first frame."""
        last, ends = 0, 0
        for packet in self.container.demux(self.stream):
            self.check_time()
            pts = packet.dts if packet.pts is None else packet.pts
            if pts is None or packet.is_discard:
                continue
            if packet.is_corrupt:
                raise MediaError(f"{self.name}: is damaged or cut off near frame {len(self.pts) + 1}")
            self.pts.append(pts)
            if packet.is_keyframe:
                self.keys.append(pts)
            last, ends = max(last, pts), max(ends, pts + (packet.duration or 0))
        if not self.pts:
            raise MediaError(f"{self.name}: holds no frames")
        self.pts.sort()
        self.keys.sort()
        if ends <= last:  # no packet tells how long it lasts: as long as an average one
            ends = last + (last - self.pts[0]) // max(1, len(self.pts) - 1)
        end_s = self.seconds(ends)
        self._check_complete(end_s)
        if end_s > self.limits.max_duration_s:
            raise MediaError(f"{self.name}: lasts {end_s:.0f} s, more than max_duration_s={self.limits.max_duration_s:g}")
        return end_s

    def _check_complete(self, end_s: float) -> None:
        """An index or header that promises much more than the packets hold means a file that was cut off."""
        promised = float(self.stream.duration * self.time_base) if self.stream.duration else 0.0
        cut = any(entry.pos + entry.size > self.container.size for entry in self.stream.index_entries if entry.pos >= 0)
        if cut or end_s < 0.9 * promised - 0.5:
            raise MediaError(f"{self.name}: is cut off: {len(self.pts)} frames up to {end_s:.1f} s are there")

    def frames(self, wanted: Sequence[int]) -> Iterator[VideoFrame]:
        """Decode the frames at these (sorted) times, jumping to a keyframe wherever that skips work."""
        decoded, position, stream_frames = 0, None, iter(())
        for pts in wanted:
            if position is not None and position >= pts:
                continue
            key = bisect.bisect_right(self.keys, pts) - 1
            if position is None or (key >= 0 and self.keys[key] > position):
                self.container.seek(self.keys[max(key, 0)] if self.keys else self.pts[0], stream=self.stream)
                stream_frames = self.container.decode(self.stream)
            for frame in stream_frames:
                decoded += 1
                self.check_time()
                self.check_size(frame.width, frame.height)
                if decoded > self.limits.max_frames:
                    raise MediaError(f"{self.name}: more than max_frames={self.limits.max_frames} must be decoded: shorten the span or raise the limit")
                if frame.pts is not None and frame.pts >= pts:
                    position = frame.pts
                    yield frame
                    break


@contextmanager
def _open(path: Path, limits: Limits) -> Iterator[_Reader]:
    name = repr(str(path))
    options = {"format_whitelist": CONTAINERS, "codec_whitelist": CODECS, "protocol_whitelist": "none"}
    with open_file(path, limits) as file:
        try:
            with av.open(file, "r", container_options=options, metadata_errors="replace") as container:
                yield _Reader(path, container, limits)
        # A boundary: what PyAV raises on hostile bytes; its errors subclass OSError, ValueError and more.
        except (av.FFmpegError, OSError, EOFError, UnicodeError, OverflowError, MemoryError) as error:
            raise MediaError(f"{name}: cannot be decoded as a video ({type(error).__name__}: {error})") from error


def load_frames(video: Video, num_frames: int, limits: Limits = DEFAULT) -> Frames:
    """Sample at most `num_frames` RGB frames, evenly in time over the span, each with its time since the video's start.

    A span is cut into `num_frames` equal parts, and the frame on screen in the middle of each part is taken; where frames
    are too sparse for that, neighbours are, so that no frame comes twice. A span with fewer frames gives them all.
    Raises MediaError for what is broken, not a video, over a limit, or a span outside the video.
    """
    if num_frames < 1:
        raise ConfigError(f"num_frames={num_frames}: give at least 1")
    if video.frames is not None:
        times = video.frames.times_s
        step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        chosen = _sample(times, times[-1] + step, num_frames, video)
        return Frames(
            tuple(image.convert("RGB") for image in (video.frames.images[index] for index in chosen)), tuple(times[index] for index in chosen)
        )
    assert video.path is not None
    with _open(video.path, limits) as reader:
        times = [reader.seconds(pts) for pts in reader.pts]
        wanted = [reader.pts[index] for index in _sample(times, reader.end_s, num_frames, video)]
        images, shown = [], []
        for frame in reader.frames(wanted):
            assert frame.pts is not None
            images.append(_upright(frame))
            shown.append(reader.seconds(frame.pts))
        if not images:
            raise MediaError(f"{reader.name}: none of its frames can be decoded")
        return Frames(tuple(images), tuple(shown))


def _sample(times_s: Sequence[float], end_s: float, num_frames: int, video: Video) -> list[int]:
    """Choose indices into the (sorted) times of all frames."""
    start = max(video.start_s, times_s[0])
    end = end_s if video.end_s is None else min(video.end_s, end_s)
    where = repr(str(video.path)) if video.path else "a video in memory"
    if video.start_s < 0 or end < start or (video.start_s > times_s[-1] and video.start_s >= end_s):
        raise MediaError(f"{where}: the span {video.start_s:g}..{video.end_s} s lies outside its {end_s:.2f} s, or ends before it starts")
    first = bisect.bisect_right(times_s, start) - 1  # on screen when the span starts
    stop = max(bisect.bisect_left(times_s, end), first + 1)
    count = min(num_frames, stop - first)
    chosen: list[int] = []
    for part in range(count):
        middle = start + (end - start) * (part + 0.5) / count
        index = bisect.bisect_right(times_s, middle, first, stop) - 1
        lowest = chosen[-1] + 1 if chosen else first
        chosen.append(min(max(index, lowest), stop - (count - part)))
    return chosen


def _upright(frame: VideoFrame) -> PIL.Image.Image:
    image = frame.to_image()
    turn = frame.rotation % 360  # counter-clockwise
    return image.rotate(turn, expand=True) if turn else image


def duration_s(path: Path, limits: Limits = DEFAULT) -> float:
    """Return how long a video lasts, from its first frame to the end of its last, in seconds. Raises MediaError."""
    with _open(path, limits) as reader:
        return reader.end_s


def save_video(frames: Frames | Sequence[PIL.Image.Image], path: Path, fps: float) -> None:
    """Write MP4 (H.264, near lossless); the same pixels always give the same bytes.

    Frames keep their distances in time, counted from the first; pictures follow each other at `fps` a second, which is also
    how long the last one lasts. An odd row or column is repeated, because H.264 needs even sides.
    """
    images = frames.images if isinstance(frames, Frames) else tuple(frames)
    if not images or fps <= 0:
        raise ConfigError(f"{str(path)!r}: {len(images)} frames at fps={fps:g}: give at least one frame and a positive rate")
    times = [at - frames.times_s[0] for at in frames.times_s] if isinstance(frames, Frames) else [index / fps for index in range(len(images))]
    width, height = (side + side % 2 for side in images[0].size)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "15", "threads": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = CLOCK
        stream.codec_context.thread_count = 1
        ticks = [round(at / CLOCK) for at in times]
        lasting = [after - before for before, after in zip(ticks, ticks[1:], strict=False)] + [round(1 / fps / CLOCK)]
        durations = dict(zip(ticks, lasting, strict=True))
        for image, tick in zip(images, ticks, strict=True):
            frame = VideoFrame.from_image(_even(image, (width, height), path))
            frame.pts, frame.time_base = tick, CLOCK
            _mux(container, stream, frame, durations)
        _mux(container, stream, None, durations)
    path.write_bytes(buffer.getvalue())


def _mux(container: av.container.OutputContainer, stream: VideoStream, frame: VideoFrame | None, durations: dict[int, int]) -> None:
    for packet in stream.encode(frame):
        assert packet.pts is not None
        packet.duration = durations.get(packet.pts, packet.duration)
        container.mux(packet)


def _even(image: PIL.Image.Image, size: tuple[int, int], path: Path) -> PIL.Image.Image:
    image = image.convert("RGB")
    if image.size == size:
        return image
    width, height = image.size
    if size != (width + width % 2, height + height % 2):
        raise ConfigError(f"{str(path)!r}: a frame of {image.size} among frames of {size}: give all frames one size")
    padded = PIL.Image.new("RGB", size)
    padded.paste(image.resize(size, PIL.Image.Resampling.NEAREST))
    padded.paste(image)
    return padded
