"""How many pixels a model gets to see: every picture is scaled once, here, to whole visual tokens within a budget."""

import hashlib
import math
from typing import Any, Literal

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

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


Grid = Literal["processor", "area"]
"""How many visual tokens an image gets: as the processors of the Qwen-VL family count them, or as nearest to its area."""


class VisualBudget(BaseModel):
    """What a model gets to see: of stills (and pages), of the frames of a video, of evidence, and of text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    image: PixelRange
    frame: PixelRange
    crop: PixelRange
    num_frames: int = 8
    """How many frames of a video are sampled; with `fps`, at most."""
    fps: float | None = Field(default=None, gt=0)
    """Frames a second of a video file; None: `num_frames`, however long it is."""
    min_frames: int = Field(default=1, ge=1)
    """With `fps`, at least so many frames, as far as the video has them."""
    clip_pixels: int | None = Field(default=None, ge=1)
    """With it, all frames of a video share so many pixels, two frames counting as one: each then has fewer than `frame` allows."""
    max_text_chars: int = 2000
    """Longer text of an item is cut here."""
    max_text_tokens: int | None = Field(default=None, ge=1)
    """In place of `max_text_chars`: the limit in tokens of the model's own tokenizer."""
    grid: Grid = "processor"
    """"area" is how this project's models up to 0.1 were trained."""

    @property
    def fingerprint(self) -> str:
        """8 hex digits that change whenever the budget does: part of a model's name."""
        excluded = {name for name in _LATER if getattr(self, name) == VisualBudget.model_fields[name].default}
        if self.grid == "area":  # as before there was a choice
            excluded.add("grid")
        return hashlib.sha256(self.model_dump_json(exclude=excluded).encode()).hexdigest()[:8]

    def frames_of(self, duration_s: float) -> int:
        """Return how many frames of a video file of this length are sampled: with `fps` an even number, as Qwen's tools choose it."""
        if self.fps is None:
            return self.num_frames
        wanted = min(max(duration_s * self.fps, self.min_frames), self.num_frames)
        return max(2 * int(wanted / 2), 1)

    def for_clip(self, num_frames: int) -> "VisualBudget":
        """Return the budget of a video of so many frames: its `frame` as far as `clip_pixels` allows."""
        if self.clip_pixels is None:
            return self
        largest = max(min(self.frame.max_pixels, 2 * self.clip_pixels // num_frames), int(1.05 * self.frame.min_pixels))
        return self.model_copy(update={"frame": PixelRange(min_pixels=self.frame.min_pixels, max_pixels=largest)})

    def fit(self, image: PIL.Image.Image, kind: Literal["image", "frame", "crop"], factor: int) -> PIL.Image.Image:
        """Scale an image to whole visual tokens of `factor` pixels a side within the range of its kind."""
        size = grid_size(image.size, getattr(self, kind), factor, self.grid)
        return image if image.size == size else image.resize(size, PIL.Image.Resampling.BICUBIC)


_LATER = ("fps", "min_frames", "clip_pixels", "max_text_tokens")
"""Settings that came later: a budget without them has the name that it had."""


def grid_as_saved(settings: Any) -> Any:
    """Complete the settings of a model that was saved before there was a choice of grids: it was trained on the nearest area."""
    if isinstance(settings, dict) and "image" in settings:
        return {"grid": "area", **settings}
    return settings


PAPER_BUDGET = VisualBudget(
    image=PixelRange(min_pixels=131_072, max_pixels=786_432),
    frame=PixelRange(min_pixels=131_072, max_pixels=307_200),
    crop=PixelRange(min_pixels=131_072, max_pixels=786_432),
)
"""Embed-RL, appendix B.3, for visual tokens of 32 x 32 pixels."""


MAX_ASPECT = 200
"""Longer images are squeezed to this ratio; Qwen's processors refuse them."""


def grid_size(size: tuple[int, int], pixels: PixelRange, factor: int, grid: Grid = "processor") -> tuple[int, int]:
    """Return the width and height in pixels, multiples of `factor`, at which an image of this size is seen.

    "processor" is the rule of Qwen2-VL to Qwen3-VL (`smart_resize`): both sides rounded to the grid; where that is too large, both are
    scaled by one ratio and rounded down, where too small, up.
    """
    width, height = size
    if grid == "area":
        return _nearest_area(width, height, pixels, factor)
    if max(width, height) > MAX_ASPECT * min(width, height):
        width, height = (MAX_ASPECT * height, height) if width > height else (width, MAX_ASPECT * width)
    columns, rows = (round(side / factor) for side in (width, height))
    if rows * columns * factor**2 > pixels.max_pixels:
        ratio = math.sqrt(width * height / pixels.max_pixels)
        columns, rows = (max(1, math.floor(side / ratio / factor)) for side in (width, height))
    elif rows * columns * factor**2 < pixels.min_pixels:
        ratio = math.sqrt(pixels.min_pixels / (width * height))
        columns, rows = (math.ceil(side * ratio / factor) for side in (width, height))
    return columns * factor, rows * factor


def _nearest_area(width: int, height: int, pixels: PixelRange, factor: int) -> tuple[int, int]:
    """Return the grid nearest to the image's area and aspect ratio (at most 40:1)."""
    aspect = min(max(width / height, 1 / 40), 40.0)
    area = min(max(width * height, pixels.min_pixels), pixels.max_pixels)
    columns = max(1, round(math.sqrt(area * aspect) / factor))
    rows = max(1, round(math.sqrt(area / aspect) / factor))
    while rows * columns * factor * factor > pixels.max_pixels and max(rows, columns) > 1:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    return columns * factor, rows * factor


class Reduce(BaseModel):
    """Scaling by a whole factor, until a picture has at most `max_pixels`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int = Field(ge=1)


class Fit(BaseModel):
    """Scaling to what a model sees of a still, a page or a frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: VisualBudget
    factor: int = Field(ge=1)


Scale = Reduce | Fit
_SCALE: TypeAdapter[Scale | None] = TypeAdapter(Scale | None)


def scaled(image: PIL.Image.Image, scale: Scale | None, *, is_frame: bool) -> PIL.Image.Image:
    """Scale a decoded picture."""
    match scale:
        case Fit():
            return scale.budget.fit(image, "frame" if is_frame else "image", scale.factor)
        case Reduce():
            factor = math.ceil(math.sqrt(image.width * image.height / scale.max_pixels))
            return image.reduce(factor) if factor > 1 else image
    return image


def read_scale(data: dict[str, Any] | None) -> Scale | None:
    """Read what `model_dump` of a Scale wrote."""
    return _SCALE.validate_python(data)
