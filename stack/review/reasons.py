"""Name the likely reason for a price outside its interval, with the numbers for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stack.review.clues import Findings
from stack.review.suspicion import (
    CURRENCY,
    DECIMAL,
    GRAM_AMOUNTS,
    KINDS,
    PACK,
    PHOTO,
    RATES,
    SHIFTS,
    SIZE,
    TWIN,
    Suspicion,
    are_multiples,
    size_factors,
)
from stack.review.words import WordEffect
from stack.tell import numbers

DEAR, CHEAP, UNKNOWN = "dear", "cheap", "unknown"
LABELS = {
    DECIMAL: "decimal point",
    PACK: "one piece or pack",
    SIZE: "size or unit",
    CURRENCY: "other currency",
    TWIN: "twin at another price",
    PHOTO: "photo and text differ",
    DEAR: "dear",
    CHEAP: "cheap",
    UNKNOWN: "unknown",
}
"""Reasons as people read them."""

_LEAST_PROBABILITY = 0.03  # of a wrong price, to name an error at all
_LEAST_SHARE = 0.3  # of the likeliest kind of error, to name it
_SECOND_SHARE = 0.25  # of the second, to mention it too
_N_TWINS = 3


@dataclass(frozen=True, kw_only=True)
class Reason:
    """The likely reason for a price."""

    kind: str
    """A key of `LABELS`."""

    evidence: str
    """Sentence with the numbers that speak for it."""


class Reasons:
    """Reasons for the prices of some products.

    Parameters
    ----------
    findings : Findings
    suspicion : Suspicion
    sample_id : ndarray of shape (n_products,)
        Ids of all products of the run.
    prices : ndarray of shape (n_products,)
        Prices of all products of the run.
    """

    def __init__(
        self,
        findings: Findings,
        suspicion: Suspicion,
        *,
        sample_id: NDArray[np.str_],
        prices: NDArray[np.float64],
    ) -> None:
        self._findings, self._clues = findings, findings.clues
        self._suspicion = suspicion
        self._sample_id, self._prices = sample_id, prices
        self._sizes = [*size_factors(findings.clues)]
        self._tell: dict[str, Callable[[int], str]] = {
            DECIMAL: self._decimal,
            PACK: self._pack,
            SIZE: self._size,
            CURRENCY: self._currency,
            TWIN: lambda _: "",
            PHOTO: self._photo,
        }

    def of(self, number: int, words: Sequence[WordEffect]) -> Reason:
        """Return the reason for a product's price.

        Parameters
        ----------
        number : int
            Number of the product among those of `findings`.
        words : sequence of WordEffect
            Words that speak for its being dear or cheap.
        """
        factor = float(self._clues.price[number] / self._clues.expected[number])
        is_wrong = self._suspicion.probability[number] >= _LEAST_PROBABILITY
        kind, evidence = UNKNOWN, ""
        if is_wrong:
            kind, evidence = self._error(number)
        elif words:
            kind, evidence = DEAR if factor > 1 else CHEAP, _tell_words(words)
        parts = (_times(factor), evidence, self._twins(number))
        return Reason(kind=kind, evidence=". ".join(filter(None, parts)) + ".")

    def _error(self, number: int) -> tuple[str, str]:
        """Return the likeliest kind of error and its evidence."""
        shares = self._suspicion.shares[number]
        first, second = (KINDS[place] for place in np.argsort(-shares)[:2])
        if first not in self._tell or shares.max() < _LEAST_SHARE:
            return UNKNOWN, ""
        told = [self._tell[first](number)]
        if second in self._tell and np.sort(shares)[-2] >= _SECOND_SHARE:
            told.append(self._tell[second](number))
        return first, ". Or: ".join(filter(None, told))

    def _nearest(self, number: int, factors: Sequence[float]) -> int:
        """Return the place of the factor that is nearest to the price's own.

        That is over the twins' price where there are some, else over the expected one.
        """
        base = self._clues.twin_log_price[number]
        if np.isnan(base):
            base = np.log(self._clues.expected[number])
        own = np.log(self._clues.price[number]) - base
        return int(np.nanargmin(np.abs(np.log(factors) - own)))

    def _decimal(self, number: int) -> str:
        shift = SHIFTS[self._nearest(number, SHIFTS)]
        places = "one place" if shift in (10.0, 0.1) else "two places"
        side = "right" if shift > 1 else "left"
        text = f"The decimal point may be {places} too far {side}"
        price = self._clues.price[number : number + 1]
        if shift > 1 and are_multiples(price, self._clues.endings.step * shift)[0]:
            zeros = "a zero" if shift == 10.0 else "zeros"
            text += f"; the price ends in {zeros}"
        return text

    def _pack(self, number: int) -> str:
        pack = float(self._clues.pack[number])
        is_more = self._nearest(number, (1 / pack, pack))
        what = "several packs" if is_more else "one piece"
        return f"The text names a pack of {pack:g}: perhaps the price of {what}"

    def _size(self, number: int) -> str:
        factors = [float(factor[number]) for _, factor in self._sizes]
        name = self._sizes[self._nearest(number, factors)][0]
        is_mass = name in GRAM_AMOUNTS
        amount = (self._clues.grams if is_mass else self._clues.millilitres)[number]
        unit = "g" if is_mass else "ml"
        return f"It would fit {name}, but the text gives {amount:,.4g} {unit} in all"

    def _currency(self, number: int) -> str:
        rates = [*RATES.values()]
        factors = [*rates, *(1 / rate for rate in rates)]
        name = [*RATES][self._nearest(number, factors) % len(rates)]
        return (
            f"That is about the rate of {name} to a dollar or euro ({RATES[name]:g}): "
            f"perhaps another currency"
        )

    def _photo(self, number: int) -> str:
        share = numbers.percent(float(self._findings.misfit[number]), 0)
        return (
            f"{share} of other texts fit the photo better: photo or text may be "
            f"another product's"
        )

    def _twins(self, number: int) -> str:
        rows = self._findings.twins.rows[number][:_N_TWINS]
        costs = [
            f"{self._sample_id[row]} costs {numbers.price(float(self._prices[row]))}"
            for row in rows
        ]
        return f"Twin {', '.join(costs)}" if costs else ""


def _times(factor: float) -> str:
    if factor >= 1:
        return f"{factor:,.3g} times the expected price"
    return f"1/{1 / factor:,.3g} of the expected price"


def _tell_words(words: Sequence[WordEffect]) -> str:
    return "; ".join(
        f"{word.n} other products with “{word.word}” cost {word.factor:.2f} times "
        f"what is expected"
        for word in words
    )
