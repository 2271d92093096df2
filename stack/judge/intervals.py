"""Prediction intervals: split-conformal, from out-of-fold residuals in log space.

References
----------
Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World; Lei et al.
(2018), "Distribution-Free Predictive Inference for Regression", arXiv:1604.04173.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import ConfigError
from finetune.price_unit import to_log_price, to_price
from stack.judge.evaluate import price_bands
from stack.records import StackManifest

LEVELS = (80, 90)
"""Percent of new products whose price an interval should contain."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """How far below and above a predicted log price the true one may lie.

    A run predicts new products with the average of its folds, which errs less than the
    single fold behind each residual, so the intervals are rather too wide.
    """

    offsets: Mapping[int, tuple[float, float]]
    """By level: the offsets from a log1p price to the low and to the high end."""

    price_unit: float
    """Unit of the run, catalog currency."""

    @classmethod
    def fit(cls, residual: NDArray[np.floating], *, price_unit: float) -> "Intervals":
        """Fit all levels.

        Parameters
        ----------
        residual : ndarray of shape (n_products,)
            log1p of the true price minus the out-of-fold prediction.
        price_unit : float
            Unit of the run, catalog currency.
        """
        offsets = {level: _offsets(residual, level) for level in LEVELS}
        return cls(offsets=offsets, price_unit=price_unit)

    @classmethod
    def of_manifest(cls, stack: StackManifest, *, price_unit: float) -> "Intervals":
        """Read the intervals from a stacking manifest."""
        offsets = {level: stack.intervals[str(level)] for level in LEVELS}
        return cls(offsets=offsets, price_unit=price_unit)

    def bounds(
        self, log_price: NDArray[np.floating], *, level: int = 90
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both ends of the interval around each prediction.

        Parameters
        ----------
        log_price : ndarray of shape (n,)
            Predicted log1p prices.
        level : int
            Percent, one of `LEVELS`.

        Returns
        -------
        low, high : ndarray of shape (n,)
            Catalog currency, above 0.

        Raises
        ------
        ConfigError
            If the level was not fitted.
        """
        if level not in self.offsets:
            raise ConfigError(
                f"prediction interval: level must be one of "
                f"{', '.join(map(str, self.offsets))} percent, got {level}"
            )
        low, high = self.offsets[level]
        log_price = np.asarray(log_price, dtype=np.float64)
        low_price = to_price(log_price + low, self.price_unit)
        return low_price, to_price(log_price + high, self.price_unit)


def interval_coverage(
    price: NDArray[np.floating],
    log_price: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    price_unit: float,
) -> list[dict[str, Any]]:
    """Measure how many prices the intervals contain, fitted on the other folds.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        True prices, catalog currency.
    log_price : ndarray of shape (n_products,)
        Out-of-fold log1p prices in units of the run.
    folds : ndarray of shape (n_products,), int
        Fold of each product; at least two different folds.
    price_unit : float
        Unit of the run, catalog currency.

    Returns
    -------
    list of dict
        For each level: `level` (percent), `coverage` (share inside), `width_ratio`
        (median of high end over low end), and `bands`: `low`, `high`, `n`, `coverage`
        in each fifth of the true prices.
    """
    residual = to_log_price(price, price_unit) - log_price
    ends = {level: np.empty((2, len(price))) for level in LEVELS}
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        fitted = Intervals.fit(residual[others], price_unit=price_unit)
        for level in LEVELS:
            ends[level][:, inside] = fitted.bounds(log_price[inside], level=level)
    bands = price_bands(price)
    return [
        {
            "level": level,
            "coverage": float(covered.mean()),
            "width_ratio": float(np.median(high / low)),
            "bands": [
                {
                    "low": float(price[band].min()),
                    "high": float(price[band].max()),
                    "n": int(band.sum()),
                    "coverage": float(covered[band].mean()),
                }
                for band in bands
            ],
        }
        for level, (low, high) in ends.items()
        for covered in [(low <= price) & (price <= high)]
    ]


def _offsets(residual: NDArray[np.floating], level: int) -> tuple[float, float]:
    """Return the residuals between which `level` percent of new ones lie.

    Too few products (below 19 at 90 %) have no such ranks: then the ends are the
    farthest residuals, and the coverage is not guaranteed.
    """
    ordered = np.sort(residual)
    n = len(ordered)
    low = max(1, (n + 1) * (100 - level) // 200)
    high = min(n, math.ceil((n + 1) * (100 + level) / 200))
    return float(ordered[low - 1]), float(ordered[high - 1])
