"""The tutorials run as notebooks, and the notebooks are the tutorials."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import load_script

notebooks = load_script("docs/notebooks.py")

RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "executed.ipynb")
"""


def test_the_notebooks_are_written_from_the_tutorials() -> None:
    tutorials = notebooks.tutorials()
    assert sorted(path.name for path in notebooks.FOLDER.glob("*.ipynb")) == sorted(tutorials)
    for name, path in tutorials.items():
        assert (notebooks.FOLDER / name).read_text("utf-8") == notebooks.written(path), f"run `make notebooks`: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks.tutorials())
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_HUB_OFFLINE": "1", "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(notebooks.FOLDER / name)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / "executed.ipynb").read_text("utf-8"))["cells"]
    printed = ["".join(output.get("text", "")) for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert any(text.strip() for text in printed)
    assert "Traceback" not in "".join(printed)
