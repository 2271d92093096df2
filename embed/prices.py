"""Prices as they are written in catalogs: plain numbers, or the ways of many countries.

"1,299" is 1299 in one country and 1.299 in another, so a column is read as a whole:
a single row such as "1,299.00" or "12,50" settles how all of it is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embed.columns import CatalogError, shorten

MAX_PRICE_CHARS = 100

Decimal = Literal[".", ","]

# Codes of ISO 4217 that catalogs are priced in, and what else stands for them. "$" is
# taken for the US dollar, "¥" for the yen; "kr" may be of three countries.
_CODES = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl "
    "bsd btn bwp byn bzd cad cdf chf clp cny cop crc cup cve czk djf dkk dop dzd egp "
    "ern etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr "
    "iqd irr isk jmd jod jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl "
    "lyd mad mdl mga mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr "
    "nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sdg sek sgd "
    "shp sle sos srd ssp stn svc syp szl thb tjs tmt tnd top try ttd twd tzs uah ugx "
    "usd uyu uzs ves vnd vuv wst xaf xcd xof xpf yer zar zmw"
)
_SIGNS = (
    ("usd", "$ us$ usd$ u$s"),
    ("cad", "c$ ca$ cad$ cdn$"),
    ("aud", "a$ au$ aud$"),
    ("nzd", "nz$ nzd$"),
    ("hkd", "hk$"),
    ("sgd", "s$ sg$"),
    ("twd", "nt$"),
    ("mxn", "mx$ mex$"),
    ("brl", "r$"),
    ("eur", "€ euro euros"),
    ("gbp", "£"),
    ("jpy", "¥ jp¥ 円 yen"),
    ("cny", "cn¥ rmb 元"),
    ("inr", "₹ rs rs. ₨ re."),
    ("chf", "fr. sfr sfr."),
    ("pln", "zł zl"),
    ("czk", "kč"),
    ("huf", "ft"),
    ("kr", "kr kr."),
    ("rub", "₽ \u0440\u0443\u0431 \u0440\u0443\u0431."),  # as Russians shorten it
    ("try", "₺ tl"),
    ("krw", "₩ 원"),
    ("vnd", "₫"),
    ("thb", "฿"),
    ("ils", "₪"),
    ("php", "₱"),
    ("ngn", "₦"),
    ("uah", "₴"),
    ("kzt", "₸"),
    ("gel", "₾"),
    ("zar", "r"),
)
_CURRENCIES = {code: code for code in _CODES.split()} | {
    sign: code for code, signs in _SIGNS for sign in signs.split()
}
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f\t"), " ")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u00b4`"), "'")
_DASHES = dict.fromkeys(map(ord, "\u2012\u2013\u2014"), "-")
_WIDE = {0xFF04: "$", 0xFFE5: "\u00a5"}
_SAME = {**_SPACES, **_APOSTROPHES, **_DASHES, **_WIDE}
# codes that are English words too, so they count in capitals only
_WORDS = {"all", "bam", "cup", "gel", "mad", "mop", "pen", "sos", "top", "try"}
# currency, number, what stands for no cents (",-", ".-", "/-"), currency
_PRICE = re.compile(
    r"([^\d.,]*(?:\. +)?)([.,]?\d(?:[\d., ']*\d)?(?:\.\Z)?)( ?[.,/]--?)?(\D*)",
    re.ASCII,
)
_PLAIN_ASCII = re.compile(r"[\d.]+", re.ASCII)
_NUMBERS: dict[Decimal, re.Pattern[str]] = {
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


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What one price comes to under either convention; None where it breaks it."""

    currency: str  # "" where none is written
    value: dict[Decimal, float | None]

    @property
    def settles(self) -> Decimal | None:
        """The decimal sign that the column must have for this price to be one."""
        if self.value["."] is None:
            return ","
        return "." if self.value[","] is None else None

    @property
    def is_ambiguous(self) -> bool:
        return self.settles is None and self.value["."] != self.value[","]


def plain_price(written: str) -> float:
    """Price of a cell that holds a plain number; NaN unless positive and finite."""
    try:
        price = float(written.replace("_", "?"))  # float() takes "1_000" for 1000
    except ValueError:
        return math.nan
    return price if 0 < price < math.inf else math.nan


def is_readable(written: str) -> bool:
    """Whether `parse_prices` can make something of a price."""
    return _read(written) is not None


