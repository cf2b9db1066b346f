"""Allow-list of video containers (demuxers) and codecs (decoders), and container detection by the first bytes.

Why these, and which stay out: docs/decisions.md 44. FFmpeg has 350 demuxers and 280 video decoders; here are those whose files
cameras, phones, discs, broadcasters, editors and players of people wrote. None of these demuxers opens another file or an address.
"""

from typing import Literal, NamedTuple

VideoFormat = Literal["mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "asf", "flv", "ogg", "dv", "mxf", "rm"]


class Container(NamedTuple):
    """How files of a container are named and served."""

    suffix: str
    """Suffix of files that come without one."""
    content_type: str


CONTAINERS: dict[VideoFormat, Container] = {
    "mov": Container(".mp4", "video/mp4"),
    "matroska": Container(".mkv", "video/webm"),
    "avi": Container(".avi", "video/x-msvideo"),
    "mpegts": Container(".m2ts", "video/mp2t"),
    "mpeg": Container(".mpg", "video/mpeg"),
    "mpegvideo": Container(".m2v", "video/mpeg"),
    "asf": Container(".wmv", "video/x-ms-wmv"),
    "flv": Container(".flv", "video/x-flv"),
    "ogg": Container(".ogv", "video/ogg"),
    "dv": Container(".dv", "video/x-dv"),
    "mxf": Container(".mxf", "application/mxf"),
    "rm": Container(".rm", "application/vnd.rn-realmedia"),
}
"""By demuxer of FFmpeg."""
WITHOUT_INDEX: tuple[VideoFormat, ...] = ("mpegts", "mpeg")
"""Containers that are searched by byte position: they have no index, and their clock may jump (ISO 13818-1, 2.4.3.5: discontinuities)."""
COUNTED: tuple[VideoFormat, ...] = ("avi", "mpegvideo")
"""Containers that store no presentation times: their frames are counted."""

CODECS = (
    *("h264", "hevc", "vp8", "vp9", "av1", "theora", "mpeg4", "mpeg1video", "mpeg2video", "h261", "h263", "h263p", "vc1"),
    *("msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "flv", "vp6", "vp6f", "vp6a", "flashsv", "flashsv2"),
    *("mjpeg", "mjpegb", "jpeg2000", "dvvideo", "dnxhd", "prores", "cfhd", "qtrle", "png", "rawvideo", "v210", "r210", "8bps"),
    *("ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "lagarith", "fraps", "camtasia", "zmbv"),
    *("cinepak", "indeo2", "indeo3", "indeo4", "indeo5", "msvideo1", "msrle", "rpza", "smc", "svq1", "svq3", "vp3"),
    *("rv10", "rv20", "rv30", "rv40"),
)
"""FFmpeg's names: standards; Windows Media and Flash; cameras and editors; lossless; the first ones of AVI and QuickTime; Real."""

_MAGIC: tuple[tuple[bytes, VideoFormat], ...] = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"\0\0\1\xba", "mpeg"),
    (b"\0\0\1\xb3", "mpegvideo"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", "asf"),
    (b"FLV\1", "flv"),
    (b"\x1f\x07\0\x3f", "dv"),
    (b"\x1f\x07\0\xbf", "dv"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01", "mxf"),
    (b".RMF\0\0\0", "rm"),
)
_PACKET_BYTES = (188, 192, 204)
"""Of a transport stream: as broadcast; with a time before each packet (AVCHD, Blu-ray); with error correction behind it."""
_MIN_PACKETS = 5
_SYNC = 0x47
_OGG_VIDEO = (b"\x80theora", b"\1video\0\0\0")
"""How the first packets of Theora, and of Ogg with a codec of AVI (OGM), begin."""


def format_by_magic(head: bytes) -> VideoFormat | None:
    """Return the demuxer of a container, other than MP4 and its relatives, by a file's first 4 KiB; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"OggS"):
        return "ogg" if has_ogg_video(head) else None
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "mpegts" if is_transport_stream(head) else None)


def has_ogg_video(head: bytes) -> bool:
    """Return whether an Ogg file has a video stream: the first pages are those of its streams' headers (RFC 3533, 4)."""
    return any(start in head for start in _OGG_VIDEO)


def is_transport_stream(head: bytes) -> bool:
    """Return whether bytes are packets of an MPEG transport stream (ISO 13818-1, 2.4.3.2), whole or from the midst of a packet on."""
    for length in _PACKET_BYTES:
        for start in range(min(length, max(0, len(head) - (_MIN_PACKETS - 1) * length - 3))):
            if head[start] == _SYNC and all(_is_header(head, at) for at in range(start, len(head) - 3, length)):
                return True
    return False


def _is_header(head: bytes, at: int) -> bool:
    """Say whether a packet's header may be here: sync byte, no error, and a payload or an adaptation field."""
    return head[at] == _SYNC and not head[at + 1] & 0x80 and head[at + 3] & 0x30 != 0
