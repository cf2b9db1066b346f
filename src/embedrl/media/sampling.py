"""Frame sampling: evenly over time, also at a variable frame rate."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from embedrl.errors import MediaError
from embedrl.media.content import Frames, Video
from embedrl.media.image import to_rgb


def sample(times_s: Sequence[float], end_s: float, start_s: float, stop_s: float | None, num_frames: int | None) -> list[int]:
    """Choose frames (0-based, increasing) evenly over the time from `start_s` to `stop_s`; `end_s` is the end of the last frame.

    A frame belongs to the span if it appears inside it; a span in which no frame appears has the frame on screen at its start.
    """
    stop = end_s if stop_s is None else stop_s
    if not (math.isfinite(start_s) and math.isfinite(stop) and 0 <= start_s < stop):
        raise MediaError(f"the span {start_s} s to {stop} s is empty; give 0 <= start_s < end_s")
    if start_s >= end_s:
        raise MediaError(f"the span starts at {start_s} s, but the video ends at {end_s:.3f} s")
    stop = min(stop, end_s)
    # Half a microsecond of slack: times in seconds are rounded from whole ticks.
    first, last = bisect_left(times_s, start_s - 5e-7), bisect_left(times_s, stop - 5e-7)
    if first == last:
        return [max(first - 1, 0)]
    if num_frames is None or last - first <= num_frames:
        return list(range(first, last))
    start = max(start_s, times_s[first])
    chosen: list[int] = []
    for number in range(num_frames):
        middle = start + (number + 0.5) * (stop - start) / num_frames
        on_screen = bisect_right(times_s, middle + 5e-7) - 1
        lowest = chosen[-1] + 1 if chosen else first
        chosen.append(min(max(on_screen, lowest), last - (num_frames - number)))
    return chosen


def end_of(times: Sequence[float]) -> float:
    """Estimate the end of the last frame, from the median frame duration."""
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    return times[-1] + (gaps[len(gaps) // 2] if gaps and gaps[len(gaps) // 2] > 0 else 1.0)


def frames_in_memory(video: Video, num_frames: int | None) -> Frames:
    """Sample frames of a video in memory."""
    frames = video.frames
    assert frames is not None
    chosen = sample(frames.times_s, end_of(frames.times_s), video.start_s, video.end_s, num_frames)
    return Frames(tuple(to_rgb(frames.images[index]) for index in chosen), tuple(float(frames.times_s[index]) for index in chosen))
