"""A kernel ridge on bounded centres: all prices are targets, few products are compared.

References
----------
Rudi, Carratino and Rosasco (2017), "FALKON: An Optimal Large Scale Kernel Method". The
normal equations are solved directly: for thousands of centres that takes seconds.
"""

import numpy as np
from numpy.typing import NDArray

_JITTER = 1e-5  # of the mean diagonal; equal centres make the kernel singular


class CentreRidge:
    """Normal equations of a ridge, summed over chunks of products.

    Parameters
    ----------
    between : ndarray of shape (m, m)
        Kernel of the centres with each other.
    penalty : float
        L2 penalty.
    """

    def __init__(self, between: NDArray[np.floating], penalty: float) -> None:
        self._between = between.astype(np.float64)
        self._penalty = penalty
        self._gram = np.zeros_like(self._between)
        self._moment = np.zeros(len(between))

    def add(self, kernel: NDArray[np.floating], target: NDArray[np.floating]) -> None:
        """Add products to the fit.

        Parameters
        ----------
        kernel : ndarray of shape (n, m)
            Kernel of the products with the centres.
        target : ndarray of shape (n,)
        """
        # In float32, rounding would exceed the penalty in the weakest directions.
        wide = kernel.astype(np.float64)
        self._gram += wide.T @ wide
        self._moment += wide.T @ target

    def solve(self) -> NDArray[np.float32]:
        """Return the coefficients of the centres, shape (m,).

        With all products as centres they are those of the ridge on the whole kernel.
        """
        from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

        m = len(self._between)
        jitter = _JITTER * np.trace(self._between) / m * np.eye(m)
        root = cholesky(self._between + jitter, lower=True)

        def whiten(values: NDArray[np.float64]) -> NDArray[np.float64]:
            whitened: NDArray[np.float64] = solve_triangular(root, values, lower=True)
            return whitened

        gram = whiten(whiten(self._gram).T)
        gram[np.diag_indices(m)] += self._penalty
        whitened = cho_solve(cho_factor(gram, lower=True), whiten(self._moment))
        return np.asarray(solve_triangular(root.T, whitened), np.float32)
