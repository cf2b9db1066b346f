"""Read a file into its units: all of an ingestion that needs neither a model nor the index, so that it can go on ahead of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from embedrl.errors import MediaError
from embedrl.index.batch import Work, marked_as
from embedrl.index.failures import Failure
from embedrl.index.location import LEADS_OUT, leads_out
from embedrl.index.marks import MAX_DEATHS, Marks
from embedrl.index.row import Place, Stamp, place_id
from embedrl.index.stages import Stages
from embedrl.index.units import Divider, Unit, place_of, read_item
from embedrl.index.words import WordReader
from embedrl.media.decode import read_metadata
from embedrl.media.sidecars import is_sidecar, sidecars_hash, sidecars_of
from embedrl.media.store import Limits, is_audio, media_kind

NO_SUFFIX = "no suffix"


class Problem(NamedTuple):
    """Why a file, or a unit of it, cannot be used."""

    stored: Path
    unit: Unit | None
    reason: str
    stamp: Stamp | None


@dataclass
class FileRead:
    """What was read of a file: its units, or why there are none."""

    path: Path
    stored: Path
    """How the index names it."""
    works: list[Work] = field(default_factory=list)
    """One per unit that can be used."""
    problems: list[Problem] = field(default_factory=list)
    """Of the file, its units and what lies beside it."""
    still_failed: list[Failure] = field(default_factory=list)
    """Failures of an earlier run that are not tried again."""
    kept: list[Place] = field(default_factory=list)
    """Places of an earlier run that stay as they are."""
    is_unchanged: bool = False
    """Whether `kept` is all of the file, as it would be made now."""
    is_unlisted: bool = False
    """Whether it is a folder that could not be listed."""
    is_sidecar: bool = False
    is_unsupported: bool = False
    """Whether no medium that is indexed is in it."""
    unread_kind: str | None = None
    """Suffix of a file of a kind that is not read."""
    damaged_metadata: tuple[str, ...] = ()
    """Groups of metadata that could not be read."""
    num_units: int = 0
    """Number of units, those that cannot be used included."""


@dataclass(frozen=True)
class FileReader:
    """Reads files into units. `known` and `failures` are those of earlier runs, by the name the index has for a file."""

    store: Callable[[Path], Path]
    """Returns the name that the index has for a file."""
    limits: Limits
    divider: Divider
    words: WordReader
    marks: Marks
    stages: Stages
    roots: Sequence[Path]
    """Links that lead out of these folders are not followed; without any, all are."""
    reasoner: str
    """Its fingerprint, "" without one."""
    known: Mapping[Path, Sequence[Place]]
    failures: Mapping[Path, Sequence[Failure]]
    is_current: Callable[[Place], bool]
    still_fails: Callable[[Failure, Stamp], bool]

    def read(self, listed: tuple[Path, str | None]) -> FileRead:
        """Read a file, or note why it could not be listed."""
        path, reason = listed
        read = FileRead(path, self.store(path))
        with self.stages.timed("read"):
            if reason is not None:
                read.is_unlisted = path.is_dir() and not path.is_symlink()
                read.problems.append(Problem(read.stored, None, f"{str(path)!r}: {reason}", None))
            else:
                self._read(read)
        return read

    def _read(self, read: FileRead) -> None:
        path, stored, stamp = read.path, read.stored, None
        known = self.known.get(stored, [])
        if leads_out(path, self.roots):
            read.kept = [*known]  # what was taken in before stays as it is
            if not known:
                read.problems.append(Problem(stored, None, LEADS_OUT, None))
            return
        try:
            stamp = Stamp.of(path)
            read.still_failed = [failure for failure in self.failures.get(stored, []) if self.still_fails(failure, stamp)]
            if any(failure.page is failure.unit is None for failure in read.still_failed):
                return
            beside = self._sidecars(read)
            sidecars = sidecars_hash(beside)
            current = [place for place in known if place.stamp == stamp and place.sidecars == sidecars and self.is_current(place)]
            if current and len(current) + len(read.still_failed) == current[0].num_places:
                read.kept, read.is_unchanged = current, True
                return
            if is_sidecar(path):
                read.is_sidecar = True
                return
            self._need_alive(stored, stamp)
            words = self.words.hear(path, beside) if is_audio(path, self.limits) else None
            modality = media_kind(path, self.limits) if words is None else "text"
            if modality is None or (words and not words.segments):
                if words:
                    read.problems += [Problem(self.store(file), None, problem, of) for file, problem, of in words.problems]
                read.kept = [place for place in known if words and words.is_unheard and place.sidecars == sidecars]
                read.is_unsupported = True
                read.unread_kind = (path.suffix.lower() or NO_SUFFIX) if words is None else None
                return
            units = self.divider.units(path, modality) if words is None else self.divider.heard(words.segments)
            metadata = read_metadata(path, modality, self.limits, sidecars=beside)
            words = words or self.words.read(path, modality, units, beside)
        except MediaError as error:
            read.problems.append(Problem(stored, None, str(error), stamp))
            return
        read.problems += [Problem(self.store(file), None, problem, of) for file, problem, of in words.problems]
        read.damaged_metadata, read.num_units = tuple(metadata.damaged), len(units)
        facts: dict[str, Any] = metadata.model_dump(exclude={"damaged"}) | {"path": stored, "num_places": len(units)}
        facts |= {"sidecars": sidecars, "stamp": stamp, "split": self.divider.splitting.fingerprint, "reasoner": self.reasoner}
        failed = {failure.id for failure in read.still_failed}
        for unit in units:
            if place_id(stored, unit.page, unit.number) in failed:
                continue
            segments = words.of_unit(unit)
            try:
                self._need_alive(marked_as(stored, unit.number), stamp)
                item = read_item(path, modality, unit, self.limits, segments)
                medium = read_item(path, modality, unit, self.limits).key if segments and modality != "text" else ""
                place = place_of(unit, key=item.key, medium=medium, readers=words.noted(unit), **facts)
                read.works.append(Work(item, modality, [place], segments))
            except MediaError as error:
                read.problems.append(Problem(stored, unit, str(error), stamp))

    def _need_alive(self, marked: Path, stamp: Stamp) -> None:
        if (num_deaths := self.marks.num_deaths(marked, stamp)) >= MAX_DEATHS:
            raise MediaError(f"{num_deaths} processes ended while they decoded it; it is not tried again until it changes")

    def _sidecars(self, read: FileRead) -> list[Path]:
        """Return the sidecars of a file that may be opened; those that lead out are problems."""
        beside = sidecars_of(read.path)
        outside = {sidecar for sidecar in beside if leads_out(sidecar, self.roots)}
        read.problems += [Problem(self.store(sidecar), None, LEADS_OUT, None) for sidecar in outside]
        return [sidecar for sidecar in beside if sidecar not in outside]
