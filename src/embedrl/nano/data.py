"""Training data of the nano models: world examples, deterministic by seed and index."""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

from torch.utils.data import Dataset

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, render
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.nano.models import FACTOR
from embedrl.reasoner.prompts import Prompt, match_prompt, pick_prompt, tcot_prompt
from embedrl.reasoner.train import SFTExample
from embedrl.world.crowded.side import CrowdedSide
from embedrl.world.crowded.tasks import PARTIAL
from embedrl.world.facts import Fact
from embedrl.world.tasks import TASKS, AnyFamily, AnySide, answers, choose_tasks, draw_family, names_to_draw

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
"""9 visual tokens for a scene, 12 for a page, 4 for two frames: fewer than the Reasoner's."""

_READINGS = {
    "roomy": {"image": 0.33, "video": 0.37, "visdoc": 0.18, "text": 0.12},
    "crowded": {"image": 0.2, "video": 0.6, "visdoc": 0.15, "text": 0.05},  # what happens in a clip is read last (docs/LOG.md)
}
_KINDS = {
    "roomy": {"image": 0.38, "video": 0.16, "visdoc": 0.16, "text": 0.24, "judge": 0.06},
    "crowded": {"image": 0.26, "video": 0.36, "visdoc": 0.26, "text": 0.12},
}
_ANSWER_ONLY = "Answer only."
_MOMENTS_SHARE = 0.6
"""Of the crowded clips that are read, as many are asked for what happens alone: among ten other facts it is hardly learned."""


class SFTExamples(Dataset):
    """Examples of the Reasoner's supervised fine-tuning, in batches of one kind to reduce padding.

    The first `num_answers` batches teach to read, with the bare answers to images, pages, clips and texts. The rest teach the
    T-CoTs that the annotator writes, and to judge; a share of them, `answer_share`, goes on teaching to read, since what the
    annotator leaves out is otherwise forgotten. Bare answers are asked for in words of their own. In the crowded world they name every
    fact, three times as many as a T-CoT.
    """

    def __init__(
        self,
        seed: int,
        num_batches: int,
        batch_size: int,
        *,
        num_answers: int = 0,
        answer_share: float = 0,
        world: str = "roomy",
        tasks: Sequence[str] = (),
    ) -> None:
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size
        self.num_answers, self.answer_share = num_answers, answer_share
        self.tasks = choose_tasks(world, tasks)
        self.names = names_to_draw(world, tasks)
        kinds = _KINDS[world]
        self.readings = _READINGS[world]
        self.kinds = {
            kind: share for kind, share in kinds.items() if kind in {"text", "judge"} | {task.modality for task in self.tasks.values()}
        }

    def __len__(self) -> int:
        return self.num_batches * self.batch_size

    def __getitem__(self, index: int) -> SFTExample:
        kind, reads, rng = self._plan(index)
        if kind == "judge":
            return _judge_example(rng)
        side = self._side(rng, kind)
        return _reading_example(side, rng) if reads else SFTExample(side_prompt(side), render(side.annotated(rng)))

    def sides(self) -> Iterator[AnySide]:
        """Yield what the T-CoTs are about, without drawing it, as far as that can be helped."""
        for index in range(len(self)):
            kind, reads, rng = self._plan(index)
            if kind != "judge" and not reads:
                yield self._side(rng, kind)

    def _plan(self, index: int) -> tuple[str, bool, random.Random]:
        """Return of what kind an example is, whether it is a bare answer, and what it is drawn with."""
        number = index // self.batch_size
        reads = number < self.num_answers or random.Random(f"sft-answers:{self.seed}:{number}").random() < self.answer_share
        kinds = self.readings if reads else self.kinds
        kind = random.Random(f"sft-batch:{self.seed}:{number}").choices(list(kinds), list(kinds.values()))[0]
        return kind, reads, random.Random(f"sft:{self.seed}:{index}")

    def _side(self, rng: random.Random, kind: str) -> AnySide:
        names = [name for name in self.names if kind == "text" or self.tasks[name].modality == kind]
        if kind == "text":
            names = [name for name in names if name in PARTIAL] or names  # the crowded world's other tasks have no texts
        sides = [side for pair in draw_family(rng.choice(names), "train", rng, num_variants=1) for side in pair]
        return rng.choice([side for side in sides if side.is_text == (kind == "text")] or sides)


def side_prompt(side: AnySide) -> Prompt:
    """Return the nano Reasoner's prompt for a side."""
    return tcot_prompt(side.item, "nano", REASONER_BUDGET, FACTOR)


