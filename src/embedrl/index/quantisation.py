"""Vectors in fewer bytes: scalar quantisation to int8 and binary quantisation, with exact rescoring of what they find."""

# N vectors, D dim, K neighbours

from typing import Literal

import numpy as np

Precision = Literal["int8", "binary"]
RESCORED = {"int8": 4, "binary": 40}
"""Of so many times more candidates than neighbours the float vectors are compared."""


def quantised(vectors_ND: np.ndarray, precision: Precision) -> tuple[np.ndarray, float]:
    """Return the vectors as int8 (N, D) with the scale that makes them floats again; or as bits, uint8 (N, ceil(D / 8)), and 1."""
    if precision == "binary":
        return np.packbits(vectors_ND > 0, axis=-1), 1.0
    scale = float(np.abs(vectors_ND).max(initial=0.0)) / 127 or 1.0
    return np.round(vectors_ND / scale).astype(np.int8), scale


def approximate_scores(codes: np.ndarray, query_D: np.ndarray, precision: Precision, scale: float, *, block: int = 65_536) -> np.ndarray:
    """Return what the codes of N vectors say of their cosines to a query, float32 (N,): the cosine for int8, equal bits for binary."""
    scores = np.empty(len(codes), dtype=np.float32)
    query = np.packbits(query_D > 0) if precision == "binary" else query_D.astype(np.float32) * scale
    for start in range(0, len(codes), block):
        part = codes[start : start + block]
        rows = slice(start, start + len(part))
        scores[rows] = -np.bitwise_count(part ^ query).sum(1, dtype=np.int32) if precision == "binary" else part.astype(np.float32) @ query
    return scores


def nearest_rescored(
    codes: np.ndarray, scale: float, vectors_ND: np.ndarray, query_D: np.ndarray, precision: Precision, top: int
) -> np.ndarray:
    """Return the places of the `top` nearest among the candidates that the codes find, best first by exact cosine, int64 (K,)."""
    scores, wanted = approximate_scores(codes, query_D, precision, scale), min(len(codes), RESCORED[precision] * top)
    candidates = np.argpartition(-scores, wanted - 1)[:wanted]
    exact = vectors_ND[candidates] @ query_D
    return candidates[np.lexsort((candidates, -exact))[:top]]
