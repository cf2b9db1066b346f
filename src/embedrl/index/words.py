"""Words that are read in media while they are indexed: subtitles and speech of videos and audio, text in images and scanned pages."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from embedrl import log
from embedrl.concurrency import Stop
from embedrl.data.protocols import ReadsText, Refusal, Transcribes
from embedrl.data.reasoning import OTHER
from embedrl.data.records import Records
from embedrl.data.segments import ReadFrom, TextSegment, bounded, overlapping, read_segments, starting, write_segments
from embedrl.errors import MediaError, ModelError
from embedrl.index.row import MODALITIES, Modality, Stamp
from embedrl.index.speech import Speech, SpeechCounts, SpeechReader
from embedrl.index.units import Unit
from embedrl.media.content import Image, Page, content_key
from embedrl.media.decode import look, page_text, read_subtitles
from embedrl.media.store import Limits
from embedrl.media.subtitles import SUFFIXES, Cue

SUBTITLES = "subtitles-1"
"""How subtitles are read; another number for another reading of the same files."""
READINGS = "readings.jsonl"
"""What was read in images, by their content and who read it."""
NUM_READERS = 4
AudioLeftOut = Literal["no_transcriber", "nothing_said", "not_transcribed"]
FAILED = " failed"
"""Added to what an index notes where words could not be read: only `retry` tries again."""


def is_missing(noted: str) -> bool:
    """Say whether words of a place could not be read, or are still to be read, by what an index notes of it."""
    return not noted or noted.endswith(FAILED)


class ReadingCounts(BaseModel):
    """Images and pages in which words were looked for, and those that could not be read, by reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_read: int = 0
    num_with_words: int = 0
    failed: dict[str, int] = {}
    examples: dict[str, str] = {}
    """Reason -> first message."""

    @property
    def in_words(self) -> dict[str, int]:
        """The counts under the words of a summary; none if nothing was read."""
        return {"in which words were looked for": self.num_read, "with words": self.num_with_words} if self.num_read else {}


class Problem(NamedTuple):
    """A file beside a medium whose words could not be read, or not all."""

    path: Path
    reason: str
    stamp: Stamp | None


class _Reading(NamedTuple):
    """What was read in an image: its words, or why it could not be read."""

    segments: tuple[TextSegment, ...] = ()
    failure: tuple[str, str] | None = None
    """(reason, message)."""
    is_settled: bool = True
    """Whether the next run need not read it again."""


class FileWords(NamedTuple):
    """The words of a file."""

    by: str
    """How they were read, as an index notes it."""
    segments: tuple[TextSegment, ...] = ()
    """Words with times in the whole file."""
    problems: tuple[Problem, ...] = ()
    readings: Mapping[Unit, _Reading] = MappingProxyType({})
    """What was read in its images or pages."""
    speech: Speech = Speech()
    is_audio: bool = False
    """Whether the words are all that there is: none is left out, and none is told twice."""
    is_unheard: bool = False
    """Whether an audio file may say what nobody has heard in this run: what an earlier one heard stays."""

    def of_unit(self, unit: Unit) -> tuple[TextSegment, ...]:
        """Return the words of a unit: those within the span of a scene. A film beside its scenes has none: they belong to the moments."""
        if (reading := self.readings.get(unit)) is not None:
            return bounded(reading.segments)
        if self.is_audio:
            return starting(self.segments, unit.start_s, unit.end_s)
        return () if unit.number == 0 else bounded(overlapping(self.segments, unit.start_s, unit.end_s))

    def noted(self, unit: Unit) -> str:
        """Return what an index notes of a place: how the words in it were read; "" if the next run has to read them."""
        reading = self.readings.get(unit)
        if not (self.speech if reading is None else reading).is_settled:
            return ""
        has_failed = self.speech.has_failed if reading is None else reading.failure is not None
        return self.by + FAILED if has_failed else self.by


