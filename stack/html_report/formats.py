"""Number formats of the page; a missing number is a dash."""

from collections.abc import Callable, Mapping

from embed.catalog.amounts import rounded_amount

NONE = "\N{EN DASH}"


def price(value: float | None) -> str:
    """Write a price: 0.00078, 0.99, 42.50, 1,234, 1.23e+09."""
    return NONE if value is None else rounded_amount(value)


def score(value: float | None) -> str:
    """Write a SMAPE: 41.27."""
    return NONE if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Write a difference with its sign, as +1.20."""
    return NONE if value is None else _minus(f"{_rounded(value, 2):+.2f}")


def ratio(value: float | None) -> str:
    """Write a coefficient: 0.953."""
    return NONE if value is None else _minus(f"{_rounded(value, 3):.3f}")


def percent(share: float | None) -> str:
    """Write a share of 1 as percent: 12.3 %."""
    return NONE if share is None else f"{100 * share:.1f} %"


def count(value: int | None) -> str:
    """Write a whole number: 1,234."""
    return NONE if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """Write a time: 48 s, 12.5 min, 3.4 h."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def times(factor: float) -> str:
    """Write a factor as a multiple or, below 1, as a divisor."""
    if factor >= 1:
        return f"\N{MULTIPLICATION SIGN} {_factor(factor)}"
    return f"\N{DIVISION SIGN} {_factor(1 / factor)}"


def _minus(written: str) -> str:
    return written.replace("-", "\N{MINUS SIGN}")


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # turns -0.0 into 0.0


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:,.0f}"


FILTERS: Mapping[str, Callable[..., str]] = {
    "price": price,
    "score": score,
    "signed": signed,
    "ratio": ratio,
    "percent": percent,
    "count": count,
    "duration": duration,
    "times": times,
}
"""Filters of the template by name."""
