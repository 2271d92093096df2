"""Turn table columns into features: numbers, parts of dates, and category codes.

A column's writing (decimal sign, units, date format) and categories are learned from
the catalog of the run, without its prices. New products are read the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogError, TableKind, shorten
from embed.store.rules import Real, Text
from embed.table.dates import DATE_FORMATS, PARTS, find_format, read_dates
from embed.table.numbers import (
    MIN_READABLE,
    MISSING,
    DecimalSign,
    NumberStyle,
    clean,
    find_style,
    read_numbers,
)

RARE = 1
"""Code of a category that fewer than two products of the run have. Unknown categories
are NaN in arrays, and get the code 0 in the network."""

TABLE_PREFIX = "table."
"""Beginning of the name of each feature of a table column."""

MAX_COLUMNS = 1000
"""Largest number of table columns."""

_MIN_PRODUCTS = 2
_NOT_IN_NAME = re.compile(r'[\s",:\[\]{}]+')


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A table column, with the writing and categories learned from the catalog."""

    name: Text
    kind: TableKind
    decimal_sign: DecimalSign | None = None
    """Decimal sign of numbers; None if the column has none."""

    units: tuple[Text, ...] = ()
    """Units of numbers, "" for numbers without one."""

    factors: tuple[Real, ...] = ()
    """Factor of each unit."""

    date_format: Text | None = None
    """Format of dates from `find_format`; None if the column has none."""

    categories: tuple[Text, ...] = ()
    """Categories with codes 2, 3, …; each has at least two products."""

    def __post_init__(self) -> None:
        """Refuse units without factors, and dates that cannot be read."""
        if len(self.units) != len(self.factors):
            raise CatalogError("units and factors must have the same length")
        if self.date_format is not None and self.date_format not in DATE_FORMATS:
            raise CatalogError(
                f"date_format must be a format that dates can be read in, found "
                f"{shorten(self.date_format)!r}"
            )

    @property
    def number_style(self) -> NumberStyle | None:
        """The way in which the column writes its numbers; None if it has none."""
        if self.decimal_sign is None:
            return None
        factor_of_unit = dict(zip(self.units, self.factors, strict=True))
        return NumberStyle(
            decimal_sign=self.decimal_sign, factor_of_unit=factor_of_unit
        )

    @cached_property
    def code_of(self) -> dict[str, int]:
        """Code of each category."""
        return {name: code for code, name in enumerate(self.categories, RARE + 1)}

    @property
    def n_codes(self) -> int:
        """Number of codes of a category, 0 to n_codes - 1."""
        return RARE + 1 + len(self.categories)


def number_column(
    name: str, cells: Sequence[str], *, is_plain: bool = False
) -> TableColumn:
    """Learn how a column writes its numbers; plain: with a point and without units."""
    if is_plain:
        return TableColumn(
            name=name, kind="number", decimal_sign=".", units=("",), factors=(1.0,)
        )
    style = find_style(cells)
    if style is None:
        return TableColumn(name=name, kind="number")
    return TableColumn(
        name=name,
        kind="number",
        decimal_sign=style.decimal_sign,
        units=tuple(style.factor_of_unit),
        factors=tuple(style.factor_of_unit.values()),
    )


@dataclass(frozen=True, kw_only=True)
class TableFeatures:
    """Features of some products' table columns."""

    array: NDArray[np.float32]
    """Shape (n_products, n_features), in the order of `feature_names`; NaN where
    unknown."""

    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """Row and reason of each cell that is not of its column's kind."""

    rare: list[tuple[int, str]] = field(default_factory=list)
    """Row and reason of each category that fewer than two products of the run have."""


def learn_columns(
    cells: Mapping[str, Sequence[str]],
    kinds: Mapping[str, TableKind],
    *,
    where: str,
    plain_numbers: Container[str] = (),
) -> tuple[TableColumn, ...]:
    """Learn how columns are written, and their categories.

    Parameters
    ----------
    cells : mapping of str to sequence of str
        Cells of each column.
    kinds : mapping of str to TableKind
        The columns to use, in order.
    where : str
        File, for messages.
    plain_numbers : container of str
        Columns whose numbers have a decimal point and no unit.

    Raises
    ------
    CatalogError
        If fewer than 95 % of a column's known cells are of its kind, or if there are
        too many columns.
    """
    if len(kinds) > MAX_COLUMNS:
        raise CatalogError(
            f"{where}: must have at most {MAX_COLUMNS} table columns, got "
            f"{len(kinds)}. Name those that matter with --number-column, "
            f"--category-column and --date-column instead of --table auto"
        )
    return tuple(
        _learn(name, kind, cells[name], where, is_plain=name in plain_numbers)
        for name, kind in kinds.items()
    )


