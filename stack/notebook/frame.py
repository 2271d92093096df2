"""Products of a DataFrame: ids, texts, photos and prices.

A notebook passes a DataFrame instead of a catalog; it is checked and written as one.
"""

import csv
import io
import numbers
import os
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from embed.catalog.columns import TableKind, shorten
from embed.catalog.reader import MAX_ID_CHARS, Catalog, CatalogColumns, CatalogError
from embed.photos.links import split_links
from embed.problems import Problem, read_problems
from embed.store.durable import write_bytes
from stack.notebook.photo_links import (
    find_by_name,
    gather_photos,
    mention_lists,
    photo_name,
)
from stack.notebook.table import cell_text, column_name, is_plain

CATALOG_NAME = "catalog.csv"
PHOTOS_NAME = "photos"
_N_SHOWN = 5


class PlaceholderWarning(UserWarning):
    """Some photos cannot be used; a placeholder replaces each of them."""


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
        [_text(cell, name, row, sample_id) for row, cell in enumerate(X[name])]
        for name in text_columns
    ]
    cells = X[image_column] if image_column is not None else [None] * len(X)
    paths = [
        _path(cell, f"X[{image_column!r}]", row, sample_id)
        for row, cell in enumerate(cells)
    ]
    links = [split_links(path) for path in paths]
    first = [cell_links[0] if cell_links else "" for cell_links in links]
    mention_lists(image_column, sum(len(cell_links) > 1 for cell_links in links))
    root = expand_home(images_dir or Path())
    photo = [_absolute(root, path) for path in first]
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


def read_target(y: ArrayLike | None, sample_id: Sequence[str]) -> NDArray[np.float64]:
    """Read prices from an array, a Series or a list.

    Parameters
    ----------
    y : array-like of shape (n_products,)
    sample_id : sequence of str
        Name of each product.

    Raises
    ------
    CatalogError
        If y is None, its length is not the number of products, or a price is not a
        positive, finite number; the message contains the row.
    """
    from sklearn.utils import column_or_1d  # late: it takes a second

    if y is None:
        raise CatalogError(
            "PriceRegressor requires y to be passed, but the target y is None. Give a "
            "price for each row of X"
        )
    _require_real(np.asarray(y))
    column = np.asarray(column_or_1d(y, warn=True))
    if len(column) != len(sample_id):
        raise CatalogError(
            f"y must have a price for each row of X, got {len(column)} for "
            f"{len(sample_id)} rows"
        )
    price = np.array([_number(value) for value in column])
    bad = np.flatnonzero(~(np.isfinite(price) & (price > 0))).tolist()
    if bad:
        shown = "; ".join(
            f"{_place(row, sample_id)}: {shorten(repr(column[row]))}"
            for row in bad[:_N_SHOWN]
        )
        raise CatalogError(
            f"y must be prices, finite numbers above 0, however {len(bad)} of "
            f"{len(column)} are not ({shown}). Correct them, or leave these rows out "
            f"of X and y; pandas.to_numeric makes numbers of text"
        )
    return price


def write_inputs(
    products: Products, price: NDArray[np.float64], folder: Path
) -> tuple[Path, Path | None]:
    """Write products as a catalog and a folder of photos, which the commands read.

    Photos are linked, or copied where the file system cannot.

    Returns
    -------
    catalog_path : Path
    images_dir : Path or None
        None if no product has a photo.

    Raises
    ------
    ConfigError
        If the folder of photos contains a file that no fit put there, or a photo of X.
    """
    text = io.StringIO()
    lines = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    columns = products.columns
    roles = (columns.sample_id, *columns.text, columns.image, columns.price)
    lines.writerow((*roles, *products.table))
    lines.writerows(
        zip(
            products.sample_id,
            products.text,
            products.photo_name,
            map(repr, price.tolist()),
            *products.table.values(),
            strict=True,
        )
    )
    images_dir = folder / PHOTOS_NAME
    has_photos = any(products.photo)
    if has_photos or images_dir.is_dir():  # of an earlier fit
        gather_photos(products.photo_of_name, images_dir)
    content = text.getvalue().encode()
    path = folder / CATALOG_NAME
    if not (path.is_file() and path.read_bytes() == content):
        write_bytes(path, content)
    return path, images_dir if has_photos else None


