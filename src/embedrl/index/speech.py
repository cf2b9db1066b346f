"""Speech in videos and audio files: transcribed in pieces while they are indexed, and kept: the next run asks for what is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from embedrl import log
from embedrl.concurrency import Stop, map_concurrently
from embedrl.data.protocols import Refusal, Transcribes
from embedrl.data.reasoning import NOT_ASKED, OTHER, Patience
from embedrl.data.records import Records
from embedrl.data.segments import TextSegment, later, read_segments, write_segments
from embedrl.errors import MediaError, ModelError
from embedrl.media.content import Video, content_key
from embedrl.media.decode import read_sound
from embedrl.media.sound import SAMPLE_RATE, Sound
from embedrl.media.store import Limits

NUM_LISTENERS = 4
"""Pieces that are transcribed at once."""
GIVE_UP_AFTER = 3
"""Pieces without an answer, one after the other, after which a transcriber is asked for nothing more in this run."""
UNDECODED = "sound"
"""Reason of a piece that cannot be decoded."""


class SpeechFailure(BaseModel):
    """A piece of a video's sound that was not transcribed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str
    start_s: float
    """Where the piece begins, seconds from the first frame."""
    end_s: float | None = None
    """Where it ends; None: all the rest of the video."""
    reason: str
    """Reason code."""
    text: str
    is_asked_again: bool = False
    """Whether the next run asks again by itself; else `--retry` does."""

    @property
    def in_words(self) -> str:
        """What happened, without the path."""
        until = "" if self.end_s is None else f" to {self.end_s:.0f} s"
        return f"its speech from {self.start_s:.0f} s{until} is not transcribed ({self.reason}: {self.text})"


