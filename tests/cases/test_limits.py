"""Limits that messages named and that nothing could set: `max_…=`, `allow_tiff` (reports on the house, 1.6, and on media, case 6)."""

import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from typer.main import get_command

from embedrl.cli.limits import limit_hint, set_limits
from embedrl.cli.main import app
from embedrl.errors import ConfigError
from embedrl.media.store import Limits, limits_in_force
from embedrl.server.settings import UPLOAD_LIMITS, Capacity, Settings
from tests.test_cli import Ran

FAKES = ("--reasoner", "fake", "--embedder", "fake")
DECODING = ("index", "search", "annotate", "evaluate", "serve", "doctor")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Ran:
    return Ran(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small image, a larger one, and a text."""
    folder = tmp_path / "library"
    folder.mkdir()
    for name, side in (("small.png", 16), ("large.png", 64)):
        PIL.Image.new("RGB", (side, side), "red").save(folder / name)
    (folder / "note.txt").write_text("a note")
    return folder


@pytest.mark.parametrize("name", DECODING)
def test_every_command_that_decodes_takes_limits(name: str):
    options = {option for parameter in get_command(app).commands[name].params for option in parameter.opts}  # ty: ignore[unresolved-attribute]
    assert {"--limit", "--config"} <= options


def test_a_limit_of_the_command_line_holds_and_the_message_names_it(run: Ran, folder: Path):
    code, out, err = run("index", folder, *FAKES, "--limit", "max_pixels=1000")
    assert code == 1
    assert "1 failed" in out
    assert "large.png" in err
    assert "--limit max_pixels=…" in err
    code, out, err = run("index", folder, *FAKES, "--limit", "max_pixels=10_000")
    assert code == 0
    assert "0 failed" in out
    assert "--limit" not in err


def test_a_limit_of_a_file_holds_and_an_option_replaces_it(run: Ran, folder: Path, tmp_path: Path):
    file = tmp_path / "embedrl.toml"
    file.write_text("[limits]\nmax_pixels = 1000\n\n[upload_limits]\nmax_pages = 3\n\n[server]\nmax_connections = 9\n")
    assert run("index", folder, *FAKES, "--config", file)[0] == 1
    assert limits_in_force() == Limits(max_pixels=1000)
    assert run("index", folder, *FAKES, "--config", file, "--limit", "max_pixels=5000")[0] == 0
    assert limits_in_force() == Limits(max_pixels=5000)


def test_limits_hold_for_whatever_names_none(tmp_path: Path):
    set_limits(None, ["max_text_chars=7", "allow_tiff=true", "decode_timeout_s=1.5"])
    assert limits_in_force() == Limits(max_text_chars=7, allow_tiff=True, decode_timeout_s=1.5)
    set_limits(None, None)
    assert limits_in_force() == Limits()


def test_every_setting_of_the_server_can_be_set(tmp_path: Path):
    options = {"host", "port", "token", "allow_hosts", "watch", "max_upload_bytes", "max_in_flight", "limits", "library_limits"}
    assert Settings.model_fields.keys() == Capacity.model_fields.keys() | options
    file = tmp_path / "embedrl.toml"
    file.write_text("[server]\nmax_connections = 9\nbody_timeout_s = 4\n")
    assert set_limits(file, None).server == Capacity(max_connections=9, body_timeout_s=4)
    file.write_text("[server]\nmax_connection = 9\n")
    with pytest.raises(ConfigError, match=r"did you mean server\.max_connections"):
        set_limits(file, None)


def test_uploads_have_limits_of_their_own():
    found = set_limits(None, ["max_pages=9"], ["max_frames=7"])
    assert found.limits.max_pages == 9
    assert found.upload_limits.model_fields_set == {"max_frames"}
    assert found.upload_limits.max_frames == 7
    assert Settings().limits == UPLOAD_LIMITS


@pytest.mark.parametrize(
    ("limit", "messages"),
    [
        ("max_pixls=3", ("--limit max_pixls", "did you mean max_pixels?", "max_duration_s")),
        ("max_pixels=many", ("--limit max_pixels", "'many'")),
        ("max_pixels=0", ("--limit max_pixels", "greater than or equal to 1")),
        ("max_pixels", ("--limit max_pixels", "key=value")),
        ("allow_tiff=perhaps", ("--limit allow_tiff", "'perhaps'")),
        ("=3", ("key=value",)),
    ],
)
def test_a_wrong_limit_is_named_with_what_there_is(run: Ran, folder: Path, limit: str, messages: tuple[str, ...]):
    for command in (("index", folder), ("search", "x", "--index", folder), ("doctor",)):
        if command[0] == "search":
            (folder / ".embedrl-index").mkdir(exist_ok=True)
        code, out, err = run(*command, "--limit", limit)
        assert (code, out) == (2, "")
        for message in messages:
            assert message in err


def test_a_wrong_file_of_limits_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--config .*there is no such file"):
        set_limits(tmp_path / "nowhere.toml", None)
    file = tmp_path / "limits.toml"
    for text, message in (
        ("[limit]\nmax_pixels = 3\n", "limits.toml: limit="),
        ("[limits]\nmax_pixls = 3\n", "did you mean limits.max_pixels?"),
        ("[limits]\nmax_pixels = -3\n", "limits.max_pixels=-3"),
        ("[limits\n", "not a TOML file"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as error:
            set_limits(file, None)
        assert message in str(error.value)


def test_every_limit_that_a_message_may_name_can_be_set():
    for name in Limits.model_fields:
        assert f"--limit {name}=…" in limit_hint([f"'x': has 5, more than {name}=4"])
    assert limit_hint(["is cut short"]) == ""


def test_what_is_in_force_reaches_a_worker():
    """Ray's workers are processes of their own."""
    code = (
        "from embedrl.media.store import Limits, limits_in_force\n"
        "from embedrl.runtime.ray import Worker\n"
        "Worker('embedder', 'fake', Limits(max_pages=4))\nprint(limits_in_force().max_pages)"
    )
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.strip() == "4"
