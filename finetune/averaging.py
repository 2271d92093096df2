"""Average the prices of several networks so that a bad one cannot drag them."""

import numpy as np
from numpy.typing import NDArray

MAX_PULL = 0.5
"""Log price, a factor of 1.65, by which one network counts at most away from the median
of all."""


def average_log_prices(log_prices: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the mean over networks, each brought to within `MAX_PULL` of the median.

    Ordinary networks differ by less, so it is their mean, which errs less than their
    median; benchmarks/SOUNDNESS.md has what both were measured at.

    Parameters
    ----------
    log_prices : ndarray of shape (n_networks, n_products)
        log1p price.

    Returns
    -------
    ndarray of shape (n_products,)
        Of the same dtype.
    """
    middle = np.median(log_prices, axis=0)
    bounded = np.clip(log_prices, middle - MAX_PULL, middle + MAX_PULL)
    mean: NDArray[np.floating] = bounded.mean(axis=0, dtype=log_prices.dtype)
    return mean
