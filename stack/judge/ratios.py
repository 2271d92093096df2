"""The ratio study of appraisers: predicted price over true price, by price.

References
----------
International Association of Assessing Officers (2013), Standard on Ratio Studies,
for the median ratio, COD and PRD; Gloudemans (2011), "The Coefficient of Price-Related
Bias", Fair & Equitable 9(8), for PRB.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embed.records import EmbedManifest
from stack.judge.evaluate import price_bands

_N_RESAMPLES = 500
_MAX_GROUPS = 20_000
"""Groups in a resample. From more, intervals are scaled to the number of groups."""

_MIN_PRODUCTS = 30
"""Fewer products have no intervals: their ends would be noise."""

_LARGEST_CATEGORIES = 8


def ratio_study(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    categories: Mapping[str, NDArray[np.str_]],
    seed: int,
) -> dict[str, object]:
    """Measure how predicted prices relate to true ones, overall and in parts.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        True and out-of-fold prices, catalog currency.
    groups : ndarray of shape (n_products,), int
        Duplicates share a number and are drawn together for the intervals.
    categories : mapping of str to ndarray of shape (n_products,), str
        Category of each product by column; "" where unknown.
    seed : int
        Seed of the resamples.

    Returns
    -------
    dict
        `all`, `bands` (fifths of the price level, cheapest first, with `low` and
        `high`) and `categories` (the largest of each column, by column). Each part has
        `n` and the measures of `measures`, each with `value`, `low` and `high` (95 %
        interval; None for few products, or where a measure is not defined).
    """
    level = price_level(price, predicted)

    def study(rows: NDArray[np.bool_]) -> dict[str, object]:
        return _study(price[rows], predicted[rows], groups[rows], seed=seed)

    everything = np.ones(len(price), dtype=np.bool_)
    return {
        "all": study(everything),
        "bands": [
            {
                "low": float(level[band].min()),
                "high": float(level[band].max()),
                **study(band),
            }
            for band in price_bands(level)
        ],
        "categories": {
            name: [
                {"category": category, **study(values == category)}
                for category in _largest(values)
            ]
            for name, values in categories.items()
        },
    }


def read_categories(
    embed: EmbedManifest, attributes: NDArray[np.floating], rows: NDArray[np.bool_]
) -> dict[str, NDArray[np.str_]]:
    """Return the categories of some products by column; "" where unknown or rare.

    Parameters
    ----------
    embed : EmbedManifest
    attributes : ndarray of shape (n_products, n_attributes)
        The run's sizes and table features; codes of categories are the last columns.
    rows : ndarray of shape (n_products,), bool
        Products to read.
    """
    columns = [column for column in embed.table if column.kind == "category"]
    if not columns:
        return {}
    codes = np.nan_to_num(attributes[rows, -len(columns) :]).astype(np.int64)
    names = [np.array(["", "", *column.categories]) for column in columns]
    return {
        column.name: names_of[codes[:, place]]
        for place, (column, names_of) in enumerate(zip(columns, names, strict=True))
    }


def price_level(
    price: NDArray[np.floating], predicted: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of true price and predicted price over the median ratio.

    Ratio studies use this mean because parts by true price exaggerate the bias: a
    product that is dear for a reason unknown to the model is predicted too low.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        Catalog currency.
    """
    ratio = predicted / price
    level: NDArray[np.float64] = (price + predicted / np.median(ratio)) / 2
    return level


def measures(
    price: NDArray[np.floating], predicted: NDArray[np.floating]
) -> dict[str, float]:
    """Return median ratio, COD, PRD, and PRB by price level and by predicted price.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        Catalog currency, above 0.

    Returns
    -------
    dict
        `median`: median of predicted over true price. `cod`: mean distance of the
        ratios from their median, percent of it. `prd`: mean ratio over the ratio of
        the sums; above 1, dear products are predicted lower than cheap ones. `prb`:
        relative change of the ratio when the price level doubles; parts of the prices
        that no input explains make it negative. `prb_predicted`: the same when the
        predicted price doubles; near 0 if predictions are calibrated. Both are NaN if
        the prices do not differ.
    """
    ratio = predicted / price
    median = np.median(ratio)
    relative = ratio / median - 1
    return {
        "median": float(median),
        "cod": float(100 * np.abs(relative).mean()),
        "prd": float(ratio.mean() / (predicted.sum() / price.sum())),
        "prb": _slope(price_level(price, predicted), relative),
        "prb_predicted": _slope(predicted, relative),
    }


def _slope(level: NDArray[np.floating], relative: NDArray[np.floating]) -> float:
    """Return the change of a relative ratio with each doubling of a price."""
    doublings = np.log2(level)
    spread = doublings - doublings.mean()
    variance = float(spread @ spread)
    # Rounding leaves equal prices a spread near 1e-28, not 0.
    return float(spread @ relative) / variance if variance > 1e-20 else np.nan


def _study(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    seed: int,
) -> dict[str, object]:
    values = measures(price, predicted)
    half_widths = _deviations(price, predicted, groups, seed=seed)
    return {
        "n": len(price),
        **{
            name: {"value": _finite(value), **_ends(value, half_widths.get(name))}
            for name, value in values.items()
        },
    }


def _deviations(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the 2.5 % and 97.5 % deviations of each measure over resamples."""
    if len(price) < _MIN_PRODUCTS:
        return {}
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    n_groups = len(starts)
    n_drawn = min(n_groups, _MAX_GROUPS)
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {}
    for _ in range(_N_RESAMPLES):
        drawn = rng.integers(n_groups, size=n_drawn)
        rows = order[_ranges(starts[drawn], sizes[drawn])]
        for name, value in measures(price[rows], predicted[rows]).items():
            resampled.setdefault(name, []).append(value)
    scale = np.sqrt(n_drawn / n_groups)
    whole = measures(price, predicted)
    return {
        name: scale * (np.quantile(drawn_values, [0.025, 0.975]) - whole[name])
        for name, drawn_values in resampled.items()
    }


def _ranges(
    starts: NDArray[np.integer], sizes: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the numbers of all ranges, one after another."""
    first = np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
    return (first + np.arange(sizes.sum())).astype(np.int64)


def _ends(
    value: float, deviations: NDArray[np.float64] | None
) -> dict[str, float | None]:
    if deviations is None:
        return {"low": None, "high": None}
    low, high = value + deviations
    return {"low": _finite(low), "high": _finite(high)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _largest(values: NDArray[np.str_]) -> list[str]:
    """Return the categories with the most products, at least `_MIN_PRODUCTS` each."""
    names, counts = np.unique(values[values != ""], return_counts=True)
    order = np.lexsort((names, -counts))[:_LARGEST_CATEGORIES]
    return [str(names[i]) for i in order if counts[i] >= _MIN_PRODUCTS]
