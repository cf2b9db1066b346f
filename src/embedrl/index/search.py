"""Search: from a Query to ranked Hits, for the command line, the server and Python.

Plain vectors (the item alone) and vectors with T-CoT are never compared with each other: their cosines are on different scales. Every
row and every query has a plain vector; those with a T-CoT have a second one. A query without T-CoT ranks plain vectors. A query with
one ranks items with a T-CoT by the vectors with T-CoT; an item without one keeps its rank in the plain ranking of all items.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedrl.arguments import require, require_models
from embedrl.data.protocols import Embeds, Gates, Reasons, Reranks
from embedrl.data.reasoning import Answer, ask, failure_reason
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, tcot_or_none
from embedrl.data.vectors import require_unit
from embedrl.errors import ConfigError, MediaError, ModelError
from embedrl.index.exact import EVERYTHING, TIE_DECIMALS, Candidates, Neighbour
from embedrl.index.filter import matching_keys
from embedrl.index.fold import files_of, fold, with_others
from embedrl.index.fusion import fuse, rank_by_rare_words, rank_by_words
from embedrl.index.gate import NUM_HITS
from embedrl.index.hit import WHOLE, Catalogue, Hit, View, look_up, places_by_key
from embedrl.index.index import Index
from embedrl.index.phrases import named, named_by, shared_phrases
from embedrl.index.query import Query, Selection, Sort
from embedrl.index.reranking import Reranker
from embedrl.index.row import Place, Vectors
from embedrl.media.content import Text

NUM_SORTED = 1_000
"""Number of best hits that an order other than by score sorts."""
NUM_FUSED = 100
"""Length of the rankings, by vectors and by words, that are fused."""
MAX_TRIES = 3
"""Attempts of a search whose hits another process removes meanwhile."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Timings(_Result):
    """Seconds by stage of a search."""

    reason_s: float = 0.0
    embed_s: float = 0.0
    search_s: float = 0.0


class SearchResult(_Result):
    """A page of Hits, best first, and the query's T-CoT."""

    hits: tuple[Hit, ...]
    total: int | None = None
    """Number of items on all pages; None if not counted."""
    more: bool = False
    """Whether there is a next page."""
    used_tcot: bool = False
    """Whether vectors with T-CoT were compared, rather than plain ones."""
    fused_words: tuple[str, ...] = ()
    """With `match="fuse"`: the words that ranked items; without any, the vectors alone did."""
    reranker: str = ""
    """Fingerprint of what put the first hits in order; empty if nothing did."""
    gate: Literal["plain", "reasoned"] | None = None
    """What the gate decided: to answer as it is, or to reason first; None without one."""
    query_tcot: TCoT | None = None
    query_tcot_failure: str | None = None
    """Reason code if the Reasoner was asked and gave no valid T-CoT."""
    query_tcot_error: str = ""
    """Error message if the Reasoner could not be reached."""
    timings: Timings = Timings()


@dataclass(frozen=True)
class QueryVectors:
    """The vectors of a query, float32 (dim,), unit length; at least one of the two."""

    plain: np.ndarray | None = None
    """Of the query alone; None if every item is compared by `tcot`."""
    tcot: np.ndarray | None = None
    """Of the query with its T-CoT; None if it has none."""


