"""SMAPE as the objective of the trees, in place of L1 on log1p price.

SMAPE of a row is 200·tanh(|d|/2), d the difference of ln prices, as 2·tanh(d/2) is
the difference of two prices over their mean. Its slope decreases for large errors,
while that of L1 is the same for all.
"""

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from finetune.score import to_price

_HESSIAN_FLOOR = 0.25
_NEAR = 0.1
"""|ln price difference| below which the curvature stops growing. At 0.5, and with a
constant curvature, trees on an Amazon catalog scored 0.5 to 3 SMAPE worse."""


def log_smape_gradients(
    log_price: NDArray[np.floating], predicted: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differentiate tanh(|d|/2) by the predicted log price.

    The loss is not convex, so the hessian is not its second derivative but slope over
    distance: that of the parabola that touches the loss and lies above it. It has a
    floor for large errors, and a ceiling near the true price, where it would diverge.

    Parameters
    ----------
    log_price, predicted : ndarray of shape (n,)
        True and predicted log1p prices.

    Returns
    -------
    gradient, hessian : ndarray of shape (n,), float64
        Gradient within ±(1 + p)/(2p), p the predicted price, at least one cent;
        hessian above 0.

    References
    ----------
    Hunter & Lange, "A tutorial on MM algorithms", The American Statistician 2004.
    """
    price = to_price(predicted)
    d = np.log(price) - np.log(to_price(log_price))
    size = np.abs(d)
    slope = 0.5 / np.square(np.cosh(size / 2))
    curvature = np.maximum(slope / np.maximum(size, _NEAR), _HESSIAN_FLOOR)
    by_log1p = (1 + price) / price  # d ln price / d log1p price
    return np.sign(d) * slope * by_log1p, curvature * np.square(by_log1p)


def boost_log_smape(
    predicted: NDArray[np.floating], train_set: lgb.Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gradient and hessian in the form that LightGBM expects."""
    return log_smape_gradients(np.asarray(train_set.get_label()), predicted)
