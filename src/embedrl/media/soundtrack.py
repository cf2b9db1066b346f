"""Tracks beside the video stream (PyAV): the sound of a video or an audio file, in pieces that end where it is quiet, and text of a video.

Samples are placed by their presentation times, counted from the first frame, so that what is heard and what is seen keep together.
"""

import math
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.subtitle import AssSubtitle

from embedrl.errors import MediaError
from embedrl.media.content import well_formed
from embedrl.media.frame_index import packets_from, span_of
from embedrl.media.metadata import from_tags
from embedrl.media.sound import PIECE_S, SAMPLE_RATE, Sound
from embedrl.media.store import DEFAULT, Limits, audio_demuxer, open_regular
from embedrl.media.subtitles import MAX_CUES, Cue, parse_lyrics, plain_dialogue
from embedrl.media.video_file import OpenedVideo, ffmpeg_named, open_video, require_clear, require_time, require_unprotected

CODECS = (
    *("aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "dca", "truehd", "opus", "libopus", "vorbis", "flac", "alac"),
    *("aac_latm", "mp1", "mp1float", "mlp", "dvaudio", "amrnb", "amrwb", "qcelp", "evrc", "gsm", "gsm_ms", "speex"),
    *(
        "wmav1",
        "wmav2",
        "wmapro",
        "wmavoice",
        "wmalossless",
        "nellymoser",
        "cook",
        "sipr",
        "real_144",
        "real_288",
        "qdm2",
        "mace3",
        "mace6",
    ),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "adpcm_yamaha", "truespeech"),
)
"""Decoders of sound that we use, beside those of plain samples (pcm_*)."""
SUBTITLE_CODECS = ("subrip", "srt", "mov_text", "webvtt", "ass", "ssa", "text")
"""Streams of text; others hold bitmaps of it."""
AnyStream = TypeVar("AnyStream", bound=Stream)
_NUMBERED_CHAPTER = re.compile(r"\s*(?:[^\W\d_]{1,12}\.?\s*)?[\d:.,\s#-]*", re.I)
"""Titles that say nothing: `Chapter 01`, `Kapitel 2`, `00:05:00.000`."""
_MAX_TITLE_CHARS = 500
_PAUSE_S = 20.0
"""A piece ends at the quietest position within this many seconds before its maximum length."""
_WINDOW_S = 0.1
_PREROLL_S = 1.0
"""Decoding begins so long before a piece: codecs lean on what came before."""
_MAX_DRIFT_S = 0.1
"""Samples that are further from where their time says they belong are moved there."""
_FRAME = 1024
_LYRICS = re.compile(r"(?:unsynced)?lyrics(?:-\w{0,16})?")
"""Names of tags: ID3's USLT is `lyrics-eng`, MP4 and Vorbis comments have `lyrics` and `unsyncedlyrics`."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def decode_sound(path: Path, start_s: float, limits: Limits = DEFAULT) -> Sound:
    """Decode the sound of a file from a time on, at most `PIECE_S` of it: the default track, or the first. Raises MediaError.

    That of a video ends with its video stream, an audio file where its samples do. Damaged packets and gaps are silent.
    """
    with open_sound(path, limits) as opened:
        stream = _audio_stream(opened)
        if stream is None:
            return Sound(np.zeros(0, np.int16), None, has_track=False)
        if isinstance(opened, OpenedVideo):
            first_s, end_s = span_of(opened)
        else:
            first_s, end_s = float((stream.start_time or 0) * (stream.time_base or 1)), math.inf
        if start_s >= limits.max_duration_s:
            raise MediaError(f"{str(path)!r}: its sound is longer than max_duration_s={limits.max_duration_s:g}")
        rest_s = end_s - first_s - start_s
        samples = np.zeros(max(0, math.ceil(min(rest_s, PIECE_S) * SAMPLE_RATE)), np.int16)
        num_decoded, num_missed, is_over = _fill(samples, opened, stream, first_s + start_s)
    is_last = rest_s <= PIECE_S
    if is_over:
        samples, is_last = (samples if is_last else samples[:num_decoded]), True
    elif num_decoded < len(samples):  # the time for one piece is over
        samples, is_last = samples[:num_decoded], False
    elif not is_last:
        samples = samples[: _quietest(samples)]
    if not len(samples) and not is_last:
        raise MediaError(f"{str(path)!r}: decoding its sound takes longer than decode_timeout_s={limits.decode_timeout_s:g}")
    if num_missed and not samples.any():
        raise MediaError(f"{str(path)!r}: its sound is damaged ({num_missed} packets cannot be decoded, and none of the others is heard)")
    return Sound(samples, None if is_last else start_s + len(samples) / SAMPLE_RATE)


class OpenedAudio(NamedTuple):
    """An audio file; an image in it is its cover."""

    path: Path
    container: InputContainer
    limits: Limits
    deadline: float


@contextmanager
def open_sound(path: Path, limits: Limits) -> Generator[OpenedVideo | OpenedAudio]:
    """Open a video or an audio file; FFmpeg's errors become MediaErrors that name it."""
    with open_regular(path, limits) as file:
        demuxer = audio_demuxer(path.suffix, file)
        if demuxer is None:
            with open_video(path, limits) as opened:
                yield opened
            return
        file.seek(0)
        with ffmpeg_named(path, "the sound"), av.open(file, "r", format=demuxer, metadata_errors="replace") as container:
            yield OpenedAudio(path, container, limits, time.monotonic() + limits.decode_timeout_s)


