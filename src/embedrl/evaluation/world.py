"""Retrieval tasks from held-out world pairs, with ground-truth T-CoTs."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from embedrl.errors import ConfigError
from embedrl.evaluation.task import MODALITIES, RetrievalTask, by_medium
from embedrl.world.crowded.side import CrowdedSide
from embedrl.world.tasks import AnySide, WorldPair, answers, choose_tasks, make_pairs

SHARED_POOLS = (
    ("image_cls", "image_qa", "image_i2t"),
    ("image_t2i", "image_composed", "image_grounding"),
    ("video_qa", "video_v2t"),
    ("visdoc_notes", "visdoc_table", "visdoc_chart"),
)
"""Tasks with one kind of target: each ranks the targets of all. A task that is not listed ranks its own."""

_SEED_STEP = 1_000_003
_MIN_NEW = 0.5
"""A pair that is drawn must bring as many new candidates on average: otherwise the world has no more to give."""


def world_tasks(
    *,
    seed: int = 0,
    tasks: Sequence[str] | None = None,
    num_queries: int = 32,
    pool_size: int = 256,
    world: str = "roomy",
) -> list[RetrievalTask]:
    """Build the named tasks of a world (all by default) with `num_queries` queries and at least `pool_size` candidates each.

    A pool holds the targets, the hard negatives and the other pairs of its tasks, one candidate per meaning. No candidate but the target
    answers a query, unless the query describes a part: then every candidate that holds it is relevant. Raises ConfigError for an unknown
    name, or for more than the world can give.
    """
    drawn = draw_tasks(seed=seed, tasks=tasks, num_queries=num_queries, pool_size=pool_size, split="test", world=world)
    return [task for task, _ in drawn]


def draw_tasks(
    *, seed: int, tasks: Sequence[str] | None, num_queries: int, pool_size: int, split: str, world: str
) -> list[tuple[RetrievalTask, dict[str, AnySide]]]:
    """Build the tasks as `world_tasks` does, each with item key -> side (facts and annotator)."""
    chosen = choose_tasks(world, tuple(tasks or ()))
    if num_queries < 1:
        raise ConfigError(f"num_queries={num_queries}: give at least 1")
    drawn = {name: pairs for pool in _pools(list(chosen)) for name, pairs in _draw(pool, seed, num_queries, pool_size, split).items()}
    return [_task(name, chosen[name].modality, drawn, num_queries) for name in chosen]


def _pools(names: Sequence[str]) -> list[list[str]]:
    shared = [[name for name in pool if name in names] for pool in SHARED_POOLS]
    alone = [[name] for name in names if not any(name in pool for pool in SHARED_POOLS)]
    return [pool for pool in (*shared, *alone) if pool]


def _draw(pool: Sequence[str], seed: int, num_queries: int, pool_size: int, split: str) -> dict[str, list[WorldPair]]:
    """Draw as many pairs per task as its queries need, then a few at a time until the pool is full."""
    drawn: dict[str, list[WorldPair]] = {name: [] for name in pool}
    previous, more = 0, num_queries
    for step in itertools.count():
        for name, pairs in drawn.items():
            pairs += make_pairs(split, seed + step * _SEED_STEP, [name], more)
        num_candidates = len(_by_meaning(side for pairs in drawn.values() for side in _targets(pairs)))
        fewest_queries = min(len(_queries(pairs, num_queries)) for pairs in drawn.values())
        if num_candidates >= pool_size and fewest_queries == num_queries:
            break
        if num_candidates - previous < _MIN_NEW * more * len(pool):
            raise ConfigError(
                f"{', '.join(pool)}: the world has about {num_candidates} candidates and {fewest_queries} queries that differ; "
                f"ask for no more (pool_size={pool_size}, num_queries={num_queries})"
            )
        previous, more = num_candidates, max(4, num_queries // 4)
    return drawn


def _task(name: str, modality: str, drawn: dict[str, list[WorldPair]], num_queries: int) -> tuple[RetrievalTask, dict[str, AnySide]]:
    pairs = _queries(drawn[name], num_queries)
    pool = next((pool for pool in SHARED_POOLS if name in pool), ())
    others = [side for other in pool if other != name and other in drawn for side in _targets(drawn[other])]
    candidates = _by_meaning([*(pair.target for pair in pairs), *_targets(drawn[name]), *others])
    sides = {side.item.key: side for side in [*(pair.query for pair in pairs), *candidates.values()]}
    task = RetrievalTask(
        name=name,
        modality=next(known for known in MODALITIES if known == modality),
        queries=tuple(pair.query.item for pair in pairs),
        candidates=tuple(side.item for side in candidates.values()),
        relevant=tuple(_relevant(pair, candidates.values()) for pair in pairs),
        truths={key: side.truth for key, side in sides.items()},
        statements={key: side.statements for key, side in sides.items() if isinstance(side, CrowdedSide)},
        families=by_medium([pair.query.item for pair in pairs]),
    )
    return task, sides


def _relevant(pair: WorldPair, candidates: Iterable[AnySide]) -> dict[str, float]:
    """Return the pair's target, and every other candidate that holds all that a partial description asks for."""
    return {pair.target.item.key: 1.0} | {side.item.key: 1.0 for side in candidates if answers(pair.query, side)}


def _targets(pairs: Iterable[WorldPair]) -> Iterator[AnySide]:
    for pair in pairs:
        yield pair.target
        yield from pair.negatives


def _by_meaning(sides: Iterable[AnySide]) -> dict[str, AnySide]:
    """Deduplicate sides by meaning: no query could distinguish them."""
    first_sides: dict[str, AnySide] = {}
    for side in sides:
        first_sides.setdefault(side.meaning, side)
    return first_sides


def _queries(pairs: Iterable[WorldPair], count: int) -> list[WorldPair]:
    """Return the first pairs whose queries differ and whose targets differ in meaning."""
    chosen: dict[str, WorldPair] = {}
    seen: set[str] = set()
    for pair in pairs:
        if len(chosen) < count and pair.query.item.key not in seen and pair.target.meaning not in chosen:
            seen.add(pair.query.item.key)
            chosen[pair.target.meaning] = pair
    return list(chosen.values())
