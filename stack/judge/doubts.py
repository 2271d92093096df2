"""Find reasons to doubt a run; `stack.price.flags` does so for one price.

An average hides a network that went wrong. SMAPE is bounded, so it hides a price that
is a hundred times too high.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.catalog.amounts import amount
from finetune.score import smape_rows
from stack.judge.verdict import standard_error
from stack.price.engine import price_factor
from stack.price.flags import DISAGREEMENT

MARGIN = 2.0
"""Factor outside the trained prices from which an out-of-fold price counts as wild."""

_FAR_ERRORS, _FAR_POINTS = 4.0, 3.0
_FAR_SHARE, _FAR_TIMES = 0.05, 3.0
_APART_SHARE = 0.2
_JUDGED = ("network", "chosen")


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """Scores of a fold by `network` and `chosen`, the predictor that serves."""

    fold: int
    """Number of the fold, from 0."""

    n: int
    smape: dict[str, float]
    smape_se: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Agreement of the folds' networks on the same products."""

    n: int
    """Number of products."""

    median_factor: float
    """Median over products of the factor between the highest and lowest price."""

    n_apart: int
    """Products whose factor is above `DISAGREEMENT`."""

    far: list[float]
    """For each network, the share of products on which it is that factor away from the
    median of the others."""


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """Reasons to doubt a run, and the figures behind them."""

    folds: list[FoldScore]
    networks: Networks | None
    trained: dict[str, float]
    """Cheapest and dearest true price: `low` and `high`."""

    outside: dict[str, dict[str, int]]
    """By predictor, how many prices lie `below` and `above` the true ones."""

    sentences: list[str]
    """Each doubt, for users; empty if there is none."""


def find_doubts(
    price: NDArray[np.floating],
    folds: NDArray[np.integer],
    predicted: Mapping[str, NDArray[np.floating]],
    groups: NDArray[np.integer] | None = None,
    by_network: NDArray[np.floating] | None = None,
) -> Doubts:
    """Look for folds, prices and averages that do not fit the rest of a run.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        True prices, catalog currency.
    folds : ndarray of shape (n_products,), int
        Fold of each product, from 0.
    predicted : mapping of str to ndarray of shape (n_products,)
        Out-of-fold prices of `network`, `chosen` and `median`, the
        baseline.
    groups : ndarray of shape (n_products,), int, optional
        Duplicates share a number; they count once in standard errors.
    by_network : ndarray of shape (n_folds, m), optional
        Prices of a sample of products by the network of each fold, catalog currency.
    """
    scores = [
        _score_fold(fold, price, folds, predicted, groups) for fold in np.unique(folds)
    ]
    low, high = float(price.min()), float(price.max())
    networks = None if by_network is None else compare_networks(by_network)
    return Doubts(
        folds=scores,
        networks=networks,
        trained={"low": low, "high": high},
        outside={
            name: {
                "below": int((predicted[name] < low).sum()),
                "above": int((predicted[name] > high).sum()),
            }
            for name in _JUDGED
        },
        sentences=[
            *_far_folds(scores),
            *_far_networks(networks),
            *_wild_prices(predicted, low, high),
            *_far_errors(price, predicted),
        ],
    )


def compare_networks(prices: NDArray[np.floating]) -> Networks:
    """Measure how far the networks of the folds agree on the same products.

    Parameters
    ----------
    prices : ndarray of shape (n_folds, m)
        Prices by the network of each fold, catalog currency.
    """
    factor = price_factor(prices)
    far = []
    for fold, prices_of_fold in enumerate(prices):
        others = np.median(np.delete(prices, fold, axis=0), axis=0)
        apart = price_factor(np.array([prices_of_fold, others])) > DISAGREEMENT
        far.append(float(apart.mean()))
    return Networks(
        n=prices.shape[1],
        median_factor=float(np.median(factor)),
        n_apart=int((factor > DISAGREEMENT).sum()),
        far=far,
    )


def _score_fold(
    fold: int,
    price: NDArray[np.floating],
    folds: NDArray[np.integer],
    predicted: Mapping[str, NDArray[np.floating]],
    groups: NDArray[np.integer] | None,
) -> FoldScore:
    inside = folds == fold
    own_groups = None if groups is None else groups[inside]
    errors = {
        name: smape_rows(price[inside], predicted[name][inside]) for name in _JUDGED
    }
    return FoldScore(
        fold=int(fold),
        n=int(inside.sum()),
        smape={name: float(rows.mean()) for name, rows in errors.items()},
        smape_se={
            name: standard_error(rows, own_groups) for name, rows in errors.items()
        },
    )


def _far_folds(scores: list[FoldScore]) -> list[str]:
    """Describe each fold whose network is far worse than the median fold."""
    middle = float(np.median([score.smape["network"] for score in scores]))
    return [
        f"Fold {score.fold + 1} of {len(scores)} has SMAPE {own:.1f} by its "
        f"network, the middle fold {middle:.1f}: that network went wrong, or its "
        f"products are unlike the others. Look at them, or train with another --seed."
        for score in scores
        if (own := score.smape["network"]) - middle
        > max(_FAR_POINTS, _FAR_ERRORS * score.smape_se["network"])
    ]


def _far_networks(networks: Networks | None) -> list[str]:
    """Describe each network far from the others; if none, whether all are far apart."""
    if networks is None:
        return []
    far, n, n_apart = networks.far, networks.n, networks.n_apart
    limit = max(_FAR_SHARE, _FAR_TIMES * float(np.median(far)))
    sentences = [
        f"The network of fold {fold + 1} is a factor of {DISAGREEMENT:g} or more away "
        f"from the others on {share:.0%} of {n:,} products: it went wrong, "
        f"or learned too little. Train with another --seed."
        for fold, share in enumerate(far)
        if share > limit
    ]
    if not sentences and n_apart > _APART_SHARE * n:
        return [
            f"The networks of the folds differ by more than a factor of "
            f"{DISAGREEMENT:g} on {n_apart:,} of {n:,} products: they learned little, "
            f"or the inputs hold little of the price."
        ]
    return sentences


def _wild_prices(
    predicted: Mapping[str, NDArray[np.floating]], low: float, high: float
) -> list[str]:
    chosen = predicted["chosen"]
    n_wild = int(((chosen > MARGIN * high) | (chosen < low / MARGIN)).sum())
    if not n_wild:
        return []
    return [
        f"{n_wild} of {len(chosen)} prices are more than {MARGIN:g} times outside the "
        f"true ones ({amount(low)} to {amount(high)}); they lie between "
        f"{amount(float(chosen.min()))} and {amount(float(chosen.max()))}."
    ]


def _far_errors(
    price: NDArray[np.floating], predicted: Mapping[str, NDArray[np.floating]]
) -> list[str]:
    """Compare absolute errors with the baseline's; a few wild prices show in them."""
    errors = {
        name: float(np.abs(price - predicted[name]).mean())
        for name in ("chosen", "median")
    }
    if errors["chosen"] <= errors["median"]:
        return []
    return [
        f"The mean absolute error, {amount(errors['chosen'])}, is above that of the "
        f"constant median, {amount(errors['median'])}: some prices are far off, or the "
        f"inputs hold nothing of the price."
    ]
