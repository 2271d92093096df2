"""Block `kernel`: the log price by a kernel ridge on words, sizes and embeddings.

Products are alike by words (w: cosines of TF-IDF, of the words of the whole text and of
the words and letters of its head), by frozen text and image features (t, i: cosines)
and by sizes (s: a Gaussian of their distance). The kernel is
w + s (1 + w + t + t³ + i + i³), each with a weight: that two products of one kind and
one size cost about the same is more than what kind and size say each for itself. The
weights, and how far each size reaches, are learned for each fold from the rows that it
is fitted on. By the same kernel it finds the products that are most alike.

References
----------
Saunders, Gammerman and Vovk (1998), "Ridge Regression Learning Algorithm in Dual
Variables". Products and sums of kernels are kernels.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from stack.blocks import alike
from stack.blocks.kinds import fit_kinds, kinds_of, weigh_kinds
from stack.blocks.mixture import FLAG, Parts, greatest, mix, penalty, take_pairs
from stack.blocks.products import Features, Prices, Products
from stack.blocks.terms import N_COLUMNS, Terms

COLUMNS = ("kernel-log-price", *(f"kernel-{name}" for name in alike.COLUMNS))
LOG_PRICES = ("kernel-log-price", *(f"kernel-{name}" for name in alike.PRICES))

N_REFERENCES = 10_000
"""Products that it is fitted on at most, a sample of larger catalogs: memory grows with
the square (1 GB at 10,000, and 0.8 GB to learn the weights), time with the cube (some
seconds a fold, after half a minute to learn its weights)."""

_LARGEST = 4.0  # standard deviations
_MATRIX = ("data", "indices", "indptr")
_CHUNK_VALUES = 1 << 22  # of the kernel in memory at once


@dataclass(frozen=True, kw_only=True)
class References:
    """Products to be compared with."""

    kinds: tuple[Terms, ...]
    words: tuple[csr_array, ...]
    """TF-IDF of each kind, transposed: shape (N_COLUMNS, n)."""

    text: NDArray[np.float32]
    """Of length 1, shape (n, d)."""

    with_photo: NDArray[np.intp]
    """Which of them have a photo, shape (m,)."""

    image: NDArray[np.float32]
    """Of those, of length 1, shape (m, d)."""

    sizes: NDArray[np.float32]
    """Standardised, with flags, shape (n, 2 a)."""

    scale: NDArray[np.float32]
    """Mean and standard deviation of each attribute, shape (2, a)."""

    log_price: NDArray[np.float32]
    """log1p price, shape (n,)."""

    folds: NDArray[np.integer]
    """Shape (n,)."""

    def parts(self, products: Products) -> Parts:
        """Return how products (rows) are like the references (columns)."""
        of = products.features
        weighed = weigh_kinds(self.kinds, products.counts)
        image = np.zeros((len(products.texts), len(self.text)), np.float32)
        seen = np.flatnonzero(of.image_ok)
        image[np.ix_(seen, self.with_photo)] = _unit(of.image[seen]) @ self.image.T
        return Parts(
            words=tuple(
                (rows @ by_term).toarray()
                for rows, by_term in zip(weighed, self.words, strict=True)
            ),
            text=_unit(of.text) @ self.text.T,
            image=image,
            sizes=_standardise(of.attributes, self.scale),
            other_sizes=self.sizes,
        )


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Kernel ridges of some folds, averaged."""

    references: References

    folds: tuple[int, ...]

    settings: NDArray[np.float32]
    """Of each fold, shape (n_folds, 12 + a), as `start_settings` has them."""

    coefficients: NDArray[np.float32]
    """Of each fold, shape (n_folds, n); 0 for its own products."""

    intercepts: NDArray[np.float32]

    def predict(self, products: Products) -> NDArray[np.float32]:
        """Return the columns of the block, shape (n_products, len(COLUMNS)).

        Means over the folds, each by the prices outside it.
        """
        n = len(products.texts)
        found = []
        for rows in _chunks(n, self.coefficients.shape[1]):
            some = products.take(rows) if len(rows) < n else products
            parts = self.references.parts(some)
            of_folds = [self._describe(parts, at) for at in range(len(self.folds))]
            found.append(np.mean(of_folds, axis=0))
        return np.concatenate(found)

    def _describe(self, parts: Parts, at: int) -> NDArray[np.float32]:
        kernel = mix(parts, self.settings[at], np.exp)
        log_price = kernel @ self.coefficients[at] + self.intercepts[at]
        known = np.flatnonzero(self.references.folds != self.folds[at])
        most_alike = alike.describe(
            kernel[:, known] / greatest(self.settings[at]),
            self.references.log_price[known],
            parts.sizes,
            parts.other_sizes[known],
        )
        return np.concatenate([log_price[:, None], most_alike], axis=1)


def fit(products: Products, prices: Prices, folder: Path) -> None:
    """Fit a kernel ridge for each fold on the rows of the others.

    Parameters
    ----------
    products : Products
        Of the run.
    prices : Prices
    folder : Path
        To keep the ridges, and the products that they compare with, in.
    """
    from stack.blocks.tuning import tune  # late: an export has no torch

    rows = np.flatnonzero(prices.folds >= 0)
    if len(rows) > N_REFERENCES:
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(rows, N_REFERENCES, replace=False))
    _save_references(products, prices, rows, folder)
    parts = _all_pairs(_load_references(folder), products.take(rows))
    log_price, known = prices.log_price[rows], prices.folds[rows]
    settings, coefficients = [], np.zeros((prices.n_folds, len(rows)), np.float32)
    intercepts = np.zeros(prices.n_folds, np.float32)
    for fold in range(prices.n_folds):
        settings.append(tune(parts, log_price, known, fold=fold))
        inside = np.flatnonzero(known != fold)
        intercepts[fold] = log_price[inside].mean()
        target = (log_price[inside] - intercepts[fold]).astype(np.float32)
        coefficients[fold, inside] = _fit_ridge(parts, settings[fold], inside, target)
    save_array(folder / "settings.npy", np.stack(settings))
    save_array(folder / "coefficients.npy", coefficients)
    save_array(folder / "intercepts.npy", intercepts)


