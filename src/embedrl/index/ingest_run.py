"""One ingestion of a folder: which files and units are new, queued, under way, written or gone.

While a model works on one batch, a thread reads the files that follow and another decodes the next batch; all else, and whatever
changes the state, happens in the thread of the caller.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from embedrl import log
from embedrl.concurrency import ReadAhead
from embedrl.data.reasoning import TCoTCounts
from embedrl.data.records import Records
from embedrl.errors import MediaError
from embedrl.index.batch import Batches, Made, Work
from embedrl.index.checksums import forget_rows
from embedrl.index.commits import Commits
from embedrl.index.failures import Failure, in_order, keep_failures, limits_hash, read_failures
from embedrl.index.file_reader import FileRead, FileReader
from embedrl.index.gate import is_declined
from embedrl.index.index import Index
from embedrl.index.ingest_report import IngestReport, count_unread
from embedrl.index.location import leads_out
from embedrl.index.row import Place, Row, Stamp
from embedrl.index.units import Divider, Unit
from embedrl.media.kinds import installed
from embedrl.media.store import walk

Progress = Callable[[int, int], None]

_COPIES_PER_WRITE = 8
"""Batches of copies that are gathered before they are written."""
_BATCHES_READ_AHEAD = 2
"""Batches of units that are read ahead; one file may have more."""
FILE_PATIENCE_S = 1.0
"""A batch that is ready waits so long for the next file, so that the next batch may be decoded while the model works on this one."""


class IngestRun:
    """State of one ingestion of one folder: known rows, queued work and counts."""

    def __init__(
        self,
        folder: Path,
        index: Index,
        batches: Batches,
        divider: Divider,
        batch_size: int,
        max_in_flight: int,
        num_ahead: int,
        failure_records: Records,
        checksums: Records,
        roots: Sequence[Path],
    ) -> None:
        self.folder, self.index, self.batches, self.batch_size, self.max_in_flight = folder, index, batches, batch_size, max_in_flight
        self.divider, self.split, self.words = divider, divider.splitting.fingerprint, batches.words
        self.num_ahead = num_ahead if max_in_flight == 1 else 2 * max_in_flight - 1
        """Batches that may be under way beside the one that is waited for."""
        self.max_units_ahead = _BATCHES_READ_AHEAD * batch_size * max_in_flight if num_ahead else 0
        self.under_way: deque[tuple[list[Work], Callable[[], Made]]] = deque()
        self.keys_under_way: set[str] = set()
        self.num_copies_due = _COPIES_PER_WRITE * batch_size
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
        self.stages, self.stop = batches.stages, batches.stop
        self.commits = Commits(index, checksums, self.stages.timed)
        self.counts, self.tcots = Counter[str](), TCoTCounts()
        self.on_progress: Progress = lambda done, total: None
        self.num_places, self.num_waiting, self.num_unopened = 0, 0, 0
        """Places of the files that were opened, those of them that wait for a batch, and files that were not opened yet."""
        self.unread_kinds, self.skipped, self.damaged = Counter[str](), Counter[str](), Counter[str]()

    def run(self, retry_failed: bool, on_progress: Progress) -> IngestReport:
        """Bring the index up to date with the folder."""
        if self.batches.reasoner:
            self.unsettled = {key for key, reason in self.index.tcot_failures().items() if self.batches.is_unsettled(reason)}
        self._recall()
        files = list(walk(self.folder, self.batches.limits.skip_names, self.skipped))
        self.on_progress, self.num_unopened = on_progress, len(files)
        self._show_progress()
        self.pool = ThreadPoolExecutor(self.max_in_flight, thread_name_prefix="batch")
        try:
            self._read_all(files, self._file_reader(retry_failed))
            while self.copies or self.pending or self.under_way:
                self._finish_all()
                self._flush_copies()
        finally:
            self.stop.request()
            self.pool.shutdown(cancel_futures=True)
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
            seconds=self.stages.seconds,
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

    def _file_reader(self, retry_failed: bool) -> FileReader:
        reasoner = self.batches.reasoner
        return FileReader(
            store=self.index.home.stored,
            limits=self.batches.limits,
            divider=self.divider,
            words=self.words,
            marks=self.batches.marks,
            stages=self.stages,
            roots=self.roots,
            reasoner=reasoner.fingerprint if reasoner else "",
            known=self.known,
            failures={} if retry_failed else self.failures_of,
            is_current=self._is_current,
            still_fails=self._still_fails,
        )

    def _read_all(self, files: Iterable[tuple[Path, str | None]], reader: FileReader) -> None:
        """Take files as they are read, and hand full batches to the models, beginning with the next one first."""
        with ReadAhead(reader.read, files, lambda read: max(read.num_units, 1), self.max_units_ahead, self.stop) as reads:
            while True:
                if len(self.pending) >= self.batch_size and len(self.under_way) <= self.num_ahead:
                    self._start_batch()
                elif self.under_way and (len(self.under_way) > self.num_ahead or not reads.wait(FILE_PATIENCE_S)):
                    self._finish_batch()
                elif (read := next(reads, None)) is not None:
                    self._take(read)
                    self._show_progress()
                else:
                    break

    def _take(self, read: FileRead) -> None:
        """Count what was read of a file, and queue its units."""
        self.num_unopened -= 1
        self.num_places += 1
        if read.is_unlisted:
            self.unreadable.append(read.path)
        for failure in read.still_failed:
            self.failed[failure.id] = failure
        self.kept.update(place.id for place in read.kept)
        for problem in read.problems:
            self._fail(problem.stored, problem.unit, problem.reason, problem.stamp)
        if read.is_unchanged:
            self.counts["unchanged"] += len(read.kept)
            self.num_places += len(read.kept) - 1
        if read.is_sidecar:
            self.skipped["sidecars"] += 1
        self.counts["unsupported"] += read.is_unsupported
        if read.unread_kind is not None:
            self.unread_kinds[read.unread_kind] += 1
        if read.damaged_metadata:
            self.damaged.update(read.damaged_metadata)
            log.warn(f"{read.path}: its {', '.join(read.damaged_metadata)} cannot be read; the rest of its metadata is kept")
        if read.num_units:
            self.num_places, self.num_waiting = self.num_places + read.num_units - 1, self.num_waiting + len(read.works)
        for work in read.works:
            self._place(work)

    def _place(self, work: Work) -> None:
        """Queue one place: its content is new, or is to be copied from where it is known."""
        [place] = work.places
        self.kept.add(place.id)
        if place.key not in self.fresh_keys:
            self._queue(work)
        elif any(
            known.model_copy(update={"reasoner": place.reasoner}) == place and self._is_fresh(known)
            for known in self.known.get(place.path, [])
        ):
            self.counts["unchanged"] += 1
            self.num_waiting -= 1
        else:
            self._copy_later(place, work)

    def _queue(self, work: Work) -> None:
        key = work.item.key
        same = self.pending.get(key)
        if same is not None and same.segments == work.segments:
            same.places += work.places
        elif same is not None or key in self.keys_under_way:  # a copy, with times of its own, once the first is written
            for place in work.places:
                self._copy_later(place, work)
        else:
            self.pending[key] = work

    def _copy_later(self, place: Place, work: Work) -> None:
        self.copies.append((place, work))
        if len(self.copies) >= self.num_copies_due:
            self._flush_copies()

    def _flush_copies(self) -> None:
        """Write the places whose content is in the index; those whose content is still under way wait."""
        copies, self.copies = self.copies, []
        rows = []
        self.commits.commit()
        sources = {row.place.key: row for row in self.index.rows({place.key for place, _ in copies}) if self._is_fresh(row.place)}
        for place, work in copies:
            if place.key in self.pending or place.key in self.keys_under_way:
                self.copies.append((place, work))
            elif source := sources.get(place.key):
                place = place.model_copy(update={"reasoner": source.place.reasoner})
                rows.append(work.copied(source, place))
            else:  # the only row with this content was replaced earlier in this run
                self._queue(replace(work, places=[place]))
        self.num_copies_due = len(self.copies) + _COPIES_PER_WRITE * self.batch_size
        self.counts["reused"] += len(self._write(rows))
        self.num_waiting -= len(rows)

    def _start_batch(self) -> None:
        """Begin with the oldest queued works: decode them in another thread, or, for servers, make all of their rows there."""
        works = list(islice(self.pending.values(), self.batch_size))
        for work in works:
            del self.pending[work.item.key]
        self.keys_under_way |= {work.item.key for work in works}
        if self.max_in_flight > 1:
            rows = self.pool.submit(lambda: self.batches.make_rows(self.batches.decode(works)))
            self.under_way.append((works, rows.result))
        elif self.num_ahead:
            decoded = self.pool.submit(self.batches.decode, works)
            self.under_way.append((works, lambda: self.batches.make_rows(decoded.result())))
        else:
            self.under_way.append((works, lambda: self.batches.make_rows(self.batches.decode(works))))

    def _finish_all(self) -> None:
        """Make and take the rows of all that is queued."""
        while self.pending or self.under_way:
            while self.pending and len(self.under_way) <= self.num_ahead:
                self._start_batch()
            self._finish_batch()

    def _finish_batch(self) -> None:
        """Wait for the oldest batch under way and take its rows."""
        works, finish = self.under_way.popleft()
        made = finish()
        for work, error in made.broken:
            for place in work.places:
                self._fail(place.path, place, str(error), place.stamp)
        self.num_waiting -= len(made.rows) + sum(len(work.places) for work, _ in made.broken)
        written = self._write(made.rows)
        self._show_progress()
        keys = {row.place.key for row in written}
        self.keys_under_way -= {work.item.key for work in works}
        self.fresh_keys |= keys
        self.unsettled -= keys
        self.tcots += made.tcots
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
        with self.stages.timed("write"):
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
