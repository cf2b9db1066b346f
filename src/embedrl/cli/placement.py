"""`--device`, `--dtype`, `--attention` and `--quantize` of every command that loads models."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, cast

import typer

C = TypeVar("C", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "device": Annotated[str | None, typer.Option(help="Where models run: cpu, cuda, cuda:1, xpu, mps; else the best that is there.")],
    "dtype": Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Type of a model's numbers; else that of its files, and float32 on a CPU."),
    ],
    "attention": Annotated[
        Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"] | None,
        typer.Option(help="How attention is calculated; sdpa unless given."),
    ],
    "quantize": Annotated[
        Literal["int8", "int4"] | None, typer.Option(help="Keep weights in 8 or 4 bits (extra quantize); other bits, other vectors.")
    ],
}


def places_models(command: C) -> C:
    """Give a command the options of placement; they hold for all models that it loads in this process. Raises ConfigError."""

    @functools.wraps(command)
    def placed(*args: Any, **kwargs: Any) -> Any:
        placement = {name: kwargs.pop(name, None) for name in _OPTIONS}
        if not any(placement.values()):
            return command(*args, **kwargs)
        if kwargs.get("engine") == "ray":
            from embedrl.errors import ConfigError

            raise ConfigError(
                "--device, --dtype, --attention and --quantize are for --engine local: workers on Ray choose by their own machine"
            )
        from embedrl.models.placement import Placement, default_placement

        with default_placement(Placement(**placement)):
            return command(*args, **kwargs)

    signature = inspect.signature(command)
    options = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in _OPTIONS.items()]
    vars(placed)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), *options])
    placed.__annotations__ = {**command.__annotations__, **_OPTIONS}
    return cast(C, placed)
