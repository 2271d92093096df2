"""`pricestack report`: a finished run as one HTML file."""

import webbrowser
from pathlib import Path

import click

from embed.records import require_embedded
from embed.terminal.options import (
    one_line_errors,
    require_output,
    require_packages,
    run_option,
)

_PACKAGES = {"jinja2": "jinja2", "matplotlib": "matplotlib"}


@click.command("report")
@run_option
@click.option(
    "--out",
    "out_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="HTML file to write.  [default: RUN/report.html]",
)
@click.option("--open", "open_it", is_flag=True, help="Show it in the browser.")
@one_line_errors
def report_command(run_dir: Path, out_path: Path | None, open_it: bool) -> None:
    """Write the results of a finished run as one HTML file.

    The file contains its charts, photos and style, so it needs no internet. It shows
    texts and photos of 40 products, so share it as you would share the catalog.

    \b
    Example:
      pricestack report --run runs/mine --open
    """
    path = out_path or run_dir / "report.html"
    require_packages("report", _PACKAGES)
    embed = require_embedded(run_dir)
    require_output(
        path,
        option="--out",
        run_dir=run_dir,
        inputs=(Path(embed.inputs.catalog_path),),
    )
    from stack.html_report.page import write_report  # late: it brings matplotlib

    n_bytes = write_report(run_dir, path)
    click.echo(f"{path}: {n_bytes / 1e6:.2f} MB.")
    if open_it:
        webbrowser.open(path.resolve().as_uri())
