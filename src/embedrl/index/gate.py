"""Gates: whether to reason about a query, from its plain vector and its first plain hits, or about a candidate, from its plain vector.

A gate is a JSON file: a linear score and its distribution over the items it was fitted to, by which a share of them (or of the tokens of
their T-CoTs, if it knows these), which the user sets, becomes a threshold. A gate that knows what T-CoTs cost reasons where a token buys
most: its score is the chance that reasoning helps, divided by the tokens to expect. `bench/gate.py` fits gates.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embedrl.data.sample import Item
from embedrl.data.vectors import same_embedder
from embedrl.errors import ConfigError

GateRole = Literal["query", "candidate"]
_GATED = "not reasoned about, by "
_PLURAL: dict[GateRole, str] = {"query": "queries", "candidate": "candidates"}

NUM_HITS, FURTHER, TEMPERATURE = 20, (5, 10, 20), 0.02
"""Plain hits whose cosines a gate of queries reads; ranks beside the second to which the best is compared; softmax of the entropy."""
NUM_SPREAD = len(FURTHER) + 2
_MAX_LOGIT = 500.0
"""Beyond it an exponential overflows, and a chance is 0 or 1 anyway."""

# D dim; features are the plain vector and, of a query, its best cosine, the margin of that to the second, the spread, and the instruction


class LinearGate(BaseModel):
    """A logistic regression on features of an item. Fulfils `Gates`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    embedder: str
    """Fingerprint of the Embedder whose plain vectors it reads."""
    role: GateRole = "query"
    """What it was fitted to. A candidate has no hits: its best cosine and margin count as 0."""
    weights: tuple[float, ...] = Field(min_length=3)
    """Of the D numbers of the plain vector, the best cosine, and the margin."""
    spread: tuple[float, ...] = Field(default=())
    """Weights of `spread_of`; none: it is not read."""
    instructions: dict[str, float] = {}
    """Added for queries of these instructions."""
    bias: float = 0.0
    """Added to the sum of the weighted features."""
    tokens: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Mean tokens of T-CoTs, by instruction of their queries; of other instructions, the mean of these. With them the score is the logistic
    function of the sum, divided by the tokens."""
    scores: tuple[float, ...] = Field(min_length=2)
    """Scores of the items that it was fitted to, in any order: what a share is a quantile of."""
    costs: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Tokens of these items' T-CoTs, in the order of the scores: a share is then one of tokens. None: one of items."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Of items to reason about, or of their tokens."""

    @model_validator(mode="after")
    def _fits_its_role(self) -> "LinearGate":
        if self.spread and len(self.spread) != NUM_SPREAD:
            raise ValueError(f"spread: give {NUM_SPREAD} weights, or none")
        if self.role == "candidate" and (self.spread or self.instructions or self.tokens):
            raise ValueError("spread, instructions, tokens: a gate of candidates has no hits and no queries to read")
        if self.costs and (len(self.costs) != len(self.scores) or not any(self.costs)):
            raise ValueError(f"costs: give one for each of the {len(self.scores)} scores, not all of them 0, or none")
        return self

    @property
    def fingerprint(self) -> str:
        """Digest of all that it depends on."""
        absent = {name for name in ("bias", "tokens", "costs") if not getattr(self, name)}  # indexes name gates from before these
        return f"gate-{hashlib.sha256(self.model_dump_json(exclude=absent).encode()).hexdigest()[:8]}-{self.share:g}"

    def score(self, item: Item, plain: np.ndarray, scores: Sequence[float]) -> float:
        """Return the score of an item; higher means that reasoning is expected to gain more. Raises ConfigError for another dimension."""
        if len(plain) + 2 != len(self.weights):
            raise ConfigError(f"this gate reads vectors of {len(self.weights) - 2} numbers, not {len(plain)}: fit one to this Embedder")
        best, second = (0.0, 0.0) if self.role == "candidate" else (*scores[:2], *(-1.0,) * (2 - len(scores[:2])))
        values = [*(plain.astype(np.float64) * self.weights[:-2]), best * self.weights[-2], (best - second) * self.weights[-1]]
        if self.spread:
            values += [value * weight for value, weight in zip(spread_of(item, scores), self.spread, strict=True)]
        total = math.fsum((*values, self.instructions.get(item.instruction, 0.0), self.bias))
        if not self.tokens:
            return total
        expected = self.tokens.get(item.instruction) or math.fsum(self.tokens.values()) / len(self.tokens)
        return 1 / (1 + math.exp(-min(max(total, -_MAX_LOGIT), _MAX_LOGIT))) / expected

    def wants(self, item: Item, plain: np.ndarray, scores: Sequence[float]) -> bool:
        """Say whether the item's score is among the highest `share` of those that the gate was fitted to; 0 is never, 1 always."""
        if self.share in (0.0, 1.0):
            return self.share == 1.0
        return self.score(item, plain, scores) > self.threshold

    @property
    def threshold(self) -> float:
        """The score above which `share` of the items that it was fitted to lie, or of their tokens; for a share above 0 and below 1."""
        if not self.costs:
            return float(np.quantile(self.scores, 1 - self.share))
        best_first = np.argsort(-np.array(self.scores), kind="stable")
        spent = np.cumsum(np.array(self.costs)[best_first])
        return self.scores[best_first[np.searchsorted(spent, self.share * spent[-1], side="right")]]

    def at(self, share: float) -> "LinearGate":
        """Return the gate at another share of items. Raises ConfigError for one outside 0..1."""
        if not 0 <= share <= 1:
            raise ConfigError(f"share={share:g}: a share of items lies in 0..1")
        return self.model_copy(update={"share": share})


def spread_of(item: Item, scores: Sequence[float]) -> tuple[float, ...]:
    """Return how far a query's best cosine is above the 5th, 10th and 20th, the entropy of the first 20, and its words / 10."""
    best_first = list(scores[:NUM_HITS]) or [0.0]
    margins = [best_first[0] - best_first[min(rank, len(best_first)) - 1] for rank in FURTHER]
    chances = np.exp((np.array(best_first) - best_first[0]) / TEMPERATURE)
    chances /= chances.sum()
    return (*margins, -float((chances * np.log(chances + 1e-12)).sum()), len(item.text.split()) / 10)


def declined(gate: str) -> str:
    """Return what an index notes as reason of an item that has no T-CoT because a gate of this fingerprint decided so."""
    return _GATED + gate


def is_declined(reason: str | None) -> bool:
    """Say whether an item has no T-CoT because a gate decided so, by the reason that an index notes."""
    return reason is not None and reason.startswith(_GATED)


def read_gate(path: Path, share: float, embedder: str, role: GateRole = "query") -> LinearGate:
    """Read a gate from a file. Raises ConfigError for what is none, or one of another Embedder than that of this fingerprint, or role."""
    try:
        gate = LinearGate.model_validate_json(path.read_bytes()).at(share)
    except (OSError, ValidationError) as error:
        raise ConfigError(f"--gate {str(path)!r}: is no gate; `python bench/gate.py --write FILE` fits one") from error
    if not same_embedder(gate.embedder, embedder):
        raise ConfigError(f"--gate {str(path)!r}: was fitted to the Embedder {gate.embedder!r}, not to {embedder!r}; fit one to this")
    if gate.role != role:
        raise ConfigError(f"--gate {str(path)!r}: was fitted to {_PLURAL[gate.role]}, and these are {_PLURAL[role]}; give one for these")
    return gate
