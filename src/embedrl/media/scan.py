"""Scan a video for changes of scene: a small signature of a frame four times a second."""

import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from embedrl.media.scenes import RATE
from embedrl.media.store import Limits
from embedrl.media.video import walk_frames

SIGNATURE_SIDE = 16
"""Side of a signature, a thumbnail of a frame, in pixels (RGB)."""
MAX_KEPT = 2400
_FINER = 4
"""A frame is first scaled to this multiple of the side: the scaler cannot make an image of 16 pixels."""


class Scan(NamedTuple):
    """What was seen of a video from some time on."""

    signatures: PIL.Image.Image
    """A row for each frame that was kept: its pixels, one behind the other."""
    times_s: list[float]
    """When each appears, from the first frame of the file on."""
    changes_s: list[float]
    """When, since the frame before it, the image changed most."""
    next_s: float | None
    """Where the next scan has to begin; None at the end of the file."""
    duration_s: float


def scan_video(path: Path, start_s: float, shortest_s: float, limits: Limits) -> Scan:
    """Decode every frame from `start_s` on, for some time; none of a file that is shorter than `shortest_s`. Raises MediaError."""
    rows: list[np.ndarray] = []
    times: list[float] = []
    changes: list[float] = []
    before, most, change_s, next_s, end_s = None, -1.0, start_s, None, 0.0
    until = time.monotonic() + limits.part_s
    for time_s, pixels, end_s in walk_frames(path, start_s, SIGNATURE_SIDE * _FINER, limits):
        if end_s < shortest_s:
            break
        if pixels is None:
            continue
        row = pixels.reshape(SIGNATURE_SIDE, _FINER, SIGNATURE_SIDE, _FINER, 3).mean(axis=(1, 3)).astype(np.int16)
        if before is not None and (change := float(np.abs(row - before).mean())) > most:
            most, change_s = change, time_s
        before = row
        if times and math.floor(time_s * RATE) == math.floor(times[-1] * RATE):
            continue
        if times and (len(times) >= MAX_KEPT or time.monotonic() > until):
            next_s = time_s
            break
        rows.append(row)
        times.append(round(time_s, 6))
        changes.append(round(change_s if most >= 0 else time_s, 6))
        most = -1.0
    signatures = np.stack(rows).astype(np.uint8) if rows else np.zeros((1, SIGNATURE_SIDE, SIGNATURE_SIDE, 3), np.uint8)
    return Scan(PIL.Image.fromarray(signatures.reshape(len(signatures), -1, 3)), times, changes, next_s, end_s)
