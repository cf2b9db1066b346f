"""Processes for tests of several, and of what a kill leaves: a driver in a fresh process, and children forked with the imports done."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def drive(code: str, *arguments: str, timeout_s: float = 900) -> str:
    """Run a driver, which may import the tests' own files, and return what it printed. Its failure fails the test."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def fork(work: Callable[[], None]) -> int:
    """Do something in a child; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def finish(pid: int) -> None:
    """Wait for a child that has to end well."""
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"a child ended with {status}"


def check_opens(folder: Path) -> None:
    """Check that an index opens, that a search of it answers, and that no unit is in it twice."""
    from embedrl.index.index import Index
    from embedrl.index.query import Query
    from embedrl.index.search import search
    from embedrl.media.content import Text
    from embedrl.testing import FakeEmbedder

    index = Index.open(folder, embedder=FakeEmbedder())
    ids = [place.id for place in index.places()]
    assert len(ids) == len(set(ids)), "a unit is there twice"
    if ids:
        assert search(index, Query((Text(text="red rain"),), use_tcot=False, limit=3), FakeEmbedder()).hits
