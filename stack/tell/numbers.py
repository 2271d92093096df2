"""Write numbers and names for all reports; a missing number is a dash."""

from collections.abc import Callable, Iterable, Mapping

from embed.catalog.amounts import amount, rounded_amount, short_amount

NONE = "\N{EN DASH}"


def price(value: float | None) -> str:
    """Write a price: 0.00078, 0.99, 42.50, 1,234, 1.23e+09."""
    return NONE if value is None else rounded_amount(value)


def score(value: float | None, none: str = NONE) -> str:
    """Write a SMAPE: 41.27."""
    return none if value is None else f"{value:.2f}"


def signed(value: float | None, digits: int = 2) -> str:
    """Write a difference with its sign, as +1.20."""
    return NONE if value is None else _minus(f"{_rounded(value, digits):+.{digits}f}")


def ratio(value: float | None) -> str:
    """Write a coefficient: 0.953."""
    return NONE if value is None else _minus(f"{_rounded(value, 3):.3f}")


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share of 1 as percent: 12.3 %."""
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def count(value: int | None, none: str = NONE) -> str:
    """Write a whole number: 1,234."""
    return none if value is None else f"{value:,}"


def quantity(value: float) -> str:
    """Write a number of units, whole or not: 1,234 or 2.5."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,g}"


def duration(seconds: float | None) -> str:
    """Write a time: 48 s, 12.5 min, 3.4 h."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def short_range(low: float, high: float) -> str:
    """Write a range of prices in at most 13 characters: 42.50-1,234."""
    return f"{short_amount(low)}-{short_amount(high)}"


def times(factor: float) -> str:
    """Write a factor above 0 as a multiple or, below 1, as a divisor."""
    if factor >= 1:
        return f"\N{MULTIPLICATION SIGN} {_factor(factor)}"
    return f"\N{DIVISION SIGN} {_factor(1 / factor)}"


def block_names(names: Iterable[str]) -> str:
    """Write the names of blocks, as in `--blocks`; explain the one that needs it."""
    return ", ".join(
        f"{name} (sizes, table columns)" if name == "attributes" else name
        for name in names
    )


def cell(text: str) -> str:
    """Replace the bars of a text, which would end the cell of a Markdown table."""
    return text.replace("|", "/")


def _minus(written: str) -> str:
    return written.replace("-", "\N{MINUS SIGN}")


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # turns -0.0 into 0.0


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:,.0f}"


FILTERS: Mapping[str, Callable[..., str]] = {
    "amount": amount,
    "block_names": block_names,
    "cell": cell,
    "price": price,
    "quantity": quantity,
    "score": score,
    "signed": signed,
    "ratio": ratio,
    "percent": percent,
    "count": count,
    "duration": duration,
    "times": times,
}
"""Filters of the templates by name."""
