"""Table columns of a DataFrame and their kinds."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from embed.catalog.columns import CatalogError, TableKind
from embed.errors import ConfigError
from embed.table.detect import BLANK, ONE_VALUE, guess_kind
from stack.notebook.frame import encodable, read_table_cell

TableColumns = str | Sequence[Hashable] | Mapping[Hashable, TableKind] | None
"""Parameter `table_columns` of `PriceRegressor`."""

_KINDS: tuple[TableKind, ...] = get_args(TableKind)


def named_columns(table_columns: TableColumns) -> list[Hashable]:
    """Return the columns that the parameter names; none for "auto".

    Raises
    ------
    ConfigError
        If the parameter is neither "auto", None, a list nor a dict of kinds.
    """
    if table_columns is None or table_columns == "auto":
        return []
    if isinstance(table_columns, str) or not isinstance(
        table_columns, Sequence | Mapping
    ):
        raise ConfigError(
            f'PriceRegressor: table_columns must be "auto", None, a list of columns or '
            f"a dict of kinds, got {table_columns!r}. For one column, give a list"
        )
    if isinstance(table_columns, Mapping):
        for name, kind in table_columns.items():
            if kind not in _KINDS:
                raise ConfigError(
                    f"PriceRegressor: table_columns[{name!r}] must be one of "
                    f"{', '.join(_KINDS)}, got {kind!r}. Correct it"
                )
    return [*table_columns]


def find_kinds(
    X: pd.DataFrame,
    table_columns: TableColumns,
    *,
    others: Sequence[Hashable],
    y: ArrayLike,
    price: NDArray[np.float64],
) -> dict[Hashable, TableKind]:
    """Find the kind of each table column, by its dtype or else by its cells.

    Parameters
    ----------
    X : DataFrame
    table_columns : "auto", sequence, mapping or None
        Parameter of `PriceRegressor`.
    others : sequence
        Columns of text and photos, which "auto" leaves out.
    y : array-like
        Target as given; "auto" leaves out the column of its name.
    price : ndarray of shape (n_products,)
        Prices; "auto" leaves out columns equal to them.

    Returns
    -------
    dict of Hashable to TableKind
        Kinds by column label, in the order of the parameter or of X.

    Raises
    ------
    CatalogError
        If a named column has no kind.
    """
    if isinstance(table_columns, Mapping):
        return dict(table_columns)
    labels = named_columns(table_columns)
    kinds: dict[Hashable, TableKind] = {}
    if table_columns != "auto":
        for label in labels:
            guess = _guess(label, X[label])
            if guess not in _KINDS:
                raise CatalogError(
                    f"X[{label!r}]: cannot be a table column ({guess}). Leave it out, "
                    f"or name its kind: table_columns={{{label!r}: 'category'}}"
                )
            kinds[label] = guess
        return kinds
    y_name = y.columns[0] if isinstance(y, pd.DataFrame) else getattr(y, "name", None)
    names = [*map(column_name, X.columns)]
    for label, name in zip(X.columns, names, strict=True):
        if label in others or not name.strip() or names.count(name) > 1:
            continue
        is_named_as_price = y_name is not None and label == y_name
        if not is_named_as_price and not _equals(X[label], price):
            guess = _guess(label, X[label])
            if guess in _KINDS:
                kinds[label] = guess
    return kinds


def column_name(label: Hashable) -> str:
    """Return the name of a column in the catalog of a run."""
    return encodable(str(label))


def is_plain(column: "pd.Series[Any]") -> bool:
    """Tell whether a column has a dtype of numbers."""
    return bool(
        pd.api.types.is_numeric_dtype(column.dtype)
        and not pd.api.types.is_bool_dtype(column.dtype)
        and not pd.api.types.is_complex_dtype(column.dtype)
    )


def _guess(label: Hashable, column: "pd.Series[Any]") -> str:
    """Return the kind of a column, or the reason why it has none."""
    try:
        cells = [*map(read_table_cell, column)]
    except TypeError as error:
        return f"it has {error}"
    guess = guess_kind(column_name(label), cells, is_plain=is_plain(column))
    if guess in (BLANK, ONE_VALUE):
        return guess
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(
        column.dtype
    ):
        return "category"
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return "date"
    is_date_of_digits = guess in ("date", "category") and is_plain(column)
    return "number" if is_date_of_digits else guess


def _equals(column: "pd.Series[Any]", price: NDArray[np.float64]) -> bool:
    return is_plain(column) and bool(
        np.array_equal(column.to_numpy(np.float64, na_value=np.nan), price)
    )
