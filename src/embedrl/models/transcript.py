"""Transcripts of speech recognisers as text segments: phrases with their times, and the times of their words where these are known."""

import wave
from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from pydantic import BaseModel, Field

from embedrl.data.segments import TextSegment
from embedrl.media.content import well_formed
from embedrl.media.sound import SAMPLE_RATE

MAX_CHARS = 20_000
"""Longest transcript of a piece of two minutes; fast speech is a tenth of it."""
_WINDOW_S = 30.0
"""Length of Whisper's windows; what it writes behind the end of the sound is left out."""
_NO_SPEECH, _SURE = 0.6, -1.0
"""Whisper's own rule (openai/whisper, transcribe.py): a phrase more likely silence than this, and less likely than that, is left out."""
_PAUSE_S, _LONGEST_S = 1.0, 10.0
"""Words without phrases are one phrase until a pause, and at most so long."""


class HeardWord(BaseModel):
    """A word, with its times in seconds from the beginning of the piece."""

    word: str
    start: float = Field(allow_inf_nan=False)
    end: float = Field(allow_inf_nan=False)


class HeardPhrase(BaseModel):
    """A phrase, with its times, and what Whisper says of how sure it is."""

    text: str
    start: float = Field(allow_inf_nan=False)
    end: float = Field(allow_inf_nan=False)
    no_speech_prob: float | None = None
    avg_logprob: float | None = None

    @property
    def is_silence(self) -> bool:
        """Whether it was written into silence."""
        return (self.no_speech_prob or 0.0) > _NO_SPEECH and (self.avg_logprob or 0.0) < _SURE


def segments_of(phrases: Sequence[HeardPhrase], words: Sequence[HeardWord], length_s: float) -> tuple[TextSegment, ...]:
    """Return the phrases of a piece of sound, in order of time. Raises ValueError for times outside it, or more text than can be said."""
    phrases = sorted(phrases or _phrases(words), key=lambda phrase: phrase.start)
    for item in (*phrases, *words):
        if not (-1 <= item.start <= length_s + _WINDOW_S and item.end >= item.start):
            raise ValueError(f"times {item.start:g} to {item.end:g} s in a piece of {length_s:g} s")
    if (num_chars := sum(len(phrase.text) for phrase in phrases)) > MAX_CHARS:
        raise ValueError(f"{num_chars} characters, more than {MAX_CHARS}, in a piece of {length_s:g} s")
    heard = []
    for phrase in phrases:
        text = " ".join(well_formed(phrase.text).split())
        if text and not phrase.is_silence and phrase.start < length_s:
            times = tuple((_within(start, length_s), _within(end, length_s)) for start, end in _word_times(text, phrase, words))
            start_s, end_s = _within(phrase.start, length_s), _within(phrase.end, length_s)
            heard.append(TextSegment(text=text, source="speech", start_s=start_s, end_s=end_s, word_times=times))
    return tuple(heard)


def wav(samples: np.ndarray) -> bytes:
    """Return samples, int16 (N,), as a WAV file."""
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return buffer.getvalue()


def _within(time_s: float, length_s: float) -> float:
    return round(min(max(time_s, 0.0), length_s), 3)


def _word_times(text: str, phrase: HeardPhrase, words: Iterable[HeardWord]) -> list[tuple[float, float]]:
    """Return the times of what spaces separate in a phrase; none if the words are not those of the phrase."""
    spoken = [word for word in words if phrase.start - 0.05 <= word.start < max(phrase.end, phrase.start + 0.01) and _letters(word.word)]
    times: list[tuple[float, float]] = []
    for piece in text.split():
        wanted, said, own = _letters(piece), "", []
        while spoken and len(said) < len(wanted):
            own.append(spoken.pop(0))
            said += _letters(own[-1].word)
        if said != wanted:
            return []
        at_s = times[-1][1] if times else phrase.start
        times.append((own[0].start, own[-1].end) if own else (at_s, at_s))
    return times


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def _phrases(words: Sequence[HeardWord]) -> list[HeardPhrase]:
    """Join words to phrases."""
    phrases: list[HeardPhrase] = []
    for word in sorted(words, key=lambda word: word.start):
        last = phrases[-1] if phrases else None
        if last is None or word.start - last.end > _PAUSE_S or word.end - last.start > _LONGEST_S:
            phrases.append(HeardPhrase(text=word.word.strip(), start=word.start, end=word.end))
        else:
            phrases[-1] = last.model_copy(update={"text": f"{last.text} {word.word.strip()}", "end": max(last.end, word.end)})
    return phrases
