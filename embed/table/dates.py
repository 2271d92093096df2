"""Read a column of dates, which must all be written in one way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from embed.table.numbers import MIN_READABLE, MISSING, clean

# Those of equal rank may read the same cell as different days; then neither is right.
_FORMATS = (
    ("ISO8601",),
    ("%Y/%m/%d", "%Y/%d/%m"),
    ("%d.%m.%Y",),
    ("%d.%m.%Y %H:%M",),
    ("%d.%m.%Y %H:%M:%S",),
    ("%d/%m/%Y", "%m/%d/%Y"),
    ("%d-%m-%Y", "%m-%d-%Y"),
    ("%d/%m/%y", "%m/%d/%y"),
    ("%d %b %Y", "%d %B %Y"),
    ("%b %d, %Y", "%B %d, %Y"),
    ("%d-%b-%Y", "%d-%b-%y"),
    ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"),
    ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
    ("%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p"),
    ("%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p"),
    ("%a, %d %b %Y %H:%M:%S %z",),
    ("%Y%m%d",),
)
_DIGIT = re.compile(r"\d", re.ASCII)
_FIRST, _LAST = pd.Timestamp("1700-01-01"), pd.Timestamp("2199-12-31")
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
    formats = fitting_formats(cells)
    return formats[0] if len(formats) == 1 else None


def fitting_formats(cells: Iterable[str]) -> list[str]:
    """Return the formats that fit best; several if they read the dates differently."""
    dates = sorted({clean(cell) for cell in cells} - MISSING)
    if sum(map(bool, map(_DIGIT.search, dates))) < MIN_READABLE * max(len(dates), 1):
        return []
    for group in _FORMATS:
        days = {name: _parse(dates, name) for name in group}
        fitting = [name for name in group if _readable(days[name]) >= MIN_READABLE]
        if len(fitting) > 1 and not days[fitting[0]].equals(days[fitting[1]]):
            most = max(_readable(days[name]) for name in fitting)
            return [name for name in fitting if _readable(days[name]) == most]
        if fitting:
            return fitting[:1]
    return []


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


def _readable(days: pd.Series[pd.Timestamp]) -> float:
    return float(days.notna().mean())


def _parse(cells: Sequence[str], date_format: str) -> pd.Series[pd.Timestamp]:
    times = pd.to_datetime(
        pd.Series(cells, dtype=str).str.upper(),
        format=date_format,
        errors="coerce",
        utc=True,
    )
    days = times.dt.tz_localize(None).dt.normalize()
    return days.where(days.between(_FIRST, _LAST))
