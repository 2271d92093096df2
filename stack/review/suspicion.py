"""Compare explanations of a price: right, or wrong in one of several ways.

Each explanation gives a density of the present log price; Bayes' rule weighs them. The
weights assume that one price in 70 is wrong, and that each kind of error is equally
frequent in a catalog.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECIMAL, PACK, SIZE, CURRENCY = "decimal", "pack", "size", "currency"
TWIN, PHOTO, OTHER = "twin", "photo", "other"
KINDS = (DECIMAL, PACK, SIZE, CURRENCY, TWIN, PHOTO, OTHER)

SHIFTS = (10.0, 0.1, 100.0, 0.01)
GRAM_AMOUNTS = {"1 oz": 28.35, "100 g": 100.0, "1 lb": 453.6, "1 kg": 1000.0}
ML_AMOUNTS = {"1 fl oz": 29.57, "100 ml": 100.0, "1 l": 1000.0, "1 gal": 3785.0}
"""Amounts that prices are often stated for."""

RATES = {
    "BRL": 5.0,
    "CNY": 7.2,
    "SEK": 10.5,
    "MXN": 17.0,
    "CZK": 23.0,
    "THB": 34.0,
    "INR": 83.0,
    "JPY": 150.0,
    "HUF": 360.0,
}
"""Rough units of each currency for a US dollar or euro."""

_WRONG = 1 / 70  # share of wrong prices that is assumed
_LEAST_FACTOR = 2.0  # a pack or size that changes the price less explains nothing
# Student's t with 4 degrees of freedom, as errors of prices have heavy tails: the ends
# of its middle 80 and 90 percent.
_T_AT = {80: 1.533, 90: 2.132}
_TWIN_SPREAD = 0.25  # of ln prices of two twins
_TWIN_TRUST = 0.85  # chance that a twin's own price is right
_FLAT = 1 / 8  # density of a log price that may be anything
_MAX_WEIGHT = 6.0  # of a kind that few products can have
_OTHER_WEIGHT = 0.3  # errors without a pattern are rarer
_MOST = 0.8  # of the prices: averages and prices by weight have more decimals
_NO_ZERO = 0.05  # chance that a shifted price lacks its zero


@dataclass(frozen=True, kw_only=True)
class Clues:
    """What is known of some products, arrays of shape (n,); NaN where unknown."""

    price: NDArray[np.float64]
    expected: NDArray[np.float64]
    spread: NDArray[np.float64]
    """Scale of ln(present / expected price) if the price is right."""

    pack: NDArray[np.float64]
    grams: NDArray[np.float64]
    millilitres: NDArray[np.float64]
    twin_log_price: NDArray[np.float64]
    photo_ratio: NDArray[np.float64]
    """Result of `misfit_ratio`; NaN without a photo."""

    endings: "Endings"


@dataclass(frozen=True, kw_only=True)
class Endings:
    """How often the prices of a catalog end in each two digits, such as 99.

    Prices that were computed, in another currency or for one piece, end in any digits.
    """

    step: float
    """Most prices are multiples of it, such as 0.01."""

    frequency: NDArray[np.float64]
    """Of each two last digits, over that of equal frequencies; shape (100,)."""

    @classmethod
    def count(cls, price: NDArray[np.float64]) -> "Endings":
        """Count the endings in a catalog; few prices give nearly equal frequencies."""
        steps = [10.0**power for power in range(3, -7, -1)]
        most = (s for s in steps if are_multiples(price, s).mean() > _MOST)
        step = next(most, steps[-1])
        counts = np.bincount(_last_digits(price, step), minlength=100)
        frequency = (counts + 1) / (len(price) + 100) * 100
        return cls(step=step, frequency=frequency)

    def of(self, price: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the relative frequency of each price's ending, shape (n,)."""
        return np.asarray(self.frequency[_last_digits(price, self.step)])


def _last_digits(price: NDArray[np.float64], step: float) -> NDArray[np.int64]:
    return np.asarray(np.rint(np.fmod(np.rint(price / step), 100)), np.int64)


def are_multiples(price: NDArray[np.float64], step: float) -> NDArray[np.bool_]:
    """Tell which prices are whole multiples of a step."""
    return np.asarray(np.abs(price / step - np.rint(price / step)) < 1e-6)


def spread_of_interval(
    low: NDArray[np.float64], high: NDArray[np.float64], *, level: int
) -> NDArray[np.float64]:
    """Return the scale of Student's t that has these intervals, shape (n,)."""
    return np.asarray(np.log(high / low) / 2 / _T_AT[level])


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """How suspicious some prices are, and the kinds of error that explain them."""

    probability: NDArray[np.float64]
    """That the price is wrong, shape (n,)."""

    shares: NDArray[np.float64]
    """Of the wrong explanations, shape (n, len(KINDS)); each row adds up to 1."""


