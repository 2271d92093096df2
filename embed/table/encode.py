"""Turn table columns into features: numbers, parts of dates, and category codes.

A column's writing (decimal sign, units, date format) and categories are learned from
the catalog of the run, without its prices. New products are read the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogError, shorten
from embed.table.dates import PARTS, find_format, read_dates
from embed.table.numbers import (
    MIN_READABLE,
    MISSING,
    NumberStyle,
    clean,
    find_style,
    read_numbers,
)

Kind = Literal["number", "category", "date"]

UNKNOWN, RARE = 0, 1
"""Codes of a missing category, and of one that fewer than two products have."""

_MIN_PRODUCTS = 2
_NOT_IN_NAME = re.compile(r'[\s",:\[\]{}]+')


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """What is learned from one column of a catalog."""

    name: str
    kind: Kind
    number_style: NumberStyle | None = None
    date_format: str | None = None
    categories: tuple[str, ...] = ()
    """Categories with codes 2, 3, …; each has at least two products."""


@dataclass(frozen=True, kw_only=True)
class TableFeatures:
    """Features of some products' table columns."""

    values: NDArray[np.float32]
    """Numbers and parts of dates, shape (n_products, n_values); NaN where unknown."""

    codes: NDArray[np.int32]
    """Codes of the categories, shape (n_products, n_categories)."""

    unreadable: list[tuple[int, str, str]] = field(default_factory=list)
    """Row, column and cell of each cell that is not of its column's kind."""


def learn_columns(
    cells: Mapping[str, Sequence[str]], kinds: Mapping[str, Kind], *, where: str
) -> tuple[TableColumn, ...]:
    """Learn how columns are written, and their categories.

    Parameters
    ----------
    cells : mapping of str to sequence of str
        Cells of each column.
    kinds : mapping of str to Kind
        The columns to use, in order.
    where : str
        File, for messages.

    Raises
    ------
    CatalogError
        If fewer than 95 % of a column's known cells are of its kind.
    """
    return tuple(_learn(name, kind, cells[name], where) for name, kind in kinds.items())


def _learn(name: str, kind: Kind, cells: Sequence[str], where: str) -> TableColumn:
    if kind == "category":
        counts = Counter(map(clean, cells))
        usual = (c for c, n in counts.items() if n >= _MIN_PRODUCTS)
        return TableColumn(
            name=name, kind=kind, categories=tuple(sorted(set(usual) - MISSING))
        )
    column = TableColumn(
        name=name,
        kind=kind,
        number_style=find_style(cells) if kind == "number" else None,
        date_format=find_format(cells) if kind == "date" else None,
    )
    known = [cell for cell in cells if clean(cell) not in MISSING]
    if known and readable_share(column, known) < MIN_READABLE:
        values = _values(column, known)
        example = known[int(np.isnan(values[:, 0]).argmax())]
        raise CatalogError(
            f"{where}: column {name!r} must contain {_RULES[kind]}, however "
            f"{shorten(example)!r} is none. Correct the column, or use it with "
            f"--category-column"
        )
    return column


_RULES = {
    "number": "numbers in one style, such as 1299.5 or 3 kg",
    "date": "dates in one style that has a single reading, such as 2024-03-31",
}


def readable_share(column: TableColumn, cells: Sequence[str]) -> float:
    """Return the share of cells that a number or date column can read."""
    return float(1 - np.isnan(_values(column, cells)[:, 0]).mean())


def value_names(columns: Sequence[TableColumn]) -> list[str]:
    """Name the numbers and parts of dates, without signs that LightGBM forbids."""
    names: list[str] = []
    for column in columns:
        plain = _NOT_IN_NAME.sub("_", column.name)
        if column.kind == "number":
            names.append(plain)
        if column.kind == "date":
            names += [f"{plain}.{part}" for part in PARTS]
    return names


def encode(
    columns: Sequence[TableColumn],
    cells: Mapping[str, Sequence[str]],
    *,
    n_products: int,
) -> TableFeatures:
    """Encode the table columns of some products.

    Parameters
    ----------
    columns : sequence of TableColumn
    cells : mapping of str to sequence of str, each of length n_products
        A column that is missing here is unknown for all products.
    n_products : int
    """
    blank = [""] * n_products
    values: list[NDArray[np.float64]] = [np.zeros((n_products, 0))]
    codes: list[NDArray[np.int32]] = []
    unreadable: list[tuple[int, str, str]] = []
    for column in columns:
        written = cells.get(column.name, blank)
        if column.kind == "category":
            codes.append(_codes(column, written))
            continue
        read = _values(column, written)
        values.append(read)
        unreadable += [
            (row, column.name, written[row])
            for row in np.flatnonzero(np.isnan(read[:, 0])).tolist()
            if clean(written[row]) not in MISSING
        ]
    with np.errstate(over="ignore"):
        numbers = np.column_stack(values).astype(np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return TableFeatures(
        values=numbers,
        codes=np.array(codes, dtype=np.int32).reshape(-1, n_products).T,
        unreadable=unreadable,
    )


def _values(column: TableColumn, cells: Sequence[str]) -> NDArray[np.float64]:
    if column.kind == "date":
        if column.date_format is None:
            return np.full((len(cells), len(PARTS)), np.nan)
        return read_dates(cells, column.date_format)
    if column.number_style is None:
        return np.full((len(cells), 1), np.nan)
    return read_numbers(cells, column.number_style)[:, None]


def _codes(column: TableColumn, cells: Sequence[str]) -> NDArray[np.int32]:
    code_of = {name: RARE + 1 + at for at, name in enumerate(column.categories)}
    cleaned = map(clean, cells)
    codes = [UNKNOWN if c in MISSING else code_of.get(c, RARE) for c in cleaned]
    return np.array(codes, dtype=np.int32)
