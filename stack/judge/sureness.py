"""Measure intervals and probabilities on products that they were not fitted on.

References
----------
Gneiting and Raftery (2007), "Strictly Proper Scoring Rules, Prediction, and
Estimation", section 6.2: the interval score.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stack.judge.evaluate import price_bands
from stack.judge.nested import Nested
from stack.price.calibration import LEVELS, SHARES
from stack.records import (
    Coverage,
    CoverageByPhoto,
    CoverageOfBand,
    CoverageOfPart,
    Sureness,
    Surest,
    Tenth,
)

CURVE = (0.1, 0.3, 0.5, 0.7, 1.0)
"""Shares of the products, the surest first, whose errors are reported."""

_N_TENTHS = 10


def measure_intervals(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    nested: Nested,
    *,
    has_photo: NDArray[np.bool_],
    constant: Nested,
) -> list[Coverage]:
    """Measure how many prices the intervals contain, and how wide they are.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        True and predicted prices, catalog currency.
    nested : Nested
        Intervals of these products.
    has_photo : ndarray of shape (n_products,), bool
    constant : Nested
        Intervals of one width in log price for all products, to compare with.

    Returns
    -------
    list of Coverage
        One for each level.
    """
    sure = nested.within[20]
    return [
        Coverage(
            level=level,
            coverage=float(inside.mean()),
            width_ratio=float(np.median(high / low)),
            score=interval_score(price, low, high, level),
            score_constant=interval_score(
                price, constant.low[level], constant.high[level], level
            ),
            bands=_by_fifth(price, inside),
            by_predicted=_by_fifth(predicted, inside),
            by_confidence=_by_fifth(sure, inside),
            by_photo=CoverageByPhoto(
                present=_of_part(inside[has_photo]),
                absent=_of_part(inside[~has_photo]),
            ),
        )
        for level in LEVELS
        for low, high in [(nested.low[level], nested.high[level])]
        for inside in [(low <= price) & (price <= high)]
    ]


def interval_score(
    price: NDArray[np.floating],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    level: int,
) -> float:
    """Return the mean interval score in ln price: width plus penalties; less is better.

    Parameters
    ----------
    price, low, high : ndarray of shape (n,)
        True prices and ends of the intervals, above 0.
    level : int
        Percent.
    """
    true, least, most = np.log(price), np.log(low), np.log(high)
    missed = np.maximum(least - true, 0) + np.maximum(true - most, 0)
    return float(np.mean(most - least + 200 / (100 - level) * missed))


def measure_sureness(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    within: Mapping[int, NDArray[np.floating]],
    unlike: NDArray[np.bool_],
) -> Sureness:
    """Compare probabilities with what happened.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        True and predicted prices, catalog currency.
    within : mapping of int to ndarray of shape (n_products,)
        Probability that the price is within so many percent of the true one.
    unlike : ndarray of shape (n_products,), bool

    Returns
    -------
    Sureness
    """
    error = np.abs(predicted - price) / price
    surest = np.argsort(-within[20], kind="stable")
    heads = [(share, surest[: round(share * len(surest))]) for share in CURVE]
    return Sureness(
        reliability={
            str(share): _by_tenth(within[share], error <= share / 100)
            for share in SHARES
        },
        curve=[
            Surest(
                share=share,
                n=len(rows),
                least=float(within[20][rows].min()),
                median_ape=float(100 * np.median(error[rows])),
                within_20=float((error[rows] <= 0.2).mean()),
            )
            for share, rows in heads
            if len(rows)
        ],
        n_unlike=int(unlike.sum()),
        median_ape_unlike=(
            float(100 * np.median(error[unlike])) if unlike.any() else None
        ),
    )


def _by_fifth(
    values: NDArray[np.floating], inside: NDArray[np.bool_]
) -> list[CoverageOfBand]:
    return [
        CoverageOfBand(
            low=float(values[band].min()),
            high=float(values[band].max()),
            n=int(band.sum()),
            coverage=float(inside[band].mean()),
        )
        for band in price_bands(values)
    ]


def _by_tenth(
    probability: NDArray[np.floating], is_right: NDArray[np.bool_]
) -> list[Tenth]:
    order = np.argsort(probability, kind="stable")
    return [
        Tenth(
            n=len(rows),
            predicted=float(probability[rows].mean()),
            found=float(is_right[rows].mean()),
        )
        for rows in np.array_split(order, _N_TENTHS)
        if len(rows)
    ]


def _of_part(inside: NDArray[np.bool_]) -> CoverageOfPart:
    n = len(inside)
    return CoverageOfPart(n=n, coverage=float(inside.mean()) if n else None)
