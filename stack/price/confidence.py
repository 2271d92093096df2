"""How exact a price is: prediction intervals, and the chance that it is nearly right.

The error of each product is divided by its expected size (its scale) and compared with
the errors of the products of similar predicted price, out of fold: split-conformal with
normalised scores, by band.

References
----------
Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World, with section
4.5 on conditional ("Mondrian") predictors; Lei et al. (2018), "Distribution-Free
Predictive Inference for Regression", arXiv:1604.04173, section 5.2 on scaled residuals.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.errors import ConfigError
from finetune.price_unit import to_log_price, to_price

LEVELS = (80, 90)
"""Percent of new products whose price the intervals of reports and answers contain."""

LEAST_LEVEL, MOST_LEVEL = 50, 99
"""Levels that can be asked for, percent."""

SHARES = (10, 20)
"""Percent of the true price that a price may be off to count as nearly right."""

N_PER_BAND = 500
"""Products in each band of predicted prices; a band's 80 % ends have a standard error
of 1.8 points of coverage then."""

_MOST_BANDS = 5


def require_level(level: int) -> int:
    """Return a level of an interval; refuse others than whole percents of 50 to 99.

    Raises
    ------
    ConfigError
    """
    if not LEAST_LEVEL <= level <= MOST_LEVEL:
        raise ConfigError(
            f"prediction interval: level must be {LEAST_LEVEL} to {MOST_LEVEL} "
            f"percent, got {level}"
        )
    return level


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Out-of-fold errors of log prices, in units of their scale, by predicted price.

    A run predicts new products with the average of its folds, which errs less than the
    single fold behind each error, so the intervals are rather too wide.
    """

    edges: NDArray[np.float64]
    """Predicted log1p prices between the bands, increasing, shape (n_bands - 1,)."""

    errors: tuple[NDArray[np.float64], ...]
    """Errors in each band, increasing: log1p of the true price minus the predicted one,
    divided by the scale."""

    price_unit: float
    """Unit of the run, catalog currency."""

    @classmethod
    def fit(
        cls,
        log_price: NDArray[np.floating],
        residual: NDArray[np.floating],
        scale: NDArray[np.floating],
        *,
        price_unit: float,
    ) -> "Calibration":
        """Sort the errors into bands of equally many products.

        Parameters
        ----------
        log_price : ndarray of shape (n_products,)
            Predicted log1p prices.
        residual : ndarray of shape (n_products,)
            log1p of the true price minus the out-of-fold prediction.
        scale : ndarray of shape (n_products,)
            Expected size of each residual, above 0.
        price_unit : float
            Unit of the run, catalog currency.
        """
        n_bands = min(_MOST_BANDS, max(1, len(residual) // N_PER_BAND))
        inner = np.linspace(0, 1, n_bands + 1)[1:-1]
        edges = np.unique(np.quantile(log_price, inner)) if n_bands > 1 else inner
        band = np.searchsorted(edges, log_price)
        errors = np.asarray(residual, np.float64) / scale
        return cls(
            edges=np.asarray(edges, np.float64),
            errors=tuple(np.sort(errors[band == b]) for b in range(len(edges) + 1)),
            price_unit=price_unit,
        )

    def bounds(
        self,
        log_price: NDArray[np.floating],
        scale: NDArray[np.floating],
        *,
        level: int = 90,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both ends of the interval around each prediction.

        Parameters
        ----------
        log_price : ndarray of shape (n,)
            Predicted log1p prices.
        scale : ndarray of shape (n,)
            Expected size of each error.
        level : int
            Percent, 50 to 99. An interval of a higher level contains the others.

        Returns
        -------
        low, high : ndarray of shape (n,)
            Catalog currency, above 0; the price lies between them.

        Raises
        ------
        ConfigError
            If the level is another.
        """
        require_level(level)
        log_price = np.asarray(log_price, dtype=np.float64)
        offsets = np.zeros((2, len(log_price)))
        for errors, rows in self._bands(log_price):
            low, high = _ends(errors, level)
            offsets[:, rows] = np.outer([min(low, 0), max(high, 0)], scale[rows])
        low_price = to_price(log_price + offsets[0], self.price_unit)
        return low_price, to_price(log_price + offsets[1], self.price_unit)

    def within(
        self,
        log_price: NDArray[np.floating],
        scale: NDArray[np.floating],
        *,
        share: float,
    ) -> NDArray[np.float64]:
        """Return the probability that each price is within a share of the true one.

        Parameters
        ----------
        log_price, scale : ndarray of shape (n,)
            As for `bounds`.
        share : float
            Share of the true price, such as 0.2 for 20 %.

        Returns
        -------
        ndarray of shape (n,)
            Above 0, below 1.
        """
        log_price = np.asarray(log_price, dtype=np.float64)
        price = to_price(log_price, self.price_unit)
        least, most = (
            (to_log_price(price / (1 + sign * share), self.price_unit) - log_price)
            / scale
            for sign in (1, -1)
        )
        probability = np.zeros(len(log_price))
        for errors, rows in self._bands(log_price):
            n_inside = np.searchsorted(errors, most[rows], side="right")
            n_inside -= np.searchsorted(errors, least[rows], side="left")
            probability[rows] = (n_inside + 0.5) / (len(errors) + 1)
        return probability

    def _bands(
        self, log_price: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
        """Yield the errors of each band and the products in it."""
        band = np.searchsorted(self.edges, log_price)
        for number, errors in enumerate(self.errors):
            yield errors, band == number


def _ends(errors: NDArray[np.float64], level: int) -> tuple[float, float]:
    """Return the errors between which `level` percent of new ones lie.

    Too few products (below 19 at 90 %) have no such ranks: then the ends are the
    farthest errors, and the coverage is not guaranteed.
    """
    n = len(errors)
    low = max(1, (n + 1) * (100 - level) // 200)
    high = min(n, math.ceil((n + 1) * (100 + level) / 200))
    return float(errors[low - 1]), float(errors[high - 1])
