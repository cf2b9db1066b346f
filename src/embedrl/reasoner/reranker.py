"""A reranker that sees: the Reasoner's judge on query and candidate, `yes` against `no` by next-token scores, in one pass."""

from collections.abc import Sequence

from embedrl.data.protocols import Side
from embedrl.errors import MediaError
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import CutNotice, Prompt, match_prompt, rerank_prompt


class JudgeReranker:
    """Scores candidates with a Reasoner's judge. Fulfils `Reranks`.

    With the full prompts it is shown the media, texts and T-CoTs of both sides. The nano models' judge was trained on answers of T-CoTs
    alone, so it reads these, and cannot score a side without a T-CoT.
    """

    def __init__(self, reasoner: LocalReasoner) -> None:
        self.reasoner, self.sees = reasoner, not reasoner.settings.prompts.startswith("nano")
        """Whether it is shown media."""
        self._cut = CutNotice("this judge")
        self.fingerprint = f"{reasoner.fingerprint}-judge-{'sees' if self.sees else 'reads'}"

    def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
        """Return log p(yes) - log p(no) of each candidate; None where a file cannot be read, or a T-CoT that it needs is missing."""
        prompts = [self._prompt(query, candidate) for candidate in candidates]
        self._cut.check([prompt for prompt in prompts if prompt is not None], self.reasoner.settings.budget)
        scores = iter(self.reasoner.yes_scores([prompt for prompt in prompts if prompt is not None]))
        return [None if prompt is None else next(scores) for prompt in prompts]

    def _prompt(self, query: Side, candidate: Side) -> Prompt | None:
        reasoner = self.reasoner
        if not self.sees:
            (_, query_tcot), (_, tcot) = query, candidate
            if query_tcot is None or tcot is None:
                return None
            return match_prompt(query_tcot, tcot, reasoner.settings.prompts, special=reasoner.special)
        try:
            return rerank_prompt(query, candidate, reasoner.settings.budget, reasoner.factor, special=reasoner.special)
        except MediaError:
            return None
