"""What blocks are computed from: texts and features of products, and prices."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import InputError
from embed.table.encode import RARE
from stack.blocks.terms import count_terms

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of products, row by row; memmaps or arrays."""

    text: NDArray[Any]
    """Frozen text features, shape (n_products, d)."""

    image: NDArray[Any]
    """Frozen image features, shape (n_products, d)."""

    image_ok: NDArray[np.bool_]
    """True where there is a photo; elsewhere the image features are meaningless."""

    fused: NDArray[Any]
    """Aligned fused embeddings, shape (n_products, d)."""

    attributes: NDArray[np.float32]
    """Sizes and numbers of table columns, shape (n_products, a); NaN where unknown."""

    categories: NDArray[np.float32]
    """Codes of category columns, shape (n_products, c); NaN where unknown."""


def split_attributes(
    attributes: NDArray[np.float32], n_categories: int
) -> dict[str, NDArray[np.float32]]:
    """Split the attributes of products into numbers and the codes of categories.

    Parameters
    ----------
    attributes : ndarray of shape (n_products, a + n_categories)
    n_categories : int
        Number of category columns, which are the last ones.

    Returns
    -------
    dict of str to ndarray
        "attributes", shape (n_products, a), and "categories", shape (n_products,
        n_categories), as in `Features`.
    """
    n_numbers = attributes.shape[1] - n_categories
    return {
        "attributes": attributes[:, :n_numbers],
        "categories": attributes[:, n_numbers:],
    }


@dataclass(frozen=True, kw_only=True)
class BlockInputs:
    """Texts and features of the products that a block is computed for."""

    texts: Sequence[str]
    """Composed texts, as the encoder reads them, length n_products."""

    features: Features

    @cached_property
    def counts(self) -> "tuple[csr_array, ...]":
        """Counts from `count_terms` with categories as words, for several blocks."""
        texts = list(self.texts)
        for place, codes in enumerate(np.asarray(self.features.categories).T.tolist()):
            # A category is one more word, unless a single product has it.
            for row, code in enumerate(codes):
                if code > RARE:
                    texts[row] += f" category{place}is{code:.0f}"
        return count_terms(texts)

    def take(self, rows: NDArray[np.integer]) -> "BlockInputs":
        """Return the products in `rows`, in that order, in memory."""
        taken = {
            name: np.asarray(array[rows]) for name, array in vars(self.features).items()
        }
        texts = [self.texts[row] for row in rows.tolist()]
        products = BlockInputs(texts=texts, features=Features(**taken))
        if "counts" in vars(self):  # counting again would take longer
            vars(products)["counts"] = tuple(counts[rows] for counts in self.counts)
        return products


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices of the run's products.

    Raises
    ------
    InputError
        If the shapes differ, or a product that has a fold has no finite price.
    """

    log_price: NDArray[np.floating]
    """log1p of the price in units of the run, shape (n_products,); NaN: unpriced."""

    folds: NDArray[np.integer]
    """0 to n_folds - 1, shape (n_products,); -1 where unpriced."""

    def __post_init__(self) -> None:
        """Refuse prices that no block can be fitted on."""
        if self.log_price.shape != self.folds.shape:
            raise InputError(
                f"Prices: log_price and folds must have the same shape, got "
                f"{self.log_price.shape} and {self.folds.shape}"
            )
        bad = np.flatnonzero((self.folds >= 0) & ~np.isfinite(self.log_price)).tolist()
        if bad:
            raise InputError(
                f"Prices: log_price must be finite where a product has a fold, row "
                f"{bad[0]} (of {len(bad)} such) is {self.log_price[bad[0]]}. Give "
                f"unpriced rows fold -1."
            )

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.folds.max()) + 1

    def known_to(self, chosen: Collection[int]) -> NDArray[np.bool_]:
        """Mark the prices on which the networks of some folds have been trained.

        Parameters
        ----------
        chosen : collection of int
            Folds, one or more.

        Returns
        -------
        ndarray of shape (n_products,), bool
            True in all priced rows; for a single fold, only in those outside it.
        """
        priced = np.asarray(self.folds >= 0)
        distinct = set(chosen)
        return priced & (self.folds != distinct.pop()) if len(distinct) == 1 else priced


@dataclass(frozen=True, kw_only=True)
class Known:
    """Data of the run's products that blocks may need when they are loaded."""

    features: Features | None = None
    """Given if a block has `needs_features`."""

    prices: Prices | None = None
    """Given if a block has `needs_prices`."""
