"""Speech in films: recall of spoken words, and how well their times fit, through a real server of `/v1/audio/transcriptions`.

    python bench/speech.py [films] [seed]

espeak-ng (Debian) says words of a vocabulary of 24, four at a time, at known times in films of four minutes with three voices. A
server on this machine recognises them with PocketSphinx and the acoustic model that its package ships, over a grammar of the
vocabulary; without one, its language model hears other words. The films are indexed with `transcriber=`, and the words looked for in
what the index keeps for the scene: the error of a time is that of the nearest such word. Intervals are bootstraps over films.
"""

import io
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import PIL.Image
from av.audio.stream import AudioStream

from embedrl.data.segments import locate, read_segments
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.log import table
from embedrl.media.sound import SAMPLE_RATE
from embedrl.media.video import save_video
from embedrl.runtime.names import load_transcriber
from embedrl.testing import COLOURS, FakeEmbedder

VOCABULARY = (
    *("elephant", "river", "kitchen", "garden", "seven", "yellow", "flowers", "mountain", "window", "dinosaur", "telephone", "umbrella"),
    *(
        "hospital",
        "computer",
        "banana",
        "orange",
        "library",
        "airplane",
        "butterfly",
        "chocolate",
        "football",
        "monkey",
        "newspaper",
        "pencil",
    ),
)
VOICES = ("en-us", "en-us+f3", "en-gb+m3")
FILM_S = 240
SHOT_S = 20
NUM_RESAMPLES = 2000


