"""Known exports of shop software: told by their header, read by their own columns.

Sources: the help pages of Shopify (product CSV), WooCommerce (product CSV export
schema), Google Merchant Center (product data specification), Amazon Seller Central
(flat files and listing reports); the Flipkart data set of product listings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embed.catalog import export_rows
from embed.catalog.columns import (
    CatalogColumns,
    CatalogError,
    ExportName,
    needed_columns,
    require_once,
    shorten,
)
from embed.catalog.export_rows import Products

N_HEADER_ROWS = 6  # of an Amazon flat file, at most: settings, labels, field names


@dataclass(frozen=True, kw_only=True)
class Export:
    """An export that is known: its columns by what they hold, and its rules."""

    title: str
    """Name for the user."""

    roles: Mapping[str, tuple[str, ...]]
    """Names that the column of each role may have, in small letters."""

    required: tuple[str, ...]
    """Roles by whose columns the export is known."""

    products: Callable[[Mapping[str, list[str]]], Products]
    """Turns cells by role into products."""

    ids: str
    """Where the ids come from, for the user."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be read of a file."""

    needed: list[str]
    """Columns, in file order."""

    export: ExportName = "none"

    roles: Mapping[str, str] | None = None
    """Column of each role of the export that the file has."""


EXPORTS: Mapping[str, Export] = {
    "shopify": Export(
        title="Shopify product export",
        roles={
            "handle": ("handle", "url handle"),
            "title": ("title",),
            "description": ("body (html)", "body html", "description"),
            "price": ("variant price", "price"),
            "image": ("image src", "product image url"),
            "variant_image": ("variant image", "variant image url"),
            "sku": ("variant sku", "sku"),
            "option1": ("option1 value",),
            "option2": ("option2 value",),
            "option3": ("option3 value",),
        },
        required=("handle", "title", "price", "option1"),
        products=export_rows.shopify,
        ids="the variant's SKU where it is unique, else the handle and a number",
    ),
    "woocommerce": Export(
        title="WooCommerce product export",
        roles={
            "id": ("id",),
            "type": ("type",),
            "sku": ("sku",),
            "title": ("name",),
            "summary": ("short description",),
            "description": ("description",),
            "price": ("regular price",),
            "image": ("images",),
            "parent": ("parent",),
            "option1": ("attribute 1 value(s)",),
            "option2": ("attribute 2 value(s)",),
            "option3": ("attribute 3 value(s)",),
        },
        required=("type", "title", "price"),
        products=export_rows.woocommerce,
        ids="ID, else the SKU",
    ),
    "google": Export(
        title="Google Merchant feed",
        roles={
            "id": ("id",),
            "title": ("title",),
            "description": ("description",),
            "price": ("price",),
            "image": ("image link",),
        },
        required=("id", "title", "description", "image"),
        products=export_rows.plain,
        ids="id",
    ),
    "amazon": Export(
        title="Amazon listings file",
        roles={
            "id": ("item sku", "seller sku", "sku"),
            "title": ("item name",),
            **{
                f"bullet{n}": (f"bullet point{n}", f"bullet point {n}")
                for n in range(1, 6)
            },
            "description": ("product description", "item description"),
            "price": ("standard price", "price", "list price"),
            "image": ("main image url", "image url"),
            "parentage": ("parent child", "parentage level"),
        },
        required=("id", "title"),
        products=export_rows.amazon,
        ids="the SKU",
    ),
    "flipkart": Export(
        title="Flipkart product listing",
        roles={
            "id": ("uniq id",),
            "title": ("product name",),
            "description": ("description",),
            "price": ("retail price",),
            "image": ("image", "images"),
        },
        required=("id", "title", "price"),
        products=export_rows.plain,
        ids="uniq_id",
    ),
}


