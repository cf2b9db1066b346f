"""The single writer thread: uploads, deletions and the watched folder, while searches go on.

New files first become searchable by plain vectors, without the Reasoner; their T-CoTs follow in a second pass. An upload
is acknowledged once its file and its row are on the disk, so a kill at any moment loses nothing that was acknowledged; what was
not is either not there, or found by the next start.
"""

import os
import re
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from embedrl import log
from embedrl.data.protocols import Gates, ReadsText, Transcribes
from embedrl.data.reasoning import UNREACHED
from embedrl.errors import NO_SPACE, ModelError, StoreError, unwritable
from embedrl.index.index import Index
from embedrl.index.ingest import IngestReport, ingest
from embedrl.media.content import file_sha256
from embedrl.media.store import DOCUMENTS, Limits, walk
from embedrl.media.video_formats import CONTAINERS
from embedrl.server.problem import Problem
from embedrl.server.sandbox import Decoded
from embedrl.server.schemas import Added, Indexing
from embedrl.server.served_index import ServedIndex

Snapshot = dict[Path, tuple[int, int, int]]
_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "AVIF": ".avif",
    "TIFF": ".tif",
    "HEIF": ".heic",
    **{name: suffixes[0] for name, suffixes in DOCUMENTS.items()},
    **{name: container.suffix for name, container in CONTAINERS.items()},
}
MAX_NAME_BYTES = 120
MAX_WAITING = 64
BATCH_SIZE = 4
"""Small, so that an upload does not wait long for T-CoTs of others."""


class _InterruptedError(Exception):
    """T-CoT generation was pre-empted by more urgent work."""


@dataclass
class _Upload:
    path: Path
    name: str
    decoded: Decoded
    replaces: str | None
    done: "Future[Added]" = field(default_factory=Future)
    kept: Path | None = None
    """Where it stays, once it was moved there."""
    is_new: bool = True
    """Whether it was not there already."""


@dataclass
class _Removal:
    key: str
    done: "Future[tuple[str, ...]]" = field(default_factory=Future)


