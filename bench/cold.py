"""Processor time of commands that start anew: a cold search with the nano models, and help.

    python bench/cold.py [runs]

Seconds of user and system time together, of all threads; the least of the runs counts, since other work on the machine only adds. A search
beside a running server of the same index asks it instead, and loads nothing.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from embedrl.log import table
from embedrl.world.write import make_world

EMBEDRL = "import sys; sys.argv[0] = 'embedrl'; from embedrl.cli.main import main; main()"
LIMITS_S = {"search": 6.0, "--help": 0.5}


def main(num_runs: int = 3) -> None:
    """Print the seconds beside the limits."""
    with tempfile.TemporaryDirectory() as name:
        make_world(Path(name), num_pairs=3, seed=1)
        spent("index", name, "--reasoner", "nano", "--embedder", "nano")
        commands = {"search": ("search", "a red star", "--index", name), "--help": ("--help",)}
        rows = []
        for title, words in commands.items():
            least = min(spent(*words) for _ in range(num_runs))
            rows.append((title, f"{least:.2f}", f"{LIMITS_S[title]:g}"))
    table(f"Processor seconds of a cold command, least of {num_runs}", ("command", "seconds", "wanted at most"), rows)


def spent(*words: str) -> float:
    """Run a command and return its processor time, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", EMBEDRL, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
