"""Lay out plain-text reports in lines of at most 100 characters."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 100
DASH = "-"
"""Sign for a missing number: a hyphen, as some terminals cannot show an en dash."""

LABEL = 26
"""Characters of a table's first column."""

_CELL = 14


def wrap(
    text: str,
    *,
    indent: str = "",
    hanging: str | None = None,
    whole_words: bool = False,
) -> str:
    """Break a paragraph into lines of at most `WIDTH` characters.

    Parameters
    ----------
    text : str
    indent : str
        Text before the first line.
    hanging : str, optional
        Text before each further line; default: `indent`.
    whole_words : bool
        Never break a word, not even one longer than a line.
    """
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=not whole_words,
        break_on_hyphens=not whole_words,
    )


def table(rows: Sequence[tuple[str, Sequence[str]]], *, n_headings: int = 0) -> str:
    """Lay out a table of labels and right-aligned cells.

    Parameters
    ----------
    rows : sequence of (str, sequence of str)
        Label and cells of each row.
    n_headings : int
        Rows above a horizontal line; 0 for no line.
    """
    lines = [
        f"{label:{LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)
        for label, cells in rows
    ]
    if n_headings:
        lines.insert(n_headings, "-" * (LABEL + _CELL * len(rows[0][1])))
    return "\n".join(lines)


def difference(label: str, interval: Mapping[str, Any]) -> str:
    """Write a table row with a difference and its interval."""
    return (
        f"  {label:{LABEL - 2}}{interval['mean']:+9.3f}"
        f"   [{interval['low']:+.3f}, {interval['high']:+.3f}]"
    )
