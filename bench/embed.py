"""How fast a mixed corpus is embedded: our Embedder beside sentence-transformers' own `encode`, the same model, inputs and batch size.

The corpus is of the world: texts, pictures and pages, plain and with T-CoT and crops, in random order, and longer texts.
(sentence-transformers cannot be told the times of frames item by item, so videos are left out.) Twice: the nano Embedder, and a
larger random model. Both begin with items, whose pictures are decoded and cut by the same code. Times are the best of rounds that take
turns; both give the same vectors, which is checked.
"""

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from reward import ROUNDS, ROUNDS_LARGE, large, race
from sentence_transformers import SentenceTransformer

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.parity import filled
from embedrl.log import result, table
from embedrl.media.content import Text
from embedrl.runtime.names import load_embedder
from embedrl.world.tasks import TASKS, make_families

BATCH_SIZE = 32
NUM_TEXTS = 80
MIN_COSINE = 0.9999
WANTED_RATIO = 1.5
Corpus = list[tuple[Item, TCoT | None]]


def main(size: str = "") -> None:
    """Print the table; ends with an error if the vectors differ. `--nano`: without the larger model."""
    nano = load_embedder("nano")
    assert isinstance(nano, Embedder)
    rows = [compare("nano", nano, 4, ROUNDS)]
    if size != "--nano":
        rows.append(compare("larger random model", large(nano, 16)[0], 1, ROUNDS_LARGE))
    columns = ["model", "items", "embed/s", "encode/s", f"ratio (wanted: {WANTED_RATIO})"]
    table(f"Embedding a mixed corpus, batches of {BATCH_SIZE} for encode", columns, rows)


def compare(name: str, embedder: Embedder, num_families: int, rounds: int) -> list[str]:
    """Embed the corpus both ways."""
    corpus = mixed(num_families)
    with tempfile.TemporaryDirectory() as folder:
        embedder.save(Path(folder))
        best, vectors = race(both_ways(embedder, Path(folder), corpus), rounds)
    worst = float((vectors["embed"] * vectors["encode"]).sum(1).min())
    result(f"{name}: smallest cosine between the two {worst:.6f}")
    assert worst >= MIN_COSINE, f"{name}: the vectors differ (cosine {worst:.6f})"
    speeds = [len(corpus) / seconds for seconds in best.values()]
    return [name, f"{len(corpus)}", *(f"{speed:.1f}" for speed in speeds), f"{speeds[0] / speeds[1]:.2f}"]


def both_ways(embedder: Embedder, folder: Path, corpus: Corpus) -> dict[str, Callable[[], np.ndarray]]:
    """Return how a corpus is embedded by us, and by sentence-transformers from what was saved of the Embedder."""
    device, dtype = str(embedder.model.device), embedder.model.dtype
    theirs = SentenceTransformer(str(folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype})
    return {
        "embed": lambda: embedder.embed([item for item, _ in corpus], [tcot for _, tcot in corpus]),
        "encode": lambda: np.asarray(theirs.encode([filled(embedder.build(*row)) for row in corpus], batch_size=BATCH_SIZE)),
    }


def mixed(num_families: int, num_texts: int = NUM_TEXTS) -> Corpus:
    """Return items of all tasks without videos, each plain and with its T-CoT, and texts of 5 to 300 words."""
    rng = random.Random(0)
    names = [name for name, task in TASKS.items() if task.modality != "video"]
    families = [made for number in range(num_families) for made in make_families("rl", number, 1, 2, names)]
    sides = [side for made in families for side in (made.query, made.target)]
    corpus = [(side.item, tcot) for side in sides for tcot in (None, side.truth)]
    words = ("red", "star", "blue", "ring", "left", "top", "small", "large", "chart", "milan")
    for _ in range(num_texts):
        text = " ".join(rng.choices(words, k=int(5 * 60 ** rng.random())))
        corpus.append((Item(content=(Text(text=text),), role=Role.TARGET_TEXT), None))
    rng.shuffle(corpus)
    return corpus


if __name__ == "__main__":
    main(*sys.argv[1:])
