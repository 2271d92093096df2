"""Find the products among the rows of a shop's export, and their inherited cells.

The public functions take the cells of all rows by role (`embed.catalog.exports` names
the column of each role) and return the products in file order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Roles = Mapping[str, list[str]]
_DESCRIPTIONS = ("summary", "description")
_OPTIONS = ("option1", "option2", "option3")
_DEFAULT_OPTION = "default title"  # option value of Shopify products without variants
_ID = re.compile(r"id:(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ProductRows:
    """Products among the rows of a file; all lists have the same length."""

    rows: list[int]
    """Row of each product, from 0."""

    parents: list[int]
    """Row that fills the blank cells of each product, except price and id."""

    ids: list[str]
    text: list[str]
    """Name and description as labelled fields."""

    image: list[str]
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of rows that are not products, by kind of row."""

    notes: tuple[str, ...] = ()
    """Further sentences for the user."""


def plain(cells: Roles) -> ProductRows:
    """Return each row that is not blank as a product."""
    rows, left_out = _filled(cells)
    return ProductRows(
        rows=rows,
        parents=rows,
        ids=[cells["id"][row] for row in rows],
        text=[_text(cells, row, row) for row in rows],
        image=[cells["image"][row] for row in rows],
        left_out=left_out,
    )


def shopify(cells: Roles) -> ProductRows:
    """Return each variant as a product, with the title, text and photo of its handle.

    A row with only a handle and a photo is not a product. The option values are
    appended to the name; without them, variants of different sizes and prices would
    have the same text.
    """
    filled, left_out = _filled(cells)
    variant_roles = ("title", "price", "sku", *_OPTIONS)
    rows = [
        row for row in filled if any(cells[role][row].strip() for role in variant_roles)
    ]
    _count(left_out, "rows with a photo alone", len(filled) - len(rows))
    handles = [cells["handle"][row].strip() for row in rows]
    first: dict[str, int] = {}
    for row, handle in zip(rows, handles, strict=True):
        if cells["title"][row].strip() or handle not in first:
            first.setdefault(handle, row)
    # A variant's row may come before the row with its product's title.
    for row, handle in zip(rows, handles, strict=True):
        if cells["title"][row].strip() and not cells["title"][first[handle]].strip():
            first[handle] = row
    parents = [first[h] if h else row for row, h in zip(rows, handles, strict=True)]
    return ProductRows(
        rows=rows,
        parents=parents,
        ids=_variant_ids([cells["sku"][row].strip() for row in rows], handles),
        text=[
            _text(cells, row, parent, options=_options(cells, row))
            for row, parent in zip(rows, parents, strict=True)
        ],
        image=[
            cells["variant_image"][row].strip() or cells["image"][parent]
            for row, parent in zip(rows, parents, strict=True)
        ],
        left_out=left_out,
    )


def woocommerce(cells: Roles) -> ProductRows:
    """Return simple products and variations; a variation inherits from its parent.

    Groups of products without a price, and variable products with variations in the
    file, are left out.
    """
    filled, left_out = _filled(cells)
    kinds = {row: _kind(cells["type"][row]) for row in filled}
    parent_of, n_orphans = _woo_parents(cells, kinds)
    has_variations = set(parent_of.values())
    rows: list[int] = []
    for row in filled:
        if not cells["price"][row].strip() and kinds[row] == "grouped":
            _count(left_out, "groups of products", 1)
        elif row in has_variations and kinds[row] != "variation":
            _count(left_out, "parents of variations", 1)
        else:
            rows.append(row)
    parents = [parent_of.get(row, row) for row in rows]
    orphans = f"Variations whose parent is not in the file: {n_orphans}."
    return ProductRows(
        rows=rows,
        parents=parents,
        ids=[cells["id"][row].strip() or cells["sku"][row].strip() for row in rows],
        text=[
            _text(cells, row, parent, options=_woo_options(cells, row, parent))
            for row, parent in zip(rows, parents, strict=True)
        ],
        image=[
            _own_or(cells["image"], row, parent)
            for row, parent in zip(rows, parents, strict=True)
        ],
        left_out=left_out,
        notes=(orphans,) if n_orphans else (),
    )


