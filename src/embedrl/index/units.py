"""Units of a file: what it is divided into, each an item of its own: pages, images, scenes of a video, passages of a text."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl import log
from embedrl.concurrency import Stop
from embedrl.data import items
from embedrl.data.records import Records
from embedrl.data.sample import Item
from embedrl.data.segments import TextSegment, as_told, joined, read_segments
from embedrl.errors import ConfigError, MediaError
from embedrl.index.row import Modality, Place, Row, place_id
from embedrl.media.content import Image, Page, Text, Video, file_sha256
from embedrl.media.decode import format_of, is_document, num_images, num_pages, read_text
from embedrl.media.mail import mails_of
from embedrl.media.passages import CHARS_PER_TOKEN, IN_CHARACTERS, PassageLength, TextMeasure, passages
from embedrl.media.scenes import Differences, SceneSettings, scan_part, scenes
from embedrl.media.store import Limits
from embedrl.media.text import byte_offsets

SCANS = "scans.jsonl"
_READ_SHARE = 0.9
"""Maximum length of a passage, as a fraction of the tokens that a model reads: by itself, it may have a few more than in its text."""


@dataclass(frozen=True)
class Unit:
    """A part of a file that is an item of its own; by default all of a file that is not divided."""

    page: int | None = None
    """1-based page number of a document."""
    number: int | None = None
    """1-based number of a scene, a passage or an image of several; 0: all of a video, beside its scenes."""
    start_s: float = 0.0
    end_s: float | None = None
    """Span of a scene, in seconds."""
    start_char: int | None = None
    end_char: int | None = None
    """Span of a passage, in characters of the text as it is read: line ends are one character."""
    start_byte: int | None = None
    end_byte: int | None = None
    """Span of a passage in bytes of the file; None where the file is not this text in UTF-8."""
    text: str | None = None
    """A passage itself."""
    about: str = ""
    captured_s: float | None = None
    """Of a mail in a mailbox: subject and sender, and when it was sent."""


WHOLE = Unit()


def unit_of(row: Row) -> Unit:
    """Return the unit that a row is of."""
    place = row.place
    span_s = (row.start_s or 0.0, row.end_s) if row.modality == "video" and place.unit else (0.0, None)
    return Unit(place.page, place.unit, *span_s, place.start_char, place.end_char, place.start_byte, place.end_byte)


def place_of(unit: Unit, *, path: Path, **facts: Any) -> Place:
    """Return the place of a unit of a file; `facts` are the other fields of a Place."""
    own = {name: getattr(unit, name) for name in ("page", "start_char", "end_char", "start_byte", "end_byte")}
    facts |= {"about": unit.about} if unit.about else {}
    facts |= {} if unit.captured_s is None else {"captured_s": unit.captured_s, "captured_from": "mail"}
    return Place(id=place_id(path, unit.page, unit.number), path=path, unit=unit.number, **own, **facts)


class Splitting(BaseModel):
    """How files are divided into units."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    scenes: SceneSettings | None = SceneSettings()
    """None: a video is one unit."""
    images: bool = True
    """Each image of a multi-image file (TIFF, HEIF) is a unit; False: the main one is."""
    max_passage_tokens: int = Field(default=256, ge=50)
    """Maximum tokens of a passage; estimated where the Embedder has no tokenizer here. Longer texts are divided."""
    passage_overlap_tokens: int = Field(default=32, ge=0)
    """Overlap: a passage begins with the last sentences of the one before, at most this many tokens."""
    max_passage_chars: int | None = Field(default=2000, ge=200)
    """Maximum characters of a passage, which is what models are shown of one; None: a text is one unit."""

    @model_validator(mode="after")
    def _fits(self) -> "Splitting":
        if 2 * self.passage_overlap_tokens > self.max_passage_tokens:
            raise ConfigError(
                f"passage_overlap_tokens={self.passage_overlap_tokens}: give at most half of max_passage_tokens={self.max_passage_tokens}"
            )
        return self

    @property
    def fingerprint(self) -> str:
        """8 hex digits that change whenever files may be divided otherwise."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]

    def passage_length(self, measure: TextMeasure) -> PassageLength | None:
        """Return the greatest length of a passage for a model, which reads all of it; None: texts are not divided."""
        if self.max_passage_chars is None:
            return None
        most = None if measure.max_tokens is None else int(measure.max_tokens * _READ_SHARE)
        tokens = self.max_passage_tokens if most is None else max(min(self.max_passage_tokens, most), 1)
        chars = self.max_passage_chars if measure.max_chars is None else min(self.max_passage_chars, measure.max_chars)
        return PassageLength(tokens, chars, min(self.passage_overlap_tokens, tokens // 2))


class Divider:
    """Divides files. What a scan of a long video has seen is kept until all is seen, and then its scenes: a kill costs one part."""

    def __init__(
        self, splitting: Splitting, limits: Limits, scans: Records, measure: TextMeasure = IN_CHARACTERS, stop: Stop | None = None
    ) -> None:
        """Create the divider; `measure` is that of the Embedder, by which passages are cut. `stop` ends a scan between its parts."""
        self.splitting, self.limits, self.scans, self.measure, self.stop = splitting, limits, scans, measure, stop or Stop()
        self._passage_length = splitting.passage_length(measure)
        self._has_told_estimate = False

    def units(self, path: Path, modality: Modality) -> list[Unit]:
        """Return the units of a file, in order. Raises MediaError."""
        match modality:
            case "page":
                count = num_pages(path, self.limits)
                if not count:
                    raise MediaError(f"{str(path)!r}: the document has no pages")
                return [Unit(page=number) for number in range(1, count + 1)]
            case "image" if self.splitting.images and (count := num_images(path, self.limits)) > 1:
                return [Unit(number=number) for number in range(1, count + 1)]
            case "video" if self.splitting.scenes is not None:
                spans = self._scenes(path, self.splitting.scenes)
                parts = [Unit(number=number, start_s=start, end_s=end) for number, (start, end) in enumerate(spans, 1)]
                return [Unit(number=0), *parts] if len(parts) > 1 else [WHOLE]
            case "text" if format_of(path, self.limits) == "MBOX":
                return list(self._mails(path))
            case "text" if self._passage_length is not None:
                return list(self._passages(path, self._passage_length))
        return [WHOLE]

    def heard(self, segments: Sequence[TextSegment]) -> list[Unit]:
        """Return the passages of an audio file, by what is said in it: as many phrases each as the length of a passage admits."""
        length = self._passage_length
        groups: list[list[TextSegment]] = []
        num_tokens = num_chars = 0
        for segment in sorted(segments, key=lambda segment: segment.start_s or 0.0):
            ends = self.measure.token_ends(segment.text) if self.measure.token_ends else None
            tokens, chars = len(segment.text) // CHARS_PER_TOKEN + 1 if ends is None else len(ends), len(segment.text) + 1
            is_full = length is not None and (num_tokens + tokens > length.tokens or num_chars + chars > length.chars)
            if not groups or (is_full and (segment.start_s or 0.0) > (groups[-1][0].start_s or 0.0)):
                groups.append([])
                num_tokens = num_chars = 0
            groups[-1].append(segment)
            num_tokens, num_chars = num_tokens + tokens, num_chars + chars
        if len(groups) < 2:
            return [WHOLE] if groups else []
        starts = [group[0].start_s or 0.0 for group in groups]
        spans = zip(starts, [*starts[1:], None], strict=True)
        return [Unit(number=number, start_s=start, end_s=end) for number, (start, end) in enumerate(spans, 1)]

    def _passages(self, path: Path, length: PassageLength) -> Iterator[Unit]:
        text = read_text(path, self.limits)
        spans = passages(text, length, self.measure.token_ends)
        if len(spans) <= 1:
            yield Unit(text=text)
            return
        if self.measure.token_ends is None and not self._has_told_estimate:
            self._has_told_estimate = True
            log.info(f"the Embedder has no tokenizer here: passages are measured in characters, {CHARS_PER_TOKEN} for a token")
        borders = sorted({border for span in spans for border in span})
        offsets = {} if is_document(path, self.limits) else byte_offsets(path, text, borders, self.limits)
        for number, (start, end) in enumerate(spans, 1):
            yield Unit(None, number, 0.0, None, start, end, offsets.get(start), offsets.get(end), text[start:end])

    def _mails(self, path: Path) -> Iterator[Unit]:
        """Yield the mails of a mailbox, each divided as a text is."""
        text, number = read_text(path, self.limits), 0
        for mail in mails_of(text):
            written = text[mail.start : mail.end]
            length = self._passage_length
            for start, end in passages(written, length, self.measure.token_ends) if length else [(0, len(written))]:
                number += 1
                start, end = mail.start + start, mail.start + end
                yield Unit(number=number, start_char=start, end_char=end, text=text[start:end], about=mail.about, captured_s=mail.sent_s)

    def _scenes(self, path: Path, settings: SceneSettings) -> list[tuple[float, float]]:
        name = f"{file_sha256(path).hex()[:32]} {settings.model_dump_json()}"
        if (known := self.scans.get(name)) is not None:
            return [(float(start), float(end)) for start, end in known]
        parts: list[Differences] = []
        while (part := self.scans.get(f"{name} {len(parts)}")) is not None:
            parts.append(Differences.model_validate(part))
        while not parts or parts[-1].next_s is not None:
            self.stop.check()
            parts.append(scan_part(path, parts[-1] if parts else Differences(), settings, self.limits))
            if parts[-1].next_s is not None:
                self.scans.put(f"{name} {len(parts) - 1}", parts[-1].model_dump())
        spans = scenes(parts, settings)
        if parts[-1].times_s:
            self.scans.put(name, spans)
            self.scans.drop_many([f"{name} {number}" for number in range(len(parts) - 1)])
        return spans


def read_item(path: Path, modality: Modality, unit: Unit | None, limits: Limits, segments: Sequence[TextSegment] = ()) -> Item:
    """Make the Item of a unit, with the words that were read in it; pixels stay in the file. Raises MediaError."""
    unit = unit or WHOLE
    words = (Text(text=as_told(segments)),) if segments else ()
    match modality:
        case "image":
            return items.candidate((Image(path=path, number=unit.number), *words))
        case "video":
            return items.candidate((Video(path=path, start_s=unit.start_s, end_s=unit.end_s), *words))
        case "page":
            return items.candidate((Page(path=path, number=unit.page or 1), *words))
        case "text":
            if segments:  # of an audio file
                return items.candidate((Text(text=joined(segments)),))
            text = unit.text if unit.text is not None else read_text(path, limits)[unit.start_char : unit.end_char]
            if not text.strip():
                raise MediaError(f"{str(path)!r}: holds no text")
            return items.candidate((Text(text=text),))


def item_of(row: Row, path: Path, limits: Limits) -> Item:
    """Make the Item of a row again, from its file and the words that were read in it. Raises MediaError."""
    return read_item(path, row.modality, unit_of(row), limits, read_segments(row.segments))
