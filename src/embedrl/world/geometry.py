"""Geometric augmentation of media and their boxes: rotation, shift and border."""

import math
import random
from dataclasses import dataclass

import PIL.Image

from embedrl.data.tcot import Box

AUGMENTED = 0.5
"""Share of training media that are moved at all."""
MAX_ANGLE, MAX_SHIFT, MAX_BORDER = 4.0, 0.03, 0.12
"""Degrees; shares of the side."""


@dataclass(frozen=True)
class Geometry:
    """A rotation about the centre, an inner border, and a shift; uncovered pixels get the fill colour."""

    angle: float = 0.0
    """Degrees, counter-clockwise."""
    border: float = 0.0
    """Share of the side on each side."""
    dx: float = 0.0
    dy: float = 0.0
    """Shares of the width and the height, to the right and down."""
    fill: tuple[int, int, int] = (255, 255, 255)

    def image(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Apply to an image; the size stays."""
        width, height = image.size
        scale, (cos, sin) = 1 - 2 * self.border, self._turn()
        x, y = (0.5 + self.dx) * width, (0.5 + self.dy) * height  # where the centre comes to lie
        a, b, d, e = cos / scale, -sin / scale, sin / scale, cos / scale  # from output pixels back to input pixels
        matrix = (a, b, width / 2 - a * x - b * y, d, e, height / 2 - d * x - e * y)
        return image.transform(image.size, PIL.Image.Transform.AFFINE, matrix, PIL.Image.Resampling.BILINEAR, fillcolor=self.fill)

    def box(self, box: Box, aspect: float = 1.0) -> Box:
        """Apply to a box (0..1000), which keeps its size. `aspect` is height / width of the medium."""
        scale, (cos, sin) = 1 - 2 * self.border, self._turn()
        x, y = (box[0] + box[2]) / 2000 - 0.5, ((box[1] + box[3]) / 2000 - 0.5) * aspect
        x, y = 0.5 + self.dx + scale * (cos * x + sin * y), 0.5 + self.dy + scale * (cos * y - sin * x) / aspect
        half = scale * (box[2] - box[0]) / 2000, scale * (box[3] - box[1]) / 2000
        corners = (x - half[0], y - half[1], x + half[0], y + half[1])
        x1, y1, x2, y2 = (round(1000 * min(max(value, 0.0), 1.0)) for value in corners)
        return x1, y1, x2, y2

    def _turn(self) -> tuple[float, float]:
        return math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))


def sample_geometry(rng: random.Random, split: str) -> Geometry | None:
    """Sample the augmentation of a training medium; None for the identity, which the test split always has."""
    if split == "test" or rng.random() >= AUGMENTED:
        return None
    grey = rng.choice((0, 60, 128, 200, 255))
    return Geometry(
        rng.uniform(-MAX_ANGLE, MAX_ANGLE),
        max(0.0, rng.uniform(-MAX_BORDER / 2, MAX_BORDER)),
        rng.uniform(-MAX_SHIFT, MAX_SHIFT),
        rng.uniform(-MAX_SHIFT, MAX_SHIFT),
        (grey, grey, grey),
    )
