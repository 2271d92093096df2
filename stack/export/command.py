"""The `pricestack export` command."""

from pathlib import Path

import click

from embed.terminal.options import one_line_errors, require_packages, run_option
from stack.export.target import PACKAGES


@click.command("export")
@run_option
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write: new, empty, or an earlier export without other files, which "
    "is replaced.",
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Price some products with the run and with the export, and stop if the prices "
    "differ.",
)
@one_line_errors
def export_command(run_dir: Path, out_dir: Path, check: bool) -> None:
    """Write a finished run as ONNX models and a script that needs no PyTorch.

    \b
    Example:
      pricestack export --run runs/mine --out model
      python model/predict.py --catalog new.csv --images photos --out prices.csv
    """
    require_packages("export", {name: name for name in PACKAGES})
    from stack.export.export import export_run  # late: it brings torch

    greatest = export_run(run_dir, out_dir, check=check)
    if greatest is not None:
        click.echo(
            f"Checked: log prices differ from the run's by at most {greatest:.1g}."
        )
    click.echo(f"Model written to {out_dir}.")
