"""Guess the kind of each table column, or why it is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embed.table.dates import find_format
from embed.table.encode import Kind, TableColumn, readable_share
from embed.table.numbers import MIN_READABLE, MISSING, clean, find_style

_LINK = re.compile(
    r"(?:https?:|www\.|data:image)|\.(?:jpe?g|png|webp|gif|html?|pdf)$", re.IGNORECASE
)
_MANY = 20  # products from which distinct values make an identifier
_MAX_DISTINCT = 0.95  # categories, as a share of the products
_MAX_WORDS = 5  # of a category, on average
_CODE_LENGTHS = {8, 12, 13, 14}  # digits of EAN, UPC and GTIN
_ID_WORDS = {"id", "ids", "sku", "asin", "ean", "upc", "gtin", "mpn", "uuid", "index"}


def guess_kind(name: str, cells: Sequence[str]) -> Kind | str:
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
    style = find_style(known)
    number = TableColumn(name=name, kind="number", number_style=style)
    if style is not None and readable_share(number, known) >= MIN_READABLE:
        return "number"
    if find_format(known) is not None:
        return "date"
    if sum(len(text.split()) for text in known) > _MAX_WORDS * len(known):
        return "texts; use it with --text-column"
    if distinct > max(_MAX_DISTINCT * len(known), 2):
        return "hardly any value occurs twice"
    return "category"


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
