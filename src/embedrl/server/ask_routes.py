"""Ask route: a question about the whole index, answered with citations."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.protocols import Gates, Reasons
from embedrl.data.tcot import Box
from embedrl.index.answer import MIN_SUPPORT, Citation, ask
from embedrl.index.hit import Hit
from embedrl.index.query import Query
from embedrl.index.row import Modality
from embedrl.server.bodies import BoundedRoute
from embedrl.server.problem import Problem
from embedrl.server.query import Narrowed, Think, clean, gate_of, reasons
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service

MAX_QUESTION_CHARS = 2_000


class Question(Narrowed):
    """A question about the indexed items."""

    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    limit: int = Field(default=8, ge=1, le=32)
    """Items that are retrieved and looked at."""
    min_support: float = Field(default=MIN_SUPPORT, ge=0, le=1, allow_inf_nan=False)
    """Share of the question's words that an item must say to be cited; 0: the Reasoner answers from the best items anyway."""
    think: Think | None = None
    """Reason: never (false; the answer is then taken from what is stored), auto (about the search, if the gate wants it), always; true: as
    the server is set."""
    think_budget: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """For think=auto: share of questions to reason about before the search."""
    reasoner: str | None = Field(default=None, max_length=40)


class CitationShown(BaseModel):
    """Source of an answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    key: str
    path: str
    """Relative to the root."""
    modality: Modality
    answer: str
    support: float
    """Share of the question's words that the item says, 0..1."""
    score: float
    """Cosine to the question."""
    page: int | None
    boxes: tuple[Box, ...]
    """Where in the image, 0..1000."""
    times_s: tuple[float, ...]
    """Moments of a video, seconds."""
    line: int | None
    """1-based line of a text; null in a passage of one, which `start_char` places."""
    start_char: int | None
    """Where the passage begins in its text, in characters."""
    quote: str
    media: str
    """Where the file is, at the moment or the page."""


class AnswerShown(BaseModel):
    """An answer with its citations, best first."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    text: str
    answered: bool
    """False if nothing in the index answers the question; then there are no citations."""
    citations: tuple[CitationShown, ...]
    num_asked: int
    """Items that were retrieved and looked at."""
    gate: Literal["plain", "reasoned"] | None
    """What the gate decided about the search; null without one."""


def ask_routes(service: Service) -> APIRouter:
    """Create the router of a service."""
    router = APIRouter(prefix="/v1", tags=["search"], route_class=BoundedRoute)

    @router.post("/ask")
    async def ask_index(asked: Question) -> AnswerShown:
        """Answer a question from the top items, citing box, moment, page or line; `answered` is false if none does."""
        library, thinks = service.library(asked.reasoner), reasons(asked.think)
        if thinks:
            library.need_reasoner()
        gate = gate_of(asked.think, asked.think_budget, service.gate, service.is_gated)
        reasoner = None if thinks is False else library.reasoner
        question = clean(asked.question)
        if not question:
            raise Problem(422, "question: ask something", "empty_query")
        query = Query(filter=asked.filter())
        return await service.work(lambda: _answer(library, question, query, asked, reasoner, gate))

    return router


def _answer(
    library: ServedIndex, question: str, query: Query, asked: Question, reasoner: Reasons | None, gate: Gates | None
) -> AnswerShown:
    answer = ask(
        library.index,
        question,
        library.embedder,
        reasoner,
        limit=asked.limit,
        min_support=asked.min_support,
        query=query,
        gate=gate if reasoner else None,
        view=library.view,
        locate=lambda hit: _file(library, hit),
    )
    return AnswerShown(
        text=answer.text,
        answered=answer.is_answered,
        citations=tuple(_cited(library, citation) for citation in answer.citations),
        num_asked=answer.num_asked,
        gate=answer.gate,
    )


def _file(library: ServedIndex, hit: Hit) -> Path:
    """Return the path of a served item's file, verified to be the indexed version. Raises Problem 404."""
    _, file = library.file(hit.key)
    file.close()
    return file.real


def _cited(library: ServedIndex, citation: Citation) -> CitationShown:
    media = f"/api/items/{citation.key}/media"
    anchor = f"#t={citation.times_s[0]:g}" if citation.times_s else f"#page={citation.page}" if citation.page else ""
    fields = {name: getattr(citation, name) for name in CitationShown.model_fields if name not in ("path", "media")}
    return CitationShown(**fields, path=library.shown(citation.path), media=f"{media}{anchor}")
