"""Fit block `kernel` on all prices of a large catalog, in bounded memory.

The ridge of each fold has a sample of the products as centres and all products outside
the fold as targets. `local` corrects it by its residuals.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.store.durable import save_array
from stack.blocks.centres import CentreRidge
from stack.blocks.inputs import BlockInputs, Prices
from stack.blocks.kernel_settings import learn_settings
from stack.blocks.local import save_local
from stack.blocks.mixture import mix, penalty, take_pairs
from stack.blocks.references import (
    References,
    all_pairs,
    chunks,
    load_references,
    save_references,
)

N_LEARNED = 5000
"""Largest number of products that the settings are learned from."""

N_CENTRES = 2000
"""Largest number of centres; time grows with its square."""


def fit_on_centres(
    products: BlockInputs, prices: Prices, folder: Path, *, n_centres: int
) -> None:
    """Write the settings, centres, coefficients and residuals of each fold.

    Parameters
    ----------
    products, prices, folder
        As for `PriceBlock.fit`.
    n_centres : int
        Largest number of centres, if it is less than `N_CENTRES`.
    """
    priced = np.flatnonzero(prices.folds >= 0)
    drawn = np.random.default_rng(0).permutation(priced)
    settings = _learn(products, prices, np.sort(drawn[:N_LEARNED]), folder)
    centres = np.sort(drawn[: min(n_centres, N_CENTRES)])
    save_references(products, prices, centres, folder)
    references = load_references(folder)
    log_price, folds = prices.log_price[priced], prices.folds[priced]
    is_inside = folds != np.arange(prices.n_folds)[:, None]
    intercepts = np.array([log_price[inside].mean() for inside in is_inside], "f4")
    targets = np.where(is_inside, log_price - intercepts[:, None], 0).astype("f4")
    coefficients = np.zeros((prices.n_folds, len(centres)), np.float32)
    ridges = _ridges(references, products.take(centres), settings)
    for rows, fold, kernel in _kernels(references, products, priced, settings):
        known = rows[is_inside[fold, rows]]
        ridges[fold].add(kernel[is_inside[fold, rows]], targets[fold, known])
    for fold, ridge in enumerate(ridges):
        coefficients[fold, references.folds != fold] = ridge.solve()
    del ridges
    for rows, fold, kernel in _kernels(references, products, priced, settings):
        targets[fold, rows] -= kernel @ coefficients[fold, references.folds != fold]
    save_array(folder / "settings.npy", settings)
    save_array(folder / "coefficients.npy", coefficients)
    save_array(folder / "intercepts.npy", intercepts)
    save_local(products, prices, targets, references.idf, folder)


def _learn(
    products: BlockInputs, prices: Prices, rows: NDArray[np.integer], folder: Path
) -> NDArray[np.float32]:
    """Learn the settings of each fold from some products."""
    save_references(products, prices, rows, folder)
    parts = all_pairs(load_references(folder), products.take(rows))
    log_price, folds = prices.log_price[rows], prices.folds[rows]
    return np.stack(
        [
            learn_settings(parts, log_price, folds, fold=fold)
            for fold in range(prices.n_folds)
        ]
    )


def _ridges(
    references: References, centres: BlockInputs, settings: NDArray[np.float32]
) -> list[CentreRidge]:
    """Begin the ridge of each fold, on the centres outside it."""
    parts = all_pairs(references, centres)
    ridges = []
    for fold, of_fold in enumerate(settings):
        inside = np.flatnonzero(references.folds != fold)
        between = mix(take_pairs(parts, inside, inside), of_fold, np.exp)
        ridges.append(CentreRidge(between, float(penalty(of_fold, np.exp))))
    return ridges


def _kernels(
    references: References,
    products: BlockInputs,
    priced: NDArray[np.intp],
    settings: NDArray[np.float32],
) -> Iterator[tuple[NDArray[np.intp], int, NDArray[np.float32]]]:
    """Yield places in `priced`, a fold, their kernel with the centres outside it."""
    for rows in chunks(len(priced), len(references.folds)):
        parts = references.parts(products.take(priced[rows]))
        for fold, of_fold in enumerate(settings):
            yield rows, fold, mix(parts, of_fold, np.exp)[:, references.folds != fold]
