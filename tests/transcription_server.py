"""A server of `/v1/audio/transcriptions` whose every answer can be replaced."""

import io
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, NamedTuple

import numpy as np

from embedrl.data.protocols import Transcribes
from embedrl.testing import FakeTranscriber
from tests.http_server import JsonHandler, QuietServer, serving


class Request(NamedTuple):
    """What a client sent."""

    fields: dict[str, list[str]]
    samples: np.ndarray
    key: str


Reply = tuple[int, Any]
"""Status, and JSON of an object."""


class TranscriptionServer(QuietServer):
    """Answers with what a transcriber hears. `answer` replaces what it says to a request."""

    def __init__(self, transcriber: Transcribes | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = f"http://127.0.0.1:{self.server_port}/v1"
        self.url = f"{self.root}#whisper-tiny"
        self.transcriber = transcriber or FakeTranscriber()
        self.asked: list[Request] = []
        self.answer: Callable[[Request], Reply | None] = lambda request: None


class _Handler(JsonHandler):
    server: TranscriptionServer

    def do_GET(self) -> None:
        self.send_content(200, {"data": [{"id": "whisper-tiny"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/audio/transcriptions":
            self.send_content(404, {"error": {"message": "no such page"}})
            return
        request = _read(self.headers["Content-Type"], body, self.headers.get("Authorization", ""))
        self.server.asked.append(request)
        self.send_content(*(self.server.answer(request) or (200, transcribed(request, self.server.transcriber))))


def transcribed(request: Request, transcriber: Transcribes) -> dict[str, Any]:
    """A good answer, in the shape of OpenAI's verbose_json."""
    heard = transcriber.transcribe(request.samples)
    words = [
        {"word": word, "start": start_s, "end": end_s}
        for segment in heard
        for word, (start_s, end_s) in zip(segment.text.split(), segment.word_times, strict=True)
    ]
    segments = [
        {
            "id": number,
            "text": f" {segment.text}.",
            "start": segment.start_s,
            "end": segment.end_s,
            "no_speech_prob": 0.01,
            "avg_logprob": -0.2,
        }
        for number, segment in enumerate(heard)
    ]
    text = " ".join(segment["text"] for segment in segments)
    answer = {"task": "transcribe", "language": "english", "duration": len(request.samples) / 16000, "text": text, "segments": segments}
    return answer | ({"words": words} if "word" in request.fields.get("timestamp_granularities[]", ()) else {})


def _read(content_type: str, body: bytes, key: str) -> Request:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, list[str]] = {}
    samples = np.zeros(0, np.int16)
    for part in message.iter_parts():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if name == "file":
            with wave.open(io.BytesIO(content)) as file:
                assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 16000, 2)
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        else:
            fields.setdefault(str(name), []).append(content.decode())
    return Request(fields, samples, key)


@contextmanager
def transcription_server(transcriber: Transcribes | None = None) -> Iterator[TranscriptionServer]:
    """Run one; nothing of it is left behind."""
    server = TranscriptionServer(transcriber)
    with serving(server):
        yield server
