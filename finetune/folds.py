"""Assign products to folds: duplicates together, prices balanced, reproducible."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from embed.errors import ConfigError


def duplicate_groups(*keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Group rows that share a key, directly or through other rows.

    Parameters
    ----------
    *keys : sequence of str or int, one per row
        Kinds of key, such as text and photo. Rows that share a key of the same kind,
        other than "" and 0, are in one group.

    Returns
    -------
    ndarray of shape (n_products,)
        The first row of each row's group.
    """
    parent = list(range(len(keys[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for kind in keys:
        first: dict[Hashable, int] = {}
        for row, key in enumerate(kind):
            if key:
                lower, upper = sorted((root(first.setdefault(key, row)), root(row)))
                parent[upper] = lower
    return np.array([root(row) for row in range(len(parent))], dtype=np.int64)


def assign_folds(
    price: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    n_folds: int,
    seed: int,
    order_keys: Sequence[str] | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Assign whole groups to folds of equal size and similar prices.

    Groups are sorted by mean log1p price. Each run of `n_folds` neighbours goes to
    `n_folds` different folds, in random order; larger groups go first, each to the
    fold that has the fewest products.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        Prices in units of the run; NaN: unpriced.
    groups : ndarray of shape (n_products,)
        Products of one group share a fold.
    n_folds : int
    seed : int
        The same input and seed give the same folds.
    order_keys : sequence of str, one per product, optional
        Keys, such as ids, that break ties in price regardless of the order of rows.
    allowed : ndarray of bool, shape (n_products, n_folds), optional
        Folds that each product may be in, at least one and the same for a whole group.
        Groups that may not be in all folds come first, each in the emptiest of its
        folds. Default: all.

    Returns
    -------
    ndarray of shape (n_products,)
        0 to n_folds - 1; -1 where unpriced.

    Raises
    ------
    ConfigError
        If there are fewer than two folds, or fewer priced groups than folds.
    """
    priced, member, sizes, order = _by_price(price, groups, order_keys)
    if n_folds < 2 or len(sizes) < n_folds:
        raise ConfigError(
            f"--folds must be 2 to the number of distinct priced products, which is "
            f"{len(sizes)}, got {n_folds}. Use fewer folds or more products; those "
            f"with the same text, photo or group count as one."
        )
    rng = np.random.default_rng(seed)
    fold_of_group = np.zeros(len(sizes), dtype=np.int8)
    filled = np.zeros(n_folds, dtype=np.int64)
    if allowed is not None:
        allowed_of_group = np.empty((len(sizes), n_folds), dtype=bool)
        allowed_of_group[member] = allowed[priced]
        n_allowed = allowed_of_group.sum(axis=1)
        is_free = n_allowed == n_folds
        # Groups with one fold first, so the others see how full the folds are.
        bound = order[~is_free[order]]
        for group in bound[np.lexsort((-sizes[bound], n_allowed[bound]))]:
            place = np.where(allowed_of_group[group], filled, len(price))
            fold_of_group[group] = fold = int(np.argmin(place))
            filled[fold] += sizes[group]
        order = order[is_free[order]]
    for group in order[sizes[order] > 1]:
        fold = int(np.argmin(filled + rng.random(n_folds)))
        fold_of_group[group] = fold
        filled[fold] += sizes[group]
    # Singles come last; the incomplete last deal makes the folds equal in size.
    singles = order[sizes[order] == 1]
    for start in range(0, len(singles), n_folds):
        hand = singles[start : start + n_folds]
        is_last = len(hand) < n_folds
        deal = np.argsort(filled + rng.random(n_folds) * (0.5 if is_last else 1e9))
        fold_of_group[hand] = deal[: len(hand)]
        filled[deal[: len(hand)]] += 1
    folds = np.full(len(price), -1, dtype=np.int8)
    folds[priced] = fold_of_group[member]
    return folds


def draw_share(
    price: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    share: float,
    seed: int,
    order_keys: Sequence[str] | None = None,
) -> NDArray[np.bool_]:
    """Draw whole groups with similar prices as the rest.

    Groups are sorted by size, then by mean log1p price. One group is drawn at random
    from each run of 1 / `share` neighbours. A group with more products than the whole
    draw should have is never drawn.

    Parameters
    ----------
    price, groups, seed, order_keys
        As for `assign_folds`.
    share : float
        Share of the priced products to draw, about; above 0, at most 0.5.

    Returns
    -------
    ndarray of shape (n_products,), bool
        True where drawn; False where unpriced.
    """
    priced, member, sizes, order = _by_price(price, groups, order_keys)
    order = order[sizes[order] <= share * len(priced)]
    # Sizes rise; prices rise, fall, rise, …, so that neighbours have similar prices.
    _, kind_of_size = np.unique(sizes[order], return_inverse=True)
    place = np.arange(len(order)) * (-1) ** kind_of_size
    order = order[np.lexsort((place, kind_of_size))]
    starts = np.arange(round(share * len(order)))
    places = starts + np.random.default_rng([seed, 2]).random(len(starts))
    is_drawn = np.zeros(len(sizes), dtype=bool)
    is_drawn[order[np.minimum(places / share, len(order) - 1).astype(np.intp)]] = True
    drawn = np.zeros(len(price), dtype=bool)
    drawn[priced] = is_drawn[member]
    return drawn


def _by_price(
    price: NDArray[np.floating],
    groups: NDArray[np.integer],
    order_keys: Sequence[str] | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Sort priced products and their groups by price.

    Returns the priced rows, the group of each (from 0), the size of each group, and the
    groups in order of their mean log1p price.
    """
    # In order of price, NaN last: a sum in order of rows would round differently
    # when the rows are shuffled, and groups of equal mean would differ.
    by_price = np.argsort(price, kind="stable")
    priced = by_price[: np.count_nonzero(~np.isnan(price))]
    _, member, sizes = np.unique(
        groups[priced], return_inverse=True, return_counts=True
    )
    mean = np.bincount(member, np.log1p(price[priced])) / sizes
    ties = _tie_breakers(order_keys, priced, member, len(sizes))
    return priced, member, sizes, np.lexsort((ties, mean))


def _tie_breakers(
    order_keys: Sequence[str] | None,
    priced: NDArray[np.integer],
    member: NDArray[np.integer],
    n_groups: int,
) -> NDArray[np.int64]:
    if order_keys is None:
        return np.arange(n_groups)
    rank = np.empty(len(priced), dtype=np.int64)
    by_key = sorted(
        range(len(priced)), key=lambda place: order_keys[int(priced[place])]
    )
    rank[by_key] = np.arange(len(priced))
    first = np.full(n_groups, len(priced), dtype=np.int64)
    np.minimum.at(first, member, rank)
    return first
