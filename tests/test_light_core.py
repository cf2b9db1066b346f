"""What `pip install embedrl` brings is enough to index and search; what needs an extra says which."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import embedrl
from embedrl.cli.arguments import EXTRAS

ROOT = Path(__file__).parents[1]
ABSENT = re.compile("|".join([*EXTRAS, "sklearn", "scikit_learn", "scipy"]))
RUN = """
import json, sys
from embedrl.cli.main import main

for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        print("exit", end.code or 0, "with torch" if "torch" in sys.modules else "")
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the installed packages, without those that only extras bring."""
    folder = tmp_path_factory.mktemp("packages")
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if not ABSENT.match(installed.name):
            (folder / installed.name).symlink_to(installed)
    return folder


def run(packages: Path, *commands: list[str]) -> tuple[str, str]:
    """Run commands in a process that has these packages alone."""
    paths = [str(Path(embedrl.__file__).parents[1]), str(packages)]
    process = subprocess.run(
        [sys.executable, "-S", "-c", RUN, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


@pytest.mark.slow
def test_the_core_indexes_and_searches(packages: Path, tmp_path: Path):
    (tmp_path / "note.txt").write_text("a red star")
    index = ["index", str(tmp_path), "--reasoner", "nano", "--embedder", "nano"]
    out, err = run(packages, index, ["search", "a red star", "--index", str(tmp_path), "--json"])
    assert out.count("exit 0") == 2, err
    assert '"path": "note.txt"' in out


def test_what_needs_an_extra_names_it_at_once(packages: Path, tmp_path: Path):
    recipes = [["train", kind, f"nano/{kind}.toml", f"out={tmp_path / kind}"] for kind in ("embedder", "reasoner")]
    out, err = run(packages, ["quickstart", "--out", str(tmp_path / "demo")], *recipes)
    assert out.count("exit 2") == 3, err
    assert err.count("pip install 'embedrl[train]'") == 3
    assert "torch" not in out  # it is said before anything heavy is imported
    assert list(tmp_path.iterdir()) == []


def test_the_extras_exist_and_bring_what_is_said():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package.replace("_", "-")) for line in extras[extra])
