"""Truncation check of video files: sizes declared by the container against the size of the file.

Decoders make the best of a file that was cut short, and say nothing. An embedding of the first third of a film is not an
embedding of the film, so we look ourselves. Only element headers are read.
"""

import os
from typing import BinaryIO

_EBML_HEADER_BYTES = 64
ASF_HEADER_BYTES = 64 * 1024
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MAX_BOXES = 100_000
_NEEDED_BOXES = (b"moov", b"mdat", b"moof")


def missing_bytes(file: BinaryIO, container: str) -> int:
    """Return the number of bytes that a file declares beyond its end; 0 if complete or unknown: many containers declare no size."""
    size = os.fstat(file.fileno()).st_size
    end = {"mov": _mov_end, "matroska": _matroska_end, "avi": _avi_end, "asf": _asf_end}.get(container)
    return max(0, end(file, size) - size) if end else 0


def _mov_end(file: BinaryIO, size: int) -> int:
    """Step from box to box (ISO 14496-12, 4.2): 32-bit size and type; size 1 means a 64-bit size follows, 0 means to the end.

    Cameras and programs put other things behind the boxes (ID3 tags, Insta360's trailer, …). So it is only the boxes with the frames
    and their index that tell where the file has to end.
    """
    position = 0
    for _ in range(_MAX_BOXES):
        if position >= size:
            break
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0 or len(header) < 8:
            break
        if position + length > size and header[4:8] not in _NEEDED_BOXES:
            break
        position += max(length, 8)
    return position


def _matroska_end(file: BinaryIO, size: int) -> int:
    """Read the EBML header and the size of the one segment (RFC 8794); a live recording leaves that size unknown."""
    file.seek(0)
    head = file.read(_EBML_HEADER_BYTES)
    length, position = _vint(head, 4)
    position += length or 0
    if head[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start = _vint(head, position + 4)
    return 0 if length is None else start + length


def _vint(data: bytes, position: int) -> tuple[int | None, int]:
    """Return an EBML variable-length size (None: unknown) and where the data behind it starts."""
    if position >= len(data) or not data[position]:
        return None, position
    width = 9 - data[position].bit_length()
    bits = int.from_bytes(data[position : position + width], "big") & ((1 << 7 * width) - 1)
    return (None if bits == (1 << 7 * width) - 1 else bits), position + width


def _avi_end(file: BinaryIO, size: int) -> int:
    """Step from part to part: a file of more than 1 GiB has several (OpenDML)."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            break
        length = int.from_bytes(header[4:], "little")
        position += 8 + length + (length % 2 if position + 8 + length < size else 0)
    return position


def _asf_end(file: BinaryIO, size: int) -> int:
    """Read the file properties of the header (ASF specification, 3.2); what was broadcast has no size."""
    file.seek(0)
    head = file.read(ASF_HEADER_BYTES)
    at = head.find(_ASF_FILE_PROPERTIES)
    properties = head[at : at + 92]
    if at < 0 or len(properties) < 92 or properties[88] & 1:
        return 0
    return int.from_bytes(properties[40:48], "little")