def amazon(cells: Roles) -> ProductRows:
    """Return all filled rows as products except parents, which cannot be bought."""
    filled, left_out = _filled(cells)
    is_parent = [cells["parentage"][row].strip().lower() == "parent" for row in filled]
    rows = [row for row, skip in zip(filled, is_parent, strict=True) if not skip]
    _count(left_out, "parents of variations", sum(is_parent))
    return ProductRows(
        rows=rows,
        parents=rows,
        ids=[cells["id"][row].strip() for row in rows],
        text=[_text(cells, row, row) for row in rows],
        image=[cells["image"][row] for row in rows],
        left_out=left_out,
    )


def _filled(cells: Roles) -> tuple[list[int], dict[str, int]]:
    """Return the rows with a filled cell, and a count of the blank rows."""
    by_row = list(zip(*cells.values(), strict=True))
    rows = [row for row, texts in enumerate(by_row) if any(map(str.strip, texts))]
    left_out: dict[str, int] = {}
    _count(left_out, "blank rows", len(by_row) - len(rows))
    return rows, left_out


def _count(left_out: dict[str, int], kind: str, n_rows: int) -> None:
    if n_rows:
        left_out[kind] = left_out.get(kind, 0) + n_rows


def _own_or(cells: Sequence[str], row: int, parent: int) -> str:
    return cells[row] if cells[row].strip() else cells[parent]


def _text(cells: Roles, row: int, parent: int, *, options: Sequence[str] = ()) -> str:
    """Label name, bullets and description, each on one line.

    A description of several lines could contain what looks like a label.
    """
    name = ", ".join([_line(_own_or(cells["title"], row, parent)), *options])
    lines = [f"Item Name: {name}"]
    for number in range(1, 6):
        bullet = _line(cells.get(f"bullet{number}", {row: ""})[row])
        lines += [f"Bullet Point {number}: {bullet}"] if bullet else []
    for role in _DESCRIPTIONS:
        if role in cells:
            text = _line(_own_or(cells[role], row, parent))
            lines += [f"Product Description: {text}"] if text else []
    return "\n".join(lines) if lines[1:] or name.strip(", ") else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def _options(cells: Roles, row: int) -> list[str]:
    options = [_line(cells[role][row]) for role in _OPTIONS]
    return [text for text in options if text and text.lower() != _DEFAULT_OPTION]


def _variant_ids(skus: Sequence[str], handles: Sequence[str]) -> list[str]:
    """Return each SKU if it is unique among all ids, else the handle and a number."""
    n_variants: Counter[str] = Counter()
    numbered = []
    for handle in handles:
        n_variants[handle] += 1
        numbered.append(f"{handle}-{n_variants[handle]}")
    n_uses, taken = Counter(skus), set(numbered)
    return [
        sku if sku and n_uses[sku] == 1 and sku not in taken else number
        for sku, number in zip(skus, numbered, strict=True)
    ]


def _kind(written: str) -> str:
    """Return the product type in a cell; ignore "virtual" and "downloadable"."""
    words = written.lower().replace(",", " ").split()
    kinds = [word for word in words if word not in ("virtual", "downloadable")]
    return kinds[0] if kinds else "simple"


def _woo_parents(cells: Roles, kinds: Mapping[int, str]) -> tuple[dict[int, int], int]:
    """Return the row of each variation's parent, and how many have no parent."""
    by_name: dict[str, int] = {}
    for role in ("sku", "id"):  # a SKU may be written as an id, "id:5"; the id counts
        possible_parents = (row for row, kind in kinds.items() if kind != "variation")
        for row in possible_parents:
            if name := cells[role][row].strip():
                by_name[name if role == "sku" else f"id:{name}"] = row
    parents, n_orphans = dict[int, int](), 0
    for row, kind in kinds.items():
        if kind != "variation":
            continue
        name = cells["parent"][row].strip()
        match = _ID.fullmatch(name)
        key = f"id:{match[1]}" if match else name
        parent = by_name.get(key, by_name.get(f"id:{name}"))
        if parent is None:
            n_orphans += 1
        else:
            parents[row] = parent
    return parents, n_orphans


def _woo_options(cells: Roles, row: int, parent: int) -> list[str]:
    """Return a variation's attributes that are not in its name."""
    if row == parent:
        return []
    name = _line(_own_or(cells["title"], row, parent)).lower()
    options = [_line(cells[role][row]) for role in _OPTIONS]
    return [text for text in options if text and text.lower() not in name]
