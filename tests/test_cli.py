"""The commands, as a user runs them: with the fake models, on files made here."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from typer.main import get_command

from embedrl.cli.help import COMMAND_PANELS, FILTERS, LIMITS, MODELS, REASONING, SERVERS, continued
from embedrl.cli.main import app, main

FAKES = ("--reasoner", "fake", "--embedder", "fake")
RED, BLUE = (220, 30, 30), (30, 60, 220)


class Ran:
    """What a command said, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Run a command; return its exit code, stdout and stderr."""
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return int(ended.value.code or 0), *self.capsys.readouterr()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Ran:
    return Ran(capsys)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two pictures and a text, indexed with the fakes."""
    folder = tmp_path_factory.mktemp("library")
    for name, colour in (("sunset.png", RED), ("sea.jpg", BLUE)):
        PIL.Image.new("RGB", (64, 48), colour).save(folder / name)
    (folder / "note.txt").write_text("A green tractor stands in the barn.")
    with pytest.raises(SystemExit) as ended:
        main(["index", str(folder), *FAKES])
    assert not ended.value.code
    return folder


def commands(group=None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of every command and group."""
    group = group or get_command(app)
    found = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example_in_80_columns(run: Ran, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert "Example: embedrl " + " ".join(words) in out
    assert [line for line in out.splitlines() if len(line) > 80] == []


def test_commands_are_listed_by_what_they_are_for(run: Ran):
    titles = [line for line in run("--help")[1].splitlines() if line.endswith(":")]
    assert titles == [f"{panel}:" for panel in (*COMMAND_PANELS, "Options")]


def test_options_of_a_search_are_listed_by_what_they_are_for(run: Ran):
    titles = [line for line in run("search", "--help")[1].splitlines() if re.fullmatch(r"\w.*:", line)]
    assert titles == [f"{title}:" for title in ("Arguments", "Options", FILTERS, MODELS, REASONING, SERVERS, LIMITS)]


@pytest.mark.parametrize("width", [50, 60, 78])
@pytest.mark.parametrize(
    "command",
    [
        'embedrl search "a small red star" --index library --top 5 --modality image',
        "embedrl train reasoner nano/reasoner.toml method=rejection rejection.learning_rate=3e-4",
        'embedrl bench perturbed --media "shifted by 4 pixels" --media "a border of 10%"',
    ],
)
def test_a_long_example_is_continued_as_a_shell_reads_it(command: str, width: int):
    lines = continued(f"Example: {command}", width)
    assert shlex.split(lines.replace("\\\n", "")) == ["Example:", *shlex.split(command)]
    assert max(map(len, lines.splitlines())) <= width
    assert continued(command, 10) == command


def test_help_of_all_commands_imports_no_heavy_library():
    code = (
        "import sys, contextlib, io\nfrom embedrl.cli.main import main\n"
        f"for words in {commands()!r}:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n        main([*words, '--help'])\n"
        "print(*({'torch', 'transformers', 'numpy', 'lancedb', 'av', 'PIL'} & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == ""


def test_search_shows_score_modality_path_answer_and_evidence(run: Ran, library: Path):
    code, out, _ = run("search", "something red", "--index", library, *FAKES, "--top", 2)
    header, first, *_ = out.splitlines()
    assert code == 0
    assert header.split("\t") == ["score", "modality", "key", "path", "answer", "evidence"]
    score, modality, key, path, answer, evidence = first.split("\t")
    assert (modality, path, answer, evidence) == ("image", "sunset.png", "a red picture", "box 0 0 1000 1000")
    assert 0 < float(score) <= 1
    assert len(key) == 12


def test_search_by_picture_and_as_json(run: Ran, library: Path):
    code, out, _ = run(
        "search", "--image", library / "sea.jpg", "--index", library, "--embedder", "fake", "--no-think", "--top", 1, "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert [hit["path"] for hit in found["hits"]] == ["sea.jpg"]
    assert found["hits"][0]["tcot"]["answer"] == "a blue picture"


def test_search_can_be_narrowed(run: Ran, library: Path):
    code, out, _ = run("search", "something red", "--index", library, *FAKES, "--modality", "text", "--json")
    assert code == 0
    assert {hit["modality"] for hit in json.loads(out)["hits"]} == {"text"}
    code, out, err = run("search", "something red", "--index", library, *FAKES, "--min-score", 1)
    assert (code, out) == (0, "")
    assert "no hits" in err


def test_search_filters_sorts_and_pages(run: Ran, library: Path):
    def paths(*options: object) -> list[str]:
        code, out, _ = run("search", "something red", "--index", library, *FAKES, "--json", *options)
        assert code == 0
        return [hit["path"] for hit in json.loads(out)["hits"]]

    everything = paths()
    assert paths("--skip", 1, "--top", 1) == everything[1:2]
    assert paths("--sort", "name") == sorted(everything)
    assert paths("--under", "*.txt") == ["note.txt"]
    assert paths("--under", "nowhere") == []
    assert paths("--under", ".") == everything
    assert paths("--since", "2000-01-01") == everything
    assert paths("--until", "2000-01-01") == []
    assert paths("--words", "NOTE txt") == ["note.txt"]


def test_a_question_is_read_from_the_standard_input(run: Ran, library: Path, monkeypatch: pytest.MonkeyPatch):
    expected = run("search", "a large red star", "--index", str(library), "--think", "never")[1]
    for text, out in (("a large red star\n", expected), (" \n", "")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run("search", "-", "--index", str(library), "--think", "never")[1] == out


def test_a_folder_outside_the_library_is_no_condition(run: Ran, library: Path):
    """It met nothing, without a word."""
    for folder in ("..", "../elsewhere", "sub/../../elsewhere"):
        code, _, err = run("search", "a star", "--index", str(library), "--under", folder)
        assert code == 2
        assert f"path={folder!r}: leads out of the library; give a folder in it" in err


def test_similar_takes_the_key_that_search_shows_and_needs_no_model(run: Ran, library: Path):
    key = run("search", "red", "--index", library, *FAKES, "--top", 1)[1].splitlines()[1].split("\t")[2]
    code, out, _ = run("similar", key, "--index", library, "--json")
    assert code == 0
    assert {hit["path"] for hit in json.loads(out)["hits"]} == {"sea.jpg", "note.txt"}
    other = next(hit for hit in json.loads(out)["hits"] if hit["path"] == "note.txt")
    assert other["reason"]["key"].startswith(key)
    code, out, _ = run("similar", f"{key}=2", "--unlike", f"{other['key'][:12]}=0.5", "--diversity", 0.5, "--index", library)
    assert code == 0
    assert out.splitlines()[0].endswith("\treason")
    assert "sea.jpg" in out.splitlines()[1]
    assert len(out.splitlines()) == 2


def test_index_lists_what_failed_and_exits_with_1(run: Ran, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "fine.txt").write_text("a fine text")
    code, out, err = run("index", tmp_path, "--embedder", "fake", "--no-think")
    assert code == 1
    assert "1 new" in out
    assert "1 failed" in out
    assert "broken.png" in err
    assert "fine.txt" not in err
    code, out, _ = run("index", tmp_path, "--embedder", "fake", "--no-think", "--json")
    assert code == 1
    assert [failure["path"] for failure in json.loads(out)["failures"]] == ["broken.png"]


def test_world_make_writes_files_once(run: Ran, tmp_path: Path):
    code, out, _ = run("world", "make", tmp_path / "world", "--pairs", 2, "--seed", 5)
    assert code == 0
    assert "2 pairs" in out
    assert (tmp_path / "world" / "pairs.jsonl").is_file()
    code, _, err = run("world", "make", tmp_path / "world", "--pairs", 2)
    assert code == 2
    assert "choose an empty folder" in err


def test_evaluate_world_writes_a_report(run: Ran, tmp_path: Path):
    code, out, _ = run("evaluate", "world", *FAKES, "--num-queries", 1, "--pool-size", 2, "--out", tmp_path)
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["systems"]) == ["plain", "fake", "ceiling"]
    assert (tmp_path / "report.html").is_file()
    heads = [line.split("\t")[0] for line in out.splitlines()]
    assert heads[:4] == ["system", "plain", "fake", "ceiling"]
    assert heads[4:] == ["task", *report["systems"]["plain"]["tasks"]], "and then task by task"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "the query is empty"),
        (["index", ""], "the argument behind 'index' is empty"),
        (["search", "x", "--index", ""], "the argument behind '--index' is empty"),
        (["search", "  "], "the query is empty"),
        (["search", "x", "--image", "a.png", "--video", "b.mp4"], "exclude each other"),
        (["search", "--image", "nowhere.png"], "--image 'nowhere.png': there is no such file"),
        (["search", "x", "--index", "nowhere"], "nowhere"),
        (["search", "x", "--min-score", "2"], "min-score"),
        (["search", "x", "--top", "0"], "top"),
        (["search", "x", "--since", "yesterday"], "'yesterday': give a date like 2024-05-01"),
        (["search", "x", "--since", "2024-05-02", "--until", "2024-05-01"], "earlier time first"),
        (["search", "x", "--words", "a " * 17], "17 words"),
        (["search", "x", "--sort", "size"], "size"),
        (["similar", "zz", "--index", "nowhere"], "nowhere"),
        (["similar", "3fa94c=much", "--index", "nowhere"], "3fa94c=0.5"),
        (["index", "nowhere"], "'nowhere': there is no such folder"),
        (["index", ".", "--embedder", "nowhere", "--no-think"], "embedder='nowhere'"),
        (["world", "make", "x", "--split", "dev"], "dev"),
        (["train", "embedder", "nowhere.toml"], "recipe 'nowhere.toml': there is no such file"),
        (["fly"], "fly"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_a_clear_line(
    run: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_wrong_modalities_and_recipes_name_what_is_allowed(run: Ran, library: Path, tmp_path: Path):
    code, _, err = run("search", "x", "--index", library, "--embedder", "fake", "--no-think", "--modality", "cat")
    assert code == 2
    assert "choose from image, video, page, text" in err
    recipe = tmp_path / "embedder.toml"
    recipe.write_text('out = "o"\n')
    code, _, err = run("train", "embedder", recipe, "sead=1")
    assert code == 2
    assert "did you mean seed?" in err


def test_doctor_checks_the_media_libraries(run: Ran):
    _, out, _ = run("doctor")
    rows = {line.split("\t")[0]: line.split("\t")[1] for line in out.splitlines()}
    assert {rows[name] for name in ("images", "videos", "documents", "python")} == {"ok"}
    assert "torch" in rows
    assert "embedder nano" in rows


def test_version(run: Ran):
    import embedrl

    assert run("--version") == (0, f"{embedrl.__version__}\n", "")


SLIPS = [
    (("index", "NOTE"), "is a file; give a folder"),
    (("serve", "--index", "NOTE"), "is a file; give a folder"),
    (("search", "two", "parrots", "--index", "LIBRARY"), "(parrots): put a text of several words in quotes"),
    (("ask", "where", "is", "it", "--index", "LIBRARY"), "(is it): put a text of several words in quotes"),
    (("serve", "LIBRARY"), "unexpected extra argument(s) (LIBRARY): give the folder as --index LIBRARY"),
    (("search", "LIBRARY", "a red star"), "(a red star): give the folder as --index LIBRARY"),
    (("similar", "12", "--index", "LIBRARY"), "key '12': give an item's key, or at least its first 6 hex digits"),
    (("similar", "abcdef", "--unlike", "zebras", "--index", "LIBRARY"), "key 'zebras': give an item's key"),
    (("index", "LIBRARY", "--table", "foo"), "--table foo: give a place in object storage, such as s3://bucket/name"),
    (("index", "LIBRARY", "--limit", "max_pixel=3"), "did you mean max_pixels?"),
    (("models", "check", "nope"), "'nope': not a folder, nor one of nano"),
    (("doctor", "idnex", "LIBRARY"), "'idnex': choose from MMEB-V2, UVRB, index, parity"),
    (("evaluate", "worl"), "'worl': choose from MMEB-V2, UVRB, world"),
    (("compare", "--before", "nope"), "'nope': not a folder, nor one of nano"),
]


@pytest.fixture(scope="module")
def answers(library: Path) -> list[tuple[int, str, list[str]]]:
    """Exit code, stderr and heavy modules of each slip, all in one fresh process."""
    code = """if True:
        import contextlib, io, json, sys
        from embedrl.cli.main import main
        answers = []
        for words in json.loads(sys.argv[1]):
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr):
                try:
                    main(words)
                except SystemExit as ended:
                    answers.append((ended.code, stderr.getvalue(), sorted({"torch", "transformers", "lancedb"} & sys.modules.keys())))
        print(json.dumps(answers))
    """
    places = {"LIBRARY": str(library), "NOTE": str(library / "note.txt")}
    slips = json.dumps([[places.get(word, word) for word in words] for words, _ in SLIPS])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code, slips], capture_output=True, text=True, check=True, env=environment)
    return json.loads(ran.stdout)


@pytest.mark.parametrize("number", range(len(SLIPS)), ids=[" ".join(words) for words, _ in SLIPS])
def test_a_slip_is_answered_before_anything_that_takes_long_to_import(
    number: int, answers: list[tuple[int, str, list[str]]], library: Path
):
    code, err, heavy = answers[number]
    assert code == 2, err
    assert SLIPS[number][1].replace("LIBRARY", str(library)) in " ".join(err.split())
    assert heavy == []
