"""Find the reference products nearest by cosine, in bounded memory.

The search compares with all of them, as `stack.price.similar` does: there is no index
that could be out of date.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from embed.store.arrays import release_rows
from stack.blocks.terms import Terms

_HELD_BYTES = 1 << 29  # references of one space up to this size stay in memory
_CHUNK_ROWS = 8192
_TIE = 1e-5  # cosines that differ by less differ only by rounding


class DenseReferences:
    """Rows of an array of embeddings as references.

    Parameters
    ----------
    rows : ndarray of shape (n_products, d)
        float16 or float32, usually a memmap. Few references are held in memory; many
        are read again for each comparison.
    which : ndarray of shape (n,), int
        The rows that are references.
    """

    def __init__(self, rows: NDArray[Any], which: NDArray[np.integer]) -> None:
        self._rows, self._which = rows, which
        self._held: NDArray[np.float32] | None = None
        if 4 * len(which) * rows.shape[1] <= _HELD_BYTES:
            self._held = self._read(slice(None))

    def similarity(self, queries: NDArray[Any]) -> NDArray[np.float32]:
        """Return cosines of shape (n_queries, n) with queries of shape (n_queries, d).

        The cosines of a row of zeros are 0.
        """
        wanted = _unit(queries)
        if self._held is not None:
            return wanted @ self._held.T
        cosines = np.zeros((len(wanted), len(self._which)), dtype=np.float32)
        for start in range(0, len(self._which), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            cosines[:, chunk] = wanted @ self._read(chunk).T
        return cosines

    def _read(self, chunk: slice) -> NDArray[np.float32]:
        units = _unit(self._rows[self._which[chunk]])
        release_rows(self._rows)
        return units


class WordReferences:
    """TF-IDF rows of texts as references.

    Parameters
    ----------
    terms : Terms
    rows : csr_array of shape (n, d), float32
        Weighed terms from `Terms.weigh`.
    """

    def __init__(self, terms: Terms, rows: csr_array) -> None:
        self._terms = terms
        self._by_term = rows.T.tocsr()  # a query reads only the rows of its own terms

    def similarity(self, queries: csr_array) -> NDArray[np.float32]:
        """Return cosines of shape (n_queries, n) with the counts from `count_terms`.

        A cosine is 0 without a common word.
        """
        cosines = self._terms.weigh_counts(queries) @ self._by_term
        return np.asarray(cosines.toarray(), dtype=np.float32)


def find_nearest(
    similarity: NDArray[np.float32], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find the most similar references of each query.

    Parameters
    ----------
    similarity : ndarray of shape (n_queries, n_references)
    n : int
        Number of references to find; fewer if there are fewer references.

    Returns
    -------
    places : ndarray of shape (n_queries, k), int
        Reference numbers, the most similar first. Cosines that differ only by rounding
        are ordered by reference number, so the result does not depend on chunk size.
    found : ndarray of shape (n_queries, k), float32
        Their similarities.
    """
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


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    rows = rows.astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), dtype=np.float32)
