"""Correct a ridge on few centres by the residuals of similar products.

Centres cannot reproduce a kernel of words: it has too many directions. Around a
product few of them matter, though: a small ridge on the residuals of the products with
the most similar content, with the same kernel, brings back most of what the whole
kernel gains. Rare terms and an index of text features find similar products, so the
time for a product hardly depends on the number of prices.

References
----------
Gyger, Furrer and Sigrist (2024), "Vecchia-Inducing-Points Full-Scale Approximations for
Gaussian Processes": inducing points for the whole, near points for the rest.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from stack.blocks import alike
from stack.blocks.index import DenseIndex, index_rows
from stack.blocks.inputs import BlockInputs, Known, Prices
from stack.blocks.mixture import (
    Parts,
    greatest,
    mix,
    mix_content,
    penalty,
    standardise,
    word_weights,
)
from stack.blocks.nearest import unit_rows
from stack.blocks.rare_terms import RareTerms, cosines_of_terms
from stack.blocks.references import References
from stack.blocks.terms import load_terms, save_terms, weigh

if TYPE_CHECKING:
    from scipy.sparse import csr_array

N_LOCAL = 64
"""Products in the ridge around a product. On the Amazon catalog 128 gain 0.2 SMAPE and
take four times as long."""

N_CANDIDATES, _BY_WORDS = 192, 96
_RARE = 500  # products; a term in more of them says little about each
_RESIDUALS, _INDEX = "residuals.npy", "text_index.npy"


@dataclass(frozen=True, kw_only=True)
class Described:
    """Products with what the kernel compares; row by row."""

    words: "tuple[csr_array, ...]"
    """TF-IDF of each kind, shape (n, N_COLUMNS)."""

    text: NDArray[Any]
    """Text features, shape (n, d)."""

    image: NDArray[Any]
    """Image features, shape (n, d)."""

    image_ok: NDArray[np.bool_]

    sizes: NDArray[np.float32]
    """Standardised attributes, with flags, shape (n, 2 a)."""

    rows: NDArray[np.intp] | None = None
    """Rows of the products in all fields but `words`, shape (n,); by default all."""

    def take(self, places: NDArray[np.intp]) -> "Described":
        """Return some of the products; features have length 1, or 0 without a photo."""
        rows = places if self.rows is None else self.rows[places]
        image_ok = self.image_ok[rows]
        image = np.zeros((len(rows), self.image.shape[1]), np.float32)
        image[image_ok] = unit_rows(self.image[rows[image_ok]])
        return Described(
            words=tuple(kind[places] for kind in self.words),
            text=unit_rows(self.text[rows]),
            image=image,
            image_ok=image_ok,
            sizes=self.sizes[rows],
        )

    def compare(self, others: "Described") -> Parts:
        """Compare products (rows) with others (columns), both from `take`."""
        if self.image_ok.any() and others.image_ok.any():
            image = self.image @ others.image.T
        else:
            image = np.zeros((len(self.text), len(others.text)), np.float32)
        return Parts(
            words=tuple(
                cosines_of_terms(kind, other)
                for kind, other in zip(self.words, others.words, strict=True)
            ),
            text=self.text @ others.text.T,
            image=image,
            sizes=self.sizes,
            other_sizes=others.sizes,
        )


@dataclass(frozen=True, kw_only=True)
class LocalRidge:
    """Residuals of all priced products, and how to find the similar ones."""

    products: Described
    """The n priced products."""

    log_price: NDArray[np.float32]
    folds: NDArray[np.integer]
    residuals: NDArray[np.float32]
    """Of the ridges on centres of some folds, shape (n_folds, n)."""

    index: DenseIndex
    """Text features of all priced products."""

    usable: NDArray[np.bool_]
    """Priced products that may be found, shape (n,)."""

    rare: RareTerms
    """Terms of the usable products."""

    kind_weights: NDArray[np.float32]
    """Factor on each kind of terms in that search."""

    @classmethod
    def load(
        cls,
        folder: Path,
        known: Known,
        folds: Collection[int],
        *,
        settings: NDArray[np.float32],
        scale: NDArray[np.float32],
    ) -> Self:
        """Load the residuals of some folds and the products that they may use."""
        features, prices = known.features, known.prices
        assert features is not None
        assert prices is not None
        rows = np.flatnonzero(prices.folds >= 0)
        words = tuple(
            load_terms(folder, len(rows), suffix=f"-all-{kind}") for kind in range(3)
        )
        usable = prices.known_to(folds)[rows]
        kind_weights = np.sqrt(word_weights(settings).mean(axis=0))
        return cls(
            products=Described(
                words=words,
                text=features.text,
                image=features.image,
                image_ok=np.asarray(features.image_ok),
                sizes=standardise(np.asarray(features.attributes), scale),
                rows=rows,
            ),
            log_price=prices.log_price[rows].astype(np.float32),
            folds=prices.folds[rows],
            residuals=read_rows(folder / _RESIDUALS)[sorted(set(folds))],
            index=DenseIndex.load(folder / _INDEX),
            usable=usable,
            rare=RareTerms(_side_by_side(words, kind_weights)[usable], _RARE),
            kind_weights=kind_weights,
        )

    @staticmethod
    def exists(folder: Path) -> bool:
        """Return whether a block has a local ridge."""
        return (folder / _RESIDUALS).exists()

    def describe(
        self,
        products: BlockInputs,
        centres: References,
        *,
        settings: NDArray[np.float32],
        folds: tuple[int, ...],
    ) -> NDArray[np.float32]:
        """Return the correction of the log price, and describe the most alike.

        Returns
        -------
        ndarray of shape (n_folds, n_products, 1 + len(alike.COLUMNS))
        """
        features = products.features
        queries = Described(
            words=tuple(map(weigh, products.counts, centres.idf)),
            text=np.asarray(features.text),
            image=np.asarray(features.image),
            image_ok=np.asarray(features.image_ok),
            sizes=standardise(np.asarray(features.attributes), centres.scale),
        )
        described = np.empty(
            (len(folds), len(products.texts), 1 + len(alike.COLUMNS)), np.float32
        )
        for row, near in enumerate(self._candidates(queries)):
            query, others = queries.take(np.array([row])), self.products.take(near)
            parts = query.compare(others)
            for place, fold in enumerate(folds):
                known = np.flatnonzero(self.folds[near] != fold)
                described[place, row] = self._of_product(
                    parts, others, near, known, settings[place], place
                )
        return described

    def _of_product(
        self,
        parts: Parts,
        others: Described,
        near: NDArray[np.intp],
        known: NDArray[np.intp],
        settings: NDArray[np.float32],
        place: int,
    ) -> NDArray[np.float32]:
        kernel = mix(parts, settings, np.exp)[0]
        content = mix_content(parts, settings, np.exp)[0, known]
        closest = known[np.argsort(-content, kind="stable")[:N_LOCAL]]
        around = others.take(closest)
        matrix = mix(around.compare(around), settings, np.exp)
        matrix[np.diag_indices(len(closest))] += penalty(settings, np.exp)
        dual = np.linalg.solve(matrix, self.residuals[place, near[closest]])
        most_alike = alike.describe(
            kernel[None, known] / greatest(settings),
            self.log_price[near[known]],
            parts.sizes,
            others.sizes[known],
        )
        return np.concatenate([[kernel[closest] @ dual], most_alike[0]])

    def _candidates(self, queries: Described) -> list[NDArray[np.intp]]:
        """Find products of similar content for each query, by words and by text."""
        words = self.rare.most_similar(
            _side_by_side(queries.words, self.kind_weights), _BY_WORDS
        )
        usable = np.flatnonzero(self.usable)
        n = min(N_CANDIDATES, len(usable))
        by_text, cosines = self.index.nearest(
            unit_rows(queries.text), n, allowed=self.usable
        )
        found = []
        for places, texts, known in zip(words, by_text, cosines != 0, strict=True):
            by_words, texts = usable[places], texts[known]
            more = texts[~np.isin(texts, by_words)]
            found.append(np.concatenate([by_words, more])[:n])
        return found


def save_local(
    products: BlockInputs,
    prices: Prices,
    residuals: NDArray[np.float32],
    idf: NDArray[np.float32],
    folder: Path,
) -> None:
    """Write the residuals, words and text index of the priced products."""
    rows = np.flatnonzero(prices.folds >= 0)
    save_array(folder / _RESIDUALS, residuals)
    for kind, counts in enumerate(products.counts):
        save_terms(folder, weigh(counts[rows], idf[kind]), suffix=f"-all-{kind}")
    index = index_rows(products.features.text, rows, unit_rows)
    index.save(folder / _INDEX)


def _side_by_side(
    words: "tuple[csr_array, ...]", kind_weights: NDArray[np.float32]
) -> "csr_array":
    from scipy.sparse import hstack

    weighed = [kind * weight for kind, weight in zip(words, kind_weights, strict=True)]
    return hstack(weighed, format="csr")
