"""Products of known price that block `kernel` compares others with."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from stack.blocks.inputs import BlockInputs, Prices
from stack.blocks.mixture import Parts, standardise
from stack.blocks.nearest import unit_rows
from stack.blocks.terms import inverse_frequency, load_terms, save_terms, weigh

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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
            sizes=standardise(features.attributes, self.scale),
            other_sizes=self.sizes,
        )


def all_pairs(references: References, products: BlockInputs) -> Parts:
    """Compare the references with themselves; cosines in float16, to spare memory."""
    n, n_kinds = len(products.texts), len(references.words)
    words = [np.empty((n, n), np.float16) for _ in range(n_kinds)]
    text, image = np.empty((n, n), np.float16), np.empty((n, n), np.float16)
    for rows in chunks(n, n):
        parts = references.parts(products.take(rows))
        for matrix, cosines in zip(words, parts.words, strict=True):
            matrix[rows] = cosines
        text[rows], image[rows] = parts.text, parts.image
    sizes = references.sizes
    return Parts(
        words=tuple(words), text=text, image=image, sizes=sizes, other_sizes=sizes
    )


def save_references(
    products: BlockInputs, prices: Prices, rows: NDArray[np.integer], folder: Path
) -> None:
    """Write some priced products as references."""
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
    save_array(folder / "sizes.npy", standardise(features.attributes, scale))
    save_array(folder / "text.npy", unit_rows(features.text))
    with_photo = np.flatnonzero(features.image_ok)
    save_array(folder / "with_photo.npy", with_photo)
    save_array(folder / "image.npy", unit_rows(features.image[with_photo]))


def load_references(folder: Path) -> References:
    """Load the references that `save_references` wrote."""

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


def chunks(n_rows: int, n_references: int) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of chunks whose kernel with the references fits in memory."""
    step = max(1, _CHUNK_VALUES // n_references)
    for start in range(0, n_rows, step):
        yield np.arange(start, min(start + step, n_rows))
