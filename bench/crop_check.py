"""How often a wrong box is caught by comparing its crop with its name, and how often a right one is doubted.

`python bench/crop_check.py` draws pictures of the world's test split, whose boxes and names are known to be right, and spoils each box in
three ways: it is put on another object of the picture, it is put beside everything, or its name has another colour or shape.
`python bench/crop_check.py Qwen/Qwen3-VL-Embedding-2B` does the same with another Embedder.
"""

import random
import sys
from collections.abc import Sequence

import numpy as np
import PIL.Image

from embedrl.data.box_names import box_names
from embedrl.data.crop_check import MIN_SCORE, check_crops
from embedrl.data.crops import Box, iou
from embedrl.log import result, table
from embedrl.runtime.names import load_embedder
from embedrl.world.tasks import make_pairs

NUM_PAIRS, SEED = 80, 5
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)
Claims = list[tuple[Box, str]]


def main(embedder: str = "nano") -> None:
    """Check right and spoiled boxes, and write the table."""
    embeds = load_embedder(embedder)
    pictures = [(pair.pair.target.visual.pixels, _claims(pair.target.truth)) for pair in make_pairs("test", SEED, ["image_t2i"], NUM_PAIRS)]
    pictures = [(image, claims) for image, claims in pictures if len(claims) > 1]
    names = sorted({name for _, claims in pictures for _, name in claims})
    rng = random.Random(SEED)
    scores: dict[str, list[float]] = {"right": [], "another object": [], "beside everything": [], "one word wrong": []}
    for image, claims in pictures:
        kinds = {
            "right": claims,
            "another object": [(claims[(place + 1) % len(claims)][0], name) for place, (_, name) in enumerate(claims)],
            "beside everything": [(box, name) for _, name in claims if (box := _beside(claims, rng))],
            "one word wrong": [(box, _other(name, names, rng)) for box, name in claims],
        }
        for kind, spoiled in kinds.items():
            scores[kind] += _scores(embeds, image, spoiled, {name for _, name in claims}, names)
    rows = [
        [kind, str(len(found)), f"{np.mean(found):.2f}", *(f"{100 * np.mean(np.array(found) < limit):.0f} %" for limit in THRESHOLDS)]
        for kind, found in scores.items()
    ]
    heads = ["box", "boxes", "mean score", *(f"doubted below {limit:g}" for limit in THRESHOLDS)]
    table(f"{embedder}: crops compared with their names, {len(names)} names, {len(pictures)} pictures", heads, rows)
    result(f"a box is doubted below {MIN_SCORE:g}: of the right ones wrongly, of the others rightly")


def _claims(truth) -> Claims:
    return [(box, name) for box, name in zip(truth.evidence.boxes, box_names(truth), strict=True) if name]


def _scores(embeds, image: PIL.Image.Image, claims: Claims, own: set[str], names: Sequence[str]) -> list[float]:
    """Return the scores of claims among names that nothing in the picture has."""
    others = [name for name in names if name not in own]
    checks = check_crops(embeds, image, [box for box, _ in claims], [name for _, name in claims], others)
    return [check.score for check in checks if check is not None]


def _beside(claims: Claims, rng: random.Random) -> Box | None:
    """Return a box of a claim's size that meets no object, if one is found."""
    left, top, right, bottom = rng.choice(claims)[0]
    width, height = right - left, bottom - top
    for _ in range(100):
        x, y = rng.randrange(0, 1000 - width), rng.randrange(0, 1000 - height)
        box = (x, y, x + width, y + height)
        if all(iou(box, taken) < 0.01 for taken, _ in claims):
            return box
    return None


def _other(name: str, names: Sequence[str], rng: random.Random) -> str:
    """Return a name that differs from this one in one word."""
    words = set(name.split())
    near = [other for other in names if len(words - set(other.split())) == 1 and len(other.split()) == len(name.split())]
    return rng.choice(near or [other for other in names if other != name])


if __name__ == "__main__":
    main(*sys.argv[1:])
