"""An evaluation that is killed at any moment and started again gives the report of one that was not.

The children are forked from one fresh process that has the imports done, so that twenty kills take seconds.
"""

from pathlib import Path

import pytest

from tests.forking import drive

DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path

from embedrl.pipelines.benchmark import BenchmarkRun, evaluate_files
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.testing import COLOURS, FakeEmbedder, FakeReasoner
from tests.forking import finish, fork
from tests.official_files import official, uvrb

ROOT, NUM_QUERIES, BATCH = Path(sys.argv[1]), 900, 64
NAMES = list(COLOURS)
LOG = ROOT / "reasoned"


class LoggingReasoner(FakeReasoner):
    def reason(self, items):
        with LOG.open("a") as file:
            file.writelines(item.key + "\\n" for item in items)
        return super().reason(items)


def run(out: Path) -> None:
    benchmark = official("uvrb", NUM_QUERIES)
    tasks = list(read_tasks(benchmark, ROOT / "data"))
    evaluate_files(BenchmarkRun(benchmark="small"), benchmark, tasks, LoggingReasoner(sleep_s=0.004), FakeEmbedder(), out)


def left(out: Path) -> dict[str, str]:
    files = {str(path.relative_to(out)): path.read_text() for path in sorted(out.rglob("*_*.json*"))}
    report = json.loads((out / "report.json").read_text())
    return files | {"report": json.dumps({key: value for key, value in report.items() if not key.startswith("seconds")})}


rng = random.Random(0)
queries = [{"id": f"q{row}", "text": f"clip {row} is {rng.choice(NAMES)}"} for row in range(NUM_QUERIES)]
uvrb(ROOT / "data", queries=queries, instances=[{"qid": f"q{row}", "pos": [f"d{1 + row % 2}"]} for row in range(NUM_QUERIES)])
finish(fork(lambda: run(ROOT / "whole")))
LOG.unlink()
num_killed = 0
for step in range(20):
    pid = fork(lambda: run(ROOT / "killed"))
    time.sleep(rng.uniform(0.0, 0.6))
    os.kill(pid, signal.SIGKILL)
    num_killed += os.waitpid(pid, 0)[1] != 0
finish(fork(lambda: run(ROOT / "killed")))
assert left(ROOT / "killed") == left(ROOT / "whole")
keys = LOG.read_text().split()
assert len(set(keys)) == NUM_QUERIES + 2
# A kill loses at most the batch under way.
assert len(keys) - len(set(keys)) <= BATCH * num_killed, (len(keys), num_killed)
sys.stdout.write(f"{num_killed} killed")
"""


@pytest.mark.slow
def test_twenty_kills_change_nothing_but_the_times(tmp_path: Path):
    said = drive(DRIVER, str(tmp_path))
    assert int(said.split()[0]) >= 5, f"most kills came too late to matter: {said}"
