"""Incremental ingestion of a folder into an index.

Rows are written before what they replace is removed, and T-CoTs are kept as they are made: a kill costs at most one batch of
work, and the next run finishes the rest.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from embedrl.arguments import require, require_models
from embedrl.concurrency import Stop
from embedrl.data.protocols import Embeds, Gates, ReadsText, Reasons, Transcribes, text_measure_of
from embedrl.data.records import Records
from embedrl.errors import ConfigError
from embedrl.files import expanded
from embedrl.index.batch import Batches
from embedrl.index.failures import open_failures
from embedrl.index.index import Index
from embedrl.index.ingest_report import IngestReport
from embedrl.index.ingest_run import IngestRun, Progress
from embedrl.index.location import CHECKSUMS
from embedrl.index.marks import Marks
from embedrl.index.units import SCANS, Divider, Splitting
from embedrl.index.words import READINGS, WordReader
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.store import Limits, limits_in_force


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
    num_ahead: int = 1,
) -> IngestReport:
    """Index every image, video, PDF and text file under a folder, in sorted order, and the units that each is divided into.

    `num_frames` (frames sampled per video or scene) defaults to the Reasoner's. `on_progress` is called with the numbers of items done
    and known so far (a file that was not opened yet counts as one). With `roots`, links that lead out of these folders are not
    followed. With `max_in_flight` above 1, the models are called from that many threads at once. While they work, following files are
    read and `num_ahead` batches decoded; with 0, one thing is done after the other.

    An item without a T-CoT is indexed by its plain vector, with the reason. Items the Reasoner did not answer are retried by the next
    run; with `retry_failed`, so are invalid T-CoTs and unusable files. A file that cannot be used is a Failure in the report.
    With a `text_reader`, words in images and in pages without a text layer are read, and with a `transcriber` speech in videos; they
    become part of the items, and stay when a later run has none. A `gate` decides which items are reasoned about; what it declined stays
    so without one, unless `redo_declined`. Raises ConfigError for wrong options, StoreError if another process writes to the index.
    """
    require(index, Index, "an index", "embedrl.Index.open(folder, embedder=embedder)")
    require_models(reasoner=reasoner, embedder=embedder)
    folder = Path(os.path.realpath(expanded(folder)))
    if not folder.is_dir():
        raise ConfigError(f"folder {str(folder)!r}: there is no such folder")
    if num_frames is None:
        num_frames = reasoner.num_frames if reasoner else PAPER_BUDGET.num_frames
    for name, number, least in (
        ("batch_size", batch_size, 1),
        ("num_frames", num_frames, 1),
        ("max_in_flight", max_in_flight, 1),
        ("num_ahead", num_ahead, 0),
    ):
        if number < least:
            raise ConfigError(f"{name}={number}: give at least {least}")
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
            limits, marks, stop = limits or limits_in_force(), Marks(kept), Stop()
            words = WordReader(limits, text_reader, transcriber, readings, retry=retry_failed, stop=stop)
            asks = reasoner if think else None
            batches = Batches(
                asks,
                embedder,
                tcots,
                limits,
                num_frames,
                marks,
                words,
                retry_failed,
                gate,
                redo_declined,
                builds_ahead=num_ahead > 0,
                stop=stop,
            )
            divider = Divider(splitting or Splitting(), limits, scans, text_measure_of(embedder), stop)
            run = IngestRun(folder, index, batches, divider, batch_size, max_in_flight, num_ahead, failures, checksums, roots)
            return run.run(retry_failed, on_progress or (lambda done, total: None))
    finally:
        lock.release()
