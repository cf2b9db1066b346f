"""embedrl: multimodal retrieval that reasons before it embeds, and shows its evidence.

Public names are imported when they are first used, so that `import embedrl` stays free of torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "embedrl.data.items": ("candidate", "query"),
    "embedrl.data.sample": ("Item", "Pair"),
    "embedrl.data.tcot": ("Evidence", "TCoT"),
    "embedrl.evaluation.evaluate": ("evaluate",),
    "embedrl.evaluation.task": ("RetrievalTask",),
    "embedrl.index.answer": ("CitedAnswer", "ask"),
    "embedrl.index.filter": ("Filter",),
    "embedrl.index.index": ("Index",),
    "embedrl.index.ingest": ("ingest",),
    "embedrl.index.query": ("Query",),
    "embedrl.index.recommend": ("Examples", "recommend"),
    "embedrl.index.search": ("search",),
    "embedrl.media.content": ("Image", "Page", "Text", "Video"),
    "embedrl.runtime.names": ("load_embedder", "load_reasoner", "load_text_reader", "load_transcriber"),
}
"""Module -> the public names that it defines."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def home_of(name: str) -> str:
    """Return the module that defines a public name. Raises KeyError for any other."""
    return _HOME_OF[name]


def __getattr__(name: str) -> Any:
    """Import a public name. Raises AttributeError for any other."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'embedrl' has no attribute {name!r}; public are: {', '.join(sorted(_HOME_OF))}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
