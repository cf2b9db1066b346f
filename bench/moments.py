"""Moments in films and passages in texts: boundary F1 against known cuts, and retrieval of a moment beside separate clips and whole files.

    python bench/moments.py [clips of a film] [seed]

Films are clips of the world, joined by hard cuts or by fades of one second, or one clip that is held (no cuts). Queries are captions;
plain vectors of the nano Embedder. Intervals are bootstraps over cuts, or over queries, 2,000 resamples.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from embedrl.data.records import Records
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.index.units import Divider, Splitting
from embedrl.log import result, table
from embedrl.media.content import Text
from embedrl.media.store import Limits
from embedrl.media.video import save_video
from embedrl.runtime.names import load_embedder
from embedrl.world.clips import FPS, Clip, sample_clip
from embedrl.world.wording import caption

TOLERANCE_S = {"hard": 0.5, "fade": 1.0, "none": 0.5}
FADE_FRAMES = int(FPS)
NUM_RESAMPLES = 2000


def main(num_clips: int = 75, seed: int = 0) -> None:
    """Print the figures."""
    rng = random.Random(seed)
    clips = [sample_clip(rng, "test") for _ in range(num_clips)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        spans: dict[str, list[tuple[float, float]]] = {}
        for kind in TOLERANCE_S:
            path = folder / kind / "film.mp4"
            path.parent.mkdir()
            spans[kind] = write_film(path, clips, kind)
            rows.append(boundaries(path, spans[kind], kind))
        table(f"Boundaries, films of {num_clips} clips", ("film", "cuts", "found", "precision", "recall", "F1 (95 %)"), rows)
        moments(folder, clips, spans["hard"], rng)


def write_film(path: Path, clips: Sequence[Clip], kind: str) -> list[tuple[float, float]]:
    """Write a film and return the span of each clip in it, in seconds."""
    images: list[PIL.Image.Image] = []
    spans = []
    for clip in clips[:1] * len(clips) if kind == "none" else clips:
        frames = list(clip.frames().images)
        if kind == "none":
            frames = frames[:1] * len(frames)
        if kind == "fade" and images:
            images += [PIL.Image.blend(images[-1], frames[0], step / (FADE_FRAMES + 1)) for step in range(1, FADE_FRAMES + 1)]
        spans.append((len(images) / FPS, (len(images) + len(frames)) / FPS))
        images += frames
    save_video(images, path, FPS)
    return spans if kind != "none" else [(0.0, len(images) / FPS)]


def boundaries(path: Path, spans: Sequence[tuple[float, float]], kind: str, splitting: Splitting | None = None) -> tuple[str, ...]:
    """Compare the scenes that are found with the cuts that were made; windows of a film without cuts are no boundaries."""
    times = find_boundaries(path, splitting)
    found = times if kind != "none" else []
    cuts = [start for start, _ in spans[1:]]
    is_right = np.array([min((abs(time - cut) for cut in cuts), default=np.inf) <= TOLERANCE_S[kind] for time in found])
    is_found = np.array([min((abs(time - cut) for time in found), default=np.inf) <= TOLERANCE_S[kind] for cut in cuts])
    if kind == "none":
        return kind, "0", str(len(times)), "", "", f"{len(times) + 1} windows, no scene cut"
    precision, recall = is_right.mean(), is_found.mean()
    draws = np.random.default_rng(0)
    resampled = []
    for _ in range(NUM_RESAMPLES):
        p = is_right[draws.integers(len(is_right), size=len(is_right))].mean()
        r = is_found[draws.integers(len(is_found), size=len(is_found))].mean()
        resampled.append(2 * p * r / max(p + r, 1e-9))
    low, high = np.percentile(resampled, [2.5, 97.5])
    f1 = 2 * precision * recall / (precision + recall)
    return kind, str(len(cuts)), str(len(found)), f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f} ({low:.3f} to {high:.3f})"


def find_boundaries(path: Path, splitting: Splitting | None = None) -> list[float]:
    """Return the times at which scenes begin, in seconds, but for the first."""
    with Records(path.with_suffix(".jsonl")) as scans:
        units = Divider(splitting or Splitting(), Limits(), scans).units(path, "video")
    return [unit.start_s or 0.0 for unit in units if unit.number and unit.number > 1]


def moments(folder: Path, clips: Sequence[Clip], spans: Sequence[tuple[float, float]], rng: random.Random) -> None:
    """Find each clip by its caption: in the film's scenes, among separate clips, and by the film's one vector."""
    embedder = load_embedder("nano")
    separate = folder / "separate"
    for number, clip in enumerate(clips):
        save_video(clip.frames(), separate / f"{number:04}.mp4", FPS)
    indexes = {}
    for name in ("hard", "separate"):
        indexes[name] = Index.open(folder / name, embedder=embedder)
        report = ingest(folder / name, indexes[name], None, embedder, think=False)
        result(f"{name}: {report.added} units, {report.seconds['total']:.1f} s")
    captions = [caption(rng, clip.truth())[0] for clip in clips]
    hits = {name: np.zeros(len(clips), dtype=bool) for name in ("scenes", "separate clips", "whole film")}
    for number, (text, span) in enumerate(zip(captions, spans, strict=True)):
        query = Query((Text(text=text),), filter=Filter(modality=("video",)), use_tcot=False, unit="unit", limit=2)
        scene = next(hit for hit in search(indexes["hard"], query, embedder).hits if hit.unit)
        hits["scenes"][number] = iou((scene.start_s or 0.0, scene.end_s or 0.0), span) >= 0.5
        hits["whole film"][number] = iou((spans[0][0], spans[-1][1]), span) >= 0.5
        hits["separate clips"][number] = search(indexes["separate"], query, embedder).hits[0].path.stem == f"{number:04}"
    rows = [(name, f"{values.mean():.3f}", interval(values)) for name, values in hits.items()]
    difference = hits["scenes"].astype(float) - hits["separate clips"]
    rows.append(("scenes - separate clips", f"{difference.mean():+.3f}", interval(difference)))
    table(f"Text to moment: hit@1 with IoU >= .5, {len(clips)} captions", ("candidates", "hit@1", "95 %"), rows)


def interval(values: np.ndarray) -> str:
    """Return the bootstrap interval of a mean, over queries."""
    draws = np.random.default_rng(0).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"


def iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return intersection over union of two spans."""
    shared = max(min(one[1], other[1]) - max(one[0], other[0]), 0.0)
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
