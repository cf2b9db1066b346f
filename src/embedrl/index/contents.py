"""What is in an index, by kind: files, units and their sizes, what is without a T-CoT, what the index takes on disk."""

import os
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embedrl.data.segments import ReadFrom, read_sources
from embedrl.index.failures import list_failures
from embedrl.index.index import Index, IndexStats
from embedrl.index.row import MODALITIES, Modality
from embedrl.index.words import is_missing
from embedrl.media.store import status_of


class KindContents(BaseModel):
    """Counts of one kind of media."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_files: int
    num_units: int
    """Number of places: files, and pages, scenes, passages and images of files."""
    num_bytes: int
    """Size of the files when they were indexed, in bytes."""
    num_without_tcot: int
    """Number of units without a T-CoT."""


class Contents(BaseModel):
    """Contents of an index."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stats: IndexStats
    kinds: dict[Modality, KindContents]
    """By kind; kinds of which there is nothing are left out."""
    words: dict[ReadFrom, int] = {}
    """Number of units in which words were read, by how: subtitles, speech, text in an image."""
    num_words_missing: int = 0
    """Number of units in which words could not be read, or are read by the next run."""
    num_failures: int | None
    """Number of files and units that could not be indexed; None for a table without its folder."""
    records_bytes: dict[str, int]
    """Sizes of the index's own files beside the table (T-CoTs, scans of films, failures, …), by name, in bytes."""


def contents(index: Index) -> Contents:
    """Count what is in an index; nothing is written. Raises StoreError."""
    units: Counter[Modality] = Counter()
    without: Counter[Modality] = Counter()
    num_missing = 0
    files: dict[Modality, dict[Path, int]] = {modality: {} for modality in MODALITIES}
    for place, modality, has_tcot in index.table.scan_places():
        units[modality] += 1
        without[modality] += not has_tcot
        num_missing += is_missing(place.readers)
        files[modality][place.path] = place.stamp.size
    kinds = {
        modality: KindContents(
            num_files=len(files[modality]),
            num_units=units[modality],
            num_bytes=sum(files[modality].values()),
            num_without_tcot=without[modality],
        )
        for modality in MODALITIES
        if units[modality]
    }
    words = Counter(source for segments in index.table.scan_segments() for source in read_sources(segments))
    directory = index.home.directory
    return Contents(
        stats=index.stats(),
        kinds=kinds,
        words=dict(words.most_common()),
        num_words_missing=num_missing,
        num_failures=None if directory is None else len(list_failures(index)),
        records_bytes={} if directory is None else _sizes(directory),
    )


def _sizes(directory: Path) -> dict[str, int]:
    with os.scandir(directory) as entries:
        files = {entry.name: status_of(entry.path) for entry in sorted(entries, key=lambda entry: entry.name) if entry.is_file()}
    return {name: status.st_size for name, status in files.items() if status}