def parse_prices(
    written: Sequence[str], *, describe: Callable[[int], str], where: str
) -> NDArray[np.float64]:
    """Read a column of prices with currencies, thousands and decimal signs.

    Parameters
    ----------
    written : sequence of str
        Such as "$1,299.00", "1.299,00 €", "1 299,00", "CHF 1'299.-", "₹1,29,900".
    describe : callable
        Names a row, given from 0, for messages.
    where : str
        Names the file and column, for messages.

    Returns
    -------
    ndarray of float64, shape (len(written),)
        Positive and finite; NaN for what is no price: blank, negative, zero, a range,
        a percentage, a word.

    Raises
    ------
    CatalogError
        If two rows are in different currencies or have different decimal signs, or
        if "1,299" or "1.299" is there and no other row tells which sign is which.
    """
    readings = [_read(price) for price in written]

    def show(row: int) -> str:
        return f"{describe(row)}: {shorten(written[row])!r}"

    _require_one_currency(readings, show, where)
    decimal = _settle(readings, show, where)
    if decimal is None:
        _refuse_ambiguous(readings, show, where)
    values = [r.value[decimal or "."] if r else None for r in readings]
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _require_one_currency(
    readings: Sequence[_Reading | None], show: Callable[[int], str], where: str
) -> None:
    first: dict[str, int] = {}
    for row, reading in enumerate(readings):
        if reading and reading.currency:
            first.setdefault(reading.currency, row)
        if len(first) > 1:
            one, other = first.values()
            raise CatalogError(
                f"{where}: prices must be in one currency, however {show(one)} and "
                f"{show(other)}. Convert them into one"
            )


def _settle(
    readings: Sequence[_Reading | None], show: Callable[[int], str], where: str
) -> Decimal | None:
    """Decimal sign of the column; None where no row tells."""
    first: dict[Decimal, int] = {}
    for row, reading in enumerate(readings):
        if reading and (sign := reading.settles):
            first.setdefault(sign, row)
        if len(first) > 1:
            one, other = first.values()
            raise CatalogError(
                f"{where}: prices must have one decimal sign, however {show(one)} and "
                f"{show(other)}. Write all of them in one way, such as 1299.00"
            )
    return next(iter(first), None)


def _refuse_ambiguous(
    readings: Sequence[_Reading | None], show: Callable[[int], str], where: str
) -> None:
    for row, reading in enumerate(readings):
        if reading and reading.is_ambiguous:
            low, high = sorted(v for v in reading.value.values() if v is not None)
            raise CatalogError(
                f"{where}: {show(row)} may be {high:.0f} or {low:.3f}, and no other "
                f"row tells which. Write it as {high:.0f} or {low:.4f}"
            )


def _read(written: str) -> _Reading | None:
    """Both readings of one price; None if it is no price under either."""
    text = written.translate(_SAME).strip().removeprefix("+")
    if len(text) > MAX_PRICE_CHARS:
        return None
    plain = plain_price(text)
    if not math.isnan(plain) and not _PLAIN_ASCII.fullmatch(text):  # 1.5e3, ٣
        by_comma = None if "." in text else plain
        return _Reading(currency="", value={".": plain, ",": by_comma})
    match = _PRICE.fullmatch(text)
    if not match:
        return None
    before, number, no_cents, after = match.groups(default="")
    if number.startswith(".") and before[-1:].isalpha():  # "Rs.500" is not 0.5
        before, number = before + ".", number[1:]
    currency = _find_currency(before, after)
    value = {sign: _to_number(number, no_cents.strip(), sign) for sign in _NUMBERS}
    if currency is None or not any(value.values()):
        return None
    return _Reading(currency=currency, value=value)


def _find_currency(before: str, after: str) -> str | None:
    """Code of the currency, "" where none is written; None if that is something else.

    It may stand on both sides ("$12 USD").
    """
    codes = set()
    for written in (before, after):
        tokens = written.split()
        joined = "".join(tokens)
        for token in [joined] if joined.casefold() in _CURRENCIES else tokens:
            name = token.casefold()
            if name not in _CURRENCIES or (name in _WORDS and not token.isupper()):
                return None
            codes.add(_CURRENCIES[name])
    if len(codes) > 1:
        return None
    return next(iter(codes), "")


def _to_number(number: str, no_cents: str, sign: Decimal) -> float | None:
    """Positive number under one convention, or None."""
    if no_cents and (sign in number or (no_cents[0] == "," and sign == ".")):
        return None
    if not _NUMBERS[sign].fullmatch(number):
        return None
    thousands = ",' " if sign == "." else ".' "
    digits = number.translate(dict.fromkeys(map(ord, thousands)))
    price = plain_price(digits.replace(",", "."))
    return None if math.isnan(price) else price
