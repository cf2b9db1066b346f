"""Speech that a real recogniser hears through a real server (bench/speech.py): espeak-ng says it, PocketSphinx hears it."""

import importlib.util
import random
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench" / "speech.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_speech", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_speech", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")
@pytest.mark.skipif(find_spec("pocketsphinx") is None, reason="the package pocketsphinx is not installed")
def test_words_that_are_said_are_found_at_their_second(bench: ModuleType, tmp_path: Path):
    spoken, samples = bench.make_film(tmp_path / "film.mp4", random.Random(0), 60)
    with bench.recognising_server() as url:
        errors = bench.measure(tmp_path, {"film.mp4": spoken}, url)["film.mp4"]
    heard = sum(error is not None and error <= 1 for error in errors)
    alone = sum(error is not None and error <= 1 for error in bench.measure_alone(spoken, samples, bench.Recogniser()))
    assert heard >= 0.5 * len(spoken)
    assert heard >= alone - 2
