"""Searches and vectors for other libraries: hits as documents with text and metadata, plain vectors of texts."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Self

from embedrl.data import items
from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.vectors import embed_unit
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.runtime.index_models import open_with_models


class OpensByName:
    """Retrievers that take `index`, `embedder` and `reasoner`."""

    @classmethod
    def open(
        cls, place: str | Path, embedder: str | None = None, reasoner: str | None = None, think: bool | None = None, **fields: Any
    ) -> Self:
        """Open an index with the models that are named, else those that it was made with; `think=False` leaves the Reasoner out.

        Raises ConfigError, ModelError and StoreError.
        """
        index, embeds, reasons = open_with_models(place, embedder, reasoner, think)
        make: Any = cls
        return make(index=index, embedder=embeds, reasoner=reasons, **fields)


def retrieve(index: Index, query: str, embedder: Embeds, reasoner: Reasons | None, *, filter: Filter, limit: int) -> Sequence[Hit]:
    """Return the hits of a text; without a Reasoner, items are compared as they are."""
    asked = Query(items.as_content(query), filter=filter, limit=limit, use_tcot=reasoner is not None)
    return search(index, asked, embedder, reasoner).hits


def embed_texts(embedder: Embeds, texts: Sequence[str]) -> list[list[float]]:
    """Return the plain vectors of texts as candidates."""
    return embed_unit(embedder, [items.candidate(text) for text in texts], [None] * len(texts)).tolist() if texts else []


def embed_query(embedder: Embeds, text: str) -> list[float]:
    """Return the plain vector of a text as a query that looks for texts."""
    return embed_unit(embedder, [items.query(text, looking_for="text")], [None])[0].tolist()


def text_of(hit: Hit) -> str:
    """Return what is said of a hit: the answer of its T-CoT, and how its own text begins."""
    return "\n".join(filter(None, [hit.answer, hit.excerpt]))


def metadata_of(index: Index, hit: Hit, *, also: Set[str] = frozenset()) -> dict[str, Any]:
    """Return where a hit lies, what its T-CoT points at, and fields of it by name (`also`), as JSON types; nothing for what is None."""
    fields = {"modality", "page", "start_s", "end_s", "tcot", "verification", *also}
    facts = hit.model_dump(mode="json", include=fields)
    return {"source": str(index.locate(hit.path)), **{name: value for name, value in facts.items() if value is not None}}
