"""Fake Reasoner, Embedder and judge for tests: deterministic, without weights or torch.

They see colours and read words. Give the FakeReasoner a red image and it answers "a red image"; the FakeEmbedder then finds
that image for the query "something red", so that rankings in a test mean something.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

import numpy as np
import PIL.Image

from embedrl.data.protocols import Question, Refusal, Side
from embedrl.data.sample import Item
from embedrl.data.segments import TextSegment
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, TCoT
from embedrl.errors import ModelError
from embedrl.media.content import Frames, Page, Video
from embedrl.media.decode import load_visual, page_text
from embedrl.media.sound import SAMPLE_RATE
from embedrl.media.store import Limits

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 30, 30),
    "orange": (245, 140, 20),
    "yellow": (240, 230, 40),
    "green": (30, 160, 50),
    "blue": (30, 60, 220),
    "purple": (140, 40, 170),
    "pink": (250, 150, 190),
}
"""Colours that the fakes distinguish."""

_PALETTE = np.array(list(COLOURS.values()), dtype=np.int32)
_NAMES = tuple(COLOURS)
_BACKGROUND = {"black", "white", "grey"}
_STOP_WORDS = {"a", "an", "and", "at", "by", "for", "in", "is", "it", "of", "on", "or", "that", "the", "this", "to", "with"}


class FakeReasoner:
    """A Reasoner that names the main colour of an image or video, or the words of a text, with their evidence."""

    def __init__(
        self,
        name: str = "fake-reasoner",
        *,
        fail_keys: Collection[str] = (),
        num_frames: int = 8,
        sleep_s: float = 0.0,
        limits: Limits | None = None,
    ) -> None:
        self.fingerprint = name
        """Name that T-CoTs are cached under."""
        self.fail_keys = fail_keys
        """Items for which it writes no T-CoT."""
        self.num_frames = num_frames
        self.sleep_s = sleep_s
        """How long it takes for one item."""
        self.limits = limits
        self.reasoned: Counter[str] = Counter()
        """How often each item key was reasoned about."""

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order. Raises MediaError for a file that cannot be read."""
        return [self._reason(item) for item in items]

    def _reason(self, item: Item) -> TCoT | ParseFailure:
        if self.sleep_s:
            time.sleep(self.sleep_s)
        self.reasoned[item.key] += 1
        if item.key in self.fail_keys:
            return ParseFailure(reason=FailureReason.MISSING_THINKING, text="I would rather not say.")
        text = item.text
        seen, boxes, key_frames = "", [], []
        if item.visual is not None:
            frames = _images(item, self.num_frames, self.limits)
            colours = [_main_colour(_colours(frame)) for frame in frames]
            colour = Counter(colours).most_common(1)[0][0]
            if isinstance(item.visual, Video):
                seen, key_frames = f"a {colour} clip", [colours.index(colour) + 1]
            else:
                seen, boxes = f"a {colour} picture", [_box(frames[0], colour)]
            if isinstance(item.visual, Page):
                seen, text = "a page", text or page_text(item.visual, self.limits)
        keywords = tuple(dict.fromkeys(_words(text)))[:12]
        answer = " ".join(filter(None, [seen, *keywords])) or "nothing"
        evidence = Evidence(boxes=tuple(boxes), key_frames=tuple(key_frames), keywords=keywords)
        return TCoT(thinking=f"There is {answer}.", evidence=evidence, rethink="That is all there is.", answer=answer)


