"""Supervised examples made of pairs: T-CoTs that a file carries, or that were chosen of rollouts."""

from collections.abc import Sequence
from typing import Protocol

from torch.utils.data import Dataset

from embedrl.data.pair_file import side_tcot
from embedrl.data.sample import Pair
from embedrl.data.tcot import render
from embedrl.errors import ConfigError
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import tcot_prompt
from embedrl.reasoner.train import SFTExample


class Examples(Protocol):
    """Supervised examples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SFTExample: ...


class PairExamples(Dataset[SFTExample]):
    """Supervised examples of the sides of pairs: their prompts, and the T-CoTs written for them; media are decoded when one is read."""

    def __init__(self, reasoner: LocalReasoner, pairs: Sequence[Pair], rows: Sequence[tuple[int, bool, str]]) -> None:
        """Take rows of (place of the pair, whether it is its query, T-CoT)."""
        self.reasoner, self.pairs, self.rows = reasoner, pairs, rows

    @classmethod
    def of_annotated(cls, reasoner: LocalReasoner, pairs: Sequence[Pair]) -> "PairExamples":
        """Take the T-CoTs that pairs of a file carry. Raises ConfigError if none does."""
        rows = [
            (place, side == "query", render(tcot))
            for place, pair in enumerate(pairs)
            for side in ("query", "target")
            if (tcot := side_tcot(pair, side)) is not None
        ]
        if not rows:
            raise ConfigError("replay: no pair has a T-CoT to replay; give pairs as `embedrl filter` writes them, or leave replay out")
        return cls(reasoner, pairs, rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> SFTExample:
        place, is_query, written = self.rows[index]
        item = self.pairs[place].query if is_query else self.pairs[place].target
        settings = self.reasoner.settings
        prompt = tcot_prompt(item, settings.prompts, settings.budget, self.reasoner.factor, special=self.reasoner.special)
        return SFTExample(prompt, written)