def search(
    index: Index,
    query: Query,
    embedder: Embeds | None = None,
    reasoner: Reasons | None = None,
    *,
    reranker: Reranks | None = None,
    gate: Gates | None = None,
    view: View = WHOLE,
) -> SearchResult:
    """Rank the items of an index by their cosine to a query, ties by key; without content, list what passes the filter.

    With `query.use_tcot` the Reasoner writes a T-CoT of the query first, unless the `gate` decides against it. An item with the query's
    own bytes is the first hit; the medium of a composed query (a medium with text) is left out. Raises ConfigError for models that do
    not fit the index, MediaError for a query file that cannot be read, ModelError of the reranker.
    """
    started = time.perf_counter()
    require(index, Index, "an index", "embedrl.Index.open(folder)")
    require(query, Query, "a query", "embedrl.Query(…), which takes a str, a Path, an image or a tuple")
    require_models(embedder=embedder, reasoner=reasoner)
    if query.rerank and reranker is None:
        raise ConfigError(f"rerank={query.rerank} needs a reranker: give one, or leave it out")
    if not query.content:
        listed = browse(index, query, view)
        return listed.model_copy(update={"timings": Timings(search_s=time.perf_counter() - started)})
    if embedder is None:
        raise ConfigError("a query with content is compared by its vector: give the Embedder of the index")
    check_models(index, embedder, reasoner, query)
    decision, plain = _decide(index, query, embedder, gate) if query.use_tcot and gate is not None else (None, None)
    outcome = _reason(reasoner, query.item) if query.use_tcot and reasoner is not None and decision != "plain" else None
    reasoned = time.perf_counter()
    tcot = tcot_or_none(outcome)
    vectors = _embed(index, embedder, query.item, tcot, plain)
    embedded = time.perf_counter()
    page = _page(index, query, vectors, view, Reranker(reranker, (query.item, tcot)) if reranker is not None and query.rerank else None)
    asked = [query.item.text, *(named_by(tcot, tcot.evidence.keywords) if tcot else ())]
    plain_texts = [hit.key for hit in page.hits if hit.tcot is None and hit.modality == "text"]
    texts = {row.place.key: row.text for row in index.rows(plain_texts)}
    return page.model_copy(
        update={
            "hits": tuple(
                hit.model_copy(
                    update={"shared": shared_phrases(named(hit, texts.get(hit.key, "")), asked), "without_reasoning": decision == "plain"}
                )
                for hit in page.hits
            ),
            "gate": decision,
            "used_tcot": tcot is not None,
            "query_tcot": tcot,
            "query_tcot_failure": None if outcome is None else failure_reason(outcome),
            "query_tcot_error": str(outcome) if isinstance(outcome, ModelError) else "",
            "timings": Timings(reason_s=reasoned - started, embed_s=embedded - reasoned, search_s=time.perf_counter() - embedded),
        }
    )


def _decide(index: Index, query: Query, embedder: Embeds, gate: Gates) -> tuple[Literal["plain", "reasoned"], np.ndarray]:
    """Ask a gate about a query, by its plain vector, which is returned too, and its first hits among all items."""
    [plain] = _vectors(index, embedder, query.item, [None])
    scores = [neighbour.score for neighbour in index.nearest(plain, "plain", NUM_HITS)]
    return "reasoned" if gate.wants(query.item, plain, scores) else "plain", plain


def check_models(index: Index, embedder: Embeds, reasoner: Reasons | None, query: Query) -> None:
    """Raise ConfigError if these models cannot answer a query of this index."""
    if query.use_tcot and reasoner is None:
        raise ConfigError("use_tcot=True needs a Reasoner that writes the query's T-CoT: give one, or set use_tcot=False")
    index.check(embedder)


def browse(index: Index, query: Selection, view: View = WHOLE) -> SearchResult:
    """List the items that pass a filter in the query's order, without a model; their score is 0."""
    catalogue = view.catalogue() if view.catalogue else Catalogue(index.version, places_by_key(index.places()))
    order = query.order if isinstance(query, Query) else "newest"
    passing = matching_keys(index, query.filter, view.shown_as)
    kinds = None if query.filter.modality is None else index.keys_of(query.filter.modality)
    keys = [
        key
        for key in sorted(catalogue.places, key=lambda key: catalogue.places[key][0].position)
        if key not in query.exclude_keys and (passing is None or key in passing) and (kinds is None or key in kinds)
    ]
    keys = _sorted(keys, order, catalogue.places, view)
    hits, num_results = _hits(index, query, [Neighbour(key, 0.0) for key in keys], catalogue)
    return SearchResult(hits=hits, total=num_results, more=num_results > query.end)


def _hits(index: Index, query: Selection, near: Sequence[Neighbour], catalogue: Catalogue | None) -> tuple[tuple[Hit, ...], int]:
    """Return the hits of a page, folded by file if the query wants files, and the number of results on all pages."""
    groups = fold(near, files_of(near, catalogue)) if query.unit == "file" else {neighbour.key: [neighbour] for neighbour in near}
    page = [group[0] for group in list(groups.values())[query.offset : query.end]]
    texts = [part.text for part in query.content if isinstance(part, Text)] if isinstance(query, Query) else []
    asked = " ".join([*query.filter.words, *texts])
    return with_others(index, look_up(index, page, catalogue, asked), groups, catalogue), len(groups)


