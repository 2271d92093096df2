"""Read the cells of a CSV catalog exactly as written, or name the malformed line."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from embed.catalog.columns import (
    CatalogColumns,
    CatalogError,
    Cells,
    one_line,
    shorten,
)
from embed.catalog.encodings import HEAD_BYTES, find_encoding, open_bytes
from embed.catalog.export_cells import standard_cells
from embed.catalog.exports import (
    N_HEADER_ROWS,
    Plan,
    header_row,
    plan_columns,
    recognise,
)

# Bounds the memory that a gzip bomb or a quote that never closes can take: the csv
# module keeps 4 bytes a character, and doubles its buffer.
MAX_CELL_CHARS = 1 << 25
_EXCEL_LINE = re.compile(r"\ufeff?sep=(.)\s*", re.IGNORECASE)  # names the delimiter
_OTHER_FORMATS = (
    (b"PAR1\x15", "a Parquet file. Give it the ending .parquet"),
    (
        b"PK\x03\x04",
        "an Excel workbook or a zip archive. Give a workbook the ending .xlsx, or save "
        "its content as CSV",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook. Give it the ending .xls, or save it as CSV",
    ),
    (b"<?xml", "XML. Give it the ending .xml"),
    (b"\x1f\x8b", "compressed with gzip. Give it the ending .csv.gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd. Decompress it"),
    (b"BZh91AY&SY", "compressed with bzip2. Decompress it"),
    (b"\xfd7zXZ\x00", "compressed with xz. Decompress it"),
    (b"%PDF-", "a PDF. Save its content as CSV"),
)
Columns = dict[str, list[str]]
_SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(path: Path, columns: CatalogColumns) -> Cells:
    """Read the needed columns of a CSV or tab-separated file, perhaps gzipped.

    Raises
    ------
    CatalogError
        If the encoding is unclear, the file is not CSV, or a column is missing; the
        message names the place.
    OSError
        If the file cannot be read at all.
    """
    csv_limit = csv.field_size_limit(MAX_CELL_CHARS)  # the default refuses 128 KiB
    try:
        _require_text(path)
        encoding = find_encoding(path, columns.encoding, other=columns.other_encoding)
        with io.TextIOWrapper(
            open_bytes(path),
            encoding="utf-8-sig" if encoding.name == "utf-8" else encoding.name,
            newline="",
        ) as stream:
            lines = _bounded_lines(path, stream)
            first = next(lines, "")
            if encoding.name != "utf-8":
                first = first.removeprefix("\ufeff")
            columns = replace(columns, encoding=encoding.name)
            rows, columns, notes = _open_rows(path, columns, first, lines)
            plan, cells = _parse(path, columns, rows)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CatalogError(
            f"{path}: the gzip file is damaged ({one_line(error)}). Copy it again, "
            "or give it the ending .csv if it is not compressed"
        ) from error
    finally:
        csv.field_size_limit(csv_limit)
    read_cells = Cells(
        of=cells,
        columns=columns,
        notes=tuple(filter(None, [encoding.note, *notes])),
    )
    return standard_cells(path, read_cells, plan)


def _require_text(path: Path) -> None:
    """Refuse a file whose first bytes are not text."""
    with open_bytes(path) as stream:
        head = stream.read(HEAD_BYTES)
    for magic, format_and_remedy in _OTHER_FORMATS:
        if head.startswith(magic):
            raise CatalogError(f"{path}: is not CSV but {format_and_remedy}")
    if head and not head.strip(b"\0"):
        raise CatalogError(
            f"{path}: begins with {len(head)} NUL bytes, as after a copy that was cut "
            "off. Copy it again"
        )


def _bounded_lines(path: Path, stream: TextIO) -> Iterator[str]:
    """Yield lines with their ends; refuse a line that is too long for memory."""
    for number in range(1, 1 << 62):
        line = stream.readline(MAX_CELL_CHARS)
        if not line:
            return
        if len(line) == MAX_CELL_CHARS and line[-1] not in "\r\n":
            raise CatalogError(
                f"{path}: line {number}: must have at most {MAX_CELL_CHARS} "
                f"characters, it begins {shorten(line)!r}. Shorten its texts, or look "
                "for missing line ends"
            )
        yield line


class _Rows:
    """Rows of a file, and the line in which the next row begins."""

    def __init__(self, lines: Iterator[str], delimiter: str, n_lines_before: int):
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        self._before = n_lines_before
        self.begun = n_lines_before + 1
        self.n_read = 0

    @property
    def line(self) -> int:
        """Number of the line that was read last."""
        return self._reader.line_num + self._before

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row with the line it begins in; skip empty lines."""
        for row in self._reader:
            begun, self.begun = self.begun, self.line + 1
            if row or begun == self._before + 1:
                self.n_read += 1
                yield begun, row


