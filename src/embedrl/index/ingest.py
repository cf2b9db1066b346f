"""Incremental ingestion of a folder into an index.

Rows are written before what they replace is removed, and T-CoTs are kept as they are made: a kill costs at most one batch of
work, and the next run finishes the rest.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedrl import log
from embedrl.concurrency import map_concurrently, num_queued, split
from embedrl.data.protocols import Embeds, Gates, ReadsText, Reasons, Transcribes, text_measure_of
from embedrl.data.reasoning import TCoTCounts
from embedrl.data.records import Records
from embedrl.data.segments import TextSegment
from embedrl.errors import ConfigError, MediaError
from embedrl.index.batch import Batches, Work, marked_as
from embedrl.index.checksums import CHECKSUMS, forget_rows
from embedrl.index.commits import Commits
from embedrl.index.failures import Failure, in_order, keep_failures, limits_hash, open_failures, read_failures
from embedrl.index.gate import is_declined
from embedrl.index.index import Index
from embedrl.index.ingest_report import IngestReport, count_unread
from embedrl.index.location import LEADS_OUT, leads_out
from embedrl.index.marks import MAX_DEATHS, Marks
from embedrl.index.row import Modality, Place, Row, Stamp, place_id
from embedrl.index.units import SCANS, Divider, Splitting, Unit, place_of, read_item
from embedrl.index.words import READINGS, FileWords, WordReader
from embedrl.media.decode import read_metadata
from embedrl.media.kinds import installed
from embedrl.media.metadata import is_sidecar, sidecars_hash, sidecars_of
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.store import Limits, is_audio, limits_in_force, media_kind, walk

Progress = Callable[[int, int], None]

NO_SUFFIX = "no suffix"


def ingest(
    folder: str | Path,
    index: Index,
    reasoner: Reasons | None,
    embedder: Embeds,
    *,
    limits: Limits | None = None,
    batch_size: int = 16,
    think: bool = True,
    num_frames: int | None = None,
    max_in_flight: int = 1,
    retry_failed: bool = False,
    roots: Sequence[Path] = (),
    on_progress: Progress | None = None,
    splitting: Splitting | None = None,
    text_reader: ReadsText | None = None,
    transcriber: Transcribes | None = None,
    gate: Gates | None = None,
    redo_declined: bool = False,
) -> IngestReport:
    """Index every image, video, PDF and text file under a folder, in sorted order, and the units that each is divided into.

    `num_frames` (frames sampled per video or scene) defaults to the Reasoner's. `on_progress` is called with the numbers of items done
    and known so far (a file that was not opened yet counts as one). With `roots`, links that lead out of these folders are not
    followed. With `max_in_flight` above 1, the models are called from that many threads at once.

    An item without a T-CoT is indexed by its plain vector, with the reason. Items the Reasoner did not answer are retried by the next
    run; with `retry_failed`, so are invalid T-CoTs and unusable files. A file that cannot be used is a Failure in the report.
    With a `text_reader`, words in images and in pages without a text layer are read, and with a `transcriber` speech in videos; they
    become part of the items, and stay when a later run has none. A `gate` decides which items are reasoned about; what it declined stays
    so without one, unless `redo_declined`. Raises ConfigError for wrong options, StoreError if another process writes to the index.
    """
    folder = Path(os.path.realpath(Path(folder).expanduser()))
    if not folder.is_dir():
        raise ConfigError(f"folder {str(folder)!r}: there is no such folder")
    if num_frames is None:
        num_frames = reasoner.num_frames if reasoner else PAPER_BUDGET.num_frames
    if batch_size < 1 or num_frames < 1:
        raise ConfigError(f"batch_size={batch_size}, num_frames={num_frames}: give at least 1")
    if (think or gate) and reasoner is None:
        raise ConfigError("think=True, or a gate, needs a Reasoner: give one, or set think=False")
    index.check(embedder)
    lock = index.writing()
    kept = index.directory
    try:
        with (
            open_failures(index) as failures,
            Records(kept / "tcots.jsonl") as tcots,
            Records(kept / CHECKSUMS) as checksums,
            Records(kept / SCANS) as scans,
            Records(kept / READINGS) as readings,
        ):
            limits, marks = limits or limits_in_force(), Marks(kept)
            words = WordReader(limits, text_reader, transcriber, readings, retry=retry_failed)
            asks = reasoner if think else None
            batches = Batches(asks, embedder, tcots, limits, num_frames, marks, words, retry_failed, gate, redo_declined)
            divider = Divider(splitting or Splitting(), limits, scans, text_measure_of(embedder))
            run = _Run(folder, index, batches, divider, batch_size, max_in_flight, failures, checksums, roots)
            return run.run(retry_failed, on_progress or (lambda done, total: None))
    finally:
        lock.release()


class _Run:
    """State of one ingestion of one folder: known rows, queued work and counts."""

    def __init__(
        self,
        folder: Path,
        index: Index,
        batches: Batches,
        divider: Divider,
        batch_size: int,
        max_in_flight: int,
        failure_records: Records,
        checksums: Records,
        roots: Sequence[Path],
    ) -> None:
        self.folder, self.index, self.batches, self.batch_size, self.max_in_flight = folder, index, batches, batch_size, max_in_flight
        self.divider, self.split, self.words = divider, divider.splitting.fingerprint, batches.words
        self.num_queued = num_queued(batch_size, max_in_flight)
        self.failure_records, self.checksums = failure_records, checksums
        self.roots = [Path(os.path.realpath(root)) for root in roots]
        self.known: dict[Path, list[Place]] = {}
        """Places of this folder that were in the index when the run began."""
        self.fresh_keys: set[str] = set()
        """Items that are in the index, wherever they lie, as this run would make them."""
        self.unsettled: set[str] = set()
        """Items in the index whose T-CoT is to be asked for again."""
        self.failed_before: dict[str, Failure] = {}
        self.failed: dict[str, Failure] = {}
        self.kept: set[str] = set()
        """Ids of places that stay, or are queued."""
        self.unreadable: list[Path] = []
        """Folders that could not be listed: what is known of them stays."""
        self.pending: dict[str, Work] = {}
        self.copies: list[tuple[Place, Work]] = []
        self.commits = Commits(index, checksums, batches.timed)
        self.counts, self.tcots = Counter[str](), TCoTCounts()
        self.on_progress: Progress = lambda done, total: None
        self.num_places, self.num_waiting, self.num_unopened = 0, 0, 0
        """Places of the files that were opened, those of them that wait for a batch, and files that were not opened yet."""
        self.unread_kinds, self.skipped, self.damaged = Counter[str](), Counter[str](), Counter[str]()

    def run(self, retry_failed: bool, on_progress: Progress) -> IngestReport:
        started = time.perf_counter()
        if self.batches.reasoner:
            self.unsettled = {key for key, reason in self.index.tcot_failures().items() if self.batches.is_unsettled(reason)}
        self._recall()
        files = list(walk(self.folder, self.batches.limits.skip_names, self.skipped))
        self.on_progress, self.num_unopened = on_progress, len(files)
        self._show_progress()
        try:
            for path, reason in files:
                self.num_unopened -= 1
                self.num_places += 1
                self._file(path, reason, retry_failed)
                self._show_progress()
            while self.copies or self.pending:
                self._flush()
                self._flush_copies()
        finally:
            self.commits.commit()
        self._forget()
        self.batches.marks.clear()
        self._show_progress()
        return IngestReport(
            num_files=len(files),
            **{name: self.counts[name] for name in ("unsupported", "unchanged", "added", "reused", "removed", "without_tcot", "declined")},
            tcots=self.tcots,
            readings=self.words.counts,
            speech=self.words.speech_counts,
            audio_left_out=dict(self.words.audio_left_out),
            unread_kinds=dict((self.unread_kinds + count_unread(self.failed.values())).most_common()),
            skipped=dict(self.skipped.most_common()),
            damaged_metadata=dict(self.damaged.most_common()),
            failures=tuple(in_order(self.failed.values())),
            seconds={**self.batches.seconds, "total": time.perf_counter() - started},
        )

    def _show_progress(self) -> None:
        self.on_progress(self.num_places - self.num_waiting, self.num_places + self.num_unopened)

    def _recall(self) -> None:
        for place in self.index.places():
            if self._is_fresh(place):
                self.fresh_keys.add(place.key)
            if self._is_inside(place.path):
                self.known.setdefault(place.path, []).append(place)
        self.failed_before = {key: failure for key, failure in read_failures(self.failure_records).items() if self._is_inside(failure.path)}
        self.failures_of: dict[Path, list[Failure]] = {}
        for failure in self.failed_before.values():
            self.failures_of.setdefault(failure.path, []).append(failure)

    def _file(self, path: Path, reason: str | None, retry_failed: bool) -> None:
        stored = self.index.home.stored(path)
        if reason is not None:
            if path.is_dir() and not path.is_symlink():
                self.unreadable.append(path)
            self._fail(stored, None, f"{str(path)!r}: {reason}", None)
            return
        known, stamp = self.known.get(stored, []), None
        if leads_out(path, self.roots):
            self.kept.update(place.id for place in known)  # what was taken in before stays as it is
            if not known:
                self._fail(stored, None, LEADS_OUT, None)
            return
        try:
            stamp = Stamp.of(path)
            failed = [] if retry_failed else [failure for failure in self.failures_of.get(stored, []) if self._still_fails(failure, stamp)]
            for failure in failed:
                self.failed[failure.id] = failure
            if any(failure.page is failure.unit is None for failure in failed):
                return
            beside = self._sidecars(path)
            sidecars = sidecars_hash(beside)
            current = [place for place in known if place.stamp == stamp and place.sidecars == sidecars and self._is_current(place)]
            if current and len(current) + len(failed) == current[0].num_places:
                self.kept.update(place.id for place in current)
                self.counts["unchanged"] += len(current)
                self.num_places += len(current) - 1
                return
            if is_sidecar(path):
                self.skipped["sidecars"] += 1
                return
            self._need_alive(stored, stamp)
            heard = self._noted(self.words.hear(path, beside)) if is_audio(path, self.batches.limits) else None
            modality = media_kind(path, self.batches.limits) if heard is None else "text"
            if modality is None or (heard and not heard.segments):
                self.kept.update(place.id for place in known if heard and heard.is_unheard and place.sidecars == sidecars)
                self.counts["unsupported"] += 1
                self.unread_kinds[path.suffix.lower() or NO_SUFFIX] += heard is None
                return
            units = self.divider.units(path, modality) if heard is None else self.divider.heard(heard.segments)
            metadata = read_metadata(path, modality, self.batches.limits, sidecars=beside)
            words = self._noted(self.words.read(path, modality, units, beside)) if heard is None else heard
        except MediaError as error:
            self._fail(stored, None, str(error), stamp)
            return
        self.num_places, self.num_waiting = self.num_places + len(units) - 1, self.num_waiting + len(units)
        if metadata.damaged:
            self.damaged.update(metadata.damaged)
            log.warn(f"{path}: its {', '.join(metadata.damaged)} cannot be read; the rest of its metadata is kept")
        facts = metadata.model_dump(exclude={"damaged"}) | {"path": stored, "num_places": len(units), "split": self.split}
        facts |= {"sidecars": sidecars, "stamp": stamp}
        for unit in units:
            if place_id(stored, unit.page, unit.number) in self.failed:
                self.num_waiting -= 1
            else:
                self._place(path, modality, unit, words.of_unit(unit), {**facts, "readers": words.noted(unit)})

    def _noted(self, words: FileWords) -> FileWords:
        for file, problem, stamp in words.problems:
            self._fail(self.index.home.stored(file), None, problem, stamp)
        return words

    def _place(self, path: Path, modality: Modality, unit: Unit, words: tuple[TextSegment, ...], facts: Mapping[str, Any]) -> None:
        """Queue one place: its content is new, or is to be copied from where it is known. `facts`: what all places of a file share."""
        stored, stamp = facts["path"], facts["stamp"]
        try:
            self._need_alive(marked_as(stored, unit.number), stamp)
            item = read_item(path, modality, unit, self.batches.limits, words)
            key, medium = item.key, read_item(path, modality, unit, self.batches.limits).key if words and modality != "text" else ""
        except MediaError as error:
            self._fail(stored, unit, str(error), stamp)
            self.num_waiting -= 1
            return
        reasoner = self.batches.reasoner
        place = place_of(unit, key=key, medium=medium, reasoner=reasoner.fingerprint if reasoner else "", **facts)
        self.kept.add(place.id)
        work = Work(item, modality, [place], words)
        if key not in self.fresh_keys:
            self._queue(work)
        elif any(
            known.model_copy(update={"reasoner": place.reasoner}) == place and self._is_fresh(known) for known in self.known.get(stored, [])
        ):
            self.counts["unchanged"] += 1
            self.num_waiting -= 1
        else:
            self.copies.append((place, work))
            if len(self.copies) >= 8 * self.batch_size:
                self._flush_copies()

    def _need_alive(self, marked: Path, stamp: Stamp) -> None:
        if (num_deaths := self.batches.marks.num_deaths(marked, stamp)) >= MAX_DEATHS:
            raise MediaError(f"{num_deaths} processes ended while they decoded it; it is not tried again until it changes")

    def _queue(self, work: Work) -> None:
        if same := self.pending.get(work.item.key):
            if same.segments == work.segments:
                same.places += work.places
            else:  # the same words at another time: a copy with times of its own, once the first is written
                self.copies += [(place, work) for place in work.places]
            return
        self.pending[work.item.key] = work
        if len(self.pending) >= self.num_queued:
            self._flush()

    def _flush_copies(self) -> None:
        copies, self.copies = self.copies, []
        rows = []
        self.commits.commit()
        sources = {row.place.key: row for row in self.index.rows({place.key for place, _ in copies}) if self._is_fresh(row.place)}
        for place, work in copies:
            if source := sources.get(place.key):
                place = place.model_copy(update={"reasoner": source.place.reasoner})
                rows.append(work.copied(source, place))
            else:  # the only row with this content was replaced earlier in this run
                self._queue(work)
        self.counts["reused"] += len(self._write(rows))
        self.num_waiting -= len(rows)

    def _flush(self) -> None:
        works, self.pending = list(self.pending.values()), {}
        for rows, broken, tcots in map_concurrently(self.batches.make_rows, split(works, self.batch_size), self.max_in_flight):
            for work, error in broken:
                for place in work.places:
                    self._fail(place.path, place, str(error), place.stamp)
            self.num_waiting -= len(rows) + sum(len(work.places) for work, _ in broken)
            written = self._write(rows)
            self._show_progress()
            keys = {row.place.key for row in written}
            self.fresh_keys |= keys
            self.unsettled -= keys
            self.tcots += tcots
            self.counts["added"] += len(keys)
            self.counts["reused"] += len(written) - len(keys)
            self.counts["without_tcot"] += len({row.place.key for row in written if row.tcot_failure})
            self.counts["declined"] += len({row.place.key for row in written if is_declined(row.tcot_failure)})

    def _write(self, rows: list[Row]) -> list[Row]:
        """Take rows for the next commit and return them, but for files that changed while they were read: these are failures."""
        good = []
        for row in rows:
            place = row.place
            path = self.index.locate(place.path)
            try:
                changed = Stamp.of(path) != place.stamp or leads_out(path, self.roots)
            except MediaError:
                changed = True
            if changed:
                self._fail(place.path, place, f"{str(path)!r}: changed while it was read; run again", None)
            else:
                good.append(row)
        self.commits.add(good)
        return good

    def _sidecars(self, path: Path) -> list[Path]:
        """Return the sidecars of a file that may be opened; those that lead out are failures."""
        beside = sidecars_of(path)
        outside = {sidecar for sidecar in beside if leads_out(sidecar, self.roots)}
        for sidecar in outside:
            self._fail(self.index.home.stored(sidecar), None, LEADS_OUT, None)
        return [sidecar for sidecar in beside if sidecar not in outside]

    def _fail(self, path: Path, within: Unit | Place | None, reason: str, stamp: Stamp | None) -> None:
        reason = reason.removeprefix(f"{str(self.index.locate(path))!r}: ")
        unit = within.number if isinstance(within, Unit) else within.unit if within else None
        page, limits = within.page if within else None, limits_hash(self.batches.limits, installed())
        failure = Failure(path=path, page=page, unit=unit, reason=reason, stamp=stamp, limits=limits)
        self.failed[failure.id] = failure
        self.kept.discard(failure.id)
        if self.failed_before.get(failure.id) != failure:
            keep_failures(self.failure_records, [failure])

    def _forget(self) -> None:
        """Remove what is gone or has become unusable, and failures that are mended."""
        stale = sorted(
            place.id for places in self.known.values() for place in places if place.id not in self.kept and not self._hidden(place.path)
        )
        mended = [failure.id for failure in self.failed_before.values() if failure.id not in self.failed and not self._hidden(failure.path)]
        with self.batches.timed("write"):
            if stale:
                self.index.remove(stale)
            forget_rows(self.checksums, stale)
            self.failure_records.drop_many(mended)
            if self.failure_records.num_stale > 100:
                self.failure_records.compact()
            self.index.finish()
        self.counts["removed"] = len(stale)

    def _is_fresh(self, place: Place) -> bool:
        reasoner = self.batches.reasoner
        return reasoner is None or (place.reasoner == reasoner.fingerprint and place.key not in self.unsettled)

    def _is_current(self, place: Place) -> bool:
        return place.split == self.split and self.words.is_current(place.readers) and self._is_fresh(place)

    def _is_inside(self, stored: Path) -> bool:
        return self.index.locate(stored).is_relative_to(self.folder)

    def _hidden(self, stored: Path) -> bool:
        """Whether a place lies in a folder that could not be listed."""
        return any(self.index.locate(stored).is_relative_to(folder) for folder in self.unreadable)

    def _still_fails(self, failure: Failure, stamp: Stamp) -> bool:
        return failure.stamp == stamp and failure.limits == limits_hash(self.batches.limits, installed())
