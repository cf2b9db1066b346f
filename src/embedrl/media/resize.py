"""Visual budgets: the one place where images are scaled, to whole visual tokens within a pixel range."""

import hashlib
import math
from typing import Any, Literal

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from embedrl.errors import ConfigError


class PixelRange(BaseModel):
    """Minimum and maximum number of pixels of an image as a model sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_pixels: int
    max_pixels: int

    @model_validator(mode="after")
    def _ordered(self) -> "PixelRange":
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ConfigError(f"min_pixels={self.min_pixels}, max_pixels={self.max_pixels}: need 0 < min_pixels <= max_pixels")
        return self


Grid = Literal["processor", "area"]
"""Rule for the visual-token grid of an image: smart_resize of the Qwen-VL processors, or the grid nearest to its area."""


class VisualBudget(BaseModel):
    """Pixel ranges of images, frames and evidence crops, number of frames, and length of text that a model sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    image: PixelRange
    frame: PixelRange
    crop: PixelRange
    num_frames: int = 8
    """Number of frames sampled from a video; with `fps`, the maximum."""
    fps: float | None = Field(default=None, gt=0)
    """Frames sampled per second of a video; None: `num_frames`, whatever its duration."""
    min_frames: int = Field(default=1, ge=1)
    """Minimum number of frames with `fps`, if the video has them."""
    clip_pixels: int | None = Field(default=None, ge=1)
    """Pixels that all frames of a video share, two frames counting as one; each may then have fewer than `frame` allows."""
    max_text_chars: int = 2000
    """Maximum number of characters of an item's text; longer text is truncated."""
    max_text_tokens: int | None = Field(default=None, ge=1)
    """In place of `max_text_chars`: the limit in tokens of the model's own tokenizer."""
    grid: Grid = "processor"
    """"area" is how this project's models up to 0.1 were trained."""

    @property
    def fingerprint(self) -> str:
        """Hash of the budget (8 hex digits), part of a model's fingerprint."""
        excluded = {name for name in _LATER if getattr(self, name) == VisualBudget.model_fields[name].default}
        if self.grid == "area":  # as before there was a choice
            excluded.add("grid")
        return hashlib.sha256(self.model_dump_json(exclude=excluded).encode()).hexdigest()[:8]

    def frames_of(self, duration_s: float) -> int:
        """Return the number of frames sampled from a video of this duration; with `fps` an even number, as Qwen's tools do."""
        if self.fps is None:
            return self.num_frames
        wanted = min(max(duration_s * self.fps, self.min_frames), self.num_frames)
        return max(2 * int(wanted / 2), 1)

    def for_clip(self, num_frames: int) -> "VisualBudget":
        """Return the budget of a video with this number of frames: `frame`, limited by `clip_pixels`."""
        if self.clip_pixels is None:
            return self
        largest = max(min(self.frame.max_pixels, 2 * self.clip_pixels // num_frames), int(1.05 * self.frame.min_pixels))
        return self.model_copy(update={"frame": PixelRange(min_pixels=self.frame.min_pixels, max_pixels=largest)})

    def fit(self, image: PIL.Image.Image, kind: Literal["image", "frame", "crop"], factor: int) -> PIL.Image.Image:
        """Scale an image to multiples of `factor` pixels (one visual token) within the range of its kind."""
        size = grid_size(image.size, getattr(self, kind), factor, self.grid)
        return image if image.size == size else image.resize(size, PIL.Image.Resampling.BICUBIC)


_LATER = ("fps", "min_frames", "clip_pixels", "max_text_tokens")
"""Later settings, which do not change the fingerprint at their defaults."""


def grid_as_saved(settings: Any) -> Any:
    """Fill in `grid` of models saved before it was a setting: they were trained with "area"."""
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
"""Maximum aspect ratio; more elongated images are squeezed, since Qwen's processors refuse them."""


def grid_size(size: tuple[int, int], pixels: PixelRange, factor: int, grid: Grid = "processor") -> tuple[int, int]:
    """Return the (width, height) in pixels, multiples of `factor`, that an image of this size is scaled to.

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
    """Downscaling by an integer factor to at most `max_pixels`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int = Field(ge=1)


class Fit(BaseModel):
    """Scaling to the budget of an image, a page or a frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: VisualBudget
    factor: int = Field(ge=1)


Scale = Reduce | Fit
_SCALE: TypeAdapter[Scale | None] = TypeAdapter(Scale | None)


def scaled(image: PIL.Image.Image, scale: Scale | None, *, is_frame: bool) -> PIL.Image.Image:
    """Scale a decoded image."""
    match scale:
        case Fit():
            return scale.budget.fit(image, "frame" if is_frame else "image", scale.factor)
        case Reduce():
            factor = math.ceil(math.sqrt(image.width * image.height / scale.max_pixels))
            return image.reduce(factor) if factor > 1 else image
    return image


def read_scale(data: dict[str, Any] | None) -> Scale | None:
    """Deserialise a Scale from its `model_dump`."""
    return _SCALE.validate_python(data)
