"""Response schemas of items, hits and evidence."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.box_names import box_names
from embedrl.data.evidence import Verification
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.segments import TextSegment
from embedrl.data.tcot import Box, TCoT
from embedrl.index.hit import HitFields

MAX_QUERY_CHARS, MAX_PAGE = 10_000, 100
MAX_RANK = 1_000
"""How far the pages of what was compared go; what is only listed has no such end."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class BoxShown(_Answer):
    """A box of the evidence."""

    box: Box
    """x1 y1 x2 y2, relative to the picture, 0..1000 if it holds."""
    verified: bool
    check: str = ""
    """What was checked, in words: `inside the picture`, or not."""
    name: str | None = None
    """What the T-CoT says is in it, where that can be told."""
    part: int = 1
    """1-based number of the item's image or frame part that it lies in."""


class KeyFrameShown(_Answer):
    """A key frame of the evidence."""

    number: int
    """1-based, among the frames that the Reasoner saw."""
    time_s: float | None
    """When it is on screen; null for a frame that does not exist."""
    verified: bool
    check: str = ""
    """What was checked, in words: `frame exists`, or not."""
    image: str | None
    """Where its picture is."""


class KeywordShown(_Answer):
    """A keyword of the evidence."""

    text: str
    verified: bool
    check: str = ""
    """What was checked, in words: `quoted` from the item's text, or not."""
    place: TextSegment | None = None
    """When it is said or where it stands, if it was read in the medium."""


class EvidenceShown(_Answer):
    """Evidence of a T-CoT, each piece with its verification result."""

    boxes: tuple[BoxShown, ...] = ()
    key_frames: tuple[KeyFrameShown, ...] = ()
    keywords: tuple[KeywordShown, ...] = ()
    num_frames: int | None = None
    """Number of frames (at most) that the key frames are counted in; null if not known."""
    num_unread: int = 0
    """Number of pieces that could not be parsed."""


PIECE_FIELDS = {"boxes": "box", "key_frames": "number", "keywords": "text"}
"""Kind of evidence -> field of its answer that holds the piece."""


class CropChecked(_Answer):
    """Result of comparing a box's crop with its name."""

    name: str | None
    score: float | None
    """Share of other names that fit what is in the box worse, 0..1; null for a box without a name, or too small to see."""
    fits: bool | None
    """Whether the score is high enough; null where there is none."""


class CropsChecked(_Answer):
    """The boxes of an item, compared with their names and with names of other items' boxes."""

    boxes: tuple[CropChecked, ...]
    num_others: int


class TCoTShown(_Answer):
    """A T-CoT, as plain text."""

    thinking: str
    rethink: str
    answer: str


class HitShown(HitFields):
    """A search hit."""

    name: str
    path: str
    """Relative to the root."""
    other_paths: tuple[str, ...] = ()
    """Other paths of the same content."""
    duration_s: float | None = None
    uploaded: bool
    """Whether it was uploaded over HTTP, and may be deleted so."""
    tcot: TCoTShown | None = None
    evidence: EvidenceShown | None = None
    thumbnail: str | None = None
    media: str
    picture: str | None = None
    overlay: str | None = None
    reason: str | None = None
    """For a recommendation: what it shares with what was liked, in words."""


class ItemShown(HitShown):
    """An item, with its own text."""

    text: str = ""
    segments: tuple[TextSegment, ...] = ()
    """All words that were read or heard in it, with their times or boxes."""


class QueryShown(_Answer):
    """The query's T-CoT."""

    tcot: TCoTShown | None = None
    failure: str | None = None
    """Why there is no T-CoT although the Reasoner was asked; the plain vector was used."""
    evidence: EvidenceShown | None = None
    key: str | None = None
    """Key of the item that is the medium of the query, if it is in the index."""


class Seconds(_Answer):
    """Timings in seconds."""

    reason: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    total: float = 0.0


class SearchAnswer(_Answer):
    """A page of Hits, best first."""

    hits: tuple[HitShown, ...]
    total: int | None
    """How many pass the filters; null where it was not counted."""
    offset: int
    more: bool
    """Whether there is a next page."""
    think: bool
    """Whether items were compared with their T-CoTs, and the query with its own."""
    reasoner: str
    gate: Literal["plain", "reasoned"] | None = None
    """What the gate decided: to answer as it is, or to reason first; null without one."""
    fused_words: tuple[str, ...] = ()
    """With match=fuse: the words that ranked items beside the vectors."""
    reranker: str = ""
    """What put the first hits in order; empty if nothing did."""
    query: QueryShown = QueryShown()
    seconds: Seconds = Seconds()


