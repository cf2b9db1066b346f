"""The world's image tasks with hard negatives, which several benches rank, and the options that these share."""

import argparse
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from embedrl.evaluation.cache import Cache
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks

TASKS = ("image_cls", "image_qa", "image_i2t", "image_t2i", "image_composed", "image_grounding")
SEEDS, NUM_QUERIES, POOL = (104, 105, 106), 17, 256
SMALL = (3, 24)
"""Queries a task, and pool, of `--small`."""


def options(description: str | None, *, caches: bool = True) -> argparse.ArgumentParser:
    """Return a parser of the shared options, to which a bench adds its own; `--cache` where it keeps T-CoTs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", help="of the world's test split (104 105 106)")
    parser.add_argument(
        "--tasks", type=lambda names: tuple(names.split(",")), default=TASKS, help="names with commas between (those of images)"
    )
    parser.add_argument("--small", action="store_true", help="few queries, to see that it runs")
    if caches:
        parser.add_argument("--cache", type=Path, help="folder that keeps T-CoTs for the next call")
    return parser


def seeds_of(given: argparse.Namespace) -> list[int]:
    """Return the seeds that were given, or the usual ones; one with `--small`."""
    return given.seeds or list(SEEDS[: 1 if given.small else None])


def sizes_of(given: argparse.Namespace) -> tuple[int, int]:
    """Return the number of queries a task, and of candidates."""
    return SMALL if given.small else (NUM_QUERIES, POOL)


def draw(given: argparse.Namespace, seed: int) -> list[RetrievalTask]:
    """Draw the tasks of a seed."""
    num_queries, pool_size = sizes_of(given)
    return world_tasks(seed=seed, tasks=given.tasks, num_queries=num_queries, pool_size=pool_size)


@contextmanager
def cache_of(given: argparse.Namespace) -> Generator[Cache]:
    """Open the cache of T-CoTs, or one that goes away."""
    with tempfile.TemporaryDirectory() as folder, Cache(given.cache or Path(folder)) as cache:
        yield cache
