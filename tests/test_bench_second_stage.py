"""The scripts that measure the second stage run, on a few queries."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "shown"), [("fusion.py", "a caption, with another note's name"), ("rerank.py", "nano-judge, as it was trained")]
)
def test_a_script_prints_its_table(script: str, shown: str) -> None:
    done = subprocess.run([sys.executable, str(BENCH / script), "--small"], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert shown in done.stdout
