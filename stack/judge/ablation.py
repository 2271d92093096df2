"""What each block adds to the stacker: how much more it errs without it.

The trees are grown anew without each block, with one seed and no trials, and judged
beside trees of that seed that see all of them, out of fold and paired on the same
products. All begin at the network's price, or at `start`, so these two are not left
out; but `kernel` takes `start` along, which is made of it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from finetune.score import smape_rows, to_price
from stack.judge.verdict import standard_error

logger = logging.getLogger(__name__)

_BEGINNINGS = ("network", "start")


def left_out(blocks: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what to leave out, one after another.

    Parameters
    ----------
    blocks : sequence of str
        That the stacker sees.

    Returns
    -------
    list of tuple of str
        Empty if nothing can be left out.
    """
    each = [
        (block, "start") if block == "kernel" and "start" in blocks else (block,)
        for block in blocks
        if block not in _BEGINNINGS
    ]
    return [names for names in each if len(names) < len(blocks)]


def fit_without_each(
    fit: Callable[[Sequence[str]], NDArray[np.float32]],
    blocks: Sequence[str],
    folder: Path,
) -> None:
    """Fit the stacker on all blocks, then without each; what is there is taken.

    Parameters
    ----------
    fit : callable
        Of the names of blocks; returns out-of-fold log1p prices, shape (n_products,).
    blocks : sequence of str
    folder : Path
        Gets the log prices of each fit: all.npy, kernel+start.npy and so on.
    """
    folder.mkdir(exist_ok=True)
    for names, path in _paths(blocks, folder).items():
        if path.exists():
            continue
        what = f"without {' and '.join(names)}" if names else "with all blocks"
        logger.info("ablation: %s", what)
        save_array(path, fit([block for block in blocks if block not in names]))


def read_without_each(
    blocks: Sequence[str], folder: Path
) -> dict[tuple[str, ...], NDArray[np.float32]] | None:
    """Read what `fit_without_each` wrote.

    Returns
    -------
    dict of tuple of str to ndarray of shape (n_products,), float32, or None
        log1p prices by what is left out; None if a file is missing.
    """
    paths = _paths(blocks, folder)
    if not all(path.exists() for path in paths.values()):
        return None
    return {names: read_rows(path) for names, path in paths.items()}


def score_without_each(
    log_price: NDArray[np.floating],
    found: Mapping[tuple[str, ...], NDArray[np.floating]],
    *,
    groups: NDArray[np.integer],
) -> list[dict[str, Any]]:
    """Say how much worse the stacker is without each block.

    Parameters
    ----------
    log_price : ndarray of shape (n,)
        log1p of the true prices.
    found : mapping of tuple of str to ndarray of shape (n,)
        From `read_without_each`, of these products.
    groups : ndarray of shape (n,), int
        Duplicates share a number.

    Returns
    -------
    list of dict
        `left_out` (names), `smape`, and `adds`: SMAPE without them less SMAPE with all,
        `adds_se` its standard error over products (not over seeds). All blocks come
        first, with None for both; then what adds most.
    """
    if not found:
        return []
    price = to_price(log_price)
    rows = {names: smape_rows(price, to_price(of)) for names, of in found.items()}
    whole = rows.pop(())
    scores: list[dict[str, Any]] = [
        {
            "left_out": list(names),
            "smape": float(of.mean()),
            "adds": float((of - whole).mean()),
            "adds_se": standard_error(of - whole, groups),
        }
        for names, of in rows.items()
    ]
    scores.sort(key=lambda part: -part["adds"])
    first = {"left_out": [], "smape": float(whole.mean()), "adds": None}
    return [{**first, "adds_se": None}, *scores]


def _paths(blocks: Sequence[str], folder: Path) -> dict[tuple[str, ...], Path]:
    without = left_out(blocks)
    return {
        names: folder / f"{'+'.join(names) or 'all'}.npy"
        for names in ([(), *without] if without else [])
    }
