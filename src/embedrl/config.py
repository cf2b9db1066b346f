"""Recipes (TOML plus `key=value` overrides) and run folders: config.json and metrics.jsonl."""

import ast
import dataclasses
import difflib
import json
import math
import os
import platform
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedrl import log
from embedrl.errors import ConfigError, unreadable, unwritable
from embedrl.files import expanded, read_json_file, write_bytes

LIBRARIES = (
    *("embedrl", "torch", "torchvision", "transformers", "sentence-transformers", "trl", "peft", "accelerate", "datasets"),
    *("av", "pillow", "pypdfium2", "lancedb", "pyarrow", "pydantic"),
)
"""Libraries whose versions are recorded."""

_NO_RUN = "what was done in its folder is not known; choose another out=..., or move the file away"
METRICS = "metrics.jsonl"
"""File in a run folder: one JSON line per report."""

RECIPES = Path(__file__).with_name("recipes")
"""Folder of the shipped recipes."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that both NumPy and torch accept."""

M = TypeVar("M", bound=BaseModel)

WorldName = Literal["roomy", "crowded"]
"""The generated worlds: one in which a T-CoT has room for all that is true, and one in which it has not."""


class Lora(BaseModel):
    """A LoRA adapter to train in place of the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    """Scaling numerator: the adapter is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    vision: bool = False
    """Adapt the vision tower too, not only the language model."""


def load_recipe(path: Path | None, overrides: Sequence[str], model: type[M]) -> M:
    """Read a recipe, apply the overrides in order ("trainer.learning_rate=1e-4"), and validate the whole.

    `path` is a file, or the name of a shipped recipe: nano/embedder.toml, or recipes/nano/embedder.toml as the documents write it.
    The right side of an override is a TOML value, or a bare string. A table that has a `preset` may be given by its name alone, and
    changed after that: "rewards=paper", "rewards.format=tags". Raises ConfigError naming every key that is wrong, and for an override that
    replaces an earlier one's table.
    """
    table = _read(path) if path else {}
    overridden = {}
    for override in overrides:
        key, value = _split(override)
        if lost := [earlier for name, earlier in overridden.items() if name.startswith(f"{key}.")]:
            raise ConfigError(f"{override!r} replaces what {lost[0]!r} sets before it: give it first")
        _set(table, key, value, model)
        overridden[key] = override
    table = _at_home(table)

    def place(key: str) -> str:
        """Name the source of a key: an override or the file."""
        if any(key == name or key.startswith(f"{name}.") for name in overridden):
            return "override"
        return str(path) if path else "overrides"

    if wrong := [f"{place(key)}: {key}={value!r}: {why}" for key, value, why in _unknown(table, model)]:
        raise ConfigError("\n".join(wrong))
    try:
        return model.model_validate(table)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "missing":
                lines.append(f"{place(key)}: {key} is required: add it to the recipe, or give {key}=...")
            else:
                value = f"{key}={problem['input']!r}: " if key else ""
                lines.append(f"{place(key)}: {value}{problem['msg'].removeprefix('Value error, ')}")
        raise ConfigError("\n".join(lines)) from error


def _recipe_file(path: Path) -> Path:
    """Return the file of a recipe; a file that is there comes before a shipped one of that name. Raises ConfigError if neither exists."""
    if path.exists():
        return path
    name = path.relative_to("recipes") if path.parts[:1] == ("recipes",) else path
    shipped = {file.relative_to(RECIPES): file for file in sorted(RECIPES.rglob("*.toml"))}
    if name not in shipped:
        names = ", ".join(file.as_posix() for file in shipped)
        raise ConfigError(f"recipe {str(path)!r}: there is no such file, nor a shipped recipe of that name ({names}; in {str(RECIPES)!r})")
    return shipped[name]


def _read(path: Path) -> dict[str, Any]:
    path = _recipe_file(path)
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{str(path)!r}: the recipe cannot be read ({error.strerror}); give the path of a .toml file") from error
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: not a TOML file: {error}") from error


def _split(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not text or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"{override!r}: write key=value, as in seed=1 or trainer.learning_rate=1e-4")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[0] in "[{\"'":
            raise ConfigError(f"{override!r}: {text!r} is not a TOML value ({error})") from error
        return key, _as_python(text)
    simple = parsed.keys() == {"value"} and isinstance(parsed["value"], str | bool | int | float | list | dict)
    return key, parsed["value"] if simple else text


