"""Read and check the prices that are given in a notebook."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embed.catalog.columns import CatalogError, shorten
from stack.notebook.frame import N_SHOWN, place


def read_target(y: ArrayLike | None, sample_id: Sequence[str]) -> NDArray[np.float64]:
    """Read prices from an array, a Series or a list.

    Parameters
    ----------
    y : array-like of shape (n_products,)
    sample_id : sequence of str
        Id of each product, for messages.

    Raises
    ------
    CatalogError
        If y is None, its length is not the number of products, or a price is not a
        positive, finite number. The message names the first such rows.
    """
    from sklearn.utils import column_or_1d  # late: it takes a second

    if y is None:
        raise CatalogError(
            "PriceRegressor requires y to be passed, but the target y is None. Give a "
            "price for each row of X"
        )
    _require_real(np.asarray(y))
    column = np.asarray(column_or_1d(y, warn=True))
    if len(column) != len(sample_id):
        raise CatalogError(
            f"y must have a price for each row of X, got {len(column)} for "
            f"{len(sample_id)} rows"
        )
    price = np.array([_number(value) for value in column])
    bad = np.flatnonzero(~(np.isfinite(price) & (price > 0))).tolist()
    if bad:
        shown = "; ".join(
            f"{place(row, sample_id)}: {shorten(repr(column[row]))}"
            for row in bad[:N_SHOWN]
        )
        raise CatalogError(
            f"y must be prices, finite numbers above 0, however {len(bad)} of "
            f"{len(column)} are not ({shown}). Correct them, or leave these rows out "
            f"of X and y; pandas.to_numeric turns text into numbers"
        )
    return price


def _require_real(column: NDArray[np.generic]) -> None:
    if column.dtype.kind == "c":
        raise CatalogError("y: Complex data not supported. Give prices")
    if column.dtype.kind not in "iufOUST":
        raise CatalogError(
            f"y must be prices, numbers above 0, got {column.dtype}. Give the column "
            f"of prices"
        )


def _number(value: object) -> float:
    """Return a value as float; NaN for text and anything else that is no number."""
    if isinstance(value, str | bytes | bool | np.bool_):
        return float("nan")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")
