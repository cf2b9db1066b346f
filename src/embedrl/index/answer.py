"""Question answering over an index: retrieve, find what answers, and cite the box, moment, page or line.

An item is cited only if what was said about it *before* the question was known (its own text and its stored T-CoT) supports the
question: a Reasoner that is asked about a red star sees one. Where a clause of that answers, it is the answer, with the evidence that
belongs to it; else the Reasoner is asked about the item. Where no item supports the question, the answer says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from embedrl.arguments import require
from embedrl.data import items
from embedrl.data.evidence import Evidence, Verification, verify
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.protocols import Embeds, Gates, Reasons
from embedrl.data.reasoning import ask as ask_reasoner
from embedrl.data.sample import Item
from embedrl.data.segments import locate, read_segments
from embedrl.data.tcot import Box, TCoT, tcot_or_none
from embedrl.errors import ConfigError, MediaError
from embedrl.index.hit import WHOLE, Hit, View
from embedrl.index.index import Index
from embedrl.index.query import Query
from embedrl.index.row import Row
from embedrl.index.search import search
from embedrl.index.support import answering, clauses, support
from embedrl.index.units import item_of
from embedrl.media.content import Text
from embedrl.media.store import limits_in_force

MIN_SUPPORT = 0.75
"""Share of the question's words that an item must say; measured on the world (docs/ask.md)."""
MAX_CITED = 3
NOTHING = "nothing in this index answers the question"
ANSWER_TEXT = "Answer the question about the text."


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Citation(_Shown):
    """Where an answer comes from."""

    key: str
    path: Path
    """As in a Hit."""
    modality: str
    answer: str
    """What this item answers."""
    support: float
    """Share of the question's words that the item says, 0..1."""
    score: float
    """Cosine to the question."""
    page: int | None = None
    boxes: tuple[Box, ...] = ()
    """Where in the image, 0..1000; only boxes that lie in it, or where the words of the quote stand."""
    times_s: tuple[float, ...] = ()
    """Moments of a video, seconds: of frames that exist, or when the quote is said."""
    line: int | None = None
    """1-based line of a text; None in a passage of one, which `start_char` places."""
    start_char: int | None = None
    """Where the passage begins in its text, in characters."""
    quote: str = ""
    """Words of the item's own text."""


class CitedAnswer(_Shown):
    """An answer with its citations, best first; without any, nothing in the index answers the question."""

    text: str
    citations: tuple[Citation, ...] = ()
    num_asked: int = 0
    """Items that were retrieved and looked at."""
    gate: Literal["plain", "reasoned"] | None = None
    """What the gate decided about the search: with the question as it is, or with its T-CoT; None without one."""

    @property
    def is_answered(self) -> bool:
        """Whether something answers the question."""
        return bool(self.citations)


def ask(
    index: Index,
    question: str,
    embedder: Embeds,
    reasoner: Reasons | None = None,
    *,
    limit: int = 8,
    min_support: float = MIN_SUPPORT,
    query: Query | None = None,
    view: View = WHOLE,
    locate: Callable[[Hit], Path] | None = None,
    gate: Gates | None = None,
) -> CitedAnswer:
    """Answer a question from the `limit` best items. `query` narrows the search (its content is replaced by the question).

    Without a Reasoner the answer is taken from stored T-CoTs and texts. With a `gate` the question is reasoned about before the search only
    if it decides so. Raises ConfigError for an empty question.
    """
    require(question, str, "a question", "its words")
    if not question.strip():
        raise ConfigError('the question is empty: ask something, as in `embedrl ask "when does the red circle leave?"`')
    if not 0 <= min_support <= 1 or limit < 1:
        raise ConfigError(f"min_support={min_support}, limit={limit}: give a share in 0..1, and at least 1 item")
    content, thinks = (Text(text=question),), reasoner is not None
    query = query or Query()
    match = "filter" if query.filter.words else "fuse"  # words that must occur are a filter, and fused with nothing
    asked = replace(query, content=content, limit=limit, use_tcot=thinks, offset=0, unit="unit", match=match)
    result = search(index, asked, embedder, reasoner, gate=gate, view=view)
    hits = result.hits
    rows = {row.place.key: row for row in index.rows([hit.key for hit in hits])}  # without those that were removed meanwhile
    units = [_Unit(hit, rows[hit.key], support(question, stated_text(hit, rows[hit.key]))) for hit in hits if hit.key in rows]
    supported = sorted((unit for unit in units if unit.support >= min_support), key=lambda unit: -unit.support)[:MAX_CITED]
    find = locate or (lambda hit: index.locate(hit.path))
    cited = [_stored(unit, question) for unit in supported]
    open_ones = [position for position, citation in enumerate(cited) if citation is None]
    asked_about = [_about(find(supported[position].hit), supported[position], question) for position in open_ones]
    for position, (item, tcot) in zip(open_ones, _ask_about(asked_about, reasoner), strict=True):
        if item is not None and tcot is not None:
            cited[position] = _asked(supported[position], item, tcot)
    citations = tuple(citation for citation in cited if citation is not None)
    return CitedAnswer(text=citations[0].answer if citations else NOTHING, citations=citations, num_asked=len(hits), gate=result.gate)


