"""Persistent cache of T-CoTs and vectors across evaluation runs.

A T-CoT is kept under the item (content, instruction, role) and the Reasoner's name, a vector under the item, the T-CoT that was
embedded with it and the Embedder's name. A name says weights, prompts, pixel budget and number of frames: with any of them
changed, nothing that was kept is found. A batch is on the disk before the next one starts.
"""

import base64
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.reasoning import RecordedTCoTs, reason_missing, require_all
from embedrl.data.records import Records
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT, render
from embedrl.errors import ModelError


class Cache(AbstractContextManager["Cache"]):
    """A folder of T-CoTs and vectors. One process writes at a time."""

    def __init__(self, folder: Path) -> None:
        self.tcots = Records(folder / "tcots.jsonl")
        self.vectors = Records(folder / "vectors.jsonl")

    def __exit__(self, *_: object) -> None:
        self.tcots.close()
        self.vectors.close()


class InMemory(dict[str, Any]):
    """The vectors of one run, in place of records on the disk."""

    put_many = dict.update


class CachedReasoner:
    """Caching wrapper of a Reasoner. Implements `Reasons`."""

    def __init__(self, reasoner: Reasons, cache: Cache) -> None:
        self.reasoner, self.kept = reasoner, RecordedTCoTs(cache.tcots)
        self.fingerprint, self.num_frames = reasoner.fingerprint, reasoner.num_frames

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Return one T-CoT per item, in order; new ones are on the disk by then. Raises as `reason_missing` and `require_all` do."""
        answers = reason_missing(self.reasoner, items, self.kept)
        return require_all(answers, repr(self.fingerprint))


class CachedEmbedder:
    """Caching wrapper of an Embedder. Implements `Embeds`."""

    def __init__(self, embedder: Embeds, vectors: "Records | InMemory") -> None:
        self.embedder, self.records = embedder, vectors
        self.fingerprint, self.dim = embedder.fingerprint, embedder.dim

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), in order; new vectors are on the disk by then. Raises what the Embedder raises.

        A vector that is not finite is returned and not kept.
        """
        keys = [self._key(item, tcot) for item, tcot in zip(items, tcots, strict=True)]
        missing = {key: row for row, key in enumerate(keys) if key not in self.records}
        made: dict[str, np.ndarray] = {}
        if missing:
            rows = list(missing.values())
            vectors = self.embedder.embed([items[row] for row in rows], [tcots[row] for row in rows])
            if vectors.shape != (len(rows), self.dim):
                raise ModelError(
                    f"Embedder {self.fingerprint!r} returned vectors of shape {vectors.shape} instead of {(len(rows), self.dim)}"
                )
            made = dict(zip(missing, vectors.astype("<f4"), strict=True))
            good = {key: vector for key, vector in made.items() if np.isfinite(vector).all()}
            self.records.put_many({key: base64.b64encode(vector.tobytes()).decode() for key, vector in good.items()})
        vectors_in_order = [made[key] if key in made else self._kept(key) for key in keys]
        return np.stack(vectors_in_order).astype(np.float32) if vectors_in_order else np.empty((0, self.dim), np.float32)

    def _kept(self, key: str) -> np.ndarray:
        text: Any = self.records.get(key)
        return np.frombuffer(base64.b64decode(text), "<f4")

    def _key(self, item: Item, tcot: TCoT | None) -> str:
        parts = [self.fingerprint, item.key, render(tcot) if tcot else ""]
        if tcot and tcot.evidence.num_frames is not None:
            parts.append(f"of {tcot.evidence.num_frames} frames")
        text = "\0".join(parts)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
