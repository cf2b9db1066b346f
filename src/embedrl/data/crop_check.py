"""A check of boxes against their names: the crop alone, embedded, beside the name and other names.

That a box lies inside its image says nothing about what is in it. Here the Embedder sees the crop without the T-CoT that claims something
about it, and the name has to fit that crop better than most other names of the library do.
"""

# C crops, N other names, D dim

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image

from embedrl.data import items
from embedrl.data.crops import Box, box_holds, clamped, crop
from embedrl.data.protocols import Embeds
from embedrl.errors import ConfigError
from embedrl.media.content import Image

MARGIN = 60
"""A crop is wider than its box by this much on every side, in 1/1000 of the image: an Embedder knows things by their surroundings, too."""
MIN_OTHERS = 8
"""With fewer other names a score says nothing."""
MIN_SCORE = 0.8
"""A name fits its crop from this score on; `bench/crop_check.py` measures what is caught, and at what price."""


class CropCheck(NamedTuple):
    """How well the name of a box fits what is in it."""

    score: float
    """Share of the other names that fit the crop worse, 0..1; 0.5 for a name drawn at random."""

    @property
    def fits(self) -> bool:
        """Whether the name fits."""
        return self.score >= MIN_SCORE


def check_crops(
    embedder: Embeds, image: PIL.Image.Image, boxes: Sequence[Box], names: Sequence[str | None], others: Sequence[str]
) -> list[CropCheck | None]:
    """Compare the crop of each box with its name and with `others`; None for a box without a name, and one too small to see.

    Raises ConfigError for fewer than `MIN_OTHERS` different other names.
    """
    pool = list(dict.fromkeys(others))
    if len(pool) < MIN_OTHERS:
        raise ConfigError(f"{len(pool)} other names of boxes: at least {MIN_OTHERS} are needed to compare with; index more images")
    crops = [crop(image, _widened(box)) if name and box_holds(box) else None for box, name in zip(boxes, names, strict=True)]
    seen = [(place, cut) for place, cut in enumerate(crops) if cut is not None]
    if not seen:
        return [None] * len(boxes)
    claims = list(dict.fromkeys([name for name in names if name] + pool))
    asked = [*(items.candidate((Image(pixels=cut),)) for _, cut in seen), *(items.query(claim) for claim in claims)]
    vectors = embedder.embed(asked, [None] * len(asked))
    similarity_CN = vectors[: len(seen)] @ vectors[len(seen) :].T
    checks: list[CropCheck | None] = [None] * len(boxes)
    for row, (place, _) in zip(similarity_CN, seen, strict=True):
        own = claims.index(str(names[place]))
        rivals = [claims.index(other) for other in pool if other != names[place]]
        checks[place] = CropCheck(float(np.mean(row[rivals] < row[own])))
    return checks


def _widened(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return clamped((x1 - MARGIN, y1 - MARGIN, x2 + MARGIN, y2 + MARGIN))