class RankChange(_Answer):
    """Rank change of an item from the plain to the reasoned result; 1-based, null if not on the page."""

    key: str
    before: int | None
    now: int | None


class ReasonedAnswer(SearchAnswer):
    """The reasoned result with its rank changes."""

    changes: tuple[RankChange, ...] = ()


class Listing(_Answer):
    """A page of items, without a query."""

    items: tuple[HitShown, ...]
    total: int
    offset: int
    more: bool


class Added(_Answer):
    """An accepted file."""

    name: str
    path: str
    keys: tuple[str, ...]
    """One item, or one for each page."""
    state: str
    """`added`, or `known` if its content was there before."""


class Refused(_Answer):
    """A rejected file."""

    name: str
    reason: str


class Uploaded(_Answer):
    """Result of an upload. The files of its items are durable and searchable."""

    items: tuple[Added, ...]
    refused: tuple[Refused, ...] = ()
    """Files that cannot be used, beside others that were taken in."""


class Removed(_Answer):
    """Result of a deletion."""

    removed: tuple[str, ...]
    """Keys."""


class ServedReasoner(_Answer):
    """A Reasoner that searches can choose."""

    id: str
    name: str


class Indexing(_Answer):
    """State of the indexing thread."""

    state: str
    """`idle`, `embedding` (new files become searchable) or `reasoning` (their T-CoTs are written)."""
    done: int
    total: int
    waiting: int
    """Uploads and deletions that wait."""
    watching: bool


class FailureShown(_Answer):
    """A file that could not be indexed."""

    path: str
    page: int | None
    reason: str


class Failures(_Answer):
    """Files that could not be indexed."""

    count: int
    first: tuple[FailureShown, ...]


class RequestLimits(_Answer):
    """Limits of requests that a page should know beforehand."""

    max_upload_bytes: int
    max_question_chars: int
    """Of a question to /v1/ask."""


class Status(_Answer):
    """Contents and state of the server."""

    title: str
    num_items: int
    num_places: int
    modalities: dict[str, int]
    num_without_tcot: int
    reasoners: tuple[ServedReasoner, ...]
    embedder: str
    think: bool
    """Whether there is a Reasoner."""
    gate: bool = False
    """Whether searches can say think=auto."""
    gated: bool = False
    """Whether searches that do not say how to think are answered so."""
    indexing: Indexing
    failures: Failures
    version: int
    """Grows whenever the index changes."""
    uploads: bool = True
    blind: bool = False
    """Whether a model is of the shipped miniature, which knows nothing but its world."""
    limits: RequestLimits


class Login(BaseModel):
    """Login with the access token."""

    token: str = Field(max_length=1000)


def show_tcot(tcot: TCoT | None) -> TCoTShown | None:
    """Convert a T-CoT to its response schema."""
    return None if tcot is None else TCoTShown(thinking=tcot.thinking, rethink=tcot.rethink, answer=tcot.answer)


def show_evidence(
    tcot: TCoT,
    verification: Verification | None,
    times_s: tuple[float | None, ...] = (),
    frames: str | None = None,
    places: tuple[TextSegment | None, ...] = (),
) -> EvidenceShown:
    """Return the evidence of a T-CoT as it is sent. What was not checked is not verified.

    `frames` is where pictures of frames are, `places` where keywords were read.
    """
    evidence = tcot.evidence
    checked = {kind.name: kind.checked(evidence, verification) for kind in EVIDENCE_KINDS}
    say = {kind.name: kind.say for kind in EVIDENCE_KINDS}
    times = times_s if len(times_s) == len(evidence.key_frames) else (None,) * len(evidence.key_frames)
    places = places if len(places) == len(evidence.keywords) else (None,) * len(evidence.keywords)
    parts = evidence.box_images or (1,) * len(evidence.boxes)
    return EvidenceShown(
        num_frames=evidence.num_frames,
        num_unread=evidence.num_unread,
        boxes=tuple(
            BoxShown(box=box, verified=holds, check=say["boxes"](holds), name=name, part=part)
            for (box, holds), name, part in zip(checked["boxes"], box_names(tcot), parts, strict=True)
        ),
        key_frames=tuple(
            KeyFrameShown(
                number=number,
                time_s=time,
                verified=holds,
                check=say["key_frames"](holds),
                image=f"{frames}/{number}" if frames and holds else None,
            )
            for (number, holds), time in zip(checked["key_frames"], times, strict=True)
        ),
        keywords=tuple(
            KeywordShown(text=text, verified=holds, check=say["keywords"](holds), place=place)
            for (text, holds), place in zip(checked["keywords"], places, strict=True)
        ),
    )
