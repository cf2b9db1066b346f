"""Overlap of the test split with training data, counted by meaning."""

from collections.abc import Iterable
from typing import NamedTuple

from embedrl.evaluation.world import draw_tasks
from embedrl.nano.data import SFTExamples, WorldRows
from embedrl.world.tasks import AnySide, make_families, names_to_draw

COLUMNS = ("training data", "sides", "query in it", "target in it", "pair in it", "same medium, fact by fact")


class Shared(NamedTuple):
    """Overlap of the test queries with one kind of training data."""

    data: str
    num_sides: int
    num_queries: int
    num_targets: int
    num_pairs: int
    num_equal: int
    """Queries or targets all of whose facts stand there together: the same scene, clip or page but for its geometry."""


def count_shared(
    *,
    world: str = "crowded",
    tasks: tuple[str, ...] = (),
    seed: int = 0,
    num_queries: int = 20,
    pool_size: int = 256,
    num_supervised: int = 2000,
    num_contrastive: int = 200,
    num_families: int = 48,
) -> tuple[list[Shared], int]:
    """Count for the supervised batches (of 16), the contrastive ones (of 64), and RL's families a task. Returns them, and the queries."""
    drawn = draw_tasks(seed=seed, tasks=tasks or None, num_queries=num_queries, pool_size=pool_size, split="test", world=world)
    pairs = [
        (sides[query.key], sides[next(iter(relevant))])
        for task, sides in drawn
        for query, relevant in zip(task.queries, task.relevant, strict=True)
    ]
    supervised = SFTExamples(0, num_supervised, 16, world=world, tasks=tasks)
    contrastive = WorldRows(0, num_contrastive, 64, world=world, tasks=tasks)
    rl = make_families("rl", 0, num_families, 4, names_to_draw(world, tasks))
    shared = [
        _count("supervised", ((side,) for side in supervised.sides()), pairs),
        _count("contrastive", contrastive.sides(), pairs),
        _count("RL", ((pair.query, pair.target) for pair in rl), pairs),
    ]
    return shared, len(pairs)


def _count(name: str, data: Iterable[tuple[AnySide, ...]], pairs: list[tuple[AnySide, AnySide]]) -> Shared:
    meanings: set[str] = set()
    together: set[tuple[str, ...]] = set()
    facts: set[frozenset[str]] = set()
    num = 0
    for sides in data:
        num += len(sides)
        meanings |= {side.meaning for side in sides}
        together.add(tuple(side.meaning for side in sides))
        facts |= {side.statements for side in sides}
    return Shared(
        name,
        num,
        sum(query.meaning in meanings for query, _ in pairs),
        sum(target.meaning in meanings for _, target in pairs),
        sum((query.meaning, target.meaning) in together for query, target in pairs),
        sum(query.statements in facts or target.statements in facts for query, target in pairs),
    )
