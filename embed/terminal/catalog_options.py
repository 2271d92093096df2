"""The catalog of a command: its options, and reading it with notes for the user."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from embed.catalog.columns import DELIMITER_NAMES, ExportName, TableChoice
from embed.catalog.reader import (
    Catalog,
    CatalogColumns,
    CatalogError,
    is_text_file,
    read_catalog,
)

R = TypeVar("R")
_DEFAULT = CatalogColumns()
_LARGE_BYTES = 5_000_000  # a second or two of reading
_SAME_NAME = (
    *("export", "encoding", "delimiter", "parse_prices", "decimal_sign"),
    *("numbers", "categories", "dates", "table", "ignored", "allowed"),
    *("groups", "time"),
)
# The fields of `CatalogColumns` that options give, by parameter.
_FIELDS = {
    "text_columns": "text",
    "id_column": "sample_id",
    "price_column": "price",
    "image_column": "image",
    **{name: name for name in _SAME_NAME},
}


def catalog_option(command: Callable[..., R]) -> Callable[..., R]:
    """Add the catalog, as the argument CATALOG or the option --catalog."""

    @click.argument(
        "catalog_argument",
        metavar="[CATALOG]",
        required=False,
        type=click.Path(path_type=Path),
    )
    @click.option(
        "--catalog",
        "catalog_path",
        type=click.Path(path_type=Path),
        help="The same as CATALOG: a file of products, as CSV, tab-separated text, "
        "Parquet, Excel (.xlsx) or a feed in XML; also an export of Shopify, "
        "WooCommerce, Google Merchant Center, Amazon or Flipkart, as it is.",
    )
    @functools.wraps(command)
    def wrapped(
        *, catalog_argument: Path | None, catalog_path: Path | None, **others: Any
    ) -> R:
        if (catalog_argument is None) == (catalog_path is None):
            fault = "none was given" if catalog_path is None else "both were given"
            raise click.UsageError(
                f"Name the catalog once, as CATALOG or with --catalog; {fault}."
            )
        return command(catalog_path=catalog_argument or catalog_path, **others)

    return wrapped


def catalog_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the columns and the format of a catalog."""
    options = (
        click.option(
            "--text-column",
            "text_columns",
            multiple=True,
            default=_DEFAULT.text,
            show_default=True,
            help="Column of text; repeat it to join several, in the order given. "
            '"": a catalog without texts.',
        ),
        click.option(
            "--id-column",
            default=_DEFAULT.sample_id,
            show_default=True,
            help="Column of unique ids.",
        ),
        click.option(
            "--price-column",
            default=_DEFAULT.price,
            show_default=True,
            help="Column of prices.",
        ),
        click.option(
            "--image-column",
            default=_DEFAULT.image,
            show_default=True,
            help="Column of links or file names of the photos; if a cell has several, "
            "the first is used.",
        ),
        click.option(
            "--export",
            type=click.Choice(get_args(ExportName)),
            default=_DEFAULT.export,
            show_default=True,
            help="Shop software that wrote the file. auto: detected from the header. "
            "none: a plain table with a product in each row.",
        ),
        click.option(
            "--encoding",
            help="Encoding of a text file, such as windows-1252, latin-1 or utf-16.  "
            "[default: detected from the file]",
        ),
        click.option(
            "--delimiter",
            help="Character between cells, or its name: "
            f"{', '.join(DELIMITER_NAMES)}.  [default: detected from the header]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the table columns of a catalog."""
    options = (
        click.option(
            "--number-column",
            "numbers",
            multiple=True,
            help="Table column of numbers, such as a weight; repeat it for more.",
        ),
        click.option(
            "--category-column",
            "categories",
            multiple=True,
            help="Table column of categories, such as a brand; repeat it for more.",
        ),
        click.option(
            "--date-column",
            "dates",
            multiple=True,
            help="Table column of dates; repeat it for more.",
        ),
        click.option(
            "--table",
            type=click.Choice(get_args(TableChoice)),
            default=_DEFAULT.table,
            show_default=True,
            help="named: use only the columns of the three options above. auto: use "
            "every other column too, by the kind of its cells.",
        ),
        click.option(
            "--ignore-column",
            "ignored",
            multiple=True,
            help="Column that --table auto leaves out; repeat it for more.",
        ),
        click.option(
            "--allow-column",
            "allowed",
            multiple=True,
            help="Table column to use although it gives the price away; repeat it for "
            "more.",
        ),
        click.option(
            "--group-column",
            "groups",
            multiple=True,
            help="Column of groups, such as a seller or a product family: products of "
            "one group share a fold; repeat it for more. It is not used as a table "
            "column.",
        ),
        click.option(
            "--time-column",
            "time",
            help="Column of dates, so that `finetune` can hold out later products as a "
            "test. --table auto does not use it.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def take_columns(options: dict[str, Any]) -> CatalogColumns:
    """Take the options that describe a catalog out of the options of a command.

    Parameters
    ----------
    options : dict of str to object
        Values by name of the parameter; those of `catalog_options` and `table_options`
        are removed.

    Raises
    ------
    CatalogError
        If the encoding is unknown, or the delimiter is no single sign.
    """
    fields = {
        field: options.pop(option)
        for option, field in _FIELDS.items()
        if option in options
    }
    fields["text"] = tuple(filter(None, fields["text"]))
    if (sign := fields["delimiter"]) is not None:
        fields["delimiter"] = DELIMITER_NAMES.get(sign.lower(), sign)
    return CatalogColumns(**fields)


def columns_given(
    columns: CatalogColumns, *, run_columns: CatalogColumns
) -> CatalogColumns:
    """Return the columns that the command line names, else those of a run.

    The file may have another format than the run's catalog, so its encoding, delimiter
    and export come from the options or from the file.

    Parameters
    ----------
    columns : CatalogColumns
        Result of `take_columns`.
    run_columns : CatalogColumns
        Columns of the run's catalog.
    """
    context = click.get_current_context()
    changes = {
        field: getattr(columns, field)
        for option, field in _FIELDS.items()
        if context.get_parameter_source(option)
        is click.core.ParameterSource.COMMANDLINE
    }
    return dataclasses.replace(run_columns.for_another_file(), **changes)


def read_and_mention(path: Path, columns: CatalogColumns) -> Catalog:
    """Read a catalog; print notes about guesses and rows that were left out.

    A file that takes seconds to read is announced first.

    Raises
    ------
    CatalogError
        If the catalog cannot be used.
    """
    _require_no_text_options(path, columns)
    if path.is_file() and path.stat().st_size > _LARGE_BYTES:
        click.echo(f"Reading {path} …", err=True)
    catalog = read_catalog(path, columns=columns)
    for note in catalog.notes:
        click.echo(f"{path.name}: {note}", err=True)
    return catalog


def _require_no_text_options(path: Path, columns: CatalogColumns) -> None:
    """Refuse options of text files for a file in another format."""
    options = {"--encoding": columns.encoding, "--delimiter": columns.delimiter}
    if is_text_file(path):
        return
    if named := [f"{option} {value!r}" for option, value in options.items() if value]:
        raise CatalogError(
            f"{path}: {' and '.join(named)}: is for CSV and other text; a "
            f"{path.suffix} file needs no such option. Leave it out"
        )