class FakeEmbedder:
    """An Embedder that sums a fixed random direction per word and per colour, weighted by its share."""

    def __init__(self, name: str = "fake-embedder", *, dim: int = 64, picture_weight: float = 1.0) -> None:
        self.fingerprint, self.dim, self.num_frames = name, dim, 8
        self.picture_weight = picture_weight
        """How much the pixels count beside the words; 0 is blind."""
        self.embedded: Counter[str] = Counter()
        """How often each item key was embedded, with a T-CoT or without."""

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length. Raises MediaError for a file that cannot be read."""
        vectors = [self._embed(item, tcot) for item, tcot in zip(items, tcots, strict=True)]
        return np.stack(vectors) if vectors else np.empty((0, self.dim), dtype=np.float32)

    def _embed(self, item: Item, tcot: TCoT | None) -> np.ndarray:
        self.embedded[item.key] += 1
        words = _words(item.text)
        if isinstance(item.visual, Page):
            words += _words(page_text(item.visual, None))
        vector = 1e-3 * _direction(f"{item.role.value}: {item.instruction}", self.dim)
        for word in words:
            vector = vector + _direction(word, self.dim)
        if item.visual is not None:
            shares = np.mean([_colours(frame) for frame in _images(item, self.num_frames, None)], axis=0)
            for name, share in zip(_NAMES, shares, strict=True):
                vector = vector + self.picture_weight * share * _direction(name, self.dim)
        for word in _words(tcot.answer) if tcot else ():
            vector = vector + _direction(word, self.dim)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class FakeJudge:
    """A judge that compares the words of answers."""

    fingerprint = "fake-judge"

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        """Return for each pair whether the answers share half of their words."""
        return [_overlap(query.answer, target.answer) >= 0.5 for query, target in pairs]

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        """Return the index of the candidate that shares most words, ties by order; None (failed) if none shares any."""
        return [self._pick(anchor, candidates) for anchor, candidates in questions]

    def _pick(self, anchor: TCoT, candidates: Sequence[TCoT]) -> int | None:
        scores = [_overlap(anchor.answer, candidate.answer) for candidate in candidates]
        return scores.index(max(scores)) if max(scores, default=0) > 0 else None


class FakeTextReader:
    """Reads the main colour of each quarter of an image as a word there; sees no text in an image of one colour."""

    fingerprint = "fake-text-reader"

    def __init__(self, *, refuses: Collection[str] = ()) -> None:
        self.refuses = refuses
        """Colours of which it refuses an image."""
        self.num_read = 0
        """Number of images that it was given."""

    def read(self, image: PIL.Image.Image) -> tuple[TextSegment, ...]:
        """Return a line of two words for each half. Raises Refusal."""
        self.num_read += 1
        pixels = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.int32)
        colours = np.abs(pixels[:, :, None] - _PALETTE).sum(axis=-1).argmin(axis=-1)
        words = [[_main_colour(_colours(colours[top : top + 16, left : left + 16])) for left in (0, 16)] for top in (0, 16)]
        if refused := [word for word in words[0] if word in self.refuses]:
            raise Refusal("refused", f"it does not read {refused[0]}", about_item=True)
        if len({*words[0], *words[1]}) == 1:
            return ()
        return tuple(
            TextSegment(text=" ".join(line), source="image", boxes=((0, top, 500, top + 500), (500, top, 1000, top + 500)))
            for line, top in zip(words, (0, 500), strict=True)
        )


TONES: dict[str, int] = {"alder": 262, "birch": 330, "cedar": 415, "maple": 523, "olive": 659, "poplar": 831}
"""Words that the FakeTranscriber hears, by the frequency of the tone that says them, in Hz."""
_TONE_STEP_S = 0.1
_LOUD = 3000
"""Root mean square of a tone's samples: half a step of a loud one."""


