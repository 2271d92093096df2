"""Block `kernel`: a kernel ridge on words, sizes and embeddings predicts log prices.

The kernel compares words (w: cosines of TF-IDF, for the words of the whole text and the
words and letters of its head), frozen text and image features (t, i: cosines) and sizes
(s: a Gaussian of their distance). It is w + s (1 + w + t + t³ + i + i³), each term with
a weight: products of the same kind and the same size cost about the same, which kind
and size alone do not capture. The weights and the scale of each size are learned for
each fold from the rows that it is fitted on. The same kernel finds the most similar
products.

References
----------
Saunders, Gammerman and Vovk (1998), "Ridge Regression Learning Algorithm in Dual
Variables". Products and sums of kernels are kernels.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from stack.blocks import alike
from stack.blocks.block import EXACT_UP_TO, PriceBlock, log_price
from stack.blocks.inputs import BlockInputs, Known, Prices
from stack.blocks.local import LocalRidge
from stack.blocks.mixture import Parts, greatest, mix, penalty, take_pairs
from stack.blocks.references import (
    References,
    all_pairs,
    chunks,
    load_references,
    save_references,
)


@dataclass(frozen=True, kw_only=True)
class Kernel(PriceBlock):
    """Kernel ridges of some folds, averaged."""

    name = "kernel"
    label = "price by kernel ridge"
    columns = (
        log_price("kernel-log-price", "the price by a kernel ridge on words and sizes"),
        *(column._replace(name=f"kernel-{column.name}") for column in alike.COLUMNS),
    )

    needs_prices = needs_features = True  # beyond `exact_up_to`

    references: References
    """Priced products: all, or the centres if there are too many."""

    folds: tuple[int, ...]

    settings: NDArray[np.float32]
    """Settings of each fold, shape (n_folds, 12 + a), as in `start_settings`."""

    coefficients: NDArray[np.float32]
    """Coefficients of each fold, shape (n_folds, n); 0 for its own products."""

    intercepts: NDArray[np.float32]

    local: LocalRidge | None
    """Correction by similar products, if the references are centres."""

    @classmethod
    def fit(
        cls,
        products: BlockInputs,
        prices: Prices,
        folder: Path,
        *,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        """Fit a kernel ridge for each fold on the rows of the others."""
        # Imported here, as an export has no torch.
        from stack.blocks.all_prices import fit_on_centres
        from stack.blocks.kernel_settings import learn_settings

        rows = np.flatnonzero(prices.folds >= 0)
        if len(rows) > exact_up_to:
            fit_on_centres(products, prices, folder, n_centres=exact_up_to)
            return
        save_references(products, prices, rows, folder)
        parts = all_pairs(load_references(folder), products.take(rows))
        log_price, folds = prices.log_price[rows], prices.folds[rows]
        settings, coefficients = [], np.zeros((prices.n_folds, len(rows)), np.float32)
        intercepts = np.zeros(prices.n_folds, np.float32)
        for fold in range(prices.n_folds):
            settings.append(learn_settings(parts, log_price, folds, fold=fold))
            inside = np.flatnonzero(folds != fold)
            intercepts[fold] = log_price[inside].mean()
            target = (log_price[inside] - intercepts[fold]).astype(np.float32)
            coefficients[fold, inside] = _fit_ridge(
                parts, settings[fold], inside, target
            )
        save_array(folder / "settings.npy", np.stack(settings))
        save_array(folder / "coefficients.npy", coefficients)
        save_array(folder / "intercepts.npy", intercepts)

    @classmethod
    def load(cls, folder: Path, known: Known, folds: Collection[int]) -> Self:
        """Load the kernel ridges of some folds, with the references that they share."""
        distinct = sorted(set(folds))
        references = load_references(folder)
        settings = read_rows(folder / "settings.npy")[distinct]
        local = None
        if LocalRidge.exists(folder):
            local = LocalRidge.load(
                folder, known, distinct, settings=settings, scale=references.scale
            )
        return cls(
            references=references,
            folds=tuple(distinct),
            settings=settings,
            coefficients=read_rows(folder / "coefficients.npy")[distinct],
            intercepts=read_rows(folder / "intercepts.npy")[distinct],
            local=local,
        )

    def predict(self, products: BlockInputs) -> NDArray[np.float32]:
        """Predict log1p prices, and describe the prices of the most alike.

        Each column is the mean over the folds, fitted on the prices outside each fold.
        """
        n = len(products.texts)
        described = []
        for rows in chunks(n, self.coefficients.shape[1]):
            queries = products.take(rows) if len(rows) < n else products
            described.append(np.mean(self._by_fold(queries), axis=0))
        return np.concatenate(described)

    def _by_fold(self, products: BlockInputs) -> list[NDArray[np.float32]]:
        parts, by_fold = self.references.parts(products), []
        local = None
        if self.local is not None:
            local = self.local.describe(
                products, self.references, settings=self.settings, folds=self.folds
            )
        for place in range(len(self.folds)):
            kernel = mix(parts, self.settings[place], np.exp)
            log_price = kernel @ self.coefficients[place] + self.intercepts[place]
            if local is None:
                most_alike = self._most_alike(kernel, parts, place)
            else:
                correction, most_alike = local[place, :, 0], local[place, :, 1:]
                log_price = log_price + correction
            by_fold.append(np.concatenate([log_price[:, None], most_alike], axis=1))
        return by_fold

    def _most_alike(
        self, kernel: NDArray[np.float32], parts: Parts, place: int
    ) -> NDArray[np.float32]:
        known = np.flatnonzero(self.references.folds != self.folds[place])
        return alike.describe(
            kernel[:, known] / greatest(self.settings[place]),
            self.references.log_price[known],
            parts.sizes,
            parts.other_sizes[known],
        )


def _fit_ridge(
    parts: Parts,
    settings: NDArray[np.float32],
    rows: NDArray[np.intp],
    target: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the ridge coefficients of `rows`, shape (len(rows),)."""
    from scipy.linalg import cho_factor, cho_solve

    matrix = np.empty((len(rows), len(rows)), np.float32)
    for chunk in chunks(len(rows), len(rows)):
        block = take_pairs(parts, rows[chunk], rows)
        matrix[chunk] = mix(block, settings, np.exp)
    matrix[np.diag_indices_from(matrix)] += penalty(settings, np.exp)
    # The transpose is the same matrix in the memory order that LAPACK overwrites.
    factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    coefficients: NDArray[np.float32] = cho_solve(factor, target, check_finite=False)
    return coefficients