def rank(index: Index, vectors: QueryVectors, top: int, among: Candidates = EVERYTHING) -> list[Neighbour]:
    """Return the `top` nearest items of a query, best first, comparing only vectors of the same kind (see the module docstring).

    Items without a T-CoT keep their ranks in the plain ranking of all items; the remaining ranks go to the items with a T-CoT, by
    cosine of the vectors with T-CoT. `min_score` applies to the cosine that an item is compared by.
    """
    if vectors.tcot is None:
        assert vectors.plain is not None
        return index.nearest(vectors.plain, "plain", top, among)
    reasoned = index.nearest(vectors.tcot, "tcot", top, replace(among, reasoned_only=True))
    if vectors.plain is None:
        return reasoned
    plain = index.nearest(vectors.plain, "plain", top, among)
    unreasoned = index.without_tcot([neighbour.key for neighbour in plain])
    best_reasoned = iter(reasoned)
    merged = [neighbour if neighbour.key in unreasoned else next(best_reasoned, None) for neighbour in plain]
    by_key = {neighbour.key: neighbour for neighbour in (*merged, *best_reasoned) if neighbour is not None}
    return list(by_key.values())[:top]


def score_of(index: Index, vectors: QueryVectors, key: str) -> float | None:
    """Return the cosine that `rank` compares an item by; None if it is not there."""
    kind: Vectors = "plain" if vectors.tcot is None or index.without_tcot([key]) else "tcot"
    vector = vectors.plain if kind == "plain" else vectors.tcot
    known = index.vectors([key], kind)
    return round(float(known[key] @ vector), TIE_DECIMALS) if vector is not None and key in known else None


def _reason(reasoner: Reasons, item: Item) -> Answer:
    """Ask for the T-CoT of a query. Without an answer it can still be compared as it is. Raises MediaError for its file."""
    [answer] = ask(reasoner, [item])
    if isinstance(answer, MediaError):
        raise answer
    return answer


def _embed(index: Index, embedder: Embeds, item: Item, tcot: TCoT | None, plain: np.ndarray | None) -> QueryVectors:
    """Return the vectors that the index compares; `plain` is that of the item alone, if it is known."""
    kinds: list[TCoT | None] = [] if tcot is None else [tcot]
    if plain is None and (tcot is None or index.lacks_tcots):
        kinds.append(None)
    vectors = dict(zip(kinds, _vectors(index, embedder, item, kinds), strict=True)) if kinds else {}
    return QueryVectors(plain=vectors.get(None, plain), tcot=None if tcot is None else vectors[tcot])


def _vectors(index: Index, embedder: Embeds, item: Item, tcots: Sequence[TCoT | None]) -> np.ndarray:
    vectors = embedder.embed([item] * len(tcots), tcots)
    if vectors.shape != (len(tcots), index.dim):
        raise ModelError(f"the Embedder {embedder.fingerprint!r} returned shape {vectors.shape}, not ({len(tcots)}, {index.dim})")
    require_unit(vectors, [item] * len(tcots), embedder)
    return vectors


def _page(index: Index, query: Query, vectors: QueryVectors, view: View, reranker: Reranker | None) -> SearchResult:
    by_score = query.order == "score"
    for _ in range(MAX_TRIES):
        catalogue = view.catalogue() if view.catalogue else None
        near, fused_words = _deep_enough(index, query, vectors, view, catalogue)
        if reranker is not None:
            near = _reranked(index, query, near, catalogue, reranker)
        if not by_score:
            places = catalogue.places if catalogue else places_by_key(index.places_of([neighbour.key for neighbour in near]))
            scores = {neighbour.key: neighbour for neighbour in near}
            near = [scores[key] for key in _sorted([key for key in scores if key in places], query.order, places, view)]
        hits, num_results = _hits(index, query, near, catalogue)
        if len(hits) == max(min(num_results, query.end) - query.offset, 0):
            break
    if reranker is not None:
        hits = tuple(hit.model_copy(update={"rerank_score": reranker.scores.get(hit.key)}) for hit in hits)
    return SearchResult(
        hits=hits,
        total=None if by_score else num_results,
        more=num_results > query.end,
        fused_words=fused_words,
        reranker="" if reranker is None else reranker.model.fingerprint,
    )


def _deep_enough(
    index: Index, query: Query, vectors: QueryVectors, view: View, catalogue: Catalogue | None
) -> tuple[list[Neighbour], tuple[str, ...]]:
    """Rank as many items as a page and its successor take, whose files may be fewer; return them, and what words helped."""
    by_score, by_file = query.order == "score", query.unit == "file"
    end = max(query.end, query.rerank)
    depth = max(end + 1, NUM_SORTED if by_file else 0) if by_score else NUM_SORTED
    while True:
        near, words = _ranked(index, query, vectors, depth, view, catalogue)
        if not (by_score and by_file) or len(near) < depth or len(fold(near, files_of(near, catalogue))) > end:
            return near, words
        depth *= 4


