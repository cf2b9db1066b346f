"""bench/gpu.py: the same script as on an accelerator, on a tiny model on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench" / "gpu.py"


@pytest.mark.slow
def test_all_of_it_runs_on_a_tiny_model_and_prints_one_table():
    done = subprocess.run([sys.executable, str(BENCH), "--tiny"], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    table, _, told = done.stdout.partition("\n{")
    figures = json.loads("{" + told)["figures"]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == len(figures) + 1
    measures = {figure["measure"].split(",")[0] for figure in figures}
    assert {"contrastive step", "3 T-CoTs", "reward", "bulk embedding", "int8 beside bf16"} <= measures
    assert not [figure for figure in figures if figure["way"] == "not run"]
    assert all(figure["value"] > 0 for figure in figures)
    for measure in ("reward, 2 groups of 8", "bulk embedding"):
        ways = [figure for figure in figures if figure["measure"] == measure]
        assert ways[-1]["times"] == 1
        assert all("cosine" in figure["note"] for figure in ways[1:])
