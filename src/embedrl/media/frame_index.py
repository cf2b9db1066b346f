"""Index of a video's frames from its packet headers (PyAV): presentation times, key frames, and where to seek.

Transport and program streams have no index, and their clock may jump: a recording that was paused, a disc's next cell, files that were
joined end to end. So they are searched by byte position, and where the clock jumps, what follows is moved to where the time before ended.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import av
from av.packet import Packet, PacketSideData
from av.stream import Stream

from embedrl.errors import MediaError
from embedrl.media.sampling import end_of
from embedrl.media.video_file import OpenedVideo, require_clear, require_time
from embedrl.media.video_formats import COUNTED, WITHOUT_INDEX

_PALETTE = "palette"
_MAX_GAP_S = 10.0
"""A clock that goes on by more between two packets has jumped, as in FFmpeg (`dts_delta_threshold`)."""
_MAX_STEP_BACK_S = 0.5
"""A clock that goes back by more has jumped; by less, a muxer was inexact."""


class FrameIndex(NamedTuple):
    """Presentation times of all frames of a stream, in ticks of its time base."""

    ticks: list[int]
    key_ticks: list[int]
    end: int
    is_timed: bool
    """Whether the container stores presentation times. AVI does not: its frames are counted."""
    key_bytes: list[int]
    """Where reading begins for each key frame, in containers without an index; else empty."""
    jumps: list[tuple[int, int]]
    """Byte position from which on the clock is off, and the ticks to add there."""
    may_lose: bool
    """Whether it is of a stream that loses packets on its way, or ends anywhere: what is damaged of it says nothing of the rest."""
    palettes: list[tuple[int, PacketSideData]]
    """Colours of paletted frames, from a time on: a demuxer hands them out once, with the packet that brings them."""

    def key_at(self, tick: int) -> int:
        """Return the time of the last key frame that is not after a time, or of the first frame."""
        return self.key_ticks[max(bisect_right(self.key_ticks, tick) - 1, 0)] if self.key_ticks else self.ticks[0]


def span_of(opened: OpenedVideo) -> tuple[float, float]:
    """Return when the first frame appears and when the last one ends, in seconds of the container's clock."""
    index, base = index_of(opened), opened.stream.time_base or Fraction(1, 1)
    return float(index.ticks[0] * base), float(index.end * base)


_last_index: tuple[tuple[object, ...], FrameIndex] | None = None
"""Of the file that was opened last: the scenes of a film are decoded one after the other."""


def index_of(opened: OpenedVideo) -> FrameIndex:
    """Return the index of a video; its file is read once. Raises MediaError for one without frames, or longer than `max_duration_s`."""
    global _last_index
    status = opened.path.stat()
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, opened.stream.index, opened.limits)
    if _last_index is None or _last_index[0] != key:
        _last_index = key, _read_index(opened)
    return _last_index[1]


def _read_index(opened: OpenedVideo) -> FrameIndex:
    path, container, stream, limits, _ = opened
    base = float(stream.time_base or 1)
    ticks: list[int] = []
    keys: dict[int, int] = {}
    ends: list[int] = []
    jumps: list[tuple[int, int]] = []
    palettes: list[tuple[int, PacketSideData]] = []
    is_timed, is_searched = container.format.name not in COUNTED, container.format.name in WITHOUT_INDEX
    position, due, shift = 0, None, 0
    for packet in container.demux(stream):
        require_time(path, opened.deadline, limits)
        if packet.size == 0 or packet.is_discard:
            continue
        require_clear(path, packet)
        position = packet.pos if packet.pos is not None else position
        clock = packet.dts if packet.dts is not None else packet.pts
        if is_searched and clock is not None:
            if due is not None and not -_MAX_STEP_BACK_S <= (clock + shift - due) * base <= _MAX_GAP_S:
                shift = due - clock
                jumps.append((position, shift))
            due = clock + shift + max(packet.duration or 0, 0)
        tick = packet.pts if is_timed and packet.pts is not None else packet.dts
        if tick is None:  # cut without encoding anew: what it shows came before the cut
            continue
        tick += shift
        if is_searched and packet.is_keyframe and not keys:
            ticks.clear()  # of a recording that begins between two key frames: they cannot be shown
        if packet.has_sidedata(_PALETTE):
            palettes.append((tick, packet.get_sidedata(_PALETTE)))
        ticks.append(tick)
        ends.append(tick + max(packet.duration or 0, 0))
        if packet.is_keyframe:
            keys[tick] = position
        if (ticks[-1] - ticks[0]) * base > limits.max_duration_s:
            raise MediaError(f"{str(path)!r}: is longer than max_duration_s={limits.max_duration_s:g}")
    ticks = sorted(set(ticks))
    if not ticks:
        raise MediaError(f"{str(path)!r}: the video has no frames, or none with a time")
    end = max(ends)
    if end <= ticks[-1]:
        end = round(end_of(ticks)) if len(ticks) > 1 else ticks[-1] + max(1, round(1 / base))
    # Where frames are only counted, a key frame says which one it is if none is shown out of order.
    can_jump = is_timed or (container.format.name == "avi" and not stream.codec_context.has_b_frames)
    key_ticks = sorted(keys) if can_jump else ticks[:1]
    return FrameIndex(
        ticks, key_ticks, end, is_timed, [keys[tick] for tick in key_ticks] if is_searched else [], jumps, is_searched, palettes
    )


def packets_from(opened: OpenedVideo, stream: Stream, start: int) -> Iterator[Packet]:
    """Yield the packets of a stream of a video, from its key frame at or before a time on, their times free of jumps.

    `start` counts in ticks of the stream.
    """
    index, base = index_of(opened), stream.time_base or Fraction(1, 1)
    key_base = opened.stream.time_base or Fraction(1, 1)
    position = 0
    if index.key_bytes:
        key = max(bisect_right(index.key_ticks, start * base / key_base) - 1, 0)
        position = index.key_bytes[key]
        opened.container.seek(position, stream=stream, unsupported_byte_offset=True)
    else:
        try:
            opened.container.seek(start, stream=stream)
        except av.error.PermissionError:  # FFmpeg's word for a container in which it cannot search: begin anew
            opened.container.seek(0, stream=stream, unsupported_byte_offset=True)
    for packet in opened.container.demux(stream):
        if index.jumps:
            position = packet.pos if packet.pos is not None else position
            number = bisect_right(index.jumps, position, key=lambda jump: jump[0]) - 1
            shift = math.floor(index.jumps[number][1] * key_base / base) if number >= 0 else 0
            if shift and packet.pts is not None:
                packet.pts += shift
            if shift and packet.dts is not None:
                packet.dts += shift
        yield _coloured(packet, index) if index.palettes and packet.size else packet


def _coloured(packet: Packet, index: FrameIndex) -> Packet:
    """Return a packet with the palette in force at its time, unless it brings one."""
    tick = packet.pts if index.is_timed and packet.pts is not None else packet.dts
    if tick is not None and not packet.has_sidedata(_PALETTE):
        number = bisect_right(index.palettes, tick, key=lambda entry: entry[0]) - 1
        packet.set_sidedata(index.palettes[max(number, 0)][1])
    return packet


def counter(index: FrameIndex, packet: Packet) -> Iterator[int]:
    """Return the times of the frames from a packet on, in the order in which they are shown."""
    return iter(index.ticks[bisect_left(index.ticks, packet.dts or index.ticks[0]) :])
