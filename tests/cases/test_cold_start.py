"""A cold search imports what it uses, and nothing that merely happens to be installed (issue M: processor time of the first search)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import overrides
import pydantic
import pytest

from embedrl.cli import cold_start
from embedrl.cli.main import main
from embedrl.world.write import make_world

SEARCH = """
import gc, sys
sys.argv = ["embedrl", *sys.argv[1:]]
from embedrl.cli.main import main
try:
    main()
finally:
    import torch
    heads = {".".join(name.split(".")[:depth]) for name, module in sys.modules.items() if module is not None for depth in (1, 2)}
    print(*sorted(heads), gc.get_threshold()[0], torch.get_num_threads(), file=sys.stderr)
"""
NEVER = {
    "accelerate",
    "cuda",
    "pandas",
    "triton",
    "scipy",
    "sklearn",
    "boto3",
    "botocore",
    "peft",
    "bitsandbytes",
    "trl",
    "datasets",
    "sentence_transformers",
    "torch._inductor",
} | {*("matplotlib", "fastapi", "uvicorn", "pypdfium2", "av", "ray", "mteb", "torch_geometric", "tensorboard")}
"""Libraries that a search by words with the nano models has no use for."""


@pytest.mark.slow
def test_a_search_imports_what_it_uses(tmp_path: Path):
    make_world(tmp_path / "library", num_pairs=1, seed=1)
    with pytest.raises(SystemExit) as ended:
        main(["index", str(tmp_path / "library"), "--embedder", "nano", "--no-think"])
    assert not ended.value.code
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, "search", "a red star", "--index", str(tmp_path / "library"), "--reasoner", "nano", "--think"],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *imported, threshold, threads = done.stderr.splitlines()[-1].split()
    assert NEVER & set(imported) == set()
    assert threads == "1"
    assert int(threshold) == cold_start.RARE_COLLECTION[0]


def test_only_a_process_of_its_own_goes_without(monkeypatch: pytest.MonkeyPatch):
    name = "a_library_of_this_test"
    cold_start.leave_out((name,))
    assert name not in sys.modules
    monkeypatch.setattr(cold_start._Process, "is_ours", True)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, name)
    cold_start.leave_out((name, "json"))
    assert sys.modules.pop(name) is None
    assert sys.modules["json"] is not None


def test_a_function_builds_its_validator_at_its_first_call():
    built = []

    class Counted(int):
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            built.append(source)
            return handler(int)

    def double(number: Counted) -> int:
        return 2 * number

    plain = pydantic.validate_call
    with cold_start.deferred_validators():
        checked = pydantic.validate_call(double)
        configured = pydantic.validate_call(config={"strict": True})(double)

        class Model(pydantic.BaseModel):
            number: Counted

    assert built == []
    assert Model(number="3").number == 3
    assert built
    built.clear()
    assert "defer_build" not in pydantic.BaseModel.model_config
    assert checked("3") == 6
    assert built
    with pytest.raises(pydantic.ValidationError):
        checked("three")
    with pytest.raises(pydantic.ValidationError):
        configured("3")
    assert pydantic.validate_call is plain


def test_overrides_are_checked_again_afterwards():
    class Base(overrides.EnforceOverrides):
        def name(self) -> str:
            return "base"

    with cold_start.unchecked_overrides():

        class Derived(Base):
            @overrides.override
            def name(self) -> str:
                return "derived"

    assert Derived().name() == "derived"
    with pytest.raises(TypeError):

        class Wrong(Base):
            @overrides.override
            def nothing(self) -> None: ...


COMPILED = """
from embedrl.cli.cold_start import run_as_own_process, leave_out_of_torch
run_as_own_process(); leave_out_of_torch()
import sys, torch, torchvision
print("torch._inductor" in sys.modules)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item(), "torch._dynamo.convert_frame" in sys.modules)
"""


def test_what_does_ask_for_the_compiler_is_given_the_real_one():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "2.0", "True"]


@pytest.mark.parametrize("with_triton", [False, True])
def test_no_garbage_is_looked_for_at_the_end_of_a_process_of_its_own(with_triton: bool, tmp_path: Path):
    """Bindings of triton print what is alive at the end: with them the interpreter does all of its work."""
    (tmp_path / "triton.py").touch()
    script = (
        f"import {'triton, ' * with_triton}atexit, gc; atexit.register(lambda: print(gc.get_freeze_count())); "
        "from embedrl.cli.cold_start import run_as_own_process; run_as_own_process(); print(gc.get_freeze_count())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True, timeout=60)
    before, at_the_end = map(int, done.stdout.split())
    assert before == 0
    assert (at_the_end > 1000) != with_triton
