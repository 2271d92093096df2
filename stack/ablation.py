"""What each block adds to the stacker: how much more it errs without it.

The trees are grown anew without each block, with one seed, and judged beside trees of
that seed that see all of them, out of fold and paired on the same products.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.smape import smape, to_price
from stack.config import StackConfig
from stack.verdict import paired_bootstrap

logger = logging.getLogger(__name__)


def left_out(blocks: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what to leave out, one after another.

    Parameters
    ----------
    blocks : sequence of str
        That the stacker sees.

    Returns
    -------
    list of tuple of str
        Each block by itself, but `start` with `kernel`, which it is made of. Without
        what would leave none.
    """
    each = [
        (block, "start") if block == "kernel" and "start" in blocks else (block,)
        for block in blocks
    ]
    return [names for names in each if len(names) < len(blocks)]


def fit_without_each(
    fit: Callable[[Sequence[str]], NDArray[np.float32]], blocks: Sequence[str]
) -> NDArray[np.float32]:
    """Fit the stacker on all blocks, then without each.

    Parameters
    ----------
    fit : callable
        Of the names of blocks; returns out-of-fold log1p prices, shape (n_products,).
    blocks : sequence of str

    Returns
    -------
    ndarray of shape (n_products, 1 + len(left_out(blocks))), float32
        log1p prices, those on all blocks first.
    """
    columns = [fit(blocks)]
    for names in left_out(blocks):
        logger.info("ablation: without %s", " and ".join(names))
        columns.append(fit([block for block in blocks if block not in names]))
    return np.stack(columns, axis=1)


def score_without_each(
    log_price: NDArray[np.floating],
    without: NDArray[np.floating],
    *,
    config: StackConfig,
    groups: NDArray[np.integer],
) -> list[dict[str, Any]]:
    """Say how much worse the stacker is without each block.

    Parameters
    ----------
    log_price : ndarray of shape (n,)
        log1p of the true prices.
    without : ndarray of shape (n, m)
        From `fit_without_each`, of the same products.
    config : StackConfig
        Blocks, resamples and seed.
    groups : ndarray of shape (n,), int
        Duplicates share a number.

    Returns
    -------
    list of dict
        `left_out` (names), `smape` without them, and `adds`: SMAPE without them less
        SMAPE with all, `mean`, `low` and `high` of its 95 % interval. What adds most
        comes first.
    """
    price, (whole, *others) = to_price(log_price), to_price(without).T
    found = [
        {
            "left_out": list(names),
            "smape": smape(price, predicted),
            "adds": asdict(
                paired_bootstrap(
                    price,
                    predicted,
                    whole,
                    n_bootstrap=config.n_bootstrap,
                    seed=config.seed,
                    groups=groups,
                )
            ),
        }
        for names, predicted in zip(left_out(config.blocks), others, strict=True)
    ]
    return sorted(found, key=lambda part: -part["adds"]["mean"])
