"""Read a column of dates, which must all be written in one way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from embed.table.numbers import MIN_READABLE, MISSING, clean

# Those of equal rank may read the same cell as different days; then neither is right.
_FORMATS = (
    ("ISO8601",),
    ("%Y/%m/%d", "%Y/%d/%m"),
    ("%d.%m.%Y",),
    ("%d/%m/%Y", "%m/%d/%Y"),
    ("%d-%m-%Y", "%m-%d-%Y"),
    ("%d/%m/%y", "%m/%d/%y"),
    ("%d %b %Y", "%d %B %Y"),
    ("%b %d, %Y", "%B %d, %Y"),
    ("%d-%b-%Y", "%d-%b-%y"),
    ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"),
    ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
    ("%Y%m%d",),
)
_EPOCH = pd.Timestamp("2000-01-01")
PARTS = ("day", "month", "weekday")
"""Features of a date: days since 2000-01-01, month from 1, day of the week from 0."""


def find_format(cells: Iterable[str]) -> str | None:
    """Find the format that at least 95 % of a column's dates have.

    Returns
    -------
    str or None
        A format of `pandas.to_datetime`. None if there is no date, no format fits, or
        "3/4/2024" has two readings and no other cell settles which.
    """
    dates = sorted({clean(cell) for cell in cells} - MISSING)
    if not dates:
        return None
    for group in _FORMATS:
        days = {name: _parse(dates, name) for name in group}
        fitting = [name for name in group if days[name].notna().mean() >= MIN_READABLE]
        if len(fitting) > 1 and not days[fitting[0]].equals(days[fitting[1]]):
            return _fits_more(days)
        if fitting:
            return fitting[0]
    return None


def read_dates(cells: Sequence[str], date_format: str) -> NDArray[np.float64]:
    """Return the parts of each date.

    Returns
    -------
    ndarray of shape (n_cells, 3)
        `PARTS` of each date; NaN where a cell has none.
    """
    days = _parse([clean(cell) for cell in cells], date_format)
    parts = [(days - _EPOCH).dt.days, days.dt.month, days.dt.day_of_week]
    return np.column_stack([part.to_numpy(np.float64) for part in parts])


def _fits_more(days: Mapping[str, pd.Series[pd.Timestamp]]) -> str | None:
    """Return the format that fits more cells; None if two fit as many."""
    counts = {name: int(parsed.notna().sum()) for name, parsed in days.items()}
    most = max(counts.values())
    best = [name for name, count in counts.items() if count == most]
    return best[0] if len(best) == 1 else None


def _parse(cells: Sequence[str], date_format: str) -> pd.Series[pd.Timestamp]:
    times = pd.to_datetime(
        pd.Series(cells, dtype=str).str.upper(),
        format=date_format,
        errors="coerce",
        utc=True,
    )
    return times.dt.tz_localize(None).dt.normalize()
