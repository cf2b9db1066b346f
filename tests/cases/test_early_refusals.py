"""What is wrong with a command is said before anything heavy is imported or loaded (report of five users, finding 8)."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from embedrl.cli.main import app, main
from embedrl.errors import StoreError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.location import INDEX_NAME
from embedrl.testing import FakeEmbedder

HEAVY = ("torch", "transformers", "lancedb", "uvicorn", "fastapi")
RUN = f"""
import json, os, sys
from embedrl.cli.main import main
for words in json.loads(sys.argv[1]):
    code = 0
    try:
        main(words)
    except SystemExit as ended:
        code = ended.code or 0
    sys.stdout.flush()
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    os.write(1, b"\\0")
    os.write(2, json.dumps([code, heavy]).encode().join([b"\\0", b"\\0"]))
"""


class Said(NamedTuple):
    """What a command said, its exit code, and the heavy libraries that were imported by then."""

    code: int
    out: bytes
    err: str
    heavy: list[str]


def run(*commands: tuple[object, ...], **env: str) -> list[Said]:
    """Run commands in one process of its own, one after the other."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env}
    done = subprocess.run([sys.executable, "-c", RUN, words], capture_output=True, env=environment, timeout=300)
    outs, errs = done.stdout.split(b"\0")[:-1], done.stderr.decode("utf-8", "replace").split("\0")[:-1]
    assert len(outs) == len(commands), done.stderr.decode("utf-8", "replace")
    return [
        Said(*json.loads(state)[:1], out, err, json.loads(state)[1]) for out, err, state in zip(outs, errs[::2], errs[1::2], strict=True)
    ]


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder that looks indexed."""
    folder = tmp_path / "library"
    (folder / ".embedrl-index").mkdir(parents=True)
    return folder


def test_nothing_heavy_is_imported_to_refuse(begun: Path, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = (
            (("index", tmp_path / "nowhere"), "there is no such folder"),
            (("index", begun, "--embedder", "nomo"), "embedder='nomo'"),
            (("index", begun, "--reasoner", "nomo"), "reasoner='nomo'"),
            (("search", "x", "--index", tmp_path / "nowhere"), "there is no such folder"),
            (("search", "x", "--index", tmp_path), "there is no index here"),
            (("search", "x", "--index", "~no-such-user/library"), "there is no such folder"),
            (("search", "x", "--index", begun, "--embedder", "~no-such-user/model"), "embedder='~no-such-user/model'"),
            (("search", "x", "--index", begun, "--embedder", "nomo"), "embedder='nomo'"),
            (("search", "--image", "nowhere.png", "--index", begun), "there is no such file"),
            (("similar", "3fa94c", "--index", tmp_path / "nowhere"), "there is no such folder"),
            (("serve", "--index", tmp_path / "nowhere"), "there is no such folder"),
            (("serve", "--index", tmp_path), "or give --watch"),
            (("serve", "--index", begun, "--embedder", "nomo"), "embedder='nomo'"),
            (("serve", "--index", begun, "--root", tmp_path / "nowhere"), "there is no such folder"),
            (("serve", "--index", begun, "--port", port), "cannot listen there"),
            (("annotate", "lines", "x", "--out", tmp_path / "o", "--reasoner", "nomo"), "reasoner='nomo'"),
            (("evaluate", "world", "--embedder", "nomo"), "embedder='nomo'"),
        )
        for (words, message), said in zip(cases, run(*(words for words, _ in cases)), strict=True):
            assert (said.code, said.out) == (2, b""), words
            assert message in said.err, words
            assert said.heavy == [], words


def test_an_empty_folder_is_no_circle_of_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def said(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return int(ended.value.code or 0), capsys.readouterr().err

    code, err = said("index", tmp_path, "--embedder", "fake", "--no-think")
    assert code == 0
    assert "the folder is empty" in err
    code, err = said("search", "x", "--index", tmp_path, "--embedder", "fake", "--no-think")
    assert code == 2
    assert "held nothing that can be searched" in err


def test_a_table_that_was_deleted_is_missed(tmp_path: Path):
    (tmp_path / "a.txt").write_text("hello")
    embedder = FakeEmbedder()
    ingest(tmp_path, Index.open(tmp_path, embedder=embedder), None, embedder, think=False)
    shutil.rmtree(tmp_path / INDEX_NAME / "items.lance")
    with pytest.raises(StoreError, match=r"the table of its index is gone .*make it again with `embedrl index"):
        Index.open(tmp_path)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three texts, of which two have names that not every locale can write."""
    folder = tmp_path_factory.mktemp("names") / "library"
    folder.mkdir()
    for name, text in (("Käse.txt", "Käse"), (os.fsdecode(b"odd\xff.txt"), "odd"), ("plain.txt", "plain 東京")):
        (folder / name).write_text(text, "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["index", str(folder), "--embedder", "fake", "--no-think"])
    assert not ended.value.code
    return folder


LOCALES = {
    "UTF-8": {"PYTHONUTF8": "1"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_no_terminal_ends_in_a_traceback_and_paths_are_bytes(library: Path, locale: str):
    search = ("search", "Käse" if locale == "UTF-8" else "K\udcc3\udca4se", "--embedder", "fake", "--no-think", "--index", library)
    if locale != "C":
        search = ("search", "Käse", *search[2:])
    table, as_json, words, paths, first = run(
        search,
        (*search, "--json"),
        (*search, "--words", search[1]),
        (*search, "--paths"),
        (*search, "--top", 1, "--paths"),
        **LOCALES[locale],
    )
    for said in (table, as_json, words, paths, first):
        assert said.code == 0, said.err
        assert "Traceback" not in said.err
    assert table.out.startswith(b"score\t")
    assert len(table.out.splitlines()) == 4
    assert len(words.out.splitlines()) == 2
    hits = json.loads(as_json.out.decode("latin-1" if locale == "Latin-1" else "utf-8"))["hits"]
    assert hits[0]["path"] == "Käse.txt"
    assert sorted(paths.out.splitlines()) == sorted(os.fsencode(path) for path in library.glob("*.txt"))
    assert first.out.splitlines() == [os.fsencode(library / "Käse.txt")]


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))


def test_help_and_refusals_of_every_command_are_written_on_an_ascii_terminal():
    words = list(_commands(get_command(app)))
    helped = run(*((*command, "--help") for command in words), PYTHONIOENCODING="ascii")
    refused = run(*((*command, "--näh") for command in words), PYTHONIOENCODING="ascii")
    assert [said.code for said in helped] == [0] * len(words)
    assert {said.code for said in refused} == {2}
    assert not any("Traceback" in said.err or said.heavy for said in (*helped, *refused))