def audio_metadata(path: Path, limits: Limits = DEFAULT) -> dict[str, Any]:
    """Return what an audio file says of itself in its tags: title, artist, album, date. A day alone counts as its noon."""
    with open_sound(path, limits) as opened:
        tags = {name.lower(): value for stream in opened.container.streams.audio for name, value in stream.metadata.items()}
        tags |= {name.lower(): value for name, value in opened.container.metadata.items()}
    if _DAY.fullmatch(tags.get("date", "").strip()):
        tags["date"] = f"{tags['date'].strip()} 12:00"
    said = from_tags(tags)
    return said | ({"captured_from": "tags"} if "captured_from" in said else {})


def tag_lyrics(path: Path, limits: Limits = DEFAULT) -> list[Cue]:
    """Return the lyrics in the tags of an audio file: lines with times, or one cue of the whole length. Raises MediaError."""
    with open_sound(path, limits) as opened:
        tags = {name.casefold(): value for stream in opened.container.streams.audio for name, value in stream.metadata.items()}
        tags |= {name.casefold(): value for name, value in opened.container.metadata.items()}
        length_s = (opened.container.duration or 0) / 1_000_000
    lyrics = next((value for name, value in tags.items() if value.strip() and _LYRICS.fullmatch(name)), "")
    lyrics = well_formed(lyrics).replace("\r\n", "\n").replace("\r", "\n")[: limits.max_text_chars]
    cues, _ = parse_lyrics(lyrics)
    return cues or ([Cue(0.0, max(length_s, 1.0), lyrics.strip())] if lyrics.strip() else [])


def _audio_stream(opened: OpenedVideo | OpenedAudio) -> AudioStream | None:
    streams = opened.container.streams.audio
    if not streams:
        return None
    stream = default_stream(streams)
    require_unprotected(opened.path, opened.container, stream)
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    if codec not in CODECS and not codec.startswith("pcm_"):
        raise MediaError(f"{str(opened.path)!r}: the codec of its sound is {codec!r}, which we do not decode; convert it to AAC")
    stream.codec_context.thread_count = 1
    return stream


def _fill(samples: np.ndarray, opened: OpenedVideo | OpenedAudio, stream: AudioStream, start_s: float) -> tuple[int, int, bool]:
    """Write what is heard from a time of the container on.

    Return how many samples are done, how many packets are damaged, and whether the track is over.
    """
    until = time.monotonic() + opened.limits.part_s
    num_missed = 0
    for seek_s in dict.fromkeys((max(start_s - _PREROLL_S, 0.0), 0.0)):
        position = None
        for chunk, time_s in _chunks(opened, stream, seek_s):
            if chunk is None:
                num_missed += 1
                continue
            due = position if time_s is None else round((time_s - start_s) * SAMPLE_RATE)
            if position is None and due is not None and due > 0 and seek_s:
                break  # the seek came out behind what was wanted: walk from the start, once
            if position is None or (due is not None and abs(due - position) > _MAX_DRIFT_S * SAMPLE_RATE):
                position = due or 0
            begin, end = max(position, 0), min(position + len(chunk), len(samples))
            if end > begin:
                samples[begin:end] = chunk[begin - position : end - position]
            position += len(chunk)
            if position >= len(samples):
                return len(samples), num_missed, False
            if time.monotonic() > until:
                return max(position, 0), num_missed, False
        else:
            return max(position or 0, 0), num_missed, True
    return len(samples), num_missed, False