class IndexWriter:
    """Keeps the indexes of libraries over the same folders up to date. `folders` are watched."""

    def __init__(
        self,
        libraries: Sequence[ServedIndex],
        *,
        limits: Limits,
        upload_limits: Limits,
        watch: bool,
        interval_s: float,
        text_reader: ReadsText | None = None,
        transcriber: Transcribes | None = None,
        item_gate: Gates | None = None,
    ) -> None:
        """Create the writer; folders keep the limits they were indexed with, uploads have their own.

        An `item_gate` decides which new items are reasoned about.
        """
        self.libraries, self.limits, self.upload_limits, self.watching = libraries, limits, upload_limits, watch
        self.roots = libraries[0].roots
        self.incoming = libraries[0].index.directory / "incoming"
        self.interval_s, self.text_reader, self.transcriber, self.item_gate = interval_s, text_reader, transcriber, item_gate
        self._writers = [Index.open(library.index.directory, embedder=library.embedder) for library in libraries]
        for library, writer in zip(libraries, self._writers, strict=True):
            writer.names_to_note = library.index.names_to_note
        self._jobs: deque[_Upload | _Removal] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.is_writable = True
        """Whether there is a place for what is to be written."""
        self._state, self._done, self._total = "idle", 0, 0
        self._plain_due = self._thinks_due = True
        """What is to be done: at first, what a former run left."""
        self._next_look = 0.0
        self._snapshot: Snapshot | None = None
        self._thread = threading.Thread(target=self._run, name="librarian", daemon=True)

    def start(self) -> None:
        """Recover the work of a killed server, then start the thread."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        try:
            self.prepare()
        except Problem as problem:
            log.warn(f"uploads and changes are not taken in: {problem.message}")
            self.is_writable = False
            return
        self._thread.start()

    def prepare(self) -> Path:
        """Return the staging folder of uploads, created if missing. Raises Problem 503, 507."""
        self._need_writable()
        try:
            self.incoming.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.incoming):
                return self.incoming
        except OSError as error:
            raise self._refusal(unwritable(self.incoming, error)) from error

    def close(self) -> None:
        """Stop after the current batch; queued work is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        for job in self._jobs:
            job.done.set_exception(Problem(503, "the server is stopping"))

    @property
    def state(self) -> Indexing:
        """State of indexing."""
        return Indexing(state=self._state, done=self._done, total=self._total, waiting=len(self._jobs), watching=self.watching)

    def add(self, path: Path, name: str, decoded: Decoded, replaces: str | None) -> "Future[Added]":
        """Index a file of the folder `incoming`. Raises Problem 429 if the queue is full."""
        if replaces is not None:
            self._uploaded(replaces)
        upload = _Upload(path, name, decoded, replaces)
        self._enqueue(upload)
        return upload.done

    def remove(self, key: str) -> "Future[tuple[str, ...]]":
        """Delete the uploaded files of an item. Raises Problem 404, 409 if it was not uploaded, 429 if the queue is full."""
        self._uploaded(key)
        removal = _Removal(key)
        self._enqueue(removal)
        return removal.done

    def _need_writable(self) -> None:
        if not self.is_writable:
            raise Problem(503, "this server takes no uploads: it cannot write where its index lies", "read_only")

    def _enqueue(self, job: _Upload | _Removal) -> None:
        self._need_writable()
        with self._changed:
            if self._closed:
                raise Problem(503, "the server is stopping")
            if len(self._jobs) >= MAX_WAITING:
                raise Problem(429, "too many uploads wait to be indexed: try again", "busy", retry_after_s=2)
            self._jobs.append(job)
            self._changed.notify()

    def _uploaded(self, key: str) -> list[Path]:
        """Return the uploaded files of an item."""
        library = self.libraries[0]
        paths = {library.index.locate(place.path) for place in library.places(key)}
        if not (uploads := sorted(path for path in paths if self.roots.is_upload(path))):
            raise Problem(409, "this item was not uploaded: it leaves the index when its file leaves the folder", "not_uploaded")
        return uploads

    # ---- the thread

    def _run(self) -> None:
        pause_s = 0.0
        while True:
            with self._changed:
                if pause_s or not self._thinks_due:
                    self._changed.wait_for(lambda: self._closed or self._jobs, pause_s or (self.interval_s if self.watching else None))
                if self._closed:
                    return
                jobs = list(self._jobs)
                self._jobs.clear()
            try:
                if jobs:
                    self._work(jobs)
                elif self._look_around() or self._thinks_due:
                    self._catch_up()
                pause_s = 0.0
            except _InterruptedError:
                self._thinks_due = True
            except Exception as error:  # boundary: the thread must live
                log.warn(f"indexing: {error}")
                self._thinks_due, pause_s = True, min(max(2 * pause_s, 1.0), 60.0)
            self._state = "idle"

    def _work(self, jobs: Sequence[_Upload | _Removal]) -> None:
        """Process queued uploads and deletions as one batch; if that fails, one at a time. Resolves their futures."""
        try:
            self._do(jobs)
        except Exception as error:  # boundary: what one file raises, whatever it is, belongs to who sent it
            waiting = [job for job in jobs if not job.done.done()]
            for job in waiting:
                if isinstance(job, _Upload):
                    self._put_back(job)
            if len(jobs) > 1:
                for job in waiting:
                    self._work([job])
                return
            log.warn(f"indexing: {type(error).__name__}: {error}")
            for job in waiting:
                if isinstance(job, _Upload):
                    job.path.unlink(missing_ok=True)
                job.done.set_exception(self._refusal(error))

    def _do(self, jobs: Sequence[_Upload | _Removal]) -> None:
        """Process all in one run over the folder of uploads."""
        uploads = {id(job): self._keep(job) for job in jobs if isinstance(job, _Upload)}
        before = self._keys_by_path()
        removals = {id(job): self._delete(job.key) for job in jobs if isinstance(job, _Removal)}
        reports = self._ingest(self.roots.uploads, think=False)
        held = self._keys_by_path()
        failed = {path: failure.reason for failure in reports[0].failures if (path := self._writers[0].locate(failure.path)) not in held}
        replaced = [self._delete(job.replaces, kept) for job in jobs if isinstance(job, _Upload) and job.replaces
                    and (kept := uploads[id(job)]) not in failed]  # fmt: skip
        if any(replaced):
            self._ingest(self.roots.uploads, think=False)
        self._thinks_due = any(library.reasoner for library in self.libraries)
        after = self._keys_by_path()
        there = {key for keys in after.values() for key in keys}
        were_there = {key for keys in before.values() for key in keys}
        for job in jobs:
            if isinstance(job, _Removal):
                keys = dict.fromkeys(key for path in removals[id(job)] for key in before.get(path, ()) if key not in there)
                job.done.set_result(tuple(keys))
            elif not (keys := tuple(dict.fromkeys(after.get(path := uploads[id(job)], ())))):
                self._discard(job)
                reason = self.roots.without_paths(failed.get(path, "nothing in it was indexed"))
                job.done.set_exception(Problem(415, f"the file cannot be used: {reason}", "bad_file"))
            else:
                state = "known" if were_there.issuperset(keys) else "added"
                job.done.set_result(Added(name=path.name, path=self.roots.shown(path), keys=keys, state=state))

    def _keys_by_path(self) -> dict[Path, list[str]]:
        library = self.libraries[0]
        units_by_path: dict[Path, list[tuple[tuple[bytes, int, int], str]]] = {}
        for key, places in library.catalogue.places.items():
            for place in places:
                units_by_path.setdefault(library.index.locate(place.path), []).append((place.position, key))
        return {path: [key for _, key in sorted(units)] for path, units in units_by_path.items()}

    def _delete(self, key: str, but: Path | None = None) -> list[Path]:
        """Delete the uploaded files of an item, and return them."""
        try:
            paths = [path for path in self._uploaded(key) if path != but]
        except Problem:
            return []  # someone else was quicker
        with self.roots.open_uploads() as folder:
            for path in paths:
                with suppress(FileNotFoundError):
                    os.unlink(path.name, dir_fd=folder)
            os.fsync(folder)
        return paths

    def _keep(self, upload: _Upload) -> Path:
        """Move a file to its final path and fsync it."""
        if upload.kept is not None:
            return upload.kept
        digest = file_sha256(upload.path).hex()[:12]
        name = f"{safe_stem(upload.name)}-{digest}{self._suffix(upload)}"
        with upload.path.open("rb") as file:
            os.fsync(file.fileno())
        with self.roots.open_uploads(create=True) as folder:
            upload.is_new = name not in os.listdir(folder)
            os.replace(upload.path, name, dst_dir_fd=folder)
            os.fsync(folder)
        upload.kept = self.roots.uploads / name
        return upload.kept

    def _put_back(self, upload: _Upload) -> None:
        """Undo `_keep`, so that an unacknowledged file breaks no later run; files that existed before stay."""
        if upload.kept is not None and upload.is_new:
            with suppress(OSError), self.roots.open_uploads() as folder:
                os.replace(upload.kept.name, upload.path, src_dir_fd=folder)
            upload.kept = None

    def _discard(self, upload: _Upload) -> None:
        self._put_back(upload)
        upload.path.unlink(missing_ok=True)

    def _refusal(self, error: Exception) -> Problem:
        """Return the Problem for a failed write."""
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return Problem(507, "there is no space left where the library lies", "no_space")
        if isinstance(error, StoreError):
            return Problem(503, self.roots.without_paths(str(error)), "index_busy", retry_after_s=2)
        return Problem(503, "the index cannot be written now: try again", "index_busy", retry_after_s=2)

    def _suffix(self, upload: _Upload) -> str:
        if upload.decoded.kind == "text" and not upload.decoded.format:
            return ".md" if upload.name.lower().endswith(".md") else ".txt"
        return ".pdf" if upload.decoded.kind == "page" else _SUFFIXES.get(upload.decoded.format, ".bin")

    def _ingest(self, folder: Path, *, think: bool) -> list[IngestReport]:
        self._state = "reasoning" if think else "embedding"

        def show(done: int, total: int) -> None:
            self._done, self._total = done, total
            if think and (self._closed or self._jobs or self._look_around()):
                raise _InterruptedError

        reports = []
        for library, writer in zip(self.libraries, self._writers, strict=True):
            reasoner = library.reasoner.for_indexing() if think and library.reasoner else None
            if think and reasoner is None:
                continue
            embedder = library.embedder.for_indexing()
            reports.append(
                ingest(
                    folder,
                    writer,
                    reasoner,
                    embedder,
                    limits=self.upload_limits if folder == self.roots.uploads else self.limits,
                    think=think,
                    num_frames=library.num_frames,
                    batch_size=BATCH_SIZE,
                    roots=self.roots.folders,
                    on_progress=show,
                    text_reader=self.text_reader,
                    transcriber=self.transcriber,
                    gate=self.item_gate if think else None,
                )
            )
        return reports

    def _look_around(self) -> bool:
        """Return whether a watched folder changed since the last scan; scans are rate-limited."""
        started = time.monotonic()
        if not self.watching or started < self._next_look:
            return False
        snapshot = take_snapshot(self.roots.folders)
        snapshot[self.incoming.parent] = (int(self.incoming.parent.is_dir()), 0, 0)  # an index that was deleted is made anew
        took_s = time.monotonic() - started
        self._next_look = started + max(0.9 * self.interval_s, 5 * took_s)  # a large folder is looked at less often
        changed, self._snapshot = snapshot != self._snapshot, snapshot
        self._plain_due |= changed
        return changed

    def _catch_up(self) -> None:
        """Index new files by plain vectors, then add their T-CoTs."""
        folders = self.roots.folders if self.watching else ((self.roots.uploads,) if self.roots.uploads.is_dir() else ())
        if self._plain_due:
            for folder in folders:
                self._ingest(folder, think=False)
            self._plain_due = False
        reports = [report for folder in folders for report in self._ingest(folder, think=True)]
        self._thinks_due = False
        if unreached := sum(report.tcots.failed.get(reason, 0) for report in reports for reason in UNREACHED):
            raise ModelError(f"the Reasoner could not be asked about {unreached} items; they are found by their plain vectors until it can")


def take_snapshot(folders: Sequence[Path]) -> Snapshot:
    """Return every file under some folders with its change stamp: inode, size, modification time."""
    snapshot: Snapshot = {}
    for folder in folders:
        for path, _ in walk(folder):
            try:
                status = path.stat()
            except OSError:
                continue
            snapshot[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return snapshot


def safe_stem(name: str) -> str:
    """Sanitise the stem of a client's file name for file systems and HTML."""
    stem = Path(name.replace("\\", "/")).stem
    plain = re.sub(r"[^\w \-]+", "_", stem).encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    return plain.strip(" ._") or "file"
