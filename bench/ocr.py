"""OCR of the world's pages without a text layer: recall of their words, and how well the boxes fit.

    python bench/ocr.py [pages] [seed]

Pages are drawn, and read as pictures of 384 x 512 pixels. A planted word counts as read if it stands among the words that were read, as
often as it was planted; its box is compared with that of the word of this name that overlaps it most. Intervals are bootstraps over pages.
"""

import random
import sys
import time
from collections import Counter
from itertools import chain

import numpy as np

from embedrl.data.crops import Box, iou
from embedrl.data.protocols import ReadsText
from embedrl.log import table
from embedrl.runtime.names import load_text_reader
from embedrl.world.pages import HEIGHT, KINDS, WIDTH, PageSpec, sample_page

NUM_RESAMPLES = 2000


def main(num_pages: int = 100, seed: int = 0, name: str = "tesseract") -> None:
    """Print the figures by kind of page."""
    reader = load_text_reader(name)
    assert reader is not None
    rng = random.Random(seed)
    started = time.perf_counter()
    results = {kind: [measure(sample_page(rng, "test", kind=kind), reader) for _ in range(-(-num_pages // len(KINDS)))] for kind in KINDS}
    seconds = (time.perf_counter() - started) / sum(map(len, results.values()))
    rows = [row(kind, pages) for kind, pages in results.items()] + [row("all", list(chain(*results.values())))]
    columns = ("pages", "words", "recall (95 %)", "precision", "box IoU, mean (95 %)", "IoU of at least .5")
    table(f"{reader.fingerprint}, {seconds:.2f} s a page", columns, rows)


def measure(page: PageSpec, reader: ReadsText) -> tuple[int, int, int, list[float]]:
    """Return how many words were planted, how many of them read, how many were read in all, and the IoU of the boxes of those read."""
    words = [(word, box) for line in reader.read(page.draw()) for word, box in zip(line.text.casefold().split(), line.boxes, strict=True)]
    planted = [(text, _relative(corners)) for text, *corners in page.word_boxes()]
    found = Counter(word for word, _ in words) & Counter(text for text, _ in planted)
    overlaps = [max(iou(box, other) for word, other in words if word == text) for text, box in planted if found[text]]
    return len(planted), found.total(), len(words), overlaps


def _relative(corners: list[float]) -> Box:
    x1, y1, x2, y2 = corners
    return round(1000 * x1 / WIDTH), round(1000 * y1 / HEIGHT), round(1000 * x2 / WIDTH), round(1000 * y2 / HEIGHT)


def row(kind: str, pages: list[tuple[int, int, int, list[float]]]) -> tuple[str, ...]:
    """Return a row of the table."""
    rng = np.random.default_rng(0)
    planted, found, read = (np.array([page[column] for page in pages]) for column in range(3))
    sums = np.array([sum(page[3]) for page in pages])
    samples = rng.integers(0, len(pages), (NUM_RESAMPLES, len(pages)))
    recall = np.percentile(found[samples].sum(axis=1) / planted[samples].sum(axis=1), (2.5, 97.5))
    overlap = np.percentile(sums[samples].sum(axis=1) / np.maximum(found[samples].sum(axis=1), 1), (2.5, 97.5))
    overlaps = [value for page in pages for value in page[3]]
    return (
        f"{len(pages)} {kind}",
        str(planted.sum()),
        f"{found.sum() / planted.sum():.3f} ({recall[0]:.3f} to {recall[1]:.3f})",
        f"{found.sum() / max(read.sum(), 1):.3f}",
        f"{np.mean(overlaps):.3f} ({overlap[0]:.3f} to {overlap[1]:.3f})",
        f"{np.mean([value >= 0.5 for value in overlaps]):.3f}",
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]), *sys.argv[3:4])
