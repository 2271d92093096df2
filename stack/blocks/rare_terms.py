"""Find products with the same rare terms, in a time that a catalog's size does not set.

A term that many products have describes each of them little, but most of the time of a
sparse product goes into such terms. The search leaves them out; the caller compares the
products that it finds by all terms.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class RareTerms:
    """Weighed terms of products, by term.

    Parameters
    ----------
    rows : csr_array of shape (n, d)
        Weighed terms.
    most : int
        Largest number of products that a rare term is in.
    """

    def __init__(self, rows: "csr_array", most: int) -> None:
        n_products = np.bincount(rows.indices, minlength=rows.shape[1])
        self._is_rare = n_products <= most
        self._by_term = _take_terms(rows, self._is_rare).T.tocsr()

    def most_similar(self, queries: "csr_array", n: int) -> list[NDArray[np.intp]]:
        """Find the products whose rare terms fit each query best.

        Parameters
        ----------
        queries : csr_array of shape (n_queries, d)
            Weighed terms.
        n : int

        Returns
        -------
        list of n_queries ndarray of int
            Numbers of up to `n` products, the most similar first; fewer if fewer have
            a rare term of the query.
        """
        products = (_take_terms(queries, self._is_rare) @ self._by_term).tocsr()
        bounds = zip(products.indptr[:-1], products.indptr[1:], strict=True)
        return [
            _greatest(products.data[start:stop], products.indices[start:stop], n)
            for start, stop in bounds
        ]


def cosines_of_terms(left: "csr_array", right: "csr_array") -> NDArray[np.float32]:
    """Return the cosines of a few weighed rows, shape (n_left, n_right).

    SciPy's product goes through all columns, which takes longer than a few rows do.
    """
    from scipy.sparse import csr_array

    is_there = np.zeros(left.shape[1], bool)  # faster than np.unique
    is_there[left.indices] = True
    terms = np.flatnonzero(is_there)
    place = np.empty(left.shape[1], np.int32)
    place[terms] = np.arange(len(terms), dtype=np.int32)
    dense = np.zeros((len(terms), left.shape[0]), np.float32)
    row = np.repeat(np.arange(left.shape[0]), np.diff(left.indptr))
    dense[place[left.indices], row] = left.data
    shared = is_there[right.indices]
    before = np.concatenate([[0], np.cumsum(shared)])
    places = place[right.indices[shared]]
    parts = (right.data[shared], places, before[right.indptr])
    few = csr_array(parts, shape=(right.shape[0], len(terms)))
    return np.asarray((few @ dense).T, np.float32)


def _greatest(
    values: NDArray[np.float32], places: NDArray[np.integer], n: int
) -> NDArray[np.intp]:
    if len(values) > n:
        # All that are as great as the n-th, so that ties do not depend on the order.
        least = np.partition(values, -n)[-n]
        values, places = values[values >= least], places[values >= least]
    return np.asarray(places[np.lexsort((places, -values))][:n], np.intp)


def _take_terms(rows: "csr_array", taken: NDArray[np.bool_]) -> "csr_array":
    """Return the same rows with only some of their terms."""
    from scipy.sparse import csr_array

    is_taken = taken[rows.indices]
    before = np.concatenate([[0], np.cumsum(is_taken)])
    parts = (rows.data[is_taken], rows.indices[is_taken], before[rows.indptr])
    return csr_array(parts, shape=rows.shape)
