"""The wheel as strangers have it: its commands find their models, recipes and page, with no repository around them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "src")


class Installed:
    """A virtual environment with the wheel in it; what it depends on is that of these tests. `folder` is an empty working directory."""

    def __init__(self, folder: Path):
        wheel = build_wheel(folder / "build")
        environment, self.folder = folder / "venv", folder / "work"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        [packages] = environment.glob("lib/python*/site-packages")
        shutil.unpack_archive(wheel, packages, "zip")
        # A folder that a .pth file adds is not searched for further .pth files: an editable embedrl in there stays out.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        self.packages, self.python = packages, environment / "bin" / "python"

    def command(self, *words: object) -> list[str]:
        return [str(self.python), "-c", "from embedrl.cli.main import main; main()", *map(str, words)]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources, without a network."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, source / name)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_wheel_has_all_that_is_no_module(installed: Installed) -> None:
    package = ROOT / "src" / "embedrl"
    names = subprocess.run(["git", "ls-files", "-z", "."], cwd=package, capture_output=True, text=True, check=True).stdout.split("\0")
    assert [name for name in names if name and (package / name).is_file() and not (installed.packages / "embedrl" / name).is_file()] == []
    [metadata] = installed.packages.glob("embedrl-*.dist-info")
    assert "embedrl = embedrl.cli.main:main" in (metadata / "entry_points.txt").read_text("utf-8")
    assert "Project-URL: " in (metadata / "METADATA").read_text("utf-8")


@pytest.mark.slow
def test_a_stranger_indexes_searches_and_serves(installed: Installed) -> None:
    where = "import embedrl; print(embedrl.__file__)"
    home = subprocess.run(
        [installed.python, "-c", where], cwd=installed.folder, capture_output=True, text=True, env=installed.environment()
    )
    assert Path(home.stdout.strip()).is_relative_to(installed.packages)
    assert "--live-steps" in installed.run("quickstart", "--help").stdout
    installed.run("world", "make", "library", "--pairs", 1, "--seed", 1)
    installed.run("index", "library")
    hits = json.loads(installed.run("search", "a red circle", "--index", "library", "--top", 3, "--json").stdout)["hits"]
    assert hits, "nothing was indexed"
    server = subprocess.Popen(
        installed.command("serve", "--index", "library", "--port", 0),
        cwd=installed.folder,
        env=installed.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stderr is not None
        url = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with urllib.request.urlopen(f"{url}/", timeout=60) as answer:
            page = answer.read().decode()
        script = re.search(r'src="/?([^"]+\.js[^"]*)"', page)
        assert script is not None
        with urllib.request.urlopen(f"{url}/{script[1]}", timeout=60) as answer:
            assert answer.status == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


@pytest.mark.slow
def test_recipes_are_named_as_the_documents_name_them(installed: Installed) -> None:
    assert "memory" in installed.run("train", "reasoner", "recipes/nano/reasoner.toml", "--plan").stdout
    missing = installed.run("train", "embedder", "recipes/nano/nowhere.toml", code=2)
    assert "nano/embedder.toml" in missing.stderr


def test_a_file_comes_before_the_shipped_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedrl.config import load_recipe
    from embedrl.nano.recipes import JudgeRecipe

    monkeypatch.chdir(tmp_path)
    assert load_recipe(Path("nano/judge.toml"), [], JudgeRecipe).num_batches > 7
    (tmp_path / "nano").mkdir()
    (tmp_path / "nano/judge.toml").write_text('out = "o"\nstart_from = "s"\nnum_batches = 7\n')
    assert load_recipe(Path("nano/judge.toml"), [], JudgeRecipe).num_batches == 7
