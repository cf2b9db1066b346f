"""A search as a client asks for it: its fields, read and checked."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import File, Form, UploadFile

from embedrl.errors import ConfigError
from embedrl.index.filter import MAX_WORDS, Filter, read_time
from embedrl.index.row import MODALITIES, Modality
from embedrl.media.content import Content, Image, Text, Video
from embedrl.server.problem import Problem
from embedrl.server.sandbox import Decoded

MAX_QUERY_CHARS = 10_000
MAX_RANK = 1_000
"""How far a client may page."""

Sort = Literal["score", "newest", "oldest", "name"]


@dataclass(frozen=True)
class Query:
    """What is looked for, where, and which page of it."""

    content: Content
    modality: tuple[Modality, ...] | None
    where: Filter
    min_score: float | None
    sort: Sort
    offset: int
    limit: int
    think: bool | None
    reasoner: str | None
    file: UploadFile | None = None

    def with_file(self, decoded: Decoded) -> "Query":
        """Return the query with its file, decoded, as its first part. Raises Problem 415."""
        match decoded.kind:
            case "image":
                part = Image(pixels=decoded.pictures[0])
            case "video":
                part = Video(frames=decoded.frames)
            case _:
                raise Problem(415, "file: search with an image or a video", "bad_file")
        return replace(self, content=(part, *self.content), file=None)


def read_query(
    text: Annotated[str | None, Form(max_length=MAX_QUERY_CHARS, description="What to look for, or what to change.")] = None,
    file: Annotated[UploadFile | None, File(description="An image or a video to look for.")] = None,
    modality: Annotated[list[Modality] | None, Form(description="Kinds of items; none for all.")] = None,
    under: Annotated[str | None, Form(max_length=1000, description="A folder of the library.")] = None,
    since: Annotated[str | None, Form(max_length=40, description="ISO date or time: files changed then or later.")] = None,
    until: Annotated[str | None, Form(max_length=40, description="ISO date or time: files changed up to then.")] = None,
    words: Annotated[str | None, Form(max_length=500, description="Words that must stand in answer, name or text.")] = None,
    min_score: Annotated[float | None, Form(ge=-1, le=1, allow_inf_nan=False)] = None,
    sort: Annotated[Sort | None, Form()] = None,
    offset: Annotated[int, Form(ge=0, le=MAX_RANK)] = 0,
    limit: Annotated[int, Form(ge=1, le=100)] = 24,
    think: Annotated[bool | None, Form(description="Let the Reasoner write a T-CoT first.")] = None,
    reasoner: Annotated[str | None, Form(max_length=40)] = None,
) -> Query:
    """Read the fields of a search. Raises Problem."""
    if file is not None and not file.filename and not file.size:
        file = None  # a form field that was left empty
    text = clean(text)
    where = read_where(under, since, until, words)
    if not text and file is None and not where.words:
        raise Problem(422, "nothing to look for: give text, a file, or words", "empty_query")
    check_page(offset, limit)
    return Query(
        content=(Text(text=text),) if text else (),
        modality=read_modalities(modality),
        where=where,
        min_score=min_score,
        sort=sort or ("score" if text or file is not None else "newest"),
        offset=offset,
        limit=limit,
        think=think,
        reasoner=reasoner or None,
        file=file,
    )


def clean(text: str | None) -> str:
    """Return a text without the ends and the code points that no UTF-8 can hold."""
    return (text or "").encode("utf-8", "replace").decode().replace("\0", " ").strip()


def check_page(offset: int, limit: int) -> None:
    """Check which page is wanted. Raises Problem."""
    if offset + limit > MAX_RANK:
        raise Problem(422, f"offset={offset}, limit={limit}: pages end at rank {MAX_RANK}; filter more", "too_far")


def read_modalities(names: list[Modality] | None) -> tuple[Modality, ...] | None:
    """Return modalities in their standard order, None for all."""
    return tuple(name for name in MODALITIES if name in names) if names else None


def read_where(under: str | None, since: str | None, until: str | None, words: str | None) -> Filter:
    """Read the filters. Raises Problem."""
    wanted = tuple(clean(words).split())
    if len(wanted) > MAX_WORDS:
        raise Problem(422, f"words: {len(wanted)} words; give at most {MAX_WORDS}", "too_many_words")
    since_s, until_s = _time_s("since", since, is_end=False), _time_s("until", until, is_end=True)
    if since_s is not None and until_s is not None and since_s >= until_s:
        raise Problem(422, "since and until: give the earlier time first", "bad_time")
    return Filter(path=clean(under), since_s=since_s, until_s=until_s, words=wanted)


def _time_s(name: str, value: str | None, *, is_end: bool) -> float | None:
    try:
        return read_time(value, is_end=is_end) if (value := clean(value)) else None
    except ConfigError as error:
        raise Problem(422, f"{name}: {error}", "bad_time") from error
