"""Reasoner and Embedder shared by concurrent requests: batched and cached.

They implement `Reasons` and `Embeds`, so that search and indexing use them like any other model.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from embedrl.data.protocols import Embeds, Reasons, Reranks, Side, text_measure_of
from embedrl.data.reasoning import Answer, Outcome, ask, reason_missing, require_all
from embedrl.data.records import Records, read_outcome, write_outcome
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, count_words, render
from embedrl.embedder.inputs import EmbedderInput, EmbedderPrompt
from embedrl.errors import MediaError, ModelError, StoreError
from embedrl.reasoner.prompts import Prompt
from embedrl.server.batching import Worker

BACKGROUND_BATCH = 4
"""Items of an indexing run that are reasoned about at once: a query waits for no more than these."""
MAX_TCOTS = 20_000
MAX_VECTORS = 4_096


@dataclass(frozen=True, eq=False)
class Chat:
    """A chat prompt for a Reasoner's worker."""

    prompt: Prompt
    max_new_tokens: int | None
    temperature: float | None


@dataclass(frozen=True, eq=False)
class Reranking:
    """A query and its candidates, for a reranker's worker."""

    model: Reranks
    query: Side
    candidates: tuple[Side, ...]


Scores = list[float | None]
ReasonerWorker = Worker[Item | Chat | Reranking, Outcome | str | Scores]
EmbedderWorker = Worker[tuple[Item, TCoT | None] | EmbedderInput, np.ndarray]


@runtime_checkable
class Writes(Protocol):
    """A Reasoner that also answers any chat prompt."""

    def write(self, prompts: Sequence[Prompt], *, max_new_tokens: int | None = None, temperature: float | None = None) -> list[str]:
        """Answer prompts, in order."""
        ...

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        ...


@runtime_checkable
class EmbedsPrompts(Protocol):
    """An Embedder that also embeds a prompt that a client built for it."""

    processor: Any

    @property
    def prompt_settings(self) -> EmbedderPrompt:
        """How its prompts are built."""
        ...

    def embed_built(self, built: Sequence[EmbedderInput]) -> np.ndarray:
        """Return the vectors of prompts, in order."""
        ...


