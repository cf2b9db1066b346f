"""Speech recognition by a Whisper model in a folder, as faster-whisper (CTranslate2) keeps it. Nothing is downloaded."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from embedrl.data.protocols import Refusal
from embedrl.data.segments import TextSegment
from embedrl.errors import ConfigError, ModelError
from embedrl.files import expanded
from embedrl.media.content import file_sha256
from embedrl.media.sound import SAMPLE_RATE
from embedrl.models.transcript import HeardPhrase, HeardWord, segments_of

FILES = ("model.bin", "config.json", "tokenizer.json")
"""What a folder has to hold; without its tokenizer, the library would fetch one."""
_VERSION = 1


class FasterWhisper:
    """A Whisper model in a folder. Implements `Transcribes`."""

    def __init__(self, folder: str | Path, *, language: str | None = None, device: str = "auto", compute_type: str = "default") -> None:
        """Load a model. `language` is Whisper's code of it ("de"); without, it is detected for each piece of sound.

        Raises ConfigError if faster-whisper is not installed or files are missing, ModelError if the model cannot be loaded.
        """
        folder = expanded(folder)
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise ConfigError(
                f"{str(folder)!r}: has no {', '.join(missing)}; give the folder of a Whisper model of faster-whisper (CTranslate2)"
            )
        try:
            import faster_whisper
        except ImportError as error:
            raise ConfigError(f"{str(folder)!r}: Whisper models need faster-whisper: pip install 'embedrl[speech]'") from error
        # Boundary: CTranslate2 raises RuntimeError and ValueError for files, devices and number formats alike.
        try:
            self._model: Any = faster_whisper.WhisperModel(str(folder), device=device, compute_type=compute_type, local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{str(folder)!r}: the Whisper model cannot be loaded ({error})") from error
        if language is not None and language not in self._model.supported_languages:
            raise ConfigError(f"language={language!r}: this model knows {', '.join(sorted(self._model.supported_languages))}")
        self.language = language
        digest = hashlib.sha256(b"".join(file_sha256(folder / name) for name in FILES)).hexdigest()[:16]
        self.fingerprint = f"whisper-{_VERSION}-{faster_whisper.__version__}-{digest}-{language or 'any'}-{compute_type}"

    def transcribe(self, samples: np.ndarray) -> tuple[TextSegment, ...]:
        """Return what is said in samples, int16 (N,), with times in seconds from their beginning. Raises Refusal."""
        sound = samples.astype(np.float32) / 32768
        try:
            spoken, _ = self._model.transcribe(
                sound, language=self.language, word_timestamps=True, condition_on_previous_text=False, without_timestamps=False
            )
            phrases = list(spoken)
        except (RuntimeError, ValueError) as error:
            raise Refusal("model_error", f"Whisper does not transcribe it ({error})") from error
        heard = [
            HeardPhrase(text=part.text, start=part.start, end=part.end, no_speech_prob=part.no_speech_prob, avg_logprob=part.avg_logprob)
            for part in phrases
        ]
        words = [HeardWord(word=word.word, start=word.start, end=word.end) for part in phrases for word in part.words or ()]
        try:
            return segments_of(heard, words, len(samples) / SAMPLE_RATE)
        except ValueError as error:
            raise Refusal("malformed", f"Whisper says what cannot be ({error})", about_item=True) from error
