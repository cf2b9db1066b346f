"""Reciprocal rank fusion of rankings, and the ranking of items by the rare words of a query.

Vectors know meanings and are weak on names, numbers and words that are rare. These are looked up in the index of words; common words
decide nothing, so a query without rare ones is ranked by its vectors alone.
"""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from embedrl.index.index import Index

RANK_CONSTANT = 60
"""k of 1 / (k + rank), as in Cormack et al., SIGIR 2009."""
RARE_SHARE, MIN_RARE, MAX_RARE_SHARE = 0.01, 3, 0.1
"""A word is rare that stands in at most 1 % of the files and pages, or in 3 of them where these are at most 10 %; in one in any case."""
MAX_QUERY_WORDS = 32
"""Different words of a query that are looked up."""


@dataclass(frozen=True)
class WordRanking:
    """Items by the rare words that stand in them."""

    keys: tuple[str, ...] = ()
    """Best first."""
    words: tuple[str, ...] = ()
    """The words that decided it."""


def rank_by_words(index: Index, text: str, words: Sequence[str] = (), *, allowed: Collection[str] | None = None) -> WordRanking:
    """Rank the items that hold rare words of a text, or any of the `words` themselves, by summed log(N / number of places), ties by key."""
    num_places = len(index)
    most = max(1, int(RARE_SHARE * num_places), min(MIN_RARE, int(MAX_RARE_SHARE * num_places)))
    scores: dict[str, float] = {}
    used = []
    asked = list(words) or list(dict.fromkeys(re.findall(r"\w+", text.casefold())))[:MAX_QUERY_WORDS]
    for word in asked:
        keys = index.keys_with(word, num_places if words else most + 1)
        if not keys or (not words and len(keys) > most):
            continue
        used.append(word)
        for key in set(keys):
            scores[key] = scores.get(key, 0.0) + math.log(1 + num_places / len(keys))
    keys = sorted(scores if allowed is None else scores.keys() & set(allowed), key=lambda key: (-scores[key], key))
    return WordRanking(tuple(keys), tuple(used))


def fuse(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Return all keys by summed 1 / (RANK_CONSTANT + rank) over the rankings that hold them; ranks from 1, ties by the first ranking."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, 1):
            scores[key] = scores.get(key, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sorted(scores, key=lambda key: -scores[key])
