"""What a JSON value, a model, a command line or an OpenAPI document looks like from outside, as plain facts that can be compared."""

import dataclasses
import json
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Facts = dict[str, Any]


def keys_of(value: Any, any_key: Collection[str] = (), path: str = "") -> list[str]:
    """List the paths of a JSON value's keys; `[]` stands for any element of a list, `*` for any key below the paths `any_key`."""
    if isinstance(value, dict):
        pairs = [(f"{path}.{'*' if path in any_key else key}".removeprefix("."), inner) for key, inner in value.items()]
        return sorted({name for key, inner in pairs for name in [key, *keys_of(inner, any_key, key)]})
    if isinstance(value, list):
        return sorted({name for inner in value for name in keys_of(inner, any_key, f"{path}[]")})
    return []


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def keys_in(path: Path, any_key: Collection[str] = ()) -> list[str]:
    """List the keys of a JSON file, or of all lines of a JSON Lines file."""
    return keys_of(lines_of(path) if path.suffix == ".jsonl" else json.loads(path.read_text("utf-8")), any_key)


def type_text(annotation: Any) -> str:
    """Name a type without the names of our classes."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(args[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_text, args))
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(type_text, args))}]"
    if is_table(annotation):
        return "table"
    return "None" if annotation is types.NoneType else getattr(annotation, "__name__", str(annotation))


def is_table(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))


def tables_in(annotation: Any) -> Iterator[Any]:
    if is_table(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from tables_in(inner)


def plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"), sort_keys=True)
    return json.dumps(dataclasses.asdict(value), sort_keys=True) if dataclasses.is_dataclass(value) else repr(value)


def fields_of(model: Any, prefix: str = "") -> Facts:
    """Return type, limits and default of every key of a model, also inside tables."""
    facts: Facts = {}
    if issubclass(model, BaseModel):
        fields = [
            (field.alias or name, field.annotation, field.is_required(), field.get_default(call_default_factory=True), field.metadata)
            for name, field in model.model_fields.items()
        ]
    else:
        required = dataclasses.MISSING
        fields = [(field.name, field.type, field.default is required, field.default, ()) for field in dataclasses.fields(model)]
    for name, annotation, required, default, limits in fields:
        value = "required" if required else f"default {plain(default)}"
        facts[f"{prefix}{name}"] = "; ".join([type_text(annotation), *map(str, limits), value])
        for table in tables_in(annotation):
            facts |= fields_of(table, f"{prefix}{name}.")
    return facts


def schema_lines(schema: Any, components: Facts, path: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield (path of a property, its type and limits) of a JSON schema, references resolved and descriptions left out."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in above:
            yield path, "as above"
            return
        yield from schema_lines(components[name], components, path, (*above, name))
        return
    words = {
        "$ref",
        "properties",
        "required",
        "items",
        "anyOf",
        "oneOf",
        "allOf",
        "description",
        "title",
        "example",
        "examples",
        "prefixItems",
    }
    own = {word: value for word, value in schema.items() if word not in words and not isinstance(value, dict)}
    if own:
        yield path, json.dumps(own, sort_keys=True, ensure_ascii=False)
    for name, inner in schema.get("properties", {}).items():
        mark = "" if name in schema.get("required", ()) else "?"
        yield from schema_lines(inner, components, f"{path}.{name}{mark}", above)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from schema_lines(schema[word], components, f"{path}{'[]' if word == 'items' else '.*'}", above)
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for number, inner in enumerate(schema.get(word, ())):
            yield from schema_lines(inner, components, f"{path}|{number}", above)


def commands_of(command: Any, words: str = "embedrl") -> Facts:
    """Return the parameters of a Typer command and of every command below it: spellings, type, limits, default."""
    facts, position = {}, 0
    for option in command.params:
        name = ", ".join([*sorted(option.opts), *sorted(option.secondary_opts)])
        if option.param_type_name == "argument":
            position += 1
            name = f"argument {position}"
        marks = [mark for mark in ("multiple", "is_flag", "required", "hidden") if getattr(option, mark, False)]
        limits = [f"{word} {value}" for word in ("min", "max", "envvar") if (value := getattr(option, word, None)) is not None]
        default = str(option.default) if isinstance(option.default, Path) else option.default
        kind = type_text(option.type_descriptor.annotation)
        facts[name] = "; ".join([kind, *marks, *limits, f"nargs {option.nargs}", f"default {default!r}"])
    below = [commands_of(inner, f"{words} {name}") for name, inner in getattr(command, "commands", {}).items()]
    return {words: facts, **{name: inner for each in below for name, inner in each.items()}}


def operations_of(api: Facts) -> Facts:
    """Return the parameters, bodies and answers of every operation that an OpenAPI document describes, property by property."""
    facts = {}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts = {
                f"{given['in']} {given['name']}{'' if given.get('required') else '?'}": given["schema"]
                for given in operation.get("parameters", ())
            }
            alike: dict[str, list[str]] = {}
            for status, body in [("body", operation.get("requestBody", {})), *operation["responses"].items()]:
                for medium, content in body.get("content", {"no content": {}} if status != "body" else {}).items():
                    alike.setdefault(json.dumps([medium, content.get("schema", {})]), []).append(status)
            for answer, statuses in alike.items():
                medium, schema = json.loads(answer)
                parts[f"{' '.join(statuses)} {medium}"] = schema
            lines = {}
            for name, schema in parts.items():
                inside = dict(schema_lines(schema, api["components"]["schemas"]))
                lines |= {f"{name} {place}".strip(): text for place, text in inside.items()} or {name: "{}"}
            facts[f"{method.upper()} {path}"] = lines
    return facts


def flat(value: Any, path: str = "") -> list[str]:
    """Write facts one a line, each with its whole path, so that a line of a difference speaks for itself."""
    if isinstance(value, dict) and value:
        return [line for key in sorted(value) for line in flat(value[key], f"{path} / {key}".removeprefix(" / "))]
    if isinstance(value, list) and value:
        return [line for inner in value for line in flat(inner, f"{path} []")]
    return [f"{path}: {json.dumps(value, ensure_ascii=False)}"]
