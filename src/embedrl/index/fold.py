"""Fold results by file: the best unit of each stands for it, and names the others."""

from collections.abc import Iterable, Mapping, Sequence

from embedrl.index.exact import Neighbour
from embedrl.index.hit import Hit, OtherUnit
from embedrl.index.index import Index
from embedrl.index.row import Place

MAX_OTHERS = 5
"""A hit shows so many of the other units of its file."""
Places = Mapping[str, Sequence[Place]]
"""Where items lie, by key; the first place is the one that is shown."""


def fold(near: Iterable[Neighbour], places: Places) -> dict[str, list[Neighbour]]:
    """Return the units of each file, best first, by the key of the best one; files in the order of their best units."""
    groups: dict[bytes, list[Neighbour]] = {}
    for neighbour in near:
        if neighbour.key in places:
            groups.setdefault(places[neighbour.key][0].position[0], []).append(neighbour)
    return {group[0].key: group for group in groups.values()}


def _may_have_a_span(place: Place) -> bool:
    """Return whether a unit may have times: pages and passages have none, and need not be looked up."""
    return place.page is None and place.start_char is None


def with_others(index: Index, hits: Sequence[Hit], groups: Mapping[str, Sequence[Neighbour]], places: Places) -> tuple[Hit, ...]:
    """Return hits that name the other units of their files."""
    others = {hit.key: groups[hit.key][1:] for hit in hits if len(groups.get(hit.key, ())) > 1}
    if not others:
        return tuple(hits)
    shown = {key: [near for near in group if near.key in places][:MAX_OTHERS] for key, group in others.items()}
    timed = {near.key for group in shown.values() for near in group if _may_have_a_span(places[near.key][0])}
    spans = index.spans(timed) if timed else {}

    def other(near: Neighbour) -> OtherUnit:
        place = places[near.key][0]
        start_s, end_s = spans.get(near.key, (None, None))
        return OtherUnit(
            key=near.key,
            score=near.score,
            page=place.page,
            unit=place.unit,
            start_s=start_s,
            end_s=end_s,
            start_char=place.start_char,
            end_char=place.end_char,
        )

    return tuple(
        hit.model_copy(update={"other_units": tuple(map(other, shown[hit.key])), "num_other_units": len(others[hit.key])})
        if hit.key in others
        else hit
        for hit in hits
    )
