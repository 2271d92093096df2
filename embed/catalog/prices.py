"""Read prices as catalogs write them: plain numbers, or the styles of many countries.

"1,299" is 1299 in one country and 1.299 in another, so a column is read as a whole. A
row such as "1,299.00" or "12,50" settles the decimal sign, else the caller, else the
currency: yen have no decimals, and rupees are never written with a decimal comma.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogError, shorten
from embed.catalog.currencies import (
    NO_CENTS,
    THREE_DECIMALS,
    USUAL_SIGN,
    DecimalSign,
    drop_shared,
    find_currency,
)

MAX_PRICE_CHARS = 100

_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f\t"), " ")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u00b4`"), "'")
_DASHES = dict.fromkeys(map(ord, "\u2012\u2013\u2014\u2212"), "-")
_WIDE = {0xFF01 + code: chr(0x21 + code) for code in range(94)} | {0xFFE5: "\u00a5"}
_ARABIC = {0x066B: ".", 0x066C: ","}
# Marks of writing direction and marks without width.
_UNSEEN = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
)
_SAME = {**_SPACES, **_APOSTROPHES, **_DASHES, **_WIDE, **_ARABIC, **_UNSEEN}
_POINT_INSIDE = re.compile(r"(?<=[^\W\d_])\.(?=[^\W\d_])")  # as in \u062f.\u0625
# currency, number, a sign for "no cents" (",-", ".-", "/-"), currency
_PRICE = re.compile(
    r"([^\d.,]*(?:\. +)?)([.,]?\d(?:[\d., ']*\d)?(?:\.\Z)?)( ?[.,/]--?)?(\D*)",
    re.ASCII,
)
_PLAIN_ASCII = re.compile(r"[\d.]+", re.ASCII)
_NUMBERS: dict[DecimalSign, re.Pattern[str]] = {
    ".": re.compile(
        r"(?:\d+|[1-9]\d{0,2}([, '])\d{3}(?:\1\d{3})*"
        r"|[1-9]\d?(?:,\d\d)+,\d{3})?"  # the Indian way of grouping: 1,29,900
        r"(?:\.\d*)?",
        re.ASCII,
    ),
    ",": re.compile(
        r"(?:\d+|[1-9]\d{0,2}([. '])\d{3}(?:\1\d{3})*)?(?:,\d+)?", re.ASCII
    ),
}
_THREE_DECIMALS = re.compile(r"[1-9]\d{0,2}\.\d{3}", re.ASCII)
_CENTS = re.compile(r"\d+(?:\.(?:\d\d)?)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """The value of one price under each decimal sign; None if the price breaks it."""

    currency: str  # "" where none is written
    value: dict[DecimalSign, float | None]

    @property
    def settles(self) -> DecimalSign | None:
        """The only decimal sign under which this price is valid, if there is one."""
        if self.value["."] is None:
            return ","
        return "." if self.value[","] is None else None

    @property
    def is_ambiguous(self) -> bool:
        return self.settles is None and self.value["."] != self.value[","]

    @property
    def ends(self) -> tuple[float, float]:
        """The lesser and the greater value."""
        low, high = sorted(v for v in self.value.values() if v is not None)
        return low, high


def plain_price(written: str) -> float:
    """Return the price of a plain number; NaN unless positive and finite."""
    try:
        price = float(written.replace("_", "?"))  # float() takes "1_000" for 1000
    except ValueError:
        return math.nan
    return price if 0 < price < math.inf else math.nan


def is_readable(written: str) -> bool:
    """Tell whether `parse_prices` can read a price."""
    return isinstance(_read(written), _Reading)


def why_unusable(written: str) -> str:
    """Describe in a few words why a cell has no usable price."""
    reading = _read(written)
    return "not a plain number" if isinstance(reading, _Reading) else reading


def parse_prices(
    written: Sequence[str],
    *,
    describe: Callable[[int], str],
    where: str,
    decimal_sign: DecimalSign | None = None,
) -> NDArray[np.float64]:
    """Read a column of prices with currencies, thousands and decimal signs.

    Parameters
    ----------
    written : sequence of str
        Cells such as "$1,299.00", "1.299,00 €", "1 299,00", "CHF 1'299.-", "₹1,29,900".
    describe : callable
        Function that names a row, counted from 0, for messages.
    where : str
        File and column, for messages.
    decimal_sign : {".", ","}, optional
        Decimal sign of the column; None infers it from the prices and their currency.

    Returns
    -------
    ndarray of float64, shape (len(written),)
        Positive and finite; NaN for a cell that is no price: blank, negative, zero, a
        range, a percentage, a word.

    Raises
    ------
    CatalogError
        If two rows have different currencies or decimal signs, or if "1,299" or
        "1.299" occurs and nothing settles the decimal sign.
    """
    results = map(_read, written)
    readings = [result if isinstance(result, _Reading) else None for result in results]

    def show(row: int) -> str:
        return f"{describe(row)}: {shorten(written[row])!r}"

    currency = _require_one_currency(readings, show, where)
    decimal = _settle(readings, show, where, decimal_sign)
    if decimal is None and currency in NO_CENTS:
        values = [r.ends[1] if r else None for r in readings]
    else:
        decimal = decimal or _by_currency(currency, readings)
        if decimal is None:
            _refuse_ambiguous(readings, show, where)
        values = [r.value[decimal or "."] if r else None for r in readings]
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def three_decimals(written: Sequence[str]) -> tuple[int, bool] | None:
    """Find a plain number that may be thousands, such as "1.299" beside "899".

    Parameters
    ----------
    written : sequence of str
        Cells of a column that is read as plain numbers.

    Returns
    -------
    row : int
        Row of the first such number, from 0.
    is_settled : bool
        Whether other rows have cents, as in "12.50", so that the point cannot stand
        for thousands in all of them.

    Returns None if there is no such number, or if other prices of the column have three
    or more decimals or a single one: "0.075", "12.5", "3.14159".
    """
    cells = [cell.strip() for cell in written]
    candidates = [row for row, c in enumerate(cells) if _THREE_DECIMALS.fullmatch(c)]
    if not candidates:
        return None
    other_cells = Counter(c for c in cells if not _THREE_DECIMALS.fullmatch(c))
    prices = [c for c in other_cells if not math.isnan(plain_price(c))]
    if not all(map(_CENTS.fullmatch, prices)):
        return None
    return candidates[0], any("." in c.rstrip(".") for c in prices)


def _require_one_currency(
    readings: Sequence[_Reading | None], show: Callable[[int], str], where: str
) -> str:
    """Return the currency of a column, "" where none is written."""
    first: dict[str, int] = {}
    for row, reading in enumerate(readings):
        if reading and reading.currency:
            first.setdefault(reading.currency, row)
        if len(first) > 1:
            first = drop_shared(first)
        if len(first) > 1:
            row_a, row_b = first.values()
            raise CatalogError(
                f"{where}: prices must be in one currency, however {show(row_a)} and "
                f"{show(row_b)}. Convert them into one"
            )
    return next(iter(first), "")


def _settle(
    readings: Sequence[_Reading | None],
    show: Callable[[int], str],
    where: str,
    option: DecimalSign | None,
) -> DecimalSign | None:
    """Return the column's decimal sign, from its rows or --decimal-sign, else None."""
    first: dict[DecimalSign, int] = {}
    for row, reading in enumerate(readings):
        if reading and (sign := reading.settles):
            first.setdefault(sign, row)
        if len(first) > 1:
            row_a, row_b = first.values()
            raise CatalogError(
                f"{where}: prices must have one decimal sign, however {show(row_a)} "
                f"and {show(row_b)}. Write all of them in one way, such as 1299.00"
            )
    written = next(iter(first), None)
    if option is not None and written not in (option, None):
        raise CatalogError(
            f"{where}: --decimal-sign {option} was given, however "
            f"{show(first[written])} has the decimal sign {written!r}. Run `pricestack "
            f"embed` without the option"
        )
    return option or written


