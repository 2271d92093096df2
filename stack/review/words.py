"""Words whose products cost more, or less, than the model expects."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stack.html_report.words import leading_words

_LEAST_PRODUCTS = 5
_LEAST_T = 2.5  # mean over its standard error
_LEAST_MEAN = math.log(1.15)
_LEAST_SHARE = 0.2  # of the product's own ln factor, to count as an explanation
_MAX_ERROR = 1.5  # in ln price, so that a wrong price hardly moves a mean
_N_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class WordEffect:
    """How the other products with a word compare with their expected prices."""

    word: str
    factor: float
    """Geometric mean of present over expected price."""

    n: int
    """Number of these products."""


class WordEffects:
    """Present over expected prices of the products with each word of their names.

    Parameters
    ----------
    names : sequence of str, length n
    log_factor : ndarray of shape (n,)
        ln(present / expected price).
    """

    def __init__(self, names: Sequence[str], log_factor: NDArray[np.float64]) -> None:
        self._log_factor = log_factor.tolist()
        self._error = np.clip(log_factor, -_MAX_ERROR, _MAX_ERROR).tolist()
        self._words = [sorted(set(leading_words(name))) for name in names]
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for words, error in zip(self._words, self._error, strict=True):
            for word in words:
                sums = self._sums[word]
                for power in range(3):
                    sums[power] += error**power

    def explain(self, place: int) -> list[WordEffect]:
        """Return the words of a product that speak for its being dear, or cheap.

        The product itself is left out of the means. The strongest word is first.
        """
        own = self._error[place]
        sign = 1 if own > 0 else -1
        least = max(_LEAST_MEAN, _LEAST_SHARE * abs(self._log_factor[place]))
        effects = []
        for word in self._words[place]:
            n, total, squares = (
                value - own**power for power, value in enumerate(self._sums[word])
            )
            if n < _LEAST_PRODUCTS:
                continue
            mean = total / n
            variance = max(squares - n * mean**2, 1e-9) / (n - 1)
            strength = sign * mean / math.sqrt(variance / n)
            if strength >= _LEAST_T and sign * mean >= least:
                effect = WordEffect(word=word, factor=math.exp(mean), n=round(n))
                effects.append((strength, effect))
        effects.sort(key=lambda pair: (-pair[0], pair[1].word))
        # Words that always occur together have the same mean: one of them is enough.
        by_mean = {effect.factor: effect for _, effect in reversed(effects)}
        kept = [effect for _, effect in effects if by_mean[effect.factor] is effect]
        return kept[:_N_SHOWN]
