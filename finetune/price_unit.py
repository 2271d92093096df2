"""Prices and their logs: the one place where log space is entered and left.

Networks, blocks and trees work on log1p of the price, counted in a unit of the run. The
unit is a power of ten, small beside the usual price. So a catalog scores the same in
cents, dollars or thousands: log1p of a price near zero is the price itself, and equal
errors in percent would weigh less the smaller the currency makes the numbers. On three
catalogs a ridge on words scored best from a median of 10 to 100 units on; with a median
of one unit it was 1 to 4 SMAPE worse on two of them.

The unit is chosen by the prices of all folds, as the folds themselves are balanced by
them: of a held-out price, nothing but the decade of the median can show in it.
"""

import math

import numpy as np
from numpy.typing import NDArray

PRICE_FLOOR = 0.01
"""The least price that is ever predicted, in units of the run: one cent of a dollar."""

_CHEAP_QUANTILE = 0.05
_LEAST_POWER = -300  # a float has no power of ten below -323


def choose_price_unit(price: NDArray[np.floating]) -> float:
    """Choose the unit that a run counts its prices in.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        Catalog currency, above 0; NaN: unpriced. At least one has a price.

    Returns
    -------
    float
        The power of ten by which the median price is 10 to 100. Where prices spread so
        far that more than 5 % are well below one, the power nearest to the price that
        5 % are below. It is 1 where the median is some tens of dollars or euros.
    """
    known = price[~np.isnan(price)]
    # Prices themselves: a mean of two would not scale with them exactly.
    usual, cheap = np.quantile(known, (0.5, _CHEAP_QUANTILE), method="inverted_cdf")
    # A median of exactly 10 must not fall below it by rounding in another currency.
    power = min(math.floor(math.log10(usual) + 1e-9) - 1, round(math.log10(cheap)))
    return float(10.0 ** max(power, _LEAST_POWER))


def to_log_price(price: NDArray[np.floating], unit: float) -> NDArray[np.float64]:
    """Enter log space: return log1p of the prices, counted in the run's unit.

    Parameters
    ----------
    price : ndarray
        Catalog currency; NaN stays NaN.
    unit : float
        Catalog currency, above 0.
    """
    log_price: NDArray[np.float64] = np.log1p(np.divide(price, unit, dtype=np.float64))
    return log_price


def to_price(log_price: NDArray[np.floating], unit: float = 1.0) -> NDArray[np.float64]:
    """Leave log space: return prices, at least `PRICE_FLOOR` units.

    Parameters
    ----------
    log_price : ndarray
        log1p prices in units of the run.
    unit : float
        Catalog currency. Leave it out where prices are compared with others in units
        of the run only, as for a score: a percentage is the same in any unit.

    Returns
    -------
    ndarray of float64
        Catalog currency, or units of the run without `unit`.
    """
    price: NDArray[np.float64] = np.expm1(log_price, dtype=np.float64)
    np.maximum(price, PRICE_FLOOR, out=price)
    return np.multiply(price, unit, out=price)