def add_sound(video: Path, samples: np.ndarray, target: Path, *, codec: str = "aac", start_s: float = 0.0) -> None:
    """Write a video again with a track of sound: samples, int16 (N,), mono, at `SAMPLE_RATE`, which begin at `start_s`."""
    with av.open(video) as source, av.open(target, "w") as container:
        pictures = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        assert isinstance(sound, AudioStream), f"{codec} is no codec of sound"
        for packet in source.demux(source.streams.video[0]):
            if packet.size and packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        resampler = av.AudioResampler(sound.format.name, "mono", SAMPLE_RATE, frame_size=sound.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, round(start_s * SAMPLE_RATE), Fraction(1, SAMPLE_RATE)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(sound.encode(part))


class Spoken(NamedTuple):
    """A word that is said in a film."""

    word: str
    start_s: float
    end_s: float


def say(word: str, voice: str) -> np.ndarray:
    """Return a word as espeak-ng says it: int16 (N,) at 16 kHz, without the silence around it."""
    done = subprocess.run(["espeak-ng", "-v", voice, "-s", "140", "--stdout", word], capture_output=True, check=True)
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
    samples = np.frombuffer(done.stdout[44:], "<i2").astype(np.float64)
    times = np.arange(len(samples) * SAMPLE_RATE // rate) * rate / SAMPLE_RATE
    loud = np.flatnonzero(np.abs(resampled := np.interp(times, np.arange(len(samples)), samples)) > 200)
    return resampled[loud[0] : loud[-1] + 1].astype(np.int16)


def make_film(path: Path, rng: random.Random, length_s: int = FILM_S) -> tuple[list[Spoken], np.ndarray]:
    """Write a film in which groups of four words are said; return the words, and its sound before it was encoded: int16 (N,)."""
    voice = rng.choice(VOICES)
    samples, spoken, at_s = np.zeros(length_s * SAMPLE_RATE, np.int16), [], rng.uniform(0.5, 2)
    while at_s < length_s - 8:
        for word in rng.sample(VOCABULARY, 4):
            said, start = say(word, voice), round(at_s * SAMPLE_RATE)
            samples[start : start + len(said)] = said
            spoken.append(Spoken(word, at_s, at_s + len(said) / SAMPLE_RATE))
            at_s = spoken[-1].end_s + rng.uniform(0.1, 0.3)
        at_s += rng.uniform(2, 8)
    colours = rng.sample(sorted(COLOURS), len(COLOURS))
    shots = [PIL.Image.new("RGB", (64, 48), COLOURS[colours[shot % len(colours)]]) for shot in range(length_s // SHOT_S)]
    mute = path.with_name("mute.mp4")
    save_video([shot for shot in shots for _ in range(SHOT_S)], mute, fps=1)
    add_sound(mute, samples, path)
    mute.unlink()
    return spoken, samples


class Recogniser:
    """PocketSphinx over a grammar of any words of the vocabulary."""

    def __init__(self) -> None:
        import pocketsphinx

        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, lm=None, loglevel="FATAL")
        self._decoder.add_jsgf_string("words", f"#JSGF V1.0; grammar words; public <said> = ({' | '.join(VOCABULARY)})+;")
        self._decoder.activate_search("words")
        self._lock = threading.Lock()

    def recognise(self, samples: np.ndarray) -> dict[str, Any]:
        """Return what is said, in the shape of OpenAI's verbose_json."""
        with self._lock:
            phrases = [self._words(samples, *span) for span in self._spans(samples)]
        phrases = [phrase for phrase in phrases if phrase]
        segments = [
            {"id": number, "text": " ".join(word["word"] for word in phrase), "start": phrase[0]["start"], "end": phrase[-1]["end"]}
            for number, phrase in enumerate(phrases)
        ]
        text = " ".join(segment["text"] for segment in segments)
        return {"task": "transcribe", "text": text, "segments": segments, "words": [word for phrase in phrases for word in phrase]}

    def _spans(self, samples: np.ndarray) -> Iterator[tuple[float, float]]:
        """Yield (start, end) of what is no silence, in seconds."""
        loud = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160)).max(axis=1) > 300
        edges = np.flatnonzero(loud)
        for group in np.split(edges, np.flatnonzero(np.diff(edges) > 60) + 1) if len(edges) else ():
            yield max(group[0] / 100 - 0.2, 0.0), min(group[-1] / 100 + 0.3, len(samples) / SAMPLE_RATE)

    def _words(self, samples: np.ndarray, start_s: float, end_s: float) -> list[dict[str, Any]]:
        piece = samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
        self._decoder.start_utt()
        self._decoder.process_raw(piece.tobytes(), full_utt=True)
        self._decoder.end_utt()
        return [
            {
                "word": segment.word.partition("(")[0],
                "start": start_s + segment.start_frame / 100,
                "end": start_s + (segment.end_frame + 1) / 100,
            }
            for segment in self._decoder.seg() or ()
            if segment.word.partition("(")[0] in VOCABULARY
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body)
        [sent] = [part for part in message.iter_parts() if part.get_param("name", header="content-disposition") == "file"]
        with wave.open(io.BytesIO(sent.get_payload(decode=True))) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        answer = json.dumps(self.server.recogniser.recognise(samples)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def recognising_server() -> Iterator[str]:
    """Run a server of `/v1/audio/transcriptions`, and yield its name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.recogniser = Recogniser()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1#pocketsphinx"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(folder: Path, films: dict[str, list[Spoken]], url: str) -> dict[str, list[float | None]]:
    """Index films, and return for each word that is said how far its time is off, in seconds; None for one that is not heard."""
    index = Index.open(folder, embedder=FakeEmbedder())
    ingest(folder, index, None, FakeEmbedder(), think=False, transcriber=load_transcriber(url))
    rows = [row for row in index.rows({place.key for place in index.places()}) if row.segments]
    errors: dict[str, list[float | None]] = {}
    for name, spoken in films.items():
        own = [row for row in rows if row.place.path.name == name]
        errors[name] = [min((error for row in own for error in _errors(row, said)), default=None) for said in spoken]
    return errors


def _errors(row: Any, said: Spoken) -> Iterator[float]:
    if row.start_s <= said.start_s < row.end_s:
        for segment in read_segments(row.segments):
            place = locate(said.word, [segment])
            if place is not None and place.start_s is not None:
                yield abs(place.start_s - said.start_s)


def measure_alone(spoken: list[Spoken], samples: np.ndarray, recogniser: Recogniser) -> list[float | None]:
    """Return the errors of the recogniser that is given the sound itself, as `measure` does."""
    heard = recogniser.recognise(samples)["words"]
    return [
        min((error for word in heard if word["word"] == said.word and (error := abs(word["start"] - said.start_s)) < SHOT_S), default=None)
        for said in spoken
    ]


def share(errors: list[list[float | None]], limit_s: float) -> str:
    """Return the share of the words that are heard within a time of when they are said, with its interval."""
    said = np.array([len(film) for film in errors])
    heard = np.array([sum(error is not None and error <= limit_s for error in film) for film in errors])
    draws = np.random.default_rng(0).integers(0, len(errors), (NUM_RESAMPLES, len(errors)))
    low, high = np.percentile(heard[draws].sum(axis=1) / said[draws].sum(axis=1), (2.5, 97.5))
    return f"{heard.sum() / said.sum():.3f} ({low:.3f} to {high:.3f})"


def main(num_films: int = 12, seed: int = 0) -> None:
    """Print the figures."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, recognising_server() as url:
        films = {f"{number:02d}.mp4": make_film(Path(name) / f"{number:02d}.mp4", rng) for number in range(num_films)}
        started = time.perf_counter()
        errors = list(measure(Path(name), {film: spoken for film, (spoken, _) in films.items()}, url).values())
        seconds = time.perf_counter() - started
    recogniser = Recogniser()
    alone = [measure_alone(*film, recogniser) for film in films.values()]
    rows = [(f"heard within {limit_s:g} s", share(errors, limit_s), share(alone, limit_s)) for limit_s in (1.0, 0.25)]
    known = np.array([error for film in errors for error in film if error is not None and error <= 1])
    rows.append(("error of their times where within 1 s, mean", f"{np.mean(known):.3f} s", ""))
    title = f"{num_films} films of {FILM_S} s, {sum(map(len, errors))} words said; indexed in {seconds:.0f} s"
    table(title, ("words", "in the index (95 %)", "recogniser alone, before the sound was encoded"), rows)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
