"""Describe prices and sizes of the products that block `kernel` finds most similar."""

import numpy as np
from numpy.typing import NDArray

from embed.attributes import ATTRIBUTE_NAMES
from stack.blocks.block import Column, log_price
from stack.blocks.nearest import find_nearest

N_ALIKE = 100
_MEDIANS = (1, 3, 10, 30, 100)
_QUANTILES = (10, 25, 50, 75, 90)
_SPREADS = (10, 30)
_RANKS = (1, 10, 100)
_SIZES = (
    "log_value",
    "log_field_total",
    "log_pack_count",
    "log_item_size",
    "log_total_amount",
    "log_largest_number",
)
_PLACES = [ATTRIBUTE_NAMES.index(name) for name in _SIZES]
# A similar product is weighed by this power of its similarity.
_MEAN_SHARPNESS, _SHARPNESS = 4, 6
_LEAST = 1e-6

COLUMNS = (
    *(
        log_price(f"median-{n}", f"median price of the {n} most similar")
        for n in _MEDIANS
    ),
    log_price("weighted", "weighted mean price of the most similar"),
    *(
        log_price(f"quantile-{n}", f"{n} % quantile of prices of the most similar")
        for n in _QUANTILES
    ),
    *(
        Column(f"spread-{n}", f"spread of prices of the {n} most similar")
        for n in _SPREADS
    ),
    *(
        Column(f"similarity-{n}", f"similarity of number {n} of the most similar")
        for n in _RANKS
    ),
    *(Column(f"larger-{n}", f"{n} of the most similar minus own") for n in _SIZES),
)


def describe(
    similarity: NDArray[np.float32],
    log_price: NDArray[np.float32],
    sizes: NDArray[np.float32],
    other_sizes: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Describe, for each product, the most similar products of known price.

    Parameters
    ----------
    similarity : ndarray of shape (n, m)
        Similarity of n products to m products of known price: 1 for the same product,
        somewhat more if both have a photo.
    log_price : ndarray of shape (m,)
        log1p price.
    sizes, other_sizes : ndarray of shape (n, 2 a) and (m, 2 a)
        `a` standardised attributes, then a flag for each, as in `Parts`.

    Returns
    -------
    ndarray of shape (n, len(COLUMNS))
        Of the most similar products: medians of the log prices of the first few, mean
        and quantiles weighed by similarity, standard deviations, similarities by rank,
        and how much larger these products are on average, in standard deviations. NaN
        where no size is known, or if m is 0.
    """
    places, similarities = find_nearest(similarity, N_ALIKE)
    if not places.size:
        return np.full((len(similarity), len(COLUMNS)), np.nan, np.float32)
    price, n = log_price[places], places.shape[1]
    weight = similarities.clip(_LEAST) ** _SHARPNESS
    weight /= weight.sum(axis=1, keepdims=True)
    milder = similarities.clip(_LEAST) ** _MEAN_SHARPNESS
    columns = [
        *(np.median(price[:, :first], axis=1) for first in _MEDIANS),
        (milder * price).sum(axis=1) / milder.sum(axis=1),
        *_quantiles(price, weight),
        *(price[:, :first].std(axis=1) for first in _SPREADS),
        *(similarities[:, min(rank, n) - 1] for rank in _RANKS),
        *(_larger(sizes, other_sizes, places, weight, size) for size in _PLACES),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _quantiles(
    price: NDArray[np.float32], weight: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Return weighted quantiles: the lowest price at which each share is reached."""
    order = np.argsort(price, axis=1, kind="stable")
    ordered = np.take_along_axis(price, order, axis=1)
    reached = np.take_along_axis(weight, order, axis=1).cumsum(axis=1)
    row, last = np.arange(len(price)), price.shape[1] - 1
    return [
        ordered[row, np.minimum((reached < percent / 100).sum(axis=1), last)]
        for percent in _QUANTILES
    ]


def _larger(
    sizes: NDArray[np.float32],
    other_sizes: NDArray[np.float32],
    places: NDArray[np.intp],
    weight: NDArray[np.float32],
    size: int,
) -> NDArray[np.float32]:
    flag = sizes.shape[1] // 2 + size
    known = (other_sizes[places, flag] > 0) & (sizes[:, flag, None] > 0)
    weights = np.where(known, weight, 0)
    difference = weights * (other_sizes[places, size] - sizes[:, size, None])
    total = weights.sum(axis=1)
    mean = difference.sum(axis=1) / np.where(total > 0, total, np.nan)
    return np.asarray(mean, np.float32)
