"""Columns of a catalog, and the error for a catalog that cannot be used."""

from __future__ import annotations

import codecs
import difflib
import logging
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from embed.catalog.currencies import DecimalSign
from embed.errors import InputError
from embed.store.rules import Flag, Text

logger = logging.getLogger(__name__)
N_COLUMNS_SHOWN = 20

TableChoice = Literal["named", "auto"]
TableKind = Literal["number", "category", "date"]
ExportName = Literal[
    "auto", "none", "shopify", "woocommerce", "google", "amazon", "flipkart"
]
DELIMITER_NAMES = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "bar": "|",
    "\\t": "\t",
}
"""Names for delimiters that are hard to type in a shell."""


class CatalogError(InputError):
    """A catalog cannot be used; the message is one line and says what to do."""


@dataclass(frozen=True, kw_only=True)
class CatalogColumns:
    """Names of the catalog's columns, and how its prices are written."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sample_id: Text = "sample_id"
    """Unique name of a product."""
    text: tuple[Text, ...] = ("catalog_content",)
    """Text columns, in reading order; none for products without texts."""
    image: Text = "image_link"
    """Address or file name of the photo; may be absent from the file."""
    price: Text = "price"
    """Price in catalog currency; may be absent from the file."""
    parse_prices: Flag = False
    """Read prices such as "$1,299.00" or "12,50", which are not plain numbers."""
    decimal_sign: DecimalSign | None = None
    """Decimal sign of the prices; None infers it. Plain numbers allow only "."."""
    numbers: tuple[Text, ...] = ()
    """Table columns of numbers, beside text and photo."""
    categories: tuple[Text, ...] = ()
    """Table columns of categories, such as a brand."""
    dates: tuple[Text, ...] = ()
    """Table columns of dates."""
    table: TableChoice = "named"
    """"auto" also uses every other column, by the kind of its cells."""
    ignored: tuple[Text, ...] = ()
    """Columns that "auto" leaves out."""
    allowed: tuple[Text, ...] = ()
    """Table columns to use although they give the price away."""
    groups: tuple[Text, ...] = ()
    """Columns of groups, such as a seller; products of one group share a fold."""
    time: Text | None = None
    """Column of dates by which later products are held out; None if there is none."""
    time_format: Text | None = None
    """Format of the dates in `time`, settled when the run's catalog is read."""
    require_table: Flag = True
    """Refuse a file without one of the table columns; else their cells are blank."""
    encoding: Text | None = None
    """Encoding of a text file; None to detect it from the bytes."""
    other_encoding: Text | None = None
    """Encoding to try for a text file that is not UTF-8 when `encoding` is None."""
    delimiter: Text | None = None
    """Delimiter of a text file; None to detect it from the header."""
    export: ExportName = "auto"
    """Shop software that wrote the file; "auto" detects it from the header, "none"
    reads a product from every row."""

    def __post_init__(self) -> None:
        self._check_table()
        for encoding in (self.encoding, self.other_encoding):
            if encoding is not None:
                require_encoding(encoding)
        if self.delimiter is not None and not _is_delimiter(self.delimiter):
            raise CatalogError(
                f"--delimiter must be a single sign that is no letter, digit, quote or "
                f"line break, or one of {', '.join(DELIMITER_NAMES)}, got "
                f"{self.delimiter!r}"
            )

    def _check_table(self) -> None:
        named = [*self.numbers, *self.dates, *self.categories]
        for name in named:
            if named.count(name) > 1:
                raise CatalogError(
                    f"table column {name!r} must have one kind. Name it with one of "
                    f"--number-column, --category-column and --date-column, once"
                )
            if name in self.roles:
                raise CatalogError(
                    f"column {name!r} cannot be a table column: it is the catalog's "
                    f"id, text, image or price column. Leave it out, or name another "
                    f"column for that"
                )
            if name in self.groups:
                raise CatalogError(
                    f"column {name!r} cannot be both a table column and a group "
                    f"column: products of one group share a fold, so no network is "
                    f"judged on a group that it was trained on. Leave out "
                    f"--group-column, or the option of the table column"
                )
        if self.price in self.split:
            raise CatalogError(
                f"column {self.price!r} is the price column. Name another one with "
                f"--group-column or --time-column"
            )

    @property
    def roles(self) -> set[str]:
        """Columns of id, text, image and price."""
        return {self.sample_id, *self.text, self.image, self.price}

    @property
    def split(self) -> set[str]:
        """Columns that decide which products are trained on together."""
        return {*self.groups, *filter(None, [self.time])}

    @property
    def kinds(self) -> dict[str, TableKind]:
        """Kind of each table column, in the order of their features."""
        kinds: dict[str, TableKind] = dict.fromkeys(self.numbers, "number")
        kinds |= dict.fromkeys(self.dates, "date")
        return kinds | dict.fromkeys(self.categories, "category")

    def for_another_file(self) -> CatalogColumns:
        """Return the same columns for a file of any format, encoding or delimiter.

        It may lack a table column or the time column, as new products may. Its groups
        do not matter.
        """
        return replace(
            self,
            groups=(),
            require_table=False,
            encoding=None,
            other_encoding=None if self.encoding == "utf-8" else self.encoding,
            delimiter=None,
            export="auto",
        )


def _is_delimiter(sign: str) -> bool:
    return len(sign) == 1 and not sign.isalnum() and sign not in '"\r\n\0'


