"""Odd and broken media files, made afresh: what a person's folder holds sooner or later.

`good_files` must all decode; `bad_files` must each be refused for a reason that contains the given words;
`special_files` are no files at all (pipes, devices, links) and must never be opened.
"""

import io
import os
import socket
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image

from embedrl.media.document import save_pdf
from embedrl.media.video import save_video

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)
EXIF_ORIENTATION = 0x0112
VFR_TICKS = (0, 1, 2, 3, 20, 30, 31, 50)


def corner_image(width: int = 64, height: int = 48) -> PIL.Image.Image:
    """Blue, with a red top left quarter: its orientation shows."""
    image = PIL.Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    return image


def numbered_frames(count: int, size: tuple[int, int] = (64, 48)) -> list[PIL.Image.Image]:
    """Grey frames whose level tells their number: frame i has level 10 + 10 i."""
    return [PIL.Image.new("RGB", size, (10 + 10 * index,) * 3) for index in range(count)]


def moving_frames(count: int) -> list[PIL.Image.Image]:
    """Like `numbered_frames`, before a texture that moves: encoders then use all they have (B-frames, hidden frames)."""
    texture = np.random.default_rng(0).integers(0, 256, (12, 40), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = []
    for index, number in enumerate(numbered_frames(count, (48, 48))):
        frames.append(PIL.Image.fromarray(np.roll(texture, 3 * index, axis=1)[:, :128]).convert("RGB"))
        frames[-1].paste(number, (40, 24))
    return frames


def frame_number(image: PIL.Image.Image) -> int:
    level = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(level, tuple)
    return round((level[0] - 10) / 10)


def good_files(folder: Path) -> dict[str, Path]:
    """Write unusual files that must decode; name -> path."""
    folder.mkdir(parents=True, exist_ok=True)
    return {**_images(folder), **_videos(folder), **_documents(folder), **_texts(folder)}


def _images(folder: Path) -> dict[str, Path]:
    image, files = corner_image(), {}

    def add(name: str, picture: PIL.Image.Image, **options: Any) -> None:
        files[name] = folder / name
        picture.save(files[name], **options)

    exif = PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # the camera was held on its side: turn clockwise to view
    add("rotated.jpg", image.transpose(PIL.Image.Transpose.ROTATE_90), exif=exif, quality=95)
    add("cmyk.jpg", image.convert("CMYK"), quality=95)
    add("grey.jpg", image.convert("L"))
    ramp = np.linspace(0, 65_535, 64 * 48).astype(np.uint16).reshape(48, 64)
    add("sixteen.png", PIL.Image.fromarray(ramp))
    palette = PIL.Image.new("P", (64, 48), 1)
    palette.putpalette([*RED, *GREEN])
    palette.paste(0, (0, 0, 32, 24))
    add("palette_alpha.png", palette, transparency=1)
    add("alpha.webp", PIL.Image.new("RGBA", (64, 48), (*RED, 0)), lossless=True)
    others = [PIL.Image.new("RGB", (64, 48), GREEN), PIL.Image.new("RGB", (64, 48), BLUE)]
    add("animated.gif", image, save_all=True, append_images=others, duration=100)
    add("animated.webp", image, save_all=True, append_images=others, duration=100, lossless=True)
    add("bitmap.bmp", image)
    add("one_pixel.png", PIL.Image.new("RGB", (1, 1), RED))
    add("very_long.png", PIL.Image.new("RGB", (3000, 1), RED))
    files["jpeg_named.png"] = folder / "jpeg_named.png"
    image.save(files["jpeg_named.png"], "JPEG")
    files["new\nline é.png"] = folder / "new\nline é.png"
    image.save(files["new\nline é.png"], "PNG")
    return files


def _videos(folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("clip.mp4", "vfr.mp4", "odd_size.mp4", "turned.mp4", "clip.mkv", "clip.avi", "clip.webm")}
    frames = numbered_frames(8)
    save_video(frames, files["clip.mp4"], fps=2)
    encode(files["vfr.mp4"], frames, "libx264", fps=10, ticks=VFR_TICKS)
    save_video(numbered_frames(3, (63, 47)), files["odd_size.mp4"], fps=1)
    encode(files["turned.mp4"], [corner_image()] * 2, "libx264", rotation=90)
    encode(files["clip.mkv"], frames, "libx264")
    encode(files["clip.avi"], frames, "mpeg4")
    encode(files["clip.webm"], frames, "libvpx-vp9")
    return files


X265 = "log-level=none:pools=none:frame-threads=1"
"""Settings of x265 by which it writes the same on any number of cores; others follow after a colon."""


def encode(
    path: Path,
    frames: Sequence[PIL.Image.Image],
    codec: str,
    *,
    fps: int = 2,
    rotation: int = 0,
    ticks: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    pixel_shape: Fraction | None = None,
    pixel_format: str = "yuv420p",
) -> None:
    """Write a video in the container that the suffix names; `ticks` are the times of the frames, in 1/fps of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, fps)
        if pixel_shape:
            stream.sample_aspect_ratio = pixel_shape
        if rotation:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = (ticks[index] if ticks else index), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _documents(folder: Path) -> dict[str, Path]:
    files = {"scan.pdf": folder / "scan.pdf", "text.pdf": folder / "text.pdf"}
    save_pdf([corner_image(), PIL.Image.new("RGB", (48, 64), GREEN)], files["scan.pdf"])
    files["text.pdf"].write_bytes(text_pdf("Revenue grew by 12 percent"))
    return files


def text_pdf(line: str, trailer: str = "") -> bytes:
    """Make a one-page PDF with one line of text; `trailer` is added to its trailer dictionary."""
    drawing = f"BT /F1 18 Tf 40 100 Td ({line}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(drawing), drawing),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = f"trailer<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{len(body)}\n%%EOF\n".encode()
    return body + head + table + tail


def _texts(folder: Path) -> dict[str, Path]:
    contents = {
        "plain.txt": "grün\n".encode(),
        "bom.txt": "grün\n".encode("utf-8-sig"),
        "wide.txt": "grün\n".encode("utf-16"),
        "latin.txt": "grün und nicht blau\n".encode("latin-1"),
        "windows.txt": "grün\r\n".encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write files that must be refused; name -> (path, words that the reason contains)."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)
    photo, clip = io.BytesIO(), folder / "whole.mp4"
    PIL.Image.fromarray(noise.reshape(32, 128)).save(photo, "JPEG")
    save_video([PIL.Image.fromarray(np.roll(noise, 9 * index).reshape(32, 128)) for index in range(8)], clip, fps=2)
    encrypted = "/Encrypt<</Filter/Standard/V 2/R 3/Length 128/P -44/O<" + "5a" * 32 + ">/U<" + "a5" * 32 + ">>>/ID[<00><00>]"
    contents: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "empty"),
        "empty.mp4": (b"", "empty"),
        "empty.pdf": (b"", "empty"),
        "empty.txt": (b"", "empty"),
        "text_named.jpg": (b"this is no picture\n", "holds plain text"),
        "text_named.mp4": (b"<html>not found</html>\n", "holds plain text"),
        "noise.png": (noise.tobytes(), "no format we read"),
        "truncated.jpg": (photo.getvalue()[: len(photo.getvalue()) // 2], "cut short"),
        "header_only.png": (b"\x89PNG\r\n\x1a\n", "not an image"),
        "gigapixel.png": (png_header(60_000, 60_000), "max_pixels"),
        "truncated.mp4": (clip.read_bytes()[: clip.stat().st_size // 2], "cut short"),
        "header_only.mp4": (clip.read_bytes()[:40], "cut short"),
        "damaged.pdf": (b"%PDF-1.7\n" + noise.tobytes(), "is not a PDF"),
        "encrypted.pdf": (text_pdf("secret", encrypted), "is encrypted"),
    }
    clip.unlink()
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    files = {name: (folder / name, words) for name, (_, words) in contents.items()}
    files["audio_only.mp4"] = (folder / "audio_only.mp4", "no video")
    _write_audio(files["audio_only.mp4"][0])
    return files


def png_header(width: int, height: int) -> bytes:
    """Make a PNG that promises a size and holds almost nothing: a decompression bomb."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def _write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def special_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Make things that are no regular files; name -> (path, words that the reason contains)."""
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "broken.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    here = os.getcwd()
    os.chdir(folder)  # a socket's name has room for about a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.mp4")
    finally:
        os.chdir(here)
    words = {
        "pipe.jpg": "not a regular file",
        "endless.png": "not a regular file",
        "broken.jpg": "link to nothing",
        "itself.jpg": "cannot be read",
        "socket.mp4": "not a regular file",
    }
    return {name: (folder / name, reason) for name, reason in words.items()}