def _open_rows(
    path: Path, columns: CatalogColumns, first_line: str, lines: Iterator[str]
) -> tuple[_Rows, CatalogColumns, list[str]]:
    """Return the rows, the columns with the delimiter, and notes about guesses."""
    delimiter, n_skipped = columns.delimiter, 0
    notes: list[str] = []
    if match := _EXCEL_LINE.fullmatch(first_line):
        delimiter, n_skipped = delimiter or match[1], 1
        first_line = next(lines, "")
    if delimiter is None:
        delimiter = _find_delimiter(columns, first_line)
        is_named = ".tsv" in path.suffixes or ".tab" in path.suffixes
        if delimiter != "," and not (delimiter == "\t" and is_named):
            notes.append(
                f"Cells are separated by {_SIGNS[delimiter]}, by the header. If that "
                "is wrong, name the sign with --delimiter."
            )
    rows = _Rows(_chain(first_line, lines), delimiter, n_skipped)
    return rows, replace(columns, delimiter=delimiter), notes


def _parse(path: Path, columns: CatalogColumns, rows: _Rows) -> tuple[Plan, Columns]:
    """Read the needed columns; refuse a row whose length differs from the header's.

    pandas fills short rows and, given `usecols`, cuts long rows silently.
    """
    try:
        header, first_rows = _read_header(path, columns, rows)
        plan = _plan(path, columns, header)
        cells: Columns = {name: [] for name in plan.needed}
        places = [(header.index(name), cells[name]) for name in cells]
        products = itertools.chain(first_rows, rows)
        for n_rows, (begun, row) in enumerate(products, start=1):
            if plan.export == "amazon":  # Amazon leaves out blank cells at the end
                row = row + [""] * (len(header) - len(row))
            if len(row) != len(header):
                place = _place(columns, header, row, n_rows, begun)
                message = _describe_length(row, header, columns.delimiter)
                raise CatalogError(f"{path}: {place}: {message}")
            for index, column in places:
                column.append(row[index])
    except csv.Error as error:
        row_begun = f"row {rows.n_read}" if rows.n_read else "the header"
        raise CatalogError(
            f"{path}: malformed CSV in {row_begun}, which begins in line {rows.begun}: "
            f"{_explain(error, rows.line)}. Put cells that contain commas, quotes "
            'or line breaks into quotes, and write a quote inside them twice ("")'
        ) from error
    return plan, cells


def _read_header(
    path: Path, columns: CatalogColumns, rows: _Rows
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and the rows after it that were read to find it."""
    head = list(itertools.islice(rows, 1))
    if not head or not head[0][1]:
        raise CatalogError(
            f"{path}: is empty or begins with an empty line. A catalog starts with "
            "a header line"
        )
    header_at = 0
    if _may_be_amazon(head[0][1]):
        head += itertools.islice(rows, N_HEADER_ROWS - 1)
        header_at = header_row(columns, [row for _, row in head])
    return head[header_at][1], head[header_at + 1 :]


def _plan(path: Path, columns: CatalogColumns, header: list[str]) -> Plan:
    try:
        return plan_columns(path, columns, header)
    except CatalogError as error:
        if len(header) > 1:
            raise
        raise CatalogError(
            f"{error}. If another sign than a comma separates the cells, name it with "
            "--delimiter"
        ) from None


def _chain(first_line: str, lines: Iterator[str]) -> Iterator[str]:
    if first_line:
        yield first_line
        yield from lines


def _find_delimiter(columns: CatalogColumns, first_line: str) -> str:
    """Return the first delimiter with which the header has the needed columns."""
    names = {
        sign: next(csv.reader([first_line], delimiter=sign), []) for sign in _SIGNS
    }
    wanted = {columns.sample_id, *columns.text}
    for sign, header in names.items():
        if wanted <= set(header) or recognise(columns, header):
            return sign
    if _may_be_amazon(names["\t"]) and len(names["\t"]) > 1:
        return "\t"
    if len(names[","]) > 1 or wanted & set(names[","]):
        return ","
    return max(_SIGNS, key=lambda sign: len(names[sign]))


def _may_be_amazon(first_row: list[str]) -> bool:
    """Tell whether a row of settings or labels begins an Amazon flat file."""
    cell = first_row[0].strip().lower() if first_row else ""
    is_label = any("sku" in name.lower() for name in first_row)
    return cell.startswith(("templatetype=", "settings=")) or is_label


def _place(
    columns: CatalogColumns, header: list[str], row: list[str], n_rows: int, line: int
) -> str:
    has_id = columns.sample_id in header
    id_at = header.index(columns.sample_id) if has_id else len(row)
    named = f", {columns.sample_id} {shorten(row[id_at])!r}" if id_at < len(row) else ""
    return f"row {n_rows}, line {line}{named}"


def _describe_length(row: list[str], header: list[str], delimiter: str | None) -> str:
    signs = _SIGNS.get(delimiter or ",", f"{delimiter!r}")
    remedy = (
        f"Put cells that contain {signs} into quotes"
        if len(row) > len(header)
        else f"Write a {signs.removesuffix('s')} for every empty cell, and put cells "
        "that contain line breaks into quotes"
    )
    return f"must have {len(header)} cells like the header, got {len(row)}. {remedy}"


def _explain(error: csv.Error, line: int) -> str:
    """Explain an error of the csv module, whose own message names parser states."""
    message = one_line(error)
    if message == "unexpected end of data":
        return "a quote that opens in it never closes"
    if message.startswith("field larger"):
        return (
            f"a cell has more than {MAX_CELL_CHARS} characters by line {line}; perhaps "
            "a quote never closes"
        )
    if "expected after" in message:
        return f"in line {line} a quote closes and text follows it before the comma"
    return f"{message}, in line {line}"
