"""What the README shows works: its Python runs, its commands and options exist, its tree is the tree."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from embedrl.cli.main import app
from embedrl.media.image import save_image
from tests.coloured_folder import make_folder, picture
from tests.served import Served, served

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "http://127.0.0.1:8000"
DOCUMENTS = ("README.md", "docs/guide.md", "docs/ask.md")
"""Documents whose blocks are run or checked."""
TEXT = "\n".join((ROOT / name).read_text("utf-8") for name in DOCUMENTS)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("readme")
    with served(make_folder(folder / "media"), reasoner_label="nano", embedder_label="nano") as found:
        save_image(picture("purple"), folder / "scene.png")
        yield found


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
def test_curl_lines_work_as_written(server: Served) -> None:
    lines = [line for block in _blocks("console") for line in block.replace("\\\n", " ").splitlines() if line.startswith("curl ")]
    key = server.key("green.png")
    answers = {}
    for line in lines:
        words = [word.replace(ADDRESS, server.url).replace("KEY", key) for word in shlex.split(line.split(" #")[0])]
        done = subprocess.run([*words, "-sS", "--fail-with-body"], cwd=server.folder.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        answers[words[-1].removeprefix(server.url)] = done.stdout
    assert len(json.loads(answers["/api/search"])["hits"]) == 5
    assert re.findall(r"^event: (\w+)", answers["/api/search/stream"], re.MULTILINE) == ["plain", "reasoned", "done"]
    assert [item["state"] for item in json.loads(answers["/api/items"])["items"]] == ["added"]
    assert key not in [hit["key"] for hit in json.loads(answers["/api/similar"])["hits"]]
    assert [each["index"] for each in json.loads(answers["/v1/rerank"])["results"]] == [0, 1]


def test_the_openai_client_works_as_written(server: Served) -> None:
    [block] = _blocks(r"python \(needs the server\)")
    code = block.replace(ADDRESS, server.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{server.embedder.dim} ")
    assert "<answer>" in done.stdout


def test_commands_and_options_exist() -> None:
    lines = [line for block in _blocks("console") for line in block.splitlines() if line.startswith(("embedrl ", ".venv/bin/embedrl "))]
    assert lines
    for line in lines:
        words = shlex.split(line.split("#")[0])[1:]
        command = get_command(app)
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"{line!r}: no such command"
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", "\n".join(_blocks("console")), re.MULTILINE)) <= targets


def test_the_tree_names_what_is_there() -> None:
    tree = next(block for block in (ROOT / "docs" / "house.md").read_text("utf-8").split("```")[1::2] if block.startswith("\nsrc/embedrl/"))
    package = ROOT / "src" / "embedrl"
    named = {name for line in tree.splitlines() for name in re.findall(r"^ {2,4}((?:[\w/]+(?:\.py|/) ?)+)", line) for name in name.split()}
    assert {name for name in named if name.endswith("/")} == {
        f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()
    }
    files = {path.name for path in package.rglob("*.py")}
    assert {name for name in named if name.endswith(".py")} <= files
    assert {path.name for path in package.glob("*.py")} - {"__init__.py"} <= named


LINKS = re.compile(r"\]\(([^)\s]+)\)")


def _prose(document: Path) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text("utf-8"), flags=re.DOTALL)


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as the site's builder and code hosts make them of words."""
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    headings = [heading.replace("`", "") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


DOCUMENTS_OF_THE_SITE = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("document", [*sorted(ROOT.glob("*.md")), *DOCUMENTS_OF_THE_SITE], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    dead = []
    for target in LINKS.findall(_prose(document)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in _anchors(path)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("document", DOCUMENTS_OF_THE_SITE, ids=lambda path: path.name)
def test_links_of_the_site_stay_in_it(document: Path) -> None:
    targets = [target.partition("#")[0] for target in LINKS.findall(_prose(document)) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).resolve().is_relative_to(ROOT / "docs")] == []


def test_the_site_names_all_documents_and_no_other() -> None:
    listed = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == [path.name for path in DOCUMENTS_OF_THE_SITE]
