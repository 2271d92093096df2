"""Ablation: how much worse the stacker is without each block.

The trees are grown again without each block, with one seed and no trials. They are
compared with trees of the same seed on all blocks, out of fold and paired on the same
products. A block that others are computed from is left out with them. The blocks that
the trees can start from are not left out alone.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from finetune.score import smape_rows, to_price
from stack.blocks.registry import BLOCKS, STARTS
from stack.judge.verdict import standard_error
from stack.records import AblationScore

logger = logging.getLogger(__name__)

ABLATION_DIR = "ablation"
"""Folder of the log prices without each block, in the stacking stage's folder."""


def left_out(blocks: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the blocks to leave out, one fit after another.

    Parameters
    ----------
    blocks : sequence of str
        Blocks that the stacker is fitted on.

    Returns
    -------
    list of tuple of str
        Empty if nothing can be left out.
    """
    parts = [
        (block, *(other for other in blocks if block in BLOCKS[other].computed_from))
        for block in blocks
        if block not in STARTS
    ]
    return [names for names in parts if len(names) < len(blocks)]


def fit_without_each(
    fit: Callable[[Sequence[str]], NDArray[np.float32]],
    blocks: Sequence[str],
    folder: Path,
) -> None:
    """Fit the stacker on all blocks, then without each; keep fits that exist already.

    Parameters
    ----------
    fit : callable
        Takes names of blocks; returns out-of-fold log1p prices, shape (n_products,).
    blocks : sequence of str
    folder : Path
        Gets the log prices of each fit: all.npy, kernel+start.npy and so on.
    """
    folder.mkdir(exist_ok=True)
    paths = _paths(blocks, folder)
    for number, (names, path) in enumerate(paths.items(), 1):
        if path.exists():
            continue
        description = f"without {' and '.join(names)}" if names else "with all blocks"
        logger.info("ablation, %d of %d: %s", number, len(paths), description)
        save_array(path, fit([block for block in blocks if block not in names]))


def read_without_each(
    blocks: Sequence[str], folder: Path
) -> dict[tuple[str, ...], NDArray[np.float32]] | None:
    """Read the log prices that `fit_without_each` wrote.

    Returns
    -------
    dict of tuple of str to ndarray of shape (n_products,), float32, or None
        log1p prices by the blocks left out; None if a file is missing.
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
) -> list[AblationScore]:
    """Measure how much worse the stacker is without each block.

    Parameters
    ----------
    log_price : ndarray of shape (n,)
        log1p of the true prices.
    found : mapping of tuple of str to ndarray of shape (n,)
        Log prices of these products from `read_without_each`.
    groups : ndarray of shape (n,), int
        Duplicates share a number.

    Returns
    -------
    list of AblationScore
        The fit on all blocks comes first; then the largest `adds` first.
    """
    if not found:
        return []
    price = to_price(log_price)
    errors = {
        names: smape_rows(price, to_price(predicted))
        for names, predicted in found.items()
    }
    all_blocks = errors.pop(())
    losses = {names: rows - all_blocks for names, rows in errors.items()}
    return [
        AblationScore(
            left_out=[], smape=float(all_blocks.mean()), adds=None, adds_se=None
        ),
        *(
            AblationScore(
                left_out=list(names),
                smape=float(errors[names].mean()),
                adds=float(loss.mean()),
                adds_se=standard_error(loss, groups),
            )
            for names, loss in sorted(losses.items(), key=lambda of: -of[1].mean())
        ),
    ]


def _paths(blocks: Sequence[str], folder: Path) -> dict[tuple[str, ...], Path]:
    without = left_out(blocks)
    return {
        names: folder / f"{'+'.join(names) or 'all'}.npy"
        for names in ([(), *without] if without else [])
    }
