"""An index remembers its models, and a running server of it is asked instead of loading them."""

import json
import os
import time
from pathlib import Path

import pytest

from embedrl.cli.help import COMMAND_PANELS
from embedrl.cli.main import main
from embedrl.cli.options import commands
from embedrl.cli.stopping import says_what_is_kept
from embedrl.data.segments import TextSegment
from embedrl.data.tcot import Evidence, TCoT
from embedrl.errors import ConfigError, StoreError
from embedrl.index.index import Index
from embedrl.index.location import INDEX_NAME
from embedrl.index.model_names import ModelNames
from embedrl.runtime.index_models import open_with_models
from embedrl.server.client import read_places, read_tcot
from embedrl.server.run import make_service
from embedrl.server.running import ANNOUNCEMENT, Announced, Announcement, find_server
from embedrl.server.schemas import show_evidence, show_tcot
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder
from tests.served import running, served

FAKES = ModelNames(reasoner="fake", embedder="fake")


def run(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert int(ended.value.code or 0) == code, err
    return out, err


@pytest.fixture
def library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = make_folder(tmp_path / "library")
    run(capsys, "index", folder, "--reasoner", "fake", "--embedder", "fake")
    return folder


def test_search_and_index_need_no_names_of_models(library: Path, capsys: pytest.CaptureFixture[str]):
    assert Index.open(library).model_names == FAKES
    out, err = run(capsys, "search", "red", "--index", library, "--json")
    assert json.loads(out)["used_tcot"] is True
    assert "loading the Reasoner fake and the Embedder fake" in err
    (library / "new.txt").write_text("a new text")
    out, _ = run(capsys, "index", library)
    assert out.startswith(f"{library}: 1 new")


def test_a_run_without_a_reasoner_forgets_none(library: Path, capsys: pytest.CaptureFixture[str]):
    run(capsys, "index", library, "--no-think")
    assert Index.open(library).model_names == FAKES


def test_an_index_without_a_reasoner_is_searched_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_folder(tmp_path / "plain")
    run(capsys, "index", folder, "--embedder", "fake", "--no-think")
    assert json.loads(run(capsys, "search", "red", "--index", folder, "--json")[0])["used_tcot"] is False
    _, err = run(capsys, "search", "red", "--index", folder, "--think", code=2)
    assert "name one with --reasoner" in err


def test_models_given_as_objects_are_not_guessed_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with served(make_folder(tmp_path / "objects")):
        _, err = run(capsys, "search", "red", "--index", tmp_path / "objects", "--reasoner", "fake", code=2)
    assert "does not record its models" in err


def test_names_last_when_the_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ModelNames.of("nano", "model") == ModelNames(reasoner="nano", embedder=str(tmp_path / "model"))
    assert ModelNames.of(None, "owner/name@main").embedder == "owner/name@main"


def test_search_asks_a_running_server_of_the_same_index(library: Path, capsys: pytest.CaptureFixture[str]):
    words = ("search", "red", "--index", library, "--json")
    here, _ = run(capsys, *words)
    models = FakeReasoner(), FakeEmbedder()
    service = make_service(Settings(port=0), {"main": (library, "fake", models[0])}, models[1], "fake")
    with running(service) as url:
        announced = Announced(library / INDEX_NAME, "127.0.0.1", int(url.rpartition(":")[2]), FAKES)
        asked, err = run(capsys, *words)
        assert f"asked {url}/" in err
        assert "loading" not in err
        found, expected = json.loads(asked), json.loads(here)
        assert {**found, "timings": None} == {**expected, "timings": None}
        picture, _ = run(capsys, "search", "--image", library / "red.png", "--index", library, "--paths")
        assert picture == run(capsys, "search", "--image", library / "red.png", "--index", library, "--paths", "--local")[0]
        _, err = run(capsys, *words, "--local")
        assert "loading" in err
        _, err = run(capsys, *words, "--embedder", "nano", code=2)
        assert "runs other models" in err
        with pytest.raises(Exception, match="another server"):
            Announced(library / INDEX_NAME, "127.0.0.1", 1, FAKES)
        announced.close()
        assert "loading" in run(capsys, *words)[1]


def test_what_a_dead_server_or_a_stranger_left_is_not_asked(library: Path, capsys: pytest.CaptureFixture[str]):
    directory = library / INDEX_NAME
    left = Announcement(host="127.0.0.1", port=1, machine=os.uname().nodename, models=FAKES)
    (directory / ANNOUNCEMENT).write_text(left.model_dump_json())
    assert find_server(directory) is None, "it holds no lock"
    announced = Announced(directory, "192.0.2.1", 80, FAKES)
    assert find_server(directory) is None, "that is no address of this machine"
    announced.close()
    announced = Announced(directory, "0.0.0.0", 1, FAKES)  # nobody listens there
    server = find_server(directory)
    assert server is not None
    assert server.url == "http://127.0.0.1:1/"
    _, err = run(capsys, "search", "red", "--index", library)
    assert "does not answer" in err
    assert "searching here" in err
    announced.close()


def test_a_tcot_comes_back_from_a_server_as_it_was():
    """Which image a box lies in, and what could not be read, were lost on the way."""
    evidence = Evidence(boxes=[(0, 0, 9, 9), (1, 1, 8, 8)], box_images=(1, 2), key_frames=(3,), keywords=("a",), num_frames=8, num_unread=2)
    tcot = TCoT(thinking="t", evidence=evidence, rethink="r", answer="a")
    sent = {"tcot": show_tcot(tcot).model_dump(), "evidence": show_evidence(tcot, None).model_dump()}
    assert read_tcot(json.loads(json.dumps(sent))) == tcot


def test_where_keywords_were_read_survives_the_way_through_the_server():
    tcot = TCoT(thinking="t", evidence=Evidence(keywords=("zebra", "river")), rethink="r", answer="a")
    said = TextSegment(text="a zebra", source="subtitles", start_s=6.5, end_s=8.0)
    for places, expected in (((said, None), (said, None)), ((None, None), ())):
        sent = json.loads(show_evidence(tcot, None, places=places).model_dump_json())
        assert read_places(sent) == expected


def test_filters_reach_the_server(library: Path, capsys: pytest.CaptureFixture[str]):
    with served(library, index=False) as server:
        port = int(server.url.rpartition(":")[2])
        announced = Announced(library / INDEX_NAME, "127.0.0.1", port, FAKES)
        options = ("--modality", "image", "--since", "2000-01-01", "--until", "2100-01-01", "--under", "*.png", "--top", 2, "--skip", 1)
        asked, err = run(capsys, "search", "red", "--index", library, "--paths", *options)
        assert "asked" in err
        assert asked == run(capsys, "search", "red", "--index", library, "--paths", *options, "--local")[0]
        announced.close()


def test_nano_says_that_it_is_blind_but_in_its_own_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "note.txt").write_text("holiday")
    _, err = run(capsys, "index", folder, "--no-think", "--embedder", "nano")
    assert "nano models know only the generated world" in err
    _, err = run(capsys, "search", "holiday", "--index", folder)
    assert [line for line in err.splitlines() if "nano models" in line] == [
        "nano models: on files from outside their generated world, ranks and scores mean nothing (`embedrl models` lists others)"
    ]
    (folder / "pairs.jsonl").write_text("{}\n")
    _, err = run(capsys, "index", folder, "--no-think")
    assert "generated world" not in err


