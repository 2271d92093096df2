"""Words in the names of products, and the SMAPE of the products with each word."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stack.judge.verdict import standard_error

_WORD = re.compile(r"[^\W\d_]{3,}")
# fmt: off
_NO_CONTENT = frozenset({
    "and", "are", "best", "buy", "for", "from", "its", "new", "our", "the", "this",
    "with", "without", "your",
    "count", "each", "inch", "inches", "kilogram", "ounce", "ounces", "pack", "packs",
    "pcs", "piece", "pieces", "pound", "pounds", "set", "size",
})
# fmt: on
_LEADING = 8  # words of content, from the front of a name
_MOST_WORDS = 300  # of which pairs are counted
_MIN_PRODUCTS, _MIN_SHARE, _FEWEST = 30, 0.02, 5
_SAME_PRODUCTS = 0.8
Sums = tuple[int, float, float]
"""Number, sum and sum of squares of some errors."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """SMAPE of some products, and their share in the SMAPE of all."""

    label: str
    n: int
    smape: float
    """0 to 200."""

    smape_se: float
    """Standard error over the products."""

    adds: float
    """Points that they add to the SMAPE of all products."""

    share: float
    """Share of all products, 0 to 1."""


def group_score(
    label: str,
    error: NDArray[np.float64],
    n_all: int,
    *,
    groups: NDArray[np.integer] | None = None,
) -> GroupScore:
    """Score a group of products.

    Parameters
    ----------
    label : str
    error : ndarray of shape (n,)
        SMAPE of each product of the group, 0 to 200; at least one.
    n_all : int
        Products of the catalog that have a price.
    groups : ndarray of shape (n,), int, optional
        Duplicates share a number; they count once in the standard error.
    """
    return GroupScore(
        label=label,
        n=len(error),
        smape=float(error.mean()),
        smape_se=standard_error(error, groups),
        adds=float(error.sum()) / n_all,
        share=len(error) / n_all,
    )


def score_words(
    names: Sequence[str], error: NDArray[np.float64], *, n_shown: int = 20
) -> list[GroupScore]:
    """Score products by the words, and pairs of neighbouring words, of their names.

    Parameters
    ----------
    names : sequence of str, length n
    error : ndarray of shape (n,)
        SMAPE of each product, 0 to 200.
    n_shown : int
        Largest number of words; the most frequent ones are returned.

    Returns
    -------
    list of GroupScore
        Sorted by the points added to the SMAPE of all, largest first. Each word occurs
        in at least 30 products or 2 % of them, whichever is fewer, and in at least 5. A
        product counts for each of its words. A word that rarely occurs outside one pair
        is left out; the pair is there.
    """
    least = max(_FEWEST, min(_MIN_PRODUCTS, math.ceil(_MIN_SHARE * len(names))))
    word_counts = Counter(word for name in names for word in set(leading_words(name)))
    frequent = {w for w, n in word_counts.most_common(_MOST_WORDS) if n >= least}
    sums: dict[str, Sums] = {}
    for name, e in zip(names, error.tolist(), strict=True):
        for term in set(_terms(name, frequent)):
            n, total, squares = sums.get(term, (0, 0.0, 0.0))
            sums[term] = (n + 1, total + e, squares + e * e)
    counts = {term: n for term, (n, _, _) in sums.items()}
    terms = {term for term in counts if counts[term] >= least}
    terms -= set(_covered(terms, counts))
    shown = sorted(terms, key=lambda term: (-counts[term], term))[:n_shown]
    scores = [_score_of_sums(term, sums[term], len(names)) for term in shown]
    return sorted(scores, key=lambda score: -score.adds)


def leading_words(name: str) -> list[str]:
    """Return the first words of a name that describe the product, in lower case."""
    words = (word.lower() for word in _WORD.findall(name))
    content = (word for word in words if word not in _NO_CONTENT)
    return [word for word, _ in zip(content, range(_LEADING), strict=False)]


def _terms(name: str, frequent: set[str]) -> Iterator[str]:
    words = leading_words(name)
    for word in words:
        if word in frequent:
            yield word
    for first, second in itertools.pairwise(words):
        if first in frequent and second in frequent and first != second:
            yield f"{first} {second}"


def _covered(terms: Iterable[str], counts: dict[str, int]) -> Iterator[str]:
    """Yield the words whose products nearly all have one and the same pair."""
    for term in terms:
        for word in term.split(" "):
            if word != term and counts[term] >= _SAME_PRODUCTS * counts[word]:
                yield word


def _score_of_sums(label: str, sums: Sums, n_all: int) -> GroupScore:
    n, total, squares = sums
    spread = max(0.0, squares - total**2 / n) / max(1, n - 1)
    return GroupScore(
        label=label,
        n=n,
        smape=total / n,
        smape_se=math.sqrt(spread / n),
        adds=total / n_all,
        share=n / n_all,
    )