def weigh(clues: Clues) -> Suspicion:
    """Weigh the explanations of some prices.

    Parameters
    ----------
    clues : Clues
        Clues on the products whose prices lie outside their intervals.
    """
    right = _density(clues, 1.0) * clues.endings.of(clues.price)
    wrong = np.column_stack([_of_kind(clues, kind) for kind in KINDS])
    total = wrong.sum(axis=1)
    odds = total / right * _WRONG / (1 - _WRONG)
    return Suspicion(probability=odds / (1 + odds), shares=wrong / total[:, None])


def _of_kind(clues: Clues, kind: str) -> NDArray[np.float64]:
    """Return the weighted density of the log prices by one kind of error."""
    density = {
        DECIMAL: _decimal,
        PACK: _pack,
        SIZE: _size,
        CURRENCY: _currency,
        TWIN: _twin,
        PHOTO: _photo,
        OTHER: _other,
    }[kind](clues)
    # A kind that is possible for a tenth of the products is ten times as likely there.
    weight = min(_MAX_WEIGHT, len(density) / max(1, int((density > 0).sum())))
    weight *= _OTHER_WEIGHT if kind == OTHER else 1.0
    return density * weight / len(KINDS)


def _decimal(clues: Clues) -> NDArray[np.float64]:
    total = np.zeros(len(clues.price))
    for shift in SHIFTS:
        density = _density(clues, shift)
        if shift > 1:
            has_zeros = are_multiples(clues.price, clues.endings.step * shift)
            ending = shift * clues.endings.of(clues.price / shift)
            density = density * np.where(has_zeros, ending, _NO_ZERO)
        total += density
    return total / len(SHIFTS)


def _pack(clues: Clues) -> NDArray[np.float64]:
    is_pack = clues.pack >= _LEAST_FACTOR
    pack = np.where(is_pack, clues.pack, 1.0)
    density = 0.6 * _density(clues, 1 / pack) + 0.4 * _density(clues, pack)
    return np.where(is_pack, density, 0.0)


def _size(clues: Clues) -> NDArray[np.float64]:
    total, n = np.zeros(len(clues.price)), np.zeros(len(clues.price))
    for _, factor in size_factors(clues):
        total += np.where(
            np.isnan(factor), 0, _density(clues, np.nan_to_num(factor, nan=1))
        )
        n += ~np.isnan(factor)
    return total / np.maximum(n, 1)


def size_factors(clues: Clues) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield each other amount, and the factor between its price and the product's.

    The factor is NaN where the product has no such size, or nearly this one.
    """
    for amounts, own in (
        (GRAM_AMOUNTS, clues.grams),
        (ML_AMOUNTS, clues.millilitres),
    ):
        for name, amount in amounts.items():
            factor = amount / own
            is_far = np.maximum(factor, 1 / factor) >= _LEAST_FACTOR
            yield name, np.where(is_far, factor, np.nan)


def _currency(clues: Clues) -> NDArray[np.float64]:
    factors = [*RATES.values(), *(1 / rate for rate in RATES.values())]
    return np.asarray(np.mean([_density(clues, factor) for factor in factors], axis=0))


def _twin(clues: Clues) -> NDArray[np.float64]:
    return np.where(np.isnan(clues.twin_log_price), 0.0, _other(clues))


def _photo(clues: Clues) -> NDArray[np.float64]:
    return np.nan_to_num(clues.photo_ratio, nan=0.0) * _other(clues)


def _other(clues: Clues) -> NDArray[np.float64]:
    """Return the density of a price that may be any product's."""
    return _FLAT * clues.endings.of(clues.price)


def _density(clues: Clues, factor: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the density of the log prices if the right ones are so many times less."""
    log_price = np.log(clues.price / factor)
    expected = np.log(clues.expected)
    alone = _student(log_price - expected, clues.spread)
    has_twin = ~np.isnan(clues.twin_log_price)
    own, twins = clues.spread**-2, np.where(has_twin, _TWIN_SPREAD**-2, 0.0)
    twin = np.where(has_twin, clues.twin_log_price, 0.0)
    centre = (own * expected + twins * twin) / (own + twins)
    both = _student(log_price - centre, (own + twins) ** -0.5)
    mixed = _TWIN_TRUST * both + (1 - _TWIN_TRUST) * alone
    return np.where(has_twin, mixed, alone)


def _student(
    distance: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the density of Student's t with 4 degrees of freedom."""
    z = distance / scale
    return np.asarray(0.375 * (1 + z**2 / 4) ** -2.5 / scale)
