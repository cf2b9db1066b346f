"""The architecture: who may import whom, and which library lives where."""

import ast
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "embedrl"

LAYERS = (
    ("errors",),
    ("log", "arguments", "concurrency", "parameters", "files"),
    ("config",),
    ("media",),
    ("data",),
    ("models",),
    ("annotate", "index", "reasoner", "embedder", "world", "testing"),
    ("server", "evaluation", "rl", "nano", "runtime"),
    ("reports", "integrations"),
    ("pipelines",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. A package imports from rows below its own; packages of one row are strangers."""

HOMES = {
    "av": ("media/video.py", "media/video_file.py", "media/frame_index.py", "media/soundtrack.py"),
    "pillow_heif": ("media/stills.py",),
    **dict.fromkeys(("mammoth", "pptx", "openpyxl"), ("media/office.py",)),
    "pypdfium2": ("media/document.py",),
    "charset_normalizer": ("media/text.py",),
    "lancedb": ("index/lance.py", "index/connection.py"),
    "pyarrow": ("index/lance.py", "data/sources/parquet.py"),
    "rich": ("log.py",),
    "typer": ("cli/*",),
    "click": ("cli/*",),
    "fastapi": ("server/*",),
    "starlette": ("server/*",),
    "uvicorn": ("server/*",),
    "prometheus_client": ("server/metrics.py",),
    "httpx": ("models/model_server.py",),
    "matplotlib": ("reports/plots.py",),
    "jinja2": ("reports/templates.py", "models/template.py"),
    "sentence_transformers": ("embedder/train.py", "embedder/parity.py", "embedder/cross_encoder.py"),
    "datasets": ("embedder/train.py", "rl/train.py"),
    "trl": ("rl/train.py",),
    "huggingface_hub": ("models/hub.py",),
    "peft": ("models/adapters.py",),
    "ray": ("runtime/ray.py",),
    "mteb": ("integrations/mteb.py",),
    "mcp": ("integrations/mcp.py",),
    "langchain_core": ("integrations/langchain.py",),
    "llama_index": ("integrations/llama_index.py",),
    "tokenizers": ("nano/tokenizer.py",),
    "faster_whisper": ("models/whisper.py",),
    **dict.fromkeys(("rapidocr", "onnxruntime"), ("models/rapid_ocr.py",)),
    "PIL": ("media/*", "data/evidence.py", "world/*", "server/*", "reports/*", "integrations/*", "pipelines/*", "runtime/*"),
    "torch": (
        "models/*",
        "reasoner/*",
        "embedder/*",
        "nano/*",
        "rl/*",
        "testing.py",
        "server/*",
        "pipelines/*",
        "integrations/*",
        "runtime/*",
    ),
    "transformers": ("models/*", "reasoner/*", "embedder/*", "nano/*", "rl/train.py", "rl/rollout_buffer.py", "testing.py"),
}
"""Where a library may be imported. `PIL.Image` may be named anywhere as a type."""

IN_PROCESS = (
    *("image.load_image", "video.load_frames", "video.read_video", "soundtrack.decode_sound"),
    *("document.load_page", "document.page_text", "document.num_pages"),
)
"""Decoding in the process that asks. Files may come from strangers, so it is for the child process alone: others ask `media.decode`."""

FILES = sorted(SOURCE.rglob("*.py"))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the dotted name of everything that a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import"
            names += [f"{node.module}.{name.name}" for name in node.names]
    return tuple(names)


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def layer_of(name: str) -> int:
    rows = [number for number, row in enumerate(LAYERS) if name in row]
    assert rows, f"{name!r} is in no layer: add it to the table above"
    return rows[0]


def broken_imports(place: str, imported: Iterable[str]) -> list[str]:
    """Return what a file imports from its own row or above, its own package aside."""
    package = place.split("/")[0].removesuffix(".py")
    if package == "__init__":
        return [name for name in imported if name.startswith("embedrl.")]
    inside = {name.split(".")[1] for name in imported if name.startswith("embedrl.")} - {package, "__version__"}
    return sorted(name for name in inside if layer_of(name) >= layer_of(package))


def strangers(place: str, imported: Iterable[str]) -> list[str]:
    """Return the libraries that a file imports without being their home."""
    misplaced = []
    for name in imported:
        homes = HOMES.get(name.split(".")[0])
        if homes and name != "PIL.Image" and not any(fnmatch(place, home) for home in homes):
            misplaced.append(name)
    return misplaced


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_point_down(path: Path):
    assert broken_imports(place(path), imports(path)) == []


@pytest.mark.parametrize("path", FILES, ids=place)
def test_every_library_stays_at_home(path: Path):
    assert strangers(place(path), imports(path)) == []


@pytest.mark.parametrize("path", FILES, ids=place)
def test_files_are_decoded_in_the_child_process_only(path: Path):
    if not place(path).startswith("media/"):
        assert [name for name in imports(path) if name.startswith("embedrl.media.") and name.endswith(IN_PROCESS)] == []


def test_the_rules_bite():
    assert broken_imports("data/sample.py", ["embedrl.world.tasks.TASKS"]) == ["world"]
    assert broken_imports("reasoner/local.py", ["embedrl.embedder.inputs"]) == ["embedder"]
    assert broken_imports("index/search.py", ["embedrl.index.index", "embedrl.data.sample.Item", "json"]) == []
    assert broken_imports("__init__.py", ["embedrl.errors"]) == ["embedrl.errors"]
    assert strangers("index/search.py", ["lancedb", "numpy"]) == ["lancedb"]
    assert strangers("embedder/inputs.py", ["PIL.Image", "PIL.ImageDraw"]) == ["PIL.ImageDraw"]
    assert strangers("server/server.py", ["fastapi.FastAPI"]) == []
