"""Rulings of tables and forms: long, thin, straight lines, which make recognisers take what they frame for an image."""

from collections.abc import Iterator

import numpy as np
import PIL.Image

_THICKNESS, _LENGTH = 0.012, 0.15
"""A ruling is at most so thick and at least so long, as shares of the longer side: no stroke of a letter is both."""
_MIN_THICKNESS, _MIN_LENGTH = 3, 20
_CONTRAST = 40
"""Minimum contrast of a ruling to both of its sides, of 255."""
_COVERED = 0.95
"""Share of a ruling that has to show this: letters touch it here and there."""
_MARGIN = 2
"""Pixels beside a ruling that are painted over with it: its edge is soft."""
_BAND = 256
"""Rows that are looked at together, for the sake of memory."""


def without_rulings(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an RGB image in which horizontal and vertical rulings are painted over; the same one if it has none."""
    grey = np.asarray(image.convert("L")).astype(np.int16)
    side = max(image.size)
    thickness, length = max(_MIN_THICKNESS, round(_THICKNESS * side)), max(_MIN_LENGTH, round(_LENGTH * side))
    pixels = None
    for axis in (0, 1):
        for sign in (1, -1):  # darker than what is beside it, or brighter
            mask = _rulings(sign * (grey if axis == 0 else grey.T), thickness, length)
            rows, columns = np.nonzero(mask)
            if not len(rows):
                continue
            pixels = np.asarray(image).copy() if pixels is None else pixels
            turned = pixels if axis == 0 else pixels.transpose(1, 0, 2)
            above, below = np.maximum(rows - thickness - 2, 0), np.minimum(rows + thickness + 2, len(mask) - 1)
            brighter = np.maximum if sign > 0 else np.minimum
            turned[rows, columns] = brighter(turned[above, columns], turned[below, columns])
    return image if pixels is None else PIL.Image.fromarray(pixels)


def _rulings(grey: np.ndarray, thickness: int, length: int) -> np.ndarray:
    """Return which pixels of an image (H, W) lie in horizontal lines darker than their surroundings, a margin included: bool (H, W)."""
    mask = np.zeros(grey.shape, bool)
    if grey.shape[1] < length:
        return mask
    padded = np.pad(grey, ((thickness, thickness), (0, 0)), mode="edge")
    for top in range(0, len(grey), _BAND):
        band = padded[top : top + _BAND + 2 * thickness]
        is_line = np.minimum(band[: -2 * thickness], band[2 * thickness :]) - band[thickness:-thickness] > _CONTRAST
        mask[top : top + _BAND] = _runs(is_line, length, thickness)
    return np.logical_or.reduce([mask, *_shifted(mask, (-_MARGIN, -1, 1, _MARGIN))])


def _runs(is_line: np.ndarray, length: int, reach: int) -> np.ndarray:
    """Return which pixels lie in runs along the last axis, or so near their ends: they reach into corners, where two rulings cross."""
    counts = np.pad(is_line, ((0, 0), (1, 0))).cumsum(axis=1, dtype=np.int32)
    starts = counts[:, length:] - counts[:, :-length] >= _COVERED * length
    window = length + 2 * reach
    covered = np.pad(starts, ((0, 0), (window - reach, window))).cumsum(axis=1, dtype=np.int32)
    return (covered[:, window:] - covered[:, :-window])[:, : is_line.shape[1]] > 0


def _shifted(mask: np.ndarray, steps: tuple[int, ...]) -> Iterator[np.ndarray]:
    for step in steps:
        moved = np.zeros_like(mask)
        moved[max(step, 0) : len(mask) + min(step, 0)] = mask[max(-step, 0) : len(mask) + min(-step, 0)]
        yield moved
