"""Texts of 50,000 characters that differ in one paragraph: is the paragraph's passage the first result, in the right text, and marked?

    python bench/passages.py [texts] [seed]

The texts are one base of prose, in each of which one paragraph is replaced by the description of a scene of the world; the query is that
scene's caption. By plain vectors: of the nano Embedder, and of one that adds up a direction per word (the fake of the tests). Beside them
the texts as one unit each, and vectors fused with the ranking by rare words (`--match fuse`). Intervals are bootstraps over queries,
2,000 resamples.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedrl.data.protocols import Embeds
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Match, Query
from embedrl.index.search import search
from embedrl.index.units import Splitting
from embedrl.log import result, table
from embedrl.media.content import Text
from embedrl.runtime.names import load_embedder
from embedrl.testing import FakeEmbedder
from embedrl.world.scenes import sample_scene
from embedrl.world.wording import caption

CHARS, PARAGRAPH_CHARS, NUM_RESAMPLES = 50_000, 500, 2000
PROSE = (
    "the parties agree that every delivery is accepted in writing within ten days of its arrival; notice of defects is given without "
    "delay; payment is due when the invoice arrives, less what was paid before; either side may end this agreement by letter"
)


def main(num_texts: int = 20, seed: int = 0) -> None:
    """Print the figures."""
    rng = random.Random(seed)
    base = write_base(rng)
    captions: list[str] = []
    while len(captions) < num_texts:
        text, _ = caption(rng, sample_scene(rng, "test").truth())
        captions += [text] if text not in captions else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, text in enumerate(captions):
            paragraphs = list(base)
            paragraphs[rng.randrange(len(base))] = " ".join([text] * (PARAGRAPH_CHARS // len(text)))
            (folder / f"{number}.txt").write_text("\n\n".join(paragraphs), "utf-8")
        rows = []
        for title, embedder in (("nano", load_embedder("nano")), ("sum of words", FakeEmbedder())):
            whole = Splitting(max_passage_chars=None)
            for units, splitting, match in (
                ("passages", Splitting(), "filter"),
                ("passages, fused", Splitting(), "fuse"),
                ("whole texts", whole, "filter"),
            ):
                rows.append((title, units, *measure(folder, captions, embedder, splitting, match)))
    table(
        f"{num_texts} texts of {CHARS:,} characters",
        ("Embedder", "units", "items", "right text first", "right passage first", "marked"),
        rows,
    )
    result("marked: a phrase of three words or more of the query is marked in the first result")


def write_base(rng: random.Random) -> list[str]:
    """Make the paragraphs that all texts have."""
    count = CHARS // (PARAGRAPH_CHARS + 2)
    return [" ".join(rng.choices(PROSE.split(), k=PARAGRAPH_CHARS // 6))[: PARAGRAPH_CHARS - 1] + "." for _ in range(count)]


def measure(folder: Path, captions: Sequence[str], embedder: Embeds, splitting: Splitting, match: Match) -> tuple[str, ...]:
    """Index the texts and ask for each caption."""
    index = Index.open(folder, embedder=embedder)
    report = ingest(folder, index, None, embedder, think=False, splitting=splitting)
    assert not report.failures, report.failures
    best = [search(index, Query((Text(text=text),), use_tcot=False, limit=1, match=match), embedder).hits[0] for text in captions]
    files = [hit.path.name == f"{number}.txt" for number, hit in enumerate(best)]
    passages = [right and holds(folder, hit, text) for right, hit, text in zip(files, best, captions, strict=True)]
    marks = [any(len(phrase.split()) > 2 for phrase in hit.shared) for hit in best]
    for path in sorted((folder / ".embedrl-index").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return (str(report.added), *(share(values) for values in (files, passages, marks)))


def holds(folder: Path, hit: Hit, text: str) -> bool:
    """Return whether a hit's passage holds a text."""
    written = (folder / hit.path).read_text("utf-8")
    return text in written[hit.start_char or 0 : hit.end_char]


def share(values: Sequence[bool]) -> str:
    """Return a share with its interval."""
    draws = np.random.default_rng(0).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values, dtype=float)[draws].mean(axis=1), [2.5, 97.5])
    return f"{sum(values) / len(values):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
