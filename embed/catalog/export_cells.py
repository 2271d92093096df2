"""Cells of a shop's export to those of a catalog, and what to tell the user of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from embed.catalog.columns import CatalogError, Cells
from embed.catalog.export_rows import Products
from embed.catalog.exports import EXPORTS, Plan

_PLAIN_PRICE = re.compile(r"\s*(?:\d+(?:\.\d*)?|\.\d+)?\s*", re.ASCII)
_TEXT_ROLE = re.compile(r"summary|description|bullet\d")


def standard_cells(path: Path, cells: Cells, plan: Plan) -> Cells:
    """Turn the rows of an export into those of a catalog, a product each.

    Parameters
    ----------
    path : Path
        For messages.
    cells : Cells
        Of the columns in `plan.needed`.
    plan : Plan
        From `plan_columns`.

    Returns
    -------
    Cells
        Under the names of `cells.columns`. Rows that are no products are left out and
        counted in the notes. The cells of any other file are returned as they are.
    """
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
    of = _standard(cells, products, plan.roles)
    prices = of.get(columns.price)
    read_from = columns.price if columns.price in cells.of else plan.roles.get("price")
    is_number = read_from in cells.numbers
    is_plain = is_number or all(map(_PLAIN_PRICE.fullmatch, prices or ()))
    return replace(
        cells,
        of=of,
        columns=replace(
            columns,
            export=plan.export,
            parse_prices=columns.parse_prices or not is_plain,
        ),
        numbers=frozenset([columns.price] if is_number else []),
        file_rows=tuple(row + 1 for row in products.rows),
        notes=(*cells.notes, *_notes(cells, plan, products, n_rows)),
    )


def _standard(
    cells: Cells, products: Products, roles: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the columns of a catalog: those that the user named, else the export's."""
    columns, rows = cells.columns, products.rows

    def named(name: str) -> list[str]:
        column = cells.of[name]
        return [
            column[row] if column[row].strip() else column[parent]
            for row, parent in zip(rows, products.parents, strict=True)
        ]

    of: dict[str, list[str]] = {}
    if all(name in cells.of for name in columns.text):
        of |= {name: named(name) for name in columns.text}
    else:
        of[columns.text[0]] = products.text
    if columns.image in cells.of:
        of[columns.image] = named(columns.image)
    elif "image" in roles:
        of[columns.image] = products.image
    price = columns.price if columns.price in cells.of else roles.get("price")
    if price is not None:
        of[columns.price] = [cells.of[price][row] for row in rows]
    own_ids = cells.of.get(columns.sample_id)
    of[columns.sample_id] = [own_ids[row] for row in rows] if own_ids else products.ids
    return of


def _notes(cells: Cells, plan: Plan, products: Products, n_rows: int) -> list[str]:
    """Say what was read from where, and how many rows are no products."""
    columns, roles = cells.columns, plan.roles or {}
    export = EXPORTS[plan.export]
    read: list[tuple[str, list[str]]] = []
    if all(name in cells.of for name in columns.text):
        read.append(("text", list(columns.text)))
    else:
        read.append(("title", [roles["title"]]))
        read.append(
            ("text", [c for role, c in roles.items() if _TEXT_ROLE.match(role)])
        )
    for what, name in (("price", columns.price), ("image", columns.image)):
        column = name if name in cells.of else roles.get(what)
        read.append(("photo" if what == "image" else what, [column] if column else []))
    found = [(what, names) for what, names in read if names]
    lacking = [what for what, names in read if not names]
    ids = columns.sample_id if columns.sample_id in cells.of else export.ids
    sentences = [
        f"{export.title}: {_list([what for what, _ in found])} read from "
        f"{_list([name for _, names in found for name in names])}"
        + (f"; there is no column of the {_list(lacking)}" if lacking else "")
        + f". Ids are from {ids}."
    ]
    if products.left_out:
        n_left = sum(products.left_out.values())
        sentences.append(
            f"{len(products.rows)} products in {n_rows} rows; {n_left} of the rows are "
            f"no products ({_left_out(products)})."
        )
    return [*sentences, *products.notes]


def _left_out(products: Products) -> str:
    return ", ".join(f"{what}: {n}" for what, n in products.left_out.items())


def _list(words: Sequence[str]) -> str:
    """Write words as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
