"""Read and validate a product catalog; nothing else in the project opens one.

Row i of every array of a run is row i of the catalog, so nothing is dropped,
reordered or guessed here: what cannot be used is named in a `CatalogError`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import math
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from embed.errors import InputError

CSV_SUFFIXES = (".csv", ".csv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
# ids are one fixed-width array: a single huge id would multiply by n_products
MAX_ID_CHARS = 256
N_ROWS_SHOWN = 3


class CatalogError(InputError):
    """A catalog cannot be used; the message is one line and says what to do."""


@dataclass(frozen=True, kw_only=True)
class CatalogColumns:
    """Names of the catalog's columns."""

    sample_id: str = "sample_id"
    """Unique name of a product."""
    text: tuple[str, ...] = ("catalog_content",)
    """One or more text columns, in reading order."""
    image: str = "image_link"
    """Address or file name of the photo; may be absent from the file."""
    price: str = "price"
    """Price in catalog currency; may be absent from the file."""

    def __post_init__(self) -> None:
        if not self.text:
            raise CatalogError(
                "catalog columns: text must name at least one column, however: "
                f"text={self.text!r}. Name it with --text-column"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """A validated catalog, in file order.

    Attributes
    ----------
    path : Path
        The file read.
    columns : CatalogColumns
        The column names asked for.
    sample_id : ndarray of str, shape (n_products,)
        Unique, exactly as written.
    text : tuple of str, length n_products
        "" where missing; several columns are joined by a newline.
    image_link : tuple of str, length n_products
        "" where missing, or where the file has no such column.
    price : ndarray of float64, shape (n_products,), or None
        Positive and finite, NaN where not usable; None without a price column.
    price_text : tuple of str, or None
        Prices as written, for messages.
    """

    path: Path
    columns: CatalogColumns
    sample_id: NDArray[np.str_]
    text: tuple[str, ...]
    image_link: tuple[str, ...]
    price: NDArray[np.float64] | None
    price_text: tuple[str, ...] | None

    @property
    def n_products(self) -> int:
        """Number of rows."""
        return len(self.sample_id)

    @cached_property
    def content_sha256(self) -> str:
        """Hex digest of ids, texts and links in order, not of prices.

        Every field is preceded by its length, so no two contents look alike.
        """
        digest = hashlib.sha256()
        for row in zip(
            self.sample_id.tolist(), self.text, self.image_link, strict=True
        ):
            for field in row:
                encoded = field.encode()
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        return digest.hexdigest()


def read_catalog(path: Path, *, columns: CatalogColumns | None = None) -> Catalog:
    """Read a catalog from CSV (also gzipped) or Parquet.

    Parameters
    ----------
    path : Path
        A file ending in .csv, .csv.gz, .parquet or .pq.
    columns : CatalogColumns, optional
        Column names; the defaults are those of the Smart Product Pricing data.

    Returns
    -------
    Catalog
        At least one row, unique ids, every CSV cell kept exactly as written.

    Raises
    ------
    CatalogError
        If the file cannot be read or parsed, lacks an id or text column, has no
        rows, or has a blank or repeated id.
    """
    columns = columns or CatalogColumns()
    name = path.name.lower()
    if not name.endswith(CSV_SUFFIXES + PARQUET_SUFFIXES):
        raise CatalogError(
            f"{path}: a catalog must end in .csv, .csv.gz, .parquet or .pq, "
            f"got {path.name!r}. Convert or rename the file"
        )
    if path.is_dir():
        raise CatalogError(f"{path}: is a folder. Name the catalog file inside it")
    try:
        read = _read_csv if name.endswith(CSV_SUFFIXES) else _read_parquet
        cells = read(path, columns)
    except FileNotFoundError:
        raise CatalogError(f"{path}: no such file. Check the path") from None
    except OSError as error:
        reason = error.strerror or _one_line(error)
        raise CatalogError(
            f"{path}: cannot be read ({reason}). "
            "Check that the file is whole and its permissions"
        ) from error
    return _build_catalog(path, columns, cells)


def require_prices(
    catalog: Catalog, *, drop_unpriced: bool = False
) -> NDArray[np.float64]:
    """Prices of a catalog that is to be learned from.

    Parameters
    ----------
    catalog : Catalog
        As read.
    drop_unpriced : bool
        Accept rows without a usable price; they stay in place as NaN.

    Returns
    -------
    ndarray of float64, shape (n_products,)
        Positive and finite, in catalog currency; NaN only with `drop_unpriced`.

    Raises
    ------
    CatalogError
        If there is no price column, no usable price at all, or an unusable price
        without `drop_unpriced`.
    """
    column = catalog.columns.price
    if catalog.price is None or catalog.price_text is None:
        raise CatalogError(
            f"{catalog.path}: no price column {column!r}. Name it with --price-column"
        )
    unpriced = np.flatnonzero(np.isnan(catalog.price))
    if len(unpriced) == 0 or (drop_unpriced and len(unpriced) < catalog.n_products):
        return catalog.price
    shown = "; ".join(
        f"row {row + 1}, sample_id {str(catalog.sample_id[row])!r}: "
        f"{_shorten(catalog.price_text[row])!r}"
        for row in unpriced[:N_ROWS_SHOWN].tolist()
    )
    if len(unpriced) == catalog.n_products:
        raise CatalogError(
            f"{catalog.path}: no row has a usable price in column {column!r} "
            f"({shown}). Prices must be plain positive numbers; "
            "name the right column with --price-column"
        )
    raise CatalogError(
        f"{catalog.path}: prices must be positive numbers, however {len(unpriced)} of "
        f"{catalog.n_products} rows are not ({shown}). "
        "Correct them, or leave these rows out with --drop-unpriced"
    )


def _build_catalog(
    path: Path, columns: CatalogColumns, cells: dict[str, list[str]]
) -> Catalog:
    sample_id = _check_ids(path, columns.sample_id, cells[columns.sample_id])
    texts = zip(*(cells[name] for name in columns.text), strict=True)
    price_text = cells.get(columns.price)
    return Catalog(
        path=path,
        columns=columns,
        sample_id=sample_id,
        text=tuple("\n".join(filter(str.strip, parts)) for parts in texts),
        image_link=tuple(
            link.strip() for link in cells.get(columns.image, [""] * len(sample_id))
        ),
        price=None if price_text is None else np.array([*map(_to_price, price_text)]),
        price_text=None if price_text is None else tuple(price_text),
    )


def _check_ids(path: Path, column: str, ids: list[str]) -> NDArray[np.str_]:
    """Array of the ids, all present, of sane length and unique."""
    if not ids:
        raise CatalogError(f"{path}: has a header but no rows. Add products to it")
    for row, sample_id in enumerate(ids, start=1):
        if not sample_id.strip():
            raise CatalogError(
                f"{path}: row {row}: column {column!r} is blank. "
                "Give every product its own id"
            )
        if len(sample_id) > MAX_ID_CHARS:
            raise CatalogError(
                f"{path}: row {row}: an id must be at most {MAX_ID_CHARS} characters, "
                f"got {len(sample_id)} ({_shorten(sample_id)!r}). "
                "Look for a stray quote, or name the id column with --id-column"
            )
    array = np.array(ids)
    rows: dict[str, int] = {}
    for row, sample_id in enumerate(array.tolist(), start=1):
        if sample_id in rows:
            raise CatalogError(
                f"{path}: rows {rows[sample_id]} and {row} have the same "
                f"{column} {sample_id!r}. Ids must be unique: remove one of the rows, "
                "or name the id column with --id-column"
            )
        rows[sample_id] = row
    return array


def _to_price(written: str) -> float:
    """Price as a number; NaN unless positive and finite."""
    try:
        price = float(written.replace("_", "?"))  # float() takes "1_000" for 1000
    except ValueError:
        return math.nan
    return price if 0 < price < math.inf else math.nan


def _needed_columns(
    path: Path, columns: CatalogColumns, present: Sequence[str]
) -> list[str]:
    """Columns to read; CatalogError if an id or text column is missing."""
    options = dict.fromkeys(columns.text, "--text-column")
    options |= {columns.sample_id: "--id-column"}
    missing = [name for name in options if name not in present]
    if missing:
        found = ", ".join(map(repr, present)) or "none"
        remedy = " and ".join(dict.fromkeys(options[name] for name in missing))
        raise CatalogError(
            f"{path}: no column {', '.join(map(repr, missing))}; columns present: "
            f"{found}. Name the right column with {remedy}"
        )
    wanted = {*options, columns.image, columns.price}
    return [name for name in present if name in wanted]


def _read_csv(path: Path, columns: CatalogColumns) -> dict[str, list[str]]:
    csv_limit = csv.field_size_limit(sys.maxsize)  # the default refuses 128 KiB
    try:
        with io.TextIOWrapper(
            _open_bytes(path), encoding="utf-8-sig", newline=""
        ) as stream:
            return _parse_csv(path, columns, stream)
    except UnicodeDecodeError as error:
        raise CatalogError(
            f"{path}: not UTF-8 text at byte {_first_bad_byte(path)}. "
            "Save it as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from error
    except (EOFError, zlib.error) as error:
        raise CatalogError(
            f"{path}: the gzip file is damaged ({_one_line(error)}). Copy it again"
        ) from error
    finally:
        csv.field_size_limit(csv_limit)


def _parse_csv(
    path: Path, columns: CatalogColumns, stream: TextIO
) -> dict[str, list[str]]:
    """Cells of the needed columns; a row of another length than the header fails.

    pandas fills short rows and, given `usecols`, cuts long ones without a word.
    """
    reader = csv.reader(stream, strict=True)
    n_rows = 0
    try:
        header = next(reader, [])
        if not header:
            raise CatalogError(f"{path}: is empty. A catalog starts with a header line")
        needed = _needed_columns(path, columns, header)
        cells: dict[str, list[str]] = {name: [] for name in needed}
        places = [(header.index(name), cells[name]) for name in cells]
        for row in filter(None, reader):
            n_rows += 1
            if len(row) != len(header):
                raise csv.Error(f"{len(row)} cells, the header has {len(header)}")
            for place, column in places:
                column.append(row[place])
    except csv.Error as error:
        raise CatalogError(
            f"{path}: malformed CSV after {n_rows} rows, line {reader.line_num} "
            f"({error}). Quote cells that hold commas, quotes or line breaks"
        ) from error
    return cells


def _open_bytes(path: Path) -> BinaryIO:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(BinaryIO, opener(path, "rb"))


def _first_bad_byte(path: Path) -> int:
    """Offset in the (decompressed) file of the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with _open_bytes(path) as stream:
        while True:
            chunk = stream.read(1 << 20)
            n_held = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return offset - n_held + error.start
            if not chunk:
                return offset
            offset += len(chunk)


def _read_parquet(path: Path, columns: CatalogColumns) -> dict[str, list[str]]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CatalogError(
            f"{path}: reading Parquet needs pyarrow, which is not installed. "
            "Run `pip install 'pricestack[parquet]'`, or give a CSV file"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            present = file.schema_arrow.names
            table = file.read(columns=_needed_columns(path, columns, present))
        return {
            name: [_as_text(value) for value in table.column(name).to_pylist()]
            for name in table.column_names
        }
    except CatalogError:
        raise
    except ValueError as error:  # ArrowInvalid, and bytes that are not UTF-8
        raise CatalogError(
            f"{path}: not a usable Parquet file ({_one_line(error)}). Write it again"
        ) from error


def _as_text(value: object) -> str:
    """One Parquet value as a CSV would hold it."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # ids turned to 7.0 by a missing neighbour
    return str(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _shorten(written: str, n_chars: int = 40) -> str:
    return written if len(written) <= n_chars else written[:n_chars] + "…"