def _learn(
    name: str, kind: TableKind, cells: Sequence[str], where: str, *, is_plain: bool
) -> TableColumn:
    if kind == "category":
        counts = Counter(map(clean, cells))
        usual = (c for c, n in counts.items() if n >= _MIN_PRODUCTS)
        return TableColumn(
            name=name, kind=kind, categories=tuple(sorted(set(usual) - MISSING))
        )
    column = (
        number_column(name, cells, is_plain=is_plain)
        if kind == "number"
        else TableColumn(name=name, kind=kind, date_format=find_format(cells))
    )
    known = [cell for cell in cells if clean(cell) not in MISSING]
    if known and not is_plain and readable_share(column, known) < MIN_READABLE:
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


def feature_names(columns: Sequence[TableColumn]) -> list[str]:
    """Name the features of columns.

    Returns
    -------
    list of str
        A name for each number or category and three for each date (`PARTS`), all
        different and without the signs that LightGBM forbids.
    """
    names: dict[str, None] = {}
    for column in columns:
        stem = f"{TABLE_PREFIX}{_NOT_IN_NAME.sub('_', column.name)}"
        while not names.keys().isdisjoint((stem, *_part_names(stem))):
            stem += "_"
        own_names = _part_names(stem) if column.kind == "date" else [stem]
        names |= dict.fromkeys(own_names)
    return [*names]


def _part_names(stem: str) -> list[str]:
    return [f"{stem}.{part}" for part in PARTS]


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

    Returns
    -------
    TableFeatures
        Features in the order of the columns; the faults are ordered by row.
    """
    blank = [""] * n_products
    parts = [np.zeros((n_products, 0), np.float32)]
    unreadable: list[tuple[int, str]] = []
    rare: list[tuple[int, str]] = []
    for column in columns:
        written = cells.get(column.name, blank)
        with np.errstate(over="ignore"):
            values = _values(column, written).astype(np.float32)
        values[np.isinf(values)] = np.nan
        parts.append(values)
        unknown = np.isnan(values[:, 0]) & ~_missing(written)
        unreadable += _reasons(column, written, unknown, f"is no {column.kind}")
        if column.kind == "category":
            is_rare = values[:, 0] == RARE
            rare += _reasons(column, written, is_rare, "is new or rare in the run")
    array = np.column_stack(parts)
    return TableFeatures(array=array, unreadable=sorted(unreadable), rare=sorted(rare))


def _missing(cells: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([clean(cell) in MISSING for cell in cells], dtype=np.bool_)


def _reasons(
    column: TableColumn,
    cells: Sequence[str],
    is_odd: NDArray[np.bool_],
    fault: str,
) -> list[tuple[int, str]]:
    return [
        (row, f"column {column.name!r}: {shorten(cells[row])!r} {fault}")
        for row in np.flatnonzero(is_odd).tolist()
    ]


def _values(column: TableColumn, cells: Sequence[str]) -> NDArray[np.float64]:
    """Return the features of a column, shape (n_cells, n_features)."""
    if column.kind == "category":
        return _codes(column, cells)
    if column.kind == "date":
        if column.date_format is None:
            return np.full((len(cells), len(PARTS)), np.nan)
        return read_dates(cells, column.date_format)
    if column.number_style is None:
        return np.full((len(cells), 1), np.nan)
    return read_numbers(cells, column.number_style)[:, None]


def _codes(column: TableColumn, cells: Sequence[str]) -> NDArray[np.float64]:
    codes = [
        np.nan if text in MISSING else column.code_of.get(text, RARE)
        for text in map(clean, cells)
    ]
    return np.array(codes, dtype=np.float64)[:, None]
