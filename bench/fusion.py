"""Words fused with vectors (`--match fuse`) beside vectors alone and `--match filter`, for queries with rare words and for others.

    python bench/fusion.py [seed ...]        (104 105 106 by default; --small: few files, to see that it runs)

An index of the world's captions as notes, pictures and pages, in families that differ in one attribute; some notes are filed under a name
and a number that no model was taught. Nano models; queries as they are, and with T-CoTs. The filter asks for the query's rare words, as
`--words` would. Intervals of hit@1 are bootstraps clustered by family; the last column is fused minus vectors, paired.
"""

import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.evaluation.bootstrap import Replicates, figure, replicates
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Match, Query
from embedrl.index.search import search
from embedrl.log import table
from embedrl.media.content import Image, Page, Text
from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.world.side import Family, Side
from embedrl.world.tasks import draw_family
from embedrl.world.wording import caption

SEEDS = (104, 105, 106)
SYLLABLES = ("ka", "lo", "mir", "tan", "ves", "dur", "pol", "shi", "gra", "ben", "oth", "ush")
FILLERS = ("please", "find", "looking", "need", "remember", "where", "thanks", "yesterday")
"""Words that say nothing of what is wanted, and stand in few notes."""
GROUPS = {
    "a number": True,
    "a name, and a thing": True,
    "a number, and a caption with an error": True,
    "a caption of a note": False,
    "a caption of a picture": False,
    "two rows of a page": False,
    "a caption, with words that say nothing": False,
    "a caption, with another note's name": False,
}
"""Kinds of queries, and whether a rare word in them says what is wanted."""
WAYS: dict[str, Match | None] = {"vectors": None, "filter": "filter", "fuse": "fuse"}


@dataclass(frozen=True)
class Asked:
    """A query and its target."""

    group: str
    family: str
    text: str
    words: tuple[str, ...]
    """Its rare words."""
    path: str
    """File that is wanted."""


def main(*arguments: str) -> None:
    """Print a table for queries as they are, and one with T-CoTs."""
    small = "--small" in arguments
    seeds = [int(seed) for seed in arguments if seed != "--small"] or list(SEEDS[: 1 if small else None])
    embedder, reasoner = load_embedder("nano"), load_reasoner("nano")
    rows: list[tuple[Asked, dict[tuple[str, bool], bool]]] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            asked = write_library(Path(name), seed, 3 if small else 34)
            index = Index.open(name, embedder=embedder)
            report = ingest(name, index, reasoner, embedder)
            assert not report.failures, report.failures
            known = Known(reasoner, [Query((Text(text=query.text),)).item for query in asked])
            rows += [(query, hits_of(index, query, embedder, known)) for query in asked]
    for think in (False, True):
        lines = [
            [group, str(sum(query.group == group for query, _ in rows)), *_figures([row for row in rows if row[0].group == group], think)]
            for group in GROUPS
        ]
        title = f"hit@1, %, seeds {', '.join(map(str, seeds))}: {'with T-CoTs' if think else 'queries as they are'}"
        table(title, ["query", "queries", *WAYS, "fuse - vectors"], lines)


