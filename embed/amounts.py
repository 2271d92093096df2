"""Prices as text, with as many digits as their size asks for: 1,234 as 0.00078."""

import math

_N_DIGITS = 4  # of a price in a file
_SHORTEST_FIXED = 1e-3
_LARGEST_FIXED = 99_999.5


def csv_amount(price: float) -> str:
    """Write a price for a file: four decimals, or four digits if that takes more.

    Parameters
    ----------
    price : float
        Above 0, finite.

    Returns
    -------
    str
        Such as 1234.5000, 0.5000 or 0.00007812; it reads back as a number.
    """
    return f"{price:.{max(4, _N_DIGITS - 1 - _power(price))}f}"


def amount(price: float) -> str:
    """Write a price to be read: 1,234.50, 0.99, 0.00078, 1.23e+09.

    Parameters
    ----------
    price : float
        Finite; a difference of prices may be negative or 0.
    """
    if abs(price) >= 1e9 or 0 < abs(price) < 1e-9:
        return f"{price:.4g}"
    return f"{price:,.{_decimals(price)}f}"


def rounded_amount(price: float) -> str:
    """Write a price without cents from 100 on: 0.00078, 42.50, 1,234, 1.23e+09."""
    if 99.995 <= abs(price) < 1e9:
        return f"{price:,.0f}"
    return amount(price) if abs(price) < 1e9 else f"{price:.3g}"


def short_amount(price: float) -> str:
    """Write a price in at most 6 characters: 0.0078, 0.99, 42.50, 1,234, 1e+05, 8e-4.

    Parameters
    ----------
    price : float
        0 to below 1e100, finite.
    """
    if price >= _LARGEST_FIXED:
        return f"{price:.0e}"
    if price >= 99.995:
        return f"{price:,.0f}"
    if price >= _SHORTEST_FIXED or price == 0:
        return f"{price:.{_decimals(price)}f}"
    digits, power = f"{price:.1e}".split("e")
    short = f"{digits}e{int(power)}"
    return short if len(short) <= 6 else f"{float(digits):.0f}e{int(power)}"


def _decimals(price: float) -> int:
    """Return the decimals that show two digits; cents at least."""
    return max(2, 1 - _power(price))


def _power(price: float) -> int:
    return math.floor(math.log10(abs(price))) if price else 0
