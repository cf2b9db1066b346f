"""Client of a running server of the same index; results equal those of a search in this process."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedrl.data.evidence_kinds import Verification
from embedrl.data.segments import TextSegment
from embedrl.data.tcot import Evidence, TCoT
from embedrl.errors import StoreError
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit, HitFields
from embedrl.index.query import Query
from embedrl.index.search import SearchResult, Timings
from embedrl.media.content import Text
from embedrl.server.running import Announcement, post_form
from embedrl.server.schemas import MAX_PAGE, MAX_QUERY_CHARS, MAX_RANK, PIECE_FIELDS, EvidenceShown

_FIRST_S, _LAST_S = (datetime(*moment, tzinfo=UTC).timestamp() for moment in ((1, 1, 1), (9999, 12, 31, 23, 59, 59)))
"""The ends of the calendar: a time in another zone may lie beyond, where it has no ISO form."""


def search_running(
    server: Announcement, query: Query, *, token: str | None = None, think: str | None = None, think_budget: float | None = None
) -> SearchResult:
    """Search through the running server; `think` and `think_budget` are its fields, by default what the query says.

    Raises StoreError with the reason if it cannot; the caller then searches locally.
    """
    text = "".join(part.text for part in query.content if isinstance(part, Text))
    if query.limit > MAX_PAGE or query.end > MAX_RANK or len(text) > MAX_QUERY_CHARS:
        limits = f"{MAX_PAGE} hits a page, up to rank {MAX_RANK:,}, for {MAX_QUERY_CHARS:,} characters"
        raise StoreError(f"the server at {server.url} gives {limits}")
    file = next((path for part in query.content if isinstance(path := getattr(part, "path", None), Path)), None)
    fields = [*_fields(query, text), ("think", think or str(query.use_tcot).lower())]
    fields += [] if think_budget is None else [("think_budget", str(think_budget))]
    return _result(post_form(server, "/api/search", fields, file, token=token))


def _fields(query: Query, text: str) -> list[tuple[str, str]]:
    single = {
        "text": text,
        "min_score": "" if query.min_score is None else str(query.min_score),
        "sort": query.sort or "",
        "unit": query.unit,
        "match": "" if query.match == "filter" else query.match,
    }
    filters = filter_fields(query.filter)
    modalities = filters.pop("modality", ())
    fields = [(name, value) for name, value in (single | filters).items() if value]
    fields += [("modality", name) for name in modalities]
    return [*fields, ("offset", str(query.offset)), ("limit", str(query.limit))]


def filter_fields(filter: Filter) -> dict[str, Any]:
    """Return the server's fields of the conditions that are set."""
    times = {name: _iso(time_s) for name, time_s in (("since", filter.since_s), ("until", filter.until_s)) if time_s is not None}
    fields = {
        "modality": list(filter.modality or ()),
        "under": filter.path,
        "words": " ".join(filter.words),
        "camera": filter.camera,
        "area": ",".join(map(str, filter.area or ())),
        **times,
    }
    return {name: value for name, value in fields.items() if value}


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(min(max(time_s, _FIRST_S), _LAST_S), UTC).isoformat()


def _result(answer: Mapping[str, Any]) -> SearchResult:
    query, seconds = answer["query"], answer["seconds"]
    return SearchResult(
        hits=tuple(map(_hit, answer["hits"])),
        total=answer["total"],
        more=answer["more"],
        used_tcot=answer["think"],
        gate=answer["gate"],
        fused_words=tuple(answer["fused_words"]),
        query_tcot=read_tcot(query),
        query_tcot_failure=query["failure"],
        timings=Timings(reason_s=seconds["reason"], embed_s=seconds["embed"], search_s=seconds["search"]),
    )


def _hit(shown: Mapping[str, Any]) -> Hit:
    same = HitFields.model_fields.keys() & shown.keys()
    evidence, tcot = shown["evidence"], read_tcot(shown)
    return Hit(
        **{name: shown[name] for name in same},
        path=Path(shown["path"]),
        other_paths=tuple(map(Path, shown["other_paths"])),
        tcot=tcot,
        answer=tcot.answer if tcot else "",
        verification=_verification(evidence) if evidence else None,
        key_frame_times_s=tuple(piece["time_s"] for piece in evidence["key_frames"]) if evidence else (),
        keyword_places=read_places(evidence) if evidence else (),
    )


def read_places(evidence: Mapping[str, Any]) -> tuple[TextSegment | None, ...]:
    """Return where each piece that can be read in a medium, a keyword, was read; () if none was."""
    sent = [piece["place"] for kind in PIECE_FIELDS for piece in evidence[kind] if "place" in piece]
    places = tuple(None if place is None else TextSegment.model_validate(place) for place in sent)
    return places if any(places) else ()


def _verification(evidence: Mapping[str, Any]) -> Verification:
    return Verification.model_validate({kind: [piece["verified"] for piece in evidence[kind]] for kind in PIECE_FIELDS})


def read_tcot(shown: Mapping[str, Any]) -> TCoT | None:
    """Parse the T-CoT of a hit or query in a response."""
    if shown["tcot"] is None:
        return None
    pieces = shown["evidence"] or EvidenceShown().model_dump()
    evidence = Evidence(
        **{kind: tuple(piece[name] for piece in pieces[kind]) for kind, name in PIECE_FIELDS.items()},
        box_images=tuple(box["part"] for box in pieces["boxes"]),
        num_frames=pieces["num_frames"],
        num_unread=pieces["num_unread"],
    )
    return TCoT(**shown["tcot"], evidence=evidence)
