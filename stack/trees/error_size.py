"""LightGBM predicts the size of the error of a log price.

Each product is judged by boosters that were fitted without its part of the products.
To judge a calibration too, the sizes are also needed from boosters that were fitted
without a second part: a booster without parts j and k serves both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from stack.price.confidence import mean_size

LEAST_PRODUCTS = 500
"""Below it, all errors have one size: boosters would find chance differences."""

MOST_ROWS = 50_000
"""Rows that a booster is grown on; more are sampled."""

MOST_PARTS = 5
"""Largest number of parts; a run with more folds puts some together, since a booster is
fitted for each pair of parts."""

N_TREES = 150

PARAMETERS = {
    "objective": "gamma",
    "learning_rate": 0.05,
    "num_leaves": 8,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}

_SMALLEST = 1e-3  # the gamma objective needs errors above 0
_CHUNK_ROWS = 8192

Features = Callable[[NDArray[np.intp]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class ErrorSizes:
    """Predicted sizes of the errors of log prices."""

    boosters: list[lgb.Booster]
    """One without each part; none if all errors have one size."""

    size: NDArray[np.float64]
    """Size for each product by the booster without its part, shape (n_products,)."""

    nested: NDArray[np.float64]
    """Row k contains sizes by boosters without part k and without the product's own
    part, shape (n_parts, n_products)."""


def parts_of(folds: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the part of each product, 0 to `MOST_PARTS` - 1 at most, by its fold."""
    parts: NDArray[np.integer] = folds % MOST_PARTS
    return parts


def fit_error_sizes(
    features: Features, error: NDArray[np.floating], parts: NDArray[np.integer]
) -> ErrorSizes:
    """Fit boosters that predict the size of errors.

    Parameters
    ----------
    features : callable
        Takes row numbers, returns their features, shape (n_rows, d).
    error : ndarray of shape (n_products,)
        log1p of the true price minus the out-of-fold prediction.
    parts : ndarray of shape (n_products,), int
        Part of each product, from 0.

    Returns
    -------
    ErrorSizes
    """
    n, absolute = len(error), np.abs(error)
    n_parts = int(parts.max()) + 1
    usual = float(absolute.mean())
    if n < LEAST_PRODUCTS or len(np.unique(parts)) < 3:
        nested = np.full((n_parts, n), usual)
        return ErrorSizes(boosters=[], size=nested[0], nested=nested)

    def fit(rows: NDArray[np.bool_]) -> lgb.Booster:
        taken = np.flatnonzero(rows)
        if len(taken) > MOST_ROWS:
            rng = np.random.default_rng(0)
            taken = np.sort(rng.choice(taken, MOST_ROWS, replace=False))
        dataset = lgb.Dataset(features(taken), absolute[taken] + _SMALLEST)
        return lgb.train(PARAMETERS, dataset, N_TREES)

    def predict(boosters: list[lgb.Booster], part: int) -> NDArray[np.float64]:
        rows = np.flatnonzero(parts == part)
        starts = range(0, len(rows), _CHUNK_ROWS)
        chunks = [rows[start : start + _CHUNK_ROWS] for start in starts]
        return np.concatenate([mean_size(boosters, features(c)) for c in chunks])

    boosters = [fit(parts != part) for part in range(n_parts)]
    pairs = {
        frozenset(pair): fit(~np.isin(parts, pair))
        for pair in combinations(range(n_parts), 2)
    }
    size, nested = np.empty(n), np.empty((n_parts, n))
    for part in range(n_parts):
        inside = parts == part
        size[inside] = predict([boosters[part]], part)
        others = {k: pairs[frozenset((part, k))] for k in range(n_parts) if k != part}
        nested[part, inside] = predict(list(others.values()), part)
        for other, booster in others.items():
            nested[other, inside] = predict([booster], part)
    return ErrorSizes(boosters=boosters, size=size, nested=nested)