def test_ctrl_c_says_what_is_kept(capsys: pytest.CaptureFixture[str]):
    @says_what_is_kept("all of it")
    def stopped() -> None:
        raise KeyboardInterrupt

    app = commands()
    app.command()(stopped)
    with pytest.raises(SystemExit) as ended:
        app([])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "warning: stopped: all of it\n"


def test_open_starts_the_desktops_program(library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    programs = library.parent / "programs"
    programs.mkdir()
    opener = programs / "xdg-open"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {library.parent}/opened\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    best, err = run(capsys, "search", "red", "--index", library, "--paths", "--open", "--top", 1)
    assert f"opening {best.strip()}" in err
    for _ in range(1000):
        if (library.parent / "opened").exists() and (library.parent / "opened").read_text():
            break
        time.sleep(0.01)
    assert (library.parent / "opened").read_text() == best.strip()


def test_help_fits_80_columns_and_cuts_no_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((), ("train",), ("bench",), ("world",)):
        out, _ = run(capsys, *words, "--help")
        _, panel, listed = out.partition("Commands:" if words else f"{COMMAND_PANELS[0]}:")
        assert panel
        assert not [line for line in listed.splitlines() if line.endswith("...") or len(line) > 80]


def test_shells_complete_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_EMBEDRL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "embedrl se")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert set(run(capsys)[0].split()) == {"search", "serve"}


def test_an_index_is_opened_with_its_models_from_python_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_folder(tmp_path / "library")
    run(capsys, "index", folder, "--reasoner", "fake", "--embedder", "fake", "--dimensions", 16)
    index, embedder, reasoner = open_with_models(folder)
    assert isinstance(reasoner, FakeReasoner)
    assert embedder.dim == 16
    assert index.model_names == FAKES
    assert open_with_models(folder, think=False)[2] is None
    with pytest.raises(ConfigError, match="nomo"):
        open_with_models(folder, embedder="nomo")
    with pytest.raises(StoreError, match="there is no such folder"):
        open_with_models(tmp_path / "nowhere")
