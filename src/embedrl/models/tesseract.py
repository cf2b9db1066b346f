"""Optical character recognition by the program Tesseract (`tesseract-ocr` of Debian), a process for each image.

It is given decoded pixels, never a file, and answers with a table (TSV) of words and their boxes. Time and memory are bounded.
"""

import csv
import io
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby

import PIL.Image

from embedrl.data.protocols import Refusal
from embedrl.data.segments import TextSegment
from embedrl.errors import ConfigError
from embedrl.media.store import Limits, limits_in_force
from embedrl.models.rulings import without_rulings

PROGRAM = "tesseract"
MIN_CONFIDENCE = 40.0
"""Words that Tesseract is less sure of, 0..100, are left out: what it sees in photos without text."""
MIN_SIDE = 1500
"""Longer side, in pixels, that smaller images are enlarged to, at most threefold: letters of 10 pixels are hardly read."""
_MAX_ENLARGED = 3
_PREPARATION = "unruled"
"""How images are prepared; another name for another way."""
_WORD_LEVEL = "5"
_LINE = ("page_num", "block_num", "par_num", "line_num")
_LANGUAGES = re.compile(r"\w[\w/]*(?:\+\w[\w/]*)*")


class Tesseract:
    """Reads text in images. Implements `ReadsText`."""

    def __init__(self, languages: str = "eng", *, limits: Limits | None = None) -> None:
        """Take Tesseract's names of languages, joined by `+`. Raises ConfigError if the program or a language is not installed."""
        self.languages = languages
        self.limits = limits or limits_in_force()
        if not _LANGUAGES.fullmatch(languages):
            raise ConfigError(f"tesseract:{languages}: name languages as in tesseract:deu+eng")
        program = shutil.which(PROGRAM)
        if program is None:
            raise ConfigError(f"{PROGRAM}: there is no such program; install it (Debian: apt install tesseract-ocr)")
        self.program = program
        version = self._ask("--version").split("\n")[0].split()[-1]
        known = set(self._ask("--list-langs").split("\n")[1:])
        if missing := [language for language in languages.split("+") if language not in known]:
            packages = " ".join(f"tesseract-ocr-{language.replace('_', '-')}" for language in missing)
            raise ConfigError(f"{PROGRAM}: its language {missing[0]!r} is not installed (Debian: apt install {packages})")
        self.fingerprint = f"tesseract-{version}:{languages}-{MIN_CONFIDENCE:g}-{MIN_SIDE}-{_PREPARATION}"

    def read(self, image: PIL.Image.Image) -> tuple[TextSegment, ...]:
        """Return the lines in an image, from top to bottom, with a box for each word.

        Raises Refusal if it takes longer than `decode_timeout_s` or more memory than `decode_memory_bytes`, or crashes.
        """
        scale = min(max(1.0, MIN_SIDE / max(image.size)), _MAX_ENLARGED)
        image = without_rulings(image.convert("RGB"))
        enlarged = (
            image if scale == 1 else image.resize((round(image.width * scale), round(image.height * scale)), PIL.Image.Resampling.LANCZOS)
        )
        buffer = io.BytesIO()
        enlarged.save(buffer, "PPM")
        return tuple(_lines(self._run(buffer.getvalue()), enlarged.size))

    def _run(self, image: bytes) -> str:
        command = [self.program, "stdin", "stdout", "-l", self.languages, "tsv"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_THREAD_LIMIT": "1"}
        )
        allowed = self.limits.decode_memory_bytes
        try:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (allowed, allowed))
            output, _ = process.communicate(image, timeout=self.limits.decode_timeout_s)
        except subprocess.TimeoutExpired as error:
            reason = f"reading its text takes longer than decode_timeout_s={self.limits.decode_timeout_s:g}"
            raise Refusal("timeout", reason, about_item=True) from error
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None and not pipe.closed:
                    pipe.close()
        if process.returncode:
            reason = f"{PROGRAM} fails (exit code {process.returncode}), or takes more than decode_memory_bytes={allowed}"
            raise Refusal("crashed", reason, about_item=True)
        return output.decode("utf-8", "replace")

    def _ask(self, option: str) -> str:
        """Return what the program says of itself. Raises ConfigError if it cannot be run."""
        try:
            done = subprocess.run([self.program, option], capture_output=True, timeout=30, check=True, text=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(f"{self.program!r}: cannot be run ({error})") from error
        return (done.stdout or done.stderr).strip()


def _lines(table: str, size: tuple[int, int]) -> Iterator[TextSegment]:
    """Yield the lines of a table of Tesseract's, without words that it is not sure of."""
    rows = csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = (row for row in rows if row["level"] == _WORD_LEVEL and float(row["conf"]) >= MIN_CONFIDENCE and (row["text"] or "").strip())
    for _, line in groupby(words, lambda row: tuple(row[name] for name in _LINE)):
        read = [("".join(row["text"].split()), _box(row, size)) for row in line]
        yield TextSegment(text=" ".join(word for word, _ in read), source="image", boxes=tuple(box for _, box in read))


def _box(row: dict[str, str], size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, width, height = (int(row[name]) for name in ("left", "top", "width", "height"))
    corners = (left / size[0], top / size[1], (left + width) / size[0], (top + height) / size[1])
    x1, y1, x2, y2 = (min(max(round(1000 * corner), 0), 1000) for corner in corners)
    return x1, y1, max(x2, min(x1 + 1, 1000)), max(y2, min(y1 + 1, 1000))
