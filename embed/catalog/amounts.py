"""Write prices as text, with as many digits as their size needs: 1,234 or 0.000781."""

import math

_LARGEST_FIXED = 99_999.5
_SHORTEST_FIXED = 1e-3


def csv_amount(price: float) -> str:
    """Write a price for a file: four decimals, or four digits if that takes more.

    Parameters
    ----------
    price : float
        Price above 0, finite.

    Returns
    -------
    str
        For example 1234.5000, 0.5000 or 0.00007812, which CSV readers parse.
    """
    return f"{price:.{max(4, 3 - _power(price))}f}"


def amount(price: float) -> str:
    """Write a price to be read: 1,234.50, 0.99, 0.0781, 0.000781, 1.23e+09.

    Parameters
    ----------
    price : float
        Price of 0 or above, finite.
    """
    if price >= 1e9 or 0 < price < 1e-9:
        return f"{price:.4g}"
    return f"{price:,.{_decimals(price)}f}"


def rounded_amount(price: float) -> str:
    """Write a price, without cents if it is 100 or more: 0.000781, 42.50, 1,234."""
    if price < 99.995:
        return amount(price)
    return f"{price:,.0f}" if price < 1e9 else f"{price:.3g}"


def short_amount(price: float) -> str:
    """Write a price in at most 6 characters: 7.8e-4, 0.0078, 42.50, 1,234, 1e+05.

    Parameters
    ----------
    price : float
        0 to below 1e100, finite.
    """
    if price >= 99.995:
        return f"{price:,.0f}" if price < _LARGEST_FIXED else f"{price:.0e}"
    if price >= _SHORTEST_FIXED or price == 0:
        return f"{price:.{min(4, _decimals(price))}f}"
    for digits in (1, 0):
        mantissa, power = f"{price:.{digits}e}".split("e")
        short = f"{mantissa}e{int(power)}"
        if len(short) <= 6:
            break
    return short


def _decimals(price: float) -> int:
    """Return the number of decimals of a price: 2; below 0.1, three digits' worth."""
    return 2 if price == 0 or price >= 0.1 else 2 - _power(price)


def _power(price: float) -> int:
    return math.floor(math.log10(price))
