"""Cells of a CSV catalog, exactly as written, or the place where it is not CSV."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from embed.columns import (
    CatalogColumns,
    CatalogError,
    Cells,
    needed_columns,
    one_line,
    shorten,
)

# Bounds the memory that a gzip bomb or a quote that never closes can take: the csv
# module keeps 4 bytes a character, and doubles its buffer.
MAX_CELL_CHARS = 1 << 25
_HEAD_BYTES = 4096
_UTF8 = "Save it as UTF-8 (in Excel: 'CSV UTF-8'"

_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32LE"),
    (codecs.BOM_UTF32_BE, "UTF-32BE"),
    (codecs.BOM_UTF16_LE, "UTF-16LE"),
    (codecs.BOM_UTF16_BE, "UTF-16BE"),
)
_OTHER_FORMATS = (
    (b"PAR1\x15", "a Parquet file. Give it the ending .parquet"),
    (b"PK\x03\x04", "an Excel workbook or a zip archive. Save what it holds as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook. Save it as CSV"),
    (b"\x1f\x8b", "compressed with gzip. Give it the ending .csv.gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd. Decompress it"),
    (b"BZh91AY&SY", "compressed with bzip2. Decompress it"),
    (b"\xfd7zXZ\x00", "compressed with xz. Decompress it"),
    (b"%PDF-", "a PDF. Save what it holds as CSV"),
)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(path: Path, columns: CatalogColumns) -> Cells:
    """Read the needed columns of a CSV file, gzipped if it ends in .gz.

    Raises
    ------
    CatalogError
        If it is not UTF-8, not CSV, or lacks a column; with the place.
    OSError
        If it cannot be read at all.
    """
    csv_limit = csv.field_size_limit(MAX_CELL_CHARS)  # the default refuses 128 KiB
    try:
        _require_text(path)
        with io.TextIOWrapper(
            _open_bytes(path), encoding="utf-8-sig", newline=""
        ) as stream:
            return Cells(of=_parse(path, columns, _bounded_lines(path, stream)))
    except UnicodeDecodeError as error:
        raise CatalogError(_describe_bad_byte(path)) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CatalogError(
            f"{path}: the gzip file is damaged ({one_line(error)}). Copy it again, "
            "or give it the ending .csv if it is not compressed"
        ) from error
    finally:
        csv.field_size_limit(csv_limit)


def _open_bytes(path: Path) -> BinaryIO:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(BinaryIO, opener(path, "rb"))


def _require_text(path: Path) -> None:
    """Refuse, by its first bytes, what is no UTF-8 text."""
    with _open_bytes(path) as stream:
        head = stream.read(_HEAD_BYTES)
    for magic, what in _OTHER_FORMATS:
        if head.startswith(magic):
            raise CatalogError(f"{path}: is not CSV but {what}")
    if encoding := _wide_encoding(head):
        raise CatalogError(
            f"{path}: looks like {encoding[:6]}, a catalog must be UTF-8. {_UTF8}; "
            f"or with `iconv -f {encoding} -t UTF-8`)"
        )
    if head and not head.strip(b"\0"):
        raise CatalogError(
            f"{path}: begins with {len(head)} NUL bytes, as after a copy that was cut "
            "off. Copy it again"
        )


def _wide_encoding(head: bytes) -> str | None:
    """Name of UTF-16 or UTF-32, by its mark or by the NUL bytes in its header line."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    start = head[: min(64, len(head) // 4 * 4)]
    # Columns have names in ASCII, so it is known which bytes of a character are NUL.
    zero = [start[at::4].count(0) / max(1, len(start) // 4) for at in range(4)]
    shapes = {
        "UTF-32LE": (0, 1, 1, 1),
        "UTF-32BE": (1, 1, 1, 0),
        "UTF-16LE": (0, 1, 0, 1),
        "UTF-16BE": (1, 0, 1, 0),
    }
    for encoding, shape in shapes.items():
        if all(abs(z - s) < 0.2 for z, s in zip(zero, shape, strict=True)):
            return encoding
    return None


def _bounded_lines(path: Path, stream: TextIO) -> Iterator[str]:
    """Lines with their ends; one too long fails before it fills memory."""
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


def _parse(
    path: Path, columns: CatalogColumns, lines: Iterator[str]
) -> dict[str, list[str]]:
    """Cells of the needed columns; a row of another length than the header fails.

    pandas fills short rows and, given `usecols`, cuts long ones without a word.
    """
    first_line = next(lines, "")
    _refuse_other_separator(path, columns, first_line)
    reader = csv.reader(_chain(first_line, lines), strict=True)
    begun, n_rows = 1, -1
    try:
        header = next(reader, [])
        if not header:
            raise CatalogError(
                f"{path}: is empty or begins with an empty line. A catalog starts with "
                "a header line"
            )
        needed = needed_columns(path, columns, header)
        cells: dict[str, list[str]] = {name: [] for name in needed}
        places = [(header.index(name), cells[name]) for name in cells]
        n_rows, begun = 0, reader.line_num + 1
        for row in reader:
            if row:  # an empty line is no row
                n_rows += 1
                if len(row) != len(header):
                    place = _place(columns, header, row, n_rows, begun)
                    raise CatalogError(_describe_length(path, place, row, header))
                for at, column in places:
                    column.append(row[at])
            begun = reader.line_num + 1
    except csv.Error as error:
        row_begun = "the header" if n_rows < 0 else f"row {n_rows + 1}"
        raise CatalogError(
            f"{path}: malformed CSV in {row_begun}, which begins in line {begun}: "
            f"{_explain(error, reader.line_num)}. Put cells that hold commas, quotes "
            'or line breaks into quotes, and write a quote inside them twice ("")'
        ) from error
    return cells


def _chain(first_line: str, lines: Iterator[str]) -> Iterator[str]:
    if first_line:
        yield first_line
        yield from lines


def _refuse_other_separator(
    path: Path, columns: CatalogColumns, first_line: str
) -> None:
    """Refuse a header whose names are held apart by something else than commas."""
    if first_line.lower().startswith("sep="):
        raise CatalogError(
            f"{path}: line 1: must be the header, got {first_line.strip()!r}, which is "
            "for Excel only. Remove it; cells must be held apart by commas"
        )
    wanted = {columns.sample_id, *columns.text}

    def names(separator: str) -> set[str]:
        return {name.strip().strip('"') for name in first_line.split(separator)}

    if wanted & names(","):
        return
    for separator, name in _SEPARATORS.items():
        found = names(separator)
        if wanted <= found or ("," not in first_line and len(found) > 1):
            raise CatalogError(
                f"{path}: line 1: cells must be held apart by commas, however the "
                f"header has {name} ({shorten(first_line.strip())!r}). Save it again "
                "with commas"
            )


def _place(
    columns: CatalogColumns, header: list[str], row: list[str], n_rows: int, line: int
) -> str:
    at = header.index(columns.sample_id)
    named = f", {columns.sample_id} {shorten(row[at])!r}" if at < len(row) else ""
    return f"row {n_rows}, line {line}{named}"


def _describe_length(path: Path, place: str, row: list[str], header: list[str]) -> str:
    remedy = (
        "Put cells that hold commas into quotes"
        if len(row) > len(header)
        else "Write a comma for every empty cell, and put cells that hold line breaks "
        "into quotes"
    )
    return (
        f"{path}: {place}: must have {len(header)} cells like the header, got "
        f"{len(row)}. {remedy}"
    )


def _explain(error: csv.Error, line: int) -> str:
    """Say what the csv module found, in other words than those of its states."""
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


def _describe_bad_byte(path: Path) -> str:
    offset, line, found = _first_bad_bytes(path)
    if found[0] == 0xED and found[1:2] >= b"\xa0":
        what = "half of a surrogate pair, which UTF-8 cannot hold"
    else:
        letter = found[:1].decode("windows-1252", errors="ignore")
        what = f"0x{found[0]:02x}"
        what += f", which is {letter!r} in Windows-1252 and Latin-1" if letter else ""
    return (
        f"{path}: not UTF-8 text at byte {offset}, line {line} ({what}). {_UTF8}; or "
        "with `iconv -f WINDOWS-1252 -t UTF-8`, if that is what it is)"
    )


def _first_bad_bytes(path: Path) -> tuple[int, int, bytes]:
    """Offset in the (decompressed) file, line, and the two bytes that are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    with _open_bytes(path) as stream:
        while True:
            chunk = stream.read(1 << 20)
            held = decoder.getstate()[0]
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                seen = held + chunk
                line += _count_lines(seen[: error.start])
                bad = seen[error.start : error.start + 2]
                return offset - len(held) + error.start, line, bad
            if not chunk:
                return offset, line, b"\0"
            offset += len(chunk)
            line += _count_lines(chunk)


def _count_lines(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")
