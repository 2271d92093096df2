"""Block `lexical`: the log price that the words alone suggest.

A ridge on TF-IDF of the words of the whole text, the words of its head and the letters
of its head. Out of fold on two folds of the Amazon catalog, SMAPE is 56.7; words of
the whole text alone give 58.9, its letters 59.6, and both 58.6.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack
from sklearn.linear_model import Ridge

from embed.arrays import read_rows
from embed.durable import save_array
from stack.blocks.head import read_head
from stack.blocks.products import Features, Prices, Products
from stack.blocks.terms import Terms

COLUMNS = ("lexical-log-price",)

ALPHA = 0.7
"""L2 penalty. 0.4 to 1.0 are within 0.05 SMAPE on two folds of the Amazon catalog."""

_KINDS: tuple[tuple[Literal["word", "char_wb"], tuple[int, int]], ...] = (
    ("word", (1, 2)),  # of the whole text
    ("word", (1, 2)),  # of its head
    ("char_wb", (3, 5)),  # of its head: of the whole, letters are too many
)
_TOLERANCE = 1e-3  # of the solver; 1e-4 changes SMAPE by 0.02 and takes twice as long


@dataclass(frozen=True, kw_only=True)
class Lexical:
    """Ridges of some folds, averaged."""

    terms: tuple[Terms, ...]
    weights: NDArray[np.float32]
    intercept: np.float32

    def predict(self, products: Products) -> NDArray[np.float32]:
        """Return the log1p price by words, shape (n_products, 1)."""
        found = _matrix(self.terms, products.texts) @ self.weights + self.intercept
        return np.asarray(found, dtype=np.float32)[:, None]


def fit(products: Products, prices: Prices, folder: Path) -> None:
    """Fit a ridge for each fold on the rows of the others.

    Parameters
    ----------
    products : Products
        Of the run.
    prices : Prices
    folder : Path
        To keep the ridges in.
    """
    parts = _parts(products.texts)
    terms = tuple(
        Terms.fit(part, analyzer=analyzer, lengths=lengths)
        for part, (analyzer, lengths) in zip(parts, _KINDS, strict=True)
    )
    matrix = _matrix(terms, products.texts)
    ridges = []
    for fold in range(prices.n_folds):
        rows = np.flatnonzero(prices.known_to([fold]))
        ridge = Ridge(alpha=ALPHA, solver="sparse_cg", tol=_TOLERANCE)
        ridges.append(ridge.fit(matrix[rows], prices.log_price[rows]))
    for name, values in (
        ("idf", [kind.idf for kind in terms]),
        ("weights", [ridge.coef_ for ridge in ridges]),
        ("intercepts", [ridge.intercept_ for ridge in ridges]),
    ):
        save_array(folder / f"{name}.npy", np.array(values, dtype=np.float32))


def load(
    folder: Path, features: Features, prices: Prices, folds: Collection[int]
) -> Lexical:
    """Load the ridges of some folds.

    Parameters
    ----------
    folder : Path
        That `fit` wrote to.
    features, prices
        Not needed.
    folds : collection of int

    Raises
    ------
    CacheError
        If a file is missing or damaged.
    """
    del features, prices
    chosen = sorted(set(folds))
    idf = read_rows(folder / "idf.npy")
    return Lexical(
        terms=tuple(
            Terms(analyzer=analyzer, lengths=lengths, idf=np.array(of_kind))
            for (analyzer, lengths), of_kind in zip(_KINDS, idf, strict=True)
        ),
        weights=read_rows(folder / "weights.npy")[chosen].mean(axis=0),
        intercept=read_rows(folder / "intercepts.npy")[chosen].mean(),
    )


def _matrix(terms: Sequence[Terms], texts: Sequence[str]) -> csr_array:
    parts = zip(terms, _parts(texts), strict=True)
    return hstack([kind.weigh(part) for kind, part in parts], format="csr")


def _parts(texts: Sequence[str]) -> tuple[Sequence[str], list[str], list[str]]:
    """Return what the kinds of terms are taken from."""
    heads = [f"{head.amount} {head.name}" for head in map(read_head, texts)]
    return texts, heads, heads
