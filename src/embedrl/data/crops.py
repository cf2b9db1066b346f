"""Bounding boxes in 1/1000 of an image: validity, IoU, pixel coordinates and crops."""

import PIL.Image

Box = tuple[int, int, int, int]
"""x1 y1 x2 y2."""
MIN_SIDE = 10
"""Shortest side of a box that is cropped, in 1/1000 of the image."""
MAX_ASPECT = 50
"""Largest aspect ratio of a box that is cropped."""


def box_holds(box: Box) -> bool:
    """Return whether a box lies inside 0..1000 and is not empty."""
    x1, y1, x2, y2 = box
    return 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000


def iou(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0


def crop(image: PIL.Image.Image, box: Box) -> PIL.Image.Image | None:
    """Crop a box; None if it is invalid, too small or too elongated."""
    if not box_holds(box) or min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE:
        return None
    left, top, right, bottom = corners = pixels(box, image.size)
    width, height = right - left, bottom - top
    return image.crop(corners) if max(width, height) <= MAX_ASPECT * min(width, height) else None


def clamped(box: Box) -> Box:
    """Clip a box to 0..1000."""
    x1, y1, x2, y2 = (min(max(value, 0), 1000) for value in box)
    return x1, y1, x2, y2


def pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Convert a box to pixel coordinates; never empty."""
    width, height = size
    x1, x2 = (round(value * width / 1000) for value in box[0::2])
    y1, y2 = (round(value * height / 1000) for value in box[1::2])
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)