def require_encoding(name: str) -> None:
    """Refuse the name of an encoding that Python does not have.

    Raises
    ------
    CatalogError
        If Python has no text encoding of that name.
    """
    try:
        "".encode(name)  # refuses codecs of bytes, such as base64
        codecs.getincrementaldecoder(name)().decode(b"", final=True)
    except (LookupError, ValueError):
        raise CatalogError(
            f"--encoding {name!r}: there is no text encoding of that name. Name one "
            f"such as utf-8, windows-1252, latin-1, utf-16 or shift_jis"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Cells of a file's needed columns, in file order."""

    of: dict[str, list[str]]
    """Cells of each column, as text; all columns have the same length."""
    columns: CatalogColumns
    """Names of the columns, and the encoding, delimiter and export that were used."""
    numbers: frozenset[str] = frozenset()
    """Columns of a numeric type, rather than text that may look like a number."""
    file_rows: tuple[int, ...] | None = None
    """File row, from 1, of each row here; None if the two are the same."""
    notes: tuple[str, ...] = ()
    """Sentences for the user about guesses and rows that were left out."""


def needed_columns(
    path: Path, columns: CatalogColumns, present: Sequence[str]
) -> list[str]:
    """Return the columns of a file that are to be read.

    Parameters
    ----------
    path : Path
        The file, for messages.
    columns : CatalogColumns
    present : sequence of str
        Column names in file order.

    Returns
    -------
    list of str
        Column names in file order; image and price columns only if the file has them.

    Raises
    ------
    CatalogError
        If an id or text column is missing, or a column to read appears twice.
    """
    options = dict.fromkeys(columns.text, "--text-column")
    options |= {columns.sample_id: "--id-column"}
    if columns.require_table:
        options |= {name: f"--{kind}-column" for name, kind in columns.kinds.items()}
        options |= dict.fromkeys(columns.groups, "--group-column")
        options |= {columns.time: "--time-column"} if columns.time else {}
    missing = [name for name in options if name not in present]
    if missing:
        remedies = [_remedy(options[name], name, present) for name in missing]
        raise CatalogError(
            f"{path}: no column {', '.join(map(repr, missing))}; columns present: "
            f"{list_columns(present)}. Name the right column with "
            f"{' and '.join(dict.fromkeys(remedies))}"
        )
    if not columns.require_table:
        _mention_missing(path, columns, present)
    optional = {columns.image: "--image-column", columns.price: "--price-column"}
    unused = [name for name in present if name not in {*options, *optional}]
    for name, option in optional.items():
        near = None if name in present else near_column(name, unused)
        if near is not None:
            logger.warning(
                "%s: no column %r. If %r is meant, name it with %s %s",
                path,
                name,
                near,
                option,
                shlex.quote(near),
            )
    wanted = {*options, *optional, *table_columns(columns, present)}
    require_once(path, wanted, present)
    return [name for name in present if name in wanted]


def _mention_missing(
    path: Path, columns: CatalogColumns, present: Sequence[str]
) -> None:
    unused = [name for name in present if name not in {*columns.roles, *columns.kinds}]
    for name in columns.kinds:
        if name not in present:
            near = near_column(name, unused)
            hint = "" if near is None else f" If {near!r} is meant, rename it."
            logger.warning(
                "%s: no table column %r, so it is unknown for all products.%s",
                path,
                name,
                hint,
            )


def table_columns(
    columns: CatalogColumns, present: Sequence[str], roles: Collection[str] = ()
) -> list[str]:
    """Return the columns of a file that are or may be table, group or time columns.

    Parameters
    ----------
    columns : CatalogColumns
    present : sequence of str
        Column names in file order.
    roles : collection of str
        Columns of a shop's export that have another role.
    """
    named = {*columns.kinds, *columns.split}
    if columns.table == "named":
        return [name for name in present if name in named]
    other = {"", *columns.ignored, *columns.roles, *roles} - columns.split
    return [n for n in present if n not in other and present.count(n) == 1]


def require_once(path: Path, wanted: Iterable[str], present: Sequence[str]) -> None:
    """Refuse a file that has two columns of a wanted name.

    Raises
    ------
    CatalogError
        If a wanted name appears twice; the message names it.
    """
    for name in wanted:
        if (n_columns := present.count(name)) > 1:
            raise CatalogError(
                f"{path}: column names must be unique, however {name!r} is there "
                f"{n_columns} times. Rename or remove all but one"
            )


def near_column(name: str, present: Sequence[str]) -> str | None:
    """Return the column that was probably meant by a misspelled name, if any.

    Columns that differ only in case, white space or signs come before columns that
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
    """Return the option, followed by a column of a similar name if there is one."""
    near = near_column(name, present)
    return option if near is None else f"{option} {shlex.quote(near)}"


def one_line(error: Exception) -> str:
    """Return the text of another library's error, without line breaks."""
    return " ".join(str(error).split())


def shorten(written: str, n_chars: int = 40) -> str:
    """Cut a text for a message to `n_chars` characters and an ellipsis."""
    return written if len(written) <= n_chars else written[:n_chars] + "…"


def list_columns(present: Sequence[str]) -> str:
    """List the first names of columns for a message."""
    shown = [repr(shorten(name)) for name in present[:N_COLUMNS_SHOWN]]
    if len(present) > len(shown):
        shown.append(f"and {len(present) - len(shown)} more")
    return ", ".join(shown) or "none"
