"""Text segments: words that were read or heard in a medium (subtitles, chapters, speech, text in an image), with their times or boxes.

They are part of an item's text, marked as read: nobody wrote them about it. Times count from the first frame of the file.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from embedrl.data.crops import Box

ReadFrom = Literal["subtitles", "chapters", "speech", "image"]
MARKS: dict[ReadFrom, str] = {"subtitles": "Subtitles", "chapters": "Chapter", "speech": "Transcribed speech", "image": "Text in the image"}
"""What models are told about words that were read."""
MAX_CHARS = 20_000
"""Characters of text segments that an item keeps, of the first ones."""
MAX_MATCHING = 3
_CHAPTER_BORDER_S = 1.0
WORD = re.compile(r"[^\W_]+")
FILLERS = frozenset(WORD.findall("a an and are as at by for from has have in is it its of on one or that the there this to with"))


class TextSegment(BaseModel):
    """A cue, a spoken phrase or a line in an image."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    text: str
    source: ReadFrom
    """How it was read."""
    start_s: float | None = None
    end_s: float | None = None
    """When it is shown or said, seconds from the first frame of the file."""
    boxes: tuple[Box, ...] = ()
    """Where each of its words (between spaces) stands in the image, 0..1000."""
    word_times: tuple[tuple[float, float], ...] = ()
    """When each of its words (between spaces) is said, (start, end) in seconds from the first frame; () where only the segment is known."""


_SEGMENTS = TypeAdapter(tuple[TextSegment, ...])


def write_segments(segments: Sequence[TextSegment]) -> str:
    """Serialise as JSON, without defaults; "" for none."""
    if not segments:
        return ""
    return json.dumps([segment.model_dump(mode="json", exclude_defaults=True) for segment in segments], ensure_ascii=False)


def read_segments(text: str) -> tuple[TextSegment, ...]:
    """Parse what `write_segments` wrote."""
    return _SEGMENTS.validate_json(text) if text else ()


def read_sources(text: str) -> list[ReadFrom]:
    """Return how the segments in what `write_segments` wrote were read, without parsing them all."""
    return [source for source in MARKS if f'"source": "{source}"' in text]


def later(segment: TextSegment, by_s: float) -> TextSegment:
    """Return a segment shifted by `by_s` seconds, to the millisecond."""
    start_s, end_s = (None if time_s is None else round(time_s + by_s, 3) for time_s in (segment.start_s, segment.end_s))
    times = tuple((round(start + by_s, 3), round(end + by_s, 3)) for start, end in segment.word_times)
    return segment.model_copy(update={"start_s": start_s, "end_s": end_s, "word_times": times})


def bounded(segments: Iterable[TextSegment]) -> tuple[TextSegment, ...]:
    """Return the first segments, of at most `MAX_CHARS` characters."""
    kept, num_chars = [], 0
    for segment in segments:
        num_chars += len(segment.text) + 1
        if num_chars > MAX_CHARS:
            break
        kept.append(segment)
    return tuple(kept)


def overlapping(segments: Iterable[TextSegment], start_s: float, end_s: float | None) -> tuple[TextSegment, ...]:
    """Return the segments that are shown or said within a span, in part at least; of a chapter, more than its border."""
    return tuple(
        segment
        for segment in segments
        if segment.start_s is None
        or (
            (segment.end_s or segment.start_s) - _border_s(segment) > start_s
            and (end_s is None or segment.start_s + _border_s(segment) < end_s)
        )
    )


def _border_s(segment: TextSegment) -> float:
    """Return how far the border of a segment may be from the cut that it means."""
    return min(_CHAPTER_BORDER_S, ((segment.end_s or 0.0) - (segment.start_s or 0.0)) / 4) if segment.source == "chapters" else 0.0


def starting(segments: Iterable[TextSegment], start_s: float, end_s: float | None) -> tuple[TextSegment, ...]:
    """Return the segments that begin within a span; without a time, they begin at 0."""
    return tuple(segment for segment in segments if start_s <= (segment.start_s or 0.0) < (math.inf if end_s is None else end_s))


def span_of(segments: Sequence[TextSegment]) -> tuple[float | None, float | None]:
    """Return when the first of these segments begins and the last one ends, in seconds; None where no times are known."""
    starts = [segment.start_s for segment in segments if segment.start_s is not None]
    ends = [segment.end_s for segment in segments if segment.end_s is not None]
    return min(starts, default=None), max(ends, default=None)


def joined(segments: Iterable[TextSegment]) -> str:
    """Return the words of segments, a line each."""
    return "\n".join(segment.text for segment in segments)


def as_told(segments: Sequence[TextSegment]) -> str:
    """Return the words of segments as models are shown them, marked by how they were read; "" for none."""
    by_source = {source: joined(segment for segment in segments if segment.source == source) for source in MARKS}
    return "\n".join(f"{MARKS[source]}:\n{words}" for source, words in by_source.items() if words)


def locate(phrase: str, segments: Sequence[TextSegment]) -> TextSegment | None:
    """Return where a phrase was read first: its words with their time or boxes; None if it was not. It may run over segments."""
    wanted = _words(phrase)
    words = [(word, segment, position) for segment in segments for word, position in _placed(segment)]
    for first in range(len(words) - len(wanted) + 1 if wanted else 0):
        run = words[first : first + len(wanted)]
        if [word for word, _, _ in run] == wanted and len({segment.source for _, segment, _ in run}) == 1:
            start, end = run[0][1], run[-1][1]
            start_s, _ = start.word_times[run[0][2]] if start.word_times else (start.start_s, None)
            _, end_s = end.word_times[run[-1][2]] if end.word_times else (None, end.end_s)
            boxes = dict.fromkeys(segment.boxes[position] for _, segment, position in run if position < len(segment.boxes))
            return TextSegment(text=phrase, source=start.source, start_s=start_s, end_s=end_s, boxes=tuple(boxes))
    return None


def matching(segments: Sequence[TextSegment], asked: str) -> tuple[TextSegment, ...]:
    """Return the segments that hold most of the words that are asked for, at most `MAX_MATCHING`, in their order; none without a word."""
    wanted = set(_words(asked)) - FILLERS
    counts = {position: len(wanted & set(_words(segment.text))) for position, segment in enumerate(segments)} if wanted else {}
    best = sorted((position for position, count in counts.items() if count), key=lambda position: (-counts[position], position))
    return tuple(segments[position] for position in sorted(best[:MAX_MATCHING]))


def _placed(segment: TextSegment) -> Iterator[tuple[str, int]]:
    """Yield the words of a segment, each with its position among what spaces separate."""
    for position, piece in enumerate(segment.text.split()):
        for word in _words(piece):
            yield word, position


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())
