"""`pricestack review`: prices of a run's own catalog that may be wrong."""

import webbrowser
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embed.errors import ConfigError
from embed.records import require_embedded
from embed.terminal.options import (
    one_line_errors,
    require_output,
    require_packages,
    run_option,
)

if TYPE_CHECKING:
    from stack.review.review import Review


@click.command("review")
@run_option
@click.option(
    "--out",
    "out_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file to write: all suspects.  [default: RUN/review.csv]",
)
@click.option(
    "--page",
    "page_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="HTML file to write: the first suspects, to work through.  [default: "
    "RUN/review.html]",
)
@click.option(
    "--rows",
    "n_rows",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Products on the page.",
)
@click.option(
    "--level",
    type=click.Choice(["80", "90"]),
    default="90",
    show_default=True,
    help="A price is a suspect if it lies outside the interval of this level, in "
    "percent.",
)
@click.option(
    "--units-column",
    metavar="NAME",
    help="Column of units sold; the money at stake is the difference of the prices "
    "times the units. It is a table column of the run or a column of --catalog.",
)
@click.option(
    "--catalog",
    "catalog_path",
    type=click.Path(path_type=Path),
    help="File with the ids and the column of --units-column, if the run has no such "
    "column.",
)
@click.option("--open", "open_it", is_flag=True, help="Show the page in the browser.")
@one_line_errors
def review_command(
    run_dir: Path,
    out_path: Path | None,
    page_path: Path | None,
    n_rows: int,
    level: str,
    units_column: str | None,
    catalog_path: Path | None,
    open_it: bool,
) -> None:
    """Find the prices of a run's own catalog that may be wrong, each with a reason.

    A price is a suspect if it lies outside what the models of the other folds expect.
    Suspects are sorted by suspicion, then by money. The page shows texts and photos, so
    share it as you would share the catalog.

    \b
    Example:
      pricestack review --run runs/mine --open
      pricestack review --run runs/mine --units-column sold --catalog sales.csv
    """
    out_path = out_path or run_dir / "review.csv"
    page_path = page_path or run_dir / "review.html"
    _check_options(
        run_dir, out_path, page_path, units_column=units_column, catalog=catalog_path
    )
    from embed.store.durable import write_bytes
    from stack.review.page import render_page
    from stack.review.review import review_run
    from stack.review.table import review_csv
    from stack.review.units import read_units
    from stack.run import open_finished_run

    finished = open_finished_run(run_dir, verify=())
    units = None
    if units_column is not None:
        units = read_units(finished.run, units_column, path=catalog_path)
    review = review_run(finished, level=int(level), units=units)
    page = render_page(finished, review, n_rows=n_rows)
    write_bytes(out_path, review_csv(review))
    write_bytes(page_path, page)
    _tell(review, out_path, page_path)
    if open_it:
        webbrowser.open(page_path.resolve().as_uri())


def _check_options(
    run_dir: Path,
    out_path: Path,
    page_path: Path,
    *,
    units_column: str | None,
    catalog: Path | None,
) -> None:
    require_packages("review", {"jinja2": "jinja2"})
    if catalog is not None and units_column is None:
        raise ConfigError(
            f"--catalog {catalog}: is read for --units-column alone. Name the column "
            f"with it, or leave --catalog out."
        )
    inputs = (Path(require_embedded(run_dir).inputs.catalog_path), catalog)
    require_output(out_path, option="--out", run_dir=run_dir, inputs=inputs)
    require_output(
        page_path, option="--page", run_dir=run_dir, inputs=(*inputs, out_path)
    )


def _tell(review: "Review", out_path: Path, page_path: Path) -> None:
    from stack.review.reasons import LABELS

    n = len(review.suspects)
    if not n:
        click.echo(
            f"No price lies outside its {review.level} % interval, of "
            f"{review.n_reviewed} reviewed."
        )
    else:
        click.echo(
            f"{n} of {review.n_reviewed} prices lie outside their {review.level} % "
            f"interval."
        )
        for title, field in (("Suspicion", "suspicion"), ("Reasons", "kind")):
            counts = Counter(getattr(suspect, field) for suspect in review.suspects)
            told = [
                f"{LABELS.get(name, name)} {count}"
                for name, count in counts.most_common()
            ]
            click.echo(f"{title}: {', '.join(told)}.")
    if review.with_units:
        unknown = sum(suspect.units is None for suspect in review.suspects)
        click.echo(f"Units sold are unknown for {unknown} of the {n}.")
    click.echo(f"Written to {out_path} and {page_path}.")