def _as_python(text: str) -> Any:
    """Convert True, False, None and numbers such as .5 or 1., which TOML lacks; anything else stays a string."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if value is None or isinstance(value, bool | int | float) else text


def _at_home(value: Any) -> Any:
    """Expand a leading "~" in all paths of a table."""
    if isinstance(value, dict):
        return {key: _at_home(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_at_home(inner) for inner in value]
    return os.path.expanduser(value) if isinstance(value, str) and (value == "~" or value.startswith("~/")) else value


def _steps(key: str) -> list[str]:
    """Split a dotted key; a name that holds a dot stands in quotes, as in TOML."""
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return key.split(".")
    steps = []
    while isinstance(table, dict):
        [(step, table)] = table.items()
        steps.append(step)
    return steps


def _set(table: dict[str, Any], key: str, value: Any, schema: Any) -> None:
    *outer, last = _steps(key)
    for depth, part in enumerate(outer):
        [schema] = _schemas((_fields(schema) or {}).get(part)) or [None]
        if isinstance(table.get(part), str) and "preset" in (_fields(schema) or {}):
            table[part] = {"preset": table[part]}
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{key}={value!r}: {'.'.join(outer[: depth + 1])} is the value {table!r}, not a table")
    table[last] = value


def _unknown(table: Mapping[str, Any], schema: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (key, value, reason) of every key that is not in the schema, nested ones included."""
    fields = _fields(schema)
    if fields is None:
        return
    for name, value in table.items():
        if name not in fields:
            yield f"{prefix}{name}", value, f"unknown key{_suggest(name, schema, prefix)}; allowed: {', '.join(_allowed(fields, prefix))}"
        elif value == "" and Path in (fields[name], *get_args(fields[name])):
            yield f"{prefix}{name}", value, "an empty path is the working folder: give one"
        elif isinstance(value, bool) and bool not in (kinds := (fields[name], *get_args(fields[name]))) and {int, float} & set(kinds):
            yield f"{prefix}{name}", value, "give a number"
        elif isinstance(value, dict):
            for inner in _schemas(fields[name]):
                yield from _unknown(value, inner, f"{prefix}{name}.")