class WordReader:
    """Reads the words in files.

    What a `text_reader` has read and a `transcriber` has heard is kept in the records: nothing is read twice, and a kill costs what was
    under way.
    """

    def __init__(
        self,
        limits: Limits,
        text_reader: ReadsText | None,
        transcriber: Transcribes | None,
        records: Records,
        *,
        retry: bool = False,
        stop: Stop | None = None,
    ) -> None:
        self.limits, self.text_reader, self.records, self.retry, self.stop = limits, text_reader, records, retry, stop or Stop()
        self.speech = None if transcriber is None else SpeechReader(limits, transcriber, records, retry=retry, stop=self.stop)
        self.counts = ReadingCounts()
        self.audio_left_out: Counter[AudioLeftOut] = Counter()
        """Audio files in which no words are known, by reason."""
        self._noted: dict[str, str] = {modality: modality for modality in MODALITIES} | {"video": f"video {SUBTITLES}"}
        self._noted |= {"subtitled audio": f"audio {SUBTITLES}", "audio": f"audio {SUBTITLES}"}
        if text_reader is not None:
            self._noted |= {"image": f"image {text_reader.fingerprint}", "page": f"page {text_reader.fingerprint}"}
        if transcriber is not None:
            self._noted |= {name: f"{self._noted[name]} {transcriber.fingerprint}" for name in ("video", "audio")}

    @property
    def speech_counts(self) -> SpeechCounts:
        """Counts of the videos in which speech was looked for."""
        return SpeechCounts() if self.speech is None else self.speech.counts

    def is_current(self, noted: str) -> bool:
        """Say whether the words of a place were read as they would be now; without a reader of them, as they were by an earlier one."""
        noted = noted if self.retry else noted.removesuffix(FAILED)
        if self.text_reader is None and noted.partition(" ")[0] in ("image", "page"):
            return True
        if self.speech is None and noted.startswith((f"video {SUBTITLES} ", f"audio {SUBTITLES} ")):
            return True
        return noted in self._noted.values()

    def read(self, path: Path, modality: Modality, units: Sequence[Unit], sidecars: Sequence[Path]) -> FileWords:
        """Read the words of a file and its sidecars. What cannot be read is a problem of the words, never of the file."""
        if modality == "video":
            return self._spoken(path, sidecars, "video")
        parts: list[Image | Page] = []
        if self.text_reader is not None and modality == "image":
            parts = [Image(path=path, number=unit.number) for unit in units]
        elif self.text_reader is not None and modality == "page":
            parts = [Page(path=path, number=unit.page or 1) for unit in units]
        if not parts:
            return FileWords(self._noted[modality])
        with ThreadPoolExecutor(min(NUM_READERS, os.cpu_count() or 1)) as pool:
            readings = list(pool.map(self._reading, parts))
        self._count(readings)
        return FileWords(self._noted[modality], readings=dict(zip(units, readings, strict=True)))

    def hear(self, path: Path, sidecars: Sequence[Path]) -> FileWords:
        """Return what is said in an audio file: by its sidecars, and where these say nothing, by the transcriber. Raises MediaError."""
        heard = self._spoken(path, sidecars, "audio")._replace(is_audio=True)
        if not heard.segments:
            has_failed = heard.speech.has_failed
            heard = heard._replace(is_unheard=self.speech is None or has_failed)
            self.audio_left_out["no_transcriber" if self.speech is None else "not_transcribed" if has_failed else "nothing_said"] += 1
        return heard

    def _reading(self, part: Image | Page) -> _Reading:
        """Return what is read in an image, or in a page without a text layer, now or by an earlier run."""
        assert self.text_reader is not None
        self.stop.check()
        try:
            key = f"{content_key((part,))} {self.text_reader.fingerprint}"
            if (known := self._known(self.records.get(key))) is not None:
                return known
            if isinstance(part, Page) and page_text(part, self.limits).strip():
                return _Reading()
            [image] = look(part, "pixels", limits=self.limits).images
        except MediaError:  # the file's failure, which its decoding says
            return _Reading(is_settled=False)
        try:
            reading = _Reading(tuple(self.text_reader.read(image)))
            self.records.put(key, {"segments": write_segments(reading.segments)})
        except Refusal as error:
            reading = _Reading(failure=(error.reason, str(error)), is_settled=error.about_item)
            if error.about_item:
                self.records.put(key, {"failed": error.reason, "text": str(error)})
        except ModelError as error:
            reading = _Reading(failure=(OTHER, str(error)), is_settled=False)
        return reading

    def _known(self, kept: Any) -> _Reading | None:
        if kept is None or ("failed" in kept and self.retry):
            return None
        return _Reading(failure=(kept["failed"], kept["text"])) if "failed" in kept else _Reading(read_segments(kept["segments"]))

    def _count(self, readings: Iterable[_Reading]) -> None:
        failed, examples = dict(self.counts.failed), dict(self.counts.examples)
        num_read, num_with_words = self.counts.num_read, self.counts.num_with_words
        for reading in readings:
            if reading.failure is not None:
                reason, text = reading.failure
                failed[reason] = failed.get(reason, 0) + 1
                examples.setdefault(reason, text)
            else:
                num_read, num_with_words = num_read + 1, num_with_words + bool(reading.segments)
        self.counts = ReadingCounts(num_read=num_read, num_with_words=num_with_words, failed=failed, examples=examples)

    def _spoken(self, path: Path, sidecars: Sequence[Path], kind: Literal["video", "audio"]) -> FileWords:
        files = [file for file in sidecars if file.suffix.lower() in SUFFIXES]
        try:
            cues, chapters, problems = read_subtitles(path, files, self.limits)
        except MediaError as error:
            cues, chapters, problems = [], [], [(path, str(error))]
        for file, reason in problems:
            if file == path and kind == "audio" and not cues:
                raise MediaError(reason)
            if file == path:
                log.warn(f"the words in a {kind} file are left out: {reason}")
        sources: tuple[tuple[ReadFrom, list[Cue]], ...] = (("chapters", chapters), ("subtitles", cues))
        shown = [
            TextSegment(text=cue.text, source=name, start_s=cue.start_s, end_s=cue.end_s)
            for name, source_cues in sources
            for cue in source_cues
        ]
        is_told = kind == "audio" and bool(shown)
        speech = Speech() if self.speech is None or is_told else self.speech.read(path)
        segments = sorted([*shown, *speech.segments], key=lambda segment: segment.start_s or 0.0)
        noted = tuple(Problem(file, reason, _stamp(file)) for file, reason in problems if file != path)
        return FileWords(self._noted["subtitled audio" if is_told else kind], tuple(segments), noted, speech=speech)


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except MediaError:  # it went away meanwhile
        return None
