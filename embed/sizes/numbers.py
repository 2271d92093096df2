"""Read numbers of sizes: "1,500" is 1500 with a decimal point, 1.5 with a comma.

A catalog is read as a whole: sizes such as "0,75 l" or "1.5 kg" show its decimal sign.
A number with only one possible reading is always read in that way.
"""

from __future__ import annotations

import math
import re
from typing import Literal, get_args

from embed.catalog.currencies import DecimalSign

DECIMALS: tuple[DecimalSign, ...] = get_args(DecimalSign)
MAX_DIGITS = 12

Scale = Literal["small", "large", "imperial", "count"]
"""Scale of a unit: g and ml; kg and l; lb and gal; pieces."""

_FORMS: dict[DecimalSign, re.Pattern[str]] = {
    ".": re.compile(
        r"(?:\d+|[1-9]\d{0,2}([,'])\d{3}(?:\1\d{3})*"
        r"|[1-9]\d?(?:,\d\d)+,\d{3})?"  # the Indian way of grouping: 1,00,000
        r"(?:\.\d+)?",
        re.ASCII,
    ),
    ",": re.compile(r"(?:\d+|[1-9]\d{0,2}([.'])\d{3}(?:\1\d{3})*)(?:,\d+)?", re.ASCII),
}
# Denominators that are common with a slash; fifths and tenths are written as decimals.
_DENOMINATORS = (2, 3, 4, 6, 8, 16, 32)


def settle_number(written: str) -> DecimalSign | None:
    """Return the only decimal sign under which a number is valid.

    Return None if both signs are possible ("1,500", "12"), or neither ("1,2,3").
    """
    by_sign = _readings(written)
    known = [sign for sign in DECIMALS if by_sign[sign] is not None]
    return known[0] if len(known) == 1 else None


def read_number(
    written: str, decimal: DecimalSign | None, scale: Scale
) -> float | None:
    """Read a number of a size.

    Parameters
    ----------
    written : str
        Digits with signs between them.
    decimal : {".", ","} or None
        Decimal sign for a number with two possible readings; None if unknown.
    scale : {"small", "large", "imperial", "count"}
        Scale of the unit after the number. If the sign is unknown, "1.500 g" is 1500 g,
        because labels give no milligrams, "1.500 kg" is 1.5 kg, because few products
        weigh 1500 kg, and units of English-speaking countries have a decimal point.

    Returns
    -------
    float or None
        Value; None if the text is no number or too long.
    """
    by_sign = _readings(written)
    values = {value for value in by_sign.values() if value is not None}
    if len(values) < 2:
        return next(iter(values), None)
    if scale == "count":  # pieces are whole
        return max(values)
    if decimal is not None:
        return by_sign[decimal]
    if scale == "imperial":
        return by_sign["."]
    return max(values) if scale == "small" else min(values)


def read_fraction(top: float, bottom: float) -> float | None:
    """Read "1/2" or "3/4"; return None for a count before a slash, as in "2/44 oz"."""
    if not (top.is_integer() and bottom.is_integer() and 0 < top < bottom):
        return None
    is_reduced = math.gcd(int(top), int(bottom)) == 1
    is_known = bottom in _DENOMINATORS or (top == 1 and bottom <= 12)
    return top / bottom if is_reduced and is_known else None


def _readings(written: str) -> dict[DecimalSign, float | None]:
    return {sign: _read_as(written, sign) for sign in DECIMALS}


def _read_as(written: str, sign: DecimalSign) -> float | None:
    digits = sum(map(str.isdigit, written))
    if not 0 < digits <= MAX_DIGITS or not _FORMS[sign].fullmatch(written):
        return None
    ungrouped = written.replace("'", "").replace("." if sign == "," else ",", "")
    return float(ungrouped.replace(",", "."))