def _by_currency(
    currency: str, readings: Sequence[_Reading | None]
) -> DecimalSign | None:
    """Return the usual decimal sign of a currency, unless a price contradicts it."""
    sign = USUAL_SIGN.get(currency)
    if sign is None or currency in THREE_DECIMALS:
        return sign
    # In other currencies three decimals are odd: the sign may stand for thousands.
    odd = any(r.is_ambiguous and r.value[sign] == r.ends[0] for r in readings if r)
    return None if odd else sign


def _refuse_ambiguous(
    readings: Sequence[_Reading | None], show: Callable[[int], str], where: str
) -> None:
    for row, reading in enumerate(readings):
        if reading and reading.is_ambiguous:
            low, high = reading.ends
            as_high, as_low = (
                next(sign for sign, value in reading.value.items() if value == end)
                for end in (high, low)
            )
            raise CatalogError(
                f"{where}: {show(row)} may be {high:.0f} or {low:.3f}, and no other "
                f"row settles which. Run `pricestack embed` again with --parse-prices "
                f"--decimal-sign {as_high} if it is {high:.0f}, --decimal-sign "
                f"{as_low} if it is {low:.3f}; or write it as {high:.0f} or {low:.4f}"
            )


def _read(written: str) -> _Reading | str:
    """Return both readings of one price, or the reason why it is none."""
    text = _normalise(written)
    if not text:
        return "blank"
    if len(text) > MAX_PRICE_CHARS:
        return f"longer than {MAX_PRICE_CHARS} characters"
    plain = plain_price(text)
    if not math.isnan(plain) and not _PLAIN_ASCII.fullmatch(text):  # 1.5e3
        by_comma = None if "." in text else plain
        return _Reading(currency="", value={".": plain, ",": by_comma})
    match = _PRICE.fullmatch(text)
    if not match:
        return _why_no_price(text)
    before, number, no_cents, after = match.groups(default="")
    # "Rs.500" is not 0.5, nor "S/.5".
    if number.startswith(".") and (before[-1:].isalpha() or before.endswith("/")):
        before, number = before + ".", number[1:]
    currency = find_currency(before, after)
    if currency is None:
        return _why_no_price(text)
    value = {sign: _to_number(number, no_cents.strip(), sign) for sign in _NUMBERS}
    if not any(value.values()):
        return _why_no_number(number)
    return _Reading(currency=currency, value=value)


