"""What the nano models are trained on: streams of world examples, each a pure function of seed and index."""

import random
from dataclasses import replace
from functools import lru_cache

from torch.utils.data import Dataset

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, render
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.nano.models import FACTOR
from embedrl.reasoner.prompts import Prompt, match_prompt, pick_prompt, tcot_prompt
from embedrl.reasoner.train import SFTExample
from embedrl.world.tasks import TASKS, Family, Side, draw_family

REASONER_BUDGET = VisualBudget(
    image=PixelRange(min_pixels=1024, max_pixels=96 * 128),
    frame=PixelRange(min_pixels=1024, max_pixels=64 * 64),
    crop=PixelRange(min_pixels=1024, max_pixels=32 * 64),
    grid="area",
)
"""36 visual tokens for a scene, 48 for a page, 16 for each frame."""
EMBEDDER_BUDGET = VisualBudget(
    image=PixelRange(min_pixels=1024, max_pixels=48 * 64),
    frame=PixelRange(min_pixels=1024, max_pixels=32 * 32),
    crop=PixelRange(min_pixels=1024, max_pixels=32 * 64),
    grid="area",
)
"""The weaker eye: 9 visual tokens for a scene, 12 for a page, 4 for two frames."""

_READINGS = {"image": 0.33, "video": 0.37, "visdoc": 0.18, "text": 0.12}
_KINDS = {"image": 0.38, "video": 0.16, "visdoc": 0.16, "text": 0.24, "judge": 0.06}
_ANSWER_ONLY = "Answer only."


class SFTExamples(Dataset):
    """Examples for the Reasoner's supervised stage. Each batch is of one kind, so that little is padded.

    The first `num_answers` batches teach to read, with the bare answers to pictures, pages, clips and texts. The rest teach the
    T-CoTs that the annotator writes, and to judge; a share of them, `answer_share`, goes on teaching to read, since what the
    annotator leaves out is otherwise forgotten. Bare answers are asked for in words of their own.
    """

    def __init__(self, seed: int, num_batches: int, batch_size: int, *, num_answers: int = 0, answer_share: float = 0) -> None:
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size
        self.num_answers, self.answer_share = num_answers, answer_share

    def __len__(self) -> int:
        return self.num_batches * self.batch_size

    def __getitem__(self, index: int) -> SFTExample:
        number = index // self.batch_size
        answers = number < self.num_answers or random.Random(f"sft-answers:{self.seed}:{number}").random() < self.answer_share
        kinds = _READINGS if answers else _KINDS
        kind = random.Random(f"sft-batch:{self.seed}:{number}").choices(list(kinds), list(kinds.values()))[0]
        rng = random.Random(f"sft:{self.seed}:{index}")
        if kind == "judge":
            return _judge_example(rng)
        side = _side(rng, kind)
        return _reading_example(side) if answers else SFTExample(side_prompt(side), render(side.annotated(rng)))


def _side(rng: random.Random, kind: str) -> Side:
    names = [task.name for task in TASKS.values() if kind == "text" or task.modality == kind]
    sides = [side for pair in draw_family(rng.choice(names), "train", rng, num_variants=1) for side in pair]
    return rng.choice([side for side in sides if (side.item.visual is None) == (kind == "text")] or sides)


def side_prompt(side: Side) -> Prompt:
    """Return the nano Reasoner's prompt for a side."""
    return tcot_prompt(side.item, "nano", REASONER_BUDGET, FACTOR)


def _reading_example(side: Side) -> SFTExample:
    """Ask for the bare answer; of a clip, for all that happens, each with its frame, which is not learned otherwise (docs/LOG.md)."""
    asked = replace(side, item=side.item.model_copy(update={"instruction": _ANSWER_ONLY}))
    moments = [f"{fact.tell()} {fact.key_frame}" for fact in side.seen.facts if fact.key_frame]
    return SFTExample(side_prompt(asked), ", ".join(moments) or side.truth.answer)


def _judge_example(rng: random.Random) -> SFTExample:
    family = draw_family(rng.choice(list(TASKS)), "train", rng, num_variants=3)
    others = [draw_family(rng.choice(list(TASKS)), "train", rng, num_variants=0)[0][1] for _ in range(2)]
    (query, target), wrong = family[0], [pair[1] for pair in family[1:]] + others
    anchor = query.annotated(rng)
    if rng.random() < 0.4:
        matches = rng.random() < 0.5
        shown = target if matches else rng.choice(wrong)
        return SFTExample(match_prompt(anchor, shown.annotated(rng), "nano"), "yes" if matches else "no")
    rng.shuffle(wrong)
    candidates = wrong[: rng.randint(2, 5)]
    place = rng.randrange(len(candidates) + 1)
    candidates.insert(place, target)
    return SFTExample(pick_prompt(anchor, [side.annotated(rng) for side in candidates], "nano"), str(place + 1))


class WorldRows:
    """Rows for the Embedder: batches of one task, made of families whose members differ in one attribute.

    No two rows of a batch mean the same. Each pair has no T-CoTs, the annotator's, or else true ones; with T-CoTs, a side's media are
    left out now and then, so that the Embedder learns to read.
    """

    NUM_VARIANTS = 4

    def __init__(self, seed: int, num_batches: int, batch_size: int, *, plain_share: float = 0.25, annotated_share: float = 0.3) -> None:
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size
        self.plain_share, self.annotated_share = plain_share, annotated_share

    def datasets(self) -> dict[str, list[tuple[str, str]]]:
        """Return (query key, target key) rows by task; each task's rows are whole batches."""
        order = random.Random(f"embedder:{self.seed}")
        names = order.choices(list(TASKS), k=self.num_batches)
        rows: dict[str, list[tuple[str, str]]] = {}
        for name in TASKS:
            family, found = 0, rows.setdefault(name, [])
            for _ in range(names.count(name)):
                batch: dict[str, tuple[str, str]] = {}
                while len(batch) < self.batch_size:
                    for number, (_, target) in enumerate(_family(f"{self.seed}/{name}/{family}")):
                        key = f"{self.seed}/{name}/{family}/{number}"
                        if len(batch) < self.batch_size:
                            batch.setdefault(target.signature, (f"{key}/query", f"{key}/target"))
                    family += 1
                found.extend(batch.values())
        return {name: found for name, found in rows.items() if found}

    def resolve(self, key: str) -> tuple[Item, TCoT | None, bool]:
        """Return the item, its T-CoT (or None) and whether its media are shown."""
        name, side = key.rsplit("/", 1)
        family, number = name.rsplit("/", 1)
        chosen = _family(family)[int(number)][side == "target"]
        mode = random.Random(f"embedder-mode:{name}").random()
        rng = random.Random(f"embedder:{key}")
        if mode < self.plain_share:
            return chosen.item, None, True
        return chosen.item, chosen.annotated(rng) if mode >= 1 - self.annotated_share else chosen.truth, rng.random() >= 0.15


@lru_cache(maxsize=256)
def _family(key: str) -> Family:
    seed, task, number = key.split("/")
    return draw_family(task, "train", random.Random(f"embedder:{seed}:{task}:{number}"), num_variants=WorldRows.NUM_VARIANTS)
