"""Read the columns that decide which products are trained on together.

Group columns put products into the same fold; the time column holds later products out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogColumns, CatalogError, shorten
from embed.table.dates import EPOCH, find_format, read_dates
from embed.table.numbers import MISSING, clean

if TYPE_CHECKING:
    from embed.catalog.reader import Catalog


def settle_split(
    path: Path, columns: CatalogColumns, cells: Mapping[str, Sequence[str]]
) -> tuple[CatalogColumns, list[str]]:
    """Settle the format of the dates, and describe groups and dates to the user.

    Parameters
    ----------
    path : Path
        The catalog, for messages.
    columns : CatalogColumns
        If it has a date format, as for new products, it stays as it is.
    cells : mapping of str to sequence of str
        Cells of all columns of the catalog.

    Raises
    ------
    CatalogError
        If the dates of the time column have no single format.
    """
    if not columns.require_table:
        return columns, []
    notes = [_describe_groups(name, cells[name]) for name in columns.groups]
    name = columns.time
    if name is None:
        return replace(columns, time_format=None), notes
    columns = replace(columns, time_format=_format_of(path, name, cells[name]))
    days = _read_days(columns, cells[name])
    known = days[~np.isnan(days)]
    unknown = f"; {len(days) - len(known):,} unknown" if len(known) < len(days) else ""
    notes.append(
        f"Dates of {name!r}: {write_day(known.min())} to {write_day(known.max())}"
        f"{unknown}."
    )
    return columns, notes


def read_days(catalog: Catalog) -> NDArray[np.float64] | None:
    """Return the date of each product, shape (n_products,).

    Days since 2000-01-01, NaN where unknown; None if the catalog has no time column.
    """
    return None if catalog.time is None else _read_days(catalog.columns, catalog.time)


def write_day(day: float) -> str:
    """Write a day from `read_days` as a date such as "2024-03-31"."""
    return (EPOCH + timedelta(days=int(day))).isoformat()


def read_day(text: str) -> float:
    """Turn a date such as "2024-03-31" into a day as in `read_days`.

    Raises
    ------
    ValueError
        If the text is no such date.
    """
    return float((date.fromisoformat(text) - EPOCH).days)


def group_names(cells: Sequence[str]) -> list[str]:
    """Return the group of each product, compared as categories are.

    White space and case do not matter. Blank cells and signs of an unknown value, such
    as "n/a", are no group: "".
    """
    names = map(clean, cells)
    return ["" if name in MISSING else name for name in names]


def _read_days(columns: CatalogColumns, cells: Sequence[str]) -> NDArray[np.float64]:
    if columns.time_format is None:
        return np.full(len(cells), np.nan)
    return read_dates(cells, columns.time_format)[:, 0]


def _format_of(path: Path, name: str, cells: Sequence[str]) -> str:
    found = find_format(cells)
    if found is not None:
        return found
    known = [cell for cell in cells if clean(cell) not in MISSING]
    example = f"{shorten(known[0])!r}" if known else "only blank cells"
    raise CatalogError(
        f"{path}: column {name!r} must contain dates in one style that has a single "
        f"reading, such as 2024-03-31, found {example}. Correct the column, or name "
        f"another one with --time-column"
    )


def _describe_groups(name: str, cells: Sequence[str]) -> str:
    counts = Counter(group_names(cells))
    n_blank = counts.pop("", 0)
    largest = max(counts.values(), default=0)
    return (
        f"Groups of {name!r}: {len(counts):,}, the largest of {largest:,} products; "
        f"{n_blank:,} products without a group."
    )
