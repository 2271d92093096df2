"""Which columns a catalog has, and the error for one that cannot be used."""

from __future__ import annotations

import difflib
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embed.currencies import DecimalSign
from embed.errors import InputError

logger = logging.getLogger(__name__)
N_COLUMNS_SHOWN = 20


class CatalogError(InputError):
    """A catalog cannot be used; the message is one line and says what to do."""


@dataclass(frozen=True, kw_only=True)
class CatalogColumns:
    """Names of the catalog's columns, and how its prices are written."""

    sample_id: str = "sample_id"
    """Unique name of a product."""
    text: tuple[str, ...] = ("catalog_content",)
    """One or more text columns, in reading order."""
    image: str = "image_link"
    """Address or file name of the photo; may be absent from the file."""
    price: str = "price"
    """Price in catalog currency; may be absent from the file."""
    parse_prices: bool = False
    """Read prices such as "$1,299.00" or "12,50", which are not plain numbers."""
    decimal_sign: DecimalSign | None = None
    """Of the prices; None: found from them. Only "." goes with plain numbers."""

    def __post_init__(self) -> None:
        if not self.text:
            raise CatalogError(
                "catalog columns: text must name at least one column, however: "
                f"text={self.text!r}. Name it with --text-column"
            )


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What a file holds in the columns asked for, in file order."""

    of: dict[str, list[str]]
    """Cells of each column, as text; all columns are of one length."""
    numbers: frozenset[str] = frozenset()
    """Columns that hold numbers rather than text that may look like one."""


def needed_columns(
    path: Path, columns: CatalogColumns, present: Sequence[str]
) -> list[str]:
    """Columns to read of those in the file.

    Parameters
    ----------
    path : Path
        For messages.
    columns : CatalogColumns
    present : sequence of str
        In file order.

    Returns
    -------
    list of str
        In file order; the image and price columns only where the file has them.

    Raises
    ------
    CatalogError
        If an id or text column is missing, or a column to read is there twice.
    """
    options = dict.fromkeys(columns.text, "--text-column")
    options |= {columns.sample_id: "--id-column"}
    missing = [name for name in options if name not in present]
    if missing:
        remedies = [_remedy(options[name], name, present) for name in missing]
        raise CatalogError(
            f"{path}: no column {', '.join(map(repr, missing))}; columns present: "
            f"{_list_columns(present)}. Name the right column with "
            f"{' and '.join(dict.fromkeys(remedies))}"
        )
    optional = {columns.image: "--image-column", columns.price: "--price-column"}
    unused = [name for name in present if name not in {*options, *optional}]
    for name, option in optional.items():
        near = None if name in present else near_column(name, unused)
        if near is not None:
            logger.warning(
                "%s: no column %r. If %r is meant, name it with %s %s",
                *(path, name, near, option, shlex.quote(near)),
            )
    wanted = {*options, columns.image, columns.price}
    for name in wanted:
        if (n_found := present.count(name)) > 1:
            raise CatalogError(
                f"{path}: column names must be unique, however {name!r} is there "
                f"{n_found} times. Rename or remove all but one"
            )
    return [name for name in present if name in wanted]


def near_column(name: str, present: Sequence[str]) -> str | None:
    """Return the column that a name is a misspelling of, if there is one.

    Names that differ in case, white space and signs alone come before names that
    differ in letters.
    """
    by_letters = {_letters(column): column for column in reversed(present)}
    by_letters.pop("", None)
    if (same := by_letters.get(_letters(name))) is not None:
        return same
    near = difflib.get_close_matches(_letters(name), list(by_letters), n=1, cutoff=0.8)
    return by_letters[near[0]] if near else None


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _remedy(option: str, name: str, present: Sequence[str]) -> str:
    """Return the option, and the column that it is to name if one is near."""
    near = near_column(name, present)
    return option if near is None else f"{option} {shlex.quote(near)}"


def one_line(error: Exception) -> str:
    """Text of an error of another library, without line breaks."""
    return " ".join(str(error).split())


def shorten(written: str, n_chars: int = 40) -> str:
    """Text for a message: at most `n_chars` characters and an ellipsis."""
    return written if len(written) <= n_chars else written[:n_chars] + "…"


def _list_columns(present: Sequence[str]) -> str:
    shown = [repr(shorten(name)) for name in present[:N_COLUMNS_SHOWN]]
    if len(present) > len(shown):
        shown.append(f"and {len(present) - len(shown)} more")
    return ", ".join(shown) or "none"
