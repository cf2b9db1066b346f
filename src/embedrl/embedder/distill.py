"""Distillation of reasoning: vectors come to those of a frozen teacher that reads each item's T-CoT.

L = L_InfoNCE + w · mean over items of (1 − cos(student(item as it is shown), teacher(item, its T-CoT))). Where an item is shown plain,
what the T-CoT does to the teacher's vector is learned once, in training; where it is shown with its T-CoT, the student's vectors keep to
the teacher's, so that both kinds stay comparable.
"""
# n items of a column, D dim

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embedrl.embedder.embedder import Embedder, pool
from embedrl.embedder.inputs import EmbedderInput, collate
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError
from embedrl.models.names import resolve

_PREFIX = "teacher."
"""What stands before the names of the teacher's inputs in a column's features."""
_KNOWN = f"{_PREFIX}known"
"""Name of the feature that says which items have a T-CoT for the teacher."""


class Teacher:
    """A frozen Embedder and the inputs that it is shown; no module of the student, so that it is neither trained nor saved."""

    def __init__(self, embedder: Embedder, build: Callable[[str], EmbedderInput | None], *, weight: float, mini_batch_size: int) -> None:
        self.embedder, self.build, self.weight, self.mini_batch_size = embedder, build, weight, mini_batch_size
        embedder.model.requires_grad_(False)
        self.last_cosine: Tensor | None = None
        """Mean cosine to the teacher in the last batch."""

    @classmethod
    def of(cls, recipe: EmbedderRecipe, with_tcot: Callable[[Embedder, str], EmbedderInput | None], dim: int) -> "Teacher | None":
        """Load the teacher of a recipe, if it has one. Raises ConfigError for vectors of another dimension than the student's `dim`."""
        if recipe.distill is None:
            return None
        folder = resolve(recipe.distill.teacher, "embedder")
        embedder = Embedder.load(folder, device="cpu", dtype=recipe.dtype, attention=recipe.attention)
        if embedder.dim != dim:
            raise ConfigError(
                f"distill.teacher={recipe.distill.teacher!r}: its vectors have {embedder.dim} numbers, and those of start_from have {dim}; "
                "give a teacher of the same dimension"
            )
        settings: dict[str, Any] = {"weight": recipe.distill.weight, "mini_batch_size": recipe.mini_batch_size}
        return cls(embedder, lambda key: with_tcot(embedder, key), **settings)

    def features(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the teacher's inputs for a column of keys, in mini-batches; items without a T-CoT are left out and marked."""
        built = [self.build(key) for key in keys]
        inputs = [item_input for item_input in built if item_input is not None]
        features = {_KNOWN: torch.tensor([item_input is not None for item_input in built])}
        for start in range(0, len(inputs), self.mini_batch_size):
            batch = collate(self.embedder.processor, inputs[start : start + self.mini_batch_size])
            features |= {f"{_PREFIX}{start}.{name}": value for name, value in batch.items()}
        return features

    @torch.no_grad()
    def targets(self, column: Mapping[str, Any]) -> Tensor:
        """Return the teacher's vectors of a column: (n, D), unit length, zeros where there is no T-CoT."""
        known_n = column[_KNOWN]
        batches: dict[str, dict[str, Tensor]] = {}
        for name in (name for name in column if name.startswith(_PREFIX) and name != _KNOWN):
            start, own_name = name.removeprefix(_PREFIX).split(".", 1)
            batches.setdefault(start, {})[own_name] = column[name]
        self.embedder.model.to(known_n.device)
        target_nD = torch.zeros(len(known_n), self.embedder.dim, device=known_n.device)
        if batches:
            target_nD[known_n] = torch.cat([self.embedder.project(pool(self.embedder.model, batch)) for batch in batches.values()])
        return target_nD


@dataclass(frozen=True)
class Labels:
    """What a batch's vectors are compared with, by column."""

    ids: list[Tensor]
    """Ids of the items; equal items have equal ones."""
    targets: list[Tensor] | None = None
    """The teacher's vectors, (n, D); None without a teacher."""


def without_teacher(features: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the columns without the teacher's inputs."""
    return [{name: value for name, value in column.items() if not name.startswith(_PREFIX)} for column in features]


def mean_cosine(vectors: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return the mean cosine of vectors (n, d) to the first d numbers of their targets (n, D); zero targets are left out."""
    vector_nd, target_nD = torch.cat(list(vectors)), torch.cat(list(targets))
    known_n = target_nD.any(1)
    target_nd = torch.nn.functional.normalize(target_nD[:, : vector_nd.shape[1]], dim=-1)
    return ((vector_nd * target_nd).sum(1) * known_n).sum() / known_n.sum().clamp(min=1)
