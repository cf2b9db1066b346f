"""A served index: models, files, and rendering of items."""

import threading
from collections.abc import Iterable
from pathlib import Path

from embedrl.data.box_names import box_names
from embedrl.data.segments import read_segments
from embedrl.errors import MediaError
from embedrl.index.hit import Catalogue, Hit, HitFields, View, hit_of, places_by_key, tcot_of
from embedrl.index.index import Index, IndexStats
from embedrl.index.row import Place, Row, Stamp
from embedrl.index.units import item_of
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.store import limits_in_force
from embedrl.server.allowed_folders import AllowedFolders, OpenFile
from embedrl.server.problem import Problem
from embedrl.server.schemas import HitShown, ItemShown, show_evidence, show_tcot
from embedrl.server.shared_models import SharedEmbedder, SharedReasoner

NUM_NAMED_ITEMS = 200
"""Number of items that box names are taken from."""
MAX_BOX_NAMES = 64


class ServedIndex:
    """An index with its Reasoner and Embedder, and a catalogue of its rows."""

    def __init__(
        self, id: str, label: str, index: Index, reasoner: SharedReasoner | None, embedder: SharedEmbedder, roots: AllowedFolders
    ) -> None:
        self.id, self.label, self.index = id, label, index
        self.reasoner, self.embedder, self.roots = reasoner, embedder, roots
        self._catalogue = Catalogue(-1, {}, frozenset())
        self._stats: tuple[int, IndexStats | None] | None = None
        self._box_names: tuple[int, tuple[str, ...]] | None = None
        self._lock = threading.Lock()

    @property
    def num_frames(self) -> int:
        """Number of sampled frames that key frames refer to."""
        return self.reasoner.num_frames if self.reasoner else PAPER_BUDGET.num_frames

    def need_reasoner(self) -> SharedReasoner:
        """Return the Reasoner. Raises Problem 422 if there is none."""
        if self.reasoner is None:
            raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
        return self.reasoner

    @property
    def catalogue(self) -> Catalogue:
        """Catalogue of the current version."""
        with self._lock:
            version = self.index.version
            if version != self._catalogue.version:
                self._catalogue = self._build_catalogue(version)
            return self._catalogue

    @property
    def stats(self) -> IndexStats | None:
        """Statistics of the index, computed once per version; None while it is empty."""
        version = self.catalogue.version
        if self._stats is None or self._stats[0] != version:
            self._stats = (version, self.index.stats() if version else None)
        return self._stats[1]

    @property
    def box_names(self) -> tuple[str, ...]:
        """Distinct box names in a sample of T-CoTs, fixed per version."""
        version = self.catalogue.version
        if self._box_names is None or self._box_names[0] != version:
            sample = sorted(self.catalogue.places)[:NUM_NAMED_ITEMS]
            tcots = [tcot for row in self.index.rows(sample) if (tcot := tcot_of(row)) is not None]
            names = dict.fromkeys(name for tcot in tcots for name in box_names(tcot) if name)
            self._box_names = (version, tuple(names)[:MAX_BOX_NAMES])
        return self._box_names[1]

    @property
    def view(self) -> View:
        """Filter of served rows and display paths of a search."""
        return View(self.shown, lambda: self.catalogue)

    def _build_catalogue(self, version: int) -> Catalogue:
        all_places = list(self.index.places())
        inside = self.roots.inside({self.index.locate(place.path) for place in all_places})
        places = places_by_key([place for place in all_places if self.index.locate(place.path) in inside])
        return Catalogue(version, places, frozenset({place.key for place in all_places} - places.keys()))

    def places(self, key: str) -> tuple[Place, ...]:
        """Return the rows of an item. Raises Problem 404."""
        places = self.catalogue.places.get(key)
        if not places:
            raise _missing_item()
        return places

    def rows(self, key: str) -> list[Row]:
        """Return the rows of an item, at least one. Raises Problem 404."""
        served = {place.id for place in self.places(key)}
        if rows := [row for row in self.index.rows([key]) if row.place.id in served]:
            return rows
        raise _missing_item()

    def row(self, key: str) -> Row:
        """Return one row of an item. Raises Problem 404."""
        return self.rows(key)[0]

    def file(self, key: str) -> tuple[Place, OpenFile]:
        """Open the file of an item if it is unchanged since indexing; the caller closes it. Raises Problem 404."""
        for place in self.places(key):
            if file := self.roots.open(self.index.locate(place.path)):
                if self._is_indexed(place, file):
                    return place, file
                file.close()
        raise Problem(404, "the file of this item is gone, or has changed and is not reindexed yet", "file_changed")

    def _is_indexed(self, place: Place, file: OpenFile) -> bool:
        """Whether a file is the indexed one: same stamp, or same content under another date."""
        stamp = Stamp.of_status(file.status)
        if stamp == place.stamp or stamp.size != place.stamp.size:
            return stamp == place.stamp
        try:
            row = self.row(place.key)
            if row.modality == "text" and row.segments:  # what is said in an audio file: only its transcriber can tell
                return False
            row = row.model_copy(update={"place": place})
            return item_of(row, file.real, limits_in_force()).key == place.key
        except MediaError:
            return False

    # ---- response schemas

    def shown(self, path: Path) -> str:
        """Return the display path of an index path, as `under` expects it."""
        return self.roots.shown(self.index.locate(path))

    def show_hits(self, hits: Iterable[Hit]) -> tuple[HitShown, ...]:
        """Convert Hits of served rows to their response schema."""
        return tuple(map(self._show, hits))

    def show_item(self, key: str) -> ItemShown:
        """Return an item's response schema, with its text. Raises Problem 404."""
        rows = self.rows(key)
        return ItemShown(**dict(self._show(hit_of(0.0, rows))), text=rows[0].text, segments=read_segments(rows[0].segments))

    def _show(self, hit: Hit) -> HitShown:
        places = [hit.path, *hit.other_paths]
        paths = list(dict.fromkeys(map(self.shown, places)))
        url = f"/api/items/{hit.key}"
        visual = hit.modality != "text"
        suffix = "" if self.id == "main" else f"?reasoner={self.id}"
        return HitShown(
            **{name: getattr(hit, name) for name in HitFields.model_fields},
            name=Path(paths[0]).name,
            path=paths[0],
            other_paths=tuple(paths[1:]),
            duration_s=None if hit.end_s is None else hit.end_s - (hit.start_s or 0.0),
            uploaded=any(self.roots.is_upload(self.index.locate(path)) for path in places),
            tcot=show_tcot(hit.tcot),
            evidence=show_evidence(hit.tcot, hit.verification, hit.key_frame_times_s, f"{url}/frames", hit.keyword_places)
            if hit.tcot
            else None,
            thumbnail=f"{url}/thumbnail" if visual else None,
            media=f"{url}/media",
            picture=f"{url}/picture" if visual else None,
            overlay=f"{url}/overlay{suffix}" if visual else None,
        )


def _missing_item() -> Problem:
    return Problem(404, "there is no such item; it may have been removed", "no_such_item")
