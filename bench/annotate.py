"""Annotate and filter text pairs with the fake Reasoner, killed ten times on the way: what is left, how fast, in how much memory.

`python bench/annotate.py --full` does 100,000 pairs, `python bench/annotate.py 5000` so many. Each run is a process of its own, forked
from one that has the imports done. The killed run must leave, sorted, the same bytes as the uninterrupted one, no pair lost and none
twice.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from embedrl.annotate.filter import filter_pairs
from embedrl.log import result, table
from embedrl.pipelines.annotate import annotate_source
from embedrl.testing import COLOURS, FakeJudge

SIZES = {"": 2_000, "--full": 100_000}
NUM_KILLS = 10
MADE = ("pairs.jsonl", "tcots.jsonl", "contrastive.jsonl", "rl.jsonl", "rejected.jsonl")
THINGS = ("tractor", "kettle", "harbour", "violin", "glacier", "lantern", "orchard", "compass")


def main(option: str = "") -> None:
    """Run, kill, compare and write the table; ends with an error if the killed run left anything else."""
    num_pairs = SIZES.get(option) or int(option)
    folder = Path(tempfile.mkdtemp(prefix="annotate-"))
    try:
        write_pairs(folder / "pairs.jsonl", num_pairs)
        whole_s, whole_mb = finish(start(folder, "whole"))
        killed_s, killed_mb, num_killed = kill_and_finish(folder, whole_s)
        filter_s, filter_mb = finish(start(folder, "whole", filtering=True))
        finish(start(folder, "killed", filtering=True))
        lines = compare(folder, num_pairs)
    finally:
        shutil.rmtree(folder)
    rows = [
        ["annotate", f"{whole_s:.1f}", f"{2 * num_pairs / whole_s:,.0f}", f"{whole_mb:,.0f}"],
        [f"annotate, killed {num_killed} times", f"{killed_s:.1f}", f"{2 * num_pairs / killed_s:,.0f}", f"{killed_mb:,.0f}"],
        ["filter", f"{filter_s:.1f}", f"{2 * num_pairs / filter_s:,.0f}", f"{filter_mb:,.0f}"],
    ]
    table(f"{num_pairs:,} pairs of texts", ["work", "seconds", "items/s", "peak MB of a process"], rows)
    result(f"sorted, both runs left the same bytes: {', '.join(f'{name} {count:,} lines' for name, count in lines.items())}")


def write_pairs(path: Path, num_pairs: int) -> None:
    """Write pairs with distinct texts; in one of ten the target is of another colour and thing than the query."""
    rng = random.Random(0)
    colours = list(COLOURS)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_pairs):
            query = f"{rng.choice(colours)} {rng.choice(THINGS)} {number}"
            target = f"{rng.choice(colours)} {rng.choice(THINGS)} elsewhere" if number % 10 == 0 else query
            file.write(
                f'{{"task": "texts", "query": {{"text": "find a {query}"}}, "target": {{"text": "here is the {target}, {number}"}}}}\n'
            )


def start(folder: Path, name: str, *, filtering: bool = False) -> int:
    """Annotate into a folder, or filter it, in a process of its own; return its id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        if filtering:
            filter_pairs(folder / name, FakeJudge())
        else:
            annotate_source("lines", folder / "pairs.jsonl", folder / name, "fake", batch_size=256)
        code = 0
    finally:
        os._exit(code)


def finish(pid: int) -> tuple[float, float]:
    """Wait for a process; return its seconds and its peak memory in MB."""
    began = time.perf_counter()
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, f"a run ended with {status}"
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def kill_and_finish(folder: Path, whole_s: float) -> tuple[float, float, int]:
    """Kill a run ten times, at moments spread over it, then let it end; return the seconds in all, peak MB, and kills that hit."""
    rng, num_killed, began = random.Random(1), 0, time.perf_counter()
    for _ in range(NUM_KILLS):
        pid = start(folder, "killed")
        time.sleep(rng.uniform(0.3, 1.5) * whole_s / (NUM_KILLS + 1))
        os.kill(pid, signal.SIGKILL)
        num_killed += os.waitpid(pid, 0)[1] != 0
    _, peak_mb = finish(start(folder, "killed"))
    return time.perf_counter() - began, peak_mb, num_killed


def compare(folder: Path, num_pairs: int) -> dict[str, int]:
    """Return how many lines each file has. Fails if the two runs differ, or if a pair is missing or there twice."""
    counts = {}
    for name in MADE:
        whole, killed = (sorted((folder / run / name).read_bytes().splitlines()) for run in ("whole", "killed"))
        assert whole == killed, f"{name} differs"
        assert len(set(whole)) == len(whole), f"{name} has a line twice"
        counts[name] = len(whole)
    assert counts["pairs.jsonl"] == num_pairs, counts
    assert counts["tcots.jsonl"] == 2 * num_pairs, counts
    assert counts["contrastive.jsonl"] + counts["rl.jsonl"] + counts["rejected.jsonl"] == num_pairs, counts
    assert counts["rl.jsonl"], counts
    assert counts["rejected.jsonl"], counts
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
