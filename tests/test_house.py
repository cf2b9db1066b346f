"""House rules that no linter knows: what may be imported, how long files are, what must not be in the repository."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import embedrl

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "src").rglob("*.py"))
MAX_LINES = 400
NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "misc", "tools"}
"""Names for modules that nobody found a noun for."""

FORBIDDEN = {
    "a path of some machine": (r"(?<![\w.])/(?:work|root|home|Users|opt)/\w", "open('/Users/someone/data.json')"),
    "a package registry": (r"pypi\.|pythonhosted|npmjs|--(?:extra-)?index-url\b", "pip install --index-url=…"),
    "unpickling": (r"torch\.load\(|weights_only\s*=\s*False", "torch.load(path)"),
    "code from a model folder": (r"trust_remote_code\s*=\s*True", "trust_remote_code=True"),
    "unfinished work": (r"\b(?:TODO|FIXME|XXX)\b", "# TODO: later"),
}
"""What must not be in the repository -> its pattern, and a line that matches it."""
EXEMPT = {"Makefile", "CONTRIBUTING.md", "tests/test_house.py"}
"""Files that name what is not used."""


@cache
def repository() -> dict[str, list[str]]:
    """Return the lines of every text file that git knows or would add, by its path."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    lines = {}
    for name in listed:
        if name and (path := ROOT / name).is_file():
            try:
                lines[name] = path.read_text("utf-8").splitlines()
            except UnicodeDecodeError:
                continue  # images and weights
    return lines


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["embedrl", "embedrl.cli.main", "embedrl.data.protocols", "embedrl.data.tcot", "embedrl.config"])
def test_light_modules_import_no_torch(module: str):
    heavy = "{'torch', 'transformers', 'lancedb', 'av', 'matplotlib'}"
    assert python(f"import sys, {module}; print(*({heavy} & sys.modules.keys()))") == ""


def test_files_stay_short():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_is_a_noun():
    assert [path for path in MODULES if NAMELESS & {path.stem, *path.relative_to(ROOT).parts[:-1]}] == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_repository_does_not_contain(what: str):
    pattern, example = FORBIDDEN[what]
    assert re.search(pattern, example)
    matches = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, lines in repository().items()
        if name not in EXEMPT
        for number, line in enumerate(lines, 1)
        if re.search(pattern, line)
    ]
    assert matches == []


def test_the_lock_covers_every_dependency_with_versions_and_hashes_only():
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pins = {}
    for block in re.split(r"\n(?=\S)", lock.strip()):
        requirement, *hashes = [line.strip().removesuffix("\\").strip() for line in block.splitlines()]
        parsed = Requirement(requirement)
        assert re.fullmatch(r"==[\w.+!]+", str(parsed.specifier)), requirement
        assert parsed.url is None, requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), requirement
        pins[canonicalize_name(parsed.name)] = str(parsed.specifier).removeprefix("==")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0.dev0"), prereleases=True), f"{text}: run `make lock`"


def test_decisions_are_numbered_and_the_changelog_opens_with_this_version():
    decisions = re.findall(r"^## (\d+)\.", (ROOT / "docs" / "decisions.md").read_text("utf-8"), re.MULTILINE)
    assert decisions == [str(number) for number in range(1, len(decisions) + 1)]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] in ("Unreleased", embedrl.__version__)
