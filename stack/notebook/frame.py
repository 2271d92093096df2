"""Labels and cells of a DataFrame, checked."""

import datetime
import numbers
import os
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from embed.catalog.columns import shorten
from embed.catalog.reader import MAX_ID_CHARS, CatalogError

N_SHOWN = 5
"""Rows that a message shows at the most."""


def require_frame(X: Any, columns: Sequence[Hashable]) -> None:
    """Refuse an X that is no DataFrame, has no row or lacks a column.

    Raises
    ------
    CatalogError
        If it does, or has one of the columns twice.
    """
    if not isinstance(X, pd.DataFrame):
        kind = f"{type(X).__module__}.{type(X).__qualname__}"
        if np.iscomplexobj(X):
            raise CatalogError(f"X: Complex data not supported, got {kind}")
        raise CatalogError(
            f"X must be a pandas DataFrame with the columns {join_names(columns)}, got "
            f"{kind}. Make one: pandas.DataFrame({{{[*columns, 'x'][0]!r}: [...]}})"
        )
    if X.shape[1] == 0:
        raise CatalogError(
            f"X has 0 feature(s) (shape={X.shape}) while a minimum of 1 is required. "
            f"Give it the columns {join_names(columns)}"
        )
    present: Sequence[Hashable] = X.columns.tolist()
    if missing := [name for name in columns if name not in present]:
        raise CatalogError(
            f"X has no column {join_names(missing)}; columns present: "
            f"{join_names(present[:20])}. Name the right ones with text_columns, "
            f"table_columns and image_column (None: no photos)"
        )
    for name in columns:
        if (n_columns := present.count(name)) > 1:
            raise CatalogError(
                f"X must have the column {name!r} once, it is there {n_columns} times. "
                f"Rename or drop all but one"
            )
    if not len(X):
        raise CatalogError("X must have a row for each product, got n_samples=0")


def join_names(columns: Iterable[object]) -> str:
    """List the labels of columns for a message."""
    return ", ".join(shorten(repr(name)) for name in columns)


def row_ids(index: "pd.Index[str]") -> tuple[str, ...]:
    """Return the labels of an index if they can be ids, else positions from 0."""
    labels = [str(label) for label in index]
    usable = len(set(labels)) == len(labels) and all(
        label.strip()
        and len(label) <= MAX_ID_CHARS
        and label.isprintable()
        and label == encodable(label)
        for label in labels
    )
    return tuple(labels) if usable else tuple(map(str, range(len(labels))))


def place(row: int, sample_id: Sequence[str]) -> str:
    """Name a row for a message, by its number and its label."""
    label = sample_id[row]
    return f"row {row}" if label == str(row) else f"row {row}, index {label!r}"


def encodable(text: str) -> str:
    """Leave out halves of surrogate pairs, which UTF-8 cannot encode."""
    return text.encode("utf-8", "ignore").decode()


def read_text_cell(cell: object, name: str, row: int, sample_id: Sequence[str]) -> str:
    """Return a cell as catalog text; "" where missing.

    Raises
    ------
    CatalogError
        If the cell is neither text nor a number.
    """
    if isinstance(cell, str):
        return encodable(cell)
    if _is_missing(cell):
        return ""
    if isinstance(cell, numbers.Number | np.bool_):
        return str(cell)
    raise CatalogError(
        f"X[{name!r}] must hold text, numbers or None, however "
        f"{place(row, sample_id)} is {shorten(repr(cell))} ({type(cell).__name__}). "
        f"Write it as text"
    )


def read_path_cell(cell: object, name: str, row: int, sample_id: Sequence[str]) -> str:
    """Return a cell as the path of a photo; "" where missing.

    Raises
    ------
    CatalogError
        If the cell is not a path.
    """
    if _is_missing(cell):
        return ""
    if isinstance(cell, str | os.PathLike):
        path = os.fspath(cell)
        if isinstance(path, str):
            return path.strip()
    raise CatalogError(
        f"{name} must hold paths of photos or None, however {place(row, sample_id)} "
        f"is {shorten(repr(cell))} ({type(cell).__name__}). Save photos to files and "
        f"give their paths"
    )


def read_table_cell(cell: Any) -> str:
    """Return a cell as the text of a catalog; "" where missing.

    Raises
    ------
    TypeError
        If the cell is no text, number, date or None; the message is the cell and its
        type.
    """
    if isinstance(cell, str):
        return encodable(cell)
    if _is_missing(cell):
        return ""
    if isinstance(cell, datetime.date | pd.Period):
        return str(cell)
    if isinstance(cell, np.datetime64):
        return str(pd.Timestamp(cell))
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell))
    if isinstance(cell, float | np.floating):
        number = float(cell)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(cell, numbers.Number) and not isinstance(cell, complex):
        return str(cell)
    raise TypeError(f"{shorten(repr(cell))} ({type(cell).__name__})")


def _is_missing(cell: Any) -> bool:
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))
