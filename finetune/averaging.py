"""Average the prices of several networks, with bounded influence of each."""

import numpy as np
from numpy.typing import NDArray

MAX_PULL = 0.5
"""Largest distance from the median, in log price, with which a network enters the mean:
a factor of 1.65."""


def average_log_prices(log_prices: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the mean over networks, each limited to within `MAX_PULL` of the median.

    Ordinary networks differ by less, so the result is their mean, whose error is below
    that of their median; benchmarks/SOUNDNESS.md has both.

    Parameters
    ----------
    log_prices : ndarray of shape (n_networks, n_products)
        log1p price.

    Returns
    -------
    ndarray of shape (n_products,)
        Mean log1p price, of the same dtype.
    """
    middle = np.median(log_prices, axis=0)
    bounded = np.clip(log_prices, middle - MAX_PULL, middle + MAX_PULL)
    mean: NDArray[np.floating] = bounded.mean(axis=0, dtype=log_prices.dtype)
    return mean
