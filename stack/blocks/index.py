"""An index that finds the nearest rows of embeddings without comparing all of them.

It is faiss's hierarchical navigable small world graph over float16 vectors, which takes
less time for the same recall than those of hnswlib and usearch
(benchmarks/ABLATIONS.md). One thread builds it: the same rows give the same bytes.

References
----------
Malkov and Yashunin (2018), "Efficient and Robust Approximate Nearest Neighbor Search
Using Hierarchical Navigable Small World Graphs".
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.arrays import read_rows, release_rows
from embed.store.durable import save_array
from embed.store.manifest import remedy

_LINKS, _BUILD_EFFORT = 32, 100
_CHUNK_ROWS = 8192
LEAST_EFFORT = 64


class DenseIndex:
    """Rows of length 1, ready to be searched by cosine.

    Parameters
    ----------
    index : faiss index
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def empty(cls, dim: int) -> Self:
        """Make an index without rows."""
        faiss = _faiss()
        quantizer = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(dim, quantizer, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_EFFORT
        index.is_trained = True  # float16 has nothing to learn
        return cls(index)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an index that `save` wrote.

        Raises
        ------
        CacheError
            If the file is missing or damaged.
        """
        array = np.asarray(read_rows(path))
        try:
            index = _faiss().deserialize_index(array)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise CacheError(
                f"{path}: is not a whole index of products. {remedy(path.parent)}"
            ) from error
        return cls(index)

    def save(self, path: Path) -> None:
        """Write the index as an array of bytes."""
        save_array(path, _faiss().serialize_index(self._index))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, units: NDArray[np.float32]) -> None:
        """Add rows of length 1, shape (n, d), after those that are there."""
        self._index.add(np.ascontiguousarray(units, np.float32))

    def nearest(
        self,
        units: NDArray[np.float32],
        n: int,
        *,
        effort: int = LEAST_EFFORT,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Find rows that are most similar to queries of length 1.

        Parameters
        ----------
        units : ndarray of shape (n_queries, d)
        n : int
        effort : int
            Rows that a search keeps at a time; with more it finds more of the nearest.
        allowed : ndarray of shape (len(self),), bool, optional
            Rows that may be found; by default all.

        Returns
        -------
        places : ndarray of shape (n_queries, n), int
            Row numbers, the most similar first; 0 where fewer are found.
        cosines : ndarray of shape (n_queries, n), float32
            Their cosines; 0 where fewer are found.
        """
        faiss = _faiss()
        given: dict[str, Any] = {"efSearch": max(effort, n)}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            given["sel"] = faiss.IDSelectorBitmap(bits)
        cosines, places = self._index.search(
            np.ascontiguousarray(units, np.float32),
            n,
            params=faiss.SearchParametersHNSW(**given),
        )
        is_found = places >= 0
        return np.where(is_found, places, 0), np.where(is_found, cosines, 0)


def index_rows(
    rows: NDArray[Any],
    which: NDArray[np.integer],
    to_units: Callable[[NDArray[Any]], NDArray[np.float32]],
) -> DenseIndex:
    """Index some rows of an array, read a chunk at a time.

    Parameters
    ----------
    rows : ndarray of shape (n_products, d)
        float16 or float32, usually a memmap.
    which : ndarray of shape (n,), int
    to_units : callable
        `stack.blocks.nearest.unit_rows`.
    """
    index = DenseIndex.empty(rows.shape[1])
    for start in range(0, len(which), _CHUNK_ROWS):
        index.add(to_units(rows[which[start : start + _CHUNK_ROWS]]))
        release_rows(rows)
    return index


def _faiss() -> Any:
    import faiss

    # With more threads, the order in which rows are linked would be left to chance.
    faiss.omp_set_num_threads(1)
    return faiss
