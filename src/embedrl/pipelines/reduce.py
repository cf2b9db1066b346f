"""`embedrl index reduce`: an Embedder whose first numbers are the principal components of an index's vectors."""

# N vectors, H numbers of the Embedder, d of them kept

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from embedrl.embedder.export import MODULES, write_projection
from embedrl.errors import ConfigError, ModelError, unwritable
from embedrl.index.index import Index
from embedrl.index.row import VECTOR_COLUMNS
from embedrl.models.names import resolve
from embedrl.runtime.names import load_local_embedder

_MAX_COMPARED, _NUM_QUERIES, _NUM_NEIGHBOURS = 20_000, 200, 10


class Prefix(BaseModel):
    """What the first numbers of the reduced vectors keep."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int
    length: float
    """Fraction of the whole vectors' squared length."""
    recall: float
    """Fraction of the ten nearest rows by whole vectors that are among the ten nearest by these: mean over up to 200 rows, among 20,000."""


class Reduced(BaseModel):
    """An Embedder that was fitted to an index."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: str
    dim: int
    num_vectors: int
    """It was fitted to so many: the plain ones and those with T-CoTs of all rows."""
    prefixes: list[Prefix]
    """All of its numbers, the first half of them, a quarter and an eighth."""


def reduce_embedder(index: str, out: Path, *, dim: int | None = None) -> Reduced:
    """Write the Embedder of an index with the principal components of its vectors behind the pooling: the first `dim`; None: all.

    All components keep every cosine as it was, and any first numbers of them hold as much of the vectors as so few can: `--dimensions`
    and other truncation then cost least. They are components about the origin, not the mean, since cosines are.
    Raises ConfigError for an Embedder on a server, a `dim` that the vectors do not have or that is more than there are vectors, and an
    `out` that exists; ModelError for a folder without sentence-transformers' files; StoreError where nothing can be written.
    """
    opened = Index.open(index)
    if out.exists():
        raise ConfigError(f"{str(out)!r} exists: give a new folder")
    names = opened.model_names
    if names is None:
        raise ConfigError(f"{index!r} does not know by which name its Embedder is loaded: run `embedrl index` with --embedder once")
    embedder = load_local_embedder(names.embedder)
    opened.check(embedder)
    folder = resolve(names.embedder, "embedder")
    if not (folder / MODULES).is_file():
        raise ModelError(f"{str(folder)!r} has no {MODULES}, which would say that a matrix follows: save the model with embedrl first")
    dim = opened.dim if dim is None else dim
    if not 1 <= dim <= opened.dim:
        raise ConfigError(f"dimensions={dim}: the vectors of this index have {opened.dim} numbers; give 1 to {opened.dim}")
    moment_HH, num_vectors = _second_moment(opened)
    if num_vectors < 2 * dim:
        raise ConfigError(f"dimensions={dim}: {num_vectors // 2} rows are too few to fit so many components; index more, or keep fewer")
    components_HH, share_H = principal_components(moment_HH)
    compared_NH = _some(opened)
    prefixes = [
        Prefix(dim=first, length=float(share_H[:first].sum()), recall=_recall(compared_NH, components_HH[:first]))
        for first in dict.fromkeys(max(1, dim // part) for part in (1, 2, 4, 8))
    ]
    weight = torch.from_numpy(components_HH[:dim])
    if embedder.projection is not None:
        weight = weight @ embedder.projection.cpu()
    _write(folder, out, weight)
    return Reduced(folder=str(out), dim=dim, num_vectors=num_vectors, prefixes=prefixes)


def principal_components(moment_HH: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvectors of a second moment as rows, float32 (H, H), largest first, and the share of its trace of each, (H,).

    Of the two directions of each, that is taken whose largest number is positive.
    """
    values, vectors = np.linalg.eigh(moment_HH)
    components = vectors[:, ::-1].T
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
    return (components * np.sign(largest)).astype(np.float32), np.maximum(values[::-1], 0) / values.sum()


def _batches(index: Index) -> Iterator[np.ndarray]:
    for kind in VECTOR_COLUMNS:
        for batch in index.table.scan_vectors(kind):
            yield batch.vectors_ND


def _second_moment(index: Index) -> tuple[np.ndarray, int]:
    moment, num_vectors = np.zeros((index.dim, index.dim)), 0
    for vectors_NH in _batches(index):
        moment += vectors_NH.T.astype(np.float64) @ vectors_NH
        num_vectors += len(vectors_NH)
    return moment, num_vectors


def _some(index: Index) -> np.ndarray:
    """Return different plain vectors, at most 20,000."""
    held: list[np.ndarray] = []
    for batch in index.table.scan_vectors("plain"):
        held.append(batch.vectors_ND[: _MAX_COMPARED - sum(map(len, held))])
        if sum(map(len, held)) == _MAX_COMPARED:
            break
    return np.unique(np.concatenate(held), axis=0)


def _recall(whole_NH: np.ndarray, components_dH: np.ndarray) -> float:
    reduced_Nd = whole_NH @ components_dH.T
    reduced_Nd /= np.maximum(np.linalg.norm(reduced_Nd, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    queries = np.linspace(0, len(whole_NH) - 1, min(_NUM_QUERIES, len(whole_NH))).astype(int)
    num_neighbours = min(_NUM_NEIGHBOURS, len(whole_NH) - 1)
    if not num_neighbours:
        return 1.0
    before, after = (_nearest(vectors, queries, num_neighbours) for vectors in (whole_NH, reduced_Nd))
    return float(np.mean([len(set(mine) & set(other)) / num_neighbours for mine, other in zip(before, after, strict=True)]))


def _nearest(vectors_ND: np.ndarray, queries: np.ndarray, top: int) -> list[list[int]]:
    """Return the places of the nearest others of some vectors."""
    cosines = vectors_ND[queries] @ vectors_ND.T
    cosines[np.arange(len(queries)), queries] = -np.inf
    return np.argpartition(-cosines, top - 1, axis=1)[:, :top].tolist()


def _write(source: Path, out: Path, weight_dH: torch.Tensor) -> None:
    """Copy a model folder and put the matrix into the copy. Gates are left out: they were fitted to the vectors of before."""
    unfinished = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished, ignore=shutil.ignore_patterns("gate*.json", ".*"))
        write_projection(unfinished, weight_dH)
        unfinished.replace(out)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise unwritable(out, error) from error
