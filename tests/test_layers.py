"""Imports point down: a file imports its own package or a strictly lower layer, and nothing else of embedrl."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "embedrl"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config", "log"),
    ("media",),
    ("data", "backbone"),
    ("reasoner", "embedder", "testing"),
    ("nano", "world"),
    ("annotate", "rl", "evaluate", "index"),
    ("app",),
)
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}

NEIGHBOURS = {("nano", "world")}
"""The one pair on one layer that may meet: the nano models are trained on the world."""


def unit_of(file: Path) -> str:
    """`media` for media/video.py, `errors` for errors.py."""
    return file.relative_to(SRC).with_suffix("").parts[0]


def imported_modules(source: str, package: tuple[str, ...]) -> list[tuple[int, str]]:
    """Line and dotted name of everything of embedrl that the source imports, wherever the statement stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *([node.module] if node.module else [])))
            found += [(node.lineno, f"{base}.{alias.name}" if base == "embedrl" else base) for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "embedrl"]


def verdict(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported` (both units), or None where it may."""
    if importer == imported or (importer, imported) in NEIGHBOURS or imported.startswith("__"):
        return None
    if imported not in LEVEL:
        return f"{imported!r} stands on no layer: add it to LAYERS"
    if LEVEL[imported] < LEVEL[importer]:
        return None
    relation = "a stranger on the same layer" if LEVEL[imported] == LEVEL[importer] else "a higher layer"
    return f"{relation} ({importer}: layer {LEVEL[importer]}, {imported}: layer {LEVEL[imported]})"


def faults(file: Path) -> list[str]:
    package = ("embedrl", *file.relative_to(SRC).parent.parts)
    importer = unit_of(file)
    found = []
    for line, name in imported_modules(file.read_text(encoding="utf-8"), package):
        parts = name.split(".")
        reason = verdict(importer, parts[1]) if len(parts) > 1 else None
        if reason:
            found.append(f"src/embedrl/{file.relative_to(SRC)}:{line} imports {name}: {reason}")
    return found


FILES = sorted(file for file in SRC.rglob("*.py") if file != SRC / "__init__.py")


def test_every_unit_stands_on_a_layer() -> None:
    missing = sorted({unit_of(file) for file in FILES if not unit_of(file).startswith("__")} - LEVEL.keys())
    assert not missing, f"{missing} stand on no layer: add them to LAYERS"


def test_imports_point_down() -> None:
    found = [fault for file in FILES if not unit_of(file).startswith("__") for fault in faults(file)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("media", "errors", True),
        ("media", "media", True),
        ("media", "data", False),
        ("reasoner", "embedder", False),
        ("nano", "world", True),
        ("world", "nano", False),
        ("evaluate", "world", True),
        ("evaluate", "index", False),
        ("app", "rl", True),
        ("data", "helpers", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert (verdict(importer, imported) is None) == allowed


def test_every_form_of_import_is_seen() -> None:
    source = "import embedrl.app.cli\nfrom embedrl import app\ndef f():\n    from embedrl.rl import train\nfrom ..world import tasks\n"
    names = [name for _, name in imported_modules(source, ("embedrl", "media"))]
    assert sorted(names) == ["embedrl.app", "embedrl.app.cli", "embedrl.rl", "embedrl.world"]
