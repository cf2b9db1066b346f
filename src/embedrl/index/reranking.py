"""The second stage of a search: the first hits, put in the order of a reranker that sees each of them."""

from collections.abc import Sequence

from embedrl.data.protocols import Reranks, Side
from embedrl.errors import MediaError, ModelError
from embedrl.index.exact import Neighbour
from embedrl.index.hit import Catalogue, tcot_of
from embedrl.index.index import Index
from embedrl.index.row import Row
from embedrl.index.units import item_of
from embedrl.media.store import limits_in_force


class Reranker:
    """A reranker and the query that it compares with."""

    def __init__(self, model: Reranks, query: Side) -> None:
        self.model, self.query = model, query
        self.scores: dict[str, float] = {}
        """Of the items that it was asked about, by key; a higher one is better."""

    def sort(self, index: Index, near: Sequence[Neighbour], catalogue: Catalogue | None = None) -> list[Neighbour]:
        """Return hits by the reranker's scores, ties as they were. One that cannot be read or scored keeps its rank."""
        served = None if catalogue is None else {place.id for hit in near for place in catalogue.places.get(hit.key, ())}
        rows: dict[str, Row] = {}
        for row in index.rows([hit.key for hit in near]):
            if served is None or row.place.id in served:
                rows.setdefault(row.place.key, row)
        sides = {key: side for key, row in rows.items() if (side := _side(index, row)) is not None}
        asked = [hit.key for hit in near if hit.key in sides]
        scores = self.model.rerank(self.query, [sides[key] for key in asked]) if asked else []
        if len(scores) != len(asked):
            raise ModelError(f"the reranker {self.model.fingerprint!r} returned {len(scores)} scores for {len(asked)} candidates")
        self.scores = {key: score for key, score in zip(asked, scores, strict=True) if score is not None}
        best = iter(sorted((hit for hit in near if hit.key in self.scores), key=lambda hit: -self.scores[hit.key]))
        return [next(best) if hit.key in self.scores else hit for hit in near]


def _side(index: Index, row: Row) -> Side | None:
    """Return the item of a row with its T-CoT; None if its file cannot be read."""
    try:
        return item_of(row, index.locate(row.place.path), limits_in_force()), tcot_of(row)
    except MediaError:
        return None
