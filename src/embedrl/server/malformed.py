"""Error messages of invalid requests: the field as sent and the reason, without internals."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError

_SOURCES = ("body", "query", "path", "header", "cookie")
_WRONG_TYPE = re.compile(r"_type$|^missing$|^extra_forbidden$|^union_tag")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
MAX_CHARS = 300


def say_malformed(error: RequestValidationError) -> str:
    """Return field and reason of a validation error; an exceeded limit takes precedence over a wrong type."""
    problems = [(_place(problem["loc"], error.body), problem) for problem in error.errors()]
    place, worst = max(problems, key=lambda pair: (not _WRONG_TYPE.search(pair[1]["type"]), len(pair[0])))
    same = [problem for other, problem in problems if other == place and _WRONG_TYPE.search(problem["type"])]
    reasons = dict.fromkeys(_reason(problem) for problem in (same if _WRONG_TYPE.search(worst["type"]) else [worst]))
    reason = " or ".join(reasons)[:MAX_CHARS]
    if not place and worst["type"] == "missing":
        return "the body is empty: send a JSON object"
    return f"{'.'.join(place)}: {reason}" if place else reason


def _reason(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "too_long" and isinstance(problem["input"], str):
        return f"give at most {problem['ctx']['max_length']} characters"
    if problem["type"] == "model_attributes_type":
        return "Input should be a JSON object"
    if "UploadFile" in problem["msg"]:
        return "send a file, with its name"
    return str(problem["msg"]).removeprefix("Value error, ")


def _place(location: Sequence[str | int], body: Any) -> tuple[str, ...]:
    """Return the client's part of an error location, without pydantic's steps for unions and validators."""
    source, *steps = location if location and location[0] in _SOURCES else (None, *location)
    if source != "body" or not isinstance(body, Mapping | list):
        return tuple(str(step) for step in steps if isinstance(step, int) or _NAME.fullmatch(step))
    names: list[str] = []
    here: Any = body
    for number, step in enumerate(steps):
        if isinstance(step, int):
            names.append(str(step))
            here = here[step] if isinstance(here, list) and step < len(here) else None
        elif isinstance(here, Mapping) and step in here:
            names.append(step[:64])
            here = here[step]
        elif isinstance(here, Mapping) and number == len(steps) - 1 and _NAME.fullmatch(step):
            names.append(step)  # what is missing
    return tuple(names)
