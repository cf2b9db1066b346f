"""Track types of MP4, Matroska, ASF and FLV files, by their headers and without a demuxer: a container of videos may hold sound alone.

Layouts: ISO/IEC 14496-12 (boxes `moov`, `trak`, `mdia`, `hdlr`), RFC 9559 (elements `Segment`, `Tracks`, `TrackEntry`, `TrackType`), ASF
specification 3.3 (stream properties object), FLV specification E.2 (header).
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from embedrl.media.container import ASF_HEADER_BYTES

_MAX_BOXES = 10_000
"""Boxes or elements of a file that are looked at; one with more counts as a video."""
_SEGMENT, _TRACKS, _ENTRY, _TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
_PICTURE, _SOUND = "picture", "sound"
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_TYPES = {bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b"): _PICTURE, bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b"): _SOUND}


def has_only_sound(file: BinaryIO, container: str) -> bool:
    """Return whether a file has sound tracks and no video track; False where its header does not say. Moves the file's position."""
    kinds = {"mov": _boxed_tracks, "matroska": _element_tracks, "asf": _asf_tracks, "flv": _flv_tracks}
    if container not in kinds:
        return False
    size = file.seek(0, os.SEEK_END)
    try:
        tracks = set(kinds[container](file, size))
    except (ValueError, IndexError, OverflowError, OSError):
        return False
    return tracks == {_SOUND}


def _boxes(file: BinaryIO, start: int, end: int, budget: Iterator[int]) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the contents of each box. Raises ValueError once the file's budget is spent."""
    for _ in budget:
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        size, kind, begin = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), start + 16
        stop = end if size == 0 else start + size
        if not begin <= stop <= end:
            raise ValueError("a box reaches beyond its parent")
        yield kind, begin, stop
        start = stop
    raise ValueError("too many boxes")


def _boxed_tracks(file: BinaryIO, size: int) -> Iterator[str]:
    budget = iter(range(_MAX_BOXES))
    moov = next(((start, end) for kind, start, end in _boxes(file, 0, size, budget) if kind == b"moov"), (0, 0))
    for trak in [(start, end) for kind, start, end in _boxes(file, *moov, budget) if kind == b"trak"]:
        for mdia in [(start, end) for kind, start, end in _boxes(file, *trak, budget) if kind == b"mdia"]:
            for start in [start for kind, start, _ in _boxes(file, *mdia, budget) if kind == b"hdlr"]:
                file.seek(start + 8)
                if (handler := file.read(4)) in (b"vide", b"soun"):
                    yield _PICTURE if handler == b"vide" else _SOUND


def _elements(file: BinaryIO, start: int, end: int, budget: Iterator[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (id, start, end) of the contents of each EBML element; one of unknown size reaches to the end. Raises ValueError."""
    for _ in budget:
        if start >= end:
            return
        file.seek(start)
        head = file.read(12)
        id_length = _length(head[0])
        size_length = _length(head[id_length])
        begin = start + id_length + size_length
        size = int.from_bytes(head[id_length : id_length + size_length], "big") & ((1 << 7 * size_length) - 1)
        stop = end if size == (1 << 7 * size_length) - 1 else begin + size
        yield int.from_bytes(head[:id_length], "big"), begin, min(stop, end)
        start = stop
    raise ValueError("too many elements")


def _length(first: int) -> int:
    if first == 0:
        raise ValueError("no EBML number begins with a zero byte")
    return 9 - first.bit_length()


def _element_tracks(file: BinaryIO, size: int) -> Iterator[str]:
    budget = iter(range(_MAX_BOXES))
    segment = next(((start, end) for number, start, end in _elements(file, 0, size, budget) if number == _SEGMENT), (0, 0))
    tracks = next(((start, end) for number, start, end in _elements(file, *segment, budget) if number == _TRACKS), (0, 0))
    for entry in [(start, end) for number, start, end in _elements(file, *tracks, budget) if number == _ENTRY]:
        for start, end in [(start, end) for number, start, end in _elements(file, *entry, budget) if number == _TYPE]:
            file.seek(start)
            if (kind := int.from_bytes(file.read(min(end - start, 8)), "big")) in (1, 2):
                yield _PICTURE if kind == 1 else _SOUND


def _asf_tracks(file: BinaryIO, size: int) -> Iterator[str]:
    file.seek(0)
    head = file.read(min(size, ASF_HEADER_BYTES))
    for part in head.split(_ASF_STREAM)[1:]:
        if (kind := _ASF_TYPES.get(part[8:24])) is not None:
            yield kind


def _flv_tracks(file: BinaryIO, size: int) -> Iterator[str]:
    file.seek(min(4, size))
    flags = file.read(1)[0]
    yield from [_SOUND] * bool(flags & 4) + [_PICTURE] * bool(flags & 1)
