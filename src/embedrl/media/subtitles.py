"""Subtitles as cues: SubRip (.srt), WebVTT (.vtt), SubStation Alpha (.ass, .ssa), YouTube's .sbv, MicroDVD (.sub) and
lyrics (.lrc) beside a video or an audio file, else the text stream of a video, or the lyrics in the tags of an audio file.

Read in the child process that decodes. The first two are read by one tolerant parser: players show files that break either standard.
"""

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from embedrl.errors import MediaError
from embedrl.media.store import DEFAULT, Limits
from embedrl.media.text import load_text

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa", ".sbv", ".sub", ".lrc")
MAX_CUES = 20_000
"""Cues of a video, of all its subtitles; a film of two hours has about 2,000."""
_TIME = r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2})(?:[.,:](\d{1,3}))?"
_TIMING = re.compile(rf"^\s*{_TIME}\s*-{{1,3}}>\s*{_TIME}(?:\s.*)?$")
_ARROW = re.compile(r"-->")
_BLOCK = re.compile(r"^(?:WEBVTT|NOTE|STYLE|REGION)\b")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<\d[\d:.]{0,20}>|\{\\[^{}]{0,200}\}")
"""`<i>`, `<v Name>`, `<c.yellow>`, `<00:00:01.500>`, `{\\an8}`."""
_LYRIC = re.compile(r"((?:\[\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?\]\s*)+)(.*)")
_LYRIC_TIME = re.compile(r"\[(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?\]")
_LYRICS_OFFSET = re.compile(r"^\[offset:\s*([+-]?\d{1,9})\s*\]", re.IGNORECASE | re.MULTILINE)
_SBV_TIMING = re.compile(rf"^[ \t]*{_TIME},{_TIME}[ \t]*$", re.MULTILINE)
_FRAMES = re.compile(r"^[ \t]*\{(\d{1,8})\}\{(\d{1,8})\}(.*)$", re.MULTILINE)
_MICRODVD_TAG = re.compile(r"\{[A-Za-z]:[^{}]{0,200}\}")
_LAST_LYRIC_S = 10.0
"""Longest time for which a line of lyrics counts as sung."""
_ROLLING_S = 0.1
"""Captions that roll begin at most so long after the ones before."""
_TAGS_OF_NAME = re.compile(r"(?:\.[A-Za-z0-9-]{2,20}){0,2}")
"""Language and kind in a name: `film.en.srt`, `film.pt-BR.forced.srt`."""


class Cue(NamedTuple):
    """A text with the time at which it is shown, in seconds from the first frame."""

    start_s: float
    end_s: float
    text: str


def parse_cues(text: str) -> tuple[list[Cue], int]:
    """Return the cues of a SubRip or WebVTT text, by time, and the number of those without a valid time.

    Tags are removed. Lines that the cue before has shown already are left out: captions that roll repeat them.
    """
    cues: list[Cue] = []
    num_broken = 0
    span, lines, is_webvtt = None, [], text.lstrip("\ufeff").startswith("WEBVTT")
    skips = is_webvtt
    after_blank = True

    def end_cue() -> None:
        if span is not None and (said := _plain(lines)):
            cues.append(Cue(*span, said))

    for line in text.lstrip("\ufeff").split("\n"):
        if _ARROW.search(line):
            if lines and lines[-1].strip().isdigit():
                lines.pop()  # the number of this cue
            end_cue()
            span, lines, skips = _span(line), [], False
            num_broken += span is None
        elif not line.strip():
            skips = skips or is_webvtt
        elif not (after_blank and is_webvtt and _BLOCK.match(line)) and not skips:
            lines.append(line)
        after_blank = not line.strip()
    end_cue()
    return list(_without_repeats(sorted(cues, key=lambda cue: cue[:2]))), num_broken


def parse_dialogues(text: str) -> tuple[list[Cue], int]:
    """Return the cues of a SubStation Alpha text (ASS, SSA), by time, and the number of those without a valid time. Comments are left out.

    A line of dialogue has the fields that the last line of formats before it names; the last of them may hold commas.
    """
    cues: list[Cue] = []
    num_broken, fields = 0, list[str]()
    for line in text.lstrip("\ufeff").split("\n"):
        kind, _, rest = line.strip().partition(":")
        if kind.casefold() == "format":
            fields = [name.strip().casefold() for name in rest.split(",")]
        elif kind.casefold() == "dialogue" and {"start", "end", "text"} <= set(fields):
            values = dict(zip(fields, rest.split(",", len(fields) - 1), strict=False))
            span = _span(f"{values.get('start')} --> {values.get('end')}")
            num_broken += span is None
            if span is not None and (said := plain_dialogue(values.get("text", ""))):
                cues.append(Cue(*span, said))
    return list(_without_repeats(sorted(cues, key=lambda cue: cue[:2]))), num_broken


def parse_sbv(text: str) -> tuple[list[Cue], int]:
    """Return the cues of YouTube's format, by time, and the number of those without a valid time."""
    return parse_cues(_SBV_TIMING.sub(lambda match: match[0].replace(",", " --> "), text))


