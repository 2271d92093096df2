"""Attributes as bins, for linear models: a price need not rise evenly with a size."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

N_BINS = 25
"""Of an attribute's known values, near equally many in each."""

BIN_WEIGHT = 0.4
"""Value of a bin's column where a product is in it, beside terms of length 1 a text:
the larger, the less a ridge holds its coefficients back."""

_BEYOND = np.finfo(np.float32).max


def bin_edges(attributes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return bounds of the bins of each attribute.

    Parameters
    ----------
    attributes : ndarray of shape (n_products, n_attributes)
        NaN where unknown.

    Returns
    -------
    ndarray of shape (n_attributes, N_BINS - 1), float32
        Quantiles, each once, in order; then the largest number there is.
    """
    edges = np.full((attributes.shape[1], N_BINS - 1), _BEYOND, np.float32)
    shares = np.linspace(0, 1, N_BINS + 1)[1:-1]
    for of, column in zip(edges, attributes.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known):
            distinct = np.unique(np.quantile(known, shares).astype(np.float32))
            of[: len(distinct)] = distinct
    return edges


def bin_columns(
    attributes: NDArray[np.float32], edges: NDArray[np.float32]
) -> csr_array:
    """Return `BIN_WEIGHT` in the column of each attribute's bin.

    Parameters
    ----------
    attributes : ndarray of shape (n_products, n_attributes)
        NaN where unknown, which has a column of its own, the last.
    edges : ndarray of shape (n_attributes, N_BINS - 1)
        From `bin_edges`; a value equal to one is below it.

    Returns
    -------
    csr_array of shape (n_products, n_attributes * (N_BINS + 1)), float32
    """
    n_products, n_attributes = attributes.shape
    columns = np.empty((n_products, n_attributes), np.int64)
    for at, (column, of) in enumerate(zip(attributes.T, edges, strict=True)):
        found = np.searchsorted(of, column)
        columns[:, at] = np.where(np.isnan(column), N_BINS, found)
    columns += np.arange(n_attributes) * (N_BINS + 1)
    values = np.full(columns.size, BIN_WEIGHT, np.float32)
    bounds = np.arange(n_products + 1) * n_attributes
    shape = (n_products, n_attributes * (N_BINS + 1))
    return csr_array((values, columns.ravel(), bounds), shape=shape)
