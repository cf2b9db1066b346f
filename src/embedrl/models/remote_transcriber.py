"""Client of OpenAI-shaped `/v1/audio/transcriptions` servers (OpenAI, vLLM, speaches, whisper.cpp, LocalAI, ...)."""

import hashlib
import json
import threading
from typing import Any

import numpy as np
from pydantic import BaseModel

from embedrl import log
from embedrl.data.protocols import Refusal
from embedrl.data.segments import TextSegment
from embedrl.errors import ModelError
from embedrl.media.sound import SAMPLE_RATE
from embedrl.models.model_server import ModelServer, write_form
from embedrl.models.server_answers import ServerFailure, ServerFailureReason, read
from embedrl.models.transcript import HeardPhrase, HeardWord, segments_of, wav

PATH = "/audio/transcriptions"
GRANULARITIES = "timestamp_granularities[]"
_VERSION = 1
"""How answers become segments; another number for another reading of the same answers."""


class _Transcription(BaseModel):
    """An answer of `response_format=verbose_json`."""

    text: str = ""
    segments: list[HeardPhrase] | None = None
    words: list[HeardWord] | None = None


class RemoteTranscriber:
    """A server that transcribes speech. Implements `Transcribes`."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        asked = hashlib.sha256(json.dumps(server.extra, sort_keys=True).encode()).hexdigest()[:8]
        self.fingerprint = f"speech-{_VERSION}-{server.model}-{asked}"
        self._granularities = ["segment", "word"]
        self._slots = threading.Semaphore(server.max_in_flight)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> "RemoteTranscriber":
        """Make one from `http://host:8000/v1#model?language=de&timeout_s=60`, with options of `ModelServer`. Raises as its `from_url`."""
        return cls(ModelServer.from_url(url, **options))

    def transcribe(self, samples: np.ndarray) -> tuple[TextSegment, ...]:
        """Return what is said in samples, int16 (N,), with times in seconds from their beginning.

        Raises Refusal for a piece that the server refuses, or answers without times, and ModelError if it does not answer.
        """
        content = self._ask(samples)
        if isinstance(content, ServerFailure) and "granularit" in content.text and len(self._granularities) > 1:
            log.warn(f"{self.server.url} gives no times of words ({content.text}); those of its phrases are used")
            self._granularities = ["segment"]
            content = self._ask(samples)
        answer = content if isinstance(content, ServerFailure) else _read(content, len(samples) / SAMPLE_RATE)
        if not isinstance(answer, ServerFailure):
            return answer
        text = f"{self.server.url} does not transcribe it ({answer.text})"
        if answer.reason is ServerFailureReason.TRANSPORT:
            raise ModelError(f"{answer.reason}: {text}")
        raise Refusal(answer.reason.value, text, about_item=answer.about_item and "response_format" not in answer.text)

    def _ask(self, samples: np.ndarray) -> bytes | ServerFailure:
        settings = {"model": self.server.model, "response_format": "verbose_json", GRANULARITIES: self._granularities, **self.server.extra}
        fields = {name: _field(value) for name, value in settings.items() if value is not None}
        with self._slots:
            body, media_type = write_form(fields, "speech.wav", wav(samples), "audio/wav")
            return self.server.fetch(PATH, body, media_type=media_type)


def _field(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


def _read(content: bytes, length_s: float) -> tuple[TextSegment, ...] | ServerFailure:
    """Parse the answer about a piece of sound that is `length_s` long."""
    answer = read(content, _Transcription)
    if isinstance(answer, ServerFailure):
        return answer
    if answer.text.strip() and not answer.segments and not answer.words:
        reason = "it answers without times: this needs a model and a server with response_format=verbose_json"
        return ServerFailure(ServerFailureReason.MALFORMED, reason)
    try:
        return segments_of(answer.segments or (), answer.words or (), length_s)
    except ValueError as error:
        return ServerFailure(ServerFailureReason.MALFORMED, str(error))
