"""Fold results by file: the best unit of each stands for it, and names the others."""

import math
from collections.abc import Iterable, Mapping, Sequence

from embedrl.index.exact import Neighbour
from embedrl.index.hit import Catalogue, Hit, OtherUnit
from embedrl.index.index import Index
from embedrl.index.row import PART_COLUMNS, Place

MAX_OTHERS = 5
"""Maximum number of other units of its file that a hit shows."""
Files = Mapping[str, bytes]
"""Path of the file of each item, by key: what results are folded by."""


def files_of(near: Iterable[Neighbour], catalogue: Catalogue | None) -> Files:
    """Return the files of ranked items: as they were ranked, or as a catalogue shows them. Nothing is read."""
    return catalogue.files if catalogue else {neighbour.key: neighbour.file for neighbour in near}


def fold(near: Iterable[Neighbour], files: Files) -> dict[str, list[Neighbour]]:
    """Return the units of each file, best first, by the key of the best one; files in the order of their best units."""
    groups: dict[bytes, list[Neighbour]] = {}
    for neighbour in near:
        if neighbour.key in files:
            groups.setdefault(files[neighbour.key], []).append(neighbour)
    return {group[0].key: group for group in groups.values()}


def with_others(
    index: Index, hits: Sequence[Hit], groups: Mapping[str, Sequence[Neighbour]], catalogue: Catalogue | None
) -> tuple[Hit, ...]:
    """Return hits that name the other units of their files; those that were listed and not ranked are looked up if they may have times."""
    others = {hit.key: groups[hit.key][1:] for hit in hits if len(groups.get(hit.key, ())) > 1}
    if not others:
        return tuple(hits)
    shown = {key: group[:MAX_OTHERS] for key, group in others.items()}
    places = {near.key: catalogue.places[near.key][0] for group in shown.values() for near in group} if catalogue else {}
    unranked = [near for group in shown.values() for near in group if not near.part]
    parts = index.parts_of([near.key for near in unranked if near.key not in places or _may_have_times(places[near.key])])

    def other(near: Neighbour) -> OtherUnit:
        numbers = dict(zip(PART_COLUMNS, near.part or parts.get(near.key, (b"", ()))[1], strict=False))
        part = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        if near.key in places:  # of several places, the first that may be shown
            part |= places[near.key].model_dump(include={"page", "unit", "start_char", "end_char"})
        return OtherUnit(key=near.key, score=near.score, **part)

    return tuple(
        hit.model_copy(update={"other_units": tuple(map(other, shown[hit.key])), "num_other_units": len(others[hit.key])})
        if hit.key in others
        else hit
        for hit in hits
    )


def _may_have_times(place: Place) -> bool:
    """Return whether a unit may have times: pages and passages have none."""
    return place.page is None and place.start_char is None
