"""Block `neighbours`: prices of the most similar products whose price may be known.

Similarity counts in four spaces: frozen text features, frozen image features, the
aligned fused embedding, and the words of the text. Words find near-identical variants
better than embeddings do:
the weighted mean of the ten nearest scores 60.1 SMAPE by words, 63.5 by text features
and 66.8 by image features (two folds of the Amazon catalog).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from stack.blocks.nearest import DenseReferences, WordReferences, find_nearest
from stack.blocks.products import Features, Prices, Products
from stack.blocks.terms import N_COLUMNS, Terms

N_NEIGHBOURS = 10
"""Neighbours in each space. On the Amazon catalog, trees on 5 and 20 are within 0.15
SMAPE."""

SHARPNESS = 4
"""Power of the cosine that weighs a neighbour: plain cosines of embeddings differ
little. By text features, the mean of ten scores 64.3 SMAPE at 1 and 63.5 at 4."""

SPACES = ("text", "image", "fused", "words")
STATISTICS = (
    "mean",
    "weighted",
    "median",
    "spread",
    "least",
    "most",
    "nearest",
    "distance",
)
COLUMNS = tuple(f"neighbours-{space}-{name}" for space in SPACES for name in STATISTICS)
LOG_PRICES = tuple(
    f"neighbours-{space}-{name}"
    for space in SPACES
    for name in ("mean", "weighted", "median", "least", "most")
)

_KIND: dict[str, Any] = {"analyzer": "word", "lengths": (1, 2)}
_MATRIX = ("data", "indices", "indptr")
_CHUNK_VALUES = 1 << 24  # similarities in memory at a time


@dataclass(frozen=True, kw_only=True)
class Space:
    """References in one space, with their prices."""

    references: DenseReferences | WordReferences
    log_price: NDArray[np.float32]
    """log1p price of each reference."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Products of known price in all spaces, ready to search."""

    spaces: dict[str, Space]

    def predict(self, products: Products) -> NDArray[np.float32]:
        """Return the columns of the block, shape (n_products, len(COLUMNS)).

        NaN where there is no neighbour: without a photo, without a common word.
        """
        features, always = products.features, np.ones(len(products.texts), dtype=bool)
        queries: dict[str, tuple[Any, NDArray[np.bool_]]] = {
            "text": (features.text, always),
            "image": (features.image, np.asarray(features.image_ok)),
            "fused": (features.fused, always),
            "words": (products.counts[0], always),
        }
        parts = [_search(self.spaces[name], *queries[name]) for name in SPACES]
        return np.concatenate(parts, axis=1)


def fit(products: Products, prices: Prices, folder: Path) -> None:
    """Write the words of the priced products; the run already has their other features.

    Parameters
    ----------
    products : Products
        Products of the run.
    prices : Prices
    folder : Path
    """
    terms = Terms.fit(products.texts, **_KIND)
    priced = np.flatnonzero(prices.folds >= 0)
    rows = terms.weigh([products.texts[row] for row in priced.tolist()])
    save_array(folder / "idf.npy", terms.idf)
    for part in _MATRIX:
        save_array(folder / f"{part}.npy", getattr(rows, part))


def load(
    folder: Path, features: Features, prices: Prices, folds: Collection[int]
) -> Neighbours:
    """Load, as references, the products on whose prices the folds may be fitted.

    Parameters
    ----------
    folder : Path
        Folder that `fit` wrote to.
    features : Features
        Features of the run.
    prices : Prices
        Prices of the run.
    folds : collection of int

    Raises
    ------
    CacheError
        If a file is missing or damaged.
    """
    known = prices.known_to(folds)
    photo = known & np.asarray(features.image_ok)

    def dense(rows: NDArray[Any], is_reference: NDArray[np.bool_]) -> Space:
        return Space(
            references=DenseReferences(rows, np.flatnonzero(is_reference)),
            log_price=prices.log_price[is_reference].astype(np.float32),
        )

    return Neighbours(
        spaces={
            "text": dense(features.text, known),
            "image": dense(features.image, photo),
            "fused": dense(features.fused, known),
            "words": Space(
                references=_load_words(folder, known[prices.folds >= 0]),
                log_price=prices.log_price[known].astype(np.float32),
            ),
        }
    )


def _load_words(folder: Path, known: NDArray[np.bool_]) -> WordReferences:
    parts = tuple(np.asarray(read_rows(folder / f"{part}.npy")) for part in _MATRIX)
    rows = csr_array(parts, shape=(len(known), N_COLUMNS))
    terms = Terms(idf=np.asarray(read_rows(folder / "idf.npy")), **_KIND)
    return WordReferences(terms, rows[np.flatnonzero(known)])


def _search(
    space: Space, queries: NDArray[Any] | csr_array, wanted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Describe the neighbours of the wanted queries; NaN for the others."""
    described = np.full((len(wanted), len(STATISTICS)), np.nan, dtype=np.float32)
    if not len(space.log_price):  # a run without photos
        return described
    for rows in _chunks(np.flatnonzero(wanted), len(space.log_price)):
        similarity = space.references.similarity(queries[rows])
        places, cosine = find_nearest(similarity, N_NEIGHBOURS)
        described[rows] = _describe(space.log_price[places], cosine)
    return described


def _chunks(rows: NDArray[np.intp], n_references: int) -> Iterator[NDArray[np.intp]]:
    step = max(1, _CHUNK_VALUES // n_references)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _describe(
    log_price: NDArray[np.float32], cosine: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return `STATISTICS` of the neighbours; a cosine of 0 or less is no neighbour."""
    is_near = cosine > 0
    n = is_near.sum(axis=1)
    described = np.full((len(cosine), len(STATISTICS)), np.nan, dtype=np.float32)
    any_near = n > 0
    is_near, n = is_near[any_near], n[any_near]
    log_price, cosine = log_price[any_near], cosine[any_near]
    # NumPy's nanmean and similar functions take ten times as long for one product.
    price, near = np.where(is_near, log_price, 0), np.where(is_near, cosine, 0)
    mean, weight = price.sum(axis=1) / n, near**SHARPNESS
    spread = (np.where(is_near, price - mean[:, None], 0) ** 2).sum(axis=1) / n
    ordered = np.sort(np.where(is_near, log_price, np.inf), axis=1)
    row = np.arange(len(ordered))
    described[any_near] = np.stack(
        [
            mean,
            (price * weight).sum(axis=1) / weight.sum(axis=1),
            (ordered[row, (n - 1) // 2] + ordered[row, n // 2]) / 2,
            np.sqrt(spread),
            ordered[:, 0],
            ordered[row, n - 1],
            1 - near.max(axis=1),
            1 - near.sum(axis=1) / n,
        ],
        axis=1,
    )
    return described
