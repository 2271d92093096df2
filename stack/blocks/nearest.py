"""Find the reference products nearest by cosine, in bounded memory.

Each query is compared with all references, or, in a large catalog, with those that an
index (`IndexedReferences`) or rare terms (`RareWordReferences`) find.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import InputError
from embed.store.arrays import release_rows
from stack.blocks.index import DenseIndex
from stack.blocks.rare_terms import RareTerms, cosines_of_terms
from stack.blocks.terms import weigh

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_HELD_BYTES = 1 << 29  # references of one space up to this size stay in memory
_CHUNK_ROWS = 8192
_CHUNK_VALUES = 1 << 24  # similarities in memory at a time
_COMPARED = 200  # references with the same rare words that are compared by all words
_TIE = 1e-5  # cosines that differ by less differ only by rounding


class References(ABC):
    """Products that others are compared with."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of references."""

    @abstractmethod
    def nearest(
        self, queries: Any, n: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Find the `n` references most similar to each query, as in `find_nearest`."""


class ExactReferences(References):
    """References that are all compared with each query."""

    @abstractmethod
    def similarity(self, queries: Any) -> NDArray[np.float32]:
        """Return the cosines with some queries, shape (n_queries, n)."""

    def nearest(
        self, queries: Any, n: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Find the `n` references most similar to each query, as in `find_nearest`."""
        step = max(1, _CHUNK_VALUES // max(1, len(self)))
        chunks = [
            find_nearest(self.similarity(queries[start : start + step]), n)
            for start in range(0, max(1, queries.shape[0]), step)
        ]
        places, cosines = zip(*chunks, strict=True)
        return np.concatenate(places), np.concatenate(cosines)


class DenseReferences(ExactReferences):
    """Rows of an array of embeddings as references.

    Parameters
    ----------
    rows : ndarray of shape (n_products, d)
        float16 or float32, usually a memmap.
    which : ndarray of shape (n,), int
        The rows that are references.
    hold : bool
        Hold the references in memory if they are few; otherwise, they are read again
        for each comparison.
    """

    def __init__(
        self, rows: NDArray[Any], which: NDArray[np.integer], *, hold: bool = True
    ) -> None:
        self._rows, self._which = rows, which
        self._held: NDArray[np.float32] | None = None
        if hold and 4 * len(which) * rows.shape[1] <= _HELD_BYTES:
            self._held = self._read(slice(None))

    def __len__(self) -> int:
        return len(self._which)

    def similarity(self, queries: NDArray[Any]) -> NDArray[np.float32]:
        """Return cosines of shape (n_queries, n) with queries of shape (n_queries, d).

        The cosines of a row of zeros are 0.
        """
        units = unit_rows(queries)
        if self._held is not None:
            return units @ self._held.T
        cosines = np.zeros((len(units), len(self._which)), dtype=np.float32)
        for start in range(0, len(self._which), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            cosines[:, chunk] = units @ self._read(chunk).T
        return cosines

    def _read(self, chunk: slice) -> NDArray[np.float32]:
        units = unit_rows(self._rows[self._which[chunk]])
        release_rows(self._rows)
        return units


class WordReferences(ExactReferences):
    """TF-IDF rows of texts as references.

    Parameters
    ----------
    idf : ndarray of shape (d,), float32
        Inverse document frequencies that the rows are weighed by.
    rows : csr_array of shape (n, d), float32
        Weighed terms from `weigh`.
    """

    def __init__(self, idf: NDArray[np.float32], rows: "csr_array") -> None:
        self._idf = idf
        self._by_term = rows.T.tocsr()  # a query reads only the rows of its own terms

    def __len__(self) -> int:
        return int(self._by_term.shape[1])

    def similarity(self, queries: "csr_array") -> NDArray[np.float32]:
        """Return cosines of shape (n_queries, n) with the counts from `count_terms`.

        A cosine is 0 without a common word.
        """
        cosines = weigh(queries, self._idf) @ self._by_term
        return np.asarray(cosines.toarray(), dtype=np.float32)


class IndexedReferences(References):
    """Rows of an array of embeddings, found by an index.

    Parameters
    ----------
    index : DenseIndex
    effort : int
        Effort of a search, as in `DenseIndex`.
    usable : ndarray of shape (len(index),), bool
        Rows of the index that are references.
    """

    def __init__(
        self, index: DenseIndex, effort: int, usable: NDArray[np.bool_]
    ) -> None:
        self._index, self._effort, self._usable = index, effort, usable
        self._numbers = np.cumsum(usable) - 1

    def __len__(self) -> int:
        return int(self._usable.sum())

    def nearest(
        self, queries: Any, n: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Find references similar to each query; cosine 0 where there are fewer."""
        n = min(n, len(self))
        places, cosines = self._index.nearest(
            unit_rows(queries), n, effort=self._effort, allowed=self._usable
        )
        return self._numbers[places].clip(0), cosines


class RareWordReferences(References):
    """TF-IDF rows of texts, found by their rare words and compared by all words.

    Parameters
    ----------
    idf, rows
        As in `WordReferences`.
    effort : int
        Largest number of references that have a rare word.
    """

    def __init__(
        self, idf: NDArray[np.float32], rows: "csr_array", effort: int
    ) -> None:
        self._idf, self._rows = idf, rows
        self._rare = RareTerms(rows, effort)

    def __len__(self) -> int:
        return int(self._rows.shape[0])

    def nearest(
        self, queries: "csr_array", n: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Find references similar to each query; cosine 0 where there are fewer."""
        n = min(n, len(self))
        weighed = weigh(queries, self._idf)
        places = np.zeros((weighed.shape[0], n), np.intp)
        cosines = np.zeros(places.shape, np.float32)
        for row, found in enumerate(self._rare.most_similar(weighed, _COMPARED)):
            if len(found):
                query = slice(row, row + 1)
                similarity = cosines_of_terms(weighed[query], self._rows[found])
                nearest, similarities = find_nearest(similarity, n)
                columns = slice(0, nearest.shape[1])
                places[row, columns] = found[nearest[0]]
                cosines[row, columns] = similarities[0]
        return places, cosines


def find_nearest(
    similarity: NDArray[np.float32], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find the most similar references of each query.

    Parameters
    ----------
    similarity : ndarray of shape (n_queries, n_references)
        Cosines.
    n : int
        Number of references to find; fewer if there are fewer references.

    Returns
    -------
    places : ndarray of shape (n_queries, k), int
        Reference numbers, the most similar first. Cosines that differ only by rounding
        are ordered by reference number, so the result does not depend on chunk size.
    cosines : ndarray of shape (n_queries, k), float32
        Their similarities.

    Raises
    ------
    InputError
        If a cosine is not a number.
    """
    if np.isnan(similarity).any():
        raise InputError(
            "similar products: features must be finite, found nan. The run, or the "
            "exported model, is damaged; make it again."
        )
    n_queries, n_references = similarity.shape
    n = min(n, n_references)
    if not n or not n_queries:
        shape = (n_queries, n)
        return np.zeros(shape, np.intp), np.zeros(shape, np.float32)
    lowest = np.partition(similarity, -n, axis=1)[:, -n]
    query, place = np.nonzero(similarity >= (lowest - _TIE)[:, None])
    rounded = np.rint(similarity[query, place] / _TIE)
    order = np.lexsort((place, -rounded, query))
    query, place = query[order], place[order]
    starts = np.searchsorted(query, np.arange(n_queries))
    places = place[starts[:, None] + np.arange(n)]
    return places, np.take_along_axis(similarity, places, axis=1)


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Scale rows to length 1; rows of zeros stay."""
    rows = rows.astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), dtype=np.float32)
