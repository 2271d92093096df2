"""Turn attributes into bins for linear models: prices are not linear in sizes."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

N_BINS = 25
"""Number of bins of each attribute's known values, with about equal counts."""

BIN_WEIGHT = 0.4
"""Value in the column of a product's bin; the vector of a text's terms has length 1. A
ridge shrinks the weights of columns with larger values less."""

_BEYOND = np.finfo(np.float32).max


def bin_edges(attributes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the bounds of each attribute's bins.

    Parameters
    ----------
    attributes : ndarray of shape (n_products, n_attributes)
        Attributes, NaN where unknown.

    Returns
    -------
    ndarray of shape (n_attributes, N_BINS - 1), float32
        Distinct quantiles in ascending order, then the largest float32 as padding.
    """
    edges = np.full((attributes.shape[1], N_BINS - 1), _BEYOND, np.float32)
    shares = np.linspace(0, 1, N_BINS + 1)[1:-1]
    for bounds, column in zip(edges, attributes.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known):
            distinct = np.unique(np.quantile(known, shares).astype(np.float32))
            bounds[: len(distinct)] = distinct
    return edges


def bin_columns(
    attributes: NDArray[np.float32], edges: NDArray[np.float32]
) -> csr_array:
    """Return columns with `BIN_WEIGHT` in the bin of each attribute, 0 elsewhere.

    Parameters
    ----------
    attributes : ndarray of shape (n_products, n_attributes)
        Attributes, NaN where unknown; unknown values have a bin of their own, the last.
    edges : ndarray of shape (n_attributes, N_BINS - 1)
        Bounds from `bin_edges`; a value equal to a bound is in the bin below it.

    Returns
    -------
    csr_array of shape (n_products, n_attributes * (N_BINS + 1)), float32
    """
    n_products, n_attributes = attributes.shape
    columns = np.empty((n_products, n_attributes), np.int64)
    for index, (column, bounds) in enumerate(zip(attributes.T, edges, strict=True)):
        bins = np.searchsorted(bounds, column)
        columns[:, index] = np.where(np.isnan(column), N_BINS, bins)
    columns += np.arange(n_attributes) * (N_BINS + 1)
    values = np.full(columns.size, BIN_WEIGHT, np.float32)
    row_starts = np.arange(n_products + 1) * n_attributes
    shape = (n_products, n_attributes * (N_BINS + 1))
    return csr_array((values, columns.ravel(), row_starts), shape=shape)
