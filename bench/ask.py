"""Questions over an index of the world: right answers, right citations where retrieval found the item, and abstention where none fits.

python bench/ask.py [--items 12] [--seed 0]: pictures, clips and pages, `items` of each; one question an item that it answers, and one that
nothing in the index answers, which differs from one that is answered in one attribute where it can.
"""

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path

from embedrl import log
from embedrl.data.crops import iou
from embedrl.index.answer import CitedAnswer, ask
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.media.video import save_video
from embedrl.runtime.names import load_both
from embedrl.world import clips, pages, scenes
from embedrl.world.facts import Fact, Truth
from embedrl.world.objects import COLOURS

Asked = tuple[str, str, Fact]
"""(question, name of the file that answers it, the fact); the name is empty where nothing does."""


def make_library(folder: Path, num_items: int, rng: random.Random) -> dict[str, Truth]:
    """Write pictures, clips and pages. Returns the truth of each, by file name."""
    truths: dict[str, Truth] = {}
    for number in range(num_items):
        scene, clip, page = scenes.sample_scene(rng, "test", num_things=3), clips.sample_clip(rng, "test"), pages.sample_page(rng, "test")
        save_image(scene.draw(), folder / f"picture-{number}.png")
        save_video(clip.frames(), folder / f"clip-{number}.mp4", fps=clips.FPS)
        save_pdf([page.draw()], folder / f"page-{number}.pdf")
        truths |= {f"picture-{number}.png": scene.truth(), f"clip-{number}.mp4": clip.truth(), f"page-{number}.pdf": page.truth()}
    return truths


def question(fact: Fact, truth: Truth) -> str:
    """Ask for what an item says of a thing, an event or a row."""
    if truth.medium == "page":
        return f"What stands behind {fact.get('city')} in the {truth.setting}?"
    name = f"{fact.get('colour')} {fact.get('shape')}"
    if truth.medium == "video":
        return f"When does the {name} {fact.get('event').split()[0].removesuffix('s')}?"
    return f"Where is the {name}?"


def unanswered(fact: Fact, truth: Truth, rng: random.Random, taken: set[tuple[str, ...]]) -> Asked | None:
    """Change one attribute of a question until nothing in the library, of whatever medium, answers it; None if everything is taken."""
    if truth.medium == "page":
        options = [(("city", city), *fact.slots[1:]) for city in pages.CITIES]
    else:
        options = [tuple((name, colour if name == "colour" else text) for name, text in fact.slots) for colour in COLOURS]
    free = [Fact(slots) for slots in options if named(Fact(slots), truth) not in taken]
    return (question(chosen := rng.choice(free), truth), "", chosen) if free else None


def named(fact: Fact, truth: Truth) -> tuple[str, ...]:
    """Return what a question about a fact names."""
    return (truth.setting, fact.get("city")) if truth.medium == "page" else (fact.get("colour"), fact.get("shape"))


def right(answer: CitedAnswer, fact: Fact, truth: Truth) -> tuple[bool, bool]:
    """Say whether the answer, and where the first citation points, are right."""
    cited = answer.citations[0]
    if truth.medium == "page":
        return fact.get("value") in cited.answer, any(iou(box, fact.box) > 0.5 for box in cited.boxes if fact.box)
    is_named = all(word in cited.answer for word in (fact.get("colour"), fact.get("shape")))
    if truth.medium == "video":
        return is_named, any(abs(time_s - (fact.key_frame - 1) / clips.FPS) <= 0.5 for time_s in cited.times_s if fact.key_frame)
    return is_named, any(iou(box, fact.box) > 0.5 for box in cited.boxes if fact.box)


def main() -> None:
    """Make the library, ask, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        truths = make_library(Path(folder), given.items, rng)
        reasoner, embedder = load_both("nano", "nano")
        index = Index.open(folder, embedder=embedder)
        ingest(folder, index, reasoner, embedder)
        taken = {named(fact, truth) for truth in truths.values() for fact in truth.facts}
        for name, truth in truths.items():
            fact = rng.choice(truth.facts)
            hits = search(index, Query(question(fact, truth), limit=8), embedder, reasoner).hits
            is_retrieved = name in {str(hit.path) for hit in hits}
            answer = ask(index, question(fact, truth), embedder, reasoner)
            counts[f"{truth.medium} asked"] += 1
            counts[f"{truth.medium} retrieved"] += is_retrieved
            said = right(answer, fact, truth) if is_retrieved and answer.is_answered else (False, False)
            same = [cited for cited in answer.citations[:1] if truths[str(cited.path)].medium == truth.medium]
            is_cited = bool(same) and any(
                question(other, truths[str(same[0].path)]) == question(fact, truth) for other in truths[str(same[0].path)].facts
            )
            counts[f"{truth.medium} right item"] += is_retrieved and is_cited
            counts[f"{truth.medium} right answer"] += said[0] and is_cited
            counts[f"{truth.medium} right place"] += said[1] and str(answer.citations[0].path) == name
            if given.verbose:
                stored = next((hit for hit in hits if str(hit.path) == name), None)
                log.info(f"{question(fact, truth)} [{fact}] -> {answer.text} | {answer.citations[:1]} | {stored and stored.tcot}")
            if asked := unanswered(fact, truth, rng, taken):
                refused = ask(index, asked[0], embedder, reasoner)
                counts[f"{truth.medium} unanswerable"] += 1
                counts[f"{truth.medium} abstained"] += not refused.is_answered
                if given.verbose and refused.is_answered:
                    log.info(f"WRONG {asked[0]} -> {refused.citations[0]}")
    media = ("image", "video", "page")
    heads = ("asked", "retrieved", "right item", "right answer", "right place", "unanswerable", "abstained")
    log.table(
        f"Questions over {3 * given.items} items, seed {given.seed}",
        ["medium", *heads],
        [[m, *(counts[f"{m} {head}"] for head in heads)] for m in media],
    )


if __name__ == "__main__":
    main()
