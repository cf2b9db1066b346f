"""Scenes of a video: where the image changes for good (Foote's novelty over frame signatures), and windows where nothing cuts."""

# F frames, L lags

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from embedrl.media.content import Video
from embedrl.media.decode import job_of
from embedrl.media.sandbox import pool, reading_answer
from embedrl.media.store import Limits

RATE = 4
"""Frames a second of which signatures are kept."""
NUM_LAGS = 16
_CHANGED = 20
"""A block of a signature counts as changed if a channel of it differs by more than this, of 255."""
_WINDOW_S = 2.0
_PEAK_S = 1.5
"""A cut is a maximum of the novelty within this many seconds, or within the shortest scene if that is shorter."""
_MIN_NOVELTY = 0.10
"""Share of blocks: how much more the frames before and after a cut differ from each other than among themselves."""
_OWN_WEIGHT = 0.5
_MIN_RATIO = 1.3
"""Where everything moves, a novelty is a cut only if both sides differ by this factor more from each other than within themselves."""
_JUMP, _JUMP_RATIO = 0.4, 3.0
"""A cut in motion: the fraction of blocks that change between two frames, and its ratio to the frames around."""
_HARD, _HARD_RATIO = 0.5, 2.0
"""A hard cut: the fraction of blocks that change between two frames, and its ratio to most steps within a second."""
_STAYS = 0.8
"""Fraction of that change that must also be seen one frame earlier and one frame later: a flash passes."""
_STILL = 0.5
"""Inside a short shot each step changes less than this fraction of the cuts around it; the steps of a fade change more."""


class SceneSettings(BaseModel):
    """How a video is divided."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    shortest_split_s: float = Field(default=10.0, gt=0)
    """A video that is shorter is one scene, in seconds."""
    min_scene_s: float = Field(default=2.0, gt=0)
    """Of two changes that are nearer, the clearer one counts, in seconds."""
    min_shot_s: float = Field(default=1.0, gt=0)
    """But a shot between two hard cuts, or between one and an end of the video, is a scene if it is at least so long, in seconds."""
    max_scene_s: float = Field(default=30.0, gt=0)
    """A longer scene is divided into windows of equal length, in seconds."""


class Differences(BaseModel):
    """How the frames of a part of a video differ: what is kept of a scan."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    times_s: tuple[float, ...] = ()
    changes_s: tuple[float, ...] = ()
    lags: tuple[tuple[int, ...], ...] = ()
    """For each frame: blocks (of 256) that changed since the frame before it, the one before that, …"""
    tail: str = ""
    """Signatures of the last frames, hexadecimal: the next part is compared with them."""
    next_s: float | None = 0.0
    """Where the next part begins; None at the end of the file."""
    duration_s: float = 0.0


def scan_part(path: Path, before: Differences, settings: SceneSettings, limits: Limits) -> Differences:
    """Scan the next part of a video, in a child process. Raises MediaError."""
    assert before.next_s is not None
    job = job_of(Video(path=path, start_s=before.next_s), "scan", limits=limits)
    answer = pool().decode({**job, "shortest_s": settings.shortest_split_s}, path, limits)
    with reading_answer(path):
        [picture] = answer.images
        times, changes = (tuple(map(float, answer.head[name])) for name in ("times_s", "changes_s"))
        next_s = None if answer.head["next_s"] is None else float(answer.head["next_s"])
        signatures = np.asarray(picture).reshape(picture.height, -1, 3)[: len(times)]
        if not len(times) == len(changes) == len(signatures) or not (next_s is None or next_s > before.next_s):
            raise ValueError(len(times))
        duration_s = float(answer.head["duration_s"])
    tail = np.frombuffer(bytes.fromhex(before.tail), np.uint8).reshape(-1, *signatures.shape[1:])
    both = np.concatenate([tail, signatures])
    lags = _lags(both)[len(tail) :]
    return Differences(
        times_s=times,
        changes_s=changes,
        lags=tuple(map(tuple, lags.tolist())),
        tail=both[-NUM_LAGS:].tobytes().hex(),
        next_s=next_s,
        duration_s=duration_s,
    )


def _lags(signatures: np.ndarray) -> np.ndarray:
    """Return how many blocks of each frame differ from those of the frames before it: (F, L)."""
    lags_FL = np.zeros((len(signatures), NUM_LAGS), dtype=int)
    for lag in range(1, min(NUM_LAGS, len(signatures) - 1) + 1):
        apart = np.abs(signatures[lag:].astype(np.int16) - signatures[:-lag]).max(axis=-1)
        lags_FL[lag:, lag - 1] = (apart > _CHANGED).sum(axis=-1)
    return lags_FL


