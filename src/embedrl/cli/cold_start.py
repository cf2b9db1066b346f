"""What a cold search does without: optional libraries that others import only because they are installed, validators of functions that
nobody calls, and threads that wait."""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

UNUSED_BY_NANO = ("accelerate", "boto3", "cuda", "scipy", "sklearn", "triton")
"""transformers imports scipy and sklearn for losses of detectors and drafts by other models, accelerate to split models over devices (and
that boto3 for SageMaker), torch CUDA's bindings for contexts of its driver, torch._dynamo triton to see whether it is there."""

RARE_COLLECTION = (50_000, 20, 10)
"""Thresholds of the garbage collector: by default it looks through the modules and weights being loaded again and again.
Cycles still go, as long commands and servers need."""


class _Process:
    """Whether this process runs one command and ends, as that of the console script does."""

    is_ours = False


def run_as_own_process() -> None:
    """Let commands change what holds for the whole process, and collect garbage rarely: loading makes none to speak of.

    At its end the process leaves its modules and weights to the operating system (`_keep_what_is_there`).
    """
    _Process.is_ours = True
    gc.set_threshold(*RARE_COLLECTION)
    atexit.register(_keep_what_is_there)


def _keep_what_is_there() -> None:
    """Have the interpreter not look for garbage as it ends, which took a fifth of a search.

    Not where triton was imported: its bindings print whatever is still alive then.
    """
    if sys.modules.get("triton") is None:
        gc.freeze()


def leave_out(libraries: tuple[str, ...]) -> None:
    """Have libraries that are not imported yet taken as not installed, where this process is our own."""
    if _Process.is_ours:
        modules = cast(dict[str, Any], sys.modules)
        for name in libraries:
            modules.setdefault(name, None)  # the language's own word for a module that cannot be imported


class _NoPandas:
    """Finder of modules that finds no pandas; pyarrow's compiled code takes no None in `sys.modules` for that."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def deferred_validators() -> Generator[None]:
    """Have pydantic build the validators of functions and models at their first use: its setting `defer_build`."""
    import pydantic

    validate_call = cast(Any, pydantic.validate_call)
    settings = cast(dict[str, Any], pydantic.BaseModel.model_config)
    before = dict(settings)

    def deferred(function: Callable[..., Any] | None = None, /, *, config: dict[str, Any] | None = None, **settings: Any) -> Any:
        return validate_call(function, config={"defer_build": True, **(config or {})}, **settings)

    pydantic.validate_call = cast(Any, deferred)
    settings["defer_build"] = True
    try:
        yield
    finally:
        pydantic.validate_call = validate_call
        settings.clear()
        settings.update(before)


@contextmanager
def unchecked_overrides() -> Generator[None]:
    """Have `@override` of the package overrides take methods as they are: it disassembles the module around each of them."""
    import overrides

    checked = overrides.override

    def unchecked(method: Any) -> Any:
        method.__override__ = True  # what its metaclass asks for
        return method

    overrides.override = cast(Any, unchecked)
    try:
        yield
    finally:
        overrides.override = checked


def import_index_libraries() -> None:
    """Import the index's libraries, where this process is our own without pandas, which pyarrow would import because it is there, and
    without building validators for lancedb's client of remote catalogs or checking its overrides."""
    if _Process.is_ours:
        sys.meta_path.insert(0, cast(Any, _NoPandas))
        try:
            with deferred_validators(), unchecked_overrides():
                import embedrl.index.lance  # noqa: F401
        finally:
            sys.meta_path.remove(cast(Any, _NoPandas))


def use_one_thread() -> None:
    """Have torch start with one thread where this process is our own and nothing else is set: beside nano models others only spin."""
    if _Process.is_ours:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


_MARKS = ("allow_in_graph", "assume_constant_result", "disable")


class _NotYet(ModuleType):
    """A module of torch's compiler that has what libraries ask of it as they are imported; for anything else the real one is imported."""

    def __init__(self, name: str, **has: Any) -> None:
        super().__init__(name)
        vars(self).update(has)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for module in [module for module in sys.modules.values() if isinstance(module, _NotYet)]:
            del sys.modules[module.__name__]
        return getattr(import_module(self.__name__), name)


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """Decorator, with or without arguments, that leaves a function as it is."""
    return _unmarked if function is None else function


def leave_out_of_torch() -> None:
    """Have libraries import neither torch's compiler nor its distributed tensors, where this process is our own.

    They mark functions for the compiler as they are imported, and ask for tensors over devices because torch was built with them.
    """
    if _Process.is_ours and "torch._dynamo" not in sys.modules:
        torch: Any = import_module("torch")
        utils = _NotYet("torch._dynamo.utils", is_compile_supported=lambda device: False)
        path = [str(Path(torch.__file__).parent / "_dynamo")]
        compiler = _NotYet("torch._dynamo", __path__=path, utils=utils, **dict.fromkeys(_MARKS, _unmarked))
        sys.modules.update({module.__name__: module for module in (compiler, utils)})
        torch._dynamo = compiler
        torch.distributed.is_available = lambda: False
