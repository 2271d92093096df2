"""Turn the expected size of an error into an interval and into probabilities.

Each out-of-fold error is divided by its expected size. An interval for a new product
comes from the quantiles of these ratios among products of similar predicted price:
split-conformal with normalised scores, by band.

References
----------
Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World, with section
4.5 on conditional ("Mondrian") predictors; Lei et al. (2018), "Distribution-Free
Predictive Inference for Regression", arXiv:1604.04173, section 5.2 on scaled residuals.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.errors import ConfigError
from embed.store.arrays import read_rows
from finetune.price_unit import to_log_price, to_price

LEVELS = (80, 90)
"""Percent of new products whose price the intervals of reports and answers contain."""

LEAST_LEVEL, MOST_LEVEL = 50, 99
"""Levels that can be asked for, percent."""

SHARES = (10, 20)
"""Percent of the true price that a price may be off to count as nearly right."""

N_PER_BAND = 200
"""Products in each band of predicted prices, which is divided by the size of errors."""

_MOST_BANDS = 5
_N_PER_CELL = 50


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
    """Out-of-fold errors of log prices, over their expected size, by price.

    A run predicts new products with the average of its folds, which errs less than the
    single fold behind each error, so the intervals are rather too wide.
    """

    edges: NDArray[np.float64]
    """Predicted log1p prices between the bands, increasing, shape (n_bands - 1,)."""

    size_edges: NDArray[np.float64]
    """Size of error between the halves of each band, shape (n_bands,); infinite in a
    band that is not divided."""

    errors: tuple[NDArray[np.float64], ...]
    """Errors in each half of each band, increasing: log1p of the true price minus the
    predicted one, divided by its expected size."""

    price_unit: float
    """Unit of the run, catalog currency."""

    @classmethod
    def fit(
        cls,
        log_price: NDArray[np.floating],
        residual: NDArray[np.floating],
        size: NDArray[np.floating],
        *,
        price_unit: float,
        n_bands: int | None = None,
    ) -> "Calibration":
        """Sort the errors by predicted price, then by expected size.

        Parameters
        ----------
        log_price : ndarray of shape (n_products,)
            Predicted log1p prices.
        residual : ndarray of shape (n_products,)
            log1p of the true price minus the out-of-fold prediction.
        size : ndarray of shape (n_products,)
            Expected size of each residual, above 0.
        price_unit : float
            Unit of the run, catalog currency.
        n_bands : int, optional
            Number of bands. Default: one for each `N_PER_BAND` products, at most 5.
        """
        n_bands = n_bands or min(_MOST_BANDS, max(1, len(residual) // N_PER_BAND))
        inner = np.linspace(0, 1, n_bands + 1)[1:-1]
        # Edges that are prices below the greatest leave no band empty.
        edges = np.unique(np.quantile(log_price, inner, method="lower"))
        edges = edges[edges < log_price.max()]
        band = np.searchsorted(edges, log_price)
        size_edges = np.array(
            [_middle(size[band == number]) for number in range(len(edges) + 1)]
        )
        cell = 2 * band + (size > size_edges[band])
        errors = np.asarray(residual, np.float64) / size
        return cls(
            edges=np.asarray(edges, np.float64),
            size_edges=size_edges,
            errors=tuple(
                np.sort(errors[cell == c]) for c in range(2 * len(size_edges))
            ),
            price_unit=price_unit,
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays to save, by name: edges, and cell and value of errors."""
        cell = np.repeat(np.arange(len(self.errors)), [len(e) for e in self.errors])
        errors = np.column_stack([cell, np.concatenate(self.errors)])
        return {"edges": self.edges, "size_edges": self.size_edges, "errors": errors}

    @classmethod
    def load(cls, folder: Path, *, price_unit: float) -> "Calibration":
        """Read the arrays that were saved in a folder.

        Raises
        ------
        CacheError
            If a file is missing or damaged.
        """
        edges, size_edges, errors = (
            np.asarray(read_rows(folder / f"{name}.npy"))
            for name in ("edges", "size_edges", "errors")
        )
        cell, error = errors.T
        return cls(
            edges=edges,
            size_edges=size_edges,
            errors=tuple(error[cell == c] for c in range(2 * len(size_edges))),
            price_unit=price_unit,
        )

    def bounds(
        self,
        log_price: NDArray[np.floating],
        size: NDArray[np.floating],
        *,
        level: int = 90,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both ends of the interval around each prediction.

        Parameters
        ----------
        log_price : ndarray of shape (n,)
            Predicted log1p prices.
        size : ndarray of shape (n,)
            Expected size of each error.
        level : int
            Percent, 50 to 99. An interval of a higher level contains the others.

        Returns
        -------
        low, high : ndarray of shape (n,)
            Catalog currency, above 0.

        Raises
        ------
        ConfigError
            If the level is another.
        """
        require_level(level)
        log_price = np.asarray(log_price, dtype=np.float64)
        offsets = np.zeros((2, len(log_price)))
        for errors, rows in self._cells(log_price, size):
            offsets[:, rows] = np.outer(_ends(errors, level), size[rows])
        low_price = to_price(log_price + offsets[0], self.price_unit)
        return low_price, to_price(log_price + offsets[1], self.price_unit)

    def within(
        self,
        log_price: NDArray[np.floating],
        size: NDArray[np.floating],
        *,
        share: float,
    ) -> NDArray[np.float64]:
        """Return the probability that each price is within a share of the true one.

        Parameters
        ----------
        log_price, size : ndarray of shape (n,)
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
            / size
            for sign in (1, -1)
        )
        probability = np.zeros(len(log_price))
        for errors, rows in self._cells(log_price, size):
            n_inside = np.searchsorted(errors, most[rows], side="right")
            n_inside -= np.searchsorted(errors, least[rows], side="left")
            probability[rows] = (n_inside + 0.5) / (len(errors) + 1)
        return probability

    def _cells(
        self, log_price: NDArray[np.floating], size: NDArray[np.floating]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
        """Yield the errors of the cells that the products lie in, and the products."""
        band = np.searchsorted(self.edges, log_price)
        cell = 2 * band + (size > self.size_edges[band])
        for number in np.unique(cell):
            yield self.errors[number], cell == number


def _middle(size: NDArray[np.floating]) -> float:
    """Return the size between two halves; infinite if a half would be too small."""
    middle = float(np.median(size))
    n_above = int((size > middle).sum())
    is_divided = min(n_above, len(size) - n_above) >= _N_PER_CELL
    return middle if is_divided else math.inf


def _ends(errors: NDArray[np.float64], level: int) -> tuple[float, float]:
    """Return the errors between which `level` percent of new ones lie.

    Too few products (below 19 at 90 %) have no such ranks: then the ends are the
    farthest errors, and the coverage is not guaranteed.
    """
    n = len(errors)
    low = max(1, (n + 1) * (100 - level) // 200)
    high = min(n, math.ceil((n + 1) * (100 + level) / 200))
    return float(errors[low - 1]), float(errors[high - 1])