def _reranked(index: Index, query: Query, near: list[Neighbour], catalogue: Catalogue | None, reranker: Reranker) -> list[Neighbour]:
    """Put the first results, each by its best unit, in the order of a reranker; the others follow as they were."""
    best = fold(near, files_of(near, catalogue)) if query.unit == "file" else None
    first = [neighbour for neighbour in near if best is None or neighbour.key in best][: query.rerank]
    keys = {neighbour.key for neighbour in first}
    return [*reranker.sort(index, first, catalogue), *(neighbour for neighbour in near if neighbour.key not in keys)]


def _ranked(
    index: Index, query: Query, vectors: QueryVectors, top: int, view: View, catalogue: Catalogue | None
) -> tuple[list[Neighbour], tuple[str, ...]]:
    """Rank what the query asks for, and name the words that helped; the item with its own content comes first."""
    if catalogue is not None and not catalogue.places:
        return [], ()
    is_fused = query.match == "fuse"
    filter = replace(query.filter, words=()) if is_fused else query.filter
    among = Candidates(
        modality=query.filter.modality,
        only_keys=matching_keys(index, filter, view.shown_as),
        exclude_keys={
            *query.exclude_keys,
            *query.reference_keys,
            *index.keys_by_medium(query.reference_keys).values(),
            *(catalogue.barred if catalogue else ()),
        },
        min_score=query.min_score,
    )
    near, words = _fused(index, query, vectors, top, among) if is_fused else (rank(index, vectors, top, among), ())
    same = query.same_key
    same = index.keys_by_medium([same] if same else []).get(same or "", same)
    admitted = same is not None and same not in among.exclude_keys and (among.only_keys is None or same in among.only_keys)
    if not admitted or (among.modality is not None and query.content[0].kind not in among.modality):
        return near, words
    first = next((neighbour for neighbour in near if neighbour.key == same), None) or _unranked(index, vectors, same)
    if first is None or (among.min_score is not None and first.score < among.min_score):
        return near, words
    return [first, *(neighbour for neighbour in near if neighbour.key != same)][:top], words


def _unranked(index: Index, vectors: QueryVectors, key: str) -> Neighbour | None:
    """Return an item that is not among the nearest; None if it is not there."""
    score = score_of(index, vectors, key)
    places = {} if score is None else index.parts_of([key])
    return Neighbour(key, score, *places[key]) if score is not None and key in places else None


def _fused(index: Index, query: Query, vectors: QueryVectors, top: int, among: Candidates) -> tuple[list[Neighbour], tuple[str, ...]]:
    """Fuse the ranking of the vectors with that of the filter's words, or else of rare ones; every item keeps its cosine as its score."""
    near = rank(index, vectors, max(top, NUM_FUSED), among)
    if query.filter.words:
        worded = rank_by_words(index, query.filter.words, allowed=among.only_keys)
    else:
        worded = rank_by_rare_words(index, query.item.text, [neighbour.key for neighbour in near], allowed=among.only_keys)
    if not worded.keys:
        return near[:top], worded.words
    ranked = {neighbour.key: neighbour for neighbour in near}
    others = [key for key in worded.keys[:NUM_FUSED] if key not in ranked]
    if others:  # their cosines are asked for as any other's, so that every condition holds for them
        narrowed = set(others) if among.only_keys is None else set(others) & set(among.only_keys)
        ranked |= {neighbour.key: neighbour for neighbour in rank(index, vectors, len(others), replace(among, only_keys=narrowed))}
    fused = fuse([[neighbour.key for neighbour in near], [key for key in worded.keys if key in ranked]], (1.0, worded.weight))
    return [ranked[key] for key in fused][:top], worded.words


def _sorted(keys: Sequence[str], order: Sort, places: Mapping[str, Sequence[Place]], view: View) -> list[str]:
    """Sort keys by the first place of each; of equals, as they are."""
    if order == "name":
        return sorted(keys, key=lambda key: (view.shown_as(places[key][0].path).casefold(), *places[key][0].position[1:]))
    sign = 1 if order == "oldest" else -1
    return sorted(keys, key=lambda key: sign * places[key][0].taken_s)
