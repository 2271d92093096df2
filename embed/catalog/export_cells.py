"""Turn the cells of a shop's export into catalog cells, with notes for the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from embed.catalog.columns import CatalogError, Cells
from embed.catalog.export_rows import ProductRows
from embed.catalog.exports import EXPORTS, Plan

_PLAIN_PRICE = re.compile(r"\s*(?:\d+(?:\.\d*)?|\.\d+)?\s*", re.ASCII)
_TEXT_ROLE = re.compile(r"summary|description|bullet\d")


def standard_cells(path: Path, cells: Cells, plan: Plan) -> Cells:
    """Turn the rows of an export into catalog rows, one product each.

    Parameters
    ----------
    path : Path
        The file, for messages.
    cells : Cells
        Cells of the columns in `plan.needed`, and the columns that were asked for.
    plan : Plan
        Columns of the export, from `plan_columns`.

    Returns
    -------
    Cells
        Catalog columns under the names of `cells.columns`. Rows that are not products
        are left out and counted in the notes. For a file that is no export, all rows
        as they are. `columns.export` is the export that was found.
    """
    cells = replace(cells, columns=replace(cells.columns, export=plan.export))
    if plan.roles is None:
        return cells
    columns, export = cells.columns, EXPORTS[plan.export]
    n_rows = len(next(iter(cells.of.values()), []))
    by_role = {
        role: cells.of[plan.roles[role]] if role in plan.roles else [""] * n_rows
        for role in export.roles
    }
    products = export.products(by_role)
    if n_rows and not products.rows:
        raise CatalogError(
            f"{path}: read as a {export.title}, it has {n_rows} rows, none of which is "
            f"a product ({_left_out(products)}). Add products to it, or read every row "
            f"as one with --export none and name columns of it with --id-column and "
            f"--text-column"
        )
    catalog_cells = _standard(cells, products, plan)
    prices = catalog_cells.get(columns.price)
    read_from = columns.price if columns.price in cells.of else plan.roles.get("price")
    is_number = read_from in cells.numbers
    is_plain = is_number or all(map(_PLAIN_PRICE.fullmatch, prices or ()))
    return replace(
        cells,
        of=catalog_cells,
        columns=replace(columns, parse_prices=columns.parse_prices or not is_plain),
        numbers=frozenset([columns.price] if is_number else [])
        | cells.numbers.intersection(plan.table),
        file_rows=tuple(row + 1 for row in products.rows),
        notes=(*cells.notes, *_notes(cells, plan, products, n_rows)),
    )


def _standard(cells: Cells, products: ProductRows, plan: Plan) -> dict[str, list[str]]:
    """Return the catalog's columns: the user's if named, else the export's."""
    columns, rows, roles = cells.columns, products.rows, plan.roles or {}

    def named(name: str) -> list[str]:
        column = cells.of[name]
        return [
            column[row] if column[row].strip() else column[parent]
            for row, parent in zip(rows, products.parents, strict=True)
        ]

    catalog_cells: dict[str, list[str]] = {}
    if all(name in cells.of for name in columns.text):
        catalog_cells |= {name: named(name) for name in columns.text}
    else:
        catalog_cells[columns.text[0]] = products.text
    if columns.image in cells.of:
        catalog_cells[columns.image] = named(columns.image)
    elif "image" in roles:
        catalog_cells[columns.image] = products.image
    price = columns.price if columns.price in cells.of else roles.get("price")
    if price is not None:
        catalog_cells[columns.price] = [cells.of[price][row] for row in rows]
    catalog_cells |= {name: named(name) for name in plan.table if name in cells.of}
    own_ids = cells.of.get(columns.sample_id)
    catalog_cells[columns.sample_id] = (
        [own_ids[row] for row in rows] if own_ids else products.ids
    )
    return catalog_cells


def _notes(cells: Cells, plan: Plan, products: ProductRows, n_rows: int) -> list[str]:
    """Describe which columns were read, and how many rows are not products."""
    columns, roles = cells.columns, plan.roles or {}
    export = EXPORTS[plan.export]
    read: list[tuple[str, list[str]]] = []
    if all(name in cells.of for name in columns.text):
        read += [("text", list(columns.text))] if columns.text else []
    else:
        read.append(("title", [roles["title"]]))
        read.append(
            ("text", [c for role, c in roles.items() if _TEXT_ROLE.match(role)])
        )
    for role, name in (("price", columns.price), ("image", columns.image)):
        column = name if name in cells.of else roles.get(role)
        read.append(("photo" if role == "image" else role, [column] if column else []))
    present = [(part, names) for part, names in read if names]
    lacking = [part for part, names in read if not names]
    ids = columns.sample_id if columns.sample_id in cells.of else export.ids
    sentences = [
        f"{export.title}: {_list([part for part, _ in present])} read from "
        f"{_list([name for _, names in present for name in names])}"
        + (f"; there is no column for the {_list(lacking)}" if lacking else "")
        + f". Ids are from {ids}."
    ]
    if products.left_out:
        n_left = sum(products.left_out.values())
        sentences.append(
            f"{len(products.rows)} products in {n_rows} rows; {n_left} of the rows are "
            f"not products ({_left_out(products)})."
        )
    return [*sentences, *products.notes]


def _left_out(products: ProductRows) -> str:
    return ", ".join(f"{kind}: {n}" for kind, n in products.left_out.items())


def _list(words: Sequence[str]) -> str:
    """Write words as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