@dataclass(frozen=True)
class _Unit:
    """A retrieved item, its row, and how well it supports the question."""

    hit: Hit
    row: Row
    support: float


def stated_text(hit: Hit, row: Row) -> str:
    """Return what is said about an item without any question: its text, and its T-CoT's thinking and answer."""
    return "\n".join(filter(None, [row.text, hit.tcot.thinking if hit.tcot else "", hit.answer]))


def _about(path: Path, unit: _Unit, question: str) -> Item | None:
    """Return the question about one item; None if its file cannot be read any more."""
    hit = unit.hit
    try:
        content = item_of(unit.row, path, limits_in_force()).content
    except MediaError:
        return None
    if hit.modality == "text":
        instruction = ANSWER_TEXT
    elif hit.modality == "video" and question.split()[0].casefold() == "when":
        instruction = items.MOMENT
    else:
        instruction = items.ANSWER[hit.modality]
    return items.query((*content, Text(text=question)), instruction)


def _ask_about(asked: list[Item | None], reasoner: Reasons | None) -> list[tuple[Item | None, TCoT | None]]:
    """Ask the Reasoner about each; what it does not answer has no T-CoT."""
    there = [item for item in asked if item is not None]
    answers = iter(ask_reasoner(reasoner, there) if reasoner is not None and there else [None] * len(there))
    outcomes = [None if item is None else next(answers) for item in asked]
    return [(item, tcot_or_none(outcome)) for item, outcome in zip(asked, outcomes, strict=True)]


def _stored(unit: _Unit, question: str) -> Citation | None:
    """Cite what was said of an item before: a clause of its T-CoT's answer, or a line of its own text. None if none answers."""
    hit, row = unit.hit, unit.row
    said = clauses(hit.answer) if hit.tcot else []
    if hit.tcot and (position := answering(question, said, adds=hit.modality != "video")) is not None:
        held = _held(hit.tcot.evidence, hit.verification, position if len(said) > 1 else None, len(said))
        return _citation(unit, said[position], held)
    lines, segments = row.text.splitlines(), read_segments(row.segments)
    is_timed = any(segment.start_s is not None for segment in segments)  # a line that repeats the question adds when it is said
    if (position := answering(question, lines, adds=not is_timed)) is None:
        return None
    line = lines[position].strip()
    number = position + 1 if hit.modality == "text" and not row.place.start_char else None
    place = locate(line, segments)
    times, boxes = ((place.start_s,) if place and place.start_s is not None else ()), (place.boxes if place else ())
    return _citation(unit, line, {}).model_copy(update={"line": number, "quote": line, "times_s": times, "boxes": boxes})


def _asked(unit: _Unit, item: Item, tcot: TCoT) -> Citation:
    """Cite what the Reasoner answers about an item, with the evidence that holds."""
    return _citation(unit, tcot.answer, _held(tcot.evidence, verify(tcot.evidence, item, len(unit.row.frame_times_s) or None)))


def _held(evidence: Evidence, checked: Verification | None, position: int | None = None, num_clauses: int = 0) -> dict[str, list[Any]]:
    """Return by kind the pieces of evidence that hold; where there is one for each clause, that of the clause alone."""
    held: dict[str, list[Any]] = {}
    for kind in EVIDENCE_KINDS:
        pieces = kind.checked(evidence, checked)
        if position is not None and len(pieces) == num_clauses:
            pieces = pieces[position : position + 1]
        held[kind.name] = [piece for piece, holds in pieces if holds]
    return held


def _citation(unit: _Unit, answer: str, held: Mapping[str, list[Any]]) -> Citation:
    hit, frames = unit.hit, unit.row.frame_times_s
    return Citation(
        key=hit.key,
        path=hit.path,
        modality=hit.modality,
        answer=answer,
        support=unit.support,
        score=hit.score,
        page=hit.page,
        boxes=tuple(held.get("boxes", ())),
        times_s=tuple(frames[number - 1] for number in held.get("key_frames", ()) if number <= len(frames)),
        start_char=hit.start_char,
        quote="; ".join(held.get("keywords", ())),
    )
