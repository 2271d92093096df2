"""Find table columns that give the price away: a copy, a tax or an estimate of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embed.table.encode import RARE, TableColumn, feature_names

MAX_CORRELATION = 0.95
"""Largest accepted absolute correlation of a column with the log price."""

_MAX_JOINT = (0.99, 0.998)  # largest accepted for two and for three columns together
MIN_PRODUCTS = 30  # fewer correlate by chance
_MAX_ROWS = 2000  # rows, evenly spread, for the fits of several columns
_N_BEST = 10  # combinations that get another column


def find_giveaway(
    columns: Sequence[TableColumn],
    array: NDArray[np.float32],
    price: NDArray[np.float64],
) -> tuple[tuple[str, ...], float] | None:
    """Find the first column, or two or three, that give the price away.

    Parameters
    ----------
    columns : sequence of TableColumn
    array : ndarray of shape (n_products, n_features)
        Features of the columns.
    price : ndarray of shape (n_products,)
        NaN where unpriced.

    Returns
    -------
    (names, correlation) or None
        Names of the columns, and their absolute correlation with the log price; None
        if no column gives the price away.

    Notes
    -----
    The largest correlation of a number counts: of its value, its log or its rank. A
    category counts by the mean log price of its products, adjusted for the number of
    categories.
    """
    log_price = np.log(price)
    numbers: dict[str, NDArray[np.float64]] = {}
    place = 0
    for column in columns:
        values = array[:, place].astype(np.float64)
        place += len(feature_names([column]))
        if column.kind == "category":
            correlation = _correlate_categories(values, log_price)
        else:
            numbers[column.name] = values
            correlation = _correlate_numbers(values, log_price)
        if correlation > MAX_CORRELATION:
            return (column.name,), correlation
    return _find_product(numbers, log_price)


def _correlate_numbers(
    number: NDArray[np.float64], log_price: NDArray[np.float64]
) -> float:
    from scipy.stats import rankdata  # late: importing it takes a second

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


def _correlate_categories(
    codes: NDArray[np.float64], log_price: NDArray[np.float64]
) -> float:
    known = (codes > RARE) & np.isfinite(log_price)
    log_price = log_price[known]
    names, member = np.unique(codes[known], return_inverse=True)
    n, n_free = len(log_price), len(log_price) - len(names)
    if n < MIN_PRODUCTS or n_free < 1 or np.ptp(log_price) == 0:
        return 0.0
    mean = np.bincount(member, log_price) / np.bincount(member)
    within = np.sum((log_price - mean[member]) ** 2) / n_free
    return float(np.sqrt(max(1 - within / np.var(log_price, ddof=1), 0)))


def _logs(number: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the logs of a number and of 1 minus it as a share, such as a discount."""
    share = number / 100 if np.nanmax(number, initial=0) > 1 else number
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log([number, 1 - share])
    logs[np.isinf(logs)] = np.nan
    return [log for log in logs if np.isfinite(log).sum() >= MIN_PRODUCTS]


def _find_product(
    numbers: dict[str, NDArray[np.float64]], log_price: NDArray[np.float64]
) -> tuple[tuple[str, ...], float] | None:
    """Find columns of which the price is a product, such as a size and a unit price.

    Only the best few combinations get another column.
    """
    rows = np.flatnonzero(np.isfinite(log_price))
    rows = rows[:: -(-len(rows) // _MAX_ROWS) or 1]
    log_price = log_price[rows]
    terms = [(name, log[rows]) for name in numbers for log in _logs(numbers[name])]
    best: list[list[int]] = [[]]
    for limit in (np.inf, *_MAX_JOINT):
        correlations: dict[tuple[int, ...], float] = {}
        for used in best:
            names = {terms[term][0] for term in used}
            for term, (name, _) in enumerate(terms):
                key = tuple(sorted((*used, term)))
                if name not in names and key not in correlations:
                    logs = [terms[place][1] for place in key]
                    correlations[key] = _fit(logs, log_price)
        ranked = sorted(correlations, key=correlations.__getitem__, reverse=True)
        if ranked and correlations[ranked[0]] > limit:
            columns = tuple(dict.fromkeys(terms[term][0] for term in ranked[0]))
            return columns, correlations[ranked[0]]
        best = [list(key) for key in ranked[:_N_BEST]]
    return None


def _fit(logs: list[NDArray[np.float64]], log_price: NDArray[np.float64]) -> float:
    """Return the correlation of a least-squares fit, where all terms are known."""
    values = np.column_stack([*logs, log_price])
    known = np.isfinite(values.sum(axis=1))
    if known.sum() < max(MIN_PRODUCTS, 0.5 * len(known)):
        return 0.0
    values = values[known] - values[known].mean(axis=0)
    squares = values.T @ values
    inner, outer = squares[:-1, :-1], squares[:-1, -1]
    if not squares[-1, -1] > 0:
        return 0.0
    weights = np.linalg.lstsq(inner, outer, rcond=1e-9)[0]
    return float(np.sqrt(max(weights @ outer, 0) / squares[-1, -1]))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < MIN_PRODUCTS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(abs(np.corrcoef(a, b)[0, 1]))
