"""Parameter groups: a dataclass as one parameter, its fields to libraries that read signatures (options of a command, a tool's schema)."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast

C = TypeVar("C", bound=Callable[..., Any])


def expand_groups(function: C) -> C:
    """Decorator: replace each parameter whose type is a dataclass by the fields of that dataclass, which callers pass by name.

    A dataclass checks and converts in `__post_init__` what no type says. Fields need defaults if the parameter stands behind one with a
    default.
    """
    signature = inspect.signature(function)
    groups = {name: of.annotation for name, of in signature.parameters.items() if is_dataclass(of.annotation)}

    @functools.wraps(function)
    def expanded(*args: Any, **kwargs: Any) -> Any:
        made = {
            name: group(**{field.name: kwargs.pop(field.name) for field in fields(group) if field.name in kwargs})
            for name, group in groups.items()
        }
        return function(*args, **kwargs, **made)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _parameters_of(groups[name]) if name in groups else [parameter]
    vars(expanded)["__signature__"] = signature.replace(parameters=parameters)
    expanded.__annotations__ = {**{of.name: of.annotation for of in parameters}, "return": signature.return_annotation}
    return cast(C, expanded)


def _parameters_of(group: Any) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(group)
    ]
