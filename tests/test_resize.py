"""Grids of visual tokens: those of the family's own processor, and of the models that were trained on another one."""

import random

import PIL.Image
import pytest
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from embedrl.media.resize import PAPER_BUDGET, PixelRange, VisualBudget, grid_size

RANGES = [
    (PAPER_BUDGET.image, 32),
    (PAPER_BUDGET.frame, 32),
    (PixelRange(min_pixels=4096, max_pixels=1_843_200), 32),
    (PixelRange(min_pixels=56 * 56, max_pixels=28 * 28 * 1280), 28),
]


@pytest.mark.parametrize(("pixels", "factor"), RANGES)
def test_grids_are_those_of_the_processor(pixels: PixelRange, factor: int):
    rng = random.Random(0)
    for _ in range(500):
        width, height = (int(2 ** rng.uniform(4, 12)) for _ in range(2))
        if max(width, height) > 200 * min(width, height):
            continue
        rows, columns = smart_resize(height, width, factor, pixels.min_pixels, pixels.max_pixels)
        assert grid_size((width, height), pixels, factor) == (columns, rows), (width, height)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (640, 480)),
        ((20, 30), (320, 448)),  # enlarged to the minimum, rounded up
        ((4000, 3000), (1024, 768)),  # reduced to the maximum
        ((1240, 1754), (736, 1024)),  # rounded down: a page keeps below the maximum
    ],
)
def test_grids_worked_out_by_hand(size: tuple[int, int], expected: tuple[int, int]):
    assert grid_size(size, PAPER_BUDGET.image, 32) == expected


def test_a_strip_is_squeezed_to_what_a_processor_takes():
    width, height = grid_size((30_000, 20), PAPER_BUDGET.image, 32)
    assert width / height <= 200
    assert width * height <= PAPER_BUDGET.image.max_pixels + 32 * width


def test_models_trained_on_the_nearest_area_keep_their_grid_and_name():
    old = VisualBudget(**{**PAPER_BUDGET.model_dump(), "grid": "area"})
    assert old.fingerprint != PAPER_BUDGET.fingerprint
    square = PIL.Image.new("RGB", (46, 46))
    narrow = PixelRange(min_pixels=1024, max_pixels=2048)
    budgets = [VisualBudget(image=narrow, frame=narrow, crop=narrow, grid=grid) for grid in ("processor", "area")]
    assert [budget.fit(square, "crop", 16).size for budget in budgets] == [(32, 32), (48, 32)]
