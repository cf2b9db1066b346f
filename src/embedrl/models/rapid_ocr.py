"""Optical character recognition by RapidOCR (PP-OCR in ONNX Runtime), with the models that its package brings. Nothing is downloaded.

It runs in a child process, within 4 times `decode_timeout_s` and 2 times `decode_memory_bytes` (beside its models), one image at a time,
scaled so that its longer side has 1,000 to 2,000 pixels.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from embedrl.data.crops import Box
from embedrl.data.segments import TextSegment
from embedrl.errors import ConfigError
from embedrl.media.content import file_sha256
from embedrl.media.store import Limits, limits_in_force
from embedrl.models.ocr_process import Line, OcrProcess, serve

MIN_CONFIDENCE = 0.5
"""Lines that it is less sure of, 0..1, are left out."""
MIN_SIDE, MAX_SIDE = 1000, 2000
"""Longer side, in pixels, that smaller images are enlarged to (at most threefold) and larger ones reduced to."""
_MAX_ENLARGED = 3
_PARTS = ("Det", "Cls", "Rec")
_VERSION = 1

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


class RapidOcr:
    """Reads text in images. Implements `ReadsText`."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        """Start the child process with the models. Raises ConfigError if the package or its models are not installed."""
        try:
            import onnxruntime  # noqa: F401
            import rapidocr  # ty: ignore[import-not-found]
        except ImportError as error:
            raise ConfigError("rapidocr: is not installed: pip install 'embedrl[ocr]'") from error
        folder = Path(rapidocr.__file__).parent / "models"
        models = {part: sorted(folder.glob(f"*{part.lower()}*.onnx")) for part in _PARTS}
        if missing := [part for part, files in models.items() if len(files) != 1]:
            raise ConfigError(
                f"rapidocr {version('rapidocr')}: brings no single model for {missing[0]!r} in {str(folder)!r}; install it again"
            )
        paths = {f"{part}.model_path": str(files[0]) for part, files in models.items()}  # without them it would fetch what it misses
        bounded = {"Det.limit_type": "max", "Det.limit_side_len": MAX_SIDE, "Global.max_side_len": MAX_SIDE}
        params = {"Global.log_level": "critical", "Global.return_word_box": True, **bounded, **paths}
        self._process = OcrProcess(params, limits or limits_in_force())
        self._process.start()
        digest = hashlib.sha256(b"".join(file_sha256(files[0]) for files in models.values())).hexdigest()[:16]
        self.fingerprint = f"rapidocr-{_VERSION}-{version('rapidocr')}-{digest}-{MIN_CONFIDENCE:g}-{MIN_SIDE}"

    def read(self, image: PIL.Image.Image) -> tuple[TextSegment, ...]:
        """Return the lines in an image, from top to bottom, with a box for each word.

        Raises Refusal if it takes too long or too much memory, or crashes.
        """
        longest = max(image.size)
        scale = min(max(1.0, MIN_SIDE / longest), _MAX_ENLARGED, MAX_SIDE / longest)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        lines = self._process.read(image.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS))
        read = [
            TextSegment(text=" ".join(text.split()), source="image", boxes=tuple(_relative(corners, size) for corners in placed))
            for text, score, quad, words in lines
            if score >= MIN_CONFIDENCE and text.strip() and (placed := list(_word_boxes(text, _corners(quad), words)))
        ]
        return tuple(read)

    def close(self) -> None:
        """End the child process; the next image starts another."""
        self._process.close()


def main() -> None:
    """Read images in a child process."""
    serve(_load)


def _load(params: dict[str, Any]) -> Callable[[np.ndarray], list[Line]]:
    """Load the models, and return what reads pixels (height, width, BGR)."""
    import rapidocr  # ty: ignore[import-not-found]

    ocr = rapidocr.RapidOCR(params=params)
    ocr(np.full((64, 64, 3), 255, np.uint8))  # only now are the models loaded
    return lambda pixels: _lines(ocr(pixels))


def _lines(result: Any) -> list[Line]:
    """Return the lines of a result as plain values."""
    texts, quads = result.txts or (), () if result.boxes is None else result.boxes
    # It leaves out the words of lines without any, and does not say which lines these are.
    words_of: Sequence[Any] = result.word_results if len(result.word_results or ()) == len(texts) else [()] * len(texts)
    return [
        (str(text), float(score), _points(quad), [(str(piece), None if of is None else _points(of)) for piece, _, of in words])
        for text, score, quad, words in zip(texts, result.scores or (), quads, words_of, strict=True)
    ]


def _points(quad: Any) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in quad]


def _corners(quad: Sequence[Sequence[float]]) -> Corners:
    """Return the upright box around four points."""
    xs, ys = zip(*((float(x), float(y)) for x, y in quad), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _word_boxes(text: str, line: Corners, words: Sequence[tuple[str, Sequence[Sequence[float]] | None]]) -> Iterator[Corners]:
    """Yield a box for each word of a line, between spaces: that around the pieces that it was read in, or else its share of the line."""
    pieces = [(str(piece), _corners(quad)) for piece, quad in words if quad is not None]
    ends, length = {}, 0
    for position, (piece, _) in enumerate(pieces, 1):
        length += len(piece)
        ends[length] = position
    wanted = list(accumulate(map(len, text.split())))
    if "".join(piece for piece, _ in pieces) == "".join(text.split()) and all(end in ends for end in wanted):
        for first, last in pairwise([0, *(ends[end] for end in wanted)]):
            lefts, tops, rights, bottoms = zip(*(corners for _, corners in pieces[first:last]), strict=True)
            yield min(lefts), min(tops), max(rights), max(bottoms)
        return
    left, top, right, bottom = line
    at = 0
    for word in text.split():
        at = text.index(word, at)
        yield left + (right - left) * at / len(text), top, left + (right - left) * (at + len(word)) / len(text), bottom
        at += len(word)


def _relative(corners: Corners, size: tuple[int, int]) -> Box:
    left, top, right, bottom = corners
    shares = (left / size[0], top / size[1], right / size[0], bottom / size[1])
    x1, y1, x2, y2 = (min(max(round(1000 * share), 0), 1000) for share in shares)
    return min(x1, 999), min(y1, 999), max(x2, min(x1, 999) + 1), max(y2, min(y1, 999) + 1)
