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

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from stack.blocks import alike
from stack.blocks.block import PriceBlock, log_price
from stack.blocks.inputs import BlockInputs, Known, Prices
from stack.blocks.mixture import FLAG, Parts, greatest, mix, penalty, take_pairs
from stack.blocks.nearest import unit_rows
from stack.blocks.terms import inverse_frequency, load_terms, save_terms, weigh

if TYPE_CHECKING:
    from scipy.sparse import csr_array

N_REFERENCES = 10_000
"""Largest number of products in a fit; a larger catalog is sampled. Memory grows with
the square (1 GB at 10,000, and 0.8 GB to learn the weights), time with the cube (some
seconds a fold, after half a minute to learn its weights)."""

_LARGEST = 4.0  # standard deviations
_CHUNK_VALUES = 1 << 22  # of the kernel in memory at a time


@dataclass(frozen=True, kw_only=True)
class References:
    """Products of known price that others are compared with."""

    idf: NDArray[np.float32]
    """Inverse document frequencies of each kind of terms, shape (3, N_COLUMNS)."""

    words: "tuple[csr_array, ...]"
    """TF-IDF of each kind, transposed: shape (N_COLUMNS, n)."""

    text: NDArray[np.float32]
    """Text features of length 1, shape (n, d)."""

    with_photo: NDArray[np.intp]
    """Numbers of the references that have a photo, shape (m,)."""

    image: NDArray[np.float32]
    """Image features of length 1 of references with a photo, shape (m, d)."""

    sizes: NDArray[np.float32]
    """Standardised attributes, with flags, shape (n, 2 a)."""

    scale: NDArray[np.float32]
    """Mean and standard deviation of each attribute, shape (2, a)."""

    log_price: NDArray[np.float32]
    """log1p price, shape (n,)."""

    folds: NDArray[np.integer]
    """Fold of each reference, shape (n,)."""

    def parts(self, products: BlockInputs) -> Parts:
        """Compare products (rows) with the references (columns)."""
        features = products.features
        image = np.zeros((len(products.texts), len(self.text)), np.float32)
        pictured = np.flatnonzero(features.image_ok)
        queries = unit_rows(features.image[pictured])
        image[np.ix_(pictured, self.with_photo)] = queries @ self.image.T
        return Parts(
            words=tuple(
                (weigh(counts, idf) @ by_term).toarray()
                for counts, idf, by_term in zip(
                    products.counts, self.idf, self.words, strict=True
                )
            ),
            text=unit_rows(features.text) @ self.text.T,
            image=image,
            sizes=_standardise(features.attributes, self.scale),
            other_sizes=self.sizes,
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

    references: References

    folds: tuple[int, ...]

    settings: NDArray[np.float32]
    """Settings of each fold, shape (n_folds, 12 + a), as in `start_settings`."""

    coefficients: NDArray[np.float32]
    """Coefficients of each fold, shape (n_folds, n); 0 for its own products."""

    intercepts: NDArray[np.float32]

    @classmethod
    def fit(cls, products: BlockInputs, prices: Prices, folder: Path) -> None:
        """Fit a kernel ridge for each fold on the rows of the others."""
        # Imported here, as an export has no torch.
        from stack.blocks.kernel_settings import learn_settings

        rows = np.flatnonzero(prices.folds >= 0)
        if len(rows) > N_REFERENCES:
            rng = np.random.default_rng(0)
            rows = np.sort(rng.choice(rows, N_REFERENCES, replace=False))
        _save_references(products, prices, rows, folder)
        parts = _all_pairs(_load_references(folder), products.take(rows))
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
        del known
        distinct = sorted(set(folds))
        return cls(
            references=_load_references(folder),
            folds=tuple(distinct),
            settings=read_rows(folder / "settings.npy")[distinct],
            coefficients=read_rows(folder / "coefficients.npy")[distinct],
            intercepts=read_rows(folder / "intercepts.npy")[distinct],
        )

    def predict(self, products: BlockInputs) -> NDArray[np.float32]:
        """Predict log1p prices, and describe the prices of the most alike.

        Each column is the mean over the folds, fitted on the prices outside each fold.
        """
        n = len(products.texts)
        chunks = []
        for rows in _chunks(n, self.coefficients.shape[1]):
            queries = products.take(rows) if len(rows) < n else products
            parts = self.references.parts(queries)
            by_fold = [self._describe(parts, place) for place in range(len(self.folds))]
            chunks.append(np.mean(by_fold, axis=0))
        return np.concatenate(chunks)

    def _describe(self, parts: Parts, place: int) -> NDArray[np.float32]:
        kernel = mix(parts, self.settings[place], np.exp)
        log_price = kernel @ self.coefficients[place] + self.intercepts[place]
        known = np.flatnonzero(self.references.folds != self.folds[place])
        most_alike = alike.describe(
            kernel[:, known] / greatest(self.settings[place]),
            self.references.log_price[known],
            parts.sizes,
            parts.other_sizes[known],
        )
        return np.concatenate([log_price[:, None], most_alike], axis=1)


def _all_pairs(references: References, products: BlockInputs) -> Parts:
    """Compare the references with themselves; cosines in float16, to spare memory."""
    n, n_kinds = len(products.texts), len(references.words)
    words = [np.empty((n, n), np.float16) for _ in range(n_kinds)]
    text, image = np.empty((n, n), np.float16), np.empty((n, n), np.float16)
    for rows in _chunks(n, n):
        parts = references.parts(products.take(rows))
        for matrix, cosines in zip(words, parts.words, strict=True):
            matrix[rows] = cosines
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
    """Return the ridge coefficients of `rows`, shape (len(rows),)."""
    from scipy.linalg import cho_factor, cho_solve

    matrix = np.empty((len(rows), len(rows)), np.float32)
    for chunk in _chunks(len(rows), len(rows)):
        block = take_pairs(parts, rows[chunk], rows)
        matrix[chunk] = mix(block, settings, np.exp)
    matrix[np.diag_indices_from(matrix)] += penalty(settings, np.exp)
    # The transpose is the same matrix in the memory order that LAPACK overwrites.
    factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    coefficients: NDArray[np.float32] = cho_solve(factor, target, check_finite=False)
    return coefficients


def _save_references(
    products: BlockInputs, prices: Prices, rows: NDArray[np.integer], folder: Path
) -> None:
    save_array(folder / "log_price.npy", prices.log_price[rows].astype(np.float32))
    save_array(folder / "folds.npy", prices.folds[rows])
    idf = np.stack([inverse_frequency(counts) for counts in products.counts])
    save_array(folder / "idf.npy", idf)
    references = products.take(rows)
    for kind, weighed in enumerate(map(weigh, references.counts, idf)):
        save_terms(folder, weighed, suffix=f"-{kind}")
    features = references.features
    # The scale is computed from sizes alone, not from prices.
    attributes = products.features.attributes
    scale = _scale(attributes)
    save_array(folder / "scale.npy", scale)
    save_array(folder / "sizes.npy", _standardise(features.attributes, scale))
    save_array(folder / "text.npy", unit_rows(features.text))
    with_photo = np.flatnonzero(features.image_ok)
    save_array(folder / "with_photo.npy", with_photo)
    save_array(folder / "image.npy", unit_rows(features.image[with_photo]))


def _load_references(folder: Path) -> References:
    def array(name: str) -> NDArray[Any]:
        return np.asarray(read_rows(folder / f"{name}.npy"))

    text, idf = array("text"), array("idf")
    words = [
        load_terms(folder, len(text), suffix=f"-{kind}") for kind in range(len(idf))
    ]
    return References(
        idf=idf,
        words=tuple(rows.T.tocsr() for rows in words),
        text=text,
        with_photo=array("with_photo"),
        image=array("image"),
        sizes=array("sizes"),
        scale=array("scale"),
        log_price=array("log_price"),
        folds=array("folds"),
    )


def _scale(attributes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation of the known values of each attribute."""
    scale = np.ones((2, attributes.shape[1]), np.float32)
    for place, column in enumerate(attributes.T):
        known = column[~np.isnan(column)].astype(np.float64)
        if len(known):
            scale[:, place] = known.mean(), max(known.std(), 1e-3)
    return scale


def _standardise(
    attributes: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    known = ~np.isnan(attributes)
    values = np.where(known, (attributes - scale[0]) / scale[1], 0)
    values = values.clip(-_LARGEST, _LARGEST)
    return np.concatenate([values, FLAG * known], axis=1).astype(np.float32)


def _chunks(n_rows: int, n_references: int) -> Iterator[NDArray[np.intp]]:
    step = max(1, _CHUNK_VALUES // n_references)
    for start in range(0, n_rows, step):
        yield np.arange(start, min(start + step, n_rows))