class Known:
    """A Reasoner that has answered for some items beforehand, in one batch. Fulfils `Reasons`."""

    def __init__(self, reasoner: Reasons, items: Sequence[Item]) -> None:
        self.fingerprint, self.num_frames = reasoner.fingerprint, reasoner.num_frames
        self.outcomes = {item.key: outcome for item, outcome in zip(items, reasoner.reason(items), strict=True)}

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Return the answers."""
        return [self.outcomes[item.key] for item in items]


def write_library(folder: Path, seed: int, num_queries: int) -> list[Asked]:
    """Write notes, pictures and pages, and return the queries, `num_queries` of each group."""
    rng = random.Random(f"fusion:{seed}")
    names = ["".join(rng.choices(SYLLABLES, k=3)) for _ in range(num_queries)]
    numbers = iter(rng.sample(range(10_000, 100_000), 3 * num_queries))
    asked: list[Asked] = []

    def ask(group: str, family: int, text: str, words: Sequence[str], path: str) -> None:
        asked.append(Asked(group, f"{seed}:{family}", text, tuple(words), path))

    for number, family in enumerate(_families(rng, "image_i2t", num_queries)):
        [path, *_] = paths = [f"note-{number}-{variant}.txt" for variant in range(len(family))]
        name, other, order = names[number], names[(number + 1) % len(names)], next(numbers)
        shared = names[(number + 2) % len(names)]
        filed = (f"filed by {name}, order {order}", f"filed by {shared}, order {next(numbers)}", "", "")
        for file, (_, note), line in zip(paths, family, filed, strict=False):
            (folder / file).write_text(f"{note.item.text}\n{line}\n" if line else f"{note.item.text}\n", "utf-8")
        scene, wrong, plain = (family[place][0].seen for place in (0, 1, 2))
        thing = rng.choice(scene.facts)
        ask("a number", number, f"order {order}", (str(order),), path)
        ask("a name, and a thing", number, f"the {' '.join(thing.tell().split()[1:3])} that {name} filed", (name,), path)
        ask("a number, and a caption with an error", number, f"order {order}: {caption(rng, wrong)[0]}", (str(order),), path)
        ask("a caption of a note", number, caption(rng, plain)[0], (), paths[2])
        filler = FILLERS[number % len(FILLERS)]
        ask("a caption, with words that say nothing", number, f"{filler} {caption(rng, plain)[0]}", (filler,), paths[2])
        ask("a caption, with another note's name", number, f"for {other}: {caption(rng, plain)[0]}", (other,), paths[2])
    for number, filler in enumerate(FILLERS):
        (folder / f"letter-{number}.txt").write_text(f"{filler} write to the {rng.choice(names)} office about the delivery\n", "utf-8")
    for task, group in (("image_t2i", "a caption of a picture"), *((f"visdoc_{kind}", "two rows of a page") for kind in PAGE_KINDS)):
        share = num_queries if task == "image_t2i" else -(-num_queries // len(PAGE_KINDS))
        for number, family in enumerate(_families(rng, task, share)):
            for variant, (query, target) in enumerate(family):
                path = _write_medium(folder / f"{task}-{number}-{variant}", target.item)
                if variant == 0:
                    ask(group, 1000 + number, query.item.text, (), path)
    return asked


PAGE_KINDS = ("notes", "table", "chart")


def _families(rng: random.Random, task: str, count: int) -> Iterator[Family]:
    """Draw families of three or more whose targets were not drawn before."""
    seen: set[str] = set()
    while count:
        family = [(query, target) for query, target in draw_family(task, "test", rng, num_variants=3) if isinstance(query, Side)]
        meanings = {target.meaning for _, target in family}
        if len(meanings) == len(family) > 2 and not meanings & seen:
            seen |= meanings
            count -= 1
            yield family


def _write_medium(path: Path, item: Item) -> str:
    match item.visual:
        case Image(pixels=pixels) if pixels is not None:
            path = path.with_name(f"{path.name}.png")
            save_image(pixels, path)
        case Page(pixels=pixels) if pixels is not None:
            path = path.with_name(f"{path.name}.pdf")
            save_pdf([pixels], path)
    return path.name


def hits_of(index: Index, asked: Asked, embedder: Embeds, reasoner: Reasons) -> dict[tuple[str, bool], bool]:
    """Return whether the first hit is the wanted file, by way and with or without T-CoT."""
    hits = {}
    for think in (False, True):
        for way, match in WAYS.items():
            filter = Filter(words=asked.words if match == "filter" else ())
            query = Query((Text(text=asked.text),), filter=filter, use_tcot=think, limit=1, match=match or "filter")
            result = search(index, query, embedder, reasoner if think else None)
            hits[way, think] = [str(hit.path) for hit in result.hits] == [asked.path]
    return hits


def _figures(rows: Sequence[tuple[Asked, dict[tuple[str, bool], bool]]], think: bool) -> list[str]:
    families = [query.family for query, _ in rows]
    tables: dict[str, Replicates] = {
        way: replicates(np.array([[float(hits[way, think])] for _, hits in rows]), task="queries", families=families) for way in WAYS
    }
    return [*(_figure(of_way, 0.0) for of_way in tables.values()), _figure(tables["fuse"] - tables["vectors"], -1.0)]


def _figure(table: Replicates, low: float) -> str:
    shown = figure(table, bounds=(low, 1.0))
    assert shown is not None
    return shown.text(".1f", scale=100)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ConfigError as error:
        sys.exit(str(error))
