"""Read how many units of each product are sold, from a column of a catalog."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import list_columns, shorten
from embed.catalog.reader import Catalog, read_catalog
from embed.errors import InputError
from embed.table.numbers import MISSING, clean, find_style, read_numbers
from stack.run import Run


def read_units(run: Run, column: str, *, path: Path | None) -> NDArray[np.float64]:
    """Read the units of each product of a run.

    Parameters
    ----------
    run : Run
    column : str
        Column of numbers, 0 or above.
    path : Path, optional
        Catalog with the column, in any order of rows; default: the run's own copy,
        which keeps table columns alone.

    Returns
    -------
    ndarray of shape (n_products,)
        NaN where the cell is blank, or the file lacks the product.

    Raises
    ------
    InputError
        If there is no such column, or a cell is no number of 0 or above.
    """
    own = run.catalog()
    if path is None:
        if column not in own.table:
            raise InputError(
                f"--units-column {column!r}: the run has no table column of this name, "
                f"but {list_columns([*own.table])}. Name the file that has it with "
                f"--catalog FILE."
            )
        return _parse(own, column, own.table[column])
    columns = replace(
        run.embed.inputs.columns.for_another_file(),
        text=(),
        time=None,
        require_table=True,
        numbers=(column,),
        categories=(),
        dates=(),
        table="named",
    )
    other = read_catalog(path, columns=columns)
    units = _parse(other, column, other.table[column])
    by_id = dict(zip(other.sample_id.tolist(), units.tolist(), strict=True))
    return np.array([by_id.get(name, np.nan) for name in own.sample_id.tolist()])


def _parse(catalog: Catalog, column: str, cells: Sequence[str]) -> NDArray[np.float64]:
    where = f"{catalog.path}: column {column!r}"
    known = [row for row, cell in enumerate(cells) if clean(cell) not in MISSING]
    style = find_style(cells[row] for row in known)
    if style is None:
        raise InputError(
            f"{where}: must contain numbers with one decimal sign, such as 120, got "
            f"{shorten(cells[known[0]]) if known else ''!r}. Name another column with "
            f"--units-column."
        )
    units = np.full(len(cells), np.nan)
    units[known] = read_numbers([cells[row] for row in known], style)
    wrong = [row for row in known if not 0 <= units[row] < np.inf]
    if wrong:
        raise InputError(
            f"{where}: {catalog.describe(wrong[0])}: must be a number of 0 or above, "
            f"got {shorten(cells[wrong[0]])!r}. Correct it or leave the cell blank."
        )
    return units
