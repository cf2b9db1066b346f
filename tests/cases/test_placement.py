"""Where models run and in which type of numbers, on every command that loads them."""

from pathlib import Path

import pytest
import torch

from embedrl.cli.main import main
from embedrl.embedder.embedder import Embedder
from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.models.names import shipped
from embedrl.models.placement import Placement, accelerators, choose, choose_device, default_placement

NANO = shipped("embedder")["nano"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.mark.skipif(bool(accelerators()), reason="what a CPU gets when nothing better is there")
def test_a_cpu_is_the_last_resort() -> None:
    assert choose(None, None, None) == ("cpu", "float32", "sdpa")
    with pytest.raises(ConfigError, match=r"device='cuda': not on this machine, which has cpu"):
        choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_accelerator_is_preferred() -> None:
    assert choose_device().startswith("cuda:")
    assert choose(None, None, None)[1] == "auto"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="not on this machine"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"device": "abacus"}, "device='abacus': not on this machine"),
        ({"dtype": "float8"}, "dtype='float8': choose from float32, bfloat16, float16"),
        ({"attention": "evil/kernel"}, "attention='evil/kernel': choose from sdpa, eager"),
    ],
)
def test_what_is_not_known_is_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Embedder.load(NANO, **given)


def test_a_default_holds_for_its_block_and_gives_way_to_the_caller() -> None:
    with default_placement(Placement(device="cpu", dtype="bfloat16", attention="eager")):
        embedder = Embedder.load(NANO)
        assert (embedder.model.dtype, embedder.model.config._attn_implementation) == (torch.bfloat16, "eager")
        assert Embedder.load(NANO, dtype="float32").model.dtype == torch.float32
    assert Embedder.load(NANO, device="cpu").model.dtype == torch.float32


def test_commands_place_their_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("a red star", "utf-8")
    nano = ("--reasoner", "fake", "--embedder", "nano", "--device", "cpu")
    assert run("index", tmp_path, *nano, "--dtype", "bfloat16") == 0
    assert Index.open(tmp_path).embedder_name.startswith("embedder-")
    assert "-bfloat16-" in Index.open(tmp_path).embedder_name
    query = ("search", "red", "--index", tmp_path, "--no-think", "--embedder", "nano", "--device", "cpu")
    assert run(*query, "--dtype", "bfloat16", "--attention", "eager") == 0
    assert run(*query) == 2, "float32 is another space"
    assert run("search", "red", "--index", tmp_path, "--attention", "evil/kernel") == 2
    assert run("index", tmp_path, *nano, "--engine", "ray") == 2
    assert "--device, --dtype, --attention and --quantize are for --engine local" in capsys.readouterr().err