def _normalise(written: str) -> str:
    """Replace digits, signs and spaces by their plain forms."""
    text = unicodedata.normalize("NFC", written[: 4 * MAX_PRICE_CHARS])
    text = text.translate(_SAME).strip().removeprefix("+")
    if not text.isascii():
        text = _POINT_INSIDE.sub("", text)
        text = "".join(
            str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text
        )
    return text


def _why_no_price(text: str) -> str:
    numbers = re.findall(r"\d[\d.,' ]*", text, re.ASCII)
    if not numbers:
        return "no number"
    with suppress(ValueError):  # a plain number that is no price
        number = float(text.replace("_", "?"))
        return "negative" if number < 0 else "too large" if number else "zero"
    if len(numbers) > 1:
        return "more than one number"
    if "%" in text:
        return "a percentage"
    before, _, after = (part.strip() for part in text.partition(numbers[0]))
    if "-" in (before[:1], before[-1:], after) or before[:1] + after[-1:] == "()":
        return "negative"
    return "text beside the number that is not one currency"


def _why_no_number(number: str) -> str:
    digits = number.translate(dict.fromkeys(map(ord, ".,' ")))
    if not digits.strip("0"):
        return "zero"
    if len(digits) > 300:
        return "too large"
    return "digits grouped neither as 1,299.00 nor as 1.299,00"


def _to_number(number: str, no_cents: str, sign: DecimalSign) -> float | None:
    """Return a positive number under one decimal sign, or None."""
    if no_cents and (sign in number or (no_cents[0] == "," and sign == ".")):
        return None
    if not _NUMBERS[sign].fullmatch(number):
        return None
    thousands = ",' " if sign == "." else ".' "
    digits = number.translate(dict.fromkeys(map(ord, thousands)))
    price = plain_price(digits.replace(",", "."))
    return None if math.isnan(price) else price