def _fields(schema: Any) -> dict[str, Any] | None:
    """Return field name -> annotation of a model or dataclass; None for a type that takes any key."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        open_ended = schema.model_config.get("extra") == "allow"
        return None if open_ended else {field.alias or name: field.annotation for name, field in schema.model_fields.items()}
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        return {field.name: field.type for field in dataclasses.fields(schema)}
    return None


def _schemas(annotation: Any) -> list[Any]:
    """Return the model of an annotation (`Model`, `Model | None`); none for a union of several, which pydantic resolves."""
    models = [part for part in (annotation, *get_args(annotation)) if _fields(part) is not None]
    return models if len(models) == 1 else []


def _allowed(fields: Mapping[str, Any], prefix: str) -> list[str]:
    return [f"{prefix}{name}{'.*' if _schemas(kind) or 'dict[' in str(kind) else ''}" for name, kind in fields.items()]


def _suggest(name: str, schema: Any, prefix: str) -> str:
    """Suggest the nearest key, in this table or one level below."""
    fields = _fields(schema) or {}
    known = {name: f"{prefix}{name}" for name in fields}
    for outer, kind in fields.items():
        for inner in _schemas(kind):
            known = {key: f"{prefix}{outer}.{key}" for key in _fields(inner) or {}} | known
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {known[near[0]]}?)" if near else ""


def library_versions() -> dict[str, str]:
    """Return the version of Python and of each of `LIBRARIES` that is installed, without importing any."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """Return the git commit of embedrl's source, with "-dirty" if modified; None outside a checkout."""
    here = Path(__file__)
    try:
        subprocess.run(["git", "ls-files", "--error-unmatch", here.name], cwd=here.parent, check=True, capture_output=True, timeout=10)
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        described = subprocess.run(command, cwd=here.parent, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def write_run_config(
    folder: Path,
    config: BaseModel,
    *,
    prompt_hashes: Mapping[str, str] | None = None,
    num_processes: int | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write config.json atomically: resolved config, git revision, library versions, prompt hashes, number of processes.

    `inputs` are fingerprints of the files and model folders that settings name, by setting.
    Raises ConfigError if the folder holds a run with another config, of other inputs or prompts, because resuming it would mix two, or a
    config.json that is no run's. Where the folder lies, and how its path is spelled, is no difference; nor is a setting that did not exist
    when the run began, at its default.
    """
    _refuse_another(folder / "config.json", config, num_processes, inputs or {}, prompt_hashes or {})
    record: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "git_revision": git_revision(),
        "versions": library_versions(),
        "prompt_hashes": dict(prompt_hashes or {}),
    }
    if num_processes is not None:
        record["num_processes"] = num_processes
    if inputs is not None:
        record["inputs"] = dict(inputs)
    write_bytes(folder / "config.json", (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    return folder / "config.json"


def _refuse_another(
    path: Path, wanted: BaseModel, num_processes: int | None, inputs: Mapping[str, str], prompt_hashes: Mapping[str, str]
) -> None:
    config = wanted.model_dump(mode="json")
    if not path.exists():
        return
    try:
        record = read_json_file(path, ConfigError, _NO_RUN)
        before, processes_before = _with_defaults(record["config"], wanted), record.get("num_processes", num_processes)
        inputs_before, hashes_before = dict(record.get("inputs", {})), dict(record.get("prompt_hashes", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{str(path)!r} is not of a run: {_NO_RUN}") from error
    changed = [key for key in {**before, **config} if key != "out" and not _same(before.get(key), config.get(key))]
    if changed:
        changes = ", ".join(f"{key}={before.get(key)!r} is now {config.get(key)!r}" for key in changed)
        raise ConfigError(f"{str(path.parent)!r} holds a run with other settings ({changes}): choose another out=..., or delete the folder")
    if differing := [name for name in inputs if inputs_before.get(name, inputs[name]) != inputs[name]]:
        raise ConfigError(
            f"{str(path.parent)!r} holds a run of other data: what {', '.join(differing)} names has changed since it began, and the rest "
            "of the run would not fit what is done; put back what it was, or choose another out=..."
        )
    if rewritten := [name for name, digest in prompt_hashes.items() if hashes_before.get(name, digest) != digest]:
        raise ConfigError(
            f"{str(path.parent)!r} holds a run of other prompts: this version of embedrl asks {', '.join(rewritten)!r} in other words; "
            "go on with the version that its config.json names, or choose another out=..."
        )
    if new := _new_settings(record["config"], wanted):
        log.info(f"{str(path.parent)!r} is of a version without {', '.join(new)}: it goes on with the default{'s' if len(new) > 1 else ''}")
    if num_processes is not None and processes_before != num_processes:
        raise ConfigError(
            f"{str(path.parent)!r} holds a run of {processes_before} processes, and this is one of {num_processes}: "
            f"each takes its share of the batches by their number; go on with {processes_before}, or choose another out=..."
        )


def _with_defaults(before: Mapping[str, Any], config: BaseModel) -> dict[str, Any]:
    """Return the settings of a run, with the defaults of those that it does not know, in the tables of its recipe too."""
    unknown, tables = _unknown_settings(before, config)
    known = {name: None for name in type(config).model_fields if name not in unknown}
    defaults = type(config).model_construct(**known).model_dump(mode="json", warnings=False)
    return {
        **before,
        **{name: defaults[name] for name in unknown},
        **{name: _with_defaults(before[name], table) for name, table in tables.items()},
    }


def _new_settings(before: Mapping[str, Any], config: BaseModel, prefix: str = "") -> list[str]:
    """Return the settings that a run does not know, with their values, as in a recipe."""
    unknown, tables = _unknown_settings(before, config)
    new = [f"{prefix}{name}={getattr(config, name)!r}" for name in unknown]
    return new + [setting for name, table in tables.items() for setting in _new_settings(before[name], table, f"{prefix}{name}.")]


def _unknown_settings(before: Mapping[str, Any], config: BaseModel) -> tuple[list[str], dict[str, BaseModel]]:
    """Return the optional settings that a run does not know, and the tables that it knows, in which others may be unknown."""
    fields = type(config).model_fields
    values = {name: getattr(config, name) for name in fields}
    unknown = [name for name, field in fields.items() if name not in before and not field.is_required()]
    return unknown, {name: value for name, value in values.items() if isinstance(value, BaseModel) and isinstance(before.get(name), dict)}


def _same(before: Any, now: Any) -> bool:
    """Return whether two settings are equal, or paths of the same file or folder."""
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_same(before[key], now[key]) for key in before)
    if isinstance(before, str) and isinstance(now, str) and before and now and before != now:
        first, second = expanded(before), expanded(now)
        return first.exists() and second.exists() and first.samefile(second)
    return before == now


class Metrics:
    """Training metrics as JSON Lines: {"step": ..., "seconds": ..., "stage/name": float}."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started: float | None = None

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append one line (rank 0 only), with null for values that are not finite. Raises StoreError.

        The first call drops lines that a killed run left from `step` on, and goes on counting its seconds.
        """
        if os.environ.get("RANK", "0") not in ("", "0"):
            return
        if self._started is None:
            self._started = time.monotonic() - self._resume(step)
        clean = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        line = json.dumps({"step": step, "seconds": round(time.monotonic() - self._started, 3), **clean})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _resume(self, step: int) -> float:
        """Drop the lines from this step on; return the seconds of the rest."""
        before = read_metrics(self.path) if self.path.exists() else []
        kept = [row for row in before if row.get("step", step) < step]
        seconds = max((row.get("seconds", 0.0) for row in kept), default=0.0)
        write_bytes(self.path, "".join(f"{json.dumps(row)}\n" for row in kept).encode())
        return seconds


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the lines of a `Metrics` file, without a truncated last line. Raises StoreError."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise unreadable(path, error) from error
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]
