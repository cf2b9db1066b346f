"""Counts, failures and timings of one ingestion."""

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from embedrl.data.reasoning import TCoTCounts
from embedrl.index.failures import Failure
from embedrl.index.speech import SpeechCounts
from embedrl.index.words import AudioLeftOut, ReadingCounts
from embedrl.media.kinds import is_unread


class IngestReport(BaseModel):
    """Counts, failures and timings of one ingestion. A place is a file or a unit of it: a page, scene or passage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_files: int
    """Number of files."""
    unsupported: int
    """Number of files without an indexed medium."""
    unread_kinds: dict[str, int] = {}
    """Files of kinds that are not read, by suffix: those of `unsupported`, and photos, videos and documents among `failures`."""
    skipped: dict[str, int] = {}
    """Number of files and folders skipped by name, by pattern of `Limits.skip_names`."""
    damaged_metadata: dict[str, int] = {}
    """Number of files read in this run of which a group of metadata could not be read (EXIF, GPS, …), by group."""
    unchanged: int
    """Number of places that were up to date."""
    added: int
    """Number of contents embedded, of new or changed files."""
    reused: int
    """Number of places whose content was indexed already: moved, copied or touched files."""
    removed: int
    without_tcot: int
    """Number of added items without a valid T-CoT; search compares them by their plain vectors."""
    declined: int = 0
    """How many of these are without one because a gate decided not to reason about them."""
    tcots: TCoTCounts
    """Of the added items: T-CoTs by whether they were new or cached, and failures by reason."""
    readings: ReadingCounts = ReadingCounts()
    """Images and pages of new or changed files in which words were looked for."""
    speech: SpeechCounts = SpeechCounts()
    """New or changed videos and audio files in which speech was looked for."""
    audio_left_out: dict[AudioLeftOut, int] = {}
    """Number of audio files (of `unsupported`) without an item, by reason: no transcriber was given, or nothing is said in them."""
    failures: tuple[Failure, ...]
    """All known failures in the folder, of this run and earlier ones."""
    seconds: dict[str, float]
    """Seconds by stage: read, decode, reason, embed, write; what goes on at once counts in each. `model`: any model works; `total`: all."""

    @property
    def model_share(self) -> float:
        """Share of the time in which a model worked, of 1."""
        return self.seconds["model"] / self.seconds["total"]


def count_unread(failures: Iterable[Failure]) -> Counter[str]:
    """Count failures of files of kinds that are not read, by suffix."""
    suffixes = (failure.path.suffix.lower() for failure in failures if failure.page is None)
    return Counter(suffix for suffix in suffixes if is_unread(suffix))
