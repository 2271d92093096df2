"""Recognise exports of shop software by their header, and name their columns.

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
    table_columns,
)
from embed.catalog.export_rows import ProductRows

N_HEADER_ROWS = 6  # Amazon flat files begin with settings, labels and field names


@dataclass(frozen=True, kw_only=True)
class Export:
    """A known export: the names of its columns, and the rule that finds products."""

    title: str
    """Name of the export in messages."""

    roles: Mapping[str, tuple[str, ...]]
    """Possible column names of each role, in lower case."""

    required: tuple[str, ...]
    """Roles whose columns identify the export."""

    products: Callable[[Mapping[str, list[str]]], ProductRows]
    """Function that turns cells by role into products."""

    ids: str
    """Source of the ids, for messages."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Columns to read from a file."""

    needed: list[str]
    """Names of the columns, in file order."""

    table: list[str]
    """Those that are or may be table columns."""

    export: ExportName = "none"

    roles: Mapping[str, str] | None = None
    """Column of each role that the export and the file have; None without an export."""


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
    """Choose the columns to read from a file by their names.

    Parameters
    ----------
    path : Path
        The file, for messages.
    columns : CatalogColumns
        Column names, which override those of an export if the file has them.
    present : sequence of str
        Names in the header.

    Raises
    ------
    CatalogError
        If the file lacks a column, or is not the export that the user named.
    """
    recognised = recognise(columns, present)
    if recognised is None:
        if columns.export in EXPORTS:
            raise CatalogError(_describe_other(path, EXPORTS[columns.export], present))
        return Plan(
            needed=needed_columns(path, columns, present),
            table=table_columns(columns, present),
        )
    name, roles = recognised
    _require_named(path, columns, present)
    table = table_columns(columns, present, roles.values())
    named = (name for name in present if name in columns.roles)
    own = {*roles.values(), *named, *table}
    require_once(path, own, present)
    needed = [c for c in present if c in own]
    return Plan(needed=needed, table=table, export=name, roles=roles)


def recognise(
    columns: CatalogColumns, present: Sequence[str]
) -> tuple[ExportName, dict[str, str]] | None:
    """Return the name of the export with this header, and its columns by role.

    Return None for the columns of a plain catalog or of no known export.
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
    "shopify",
    "woocommerce",
    "flipkart",
    "amazon",
    "google",
)


def id_columns(plan: Plan) -> list[str]:
    """Return the columns of an export that ids are made from."""
    roles = plan.roles or {}
    return [roles[role] for role in ("id", "sku", "handle", "parent") if role in roles]


def header_row(columns: CatalogColumns, rows: Sequence[Sequence[str]]) -> int:
    """Return the index, from 0, of the header among the first rows.

    In Amazon's flat files, rows of settings and labels come before the header. In all
    other files the header is the first row.
    """
    if not rows or columns.export not in ("auto", "amazon"):
        return 0
    if columns.sample_id in rows[0] and set(columns.text) <= set(rows[0]):
        return 0
    for index in range(min(len(rows), N_HEADER_ROWS) - 1, 0, -1):
        recognised = recognise(replace(columns, export="amazon"), rows[index])
        # Labels may match the names of roles too; only field names have underscores.
        if recognised and set(recognised[1].values()) & {"item_sku", "item_name"}:
            return index
    return 0


def _require_named(path: Path, columns: CatalogColumns, present: Sequence[str]) -> None:
    """Refuse an id or text column that the user named and the file lacks."""
    default, first = CatalogColumns(), present[0]
    named = {columns.sample_id, *columns.text} - {default.sample_id, *default.text}
    if named <= set(present):
        return
    needed_columns(
        path,
        replace(
            columns,
            sample_id=first
            if columns.sample_id == default.sample_id
            else columns.sample_id,
            text=(first,) if columns.text == default.text else columns.text,
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
        f"{path}: is not a {export.title}: it has no column {' and '.join(lacking)}; "
        f"columns present: {shown}. Leave out --export, or name another one"
    )


def _plain_name(name: str) -> str:
    """Return a column's name in lower case, with blanks between words."""
    words = re.sub(r"[\s_-]+", " ", name.casefold().removeprefix("g:"))
    return words.strip()
