"""Read and validate a product catalog; no other module opens one.

Row i of every array of a run is row i of the catalog, so no row is dropped, reordered
or guessed here. A `CatalogError` names the row that cannot be used.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogColumns, CatalogError, Cells, one_line, shorten
from embed.catalog.csv_format import read_csv
from embed.catalog.excel_format import read_xlsx
from embed.catalog.parquet_format import read_parquet
from embed.catalog.prices import parse_prices, plain_price
from embed.catalog.split_columns import settle_split
from embed.catalog.xml_format import read_xml
from embed.photos.links import split_links
from embed.table.detect import settle_table

__all__ = [
    "Catalog",
    "CatalogColumns",
    "CatalogError",
    "is_text_file",
    "read_catalog",
]

Reader = Callable[[Path, CatalogColumns], Cells]

_READERS: tuple[tuple[tuple[str, ...], Reader], ...] = (
    ((".csv", ".tsv", ".tab", ".txt"), read_csv),
    ((".csv.gz", ".tsv.gz", ".tab.gz", ".txt.gz"), read_csv),
    ((".parquet", ".pq"), read_parquet),
    ((".xlsx", ".xlsm", ".xls", ".ods"), read_xlsx),
    ((".xml", ".xml.gz"), read_xml),
)
# Ids share one fixed-width array, so a single huge id would cost n_products times that.
MAX_ID_CHARS = 256
_NOT_IN_IDS = {"\0": "NUL character", "\r": "carriage return"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """A validated catalog, in file order.

    Attributes
    ----------
    path : Path
        The file that was read.
    columns : CatalogColumns
        Names of the columns, and the encoding, delimiter and export of the file.
        `parse_prices` is off if the price column is numeric.
    sample_id : ndarray of str, shape (n_products,)
        Unique ids, exactly as written.
    text : tuple of str, length n_products
        Text of each product, "" where missing; newlines join several columns.
    image_link : tuple of str, length n_products
        First link of each cell, "" if the cell or the column is missing.
    price_text : tuple of str, or None
        Prices as written; None without a price column.
    table : dict of str to tuple of str
        Cells of each table column, in the order of `columns.kinds`.
    groups : dict of str to tuple of str
        Cells of each group column.
    time : tuple of str, or None
        Cells of the time column; None without one.
    plain_numbers : frozenset of str
        Table columns whose cells have a numeric type in the file.
    n_link_lists : int
        Number of cells of the image column with several links.
    file_rows : tuple of int, or None
        File row of each product, from 1; None if every row of the file is a product.
    notes : tuple of str
        Sentences for the user about guesses and rows that were left out.
    """

    path: Path
    columns: CatalogColumns
    sample_id: NDArray[np.str_]
    text: tuple[str, ...]
    image_link: tuple[str, ...]
    price_text: tuple[str, ...] | None
    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time: tuple[str, ...] | None = None
    plain_numbers: frozenset[str] = frozenset()
    n_link_lists: int = 0
    file_rows: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_products(self) -> int:
        """Number of products."""
        return len(self.sample_id)

    def take(self, rows: Sequence[int]) -> Catalog:
        """Return some products, without their prices, groups and dates."""
        return replace(
            self,
            sample_id=self.sample_id[list(rows)],
            text=tuple(self.text[row] for row in rows),
            image_link=tuple(self.image_link[row] for row in rows),
            price_text=None,
            table={
                name: tuple(cells[row] for row in rows)
                for name, cells in self.table.items()
            },
            groups={},
            time=None,
            file_rows=None,
        )

    @cached_property
    def price(self) -> NDArray[np.float64] | None:
        """Positive finite prices, shape (n_products,); NaN where not usable.

        None without a price column. Prices are parsed on first access, so that prices
        written in two styles do not stop a command that needs no prices.

        Raises
        ------
        CatalogError
            With `columns.parse_prices`, if no decimal sign or currency fits all rows.
        """
        if self.price_text is None:
            return None
        if self.columns.parse_prices:
            where = f"{self.path}: column {self.columns.price!r}"
            return parse_prices(
                self.price_text,
                describe=self.describe,
                where=where,
                decimal_sign=self.columns.decimal_sign,
            )
        return np.array([*map(plain_price, self.price_text)])

    def describe(self, row: int) -> str:
        """Name a row, counted from 0, in a message."""
        number = row + 1 if self.file_rows is None else self.file_rows[row]
        return f"row {number}, sample_id {str(self.sample_id[row])!r}"

    @cached_property
    def content_sha256(self) -> str:
        """Hex digest of ids, texts, links and table in order, without prices.

        The length of each cell is hashed too, so different contents never hash alike.
        """
        digest = hashlib.sha256()
        columns = (self.sample_id.tolist(), self.text, self.image_link)
        for row in zip(*columns, *self.table.values(), strict=True):
            for cell in row:
                encoded = cell.encode()
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        return digest.hexdigest()


def read_catalog(path: Path, *, columns: CatalogColumns | None = None) -> Catalog:
    """Read a catalog from CSV, tab-separated text, Parquet, Excel or a feed in XML.

    Parameters
    ----------
    path : Path
        A file ending in .csv, .tsv or .txt, also gzipped, .parquet, .xlsx or .xml.
    columns : CatalogColumns, optional
        Column names; the defaults are those of the Smart Product Pricing data. An
        export of shop software is recognised by its header and has its own columns.

    Returns
    -------
    Catalog
        Catalog of at least one row with unique ids; CSV cells stay as written.

    Raises
    ------
    CatalogError
        If the file cannot be read or parsed, lacks an id or text column, has no
        rows, or has a blank or repeated id.
    """
    columns = columns or CatalogColumns()
    try:
        read = _reader_of(path)
        _require_regular(path)
        cells = read(path, columns)
    except FileNotFoundError:
        raise CatalogError(f"{path}: no such file. Check the path") from None
    except OSError as error:
        raise CatalogError(
            f"{path}: cannot be read ({error.strerror or one_line(error)}). "
            "Check that the file is whole and its permissions"
        ) from error
    except MemoryError as error:
        raise CatalogError(
            f"{path}: does not fit in memory. Check that the file is whole, or split it"
        ) from error
    return _build_catalog(path, cells)


def is_text_file(path: Path) -> bool:
    """Tell whether a file's ending means text, with an encoding and a delimiter."""
    return not any(
        path.name.lower().endswith(suffixes)
        for suffixes, reader in _READERS
        if reader is not read_csv
    )


