"""Blend two models: ln price = w1·ln network + w2·ln other.

The blend with LightGBM is the control: a stacker with thousands of features should be
better than two weights. The stacker's trees start from the blend with the kernel ridge.
The weights for a fold are fitted on the rows of the other folds only.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from finetune.score import smape, to_price
from stack.judge.doubts import MARGIN
from stack.price.engine import combine, price_logs

NO_LIMITS = (-np.inf, np.inf)
# Each model alone is a corner: on the fitted rows, no blend is worse than either.
_FIRST_SIMPLEX = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])


def blend_out_of_fold(
    log_price: NDArray[np.floating],
    *,
    network: NDArray[np.floating],
    other: NDArray[np.floating],
    folds: NDArray[np.integer],
    limits: tuple[float, float] = NO_LIMITS,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Blend two out-of-fold predictions with weights fitted outside each fold.

    Parameters
    ----------
    log_price : ndarray of shape (n_products,)
        log1p of the true price, NaN where unpriced.
    network, other : ndarray of shape (n_products,)
        Out-of-fold log1p prices. Weights act on ln price, floored at one cent.
    folds : ndarray of shape (n_products,), int
        0 to n_folds - 1; -1 where unpriced. Unpriced rows get the mean of the weights.
    limits : tuple of float, optional
        Smallest and largest weight.

    Returns
    -------
    blended : ndarray of shape (n_products,), float32
        log1p price. Prices are clipped to a factor of `MARGIN` below the lowest and
        above the highest price of the other folds.
    weights : ndarray of shape (n_folds, 2), float64
        Weights of `network` and `other`, for each fold.

    Raises
    ------
    ValueError
        If the shapes differ or there are fewer than two folds.
    """
    _check(folds, log_price=log_price, network=network, other=other)
    logs = price_logs(network, other)
    price = to_price(log_price)
    others = [(folds >= 0) & (folds != fold) for fold in range(int(folds.max()) + 1)]
    weights = np.array([fit_weights(price[r], logs[r], limits=limits) for r in others])
    ranges = np.array(
        [(price[r].min() / MARGIN, price[r].max() * MARGIN) for r in others]
    )
    # Fold -1 indexes the last row, the mean.
    row_weights = np.vstack([weights, weights.mean(axis=0)])[folds]
    low, high = np.log1p(np.vstack([ranges, ranges.mean(axis=0)])[folds]).T
    blended = np.clip(np.log1p(combine(logs, row_weights)), low, high).astype(
        np.float32
    )
    return blended, weights


def fit_weights(
    price: NDArray[np.floating],
    logs: NDArray[np.float64],
    *,
    limits: tuple[float, float] = NO_LIMITS,
) -> NDArray[np.float64]:
    """Find the two weights with the lowest SMAPE (Nelder & Mead).

    Parameters
    ----------
    price : ndarray of shape (n,)
        True prices, catalog currency.
    logs : ndarray of shape (n, 2)
        ln of the two predicted prices.
    limits : tuple of float, optional
        Smallest and largest weight; without limits, nearly constant models get huge
        weights.

    Returns
    -------
    ndarray of shape (2,), float64
    """

    def blend_smape(weights: NDArray[np.float64]) -> float:
        # With `bounds`, `minimize` would move the simplex to an edge and flatten it.
        return smape(price, combine(logs, np.clip(weights, *limits)))

    result = minimize(
        blend_smape,
        _FIRST_SIMPLEX[0],
        method="Nelder-Mead",
        options={"initial_simplex": _FIRST_SIMPLEX, "xatol": 1e-4, "fatol": 1e-5},
    )
    return np.clip(np.asarray(result.x, dtype=np.float64), *limits)


def _check(folds: NDArray[np.integer], **arrays: NDArray[np.floating]) -> None:
    for name, array in arrays.items():
        if array.shape != folds.shape:
            raise ValueError(
                f"blend_out_of_fold: {name} must have the shape of folds, "
                f"{folds.shape}, got {array.shape}"
            )
    if int(folds.max()) < 1:
        raise ValueError(
            "blend_out_of_fold: needs at least 2 folds, because the weights of each "
            "fold are fitted on the others"
        )
