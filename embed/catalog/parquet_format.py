"""Read the cells of a Parquet catalog as the text of a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embed.catalog.columns import (
    CatalogColumns,
    CatalogError,
    Cells,
    one_line,
    shorten,
)
from embed.catalog.export_cells import standard_cells
from embed.catalog.exports import id_columns, plan_columns

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

# From these limits on, neighbouring whole numbers have the same floating-point value.
_EXACT_BELOW = {"halffloat": 2.0**11, "float": 2.0**24, "double": 2.0**53}


def read_parquet(path: Path, columns: CatalogColumns) -> Cells:
    """Read the needed columns of a Parquet file.

    Raises
    ------
    CatalogError
        If the file is not Parquet, a column is missing, or a column has a type or
        value without plain text; the message names the place.
    OSError
        If the file cannot be read at all.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CatalogError(
            f"{path}: reading Parquet needs pyarrow, which is not installed. "
            "Run `pip install pyarrow`, or give a CSV file"
        ) from None
    _require_magic(path)
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            plan = plan_columns(path, columns, schema.names)
            odd = {n for n in plan.table if not _is_cell(schema.field(n).type)}
            named = {*columns.kinds, *columns.split}
            needed = [n for n in plan.needed if n not in odd - named]
            for name in needed:
                is_date = name in plan.table and _is_date(schema.field(name).type)
                if not is_date:
                    _require_plain(path, name, schema.field(name).type)
            table = file.read(columns=needed)
        for name in {columns.sample_id, *id_columns(plan)} & set(needed):
            _require_exact(path, name, table.column(name))
        cells = Cells(
            of={name: _texts(path, name, table.column(name)) for name in needed},
            columns=columns,
            numbers=frozenset(n for n in needed if _is_number(schema.field(n).type)),
        )
        return standard_cells(path, cells, plan)
    except CatalogError:
        raise
    # For a damaged file, pyarrow raises errors of several base classes.
    except (ValueError, TypeError, KeyError, OverflowError, pa.ArrowException) as error:
        raise CatalogError(
            f"{path}: not a usable Parquet file ({one_line(error)}). Write it again"
        ) from error


def _require_magic(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4)
    if head not in (b"PAR1", b"PARE"):  # PARE is encrypted; pyarrow explains it
        raise CatalogError(
            f"{path}: not a usable Parquet file (must begin with b'PAR1', got "
            f"{head!r}). Write it again, or give it the ending .csv if it is CSV"
        )


def _is_cell(kind: pa.DataType) -> bool:
    return _is_number(kind) or _is_text(kind) or _is_date(kind)


def _require_plain(path: Path, name: str, kind: pa.DataType) -> None:
    """Refuse lists, structs, dates and other types without one plain text."""
    if not (_is_number(kind) or _is_text(kind)):
        raise CatalogError(
            f"{path}: column {name!r} must contain text or numbers, it is of type "
            f"{_name_of(kind)}. Write it as text"
        )


def _name_of(kind: pa.DataType) -> str:
    return shorten(" ".join(str(kind).split()), 80)  # a struct lists its fields


def _values_of(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind, types = _values_of(kind), pa.types
    return any(
        test(kind) for test in (types.is_integer, types.is_floating, types.is_decimal)
    )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind, types = _values_of(kind), pa.types
    tests = [types.is_string, types.is_large_string, types.is_binary, types.is_null]
    tests += [types.is_large_binary, types.is_fixed_size_binary, types.is_boolean]
    # added in pyarrow 16
    tests += [
        getattr(types, name)
        for name in ("is_string_view", "is_binary_view")
        if hasattr(types, name)
    ]
    return any(test(kind) for test in tests)


def _is_date(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _texts(path: Path, name: str, column: pa.ChunkedArray) -> list[str]:
    """Return all cells of a column as the text of a CSV file."""
    try:
        return [_as_text(value) for value in column.to_pylist()]
    except UnicodeDecodeError:
        for row, scalar in enumerate(column, start=1):
            try:
                _as_text(scalar.as_py())
            except UnicodeDecodeError as error:
                raise CatalogError(
                    f"{path}: row {row}: column {name!r} must contain UTF-8 text "
                    f"({one_line(error)}). Write it as text"
                ) from error
        raise


def _as_text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float | np.floating):
        number = float(value)  # a missing id turns the others into floats such as 7.0
        return str(int(number)) if number.is_integer() else str(number)
    return str(value)


def _require_exact(path: Path, name: str, column: pa.ChunkedArray) -> None:
    """Refuse ids that lost digits because they are stored as floating point."""
    limit = _EXACT_BELOW.get(str(_values_of(column.type)))
    if limit is None:
        return
    for row, value in enumerate(column.to_pylist(), start=1):
        if value is not None and abs(value) >= limit:
            raise CatalogError(
                f"{path}: row {row}: column {name!r} holds ids as floating point, "
                f"which is exact below {limit:.0f} only, got {float(value):.0f}. "
                "Write ids as text or whole numbers"
            )
