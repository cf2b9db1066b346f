"""How many pixels a model gets to see: every picture is scaled once, here, to whole visual tokens within a budget."""

import hashlib
import math

import PIL.Image
from pydantic import BaseModel, ConfigDict, model_validator

from embedrl.errors import ConfigError


class PixelRange(BaseModel):
    """Smallest and largest number of pixels of a picture as a model sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_pixels: int
    max_pixels: int

    @model_validator(mode="after")
    def _ordered(self) -> "PixelRange":
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ConfigError(f"min_pixels={self.min_pixels}, max_pixels={self.max_pixels}: need 0 < min_pixels <= max_pixels")
        return self


class VisualBudget(BaseModel):
    """What a model gets to see: of stills (and pages), of the frames of a video, of evidence, and of text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    image: PixelRange
    frame: PixelRange
    crop: PixelRange
    num_frames: int = 8
    """How many frames of a video are sampled."""
    max_text_chars: int = 2000
    """Longer text of an item is cut here."""

    @property
    def fingerprint(self) -> str:
        """8 hex digits that change whenever the budget does: part of a model's name."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]


PAPER_BUDGET = VisualBudget(
    image=PixelRange(min_pixels=131_072, max_pixels=786_432),
    frame=PixelRange(min_pixels=131_072, max_pixels=307_200),
    crop=PixelRange(min_pixels=131_072, max_pixels=786_432),
)
"""Embed-RL, appendix B.3, for visual tokens of 32 x 32 pixels."""


def fit(image: PIL.Image.Image, pixels: PixelRange, factor: int) -> PIL.Image.Image:
    """Scale a picture so that both sides are multiples of `factor` (pixels a side of one visual token) and its area is in range.

    The aspect ratio is kept as well as the grid allows; very long pictures (over 40:1) are squeezed to 40:1.
    """
    width, height = image.size
    aspect = min(max(width / height, 1 / 40), 40.0)
    area = min(max(width * height, pixels.min_pixels), pixels.max_pixels)
    columns = max(1, round(math.sqrt(area * aspect) / factor))
    rows = max(1, round(math.sqrt(area / aspect) / factor))
    while rows * columns * factor * factor > pixels.max_pixels and max(rows, columns) > 1:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    size = (columns * factor, rows * factor)
    return image if image.size == size else image.resize(size, PIL.Image.Resampling.BICUBIC)