class QueryTCoTs:
    """Persistent cache of query T-CoTs by (item key, Reasoner fingerprint). When full, the oldest half is evicted."""

    def __init__(self, path: Path) -> None:
        self._records = Records(path)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._fresh: dict[str, Outcome] = {}
        """What is not on the disk yet."""
        self.num_hits = self.num_misses = 0

    def find(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Look up cached outcomes."""
        with self._lock:
            known = {key: self._fresh[key] for key in keys if key in self._fresh}
            known |= {key: read_outcome(value) for key in keys if key not in known and (value := self._records.get(key)) is not None}
            self.num_hits += len(known)
            self.num_misses += len(keys) - len(known)
            return known

    def keep(self, outcomes: dict[str, Outcome]) -> None:
        """Store outcomes; one thread writes for all, since each write is fsynced."""
        with self._lock:
            self._fresh |= outcomes
        if self._writing.acquire(blocking=False):
            try:
                while self._fresh:
                    self._write()
            finally:
                self._writing.release()

    def _write(self) -> None:
        with self._lock:
            batch = dict(self._fresh)
        # Another server on the same index may be the one that writes: then nothing is kept.
        with suppress(StoreError):
            self._records.put_many({key: write_outcome(outcome) for key, outcome in batch.items()})
        with self._lock:
            for key in batch:
                self._fresh.pop(key, None)
            if len(self._records) > MAX_TCOTS:
                with suppress(StoreError):
                    self._records.drop_many(list(self._records)[: MAX_TCOTS // 2])
                    self._records.compact()

    def close(self) -> None:
        """Close the file."""
        with self._writing, self._lock:
            self._records.close()


class SharedReasoner:
    """A Reasoner behind a worker, with a cache if there are `tcots`. Implements `Reasons`."""

    def __init__(self, reasoner: Reasons, tcots: QueryTCoTs | None, worker: ReasonerWorker, *, background: bool = False) -> None:
        self.model, self._tcots, self.worker, self._background = reasoner, tcots, worker, background
        self.fingerprint, self.num_frames = reasoner.fingerprint, reasoner.num_frames
        self.is_deterministic: bool = getattr(reasoner, "is_deterministic", False)

    def reason(self, items: Sequence[Item]) -> list[Outcome]:
        """Write one T-CoT per item, or return the cached one. Raises `Unanswered` with all outcomes; answers are cached."""
        answers: list[Answer] = []
        if self._tcots is not None:
            uncached = SharedReasoner(self.model, None, self.worker, background=self._background)
            answers = reason_missing(uncached, items, self._tcots)
        else:
            for answer in self.worker.ask_each(items, background=self._background):
                if isinstance(answer, Exception) and not isinstance(answer, MediaError | ModelError):
                    raise answer
                assert not isinstance(answer, str | list), "an item is answered with a T-CoT"
                answers.append(answer)
        return require_all(answers, repr(self.fingerprint))

    def for_indexing(self) -> "SharedReasoner":
        """Return this Reasoner at indexing priority, without the query cache."""
        return SharedReasoner(self.model, None, self.worker, background=True)


class SharedReranker:
    """A reranker behind the worker of a Reasoner, whose weights it may share. Implements `Reranks`."""

    def __init__(self, model: Reranks, label: str, worker: ReasonerWorker) -> None:
        self.model, self.label, self.worker, self.fingerprint = model, label, worker, model.fingerprint

    def rerank(self, query: Side, candidates: Sequence[Side]) -> Scores:
        """Score candidates, higher is better. Raises what the model raises."""
        [scores] = self.worker.ask([Reranking(self.model, query, tuple(candidates))])
        assert isinstance(scores, list)
        return scores


class SharedEmbedder:
    """An Embedder behind a worker, with a cache of recent vectors. Implements `Embeds`."""

    def __init__(self, embedder: Embeds, worker: EmbedderWorker, *, background: bool = False, max_kept: int = MAX_VECTORS) -> None:
        self._embedder, self.worker, self._background, self._max_kept = embedder, worker, background, max_kept
        self.fingerprint, self.dim, self.text_measure = embedder.fingerprint, embedder.dim, text_measure_of(embedder)
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def prompts(self) -> EmbedsPrompts | None:
        """The Embedder, if it accepts built prompts."""
        return self._embedder if isinstance(self._embedder, EmbedsPrompts) else None

    @property
    def prompt_settings(self) -> EmbedderPrompt | None:
        """Prompt settings of the Embedder; None if it accepts no built prompts."""
        return self.prompts.prompt_settings if self.prompts else None

    def embed_prompt(self, built: EmbedderInput) -> np.ndarray:
        """Return the vector of a prompt: float32 (dim,), unit length."""
        return self.worker.ask([built], background=self._background)[0]

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text, or its words if the model has no tokenizer."""
        return getattr(self._embedder, "num_tokens", count_words)(text)

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order."""
        inputs = list(zip(items, tcots, strict=True))
        if not self._max_kept:
            return self._stack(self.worker.ask(inputs, background=self._background))
        keys = [f"{item.key}\0{render(tcot) if tcot else ''}" for item, tcot in inputs]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: pair for key, pair in zip(keys, inputs, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, self.worker.ask(list(missing.values()), background=self._background), strict=True))
            known |= fresh
            with self._lock:
                self._kept.update(fresh)
                while len(self._kept) > self._max_kept:
                    self._kept.popitem(last=False)
        return self._stack([known[key] for key in keys])

    def for_indexing(self) -> "SharedEmbedder":
        """Return this Embedder at indexing priority."""
        return SharedEmbedder(self._embedder, self.worker, background=True, max_kept=0)

    def _stack(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(vectors) if vectors else np.empty((0, self.dim), dtype=np.float32)


def reasoning_worker(reasoner: Reasons, max_batch: int) -> ReasonerWorker:
    """Start the worker of a Reasoner, for T-CoTs and, if supported, chats."""

    def answer(batch: list[Item | Chat | Reranking]) -> list[Outcome | str | Scores | Exception]:
        answers = iter(ask(reasoner, [question for question in batch if isinstance(question, Item)]))
        texts = _write(reasoner, [question for question in batch if isinstance(question, Chat)])
        scores = {question: _rerank(question) for question in batch if isinstance(question, Reranking)}
        return [
            next(answers) if isinstance(question, Item) else texts[question] if isinstance(question, Chat) else scores[question]
            for question in batch
        ]

    return Worker("reasoner", answer, max_batch=max_batch, background_batch=BACKGROUND_BATCH)


def reranking_worker(max_batch: int) -> ReasonerWorker:
    """Start the worker of a reranker that shares no Reasoner's."""

    def answer(batch: list[Item | Chat | Reranking]) -> list[Outcome | str | Scores | Exception]:
        return [_rerank(question) if isinstance(question, Reranking) else ModelError("there is no Reasoner") for question in batch]

    return Worker("reranker", answer, max_batch=max_batch, background_batch=BACKGROUND_BATCH)


def _rerank(request: Reranking) -> Scores | Exception:
    try:
        return request.model.rerank(request.query, request.candidates)
    except Exception as error:  # boundary: errors of a model are returned to their caller
        return error


def _write(reasoner: Reasons, chats: Sequence[Chat]) -> dict[Chat, str | Exception]:
    """Answer chats, batched by equal settings; a failed batch is retried one by one."""
    texts: dict[Chat, str | Exception] = {}
    for settings in dict.fromkeys((chat.max_new_tokens, chat.temperature) for chat in chats):
        same = [chat for chat in chats if (chat.max_new_tokens, chat.temperature) == settings]
        try:
            if not isinstance(reasoner, Writes):
                raise ModelError(f"{reasoner.fingerprint!r} writes T-CoTs only")
            written = reasoner.write([chat.prompt for chat in same], max_new_tokens=settings[0], temperature=settings[1])
            texts |= dict(zip(same, written, strict=True))
        except Exception as error:  # boundary: errors of a model are returned to their caller
            for chat in same:
                texts |= {chat: error} if len(same) == 1 else _write(reasoner, [chat])
    return texts


def embedding_worker(embedder: Embeds, max_batch: int) -> EmbedderWorker:
    """Start the worker of an Embedder."""

    def embed(batch: list[tuple[Item, TCoT | None] | EmbedderInput]) -> list[np.ndarray]:
        built = [entry for entry in batch if isinstance(entry, EmbedderInput)]
        items = [entry for entry in batch if not isinstance(entry, EmbedderInput)]
        of_built = iter(embedder.embed_built(built)) if built and isinstance(embedder, EmbedsPrompts) else iter(())
        of_items = iter(embedder.embed([item for item, _ in items], [tcot for _, tcot in items]) if items else ())
        return [next(of_built if isinstance(entry, EmbedderInput) else of_items) for entry in batch]

    return Worker("embedder", embed, max_batch=max_batch, background_batch=BACKGROUND_BATCH)