class SpeechCounts(BaseModel):
    """New or changed videos and audio files in which speech was looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_heard: int = 0
    """Number of files with a sound."""
    num_with_speech: int = 0
    num_without_track: int = 0
    """Number of videos without a track of sound."""
    num_silent: int = 0
    """Number of videos whose track is silent, below -60 dB of full scale."""
    transcribed_s: float = 0.0
    """Seconds of sound that the transcriber answered for in this run; the others were known, or silent."""
    failures: tuple[SpeechFailure, ...] = ()

    @property
    def in_words(self) -> dict[str, int]:
        """The counts under the words of a summary."""
        counts = {
            "in which speech was looked for": self.num_heard,
            "with speech": self.num_with_speech,
            "without a track of sound": self.num_without_track,
            "silent": self.num_silent,
        }
        return {name: count for name, count in counts.items() if count}


class Speech(NamedTuple):
    """What was heard in a video."""

    segments: tuple[TextSegment, ...] = ()
    is_settled: bool = True
    """Whether the next run need not ask again."""
    has_failed: bool = False
    """Whether a piece was not transcribed."""


class _Piece(NamedTuple):
    """A piece of sound that is to be transcribed."""

    path: Path
    key: str
    start_s: float
    sound: Sound


class _Heard(NamedTuple):
    """A piece that was transcribed, or is not to be."""

    segments: tuple[TextSegment, ...] = ()
    has_sound: bool = False
    has_track: bool = True
    seconds: float = 0.0
    failure: SpeechFailure | None = None


class SpeechReader:
    """Transcribes the sound of videos, several pieces at once, while the next ones are decoded; a few of them are in memory."""

    def __init__(
        self, limits: Limits, transcriber: Transcribes, records: Records, *, retry: bool = False, stop: Stop | None = None
    ) -> None:
        self.limits, self.transcriber, self.records, self.retry, self.stop = limits, transcriber, records, retry, stop or Stop()
        self.patience = Patience(GIVE_UP_AFTER)
        self.counts = SpeechCounts()

    def read(self, path: Path) -> Speech:
        """Return what is said in a video. What cannot be decoded or transcribed is a failure of that piece."""
        pieces = list(map_concurrently(self._heard, self._pieces(path), NUM_LISTENERS))
        failures = tuple(piece.failure for piece in pieces if piece.failure)
        segments = tuple(segment for piece in pieces for segment in piece.segments)
        has_track, has_sound = all(piece.has_track for piece in pieces), any(piece.has_sound for piece in pieces)
        counts = self.counts
        self.counts = SpeechCounts(
            num_heard=counts.num_heard + has_sound,
            num_with_speech=counts.num_with_speech + bool(segments),
            num_without_track=counts.num_without_track + (not has_track),
            num_silent=counts.num_silent + (has_track and not has_sound and not failures),
            transcribed_s=round(counts.transcribed_s + sum(piece.seconds for piece in pieces), 3),
            failures=counts.failures + failures,
        )
        if failures:
            log.warn(f"{path}: {failures[0].in_words}" + (f"; nor are {len(failures) - 1} other pieces" if len(failures) > 1 else ""))
        return Speech(segments, not any(failure.is_asked_again for failure in failures), bool(failures))

    def _pieces(self, path: Path) -> Iterator[_Piece | _Heard]:
        """Yield the pieces of a video's sound, in order; decoded where they are not known."""
        next_s: float | None = 0.0
        while (start_s := next_s) is not None:
            self.stop.check()
            try:
                key = f"{content_key((Video(path=path),))} from {start_s!r} {self.transcriber.fingerprint}"
                if (kept := self._kept(key, path, start_s)) is not None:
                    heard, next_s = kept
                    yield heard
                    continue
                if self.patience.is_over:
                    text = f"no answer {self.patience.num_failed} times in a row, the last time: {self.patience.last_error}"
                    yield _Heard(failure=SpeechFailure(path=str(path), start_s=start_s, reason=NOT_ASKED, text=text, is_asked_again=True))
                    return
                sound = read_sound(path, start_s, self.limits)
            except MediaError as error:
                text = str(error).removeprefix(f"{str(path)!r}: ")
                yield _Heard(failure=SpeechFailure(path=str(path), start_s=start_s, reason=UNDECODED, text=text))
                return
            yield _Piece(path, key, start_s, sound)
            next_s = sound.next_s

    def _kept(self, key: str, path: Path, start_s: float) -> tuple[_Heard, float | None] | None:
        """Return what an earlier run kept of a piece, and where the next one begins; None if it is to be transcribed."""
        kept = self.records.get(key)
        if kept is None or ("failed" in kept and self.retry):
            return None
        next_s = kept["next_s"]
        failure = None
        if "failed" in kept:
            failure = SpeechFailure(path=str(path), start_s=start_s, end_s=next_s, reason=kept["failed"], text=kept["text"])
        return _Heard(read_segments(kept.get("segments", "")), kept["has_sound"], kept["has_track"], failure=failure), next_s

    def _heard(self, piece: _Piece | _Heard) -> _Heard:
        """Transcribe a piece, and keep what was heard."""
        if isinstance(piece, _Heard):
            return piece
        path, key, start_s, sound = piece
        heard = _Heard(has_sound=not sound.is_silent, has_track=sound.has_track)
        facts: dict[str, Any] = {"next_s": sound.next_s, "has_sound": heard.has_sound, "has_track": heard.has_track}
        try:
            if heard.has_sound:
                said = self.transcriber.transcribe(sound.samples)
                self.patience.note([said])
                segments = tuple(later(segment, start_s) for segment in said)
                heard = heard._replace(segments=segments, seconds=len(sound.samples) / SAMPLE_RATE)
                facts["segments"] = write_segments(segments)
            self.records.put(key, facts)
        except ModelError as error:
            self.patience.note([error])
            reason, text = (error.reason, error.text) if isinstance(error, Refusal) else (OTHER, str(error))
            is_about_piece = isinstance(error, Refusal) and error.about_item
            if is_about_piece:
                self.records.put(key, {**facts, "failed": reason, "text": text})
            failure = SpeechFailure(
                path=str(path), start_s=start_s, end_s=sound.next_s, reason=reason, text=text, is_asked_again=not is_about_piece
            )
            heard = heard._replace(failure=failure)
        return heard
