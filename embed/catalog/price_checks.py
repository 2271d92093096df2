"""Check the prices of a catalog: which are not usable, which may be misread."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embed.catalog.columns import CatalogError, shorten
from embed.catalog.prices import is_readable, three_decimals, why_unusable
from embed.catalog.reader import Catalog


def require_prices(
    catalog: Catalog, *, drop_unpriced: bool = False
) -> NDArray[np.float64]:
    """Return the prices of a catalog to train on.

    Parameters
    ----------
    catalog : Catalog
    drop_unpriced : bool
        Accept rows without a usable price; they stay in place as NaN.

    Returns
    -------
    ndarray of float64, shape (n_products,)
        Positive finite prices in catalog currency; NaN only with `drop_unpriced`.

    Raises
    ------
    CatalogError
        If there is no price column, no usable price at all, or an unusable price
        without `drop_unpriced`.
    """
    column = catalog.columns.price
    if catalog.price is None or catalog.price_text is None:
        raise CatalogError(
            f"{catalog.path}: no price column {column!r}. Run `pricestack embed` again "
            f"with --price-column to name it"
        )
    unpriced = np.flatnonzero(np.isnan(catalog.price))
    if len(unpriced) == 0 or (drop_unpriced and len(unpriced) < catalog.n_products):
        return catalog.price
    shown = describe_unpriced(catalog)
    if len(unpriced) == catalog.n_products:
        raise CatalogError(
            f"{catalog.path}: no row has a usable price in column {column!r} "
            f"({shown}). Prices must be positive numbers; run `pricestack embed` again "
            f"with --price-column to name the right column{_parse_remedy(catalog)}"
        )
    raise CatalogError(
        f"{catalog.path}: prices must be positive numbers, however {len(unpriced)} of "
        f"{catalog.n_products} rows are not ({shown}). Correct them and run "
        f"`pricestack embed` again, leave these rows out with --drop-unpriced"
        f"{_parse_remedy(catalog)}"
    )


def describe_unpriced(catalog: Catalog) -> str:
    """Describe why rows have no usable price: each reason, its first row and count.

    Returns
    -------
    str
        For example "row 2, sample_id '7': 'free' (no number; 3 rows)".
    """
    if catalog.price is None or catalog.price_text is None:
        return "no price column"
    rows_by_reason: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isnan(catalog.price)).tolist():
        reason = why_unusable(catalog.price_text[row])
        rows_by_reason.setdefault(reason, []).append(row)
    return "; ".join(
        f"{catalog.describe(rows[0])}: {shorten(catalog.price_text[rows[0]])!r} "
        f"({reason}{f'; {len(rows):,} rows' if len(rows) > 1 else ''})"
        for reason, rows in rows_by_reason.items()
    )


def parseable_price(catalog: Catalog) -> tuple[str, str] | None:
    """Return an example of an unusable price and the options that read it, if any."""
    if catalog.price is None or catalog.price_text is None:
        return None
    if catalog.columns.parse_prices:
        return None
    unusable = np.isnan(catalog.price).tolist()
    for written, is_unusable in zip(catalog.price_text, unusable, strict=True):
        if is_unusable and is_readable(written):
            return shorten(written), _parse_options(catalog)
    return None


def _parse_options(catalog: Catalog) -> str:
    """Name the options that read all readable prices of a column."""
    columns = replace(catalog.columns, parse_prices=True, decimal_sign=None)
    try:
        _ = replace(catalog, columns=columns).price
    except CatalogError:
        with suppress(CatalogError):
            columns = replace(columns, decimal_sign=".")
            _ = replace(catalog, columns=columns).price
            return "--parse-prices and either --decimal-sign . or --decimal-sign ,"
    return "--parse-prices"


def doubtful_price(catalog: Catalog) -> str | None:
    """Describe a plain number that may mean thousands, and the remedy.

    "1.299" beside "899" is 1.299 as a number, and 1299 in many countries.

    Returns
    -------
    str or None
        The message; None if there is no such number, or the columns settle it.
    """
    columns = catalog.columns
    if catalog.price_text is None or columns.parse_prices or columns.decimal_sign:
        return None
    doubtful = three_decimals(catalog.price_text)
    if doubtful is None:
        return None
    row, is_settled = doubtful
    low = float(catalog.price_text[row])
    high = 1000 * low
    as_high = (
        f"write it as {high:.0f}"
        if is_settled
        else f"give --decimal-sign , to read such prices as {high:.0f}"
    )
    return (
        f"{catalog.path}: {catalog.describe(row)}: {catalog.price_text[row].strip()!r} "
        f"is read as {low:.3f}. If it is {high:.0f}, {as_high}; if it is {low:.3f}, "
        f"give --decimal-sign . and this is not asked again."
    )


def _parse_remedy(catalog: Catalog) -> str:
    readable_price = parseable_price(catalog)
    if readable_price is None:
        return ""
    example, options = readable_price
    return (
        f", or run `pricestack embed` again with {options}, which reads prices such as "
        f"{example!r}"
    )
