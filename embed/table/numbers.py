"""Read a column of numbers as people write them: "1.299,5", "3 kg", "45 %", "₹ 1,200".

The decimal sign belongs to the column as a whole: "1,299" is 1299 in one country and
1.299 in another.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embed.catalog.currencies import find_currency
from embed.sizes.units import UNITS

DecimalSign = Literal[".", ","]

MISSING = frozenset(
    {
        *("", "-", "--", "---", ".", "?", "na", "n/a", "n.a.", "nan", "nat", "none"),
        *("null", "(null)", "(blank)", "\\n", "nil", "undefined", "tbd", "tba"),
        *("<na>", "unknown", "not available", "not applicable", "inf", "-inf"),
        *("#n/a", "#ref!", "#div/0!", "#value!", "#name?", "#null!", "#num!"),
        *("0000-00-00", "0000-00-00 00:00:00", "9999-12-31", "31.12.9999"),
    }
)
"""Cells, in lower case, that stand for an unknown value."""

MIN_READABLE = 0.95
"""Share of the known cells of a column that its kind must be able to read."""

_PLAIN = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_PLAIN |= {0x066B: ".", 0x066C: ","}  # Arabic decimal and thousands separators
_PARTS = re.compile(
    r"([^\W\d_]{1,6}\.?|[^\w.,+-]{0,3})\s*"  # a currency or another word
    r"([+-]?)(\d[\d.,' ]*|[.,]\d+)"
    r"(\D{0,20})",  # a unit
    re.ASCII,
)
_SCIENTIFIC = re.compile(r"[+-]?\d{1,20}(?:\.\d{0,20})?e[+-]?\d{1,2}", re.ASCII)
_STYLES: dict[DecimalSign, re.Pattern[str]] = {
    ".": re.compile(
        r"(?:\d+|[1-9]\d{0,2}([, '])\d{3}(?:\1\d{3})*|[1-9]\d?(?:,\d\d)+,\d{3})?"
        r"(?:\.\d*)?"
    ),
    ",": re.compile(r"(?:\d+|[1-9]\d{0,2}([. '])\d{3}(?:\1\d{3})*)?(?:,\d*)?"),
}


@dataclass(frozen=True, kw_only=True)
class NumberStyle:
    """The way in which one column writes its numbers."""

    decimal_sign: DecimalSign

    factor_of_unit: dict[str, float]
    """Factor of each unit into the unit of the feature; "" is the absence of a unit. A
    number with any other unit is unknown."""


def clean(cell: str) -> str:
    """Return a cell in lower case, with plain digits and dashes and single spaces."""
    plain = cell
    if not cell.isascii():
        plain = unicodedata.normalize("NFKC", cell).translate(_PLAIN)
        plain = "".join(
            str(unicodedata.decimal(c)) if c.isdecimal() else c for c in plain
        )
    return " ".join(plain.casefold().split())


def find_style(cells: Iterable[str]) -> NumberStyle | None:
    """Find the decimal sign and the units of a column.

    Returns
    -------
    NumberStyle or None
        None if there is no number, no decimal sign fits all numbers, or numbers such
        as "1,299" have two readings and no other number settles which.
    """
    parts = [part for part in map(_split, cells) if part is not None]
    signs = _decimal_signs({number for _, number, _ in parts})
    if not parts or len(signs) != 1:
        return None
    factors = _factors(Counter(unit for _, _, unit in parts))
    return NumberStyle(decimal_sign=signs[0], factor_of_unit=factors)


def has_two_readings(cells: Sequence[str]) -> bool:
    """Tell whether most cells are numbers with two readings, such as 1,299."""
    parts = [part for part in map(_split, cells) if part is not None]
    signs = _decimal_signs({number for _, number, _ in parts})
    return len(signs) > 1 and len(parts) >= MIN_READABLE * len(cells)


def _decimal_signs(numbers: Collection[str]) -> list[DecimalSign]:
    """Return the decimal signs that fit all numbers; one if both give equal values."""
    fitting = [
        sign for sign, style in _STYLES.items() if all(map(style.fullmatch, numbers))
    ]
    readings = {tuple(_value(number, sign) for number in numbers) for sign in fitting}
    return fitting if len(readings) > 1 else fitting[:1]


def read_numbers(cells: Sequence[str], style: NumberStyle) -> NDArray[np.float64]:
    """Return the numbers of a column, shape (n_cells,).

    A cell without a number in this style is NaN; a number too large for float64 is
    infinite.
    """
    return np.array([_read(cell, style) for cell in cells], dtype=np.float64)


def _read(cell: str, style: NumberStyle) -> float:
    part = _split(cell)
    if part is None:
        return math.nan
    sign, number, unit = part
    if unit not in style.factor_of_unit or not _STYLES[style.decimal_sign].fullmatch(
        number
    ):
        return math.nan
    value = _value(number, style.decimal_sign) * style.factor_of_unit[unit]
    return -value if sign == "-" else value


def _split(cell: str) -> tuple[str, str, str] | None:
    """Return sign, digits and unit of a cell; None if it is no single number."""
    text = clean(cell)
    if _SCIENTIFIC.fullmatch(text):
        text = format(Decimal(text), "f")
    match = _PARTS.fullmatch(text)
    if match is None:
        return None
    before, sign, digits, after = (part.strip() for part in match.groups())
    if after == "-":  # 5- may be negative
        return None
    if before and find_currency(before, "") is None:
        return None
    return sign, digits, before + after


def _value(number: str, sign: DecimalSign) -> float:
    grouping = ",' " if sign == "." else ".' "
    plain = number.translate(dict.fromkeys(map(ord, grouping))).replace(",", ".")
    return float(plain)


def _factors(units: Counter[str]) -> dict[str, float]:
    """Return the factor of each unit that converts into the feature's unit."""
    known = {unit: UNITS[unit] for unit in units if unit in UNITS}
    if len(units) > 1 and len(known) == len(units) - ("" in units):
        kinds = {kind for kind, _ in known.values()}
        if len(kinds) == 1 and "" not in units:
            return {unit: factor for unit, (_, factor) in known.items()}
    (usual, _), *_ = units.most_common(1)
    return {usual: 1.0}