def expand_home(path: Path) -> Path:
    """Expand `~` and `~/...`; other paths that begin with `~` are file names.

    Office programs write `~$name`, and another user's home is unlikely.
    """
    return path.expanduser() if path.parts[:1] == ("~",) else path


def problems_of(path: Path, products: Products) -> pd.DataFrame:
    """Read problems.csv of a run, with the problem of each photo's path.

    Returns
    -------
    DataFrame
        Columns sample_id, field, reason, and row, from 0.
    """
    problems = pd.DataFrame(read_problems(path), columns=Problem._fields, dtype=str)
    rows = {sample_id: row for row, sample_id in enumerate(products.sample_id)}
    problems["row"] = [rows[sample_id] for sample_id in problems["sample_id"]]
    for label, row in problems.loc[problems["field"] == "image", "row"].items():
        photo = products.photo[row]
        if photo is None:
            problems.loc[label, "reason"] = "no photo given"
        elif not os.path.isfile(photo):
            problems.loc[label, "reason"] = "no such file"
    return problems


def warn_of_placeholders(
    products: Products, reasons: dict[int, str], *, stacklevel: int = 3
) -> None:
    """Warn of photos that cannot be used, with their reasons.

    Parameters
    ----------
    products : Products
    reasons : dict of int to str
        Reason by row; rows without a path are left out.
    stacklevel : int
        Stack level of the warning.
    """
    bad = [row for row in sorted(reasons) if products.photo[row] is not None]
    if not bad:
        return
    n_given = sum(photo is not None for photo in products.photo)
    shown = "; ".join(_explain(products, row, reasons[row]) for row in bad[:_N_SHOWN])
    warnings.warn(
        f"{len(bad)} of {n_given} photos cannot be used, so these products are priced "
        f"without one ({shown}). Correct the paths or images_dir",
        PlaceholderWarning,
        stacklevel=stacklevel,
    )


def _mention_missing(labels: Sequence[Hashable]) -> None:
    if labels:
        warnings.warn(
            f"X lacks table columns of the fit, which are unknown for all products: "
            f"{_names(labels)}. Give the columns of feature_names_in_",
            MissingColumnWarning,
            stacklevel=6,
        )


def _cells(
    column: "pd.Series[Any]", label: Hashable, sample_id: Sequence[str]
) -> tuple[str, ...]:
    cells = []
    for row, cell in enumerate(column):
        try:
            cells.append(cell_text(cell))
        except TypeError as error:
            raise CatalogError(
                f"X[{label!r}] must hold text, numbers, dates or None, however "
                f"{_place(row, sample_id)} is {error}. Leave it out of table_columns"
            ) from None
    return tuple(cells)


def require_frame(X: Any, columns: Sequence[Hashable]) -> None:
    """Refuse an X that is no DataFrame, has no row or lacks a column.

    Raises
    ------
    CatalogError
        If it does, or has one of the columns twice.
    """
    if not isinstance(X, pd.DataFrame):
        kind = f"{type(X).__module__}.{type(X).__qualname__}"
        if np.iscomplexobj(X):
            raise CatalogError(f"X: Complex data not supported, got {kind}")
        raise CatalogError(
            f"X must be a pandas DataFrame with the columns {_names(columns)}, got "
            f"{kind}. Make one: pandas.DataFrame({{{[*columns, 'x'][0]!r}: [...]}})"
        )
    if X.shape[1] == 0:
        raise CatalogError(
            f"X has 0 feature(s) (shape={X.shape}) while a minimum of 1 is required. "
            f"Give it the columns {_names(columns)}"
        )
    present: Sequence[Hashable] = X.columns.tolist()
    if missing := [name for name in columns if name not in present]:
        raise CatalogError(
            f"X has no column {_names(missing)}; columns present: "
            f"{_names(present[:20])}. Name the right ones with text_columns, "
            f"table_columns and image_column (None: no photos)"
        )
    for name in columns:
        if (n_columns := present.count(name)) > 1:
            raise CatalogError(
                f"X must have the column {name!r} once, it is there {n_columns} times. "
                f"Rename or drop all but one"
            )
    if not len(X):
        raise CatalogError("X must have a row for each product, got n_samples=0")


