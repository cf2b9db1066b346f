"""Words that are read in media while they are indexed: subtitles of videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from embedrl import log
from embedrl.data.segments import TextSegment, bounded, overlapping
from embedrl.errors import MediaError
from embedrl.index.location import leads_out
from embedrl.index.row import MODALITIES, Modality, Stamp
from embedrl.index.units import Unit
from embedrl.media.decode import read_subtitles
from embedrl.media.store import Limits
from embedrl.media.subtitles import subtitle_files

SUBTITLES = "subtitles-1"
"""How subtitles are read; another number for another reading of the same files."""


class Problem(NamedTuple):
    """A file beside a medium whose words could not be read, or not all."""

    path: Path
    reason: str
    stamp: Stamp | None


class FileWords(NamedTuple):
    """The words of a file."""

    segments: tuple[TextSegment, ...] = ()
    problems: tuple[Problem, ...] = ()

    def of_unit(self, unit: Unit) -> tuple[TextSegment, ...]:
        """Return the words of a unit: those within the span of a scene. A film beside its scenes has none: they belong to the moments."""
        return () if unit.number == 0 else bounded(overlapping(self.segments, unit.start_s, unit.end_s))


class WordReader:
    """Reads the words in files. With `roots`, subtitles that lead out of these folders are not followed."""

    def __init__(self, limits: Limits, roots: Sequence[Path] = ()) -> None:
        self.limits, self.roots = limits, [Path(root).resolve() for root in roots]
        self._noted: dict[Modality, str] = {modality: modality for modality in MODALITIES} | {"video": f"video {SUBTITLES}"}

    def noted(self, modality: Modality) -> str:
        """Return what an index notes of a place: how the words in its file were read."""
        return self._noted[modality]

    def is_current(self, noted: str) -> bool:
        """Say whether the words of a place were read as they would be now."""
        return noted in self._noted.values()

    def read(self, path: Path, modality: Modality) -> FileWords:
        """Read the words of a file. What cannot be read is a problem of the words, never of the file."""
        return self._subtitles(path) if modality == "video" else FileWords()

    def _subtitles(self, path: Path) -> FileWords:
        files = subtitle_files(path)
        inside = [file for file in files if not leads_out(file, self.roots)]
        problems = [(file, "leads out of the folders that are served") for file in files if file not in inside]
        try:
            cues, others = read_subtitles(path, inside, self.limits)
        except MediaError as error:
            cues, others = [], [(path, str(error))]
        for file, reason in others:
            if file == path:
                log.warn(f"subtitles in a video are left out: {reason}")
        problems += [problem for problem in others if problem[0] != path]
        segments = (TextSegment(text=cue.text, source="subtitles", start_s=cue.start_s, end_s=cue.end_s) for cue in cues)
        return FileWords(tuple(segments), tuple(Problem(file, reason, _stamp(file)) for file, reason in problems))


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except MediaError:  # it went away meanwhile
        return None
