"""Products of a DataFrame: ids, texts, photos and table columns.

A notebook passes a DataFrame instead of a catalog.
"""

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from embed.catalog.columns import TableKind
from embed.catalog.reader import Catalog, CatalogColumns, CatalogError
from embed.photos.links import split_links
from stack.notebook.frame import (
    join_names,
    place,
    read_path_cell,
    read_table_cell,
    read_text_cell,
    require_frame,
    row_ids,
)
from stack.notebook.photo_links import (
    absolute,
    expand_home,
    find_by_name,
    mention_lists,
    photo_name,
)
from stack.notebook.table import column_name, is_plain


class MissingColumnWarning(UserWarning):
    """X lacks a table column of the fit, which is unknown for all products."""


@dataclass(frozen=True, kw_only=True)
class Products:
    """Products of a DataFrame, in its order."""

    sample_id: tuple[str, ...]
    """Labels of the index if they can be ids, else positions from 0."""

    text: tuple[str, ...]
    """Text columns, joined by line breaks; "" where missing."""

    photo: tuple[Path | None, ...]
    """Absolute paths without symbolic links; None where no photo was given."""

    table: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Cells of each table column, as text."""

    kinds: Mapping[str, TableKind] = field(default_factory=dict)
    """Kind of each table column."""

    plain_numbers: frozenset[str] = frozenset()
    """Table columns with a dtype of numbers."""

    allowed: tuple[str, ...] = ()
    """Table columns to use although they give the price away."""

    @cached_property
    def photo_name(self) -> tuple[str, ...]:
        """File name of each photo, unique for each path and state of the file."""
        names = {path: photo_name(path) for path in set(self.photo) if path}
        return tuple(names[path] if path else "" for path in self.photo)

    @property
    def photo_of_name(self) -> dict[str, Path | None]:
        """Paths of the photos by file name."""
        return dict(zip(self.photo_name, self.photo, strict=True))

    @cached_property
    def columns(self) -> CatalogColumns:
        """Columns of the catalog; those of ids, texts, … differ from the table's."""
        default = CatalogColumns()
        of_kind = {
            kind: tuple(name for name, k in self.kinds.items() if k == kind)
            for kind in get_args(TableKind)
        }
        return CatalogColumns(
            sample_id=self._free(default.sample_id),
            text=tuple(map(self._free, default.text)),
            image=self._free(default.image),
            price=self._free(default.price),
            numbers=of_kind["number"],
            categories=of_kind["category"],
            dates=of_kind["date"],
            allowed=self.allowed,
            export="none",
        )

    def _free(self, name: str) -> str:
        while name in self.kinds:
            name += "_"
        return name

    def catalog(self) -> Catalog:
        """Return the products as a catalog without prices and without a file."""
        return Catalog(
            path=Path("X"),
            columns=self.columns,
            sample_id=np.array(self.sample_id),
            text=self.text,
            image_link=self.photo_name,
            price_text=None,
            table={name: tuple(cells) for name, cells in self.table.items()},
            plain_numbers=self.plain_numbers,
        )


def read_products(
    X: pd.DataFrame,
    *,
    text_columns: Sequence[str],
    image_column: str | None,
    images_dir: Path | None,
    kinds: Mapping[Hashable, TableKind] | None = None,
    allowed: Iterable[Hashable] = (),
) -> Products:
    """Read products from a DataFrame.

    Parameters
    ----------
    X : DataFrame of shape (n_products, any)
        A product per row; columns that are not named are ignored.
    text_columns : sequence of str
        Columns of text, in reading order.
    image_column : str, optional
        Column of paths; None for no photos.
    images_dir : Path, optional
        Folder of relative paths; the working directory if None. A path or link without
        a file is looked up in this folder by name, as by the commands.
    kinds : mapping, optional
        Kind of each table column. A column that X lacks is unknown.
    allowed : iterable
        Table columns to use although they give the price away.

    Raises
    ------
    CatalogError
        If X is not a DataFrame, has no row or lacks a column, or if a cell is neither
        text nor number, or not a path.
    """
    columns = [*text_columns, *([image_column] if image_column is not None else [])]
    kinds = kinds or {}
    require_frame(X, columns)
    present = [label for label in kinds if label in X.columns]
    require_frame(X, present)
    _mention_missing([label for label in kinds if label not in X.columns])
    sample_id = row_ids(X.index)
    texts = [
        [read_text_cell(cell, name, row, sample_id) for row, cell in enumerate(X[name])]
        for name in text_columns
    ]
    cells = X[image_column] if image_column is not None else [None] * len(X)
    paths = [
        read_path_cell(cell, f"X[{image_column!r}]", row, sample_id)
        for row, cell in enumerate(cells)
    ]
    links = [split_links(path) for path in paths]
    first = [cell_links[0] if cell_links else "" for cell_links in links]
    mention_lists(image_column, sum(len(cell_links) > 1 for cell_links in links))
    root = expand_home(images_dir or Path())
    photo = [absolute(root, path) for path in first]
    if images_dir is not None:
        photo = find_by_name(first, photo, root)
    return Products(
        sample_id=sample_id,
        text=tuple(
            "\n".join(filter(str.strip, parts))
            for parts in zip([""] * len(X), *texts, strict=True)
        ),
        photo=tuple(photo),
        table={
            column_name(label): _cells(X[label], label, sample_id) for label in present
        },
        kinds={column_name(label): kind for label, kind in kinds.items()},
        plain_numbers=frozenset(
            column_name(label) for label in present if is_plain(X[label])
        ),
        allowed=tuple(map(column_name, allowed)),
    )


def _mention_missing(labels: Sequence[Hashable]) -> None:
    if labels:
        warnings.warn(
            f"X lacks table columns of the fit, which are unknown for all products: "
            f"{join_names(labels)}. Give the columns of feature_names_in_",
            MissingColumnWarning,
            stacklevel=6,
        )


def _cells(
    column: "pd.Series[Any]", label: Hashable, sample_id: Sequence[str]
) -> tuple[str, ...]:
    cells = []
    for row, cell in enumerate(column):
        try:
            cells.append(read_table_cell(cell))
        except TypeError as error:
            raise CatalogError(
                f"X[{label!r}] must hold text, numbers, dates or None, however "
                f"{place(row, sample_id)} is {error}. Leave it out of table_columns"
            ) from None
    return tuple(cells)
