"""The world's retrieval tasks. They mirror the families of MMEB-V2: classification, QA, retrieval, grounding, moments, pages.

A task draws a *family*: a pair and variants of it that differ in one attribute. In the test split, the variants' targets are the
hard negatives of the first pair; in training, all pairs of a family are in one batch.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedrl.data.lazy_pairs import LazyPairs
from embedrl.data.sample import Pair
from embedrl.errors import ConfigError
from embedrl.world import image_tasks, page_tasks, video_tasks
from embedrl.world.crowded.side import CrowdedFamily, CrowdedSide
from embedrl.world.crowded.tasks import DRAWS
from embedrl.world.objects import SPLITS
from embedrl.world.side import Family, Side
from embedrl.world.wording import INSTRUCTIONS

NUM_VARIANTS = 4
AnySide = Side | CrowdedSide
AnyFamily = Family | CrowdedFamily


@dataclass(frozen=True)
class WorldPair:
    """A pair with the facts of its sides and hard negatives."""

    query: AnySide
    target: AnySide
    negatives: tuple[AnySide, ...]
    task: str
    modality: str

    @property
    def pair(self) -> Pair:
        """The pair without ground truth, rendered with every access: the sides keep none of it."""
        negatives = tuple(side.make_item() for side in self.negatives)
        return Pair(task=self.task, query=self.query.make_item(), target=self.target.make_item(), negatives=negatives)


@dataclass(frozen=True)
class WorldTask:
    """A row of the task table."""

    name: str
    modality: str
    """"image", "video" or "visdoc"."""
    family: str
    """The family of MMEB-V2 that it mirrors."""
    draw: Callable[[random.Random, str, int], AnyFamily]
    """(rng, split, number of variants) -> pairs of sides, the main pair first."""


_ROWS = (
    WorldTask("image_cls", "image", "classification", image_tasks.classify),
    WorldTask("image_qa", "image", "question answering", image_tasks.answer),
    WorldTask("image_i2t", "image", "retrieval", image_tasks.image_to_text),
    WorldTask("image_t2i", "image", "retrieval", image_tasks.text_to_image),
    WorldTask("image_composed", "image", "retrieval", image_tasks.composed),
    WorldTask("image_grounding", "image", "grounding", image_tasks.grounding),
    WorldTask("video_cls", "video", "classification", video_tasks.classify),
    WorldTask("video_qa", "video", "question answering", video_tasks.answer),
    WorldTask("video_t2v", "video", "retrieval", video_tasks.text_to_video),
    WorldTask("video_v2t", "video", "retrieval", video_tasks.video_to_text),
    WorldTask("video_moment", "video", "moment retrieval", video_tasks.moment),
    WorldTask("visdoc_notes", "visdoc", "retrieval", page_tasks.find("notes")),
    WorldTask("visdoc_table", "visdoc", "retrieval", page_tasks.find("table")),
    WorldTask("visdoc_chart", "visdoc", "retrieval", page_tasks.find("chart")),
    WorldTask("visdoc_qa", "visdoc", "question answering", page_tasks.answer),
)
TASKS = {row.name: row for row in _ROWS}
"""The roomy world: a T-CoT has room for all that is true."""
CROWDED_TASKS = {name: WorldTask(name, name.split("_")[0], "retrieval", draw) for name, draw in DRAWS.items()}
"""The crowded world: a T-CoT has room for a part, and the task says which part matters."""
WORLDS = {"roomy": TASKS, "crowded": CROWDED_TASKS}
_ALL = {**TASKS, **CROWDED_TASKS}


def choose_tasks(world: str, names: Sequence[str] = ()) -> dict[str, WorldTask]:
    """Return the named tasks of a world, or all. Raises ConfigError for a world or a task that does not exist."""
    if world not in WORLDS:
        raise ConfigError(f"world={world!r}: choose one of {', '.join(WORLDS)}")
    tasks = WORLDS[world]
    if unknown := [name for name in names if name not in tasks]:
        raise ConfigError(f"tasks={unknown!r}: choose from {', '.join(tasks)}")
    return {name: tasks[name] for name in dict.fromkeys(names or tasks)}


def names_to_draw(world: str, names: Sequence[str] = ()) -> list[str]:
    """Return the names of tasks to draw from: those given, a task named twice twice as often, or all. Raises ConfigError as above."""
    known = choose_tasks(world, names)
    return list(names or known)


def answers(query: AnySide, target: AnySide) -> bool:
    """Return whether a candidate other than the query's target is relevant, because it contains everything asked for."""
    return bool(query.asks) and query.asks <= target.holds


def draw_family(task: str, split: str, rng: random.Random, *, num_variants: int = NUM_VARIANTS) -> AnyFamily:
    """Sample a pair and its one-attribute variants. Raises ConfigError for an unknown task or split."""
    if task not in _ALL:
        raise ConfigError(f"task={task!r}: choose one of {', '.join(_ALL)}")
    if split not in SPLITS:
        raise ConfigError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    return _ALL[task].draw(rng, split, num_variants)


def make_pairs(split: str, seed: int, tasks: Sequence[str] | None = None, num_pairs_per_task: int = 64) -> list[WorldPair]:
    """Sample pairs with hard negatives, task by task. Within a task, sides of equal meaning are merged.

    Every query is unambiguous: no negative, and no other target of the task, shares its target's signature.
    """
    made = []
    for name in tasks or TASKS:
        rng = random.Random(f"{split}:{seed}:{name}")
        known: dict[str, AnySide] = {}
        for _ in range(num_pairs_per_task):
            family = draw_family(name, split, rng)
            targets = [known.setdefault(target.signature, target) for _, target in family]
            assert len({side.signature for side in targets}) == len(targets), f"{name}: a variant equals its base"
            made.append(WorldPair(family[0][0], targets[0], tuple(targets[1:]), name, _ALL[name].modality))
    return made


def make_families(split: str, seed: int, num_families: int, family_size: int, tasks: Sequence[str] | None = None) -> list[WorldPair]:
    """Sample `num_families` families per task: runs of `family_size` pairs that differ in one attribute, without negatives.

    A task named twice gets twice as many. Raises ConfigError if a task has too few variants to fill a family.
    """
    made = []
    for name, times in Counter(tasks or TASKS).items():
        rng = random.Random(f"families:{split}:{seed}:{name}")
        for _ in range(num_families * times):
            family = draw_family(name, split, rng, num_variants=family_size - 1)
            if len(family) < family_size:
                raise ConfigError(f"{name}: the world has no {family_size} variants that differ in one attribute; ask for fewer")
            made += [WorldPair(query, target, (), name, _ALL[name].modality) for query, target in family[:family_size]]
    return made


def lazy_pairs(made: Sequence[WorldPair]) -> LazyPairs:
    """Return the pairs without ground truth, rendered when they are read."""
    tasks = [pair.task for pair in made]
    return LazyPairs(tasks, lambda place: made[place].pair, lambda query, target: answers(made[query].query, made[target].target))


assert set(INSTRUCTIONS) == set(TASKS)
