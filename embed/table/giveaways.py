"""Find table columns that give the price away: a copy, a tax or an estimate of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embed.table.encode import RARE, TableColumn, feature_names

MAX_CORRELATION = 0.95
"""Largest absolute correlation of a column with the log price."""

_MAX_JOINT = 0.99  # of two columns together, such as a list price and a discount
_MIN_PRODUCTS = 30  # fewer correlate by chance


def find_giveaway(
    columns: Sequence[TableColumn],
    array: NDArray[np.float32],
    price: NDArray[np.float64],
) -> tuple[tuple[str, ...], float] | None:
    """Find the first column, or pair of columns, that gives the price away.

    Parameters
    ----------
    columns : sequence of TableColumn
    array : ndarray of shape (n_products, n_features)
        Features of the columns.
    price : ndarray of shape (n_products,)
        NaN where unpriced.

    Returns
    -------
    names : tuple of str
    correlation : float
        Absolute correlation with the log price.

    Returns None if there is none. Numbers correlate as they are, by log and by rank;
    categories by the mean log price of the other products of the same category.
    """
    log_price = np.log(price)
    numbers: dict[str, NDArray[np.float64]] = {}
    place = 0
    for column in columns:
        values = array[:, place].astype(np.float64)
        place += len(feature_names([column]))
        if column.kind == "category":
            correlation = _by_category(values, log_price)
        else:
            numbers[column.name] = values
            correlation = _by_number(values, log_price)
        if correlation > MAX_CORRELATION:
            return (column.name,), correlation
    for first, second in itertools.permutations(numbers, 2):
        correlation = _by_pair(numbers[first], numbers[second], log_price)
        if correlation > _MAX_JOINT:
            return (first, second), correlation
    return None


def _by_number(number: NDArray[np.float64], log_price: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata  # late: it takes a second

    known = np.isfinite(number) & np.isfinite(log_price)
    number, log_price = number[known], log_price[known]
    correlations = [
        _correlation(number, log_price),
        _correlation(rankdata(number), rankdata(log_price)),
    ]
    positive = number > 0
    if positive.sum() > 0.5 * len(number):
        correlations.append(_correlation(np.log(number[positive]), log_price[positive]))
    return max(correlations)


def _by_category(codes: NDArray[np.float64], log_price: NDArray[np.float64]) -> float:
    known = (codes > RARE) & np.isfinite(log_price)
    log_price = log_price[known]
    _, member = np.unique(codes[known], return_inverse=True)
    count = np.bincount(member)[member]
    total = np.bincount(member, log_price)[member]
    others = count > 1
    mean = (total - log_price)[others] / (count[others] - 1)
    return _correlation(mean, log_price[others])


def _by_pair(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    log_price: NDArray[np.float64],
) -> float:
    """Return how well first * second, first / second or first * (1 - share) fits."""
    share = second / 100 if np.nanmax(second, initial=0) > 1 else second
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log([first, second, 1 - share])
    best = 0.0
    for other in logs[1:]:
        known = np.isfinite(logs[0]) & np.isfinite(other) & np.isfinite(log_price)
        if known.sum() < max(_MIN_PRODUCTS, 0.5 * len(known)):
            continue
        terms = np.column_stack([logs[0], other, np.ones(len(other))])[known]
        weights, *_ = np.linalg.lstsq(terms, log_price[known], rcond=None)
        best = max(best, _correlation(terms @ weights, log_price[known]))
    return best


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < _MIN_PRODUCTS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(abs(np.corrcoef(a, b)[0, 1]))
