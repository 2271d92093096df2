"""What all commands share: error lines, logging, options of a catalog."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from embed.catalog import CatalogColumns
from embed.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
_DEFAULT = CatalogColumns()

run_option = click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/sample"),
    show_default=True,
    help="Run folder; each stage has a folder in it.",
)


class CommandError(click.ClickException):
    """One line on the terminal and exit code 2."""

    exit_code = 2


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show what the user can put right as one line, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _prepare_terminal()
        try:
            return command(*args, **kwargs)
        except InputError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise CommandError(f"{where}{error.strerror or error}") from error

    return wrapped


def catalog_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which column of a catalog is what."""
    options = (
        click.option(
            "--text-column",
            "text_columns",
            multiple=True,
            default=_DEFAULT.text,
            show_default=True,
            help="Column of text; repeat it to join several, in the order given.",
        ),
        click.option("--id-column", default=_DEFAULT.sample_id, show_default=True),
        click.option("--price-column", default=_DEFAULT.price, show_default=True),
        click.option(
            "--image-column",
            default=_DEFAULT.image,
            show_default=True,
            help="Column of links or file names; the photo is found by the last part.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def columns_from(
    *,
    text_columns: tuple[str, ...],
    id_column: str,
    price_column: str,
    image_column: str,
) -> CatalogColumns:
    """Return the columns that the options name."""
    return CatalogColumns(
        sample_id=id_column, text=text_columns, image=image_column, price=price_column
    )


def _prepare_terminal() -> None:
    # transformers reads these when it is imported, which is later than this.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # So does PyTorch. Its threads wait for one another by spinning, for milliseconds
    # unless told otherwise, and beside any other work that takes most of the time: 2
    # instead of 38 products a second were seen.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "huggingface_hub", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