def _reading_example(side: AnySide, rng: random.Random) -> SFTExample:
    """Ask for the bare answer; of a clip, for all that happens, each with its frame, which is not learned otherwise (docs/LOG.md).

    A crowded medium is read in order or, half of the time, in none: in order it is enough to count, and in a T-CoT, which skips what its
    annotator did not choose, counting does not help to find the shape that a colour belongs to.
    """
    prompt = tcot_prompt(side.item.model_copy(update={"instruction": _ANSWER_ONLY}), "nano", REASONER_BUDGET, FACTOR)
    facts = side.facts if isinstance(side, CrowdedSide) else side.seen.facts
    moments = [fact for fact in facts if fact.key_frame]
    if isinstance(side, CrowdedSide) and not (moments and rng.random() < _MOMENTS_SHARE):
        told = list(facts) if rng.random() < 0.5 else rng.sample(facts, len(facts))
    else:
        told = moments
    return SFTExample(prompt, ", ".join(_with_frame(fact) for fact in told) or side.truth.answer)


def _with_frame(fact: Fact) -> str:
    return f"{fact.tell()} {fact.key_frame}" if fact.key_frame else fact.tell()


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
    """Contrastive rows of the Embedder: batches of one task, of families whose members differ in one attribute.

    No two rows of a batch mean the same, and no target answers another row's query. Each pair (with `mixed_sides`, each side)
    has no T-CoTs, the annotator's, or else true ones; with T-CoTs, a side's media are left out now and then, so that the Embedder
    learns to read.
    """

    NUM_VARIANTS = 4

    def __init__(
        self,
        seed: int,
        num_batches: int,
        batch_size: int,
        *,
        plain_share: float = 0.25,
        annotated_share: float = 0.3,
        mixed_sides: bool = False,
        media_dropout: float = 0.15,
        world: str = "roomy",
        tasks: Sequence[str] = (),
    ) -> None:
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size
        self.tasks = choose_tasks(world, tasks)
        self.names = names_to_draw(world, tasks)
        self.plain_share, self.annotated_share, self.media_dropout = plain_share, annotated_share, media_dropout
        self.mixed_sides = mixed_sides

    def datasets(self, num_batches: int | None = None) -> dict[str, list[tuple[str, str]]]:
        """Return (query key, target key) rows by task, of the first `num_batches` if given; each task's rows are whole batches."""
        order = random.Random(f"embedder:{self.seed}")
        names = order.choices(self.names, k=self.num_batches if num_batches is None else min(num_batches, self.num_batches))
        rows: dict[str, list[tuple[str, str]]] = {}
        for name in self.tasks:
            family, task_rows = 0, rows.setdefault(name, [])
            for _ in range(names.count(name)):
                batch: dict[str, tuple[str, str]] = {}
                members: list[tuple[AnySide, AnySide]] = []
                while len(batch) < self.batch_size:
                    for number, (query, target) in enumerate(_family(f"{self.seed}/{name}/{family}")):
                        key = f"{self.seed}/{name}/{family}/{number}"
                        second = any(answers(query, other) or answers(asked, target) for asked, other in members)
                        if len(batch) < self.batch_size and target.signature not in batch and not second:
                            batch[target.signature] = f"{key}/query", f"{key}/target"
                            members.append((query, target))
                    family += 1
                task_rows.extend(batch.values())
        return {name: task_rows for name, task_rows in rows.items() if task_rows}

    def sides(self) -> Iterator[tuple[AnySide, AnySide]]:
        """Yield the pairs of all rows."""
        for rows in self.datasets().values():
            for key, _ in rows:
                family, number, _ = key.rsplit("/", 2)
                yield _family(family)[int(number)]

    def resolve(self, key: str) -> tuple[Item, TCoT | None, bool]:
        """Return the item, its T-CoT (or None) and whether its media are shown."""
        side, mode = self._side(key)
        if mode < self.plain_share:
            return side.item, None, True
        tcot, rng = self._tcot(key)
        return side.item, tcot, rng.random() >= self.media_dropout

    def tcot(self, key: str) -> TCoT:
        """Return the item's T-CoT, shown or not: the annotator's, or else the true one."""
        return self._tcot(key)[0]

    def _tcot(self, key: str) -> tuple[TCoT, random.Random]:
        """Return the T-CoT, and what else about the row is drawn with."""
        side, mode = self._side(key)
        rng = random.Random(f"embedder:{key}")
        return (side.annotated(rng) if mode >= 1 - self.annotated_share else side.truth), rng

    def _side(self, key: str) -> tuple[AnySide, float]:
        """Return the side and the number, 0..1, that decides about its T-CoT."""
        name, side = key.rsplit("/", 1)
        family, number = name.rsplit("/", 1)
        mode = random.Random(f"embedder-mode:{key if self.mixed_sides else name}").random()
        return _family(family)[int(number)][side == "target"], mode


@lru_cache(maxsize=256)
def _family(key: str) -> AnyFamily:
    seed, task, number = key.split("/")
    return draw_family(task, "train", random.Random(f"embedder:{seed}:{task}:{number}"), num_variants=WorldRows.NUM_VARIANTS)
