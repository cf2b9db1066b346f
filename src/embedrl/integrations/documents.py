"""What a hit is in other libraries: a document's text and metadata."""

from collections.abc import Set
from typing import Any

from embedrl.index.hit import Hit
from embedrl.index.index import Index


def text_of(hit: Hit) -> str:
    """Return what is said of a hit: the answer of its T-CoT, and how its own text begins."""
    return "\n".join(filter(None, [hit.answer, hit.excerpt]))


def metadata_of(index: Index, hit: Hit, *, also: Set[str] = frozenset()) -> dict[str, Any]:
    """Return where a hit lies, what its T-CoT points at, and fields of it by name (`also`), as JSON types; nothing for what is None."""
    fields = {"modality", "page", "start_s", "end_s", "tcot", "verification", *also}
    facts = hit.model_dump(mode="json", include=fields)
    return {"source": str(index.locate(hit.path)), **{name: value for name, value in facts.items() if value is not None}}
