"""The score, symmetric mean absolute percentage error, in its three conventions.

Published figures mix them: the official one (0 to 200), half of it (0 to 100), and
SMAPE of log1p prices. They are never compared with each other.
"""

import numpy as np
from numpy.typing import NDArray

from finetune.price_unit import PRICE_FLOOR, to_price

__all__ = [
    "PRICE_FLOOR",
    "smape",
    "smape_half",
    "smape_log1p",
    "smape_rows",
    "to_price",
]


def smape_rows(
    price: NDArray[np.floating], predicted: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Compute the symmetric absolute percentage error of each row.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        True and predicted prices in catalog currency, not log prices.

    Returns
    -------
    ndarray of shape (n_products,)
        Percent, 0 (exact) to 200. A row where both are 0 counts as exact.

    Raises
    ------
    ValueError
        If the shapes differ (numpy would broadcast (n,) and (n, 1) to (n, n)) or a
        value is not finite.
    """
    if price.shape != predicted.shape:
        raise ValueError(
            f"smape: price and predicted must have the same shape, "
            f"got {price.shape} and {predicted.shape}"
        )
    for name, values in (("price", price), ("predicted", predicted)):
        if n_bad := int((~np.isfinite(values)).sum()):
            raise ValueError(
                f"smape: {name} must be finite, {n_bad} of {values.size} are not"
            )
    error = np.abs(np.subtract(price, predicted, dtype=np.float64))
    scale = (np.abs(price, dtype=np.float64) + np.abs(predicted)) / 2
    rows: NDArray[np.float64] = np.zeros_like(error)
    np.divide(100 * error, scale, out=rows, where=scale > 0)
    return rows


def smape(price: NDArray[np.floating], predicted: NDArray[np.floating]) -> float:
    """Compute the official SMAPE, percent, 0 to 200; arguments as in `smape_rows`."""
    return float(smape_rows(price, predicted).mean())


def smape_half(price: NDArray[np.floating], predicted: NDArray[np.floating]) -> float:
    """Compute SMAPE in the 0 to 100 convention: half the official one."""
    return smape(price, predicted) / 2


def smape_log1p(price: NDArray[np.floating], predicted: NDArray[np.floating]) -> float:
    """Compute the SMAPE (0 to 200) of log1p prices.

    It depends on the currency and is not comparable to the other two.
    """
    return smape(np.log1p(price), np.log1p(predicted))
