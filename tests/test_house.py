"""House rules that no linter knows: what may be imported, how long files are, what must not be in the repository."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import embedrl

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "src").rglob("*.py"))
MAX_LINES, MAX_MEDIAN = 400, 150
NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "misc", "tools"}
"""Names for modules that nobody found a noun for."""

FORBIDDEN = {
    "a path of some machine": r"(?<![\w.])/(?:wo" r"rk|ro" r"ot|ho" r"me|Us" r"ers|o" r"pt)/\w",
    "a package registry": r"py" r"pi\.|python" r"hosted|npm" r"js|--(?:extra-)?index" r"-url\b",
    "unpickling": r"torch" r"\.load\(|weights_only" r"\s*=\s*False",
    "code from a model folder": r"trust_remote" r"_code\s*=\s*True",
    "unfinished work": r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b",
}
"""Written in pieces, so that this file does not contain what it looks for."""


def repository() -> Iterator[Path]:
    """Yield the files of the repository: those that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    yield from (path for name in listed if name and (path := ROOT / name).is_file())


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
    assert median(length for name, length in lengths.items() if not name.endswith("__init__.py")) <= MAX_MEDIAN


def test_every_module_is_a_noun():
    assert [path for path in MODULES if NAMELESS & {path.stem, *path.relative_to(ROOT).parts[:-1]}] == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_repository_does_not_contain(what: str):
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in repository():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # pictures and weights
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1) if pattern.search(line)
        ]
    exempt = ("Makefile:", "CONTRIBUTING.md:")  # they say what is not used
    assert [line for line in found if not line.startswith(exempt)] == []


def test_the_forbidden_patterns_match_what_they_are_meant_for():
    examples = {
        "a path of some machine": "open('/ho" + "me/someone/data.json')",
        "a package registry": "https://py" + "pi.org/simple",
        "unpickling": "torch" + ".load(path)",
        "code from a model folder": "trust_remote" + "_code=True",
        "unfinished work": "# TO" + "DO: later",
    }
    assert all(re.search(FORBIDDEN[what], example) for what, example in examples.items())
    assert examples.keys() == FORBIDDEN.keys()


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


def test_papers_of_record_keep_their_form():
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 60
    entries = re.split(r"^## ", (ROOT / "docs" / "decisions.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert [entry.split(".")[0] for entry in entries] == [str(number) for number in range(1, len(entries) + 1)]
    assert all(len(entry.strip().splitlines()) <= 10 for entry in entries)
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == embedrl.__version__