def _chunks(opened: OpenedVideo | OpenedAudio, stream: AudioStream, seek_s: float) -> Iterator[tuple[np.ndarray | None, float | None]]:
    """Yield samples, int16 (N,), with the time of the frame that they come from; None in place of those of a damaged packet."""
    start = math.floor(seek_s / (stream.time_base or 1))
    resampler, shape = None, None
    for packet in packets_from(opened, stream, start) if isinstance(opened, OpenedVideo) else _audio_packets(opened, stream, start):
        require_time(opened.path, opened.deadline, opened.limits)
        require_clear(opened.path, packet)
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            yield None, None
            continue
        for frame in frames:
            if not isinstance(frame, av.AudioFrame):
                continue
            if shape != (shape := (frame.format.name, frame.layout.name, frame.sample_rate)) or resampler is None:
                resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
            time_s = frame.time
            for part in resampler.resample(frame):
                yield part.to_ndarray().reshape(-1), time_s
                time_s = None


def _audio_packets(opened: OpenedAudio, stream: AudioStream, start: int) -> Iterator[Packet]:
    opened.container.seek(start, stream=stream)
    yield from opened.container.demux(stream)


def _quietest(samples: np.ndarray) -> int:
    """Return the middle of the quietest window near the end, of several the last one."""
    size = round(_WINDOW_S * SAMPLE_RATE)
    tail = samples[-round(_PAUSE_S * SAMPLE_RATE) :]
    windows = tail[: len(tail) // size * size].reshape(-1, size).astype(np.float64)
    quietest = len(windows) - 1 - int((windows**2).mean(axis=1)[::-1].argmin())
    return len(samples) - len(tail) + quietest * size + size // 2


def embedded_cues(path: Path, limits: Limits = DEFAULT) -> list[Cue]:
    """Return the cues of a video's text stream, the default one or the first; none if it has none. Raises MediaError."""
    with open_video(path, limits) as opened:
        streams = [stream for stream in opened.container.streams.subtitles if stream.codec_context.name in SUBTITLE_CODECS]
        if not streams:
            return []
        stream = default_stream(streams)
        first_s, _ = span_of(opened)
        cues: list[Cue] = []
        num_chars = 0
        for packet in packets_from(opened, stream, 0):
            require_time(opened.path, opened.deadline, opened.limits)
            if packet.pts is None or not packet.duration or not packet.size:
                continue
            start_s = packet.pts * float(packet.time_base) - first_s
            dialogues = (rect.dialogue for rect in packet.decode() if isinstance(rect, AssSubtitle))
            text = "\n".join(filter(None, (plain_dialogue(dialogue.decode("utf-8", "replace")) for dialogue in dialogues)))
            end_s = start_s + packet.duration * float(packet.time_base)
            if text and end_s > 0:
                cues.append(Cue(max(0.0, round(start_s, 3)), round(end_s, 3), well_formed(text)))
                num_chars += len(text)
            if len(cues) > MAX_CUES or num_chars > limits.max_text_chars:
                reason = f"more than {MAX_CUES} cues or max_text_chars={limits.max_text_chars} characters"
                raise MediaError(f"{str(path)!r}: its stream of subtitles has {reason}")
        return cues


def read_chapters(path: Path, limits: Limits = DEFAULT) -> list[Cue]:
    """Return the titles of a video's chapters, with their times; not those that are but numbers or times. Raises MediaError."""
    with open_video(path, limits) as opened:
        named = [(chapter, title) for chapter in opened.container.chapters() if (title := _title_of(chapter))][:MAX_CUES]
        first_s = span_of(opened)[0] if named else 0.0
        spans = [[float(chapter[name] * (chapter["time_base"] or 1)) - first_s for name in ("start", "end")] for chapter, _ in named]
        cues = [Cue(max(0.0, round(start, 3)), round(end, 3), title) for (start, end), (_, title) in zip(spans, named, strict=True)]
        return [cue for cue in cues if cue.end_s > cue.start_s]


def _title_of(chapter: Mapping[str, Any]) -> str:
    title = " ".join(well_formed(chapter["metadata"].get("title", "")).split())[:_MAX_TITLE_CHARS]
    return "" if _NUMBERED_CHAPTER.fullmatch(title) else title


def frame_rate(path: Path, limits: Limits = DEFAULT) -> float:
    """Return the frames of a video a second, on average. Raises MediaError."""
    with open_video(path, limits) as opened:
        rate = opened.stream.average_rate or opened.stream.guessed_rate
        if not rate:
            raise MediaError(f"{str(path)!r}: says no frame rate")
        return float(rate)


def default_stream(streams: Sequence[AnyStream]) -> AnyStream:
    """Return the default stream of several of a kind, or the first."""
    return max(streams, key=lambda stream: (bool(stream.disposition & Disposition.default), -stream.index))