def parse_lyrics(text: str) -> tuple[list[Cue], int]:
    """Return the cues of lyrics (LRC), by time: a line lasts until the next time, 10 s at most. Lines without a time are left out."""
    offset = _LYRICS_OFFSET.search(text)
    offset_s = int(offset[1]) / 1000 if offset else 0.0  # positive: the lines come sooner
    lines: list[tuple[float, str]] = []
    for line in text.lstrip("\ufeff").split("\n"):
        if match := _LYRIC.match(line.strip()):
            said = _plain([match[2]])
            for minutes, seconds, fraction in _LYRIC_TIME.findall(match[1]):
                time_s = int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}") - offset_s
                lines.append((round(max(time_s, 0.0), 3), said))
    if not lines:
        return [], 0
    lines.sort(key=lambda line: line[0])
    starts = sorted({start_s for start_s, _ in lines})
    end_of = dict(zip(starts, [*starts[1:], math.inf], strict=True))  # lines of one time, such as a translation, last as long
    return [Cue(start, min(end_of[start], start + _LAST_LYRIC_S), said) for start, said in lines if said], 0


def parse_frames(text: str, frame_rate: Callable[[], float]) -> tuple[list[Cue], int]:
    """Return the cues of MicroDVD subtitles, by time, and the number of those that end before they begin.

    Times are frames: of the rate in the first cue, `{1}{1}25.000`, or else of the film. Raises MediaError where the film says none.
    """
    lines = [(int(first), int(last), words.strip()) for first, last, words in _FRAMES.findall(text)]
    fps = 0.0
    if lines and lines[0][:2] in ((0, 0), (1, 1)):
        with suppress(ValueError):
            fps = float(lines[0][2].replace(",", "."))
            lines = lines[1:]
    if not 1 <= fps <= 1000:
        fps = frame_rate()
    if not fps:
        raise MediaError("counts frames, and nothing says how many a second has")
    timed = [(first / fps, last / fps, _plain(_MICRODVD_TAG.sub("", words).split("|"))) for first, last, words in lines]
    cues = [Cue(round(start_s, 3), round(end_s, 3), said) for start_s, end_s, said in timed if said and end_s > start_s]
    return sorted(cues), sum(end_s <= start_s for start_s, end_s, _ in timed)


def _span(line: str) -> tuple[float, float] | None:
    """Return the seconds of a line with times; None if it says none, or ends before it begins."""
    match = _TIMING.match(line)
    if match is None:
        return None
    start_s, end_s = (
        int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int((fraction or "0").ljust(3, "0")) / 1000
        for hours, minutes, seconds, fraction in (match.groups()[:4], match.groups()[4:])
    )
    return (start_s, end_s) if end_s > start_s else None


def _plain(lines: Iterable[str]) -> str:
    """Return the lines of a cue without tags, entities and blank lines."""
    written = (" ".join(html.unescape(_TAG.sub("", line)).split()) for line in lines)
    return "\n".join(filter(None, written))


def plain_dialogue(dialogue: str) -> str:
    """Return the text of a cue as FFmpeg's decoders give it (ASS): without override tags, its line ends as such."""
    return _plain(dialogue.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").splitlines())


def _without_repeats(cues: Iterable[Cue]) -> Iterator[Cue]:
    before: set[str] = set()
    end_s = 0.0
    for cue in cues:
        lines = cue.text.split("\n")
        fresh = [line for line in lines if line not in before or cue.start_s > end_s + _ROLLING_S]
        before, end_s = set(lines), cue.end_s
        if fresh:
            yield cue._replace(text="\n".join(fresh))


_PARSERS = {".lrc": parse_lyrics, ".ass": parse_dialogues, ".ssa": parse_dialogues, ".sbv": parse_sbv}


def read_subtitles(
    video: Path,
    files: Iterable[Path],
    embedded: Callable[[Path, Limits], list[Cue]],
    frame_rate: Callable[[], float],
    limits: Limits = DEFAULT,
) -> tuple[list[Cue], list[tuple[str, str]]]:
    """Return the cues of a video, by time, and (name, reason) of files whose words could not be read, or not all.

    `files` beside it count, and where they say nothing, the stream or the tags in its container, which `embedded` reads. `frame_rate`
    is asked for where times are written as frames.
    """
    cues: dict[Cue, None] = {}
    problems: list[tuple[str, str]] = []
    num_chars = 0
    for path in files:
        try:
            written = load_text(path, limits)
            if path.suffix.lower() == ".sub" and _FRAMES.search(written):
                parsed, num_broken = parse_frames(written, frame_rate)
            else:
                parsed, num_broken = _PARSERS.get(path.suffix.lower(), parse_cues)(written)
        except MediaError as error:
            problems.append((path.name, str(error)))
            continue
        if not parsed:
            problems.append((path.name, "holds no cue of subtitles, nor a line of lyrics, with a valid time"))
        elif num_broken:
            problems.append((path.name, f"{num_broken} of {len(parsed) + num_broken} cues have no valid time and are left out"))
        num_chars += sum(len(cue.text) for cue in parsed)
        if len(cues) + len(parsed) > MAX_CUES or num_chars > limits.max_text_chars:
            reason = (
                f"the subtitles have more than {MAX_CUES} cues or max_text_chars={limits.max_text_chars} characters; this file is left out"
            )
            problems.append((path.name, reason))
            break
        cues |= dict.fromkeys(parsed)
    if not cues:
        try:
            cues = dict.fromkeys(embedded(video, limits))
        except MediaError as error:
            problems.append((video.name, str(error)))
    return sorted(cues), problems


def stems(name: str) -> list[str]:
    """Return what a video is called that a file of subtitles may be named after: with and without language and kind."""
    names = [Path(name).stem]
    while len(names) < 3 and (tag := Path(names[-1]).suffix) and _TAGS_OF_NAME.fullmatch(tag):
        names.append(names[-1].removesuffix(tag))
    return names
