"""What is empty or given twice is refused or said: an empty path is not the working folder, two sets of weights are not one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedrl.cli.main import app
from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.models.weights import SHARDS, check_files
from embedrl.runtime.names import load_embedder, load_reasoner, resolve
from embedrl.testing import FakeEmbedder


@pytest.mark.parametrize(
    "use",
    [
        lambda index: ingest("", index, None, FakeEmbedder(), think=False),
        lambda index: Index.open("", embedder=FakeEmbedder()),
        lambda index: load_embedder(""),
        lambda index: load_reasoner(""),
    ],
    ids=["ingest", "Index.open", "load_embedder", "load_reasoner"],
)
def test_an_empty_path_is_not_the_working_folder(use: Callable[[Index], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "private.txt").write_text("a secret")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is empty"):
        use(Index.open("library", embedder=FakeEmbedder()))
    assert not (tmp_path / ".embedrl-index").exists()


def test_weights_beside_a_sharded_set_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "model"
    shutil.copytree(resolve("nano", "embedder"), folder)
    check_files(folder)
    assert not capsys.readouterr().err
    (folder / SHARDS).write_text('{"weight_map": {}}')
    check_files(folder)
    assert "has model.safetensors beside model.safetensors.index.json: the first is read" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["search", "a star"], ["similar", "abcdef"]])
def test_two_forms_of_output_are_refused(words: list[str], tmp_path: Path):
    (tmp_path / "a.txt").write_text("a star")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    ingest(tmp_path, index, None, FakeEmbedder(), think=False)
    said = CliRunner().invoke(app, [*words, "--index", str(tmp_path), "--json", "--paths"])
    assert isinstance(said.exception, ConfigError)
    assert "--json, --paths: give one of the two" in str(said.exception)
