"""Open video files (PyAV): one demuxer and decoder of the allow-list each, within limits.

FFmpeg is given an open file and the name of one demuxer, so a file cannot make it fetch another file or address.
"""

import errno
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from embedrl.errors import EmbedRLError, MediaError
from embedrl.media.container import missing_bytes
from embedrl.media.store import HEAD_BYTES, Limits, container_format, open_regular
from embedrl.media.video_formats import CODECS, CONTAINERS

_BUFFER_BYTES = 256 * 1024
_PROTECTED = "is protected against copying (DRM), so that only its seller's player can show it"
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codec -> decoder that reads its layer of transparency."""
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails


class OpenedVideo(NamedTuple):
    """A video file with its video stream."""

    path: Path
    container: InputContainer
    stream: VideoStream
    limits: Limits
    deadline: float


@contextmanager
def open_video(path: Path, limits: Limits) -> Generator[OpenedVideo]:
    """Open a video file; FFmpeg's errors become MediaErrors that name it."""
    deadline = time.monotonic() + limits.decode_timeout_s
    with open_regular(path, limits) as file:
        demuxer = container_format(file.read(HEAD_BYTES))
        if demuxer is None:
            raise MediaError(f"{str(path)!r}: is not a video container we read ({', '.join(CONTAINERS)})")
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
        others = ", ".join(sorted({stream.type for stream in container.streams}))
        raise MediaError(f"{str(path)!r}: has no video, {f'only {others}' if others else 'nor any other track'}")
    stream = max(streams, key=_prominence)
    if stream.codec_context is None:
        raise MediaError(f"{str(path)!r}: its codec is unknown, or it is protected against copying, as films of iTunes are")
    codec = stream.codec_context.name
    codec = "av1" if codec in ("libdav1d", "libaom-av1") else codec
    if codec not in CODECS:
        raise MediaError(f"{str(path)!r}: its codec is {codec!r}, which is none of the {len(CODECS)} that we decode; convert it to H.264")
    require_unprotected(path, container, stream)
    require_size(path, stream.codec_context.width, stream.codec_context.height, limits)
    stream.codec_context.thread_count = 1
    stream.thread_type = "NONE"
    return stream


def _prominence(stream: VideoStream) -> tuple[bool, bool, int]:
    """Rank a video stream as players do: of several frames, then the default one, then the largest."""
    context = stream.codec_context
    return stream.frames != 1, bool(stream.disposition & Disposition.default), context.width * context.height if context else 0


def require_unprotected(path: Path, container: InputContainer, stream: Stream) -> None:
    """Raise MediaError for a stream of Windows Media or WebM whose header says that it is encrypted."""
    if "enc_key_id" in stream.metadata or "ASF_Protection_Type" in container.metadata:
        raise MediaError(f"{str(path)!r}: {_PROTECTED}")


def require_clear(path: Path, packet: Packet) -> None:
    """Raise MediaError for an encrypted packet (Common Encryption, ISO 23001-7)."""
    if packet.has_sidedata("encryption_info"):
        raise MediaError(f"{str(path)!r}: {_PROTECTED}")


def alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """Return the decoder of a WebM with transparency, which FFmpeg's own decoders of VP8 and VP9 leave out; None for other streams."""
    name = _WITH_ALPHA.get(stream.codec_context.name) if stream.metadata.get("alpha_mode") == "1" else None
    if name is None:
        return None
    decoder = VideoCodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    return decoder


def require_size(path: Path, width: int, height: int, limits: Limits) -> None:
    """Raise MediaError if frames have too many pixels."""
    if width * height > limits.max_pixels:
        raise MediaError(f"{str(path)!r}: its frames have {width} x {height} pixels, more than max_pixels={limits.max_pixels}")


def require_time(path: Path, deadline: float, limits: Limits) -> None:
    """Raise MediaError if the time for a file is over."""
    if time.monotonic() > deadline:
        raise MediaError(f"{str(path)!r}: decoding took longer than decode_timeout_s={limits.decode_timeout_s:g}")
