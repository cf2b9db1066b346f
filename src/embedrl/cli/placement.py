"""`--device`, `--dtype`, `--attention` and `--quantize` of every command that loads models."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, cast

import typer

from embedrl.cli.help import MODELS

C = TypeVar("C", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "device": Annotated[
        str | None, typer.Option(help="Device: cpu, cuda, cuda:1, xpu, mps; by default the best available.", rich_help_panel=MODELS)
    ],
    "dtype": Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Data type of the weights; by default that of the files, and float32 on a CPU.", rich_help_panel=MODELS),
    ],
    "attention": Annotated[
        Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"] | None,
        typer.Option(help="Attention implementation; sdpa by default.", rich_help_panel=MODELS),
    ],
    "quantize": Annotated[
        Literal["int8", "int4"] | None,
        typer.Option(help="Quantise weights to 8 or 4 bits (extra quantize); this changes the vectors.", rich_help_panel=MODELS),
    ],
}


def places_models(command: C) -> C:
    """Decorator: add placement options, which apply to all models that the command loads. Raises ConfigError."""

    @functools.wraps(command)
    def placed(*args: Any, **kwargs: Any) -> Any:
        placement = {name: kwargs.pop(name, None) for name in _OPTIONS}
        if not any(placement.values()):
            return command(*args, **kwargs)
        if kwargs.get("engine") == "ray":
            from embedrl.errors import ConfigError

            raise ConfigError("--device, --dtype, --attention and --quantize are for --engine local: Ray workers choose their own")
        from embedrl.models.placement import Placement, default_placement

        with default_placement(Placement(**placement)):
            return command(*args, **kwargs)

    signature = inspect.signature(command)
    options = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in _OPTIONS.items()]
    vars(placed)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), *options])
    placed.__annotations__ = {**command.__annotations__, **_OPTIONS}
    return cast(C, placed)
