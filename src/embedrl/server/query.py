"""Parsing and validation of search requests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import File, Form, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.protocols import Gates
from embedrl.index.filter import ConditionError, Filter, read_filter
from embedrl.index.query import MAX_RERANK, Match, Query, ResultUnit, Selection, Sort
from embedrl.index.row import Modality
from embedrl.media.content import Content, Image, Part, Text, Video
from embedrl.server.problem import Problem
from embedrl.server.sandbox import Decoded
from embedrl.server.schemas import MAX_PAGE, MAX_QUERY_CHARS, MAX_RANK

MAX_OFFSET = 10_000_000

KEY = r"^[0-9a-f]{64}$"
_CODES = {"words": "too_many_words", "since": "bad_time", "area": "bad_area"}
"""Condition of a filter -> the code of its problem."""

Think = bool | Literal["never", "auto", "always"]
"""`true`: as the server is set, which may have a gate; `false`: never."""

S = TypeVar("S", bound=Selection)


class Conditions(BaseModel):
    """The filters of a request."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    modality: list[Modality] | None = None
    under: str | None = Field(default=None, max_length=1000)
    since: str | None = Field(default=None, max_length=40)
    until: str | None = Field(default=None, max_length=40)
    words: str | None = Field(default=None, max_length=500)
    camera: str | None = Field(default=None, max_length=200)
    area: str | None = Field(default=None, max_length=200)
    """LATITUDE,LONGITUDE,KM or SOUTH,WEST,NORTH,EAST."""

    def filter(self) -> Filter:
        """Parse the filters. Raises Problem."""
        return clean_filter({name: getattr(self, name) for name in Conditions.model_fields})


class Narrowed(Conditions):
    """The filters of a request in JSON."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class SearchRequest:
    """A validated search request, before its Reasoner is chosen and its file decoded."""

    query: Query
    think: Think | None
    """None: as the server is set, if there is a Reasoner."""
    reasoner: str | None
    """Id of a Reasoner; None for the first."""
    file: UploadFile | None = None
    key: str | None = None
    """Key of an item of the index that is the medium of the query."""
    match: Match = "filter"
    think_budget: float | None = None
    """Share of queries that the gate wants to be reasoned about; None: as the server is set."""

    @property
    def use_tcot(self) -> bool | None:
        """Whether to reason, or to ask a gate whether to; None: if there is a Reasoner."""
        return reasons(self.think)

    def gate(self, gate: Gates | None, is_gated: bool) -> Gates | None:
        """Return the gate that decides about this search, as `gate_of` does."""
        return gate_of(self.think, self.think_budget, gate, is_gated)

    def with_file(self, decoded: Decoded, medium_key: str) -> Query:
        """Return the query with its decoded file as its first part. Raises Problem 415."""
        match decoded.kind:
            case "image":
                part = Image(pixels=decoded.images[0])
            case "video":
                part = Video(frames=decoded.frames)
            case _:
                raise Problem(415, "file: search with an image or a video", "bad_file")
        return self.with_part(part, medium_key)

    def with_part(self, part: Part, medium_key: str) -> Query:
        """Return the query with a medium as its first part; `medium_key` is the key of that medium as an item."""
        return replace(self.query, content=(part, *self.query.content), medium_key=medium_key)


def reasons(think: Think | None) -> bool | None:
    """Return whether to reason, or to ask a gate whether to; None: if there is a Reasoner."""
    return think if think is None or isinstance(think, bool) else think != "never"


def gate_of(think: Think | None, budget: float | None, gate: Gates | None, is_gated: bool) -> Gates | None:
    """Return the gate that decides about a request; `is_gated`: whether the server's does unless told. Raises Problem 422."""
    asks = think == "auto" or (is_gated and reasons(think) is not False and think != "always")
    if budget is not None and not asks:
        raise Problem(422, f"think_budget={budget:g}: goes with think=auto; leave out one of the two", "no_gate_asked")
    if not asks:
        return None
    if gate is None:
        raise Problem(422, "think=auto: this server has no gate for its Embedder; say always or never", "no_gate")
    return gate if budget is None else gate.at(budget)


