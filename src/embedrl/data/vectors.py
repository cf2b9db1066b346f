"""Checks of an Embedder's vectors, and vectors in fewer numbers (Matryoshka): the first ones of each."""

# N vectors, D dim

import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from embedrl.data.protocols import BuildsInputs, Embeds, text_measure_of
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError, ModelError


def shortened(vectors_ND: np.ndarray, dim: int | None) -> np.ndarray:
    """Return the first `dim` numbers of each vector, unit length, float32 (N, dim); None: all.

    Raises ConfigError for more than there are.
    """
    if dim is None or dim == vectors_ND.shape[-1]:
        return vectors_ND
    if not 1 <= dim <= vectors_ND.shape[-1]:
        raise ConfigError(f"dimensions={dim}: these vectors have {vectors_ND.shape[-1]} numbers; give 1 to {vectors_ND.shape[-1]}")
    head = vectors_ND[..., :dim].astype(np.float32)
    return head / np.maximum(np.linalg.norm(head, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


class OddVectorError(ModelError):
    """An Embedder returned what is no unit vector, perhaps for this item only."""


def require_unit(vectors: np.ndarray, items: Sequence[Item], embedder: Embeds) -> None:
    """Raise ModelError, naming the item, unless these are an Embedder's vectors of items: (N, dim), finite, of unit length.

    A vector that was rounded to bf16 may be 0.4 % longer or shorter.
    """
    what = f"Embedder {embedder.fingerprint!r} must return {len(items)} unit vectors of {embedder.dim} numbers"
    if vectors.shape != (len(items), embedder.dim):
        raise ModelError(f"{what}, not shape {vectors.shape}")
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))
    if len(wrong):
        item, length = items[wrong[0]], lengths[wrong[0]]
        held = f"{length:.3g}" if np.isfinite(length) else "it holds NaN or infinity"
        raise OddVectorError(f"{what}; that of item {item.key[:12]} ({item.text[:60]!r}) is not of unit length ({held})")


def embed_unit(embedder: Embeds, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
    """Return an Embedder's vectors, float32 (N, dim), of unit length. Raises what it raises, and `OddVectorError`."""
    vectors = embedder.embed(items, tcots)
    require_unit(vectors, items, embedder)
    return vectors


class ShortenedEmbedder:
    """An Embedder of which the first numbers are kept. Fulfils `Embeds`."""

    def __init__(self, embedder: Embeds, dim: int) -> None:
        """Raises ConfigError for more numbers than there are."""
        if not 1 <= dim <= embedder.dim:
            raise ConfigError(f"dimensions={dim}: the vectors of this Embedder have {embedder.dim} numbers; give 1 to {embedder.dim}")
        self.embedder, self.dim = embedder, dim
        self.fingerprint = f"{embedder.fingerprint}-d{dim}"
        self.text_measure = text_measure_of(embedder)

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order."""
        return shortened(self.embedder.embed(items, tcots), self.dim)

    def build(self, item: Item, tcot: TCoT | None) -> Any:
        """Return the Embedder's input; only where that is a `BuildsInputs` (see `builds_inputs`)."""
        return cast(BuildsInputs, self.embedder).build(item, tcot)

    def embed_built(self, built: Sequence[Any]) -> np.ndarray:
        """Return the vectors of inputs of `build`: float32 (N, dim), unit length, in order."""
        return shortened(cast(BuildsInputs, self.embedder).embed_built(built), self.dim)


def builds_inputs(embedder: Embeds) -> BuildsInputs | None:
    """Return an Embedder as one whose inputs are built apart from the forward pass, if it is; None if not."""
    builder = embedder.embedder if isinstance(embedder, ShortenedEmbedder) else embedder
    return cast(BuildsInputs, embedder) if isinstance(builder, BuildsInputs) else None


def probes_mark(vectors_PD: np.ndarray) -> str:
    """Return the end of the fingerprint of an Embedder that is known by its vectors of P fixed probes alone: their cosines in thousandths.

    `same_embedder` compares two such ends, since arithmetic in bf16 differs from one batch of a server to another.
    """
    rows, columns = np.triu_indices(len(vectors_PD), 1)
    cosines = (vectors_PD @ vectors_PD.T)[rows, columns]
    return "-cos" + "".join(f"{round(1000 * float(np.clip(cosine, -1, 1))) + 1000:03x}" for cosine in cosines)


_PROBES = re.compile(r"(.*-cos)((?:[0-9a-f]{3})*)((?:-d\d+)?)", re.DOTALL)
_MAX_STEPS = 10
"""Of a thousandth, between the cosines of the same model's vectors on two days."""


def same_embedder(fingerprint: str, other: str) -> bool:
    """Return whether two fingerprints name the same Embedder: equal ones, or those of a server whose probes' cosines differ by rounding."""
    first, second = _PROBES.fullmatch(fingerprint), _PROBES.fullmatch(other)
    if fingerprint == other or first is None or second is None or (first[1], first[3]) != (second[1], second[3]):
        return fingerprint == other
    steps = [[int(mark[2][start : start + 3], 16) for start in range(0, len(mark[2]), 3)] for mark in (first, second)]
    return len(steps[0]) == len(steps[1]) and all(abs(mine - theirs) <= _MAX_STEPS for mine, theirs in zip(*steps, strict=True))


def as_indexed(embedder: Embeds, fingerprint: str, dim: int) -> Embeds:
    """Return the Embedder whose vectors an index of this Embedder's fingerprint and dimension holds: as it is, or shortened alike."""
    if (
        not same_embedder(embedder.fingerprint, fingerprint)
        and dim < embedder.dim
        and same_embedder((short := ShortenedEmbedder(embedder, dim)).fingerprint, fingerprint)
    ):
        return short
    return embedder
