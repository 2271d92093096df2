"""Learn the table columns of a catalog, and refuse those that give the price away."""

import shlex
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogError
from embed.catalog.reader import Catalog
from embed.table.encode import TableColumn, encode, learn_columns
from embed.table.giveaways import find_giveaway


class GiveawayError(CatalogError):
    """A table column gives the price away."""

    def __init__(self, path: Path, fault: str, column: str) -> None:
        self.fault = fault
        self.column = column
        name = shlex.quote(column)
        super().__init__(
            f"{path}: {fault}. If {column!r} is made from the price, do not name it; "
            f"with --table auto, leave it out by --ignore-column {name}. If new "
            f"products have it before they have a price, use --allow-column {name}"
        )


def learn_table(catalog: Catalog) -> tuple[TableColumn, ...]:
    """Learn how the cells of each table column are written, and its categories.

    Prices serve only to refuse columns that give the price away.

    Raises
    ------
    CatalogError
        If the cells of a column do not fit its kind.
    GiveawayError
        If a column gives the price away and `--allow-column` does not name it.
    """
    columns = learn_columns(
        catalog.table,
        catalog.columns.kinds,
        where=str(catalog.path),
        plain_numbers=catalog.plain_numbers,
    )
    try:
        price = catalog.price
    except CatalogError:  # stages that need prices report it
        price = None
    if price is not None:
        _refuse_giveaways(catalog, columns, price)
    return columns


def _refuse_giveaways(
    catalog: Catalog, columns: tuple[TableColumn, ...], price: NDArray[np.float64]
) -> None:
    checked = [c for c in columns if c.name not in catalog.columns.allowed]
    features = encode(checked, catalog.table, n_products=catalog.n_products)
    giveaway = find_giveaway(checked, features.array, price)
    if giveaway is None:
        return
    names, correlation = giveaway
    fault = (
        f"column{'s' * (len(names) > 1)} {' and '.join(map(repr, names))} "
        f"give{'s' * (len(names) == 1)} the price away: the correlation with the log "
        f"price is {correlation:.3f}"
    )
    raise GiveawayError(catalog.path, fault, names[-1])
