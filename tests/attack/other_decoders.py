"""Pixels of stills, first frames and first pages beside those of other programs, ffmpeg and pdftoppm, where they are installed."""

import io
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

from embedrl.errors import MediaError
from embedrl.index.row import Place
from embedrl.media.content import Frames, Image, Page, Video
from embedrl.media.decode import load_visual
from embedrl.media.kinds import MEDIA

PROGRAMS = {"image": "ffmpeg", "video": "ffmpeg", "page": "pdftoppm"}
TIMEOUT_S = 20
SIDE = 48
_FIRST_FRAME_S = 0.001
MAX_DIFFERENCE = 8.0
"""Mean difference, of 255, of two decodings that are scaled to `SIDE` pixels a side: rounding and the filters of colour stay below."""


@dataclass
class Comparison:
    """Counts of compared files."""

    counts: Counter[str] = field(default_factory=Counter)
    different: list[tuple[str, str]] = field(default_factory=list)
    """Names of files, and how they differ."""


def other_decoding(path: Path, kind: str) -> PIL.Image.Image | None:
    """Return the first image of a file as another program decodes it, on white; None if it does not, or if all is of one colour."""
    if kind == "video":
        square = "scale='max(1,round(iw*sar))':ih,setsar=1"
        command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-map", "0:V:0", "-frames:v", "1", "-vf", square, "-f", "apng", "-"]
    elif kind == "image":
        command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-frames:v", "1", "-pix_fmt", "rgba", "-f", "apng", "-"]
    else:
        command = ["pdftoppm", "-q", "-scale-to", "1000", "-f", "1", "-l", "1", "-singlefile", "-png", str(path)]
    try:
        data = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL).stdout
        with PIL.Image.open(io.BytesIO(data)) as image:
            rgba = image.convert("RGBA")
    except (OSError, subprocess.TimeoutExpired):
        return None
    white = PIL.Image.new("RGBA", rgba.size, "white")
    image = PIL.Image.alpha_composite(white, rgba).convert("RGB")
    return None if kind == "image" and all(low == high for low, high in image.getextrema()) else image


def difference(ours: PIL.Image.Image, other: PIL.Image.Image) -> tuple[float, bool]:
    """Return the least mean difference of two images, 0..255, turned in any way, and whether it is that of images turned differently.

    Other programs leave EXIF orientation, or that of AVIF and TIFF, to who shows an image.
    """
    mine, theirs = (np.asarray(image.resize((SIDE, SIDE), PIL.Image.Resampling.BOX), dtype=float) for image in (ours, other))
    turned = [np.rot90(side, count) for side in (theirs, theirs[::-1]) for count in range(4)]
    values = [float(np.abs(mine - way).mean()) for way in turned]
    return min(values), values[0] > MAX_DIFFERENCE >= min(values)


def _first(path: Path, kind: str) -> PIL.Image.Image:
    """Return the image, the first frame or the first page of a file. Raises MediaError."""
    parts = {"image": Image(path=path), "video": Video(path=path, end_s=_FIRST_FRAME_S), "page": Page(path=path, number=1)}
    visual = load_visual(parts[kind], num_frames=1)
    return visual.images[0] if isinstance(visual, Frames) else visual


def compare(folder: Path, places: Iterable[Place]) -> Comparison:
    """Compare each still, the first frame of each video and the first page of each document that are indexed."""
    comparison = Comparison()
    for path in sorted({place.path for place in places if place.page in (None, 1) and place.unit in (None, 0, 1)}):
        kind = next((kind for kind in PROGRAMS if path.suffix.lower() in MEDIA[kind].suffixes), None)
        if kind is None:
            continue
        if shutil.which(PROGRAMS[kind]) is None:
            comparison.counts[f"{kind}: {PROGRAMS[kind]} is not installed"] += 1
            continue
        other = other_decoding(folder / path, kind)
        if other is None:
            comparison.counts[f"{kind}: {PROGRAMS[kind]} gives no image, or one of one colour"] += 1
            continue
        try:
            ours = _first(folder / path, kind)
        except MediaError as error:
            comparison.different.append((str(path), str(error).removeprefix(f"{str(folder / path)!r}: ")[:100]))
            continue
        value, is_turned = difference(ours, other)
        outcome = "other pixels than" if value > MAX_DIFFERENCE else "as, but turned," if is_turned else "the same pixels as"
        comparison.counts[f"{kind}: {outcome} {PROGRAMS[kind]}"] += 1
        if value > MAX_DIFFERENCE:
            comparison.different.append((str(path), f"{value:.0f} of 255; {ours.size} beside {other.size}"))
    return comparison
