"""What a cold search does without: optional libraries that others import only because they are installed, validators of functions that
nobody calls, and threads that wait."""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
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
    """Have functions that pydantic is to validate build their validators at their first call: its setting `defer_build`."""
    import pydantic

    validate_call = cast(Any, pydantic.validate_call)

    def deferred(function: Callable[..., Any] | None = None, /, *, config: dict[str, Any] | None = None, **settings: Any) -> Any:
        return validate_call(function, config={"defer_build": True, **(config or {})}, **settings)

    pydantic.validate_call = cast(Any, deferred)
    try:
        yield
    finally:
        pydantic.validate_call = validate_call


def import_index_libraries() -> None:
    """Import the index's libraries, where this process is our own without pandas, which pyarrow would import because it is there, and
    without building validators for all functions of lancedb's client of remote catalogs."""
    if _Process.is_ours:
        sys.meta_path.insert(0, cast(Any, _NoPandas))
        try:
            with deferred_validators():
                import embedrl.index.lance  # noqa: F401
        finally:
            sys.meta_path.remove(cast(Any, _NoPandas))


def use_one_thread() -> None:
    """Have torch start with one thread where this process is our own and nothing else is set: beside nano models others only spin."""
    if _Process.is_ours:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
