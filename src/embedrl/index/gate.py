"""Gates: whether to reason about a query, from its plain vector and its first plain hits, at a share that the user sets.

A gate is a JSON file: a linear score and its distribution over the queries it was fitted to, by which a share of queries becomes a
threshold. The margin between first and second hit is the gate whose only weight is that of the margin; `bench/gate.py` fits both.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedrl.data.sample import Item
from embedrl.data.vectors import same_embedder
from embedrl.errors import ConfigError

GATE_FILE = "gate.json"
"""Name of the gate in the folder of its Embedder."""

# D dim; a query's features are its plain vector, its best cosine, and the margin of that to the second


class LinearGate(BaseModel):
    """A logistic regression on features of a query. Fulfils `Gates`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    embedder: str
    """Fingerprint of the Embedder whose plain vectors it reads."""
    weights: tuple[float, ...] = Field(min_length=3)
    """Of the D numbers of the plain vector, the best cosine, and the margin."""
    scores: tuple[float, ...] = Field(min_length=2)
    """Scores of the queries that it was fitted to, in any order: what a share is a quantile of."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Of queries to reason about."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that it depends on."""
        return f"gate-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}-{self.share:g}"

    def score(self, plain: np.ndarray, scores: Sequence[float]) -> float:
        """Return the score of a query; higher means that reasoning is expected to gain more. Raises ConfigError for another dimension."""
        if len(plain) + 2 != len(self.weights):
            raise ConfigError(f"this gate reads vectors of {len(self.weights) - 2} numbers, not {len(plain)}: fit one to this Embedder")
        best, second = (*scores[:2], *(-1.0,) * (2 - len(scores[:2])))
        return math.fsum((*(plain.astype(np.float64) * self.weights[:-2]), best * self.weights[-2], (best - second) * self.weights[-1]))

    def wants(self, item: Item, plain: np.ndarray, scores: Sequence[float]) -> bool:
        """Say whether the query's score is among the highest `share` of those that the gate was fitted to; 0 is never, 1 always."""
        if self.share in (0.0, 1.0):
            return self.share == 1.0
        return self.score(plain, scores) > float(np.quantile(self.scores, 1 - self.share))

    def at(self, share: float) -> "LinearGate":
        """Return the gate at another share of queries. Raises ConfigError for one outside 0..1."""
        if not 0 <= share <= 1:
            raise ConfigError(f"share={share:g}: a share of queries lies in 0..1")
        return self.model_copy(update={"share": share})


def read_gate(path: Path, share: float, embedder: str) -> LinearGate:
    """Read a gate from a file. Raises ConfigError for what is none, or one of another Embedder than that of this fingerprint."""
    try:
        gate = LinearGate.model_validate_json(path.read_bytes()).at(share)
    except (OSError, ValidationError) as error:
        raise ConfigError(f"--gate {str(path)!r}: is no gate; `python bench/gate.py --write FILE` fits one") from error
    if not same_embedder(gate.embedder, embedder):
        raise ConfigError(f"--gate {str(path)!r}: was fitted to the Embedder {gate.embedder!r}, not to {embedder!r}; fit one to this")
    return gate
