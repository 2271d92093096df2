"""Guess the kind of each table column, or why it is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from embed.catalog.columns import CatalogColumns, TableKind, shorten
from embed.table.dates import find_format
from embed.table.encode import number_column, readable_share
from embed.table.numbers import MIN_READABLE, MISSING, clean

_KINDS: tuple[TableKind, ...] = get_args(TableKind)
_LINK = re.compile(
    r"(?:https?:|www\.|data:image)|\.(?:jpe?g|png|webp|gif|html?|pdf)$", re.IGNORECASE
)
_MANY = 20  # products from which distinct values make an identifier
_MAX_DISTINCT = 0.95  # categories, as a share of the products
_MAX_WORDS = 5  # of a category, on average
_CODE_LENGTHS = {8, 12, 13, 14}  # digits of EAN, UPC and GTIN
_ID_WORDS = {"id", "ids", "sku", "asin", "ean", "upc", "gtin", "mpn", "uuid", "index"}


def guess_kind(name: str, cells: Sequence[str]) -> str:
    """Guess the kind of a column.

    Parameters
    ----------
    name : str
    cells : sequence of str

    Returns
    -------
    str
        "number", "category" or "date"; another text is the reason to leave it out.
    """
    known = [text for text in map(clean, cells) if text not in MISSING]
    distinct = len(set(known))
    if distinct < 2:
        return "every product has the same value" if known else "blank"
    if sum(map(bool, map(_LINK.search, known))) > len(known) / 2:
        return "links"
    if _is_identifier(name, known, distinct):
        return "identifiers"
    if readable_share(number_column(name, known), known) >= MIN_READABLE:
        return "number"
    if find_format(known) is not None:
        return "date"
    if sum(len(text.split()) for text in known) > _MAX_WORDS * len(known):
        return "texts; use it with --text-column"
    if distinct > max(_MAX_DISTINCT * len(known), 2):
        return "hardly any value occurs twice"
    return "category"


def settle_table(
    columns: CatalogColumns, cells: Mapping[str, Sequence[str]]
) -> tuple[CatalogColumns, list[str]]:
    """Settle which columns `--table auto` uses, by their kind.

    Parameters
    ----------
    columns : CatalogColumns
        Returned unchanged unless its table is "auto".
    cells : mapping of str to sequence of str
        Cells of all columns of the catalog.

    Returns
    -------
    columns : CatalogColumns
        Columns whose table columns are all named.
    notes : list of str
        Lines for the user: the kind of each column, or why it is left out.
    """
    if columns.table != "auto":
        return columns, []
    others = [n for n in cells if n not in {*columns.roles, *columns.kinds}]
    guesses = {name: guess_kind(name, cells[name]) for name in others}
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


def _is_identifier(name: str, known: Sequence[str], distinct: int) -> bool:
    if len(known) < _MANY or distinct < 0.95 * len(known):
        return False
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if _ID_WORDS & set(words):
        return True
    if not all(text.isascii() and text.isdigit() for text in known):
        return False
    is_code = {len(text) for text in known} <= _CODE_LENGTHS
    numbers = sorted(map(int, known))
    is_row_number = numbers[-1] - numbers[0] < 1.1 * len(numbers)
    return is_code or is_row_number
