"""Speculative drafts for greedy decoding: what usually follows in T-CoTs, and what follows in the item's own text (prompt lookup).

No draft model. The next token is looked up by the last few tokens, first in what this row says (its prompt, and what is written of its
answer), then in the answers that were written before it and in the skeleton of a T-CoT: tags and JSON. A draft is verified by the model
before any of it is kept, so drafts change how many passes a text takes, never the text.
"""

import json
from collections import Counter
from collections.abc import Sequence

from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.tcot import TCoT, render

LONGEST_CONTEXT, SHORTEST_CONTEXT = 4, 2
"""Tokens that a next token is looked up by."""
MAX_CONTEXTS = 200_000
"""Contexts of former answers that are remembered; further ones are left out."""
MIN_SHARE = 0.6
"""A next token is drafted where it followed in at least this share of the former answers."""

Context = tuple[int, ...]


def skeletons() -> list[str]:
    """Return T-CoTs that hold nothing but their fixed tags and the JSON of one kind of evidence."""
    empty = render(TCoT(thinking="", rethink="", answer=""))
    return [empty.replace("<thinking>", f"<thinking> {json.dumps({kind.key: []})}", 1) for kind in EVIDENCE_KINDS]


class Habits:
    """Token n-grams of answers, shared by all rows."""

    def __init__(self, skeletons: Sequence[Sequence[int]] = ()) -> None:
        self.following: dict[Context, Counter[int]] = {}
        for skeleton in skeletons:
            self.learn(skeleton)

    def learn(self, tokens: Sequence[int]) -> None:
        """Count the n-grams of an answer."""
        for end in range(1, len(tokens)):
            for context in _contexts(tokens, end):
                if context in self.following or len(self.following) < MAX_CONTEXTS:
                    self.following.setdefault(context, Counter())[tokens[end]] += 1

    def next(self, context: Context) -> int | None:
        """Return the token that mostly follows; None where none does."""
        counts = self.following.get(context)
        if not counts:
            return None
        [(token, count)] = counts.most_common(1)
        return token if count >= MIN_SHARE * counts.total() else None


class Drafter:
    """Drafts of one row."""

    def __init__(self, habits: Habits, prompt: Sequence[int]) -> None:
        self.habits = habits
        self.own: dict[Context, int] = {}
        self.tokens: list[int] = []
        """Written so far."""
        for end in range(SHORTEST_CONTEXT, len(prompt)):
            for context in _contexts(prompt, end):
                self.own[context] = prompt[end]

    def take(self, tokens: Sequence[int]) -> None:
        """Take in tokens that were written."""
        for token in tokens:
            self.tokens.append(token)
            for context in _contexts(self.tokens, len(self.tokens) - 1):
                if len(context) >= SHORTEST_CONTEXT:
                    self.own[context] = token

    def draft(self, limit: int) -> list[int]:
        """Return what probably follows, at most `limit` tokens; it ends where nothing is known."""
        tail, drafted = self.tokens[-LONGEST_CONTEXT:], []
        while len(drafted) < limit and (token := self._next(tail)) is not None:
            drafted.append(token)
            tail = [*tail, token][-LONGEST_CONTEXT:]
        return drafted

    def _next(self, tail: Sequence[int]) -> int | None:
        begins = len(tail) < SHORTEST_CONTEXT
        for length in range(len(tail), 0 if begins else SHORTEST_CONTEXT - 1, -1):
            context = tuple(tail[-length:])
            for token in (self.own.get(context), self.habits.next(context)):
                if token is not None:
                    return token
        return None


def _contexts(tokens: Sequence[int], end: int) -> list[Context]:
    """Return the contexts before a place: of each length that is looked up, and what stands there if it is the beginning."""
    longest = min(end, LONGEST_CONTEXT)
    return [tuple(tokens[end - length : end]) for length in range(min(longest, SHORTEST_CONTEXT), longest + 1) if length]
