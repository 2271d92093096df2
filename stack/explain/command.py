"""The `pricestack explain` command."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embed.errors import ConfigError, InputError
from embed.table.values import write_cells
from embed.terminal.options import (
    one_line_errors,
    require_output,
    run_option,
    threads_option,
)

if TYPE_CHECKING:
    from embed.table.encode import TableColumn
    from stack.explain.explanation import Explanation
    from stack.explain.product import RunProduct


@click.command("explain")
@run_option
@click.option("--sample-id", required=True, help="Id of a product of the run.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of text.")
@click.option(
    "--image-map",
    "map_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG file to write: the photo, and how the price changes without each part.",
)
@click.option(
    "--grid",
    "image_grid",
    default=7,
    show_default=True,
    help="Number of parts along each side of the photo; 0 leaves them out, which is "
    "faster.",
)
@click.option(
    "--words",
    "n_words",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Largest number of words and phrases to show.",
)
@click.option(
    "--similar",
    "n_similar",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Largest number of similar products to show.",
)
@click.option(
    "--table",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    help="Price the product with this value of a table column instead of its own; "
    "repeat it for more columns. A blank value means unknown.",
)
@threads_option
@one_line_errors
def explain_command(
    run_dir: Path,
    sample_id: str,
    as_json: bool,
    map_path: Path | None,
    image_grid: int,
    n_words: int,
    n_similar: int,
    values: tuple[str, ...],
    n_threads: int,
) -> None:
    """Explain why a product of a run is priced as it is.

    The output lists the parts of the price, the change of the price without each word,
    size, table column or part of the photo, and the prices of similar products. Such a
    change is not a causal effect: in another text, the word may change nothing.

    \b
    Example:
      pricestack explain --run runs/mine --sample-id 12345 --image-map map.png
    """
    _check_options(map_path, image_grid, run_dir)
    started = time.monotonic()
    from stack.explain.explanation import explain_product
    from stack.explain.product import (
        find_product,
        folds_of,
        read_product,
        require_photo,
    )
    from stack.explain.text_report import format_explanation
    from stack.explain.variants import check_grid
    from stack.price.predictor import Predictor

    check_grid(image_grid)
    run, row = find_product(run_dir, sample_id)
    cells = _read_values(values, run.embed.table)
    if map_path is not None:
        require_photo(run, row)
    predictor = Predictor(run_dir, n_threads=n_threads, folds=folds_of(run, row))
    product = read_product(predictor, row, cells=cells)
    explanation = explain_product(
        predictor,
        product.text,
        product.photo,
        cells=product.cells,
        n_words=n_words,
        image_grid=image_grid,
        n_similar=n_similar,
        exclude_group_of=row,
    )
    if as_json:
        click.echo(json.dumps(_record(product, explanation), indent=2))
    else:
        click.echo(format_explanation(product, explanation))
        click.echo(f"\nComputed in {time.monotonic() - started:.1f} s.")
    if map_path is not None:
        _write_map(map_path, product, explanation)
        click.echo(f"Map of the photo written to {map_path}.", err=as_json)


def _check_options(map_path: Path | None, image_grid: int, run_dir: Path) -> None:
    if map_path is None:
        return
    require_output(map_path, option="--image-map", run_dir=run_dir)
    if image_grid == 0:
        raise ConfigError(
            "--image-map needs --grid 1 or more, got --grid 0. Leave one of them out."
        )


def _read_values(
    values: Sequence[str], table: "Sequence[TableColumn]"
) -> dict[str, str]:
    """Return the cells that the option --table sets, by column."""
    pairs = [value.partition("=") for value in values]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise ConfigError(
            f"--table must be NAME=VALUE, such as --table brand=Acme, got {wrong[0]!r}"
        )
    try:
        return write_cells(table, {name: value for name, _, value in pairs})
    except InputError as error:
        raise ConfigError(f"--table: {error}") from None


def _write_map(path: Path, product: "RunProduct", explanation: "Explanation") -> None:
    from stack.explain.image_map import write_image_map

    assert explanation.image is not None  # by require_photo and _check_options
    assert explanation.image.grid is not None
    assert product.photo is not None
    write_image_map(path, product.photo, explanation.image.grid)


def _record(product: "RunProduct", explanation: "Explanation") -> dict[str, object]:
    facts = dataclasses.asdict(dataclasses.replace(product, photo=None))
    del facts["photo"]
    return {**facts, **explanation.as_dict()}