class FakeTranscriber:
    """Hears pure tones as words (`TONES`); a pause of a second ends a phrase."""

    fingerprint = "fake-transcriber"

    def __init__(self, *, refuses: Collection[str] = (), is_gone: bool = False) -> None:
        self.refuses = refuses
        """Words of which it refuses a piece."""
        self.is_gone = is_gone
        """Whether it cannot be asked."""
        self.num_heard = 0
        """Number of pieces that it was given."""

    def transcribe(self, samples: np.ndarray) -> tuple[TextSegment, ...]:
        """Return a segment for each phrase. Raises Refusal and ModelError."""
        self.num_heard += 1
        if self.is_gone:
            raise ModelError("it is gone")
        said: list[tuple[str, float, float]] = []
        for word, start_s in _tones(samples):
            if said and said[-1][0] == word and start_s - said[-1][2] < 1e-6:
                said[-1] = (word, said[-1][1], start_s + _TONE_STEP_S)
            else:
                said.append((word, start_s, start_s + _TONE_STEP_S))
        if refused := [word for word, _, _ in said if word in self.refuses]:
            raise Refusal("refused", f"it does not listen to {refused[0]}", about_item=True)
        phrases: list[list[tuple[str, float, float]]] = []
        for word in said:
            if phrases and word[1] - phrases[-1][-1][2] < 1.0:
                phrases[-1].append(word)
            else:
                phrases.append([word])
        return tuple(
            TextSegment(
                text=" ".join(word for word, _, _ in phrase),
                source="speech",
                start_s=phrase[0][1],
                end_s=phrase[-1][2],
                word_times=tuple((start_s, end_s) for _, start_s, end_s in phrase),
            )
            for phrase in phrases
        )


def _tones(samples: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield the word of each tenth of a second in which a tone is heard, and when that begins."""
    size = round(_TONE_STEP_S * SAMPLE_RATE)
    for number in range(len(samples) // size):
        window = samples[number * size : (number + 1) * size].astype(np.float64)
        strength = np.abs(np.fft.rfft(window * np.hanning(size)))
        if np.sqrt((window**2).mean()) > _LOUD:
            frequency = float(strength.argmax()) / _TONE_STEP_S
            yield min(TONES, key=lambda word: abs(TONES[word] - frequency)), round(number * _TONE_STEP_S, 3)


class FakeReranker:
    """Counts the query's words that a candidate's text or answer says."""

    fingerprint = "fake-reranker"

    def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
        """Return the share of the query's words that each candidate says; None for a query without words."""
        wanted = set(_words(query[0].text))
        return [
            len(wanted & {*_words(item.text), *_words(tcot.answer if tcot else "")}) / len(wanted) if wanted else None
            for item, tcot in candidates
        ]


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in _STOP_WORDS]


def _overlap(first: str, second: str) -> float:
    first_words, second_words = set(_words(first)), set(_words(second))
    return len(first_words & second_words) / len(first_words | second_words) if first_words | second_words else 0.0


@lru_cache(maxsize=4096)
def _direction(word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8])
    vector = np.random.default_rng(seed).normal(size=dim)
    return vector / np.linalg.norm(vector)


def _images(item: Item, num_frames: int, limits: Limits | None) -> list[np.ndarray]:
    """Decode an item's visual part to (32, 32) arrays of colour indexes, one per image."""
    assert item.visual is not None
    visual = load_visual(item.visual, num_frames=num_frames, limits=limits)
    images = visual.images if isinstance(visual, Frames) else (visual,)
    pixels = [np.asarray(image.resize((32, 32)), dtype=np.int32) for image in images]
    return [np.abs(picture[:, :, None] - _PALETTE).sum(axis=-1).argmin(axis=-1) for picture in pixels]


def _colours(picture: np.ndarray) -> np.ndarray:
    """Return colour -> share of pixels, 0..1."""
    return np.bincount(picture.ravel(), minlength=len(_NAMES)) / picture.size


def _main_colour(shares: np.ndarray) -> str:
    """Return the most frequent colour; black, white and grey only if there is no other."""
    order = np.argsort(-shares, kind="stable")
    bright = [_NAMES[index] for index in order if shares[index] > 0.02 and _NAMES[index] not in _BACKGROUND]
    return bright[0] if bright else _NAMES[order[0]]


def _box(picture: np.ndarray, colour: str) -> tuple[int, int, int, int]:
    """Return the bounding box of all pixels of a colour, in 1/1000 of the image."""
    rows, columns = np.nonzero(picture == _NAMES.index(colour))
    scale = 1000 / len(picture)
    return round(columns.min() * scale), round(rows.min() * scale), round((columns.max() + 1) * scale), round((rows.max() + 1) * scale)
