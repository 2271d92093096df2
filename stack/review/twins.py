"""Find a product's twins: products of nearly the same name and of the same size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stack.blocks.nearest import DenseReferences

_N_CANDIDATES = 20  # most similar embeddings, whose names are compared
_SAME_WORDS = 0.5
_SAME_SIZE = 0.02  # in ln


@dataclass(frozen=True, kw_only=True)
class Twins:
    """The twins of some products."""

    rows: tuple[tuple[int, ...], ...]
    """Catalog rows of each product's twins, the most similar first."""

    log_price: NDArray[np.float64]
    """Median ln price of each product's twins; NaN without twins."""


def find_twins(
    rows: NDArray[np.intp],
    *,
    fused: NDArray[np.float16],
    priced_rows: NDArray[np.intp],
    price: NDArray[np.float64],
    names: Sequence[str],
    sizes: NDArray[np.floating],
) -> Twins:
    """Find the twins of some products.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Catalog rows of the products.
    fused : ndarray of shape (n_products, d)
        Embeddings of all products.
    priced_rows : ndarray of shape (m,)
        Catalog rows that may be twins.
    price : ndarray of shape (m,)
        Their prices.
    names : sequence of str, length n_products
    sizes : ndarray of shape (n_products, k)
        Logarithms of pack counts and amounts, NaN where unknown.
    """
    references = DenseReferences(fused, priced_rows)
    places, _ = references.nearest(fused[rows], _N_CANDIDATES + 1)
    found, log_price = [], np.full(len(rows), np.nan)
    for number, (row, near) in enumerate(zip(rows.tolist(), places, strict=True)):
        twins = [
            place
            for place in near.tolist()
            if (other := int(priced_rows[place])) != row
            and have_same_words(names[row], names[other])
            and _have_same_size(sizes[row], sizes[other])
        ]
        found.append(tuple(int(priced_rows[place]) for place in twins))
        if twins:
            log_price[number] = np.median(np.log(price[twins]))
    return Twins(rows=tuple(found), log_price=log_price)


def have_same_words(name: str, other: str) -> bool:
    """Tell whether two names have more than half of their words in common."""
    words, others = set(name.casefold().split()), set(other.casefold().split())
    return len(words & others) > _SAME_WORDS * max(1, len(words | others))


def _have_same_size(size: NDArray[np.floating], other: NDArray[np.floating]) -> bool:
    is_known = ~np.isnan(size)
    return bool(
        (is_known == ~np.isnan(other)).all()
        and (np.abs(size - other)[is_known] < _SAME_SIZE).all()
    )
