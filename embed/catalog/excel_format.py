"""Read the cells of an Excel workbook as the text of a CSV file.

`python-calamine` has no dependencies, also reads `.xls` and `.ods`, and expands no XML
entities. openpyxl reads only `.xlsx`.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embed.catalog.columns import CatalogColumns, CatalogError, Cells, one_line
from embed.catalog.export_cells import standard_cells
from embed.catalog.exports import (
    N_HEADER_ROWS,
    header_row,
    plan_columns,
    recognise,
)

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

Table = Sequence[Sequence[object]]

MAX_UNPACKED_BYTES = 2 << 30  # a workbook is a zip archive, which may be a bomb
_EXACT_BELOW = 2**53


def read_xlsx(path: Path, columns: CatalogColumns) -> Cells:
    """Read the needed columns of the first sheet with a usable header.

    Raises
    ------
    CatalogError
        If the file is no workbook, no sheet has the columns, or the package is missing.
    OSError
        If the file cannot be read at all.
    """
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise CatalogError(
            f"{path}: reading Excel needs python-calamine, which is not installed. Run "
            "`pip install python-calamine`, or save the sheet as 'CSV UTF-8'"
        ) from None
    _require_sane_size(path)
    try:
        with CalamineWorkbook.from_path(path) as workbook:
            sheets = workbook.sheet_names
            name, rows = _find_sheet(columns, workbook)
    except CalamineError as error:
        raise CatalogError(
            f"{path}: not a usable workbook ({one_line(error)}). Save it again in "
            "Excel, or save the sheet as 'CSV UTF-8'"
        ) from error
    if not rows:
        raise CatalogError(f"{path}: has no cells. A catalog starts with a header row")
    cells = _read_rows(path, columns, rows)
    if len(sheets) > 1:
        note = f"Read sheet {name!r}, of {len(sheets)} sheets."
        cells = replace(cells, notes=(note, *cells.notes))
    return cells


def _require_sane_size(path: Path) -> None:
    """Refuse a zip archive that unpacks to more than a catalog can be."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return  # .xls, or a file that the reader refuses
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise CatalogError(
            f"{path}: not a usable workbook ({one_line(error)}). Copy it again"
        ) from error
    if n_bytes > MAX_UNPACKED_BYTES:
        raise CatalogError(
            f"{path}: unpacks to {n_bytes} bytes, at most {MAX_UNPACKED_BYTES} are "
            "read. Save the sheet as 'CSV UTF-8'"
        )


def _find_sheet(
    columns: CatalogColumns, workbook: CalamineWorkbook
) -> tuple[str, Table]:
    """Return the first sheet whose header can be used, else the first with cells."""
    first: tuple[str, Table] = ("", [])
    for name in workbook.sheet_names:
        rows: Table = workbook.get_sheet_by_name(name).to_python()
        head = _texts_of(rows[:N_HEADER_ROWS])
        if head and _is_usable(columns, head[header_row(columns, head)]):
            return name, rows
        if rows and not first[1]:
            first = name, rows
    return first


def _is_usable(columns: CatalogColumns, header: Sequence[str]) -> bool:
    wanted = {columns.sample_id, *columns.text}
    return wanted <= set(header) or recognise(columns, header) is not None


def _texts_of(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [[_as_text(cell) for cell in row] for row in rows]


def _read_rows(path: Path, columns: CatalogColumns, rows: Table) -> Cells:
    head = _texts_of(rows[:N_HEADER_ROWS])
    header_at = header_row(columns, head)
    header = head[header_at]
    plan = plan_columns(path, columns, header)
    texts: dict[str, list[str]] = {}
    numbers = set()
    # Excel keeps rows that were emptied.
    filled = [row for row in rows[header_at + 1 :] if any(cell != "" for cell in row)]
    for name in plan.needed:
        column = [row[header.index(name)] for row in filled]
        texts[name] = [_as_text(cell) for cell in column]
        written = [cell for cell in column if cell != ""]
        if written and all(type(cell) in (int, float) for cell in written):
            numbers.add(name)
    _require_exact(path, columns.sample_id, texts.get(columns.sample_id, []), numbers)
    cells = Cells(of=texts, columns=columns, numbers=frozenset(numbers))
    return standard_cells(path, cells, plan)


def _as_text(cell: object) -> str:
    if isinstance(cell, bool):
        return str(cell).upper()  # as Excel shows it
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)


def _require_exact(
    path: Path, name: str, ids: Sequence[str], numbers: set[str]
) -> None:
    """Refuse numeric ids with more digits than Excel stores."""
    if name not in numbers:
        return
    for row, written in enumerate(ids, start=1):
        if written and abs(float(written)) >= _EXACT_BELOW:
            raise CatalogError(
                f"{path}: row {row}: column {name!r} holds ids as numbers, which Excel "
                f"keeps to 15 digits, got {written}. Write ids as text"
            )
