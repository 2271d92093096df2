"""Guess the kind of each table column, or why it is left out."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from embed.catalog.columns import CatalogColumns, TableKind, shorten
from embed.table.dates import find_format, fitting_formats
from embed.table.encode import number_column, readable_share
from embed.table.numbers import MIN_READABLE, MISSING, clean, has_two_readings

BLANK = "blank"
ONE_VALUE = "every product has the same value"
"""Reasons to leave a column out whatever its dtype."""

_KINDS: tuple[TableKind, ...] = get_args(TableKind)
_LINK = re.compile(
    r"(?:https?:|www\.|data:image)|\.(?:jpe?g|png|webp|gif|html?|pdf)$", re.IGNORECASE
)
_MIN_PRODUCTS = 20  # in fewer products, distinct values need not be identifiers
_MAX_DISTINCT = 0.95  # values of a category column, as a share of the known cells
_MAX_WORDS = 5  # mean words of a category
_MIN_CODE = 8  # digits of the shortest code, an EAN-8
_MAX_DIGITS = 15  # digits of a number; a longer one is a code
_EPOCH_SECONDS = re.compile(r"1\d{9}", re.ASCII)  # of the years 2001 to 2033
_DIGITS = re.compile(r"(\d+)(?:\.0)?", re.ASCII)  # pandas writes ids as 7.0
_LEADING_ZERO = re.compile(r"0\d+", re.ASCII)
_ID_WORDS = {"id", "ids", "sku", "asin", "ean", "upc", "gtin", "mpn", "uuid", "index"}


def guess_kind(name: str, cells: Sequence[str], *, is_plain: bool = False) -> str:
    """Guess the kind of a column.

    Parameters
    ----------
    name : str
        Column name; "sku" or "id" hint at identifiers.
    cells : sequence of str
    is_plain : bool
        Whether the file stores the cells as numbers, not as text.

    Returns
    -------
    str
        "number", "category" or "date"; another text is the reason to leave it out.
    """
    known = [text for text in map(clean, cells) if text not in MISSING]
    n_distinct = len(set(known))
    if n_distinct < 2:
        return ONE_VALUE if known else BLANK
    if sum(map(bool, map(_LINK.search, known))) > len(known) / 2:
        return "links"
    digits = [match[1] for match in map(_DIGITS.fullmatch, known) if match]
    is_whole = len(digits) == len(known)
    is_unique = len(known) >= _MIN_PRODUCTS and n_distinct >= _MAX_DISTINCT * len(known)
    if is_unique and (_is_id_name(name) or (is_whole and _are_row_numbers(digits))):
        return "identifiers"
    if is_whole and {*map(len, digits)} == {8} and find_format(known) is not None:
        return "date"
    if is_whole and _are_codes(digits):
        return "identifiers" if is_unique else "category"
    if is_plain or readable_share(number_column(name, known), known) >= MIN_READABLE:
        return "number"
    if formats := fitting_formats(known):
        return "date" if len(formats) == 1 else _TWO_DATES
    if has_two_readings(known):
        return _TWO_NUMBERS
    if sum(len(text.split()) for text in known) > _MAX_WORDS * len(known):
        return "texts; use it with --text-column"
    if n_distinct > max(_MAX_DISTINCT * len(known), 2):
        return "hardly any value occurs twice"
    return "category"


_TWO_DATES = "dates that may be day/month or month/day; write them as 2024-03-31"
_TWO_NUMBERS = "1,299 may be 1299 or 1.299; write numbers without separators"


def settle_table(
    columns: CatalogColumns,
    cells: Mapping[str, Sequence[str]],
    *,
    plain_numbers: Container[str] = (),
) -> tuple[CatalogColumns, list[str]]:
    """Settle which columns `--table auto` uses, by their kind.

    Parameters
    ----------
    columns : CatalogColumns
        Returned unchanged unless its table is "auto".
    cells : mapping of str to sequence of str
        Cells of all columns of the catalog.
    plain_numbers : container of str
        Columns that the file stores as numbers.

    Returns
    -------
    columns : CatalogColumns
        Columns with each table column by its kind.
    notes : list of str
        Lines for the user: the kind of each column, or why it is left out.
    """
    if columns.table != "auto":
        return columns, []
    others = [n for n in cells if n not in {*columns.roles, *columns.kinds}]
    guesses = {
        name: "a group column or the time column"
        if name in columns.split
        else guess_kind(name, cells[name], is_plain=name in plain_numbers)
        for name in others
    }
    kinds = columns.kinds | {n: k for n, k in guesses.items() if k in _KINDS}
    of_kind = {kind: tuple(n for n, k in kinds.items() if k == kind) for kind in _KINDS}
    width = max((len(shorten(name)) for name in [*kinds, *guesses]), default=0)
    notes = ["Table columns:" if kinds or guesses else "There are no table columns."]
    for name, guess in (kinds | guesses).items():
        use = guess if name in kinds else f"left out: {guess}"
        notes.append(f"  {shorten(name):{width}}  {use}")
    settled = replace(
        columns,
        numbers=of_kind["number"],
        categories=of_kind["category"],
        dates=of_kind["date"],
        table="named",
    )
    return settled, notes


def _is_id_name(name: str) -> bool:
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return not _ID_WORDS.isdisjoint(words)


def _are_row_numbers(digits: Sequence[str]) -> bool:
    if max(map(len, digits)) > _MAX_DIGITS:  # Python refuses to read 5,000 digits
        return False
    numbers = [*map(int, digits)]
    return max(numbers) - min(numbers) < 1.1 * len(numbers)


def _are_codes(digits: Sequence[str]) -> bool:
    """Tell whether whole numbers are codes, such as EANs, phone numbers, zip codes."""
    lengths = {*map(len, digits)}
    are_alike = len(lengths) == 1 or lengths <= {8, 12, 13, 14}  # as EAN and GTIN
    are_times = all(map(_EPOCH_SECONDS.fullmatch, digits))
    if are_alike and min(lengths) >= _MIN_CODE and not are_times:
        return True
    if min(lengths) > _MAX_DIGITS:
        return True
    n_zeros = sum(map(bool, map(_LEADING_ZERO.fullmatch, digits)))
    return n_zeros > (0 if len(lengths) == 1 else (1 - MIN_READABLE) * len(digits))
