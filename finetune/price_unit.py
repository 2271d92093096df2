"""Convert prices to log prices and back; no other module does.

Networks, blocks and trees work on log1p of the price in a unit of the run. The unit is
a power of ten, small beside the usual price. So a catalog scores the same in cents,
dollars or thousands: log1p of a price near zero is close to the price itself, where
equal errors in percent would count less. On three
catalogs a ridge on words scored best from a median of 10 to 100 units on; with a median
of one unit it was 1 to 4 SMAPE worse on two of them.

The prices of all folds determine the unit, as they determine the folds. A held-out
price can influence it only through the decade of the median.
"""

import math

import numpy as np
from numpy.typing import NDArray

PRICE_FLOOR = 0.01
"""Lowest predicted price, in units of the run: one cent of a dollar."""

_CHEAP_QUANTILE = 0.05
_LEAST_POWER = -300  # a float has no power of ten below -323


def choose_price_unit(price: NDArray[np.floating]) -> float:
    """Choose the unit of a run's prices.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        Catalog currency, above 0; NaN: unpriced. At least one has a price.

    Returns
    -------
    float
        The power of ten in which the median price is 10 to 100. If more than 5 % of
        prices are well below one such unit, the power nearest to the 5 % quantile. The
        unit is 1 if the median is some tens of dollars or euros.
    """
    known = price[~np.isnan(price)]
    # Quantiles that are prices: an interpolated one would not scale exactly.
    usual, cheap = np.quantile(known, (0.5, _CHEAP_QUANTILE), method="inverted_cdf")
    # Rounding in another currency must not move a median of exactly 10 below 10.
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
        Unit in catalog currency. Leave it out to get prices in units of the run, as
        for a score: a percentage is the same in any unit.

    Returns
    -------
    ndarray of float64
        Catalog currency, or units of the run without `unit`.
    """
    price: NDArray[np.float64] = np.expm1(log_price, dtype=np.float64)
    np.maximum(price, PRICE_FLOOR, out=price)
    return np.multiply(price, unit, out=price)
