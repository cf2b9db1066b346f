"""Weighted reciprocal rank fusion of rankings, and the ranking of items by the rare words of a query.

Vectors know meanings and are weak on names, numbers and words that are rare. These are looked up in the index of words; common words
alone decide nothing, so a query without rare ones is ranked by its vectors. An item that holds a rare word is only ranked by it if it
holds more of the query's words than the first hit by vectors: a rare word may also stand in a query by the way ("please").
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from embedrl.index.index import Index

RANK_CONSTANT = 60
"""k of 1 / (k + rank), as in Cormack et al., SIGIR 2009."""
WORDS_WEIGHT = 100.0
"""Weight of a ranking by rare words beside that of the vectors: items in it come first, and the vectors decide among equals."""
RARE_SHARE, MIN_RARE, MAX_RARE_SHARE = 0.01, 3, 0.1
"""A word is rare that stands in at most 1 % of the files and pages, or in 3 of them where these are at most 10 %; in one in any case."""
RARE_WEIGHT = 2.0
"""Of a rare word, where a common one counts 1."""
NUM_NEAR, FAR_MARGIN = 20, 0.2
"""An item outside the `NUM_NEAR` nearest by vectors must contain this fraction of the words more than the first hit does."""
MAX_QUERY_WORDS = 32
"""Different words of a query that are looked up."""
MAX_CANDIDATES = 100
"""Maximum number of candidates with rare words: those with most of them, ties by vectors."""


@dataclass(frozen=True)
class WordRanking:
    """Items by the words that stand in them."""

    keys: tuple[str, ...] = ()
    """Best first."""
    words: tuple[str, ...] = ()
    """The words that decided it."""
    weight: float = 1.0
    """Weight in the fusion with vectors, whose weight is 1."""


def rank_by_words(index: Index, words: Sequence[str], *, allowed: Collection[str] | None = None) -> WordRanking:
    """Rank the items that hold any of these words by summed log(1 + N / number of places), ties by key."""
    num_places = len(index)
    scores: dict[str, float] = {}
    used = []
    for word in words:
        if keys := index.keys_with(word, num_places):
            used.append(word)
            for key in set(keys):
                scores[key] = scores.get(key, 0.0) + math.log(1 + num_places / len(keys))
    keys = sorted(scores if allowed is None else scores.keys() & set(allowed), key=lambda key: (-scores[key], key))
    return WordRanking(tuple(keys), tuple(used))


def rank_by_rare_words(index: Index, text: str, near: Sequence[str], *, allowed: Collection[str] | None = None) -> WordRanking:
    """Rank the items that hold rare words of a text, and more of its words than the nearest item by vectors, by the share that they hold.

    `near` are the keys of the nearest items, best first: they break ties, and what is not among the first 20 of them has to hold a fifth
    of the words more. Words that stand nowhere do not count, and rare ones count twice.
    """
    position = {key: number for number, key in enumerate(near)}
    most = max(1, int(RARE_SHARE * len(index)), min(MIN_RARE, int(MAX_RARE_SHARE * len(index))))
    holders = {}
    for word in list(dict.fromkeys(re.findall(r"\w+", text.casefold())))[:MAX_QUERY_WORDS]:
        if keys := index.keys_with(word, most + 1):
            holders[word] = set(keys) if len(keys) <= most else None
    rare = [word for word, keys in holders.items() if keys is not None]
    with_rare = Counter(key for keys in holders.values() for key in keys or () if allowed is None or key in allowed)
    candidates = sorted(with_rare, key=lambda key: (-with_rare[key], position.get(key, len(near)), key))[:MAX_CANDIDATES]
    if not candidates:
        return WordRanking()
    compared = {*candidates, *near[:1]}
    shares = dict.fromkeys(compared, 0.0)
    total = sum(RARE_WEIGHT if word in rare else 1.0 for word in holders)
    for word, keys in holders.items():
        weight = RARE_WEIGHT if keys is not None else 1.0
        for key in compared & (keys if keys is not None else set(index.keys_with(word, len(index), among=compared))):
            shares[key] += weight / total
    first = near[0] if near else None
    least = shares.get(first, 0.0) if first else 0.0

    def is_preferred(key: str) -> bool:
        margin = 0.0 if position.get(key, NUM_NEAR) < NUM_NEAR else FAR_MARGIN
        return key == first or shares[key] > least + margin + 1e-9

    ranked = sorted(filter(is_preferred, candidates), key=lambda key: (-round(shares[key], 9), position.get(key, len(near)), key))
    return WordRanking(tuple(ranked), tuple(rare) if ranked else (), WORDS_WEIGHT)


def fuse(rankings: Sequence[Sequence[str]], weights: Sequence[float] | None = None) -> list[str]:
    """Return all keys by summed weight / (RANK_CONSTANT + rank) over the rankings that hold them; ranks from 1, ties by the first ranking.

    All weights are 1 by default.
    """
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights or (1.0,) * len(rankings), strict=True):
        for rank, key in enumerate(ranking, 1):
            scores[key] = scores.get(key, 0.0) + weight / (RANK_CONSTANT + rank)
    return sorted(scores, key=lambda key: -scores[key])