def plan_columns(path: Path, columns: CatalogColumns, present: Sequence[str]) -> Plan:
    """Choose what to read of a file by the names of its columns.

    Parameters
    ----------
    path : Path
        For messages.
    columns : CatalogColumns
        Names of columns that the file has are taken from there; an export gives the
        others.
    present : sequence of str
        Names in the header.

    Raises
    ------
    CatalogError
        If the file lacks a column, or is not the export that the user named.
    """
    found = recognise(columns, present)
    if found is None:
        if columns.export in EXPORTS:
            raise CatalogError(_describe_other(path, EXPORTS[columns.export], present))
        return Plan(needed=needed_columns(path, columns, present))
    name, roles = found
    _require_named(path, columns, present)
    named = {columns.sample_id, *columns.text, columns.image, columns.price}
    own = {*roles.values(), *(name for name in present if name in named)}
    require_once(path, own, present)
    return Plan(needed=[c for c in present if c in own], export=name, roles=roles)


def recognise(
    columns: CatalogColumns, present: Sequence[str]
) -> tuple[ExportName, dict[str, str]] | None:
    """Return the export that has such a header, and its columns by role.

    None where the file has the columns of a plain catalog, or is no known export.
    """
    if columns.export == "none":
        return None
    if columns.export != "auto":
        names: tuple[ExportName, ...] = (columns.export,)
    elif columns.sample_id in present and set(columns.text) <= set(present):
        names = () if columns.sample_id == "sample_id" else tuple(_NAMES)
    else:
        names = tuple(_NAMES)
    by_name = {_plain_name(name): name for name in reversed(present)}
    for export_name in names:
        export = EXPORTS[export_name]
        roles = {
            role: by_name[alias]
            for role, aliases in export.roles.items()
            for alias in reversed(aliases)
            if alias in by_name
        }
        if all(role in roles for role in export.required):
            return export_name, roles
    return None


_NAMES: tuple[ExportName, ...] = (
    *("shopify", "woocommerce", "flipkart", "amazon", "google"),
)


def id_columns(plan: Plan) -> list[str]:
    """Return the columns of an export that ids are made from."""
    roles = plan.roles or {}
    return [roles[role] for role in ("id", "sku", "handle", "parent") if role in roles]


def header_row(columns: CatalogColumns, rows: Sequence[Sequence[str]]) -> int:
    """Return which of the first rows, from 0, is the header.

    It is the first, but for Amazon's flat files: there rows of settings and of labels
    come before it.
    """
    if not rows or columns.export not in ("auto", "amazon"):
        return 0
    if columns.sample_id in rows[0] and set(columns.text) <= set(rows[0]):
        return 0
    for at in range(min(len(rows), N_HEADER_ROWS) - 1, 0, -1):
        found = recognise(replace(columns, export="amazon"), rows[at])
        # Field names are written in one way; a product's cells are not.
        if found and set(found[1].values()) & {"item_sku", "item_name"}:
            return at
    return 0


def _require_named(path: Path, columns: CatalogColumns, present: Sequence[str]) -> None:
    """Refuse an id or text column that the user named and the file lacks."""
    plain, there = CatalogColumns(), present[0]
    asked = {columns.sample_id, *columns.text} - {plain.sample_id, *plain.text}
    if asked <= set(present):
        return
    needed_columns(
        path,
        replace(
            columns,
            sample_id=there
            if columns.sample_id == plain.sample_id
            else columns.sample_id,
            text=(there,) if columns.text == plain.text else columns.text,
        ),
        present,
    )


def _describe_other(path: Path, export: Export, present: Sequence[str]) -> str:
    lacking = [
        repr(export.roles[role][0])
        for role in export.required
        if not {_plain_name(name) for name in present} & set(export.roles[role])
    ]
    shown = ", ".join(repr(shorten(name)) for name in present[:20])
    return (
        f"{path}: is no {export.title}: it has no column {' and '.join(lacking)}; "
        f"columns present: {shown}. Leave out --export, or name another one"
    )


def _plain_name(name: str) -> str:
    """Return a column's name in small letters, with blanks for signs between words."""
    words = re.sub(r"[\s_-]+", " ", name.casefold().removeprefix("g:"))
    return words.strip()
