"""Write values of a program, such as those of a JSON request, as cells of a catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from embed.catalog.columns import list_columns, shorten
from embed.errors import InputError
from embed.table.dates import ISO_FORMAT, write_date
from embed.table.encode import TableColumn

Value = str | int | float | bool | None
"""Value of a table column; None is unknown."""


def write_cells(
    columns: Sequence[TableColumn], values: Mapping[str, Value]
) -> dict[str, str]:
    """Write the values of a product as cells.

    A number gets the decimal sign of its column, and a date such as "2024-03-31" the
    format of its column. Other texts stay as they are.

    Parameters
    ----------
    columns : sequence of TableColumn
        Table columns of the run.
    values : mapping of str to Value
        Value by column.

    Returns
    -------
    dict of str to str
        Cell by column; "" where the value is None.

    Raises
    ------
    InputError
        If a name is not that of a table column; the message lists those of the run.
    """
    by_name = {column.name: column for column in columns}
    for name in values:
        if name not in by_name:
            raise InputError(
                f"no table column {shorten(name)!r}; the run's table columns are "
                f"{list_columns(list(by_name))}"
            )
    return {name: _write(by_name[name], value) for name, value in values.items()}


def _write(column: TableColumn, value: Value) -> str:
    if value is None:
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if column.kind == "number" and is_number:
        plain = format(Decimal(str(value)), "f")
        return plain.replace(".", column.decimal_sign or ".")
    if column.date_format not in (None, ISO_FORMAT):
        return write_date(str(value), column.date_format)
    return str(value)