def _names(columns: Iterable[object]) -> str:
    return ", ".join(shorten(repr(name)) for name in columns)


def row_ids(index: "pd.Index[str]") -> tuple[str, ...]:
    """Return the labels of an index if they can be ids, else positions from 0."""
    labels = [str(label) for label in index]
    usable = len(set(labels)) == len(labels) and all(
        label.strip()
        and len(label) <= MAX_ID_CHARS
        and label.isprintable()
        and label == _encodable(label)
        for label in labels
    )
    return tuple(labels) if usable else tuple(map(str, range(len(labels))))


def _place(row: int, sample_id: Sequence[str]) -> str:
    label = sample_id[row]
    return f"row {row}" if label == str(row) else f"row {row}, index {label!r}"


def _is_missing(cell: Any) -> bool:
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))


def _text(cell: object, name: str, row: int, sample_id: Sequence[str]) -> str:
    if isinstance(cell, str):
        return _encodable(cell)
    if _is_missing(cell):
        return ""
    if isinstance(cell, numbers.Number | np.bool_):
        return str(cell)
    raise CatalogError(
        f"X[{name!r}] must hold text, numbers or None, however "
        f"{_place(row, sample_id)} is {shorten(repr(cell))} ({type(cell).__name__}). "
        f"Write it as text"
    )


def _encodable(text: str) -> str:
    """Leave out halves of surrogate pairs, which UTF-8 cannot encode."""
    return text.encode("utf-8", "ignore").decode()


def _path(cell: object, name: str, row: int, sample_id: Sequence[str]) -> str:
    if _is_missing(cell):
        return ""
    if isinstance(cell, str | os.PathLike):
        path = os.fspath(cell)
        if isinstance(path, str):
            return path.strip()
    raise CatalogError(
        f"{name} must hold paths of photos or None, however {_place(row, sample_id)} "
        f"is {shorten(repr(cell))} ({type(cell).__name__}). Save photos to files and "
        f"give their paths"
    )


def _absolute(root: Path, path: str) -> Path | None:
    if not path:
        return None
    whole = root / expand_home(Path(path))
    try:
        return Path(os.path.realpath(whole))
    except (OSError, ValueError):  # a loop of links, a NUL: opening it raises
        return whole.absolute()


def _require_real(column: NDArray[np.generic]) -> None:
    if column.dtype.kind == "c":
        raise CatalogError("y: Complex data not supported. Give prices")
    if column.dtype.kind not in "iufOUST":
        raise CatalogError(
            f"y must be prices, numbers above 0, got {column.dtype}. Give the column "
            f"of prices"
        )


def _number(value: object) -> float:
    """Return NaN for a value that is not a number; text never is one."""
    if isinstance(value, str | bytes | bool | np.bool_):
        return float("nan")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _explain(products: Products, row: int, reason: str) -> str:
    path = products.photo[row]
    assert path is not None
    # an absolute path keeps one of the two slashes
    if any(part in ("http:", "https:") for part in path.parts):
        reason = "a link, which is not downloaded"
    # no terminal or log can show a name that is not UTF-8
    shown = os.fspath(path).encode("utf-8", "replace").decode()
    return f"{_place(row, products.sample_id)}: {shorten(shown, 120)}: {reason}"
