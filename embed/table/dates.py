"""Read a column of dates, which must all be written in one way.

It needs no pandas, because an exported model reads dates without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from embed.table.numbers import MIN_READABLE, MISSING, clean

ISO_FORMAT = "ISO8601"

# The first group that fits decides. Formats of one group may read the same cells as
# different days; then the column has no format.
_FORMATS = (
    (ISO_FORMAT,),
    ("%Y%m%d",),
    ("%Y/%m/%d", "%Y/%d/%m"),
    ("%d.%m.%Y",),
    ("%d.%m.%Y %H:%M",),
    ("%d.%m.%Y %H:%M:%S",),
    ("%d/%m/%Y", "%m/%d/%Y"),
    ("%d-%m-%Y", "%m-%d-%Y"),
    ("%d/%m/%y", "%m/%d/%y"),
    ("%d %b %Y",),
    ("%b %d, %Y",),
    ("%d-%b-%Y", "%d-%b-%y"),
    ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"),
    ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
    ("%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p"),
    ("%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p"),
    ("%a, %d %b %Y %H:%M:%S %z",),
)
DATE_FORMATS = tuple(name for group in _FORMATS for name in group)
"""Formats of `strptime`, and "ISO8601"."""

_PIECES = {
    "%Y": r"(?P<year>\d{4})",
    "%y": r"(?P<short_year>\d\d)",
    "%m": r"(?P<month>\d\d?)",
    "%d": r"(?P<day>\d\d?)",
    "%b": r"(?P<name>[a-z]{3,9})",  # short or in full
    "%H": r"(?P<hour>\d\d?)",
    "%M": r"(?P<minute>\d\d?)",
    "%S": r"(?P<second>\d\d?)",
    "%I": r"(?P<hour>0?[1-9]|1[0-2])",
    "%p": r"(?P<half>[ap])m",
    "%a": r"[a-z]{3}",
    "%z": r"(?:gmt|utc|z|(?P<zone>[+-])(?P<zone_hour>\d\d):?(?P<zone_minute>\d\d))",
}
_ISO_TIME = (
    r"[t ]%H(?::%M(?::%S(?:[.,]\d+)?)?)?"
    r"(?: ?(?:z|(?P<zone>[+-])(?P<zone_hour>\d\d):?(?P<zone_minute>\d\d)?))?"
)
_ISO = rf"%Y(?:(?P<sign>[-/.])%m(?:(?P=sign)%d(?:{_ISO_TIME})?)?)?"
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_NUMBER_OF_MONTH = {
    name: number
    for number, month in enumerate(_MONTHS, start=1)
    for name in (month, month[:3])
}
EPOCH = date(2000, 1, 1)
"""Day from which days are counted."""
_YEARS = range(1700, 2200)
PARTS = ("day", "month", "weekday")
"""Features of a date: days since 2000-01-01, month from 1, day of the week from 0."""


def find_format(cells: Iterable[str]) -> str | None:
    """Find the format that at least 95 % of a column's dates have.

    Returns
    -------
    str or None
        A format of `strptime`, or "ISO8601". None if there is no date, no format fits,
        or "3/4/2024" has two readings and no other cell settles which.
    """
    formats = fitting_formats(cells)
    return formats[0] if len(formats) == 1 else None


def fitting_formats(cells: Iterable[str]) -> list[str]:
    """Return the formats that read most of a column's dates.

    Returns
    -------
    list of str
        Several formats if they read the dates differently; none if there is no date or
        no format reads 95 % of them.
    """
    dates = sorted({clean(cell) for cell in cells} - MISSING)
    if not dates:
        return []
    for group in _FORMATS:
        read = {name: _read_most(dates, name) for name in group}
        fitting = {name: days for name, days in read.items() if days is not None}
        if fitting:
            return _fit_best(fitting)
    return []


def read_dates(cells: Sequence[str], date_format: str) -> NDArray[np.float64]:
    """Return the parts of each date.

    Parameters
    ----------
    cells : sequence of str
    date_format : str
        One of `DATE_FORMATS`.

    Returns
    -------
    ndarray of shape (n_cells, 3)
        `PARTS` of each date; NaN where a cell has no date in this format.
    """
    day_of = {cell: _read(clean(cell), date_format) for cell in set(cells)}
    parts = np.full((len(cells), len(PARTS)), np.nan)
    for row, cell in enumerate(cells):
        if (day := day_of[cell]) is not None:
            parts[row] = (day - EPOCH).days, day.month, day.weekday()
    return parts


def write_date(text: str, date_format: str) -> str:
    """Write a date such as "2024-03-31" in a format of `DATE_FORMATS`.

    Other texts stay as they are, and dates that the format cannot express: two digits
    for the year 1960 would be read as 2060.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    written = midnight.strftime(date_format)
    return written if _read(clean(written), date_format) == day else text


def _read_most(dates: Sequence[str], date_format: str) -> list[date | None] | None:
    """Return the day of each date; None if more than 5 % are unreadable."""
    days: list[date | None] = []
    n_allowed = int((1 - MIN_READABLE) * len(dates))
    for text in dates:
        days.append(_read(text, date_format))
        n_allowed -= days[-1] is None
        if n_allowed < 0:
            return None
    return days


def _fit_best(days: Mapping[str, Sequence[date | None]]) -> list[str]:
    """Return the formats that read most cells; one if they read them alike."""
    n_unread = {name: list(read).count(None) for name, read in days.items()}
    best = [name for name, n in n_unread.items() if n == min(n_unread.values())]
    same = all(days[name] == days[best[0]] for name in best)
    return best[:1] if same else best


def _read(text: str, date_format: str) -> date | None:
    """Return the day in UTC of a cleaned cell."""
    match = _pattern(date_format).fullmatch(text)
    if match is None:
        return None
    parts = {name: part for name, part in match.groupdict().items() if part}
    year = int(parts.get("year") or _full_year(int(parts["short_year"])))
    month = _NUMBER_OF_MONTH.get(parts.get("name", ""), int(parts.get("month", 1)))
    if "name" in parts and parts["name"] not in _NUMBER_OF_MONTH:
        return None
    hour, minute, second, zone_hour, zone_minute = (
        int(parts.get(name, 0))
        for name in ("hour", "minute", "second", "zone_hour", "zone_minute")
    )
    if "half" in parts:
        hour = hour % 12 + 12 * (parts["half"] == "p")
    offset = timedelta(hours=zone_hour, minutes=zone_minute)
    try:
        time = datetime(year, month, int(parts.get("day", 1)), hour, minute, second)
    except ValueError:  # there is no such day
        return None
    if year not in _YEARS:
        return None
    return (time + offset if parts.get("zone") == "-" else time - offset).date()


def _full_year(short_year: int) -> int:
    return short_year + (1900 if short_year >= 69 else 2000)  # as POSIX has it


@cache
def _pattern(date_format: str) -> re.Pattern[str]:
    if date_format == "%Y%m%d":  # "2024111" has two readings
        return re.compile(r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)", re.ASCII)
    written = _ISO if date_format == ISO_FORMAT else re.escape(date_format)
    for piece, pattern in _PIECES.items():
        written = written.replace(piece, pattern)
    return re.compile(written, re.ASCII)
