"""What reaches stdout and stderr: plain without a terminal, safe with one, and only from rank 0."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from embedrl import log

EVIL = "[red]x[/red] :smile: \x1b[31m\x9b\u202e\r"
SAFE = "[red]x[/red] :smile: \ufffd[31m\ufffd\ufffd\ufffd"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Put a terminal of 100 columns in the place of both streams; return what reads it."""
    screen = io.StringIO()
    for name in ("_stdout", "_stderr"):
        console = Console(file=screen, force_terminal=True, width=100, highlight=False, markup=False, emoji=False, color_system="standard")
        monkeypatch.setattr(log, name, console)
    return screen.getvalue


def test_results_go_to_stdout_and_remarks_to_stderr(capsys: pytest.CaptureFixture[str]):
    log.result("a" * 300)
    log.info("one")
    log.warn("two")
    log.error("three")
    out, err = capsys.readouterr()
    assert out == "a" * 300 + "\n"
    assert err == "one\nwarning: two\nerror: three\n"


def test_text_is_never_markup_and_holds_no_control_characters(capsys: pytest.CaptureFixture[str]):
    log.result(EVIL)
    log.table(EVIL, [EVIL], [[EVIL]])
    assert capsys.readouterr().out == f"{SAFE}\n" * 3


def test_text_is_as_safe_on_a_terminal(terminal: Callable[[], str]):
    log.table(EVIL, [EVIL], [[EVIL]])
    log.error(EVIL)
    with log.progress(1, EVIL) as bar:
        bar.advance(note=EVIL)
    shown = terminal()
    assert "[red]x[/red] :smile:" in shown
    assert "\x1b[31m\x9b" not in shown
    assert "\u202e" not in shown
    assert "note=[red]x[/red]" in shown
    assert "1/1" in shown


def test_a_table_without_a_terminal_is_tab_separated(capsys: pytest.CaptureFixture[str]):
    log.table("Found", ["score", "path"], [(0.5, "a\tb\nc.png"), (1, "d" * 200)])
    assert capsys.readouterr().out == f"score\tpath\n0.5\ta b c.png\n1\t{'d' * 200}\n"


def test_json_is_json_whatever_the_text(capsys: pytest.CaptureFixture[str]):
    value = {"path": EVIL + "\udc80é", "score": 0.25}
    log.print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert "é" in out
    assert not any(bad in out for bad in ("\x1b", "\x9b", "\u202e"))
    with pytest.raises(ValueError, match="JSON"):
        log.print_json({"score": float("nan")})


def test_progress_without_a_terminal_is_a_line_at_the_end(capsys: pytest.CaptureFixture[str]):
    with log.progress(3, "embed") as bar:
        bar.advance(loss=0.5)
        bar.advance(2, loss=0.123456, rate="fast")
    assert list(log.progress(["a", "b"], "reason")) == ["a", "b"]
    with log.progress(None, "read") as bar:
        bar.advance(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "embed: 3/3 in 0 s loss=0.1235 rate=fast\nreason: 2/2 in 0 s\nread: 5 in 0 s\n"


def test_long_work_reports_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "PLAIN_INTERVAL_S", 0.0)
    with log.progress(2, "train") as bar:
        bar.advance()
        bar.advance()
    assert [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()] == ["train: 1/2", "train: 2/2"]


def test_work_may_say_itself_how_far_it_is(capsys: pytest.CaptureFixture[str]):
    with log.progress(None, "index") as bar:
        bar.reach(7, 9)
    assert capsys.readouterr().err == "index: 7/9 in 0 s\n"


def test_progress_on_a_terminal_can_be_nested(terminal: Callable[[], str]):
    for _ in log.progress([1, 2], "outer"):
        with log.progress(None, "inner") as bar:
            bar.reach(1, 4)
    assert "outer" in terminal()
    assert "1/4" in terminal()


def test_only_rank_0_speaks_but_for_errors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    log.result("a")
    log.warn("b")
    log.print_json({})
    log.table("t", ["a"], [["b"]])
    with log.progress(1, "c") as bar:
        bar.advance()
        bar.reach(1, 1)
    assert list(log.progress([1, 2], "d")) == [1, 2]
    log.error("broken")
    assert capsys.readouterr() == ("", "error (rank 1): broken\n")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    monkeypatch.setattr(log, "_stderr", Console(file=screen, force_terminal=True, color_system="standard"))
    log.warn("careful")
    assert "\x1b[3" not in screen.getvalue()
    assert "careful" in screen.getvalue()


def test_a_training_says_nothing_in_the_words_of_its_libraries(tmp_path: Path):
    """Bars of weights being written, tokens that were aligned, a kernel that could not be fetched: between the lines of every training."""
    sizes = ("num_batches=2", "batch_size=2", "mini_batch_size=4", "trainer.save_steps=1")
    command = (
        sys.executable,
        "-m",
        "embedrl",
        "train",
        "embedder",
        "nano/embedder.toml",
        "start_from=nano",
        f"out={tmp_path / 'run'}",
        *sizes,
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run' / 'model'}\n"
    foreign = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip() and not line.startswith("embedder: ")]
    assert foreign == []
