"""Judge intervals and probabilities on products that they were not fitted on.

The folds make up parts. Everything that judges the products of one part was fitted on
the other parts alone: the model of the errors' size, and the errors themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stack.price.calibration import LEVELS, SHARES, Calibration


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Intervals and probabilities of priced products, each from the other parts."""

    low: dict[int, NDArray[np.float64]]
    """Low end of each interval by level, catalog currency, shape (n_products,)."""

    high: dict[int, NDArray[np.float64]]
    within: dict[int, NDArray[np.float64]]
    """Probability that the price is within 10 or 20 percent of the true one."""


def judge_by_other_parts(
    log_price: NDArray[np.floating],
    residual: NDArray[np.floating],
    parts: NDArray[np.integer],
    sizes: NDArray[np.floating],
    *,
    price_unit: float,
    n_bands: int | None = None,
) -> Nested:
    """Return intervals and probabilities, calibrated on the other parts.

    Parameters
    ----------
    log_price : ndarray of shape (n_products,)
        Out-of-fold log1p prices in units of the run.
    residual : ndarray of shape (n_products,)
        log1p of the true price minus `log_price`.
    parts : ndarray of shape (n_products,), int
        Part of each product; at least two different ones.
    sizes : ndarray of shape (n_parts, n_products)
        Row k contains the size of each product's error by models that were fitted
        without part k, and without the product's own part.
    price_unit : float
        Unit of the run, catalog currency.
    n_bands : int, optional
        As for `Calibration.fit`.
    """
    n = len(residual)
    ends = {level: np.empty((2, n)) for level in LEVELS}
    within = {share: np.empty(n) for share in SHARES}
    for part in np.unique(parts):
        inside, others, size = parts == part, parts != part, sizes[part]
        fitted = Calibration.fit(
            log_price[others],
            residual[others],
            size[others],
            price_unit=price_unit,
            n_bands=n_bands,
        )
        judged = log_price[inside], size[inside]
        for level in LEVELS:
            ends[level][:, inside] = fitted.bounds(*judged, level=level)
        for share in SHARES:
            within[share][inside] = fitted.within(*judged, share=share / 100)
    return Nested(
        low={level: low for level, (low, _) in ends.items()},
        high={level: high for level, (_, high) in ends.items()},
        within=within,
    )