def _all_pairs(references: References, products: Products) -> Parts:
    """Compare the references with themselves; cosines in float16, to spare memory."""
    n, n_kinds = len(products.texts), len(references.words)
    words = [np.empty((n, n), np.float16) for _ in range(n_kinds)]
    text, image = np.empty((n, n), np.float16), np.empty((n, n), np.float16)
    for rows in _chunks(n, n):
        parts = references.parts(products.take(rows))
        for to, cosines in zip(words, parts.words, strict=True):
            to[rows] = cosines
        text[rows], image[rows] = parts.text, parts.image
    sizes = references.sizes
    return Parts(
        words=tuple(words), text=text, image=image, sizes=sizes, other_sizes=sizes
    )


def _fit_ridge(
    parts: Parts,
    settings: NDArray[np.float32],
    rows: NDArray[np.intp],
    target: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the coefficients of some rows, shape (len(rows),)."""
    matrix = np.empty((len(rows), len(rows)), np.float32)
    for chunk in _chunks(len(rows), len(rows)):
        block = take_pairs(parts, rows[chunk], rows)
        matrix[chunk] = mix(block, settings, np.exp)
    matrix[np.diag_indices_from(matrix)] += penalty(settings, np.exp)
    # Symmetric, and transposed in the order of memory that LAPACK overwrites.
    factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    found: NDArray[np.float32] = cho_solve(factor, target, check_finite=False)
    return found


def load(
    folder: Path, features: Features, prices: Prices, folds: Collection[int]
) -> Kernel:
    """Load the kernel ridges of some folds.

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
    return Kernel(
        references=_load_references(folder),
        folds=tuple(chosen),
        settings=read_rows(folder / "settings.npy")[chosen],
        coefficients=read_rows(folder / "coefficients.npy")[chosen],
        intercepts=read_rows(folder / "intercepts.npy")[chosen],
    )


def _save_references(
    products: Products, prices: Prices, rows: NDArray[np.integer], folder: Path
) -> None:
    save_array(folder / "log_price.npy", prices.log_price[rows].astype(np.float32))
    save_array(folder / "folds.npy", prices.folds[rows])
    kinds = fit_kinds(products.texts)
    save_array(folder / "idf.npy", np.stack([kind.idf for kind in kinds]))
    references = products.take(rows)
    for at, weighed in enumerate(weigh_kinds(kinds, references.counts)):
        for name in _MATRIX:
            save_array(folder / f"{name}-{at}.npy", getattr(weighed, name))
    chosen = references.features
    # Of sizes alone; no price is in it.
    attributes = products.features.attributes
    scale = _scale(attributes)
    save_array(folder / "scale.npy", scale)
    save_array(folder / "sizes.npy", _standardise(chosen.attributes, scale))
    save_array(folder / "text.npy", _unit(chosen.text))
    with_photo = np.flatnonzero(chosen.image_ok)
    save_array(folder / "with_photo.npy", with_photo)
    save_array(folder / "image.npy", _unit(chosen.image[with_photo]))


def _load_references(folder: Path) -> References:
    def kept(name: str) -> NDArray[Any]:
        return np.asarray(read_rows(folder / f"{name}.npy"))

    text, kinds = kept("text"), kinds_of(kept("idf"))
    words = []
    for at in range(len(kinds)):
        parts = tuple(kept(f"{name}-{at}") for name in _MATRIX)
        words.append(csr_array(parts, shape=(len(text), N_COLUMNS)).T.tocsr())
    return References(
        kinds=kinds,
        words=tuple(words),
        text=text,
        with_photo=kept("with_photo"),
        image=kept("image"),
        sizes=kept("sizes"),
        scale=kept("scale"),
        log_price=kept("log_price"),
        folds=kept("folds"),
    )


def _scale(attributes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation of what is known of each attribute."""
    scale = np.ones((2, attributes.shape[1]), np.float32)
    for at, column in enumerate(attributes.T):
        known = column[~np.isnan(column)].astype(np.float64)
        if len(known):
            scale[:, at] = known.mean(), max(known.std(), 1e-3)
    return scale


def _standardise(
    attributes: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    known = ~np.isnan(attributes)
    values = np.where(known, (attributes - scale[0]) / scale[1], 0)
    values = values.clip(-_LARGEST, _LARGEST)
    return np.concatenate([values, FLAG * known], axis=1).astype(np.float32)


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Bring rows to length 1; those of zeros stay."""
    values = np.asarray(rows, np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    found: NDArray[np.float32] = values / np.maximum(length, np.float32(1e-6))
    return found


def _chunks(n_rows: int, n_references: int) -> Iterator[NDArray[np.intp]]:
    step = max(1, _CHUNK_VALUES // n_references)
    for start in range(0, n_rows, step):
        yield np.arange(start, min(start + step, n_rows))
