"""`pricestack runs` and `pricestack compare`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from embed.terminal.options import one_line_errors
from stack.config import StackConfig
from stack.judge.compare import Predictor, compare_runs
from stack.judge.run_list import format_runs, list_runs
from stack.tell.comparison import format_comparison

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of a table."
)
_run_folder = click.Path(path_type=Path, file_okay=False)


@click.command("runs")
@click.argument("folder", type=_run_folder, default=Path("runs"))
@_json_option
@one_line_errors
def runs_command(folder: Path, as_json: bool) -> None:
    """List the runs below FOLDER, by default runs, best first, with their problems.

    \b
    Example:
      pricestack runs
    """
    runs = list_runs(folder)
    if as_json:
        click.echo(json.dumps([asdict(run) for run in runs], indent=2))
        return
    click.echo(format_runs(runs), nl=False)


@click.command("compare")
@click.argument("run_a", metavar="A", type=_run_folder)
@click.argument("run_b", metavar="B", type=_run_folder)
@click.option(
    "--predictor",
    type=click.Choice(get_args(Predictor)),
    default="chosen",
    show_default=True,
    help="Predictor to compare; chosen: the one that each run uses.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=StackConfig.seed,
    show_default=True,
    help="Seed of the bootstrap.",
)
@_json_option
@one_line_errors
def compare_command(
    run_a: Path, run_b: Path, predictor: Predictor, seed: int, as_json: bool
) -> None:
    """Compare two runs, A and B, on the products that both have priced out of fold.

    \b
    Example:
      pricestack compare runs/mine runs/other
    """
    comparison = compare_runs(run_a, run_b, predictor=predictor, seed=seed)
    if as_json:
        click.echo(json.dumps(comparison, indent=2))
        return
    click.echo(format_comparison(comparison), nl=False)
