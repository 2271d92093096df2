"""Shared parts of all commands: error lines, logging, options of a catalog."""

import dataclasses
import errno
import functools
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar, get_args

import click

from embed.catalog.columns import DELIMITER_NAMES, ExportName, TableChoice
from embed.catalog.reader import (
    Catalog,
    CatalogColumns,
    CatalogError,
    is_text_file,
    read_catalog,
)
from embed.errors import ConfigError, InputError
from embed.terminal.progress import BesideBars

P = ParamSpec("P")
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

threads_option = click.option(
    "--threads",
    "n_threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Threads for arithmetic.",
)


def fold_from_one(
    context: click.Context, parameter: click.Parameter, fold: int | None
) -> int | None:
    """Turn the number of a fold from the user's, from 1, into that of files, from 0."""
    if fold is not None and fold < 1:
        raise click.BadParameter(
            f"folds are counted from 1, got {fold}. Name the first as 1",
            ctx=context,
            param=parameter,
        )
    return None if fold is None else fold - 1


only_fold_option = click.option(
    "--only-fold",
    type=int,
    callback=fold_from_one,
    help="Price only with the models of this fold, counted from 1; about twice as "
    "fast. `evaluate` scores single folds in its table.",
)

run_option = click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/sample"),
    show_default=True,
    help="Run folder; each stage has a folder in it.",
)


_REMEDIES = {
    errno.ENOSPC: "Free some space and give the same command again; it goes on where "
    "it was.",
    errno.EDQUOT: "Free some of your quota and give the same command again; it goes on "
    "where it was.",
    errno.EROFS: "Make the folder writable, or name another one.",
    errno.EACCES: "Make it accessible to you, or name another one.",
}


class CommandError(click.ClickException):
    """One line on the terminal and exit code 2."""

    exit_code = 2


class Stopped(click.ClickException):
    """Stop by Ctrl-C: one line, and the exit code that shells expect."""

    exit_code = 128 + signal.SIGINT

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line without "Error:", because a stop is no error."""
        click.echo(f"\n{self.message}", file=file, err=True)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show an error that the user can fix as one line, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _prepare_terminal()
        try:
            return command(*args, **kwargs)
        except InputError as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:  # with `| head`, click exits silently
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            reason = f"{where}{error.strerror or error}"
            remedy = _REMEDIES.get(error.errno or 0)
            raise CommandError(f"{reason}. {remedy}" if remedy else reason) from error
        except KeyboardInterrupt:
            raise Stopped(
                "Stopped. Give the same command again to go on; finished work is kept."
            ) from None

    return wrapped


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
            '"": products without texts.',
        ),
        click.option("--id-column", default=_DEFAULT.sample_id, show_default=True),
        click.option("--price-column", default=_DEFAULT.price, show_default=True),
        click.option(
            "--image-column",
            default=_DEFAULT.image,
            show_default=True,
            help="Column of links or file names of the photos; the first of several "
            "in a cell is used.",
        ),
        click.option(
            "--export",
            type=click.Choice(get_args(ExportName)),
            default=_DEFAULT.export,
            show_default=True,
            help="Shop software that wrote the file; auto: detected from the header. "
            "none: each row is a product, in the columns named here.",
        ),
        click.option(
            "--encoding",
            help="Encoding of a text file, such as windows-1252, latin-1 or utf-16.  "
            "[default: detected from the file]",
        ),
        click.option(
            "--delimiter",
            help="Separator of the cells: a sign, or "
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
            help="auto: use every other column too, by the kind of its cells.",
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
            "one group share a fold; repeat it for more. It is no table column.",
        ),
        click.option(
            "--time-column",
            "time",
            help="Column of dates, so that `finetune` can hold out later products as a "
            "test. With --table auto it is no table column.",
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


def require_output(
    path: Path, *, option: str, run_dir: Path, inputs: Sequence[Path | None] = ()
) -> None:
    """Refuse an unusable output file before the work begins.

    Parameters
    ----------
    path : Path
        Output file of a command.
    option : str
        Option that names the file, for the message.
    run_dir : Path
        Run whose stage files must not be overwritten.
    inputs : sequence of Path or None
        Files that the command reads.

    Raises
    ------
    ConfigError
        If the file's folder is missing or read-only, or the file belongs to a stage or
        to `inputs`.
    """
    where = f"{option} {path}"
    if not path.parent.is_dir():
        raise ConfigError(
            f"{where}: the folder {path.parent} is not there. Make it, or choose "
            f"another."
        )
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(
            f"{where}: the folder {path.parent} cannot be written to. Choose another, "
            f"or change its permissions."
        )
    output = path.resolve()
    stages = [(run_dir / stage).resolve() for stage in ("embed", "finetune", "stack")]
    if any(output.is_relative_to(stage) for stage in stages):
        raise ConfigError(
            f"{where}: must not lie among the files of the run's stages. Name another "
            f"file."
        )
    if any(source is not None and source.resolve() == output for source in inputs):
        raise ConfigError(
            f"{where}: is a file that this command reads, and would be lost. Name "
            f"another file."
        )


def require_packages(command: str, packages: Mapping[str, str]) -> None:
    """Refuse a command if packages of the extra of its name are missing.

    Parameters
    ----------
    command : str
    packages : mapping of str to str
        Module of each package, and its name for `pip`.

    Raises
    ------
    ConfigError
        If a package is missing; the message tells how to install it.
    """
    missing = [
        name
        for module, name in packages.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise ConfigError(
            f"pricestack {command}: needs {' and '.join(missing)}, not installed. Run "
            f"`pip install {' '.join(missing)}`, or install pricestack with its extra "
            f"`{command}`."
        )


def _prepare_terminal() -> None:
    # transformers reads these when it is imported later.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # PyTorch's threads wait for each other by spinning, by default for milliseconds.
    # Beside other work that takes most of the time: 2 instead of 38 products a second
    # were measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[BesideBars(sys.stderr)]
    )
    for chatty in ("httpx", "httpx2", "huggingface_hub", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