def _reader_of(path: Path) -> Reader:
    for suffixes, reader in _READERS:
        if path.name.lower().endswith(suffixes):
            return reader
    raise CatalogError(
        f"{path}: a catalog must end in .csv, .tsv or .txt (also with .gz), .parquet, "
        f".xlsx or .xml, got {path.name!r}. Convert or rename the file"
    )


def _require_regular(path: Path) -> None:
    """Refuse folders, pipes and devices: a pipe can be read only once."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL in the path
        raise CatalogError(
            f"{str(path)!r}: {one_line(error)}. Check the path"
        ) from None
    if stat.S_ISDIR(mode):
        raise CatalogError(f"{path}: is a folder. Name the catalog file inside it")
    if not stat.S_ISREG(mode):
        raise CatalogError(
            f"{path}: must be a file, it is a pipe or a device. A catalog is read "
            "several times: write it to a file"
        )


def _build_catalog(path: Path, cells: Cells) -> Catalog:
    columns = cells.columns
    ids = cells.of[columns.sample_id]
    file_rows = cells.file_rows or range(1, len(ids) + 1)
    sample_id = _check_ids(path, columns.sample_id, ids, file_rows)
    texts = zip(
        [""] * len(sample_id), *(cells.of[name] for name in columns.text), strict=True
    )
    price_text = cells.of.get(columns.price)
    links = [split_links(c) for c in cells.of.get(columns.image, [""] * len(sample_id))]
    if columns.price in cells.numbers:  # 1.299 of Parquet is a number, not a text
        columns = replace(columns, parse_prices=False, decimal_sign=".")
    columns, table_notes = settle_table(columns, cells.of, plain_numbers=cells.numbers)
    columns, split_notes = settle_split(path, columns, cells.of)
    if not (columns.text or columns.kinds or columns.image in cells.of):
        raise CatalogError(
            f"{path}: must have a text, image or table column, got none. Name one with "
            f"--text-column or --category-column, or use --table auto"
        )
    blank = [""] * len(sample_id)
    return Catalog(
        path=path,
        columns=columns,
        sample_id=sample_id,
        text=tuple("\n".join(filter(str.strip, parts)) for parts in texts),
        image_link=tuple(cell[0] if cell else "" for cell in links),
        price_text=None if price_text is None else tuple(price_text),
        table={name: tuple(cells.of.get(name, blank)) for name in columns.kinds},
        groups={name: tuple(cells.of.get(name, blank)) for name in columns.groups},
        time=tuple(cells.of[columns.time]) if columns.time in cells.of else None,
        plain_numbers=cells.numbers & columns.kinds.keys(),
        n_link_lists=sum(len(cell) > 1 for cell in links),
        file_rows=cells.file_rows,
        notes=(*cells.notes, *table_notes, *split_notes),
    )


def _check_ids(
    path: Path, column: str, ids: list[str], file_rows: Sequence[int]
) -> NDArray[np.str_]:
    """Return the ids as an array; refuse blank, overlong and repeated ids."""
    if not ids:
        raise CatalogError(f"{path}: has a header but no rows. Add products to it")
    for row, sample_id in zip(file_rows, ids, strict=True):
        if not sample_id.strip():
            raise CatalogError(
                f"{path}: row {row}: column {column!r} is blank. "
                "Give every product its own id"
            )
        # Arrays would lose a NUL at the end, and CSV files split at a lone "\r".
        if bad := [name for mark, name in _NOT_IN_IDS.items() if mark in sample_id]:
            raise CatalogError(
                f"{path}: row {row}: an id must not contain a {bad[0]}, got "
                f"{shorten(sample_id)!r}. Remove it, or look for a stray quote"
            )
        if len(sample_id) > MAX_ID_CHARS:
            raise CatalogError(
                f"{path}: row {row}: an id must be at most {MAX_ID_CHARS} characters, "
                f"got {len(sample_id)} ({shorten(sample_id)!r}). "
                "Look for a stray quote, or name the id column with --id-column"
            )
    array = np.array(ids)
    rows: dict[str, int] = {}
    for row, sample_id in zip(file_rows, array.tolist(), strict=True):
        if sample_id in rows:
            raise CatalogError(
                f"{path}: rows {rows[sample_id]} and {row} have the same "
                f"{column} {sample_id!r}. Ids must be unique: remove one of the rows, "
                "or name the id column with --id-column"
            )
        rows[sample_id] = row
    return array