def scenes(parts: Sequence[Differences], settings: SceneSettings) -> list[tuple[float, float]]:
    """Return (start, end) of each scene in seconds; one that spans all for a video that is short, or in which nothing changes for good."""
    duration_s = parts[-1].duration_s
    if duration_s < settings.shortest_split_s:
        return [(0.0, duration_s)]
    borders = [0.0, *find_cuts(parts, settings), duration_s]
    spans: list[tuple[float, float]] = []
    for start, end in pairwise(borders):
        number = math.ceil((end - start) / settings.max_scene_s - 1e-9)
        steps = [round(start + (end - start) * step / number, 6) for step in range(number + 1)]
        spans += pairwise(steps)
    return spans


def find_cuts(parts: Sequence[Differences], settings: SceneSettings) -> list[float]:
    """Return the times at which another scene begins, in seconds.

    A cut is where the frames of two seconds before and after it differ more from each other than among themselves: the novelty of a
    self-similarity matrix (Foote 2000), here in blocks that changed. It holds for fades as well, whose middle is returned. Scenes last
    `min_scene_s`; a shot between hard cuts may be as short as `min_shot_s`.
    """
    times = np.array([time for part in parts for time in part.times_s])
    changes = [time for part in parts for time in part.changes_s]
    lags_FL = np.array([row for part in parts for row in part.lags], dtype=float).reshape(len(times), NUM_LAGS) / 256
    novelty = np.zeros(len(times))
    for at in range(1, len(times)):
        novelty[at] = _novelty(times, lags_FL, at)
    hard = {at for at in np.flatnonzero(lags_FL[:, 0] >= _HARD).tolist() if _is_hard(lags_FL, at)}
    near_s, shot_s = min(_PEAK_S, settings.min_scene_s), min(settings.min_shot_s, settings.min_scene_s)
    peaks = [
        at
        for at in np.flatnonzero(novelty >= _MIN_NOVELTY).tolist()
        if at in hard or novelty[at] >= novelty[_near(times, at, near_s)].max()
    ]

    def are_apart(at: int, other: int) -> bool:
        apart_s = abs(times[at] - times[other])
        if apart_s >= settings.min_scene_s:
            return True
        inside = lags_FL[min(at, other) + 1 : max(at, other), 0]
        is_still = len(inside) > 0 and inside.max() < _STILL * min(lags_FL[at, 0], lags_FL[other, 0])
        return is_still and apart_s >= shot_s and at in hard and other in hard

    chosen: list[int] = []
    for at in sorted(peaks, key=lambda at: -novelty[at]):
        if all(are_apart(at, other) for other in chosen):
            chosen.append(at)
    ends_s = {at: shot_s if at in hard else settings.min_scene_s for at in chosen}
    return [changes[at] for at in sorted(chosen) if ends_s[at] <= changes[at] <= parts[-1].duration_s - ends_s[at]]


def _is_hard(lags_FL: np.ndarray, at: int) -> bool:
    """Say whether a frame is the first of another shot by itself: its change is much larger than those around it, and lasts."""
    around = np.concatenate([lags_FL[max(at - RATE, 1) : at, 0], lags_FL[at + 1 : at + 1 + RATE, 0]])
    change = lags_FL[at, 0]
    since = [lags_FL[at, 1]] if at > 1 else []
    since += [lags_FL[at + 1, 1]] if at + 1 < len(lags_FL) else []
    return len(around) > 0 and change >= _HARD_RATIO * np.median(around) and all(later >= _STAYS * change for later in since)


def _near(times: np.ndarray, at: int, near_s: float) -> slice:
    return slice(int(np.searchsorted(times, times[at] - near_s)), int(np.searchsorted(times, times[at] + near_s, "right")))


def _novelty(times: np.ndarray, lags_FL: np.ndarray, at: int) -> float:
    first = max(at - NUM_LAGS // 2, int(np.searchsorted(times, times[at] - _WINDOW_S - 1e-6)), 0)
    last = min(at + NUM_LAGS // 2, int(np.searchsorted(times, times[at] + _WINDOW_S - 1e-6)), len(times))
    first, last = min(first, at - 1), max(last, at + 1)

    def mean(laters: range, earliers: Callable[[int], range]) -> float:
        values = [lags_FL[later, later - earlier - 1] for later in laters for earlier in earliers(later) if later - earlier <= NUM_LAGS]
        return float(np.mean(values)) if values else 0.0

    across = mean(range(at, last), lambda _: range(first, at))
    own = (mean(range(first, at), lambda later: range(first, later)) + mean(range(at, last), lambda later: range(at, later))) / 2
    if across >= _MIN_RATIO * own:
        return across - _OWN_WEIGHT * own
    steps = lags_FL[first + 1 : last, 0]
    others = (steps.sum() - lags_FL[at, 0]) / max(len(steps) - 1, 1)
    return across - _OWN_WEIGHT * own if lags_FL[at, 0] >= max(_JUMP, _JUMP_RATIO * others) else 0.0
