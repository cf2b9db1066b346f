"""Robustness of T-CoTs and retrieval to perturbed media: JPEG, noise, resizing, re-encoding, shifts, a rotation, a border."""

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from embedrl.data.sample import Item
from embedrl.errors import ConfigError
from embedrl.evaluation.bootstrap import Figure, mean_figure
from embedrl.evaluation.evaluate import SystemResult, evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.media.content import Frames, Part, Video, map_images
from embedrl.media.decode import load_visual
from embedrl.media.video import save_video
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.world.claims import claims_of
from embedrl.world.clips import FPS
from embedrl.world.geometry import Geometry

JPEG_QUALITY, NOISE, RESIZED, ANGLE, BORDER = 50, 8.0, 0.5, 3.0, 0.1
"""Quality; standard deviation in grey levels; share of the side; degrees; share of the side."""
COLUMNS = ("Reasoner", "media", "hit@1", "minus clean", "claims right, of those made", "queries (families)")

Change = Callable[[PIL.Image.Image, int], PIL.Image.Image]
"""(an image, its number among the frames of a video) -> the image perturbed, of the same size."""


def _jpeg(image: PIL.Image.Image, _: int) -> PIL.Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return PIL.Image.open(file).convert("RGB")


def _noise(image: PIL.Image.Image, number: int) -> PIL.Image.Image:
    noise = np.random.default_rng(number).normal(0, NOISE, (image.height, image.width, 3))
    return PIL.Image.fromarray((np.asarray(image, np.float64) + noise).round().clip(0, 255).astype(np.uint8))


def _resize(image: PIL.Image.Image, _: int) -> PIL.Image.Image:
    small = round(image.width * RESIZED), round(image.height * RESIZED)
    return image.resize(small, PIL.Image.Resampling.BICUBIC).resize(image.size, PIL.Image.Resampling.BICUBIC)


def _move(image: PIL.Image.Image, _: int, *, pixels: int = 0, angle: float = 0.0, border: float = 0.0) -> PIL.Image.Image:
    return Geometry(angle, border, pixels / image.width, pixels / image.height).image(image)


PERTURBATIONS: dict[str, Change] = {
    f"JPEG, quality {JPEG_QUALITY}": _jpeg,
    f"noise, {NOISE:g} grey levels": _noise,
    "half the size and back": _resize,
    "shifted by 2 pixels": partial(_move, pixels=2),
    "shifted by 4 pixels": partial(_move, pixels=4),
    f"rotated by {ANGLE:g} degrees": partial(_move, angle=ANGLE),
    f"a border of {BORDER:.0%}": partial(_move, border=BORDER),
}
RE_ENCODED = "video re-encoded"
"""Frames through H.264 and back; stills and pages stay as they are."""
CLEAN = "clean"


class Robustness(NamedTuple):
    """A Reasoner on media perturbed in one way: means over tasks, with 95 % intervals over families of queries."""

    name: str
    media: str
    hits: Figure
    change: Figure
    """hit@1 minus that on clean media, query by query."""
    right: Figure | None
    """Share of the claims made that are right; None where there are none."""
    num_queries: int
    num_families: int


def measure_robustness(
    reasoners: Sequence[str],
    embedder: str,
    *,
    world: str = "roomy",
    tasks: Sequence[str] = (),
    num_queries: int = 20,
    pool_size: int = 256,
    seed: int = 0,
    media: Sequence[str] = (),
) -> list[Robustness]:
    """Evaluate Reasoners by name on the held-out split, all media of queries and candidates perturbed alike, one way at a time.

    `media` are names of `PERTURBATIONS` or `RE_ENCODED`; none: all. Raises ConfigError for another name.
    """
    known = [*PERTURBATIONS, RE_ENCODED]
    if unknown := [name for name in media if name not in known]:
        raise ConfigError(f"media={unknown[0]!r}: choose from {', '.join(known)}")
    clean = world_tasks(seed=seed, tasks=tasks, num_queries=num_queries, pool_size=pool_size, world=world)
    embeds, score = load_embedder(embedder), claims_of(world)
    rows = []
    for name in reasoners:
        reasoner = load_reasoner(name)
        before = evaluate(clean, embeds, name=f"{name}, {CLEAN}", reasoner=reasoner, claims=score)
        rows.append(_row(name, CLEAN, before, before, seed))
        for way in media or known:
            after = evaluate(perturbed(clean, way), embeds, name=f"{name}, {way}", reasoner=reasoner, claims=score)
            rows.append(_row(name, way, before, after, seed))
    return rows


def perturbed(tasks: Sequence[RetrievalTask], media: str) -> list[RetrievalTask]:
    """Return the tasks with all media perturbed; texts, truths and relevance are the same, keyed by the new items."""
    made: dict[str, Item] = {}

    def item(old: Item) -> Item:
        if old.key not in made:
            content = tuple(_perturb(part, media) for part in old.content)
            made[old.key] = Item(content=content, instruction=old.instruction, role=old.role)  # a copy would keep the old key
        return made[old.key]

    changed_tasks = []
    for task in tasks:
        queries, candidates = (tuple(map(item, side)) for side in (task.queries, task.candidates))
        key = {old.key: item(old).key for old in task.items.values()}
        relevant = tuple({key[old]: grade for old, grade in row.items()} for row in task.relevant)
        truths, statements = ({key[old]: value for old, value in table.items()} for table in (task.truths, task.statements))
        changed_tasks.append(replace(task, queries=queries, candidates=candidates, relevant=relevant, truths=truths, statements=statements))
    return changed_tasks


def _reencoded(frames: Frames) -> Frames:
    """Write frames as a video file and read them back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        save_video(frames, path, FPS)
        images = load_visual(Video(path=path), num_frames=len(frames.images))
        assert isinstance(images, Frames)
        return images


def _perturb(part: Part, media: str) -> Part:
    if media == RE_ENCODED:
        return Video(frames=_reencoded(part.frames)) if isinstance(part, Video) and part.frames else part
    return map_images(part, PERTURBATIONS[media])


def table_rows(rows: Sequence[Robustness]) -> list[list[str]]:
    """Return rows of a console table, in the order of `COLUMNS`."""
    return [
        [
            row.name,
            row.media,
            row.hits.text(),
            row.change.text("+.3f"),
            row.right.text() if row.right else "",
            f"{row.num_queries} ({row.num_families})",
        ]
        for row in rows
    ]


def _row(name: str, media: str, clean: SystemResult, result: SystemResult, seed: int) -> Robustness:
    families = {task.name: task.families for task in clean.tasks}
    hits = {task.name: task.figures["hit@1"] for task in result.tasks}
    changes = {task.name: hits[task.name] - task.figures["hit@1"] for task in clean.tasks}
    right = {task.name: task.figures["claims/precision"] for task in result.tasks}
    size = sum(map(len, hits.values())), sum(task.num_families for task in clean.tasks)
    mean_hits, mean_right = (mean_figure(column, families, seed=seed, bounds=(0.0, 1.0)) for column in (hits, right))
    change = mean_figure(changes, families, seed=seed, bounds=(-1.0, 1.0))
    assert mean_hits is not None
    assert change is not None
    return Robustness(name, media, mean_hits, change, mean_right, *size)