def read_query(
    text: Annotated[str | None, Form(max_length=MAX_QUERY_CHARS, description="Text query, or the change to a query image.")] = None,
    file: Annotated[UploadFile | None, File(description="Query image or video.")] = None,
    key: Annotated[str | None, Form(pattern=KEY, description="Key of an item of the index as query, instead of a file.")] = None,
    modality: Annotated[list[Modality] | None, Form(description="Kinds of items; none for all.")] = None,
    under: Annotated[str | None, Form(max_length=1000, description="A folder of the library.")] = None,
    since: Annotated[str | None, Form(max_length=40, description="ISO date or time: files taken (else modified) at or after.")] = None,
    until: Annotated[str | None, Form(max_length=40, description="ISO date or time: files taken (else modified) up to.")] = None,
    words: Annotated[str | None, Form(max_length=500, description="Words that answer, name or text must contain.")] = None,
    match: Annotated[Match, Form(description="fuse: combine a ranking by words with the one by vectors, without filtering.")] = "filter",
    rerank: Annotated[int, Form(ge=0, le=MAX_RERANK, description="Rerank this many top hits.")] = 0,
    camera: Annotated[str | None, Form(max_length=200, description="Words of the camera's name.")] = None,
    area: Annotated[str | None, Form(max_length=200, description="LATITUDE,LONGITUDE,KM or SOUTH,WEST,NORTH,EAST.")] = None,
    min_score: Annotated[float | None, Form(ge=-1, le=1, allow_inf_nan=False)] = None,
    sort: Annotated[Sort | None, Form()] = None,
    unit: Annotated[ResultUnit, Form(description="One hit per file (its best unit), or one per page, scene and passage.")] = "file",
    offset: Annotated[int, Form(ge=0, le=MAX_OFFSET)] = 0,
    limit: Annotated[int, Form(ge=1, le=MAX_PAGE)] = 24,
    think: Annotated[
        Think | None,
        Form(
            description="Write a T-CoT of the query first: never (false), auto (if the gate wants it), always; true: as the server is set."
        ),
    ] = None,
    think_budget: Annotated[
        float | None, Form(ge=0, le=1, allow_inf_nan=False, description="For think=auto: share of queries to reason about.")
    ] = None,
    reasoner: Annotated[str | None, Form(max_length=40)] = None,
) -> SearchRequest:
    """Parse and validate the fields of a search. Raises Problem."""
    if file is not None and not file.filename and not file.size:
        file = None  # a form field that was left empty
    text = clean(text)
    conditions = {"modality": modality, "under": under, "since": since, "until": until, "words": words, "camera": camera, "area": area}
    filter = clean_filter(conditions)
    if file is not None and key is not None:
        raise Problem(422, "file and key exclude each other: give one", "two_media")
    if not text and file is None and key is None and not filter.words:
        raise Problem(422, "the query is empty: give text, a file, a key, or words", "empty_query")
    content: Content = (Text(text=text),) if text else ()
    order = None if sort == "score" else sort  # the default of what is compared; words alone have no score
    if match == "fuse" and not content and file is None and key is None:
        raise Problem(422, "match=fuse: needs a text or a file to embed", "nothing_to_fuse")
    if rerank and sort not in (None, "score"):
        raise Problem(422, f"rerank={rerank}, sort={sort}: reranking needs sort=score; leave out one", "not_reranked")
    query = Query(content=content, filter=filter, min_score=min_score, sort=order, unit=unit, offset=offset, limit=limit, rerank=rerank)
    return SearchRequest(query, think, reasoner or None, file, key, match, think_budget)


def within_ranks(selection: S) -> S | None:
    """Clip a page to the maximum rank; None if it lies beyond."""
    num_left = MAX_RANK - selection.offset
    return replace(selection, limit=min(selection.limit, num_left)) if num_left > 0 else None


def clean(text: str | None) -> str:
    """Strip a text, and drop code points that UTF-8 cannot encode."""
    return (text or "").encode("utf-8", "replace").decode().replace("\0", " ").strip()


def clean_filter(conditions: Mapping[str, Any]) -> Filter:
    """Read the filters of a request, by their names. Raises Problem 422."""
    cleaned: dict[str, Any] = {name: clean(value) if isinstance(value, str) else value for name, value in conditions.items()}
    try:
        return read_filter(**cleaned)
    except ConditionError as error:
        raise Problem(422, str(error), _CODES.get(error.name)) from error
