"""The `pricestack` and `evaluate` commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from embed.__main__ import embed_command
from embed.download.command import images_command
from embed.terminal.catalog_options import (
    catalog_option,
    catalog_options,
    columns_given,
    read_and_mention,
    take_columns,
)
from embed.terminal.options import (
    one_line_errors,
    only_fold_option,
    require_output,
    run_option,
    threads_option,
)
from finetune.__main__ import finetune_command
from stack.audit.command import audit_command
from stack.blocks.registry import BLOCKS, PRICE_BLOCKS
from stack.config import Objective, StackConfig
from stack.explain.command import explain_command
from stack.export.command import export_command
from stack.html_report.command import report_command
from stack.judge.commands import compare_command, runs_command
from stack.price.calibration import LEAST_LEVEL, MOST_LEVEL
from stack.review.command import review_command
from stack.service.command import serve_command

if TYPE_CHECKING:
    from stack.price.catalog import CatalogPrices


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pricestack")
def main() -> None:
    """Price products from catalog text and photo.

    \b
    The stages, in order, on your own data:
      pricestack images catalog.csv --out photos
      pricestack embed catalog.csv --images photos --run runs/mine
      pricestack finetune --run runs/mine
      pricestack stack --run runs/mine
      pricestack evaluate --run runs/mine --folds 5
      pricestack predict new.csv --run runs/mine --out prices.csv

    \b
    With a finished run:
      pricestack report --run runs/mine
      pricestack explain --run runs/mine --sample-id ID
      pricestack review --run runs/mine
      pricestack audit --run runs/mine
      pricestack serve --run runs/mine
    """


@click.command("stack")
@run_option
@click.option(
    "--blocks",
    default=",".join(StackConfig.blocks),
    show_default=True,
    help="Blocks of features for the trees, separated by commas. All blocks: "
    f"{', '.join(BLOCKS)}. The last {len(PRICE_BLOCKS)} are fitted on prices, out of "
    "fold.",
)
@click.option(
    "--threads",
    "n_threads",
    default=StackConfig.n_threads,
    show_default=True,
    help="Threads for boosters at the same time and for other arithmetic.",
)
@click.option(
    "--objective",
    type=click.Choice(get_args(Objective)),
    default=StackConfig.objective,
    show_default=True,
    help="Loss of the trees: absolute error of the log price, or SMAPE.",
)
@click.option(
    "--tune",
    "n_trials",
    type=click.IntRange(min=0),
    default=StackConfig.n_trials,
    show_default=True,
    metavar="N",
    help="Try N other settings for each fold's booster, judged on a part of its "
    "training rows.",
)
@click.option(
    "--seed",
    default=StackConfig.seed,
    show_default=True,
    help="Seed of the rows and columns of each tree, and of the bootstrap.",
)
@click.option(
    "--exact-up-to",
    default=StackConfig.exact_up_to,
    show_default=True,
    metavar="N",
    help="Priced products up to which similar products are searched exactly and the "
    "kernel ridge compares all with all.",
)
@click.option(
    "--seeds",
    "n_seeds",
    default=StackConfig.n_seeds,
    show_default=True,
    help="Number of boosters of each fold, one per seed; their mean is used.",
)
@click.option(
    "--ablation/--no-ablation",
    default=StackConfig.ablation,
    show_default=True,
    help="Fit the trees again without each block, to report what the block adds.",
)
@one_line_errors
def stack_command(run_dir: Path, blocks: str, **settings: Any) -> None:
    """Fit boosters on the network's residual and judge them, in RUN/stack.

    The residual is the error that remains in the log price. With the block start, it is
    the error of a blend: network and kernel ridge, a regression on similar products.

    \b
    Example:
      pricestack stack --run runs/mine
    """
    names = tuple(name.strip() for name in blocks.split(","))
    config = StackConfig(blocks=names, **settings)
    from stack.fit import fit_stack  # late: it brings LightGBM and torch
    from stack.trees.trials import require_optuna

    if config.n_trials:
        require_optuna()

    report = fit_stack(run_dir, config=config)
    click.echo(report["verdict"]["sentence"])


@click.command("evaluate")
@run_option
@click.option(
    "--folds",
    "n_folds",
    type=int,
    help="Expected number of folds; if the run has another number, the command fails.",
)
@one_line_errors
def evaluate_main(run_dir: Path, n_folds: int | None) -> None:
    """Compare all predictors of a run out of fold, and show which one it uses.

    \b
    Example:
      evaluate --run runs/mine --folds 5
    """
    from stack.judge.run_report import evaluate_run
    from stack.tell.report import format_report

    click.echo(format_report(evaluate_run(run_dir, n_folds=n_folds)))


@click.command("predict")
@run_option
@catalog_option
@click.option(
    "--images",
    "images_dir",
    type=click.Path(path_type=Path),
    help="Folder of the photos.",
)
@click.option(
    "--out",
    "out_path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="CSV file to write: sample_id, price.",
)
@click.option(
    "--intervals",
    "level",
    type=click.IntRange(LEAST_LEVEL, MOST_LEVEL),
    help="Add the columns price_low and price_high: an interval for each product, made "
    "to contain the true price for this percentage of products.",
)
@click.option(
    "--confidence",
    is_flag=True,
    help="Add the columns within_10 and within_20, the probabilities that the price is "
    "within 10 % and 20 % of the true one, and unlike: 1 for a product that is unlike "
    "all trained ones.",
)
@click.option(
    "--auto-at",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="Add the column auto: 1 for the prices that may be used unseen, chosen so "
    "that this share of them, such as 0.8, is within 20 % of the true price.",
)
@click.option(
    "--flags",
    is_flag=True,
    help="Add the column flags: reasons to doubt a price, such as networks that "
    "disagree, a price above all training prices, no usable text.",
)
@click.option(
    "--only-new",
    is_flag=True,
    help="Price only new and changed products, and keep the other prices of the "
    "earlier file. A record beside the file shows what has changed.",
)
@only_fold_option
@catalog_options
@threads_option
@one_line_errors
def predict_command(
    run_dir: Path,
    catalog_path: Path,
    images_dir: Path | None,
    out_path: Path,
    only_new: bool,
    **options: Any,
) -> None:
    """Price new products with a finished run.

    The columns have the same names as in the run's catalog, unless options name others.

    \b
    Example:
      pricestack predict new.csv --run runs/mine --images photos \\
        --out prices.csv
    """
    from embed.records import require_embedded

    require_output(out_path, option="--out", run_dir=run_dir, inputs=(catalog_path,))
    run_columns = require_embedded(run_dir).inputs.columns
    columns = columns_given(take_columns(options), run_columns=run_columns)
    catalog = read_and_mention(catalog_path, columns)
    click.echo(f"{catalog.n_products} products. Loading the run …", err=True)
    from stack.price.catalog import predict_prices, write_prices
    from stack.price.only_new import PriceOptions, predict_new

    wanted = PriceOptions(**options)
    if only_new:
        new_prices = predict_new(
            out_path, run_dir, catalog, images_dir=images_dir, options=wanted
        )
        n_new = 0 if new_prices is None else len(new_prices.price)
        click.echo(
            f"{catalog.n_products} prices written to {out_path}; {n_new} of them are "
            f"new."
        )
        if new_prices is not None:
            _mention_doubts(new_prices, flags=wanted.flags)
        return
    prices = predict_prices(
        run_dir,
        catalog,
        images_dir=images_dir,
        level=wanted.level or 90,
        n_threads=wanted.n_threads,
        only_fold=wanted.only_fold,
        auto_at=wanted.auto_at,
    )
    write_prices(
        out_path,
        catalog,
        prices,
        intervals=wanted.level is not None,
        confidence=wanted.confidence,
        flags=wanted.flags,
    )
    click.echo(f"{catalog.n_products} prices written to {out_path}.")
    _mention_doubts(prices, flags=wanted.flags)


def _mention_doubts(prices: "CatalogPrices", *, flags: bool) -> None:
    """Count the prices with placeholders, odd cells or doubts, and the sure ones."""
    from stack.price.flags import NO_PHOTO, NO_TEXT

    n_texts, n_photos = prices.n_lacking(NO_TEXT), prices.n_lacking(NO_PHOTO)
    if n_texts or n_photos:
        click.echo(
            f"Placeholders: {n_texts} products without usable text, {n_photos} without "
            f"a usable photo."
        )
    if prices.n_odd_cells:
        where = "see the column flags" if flags else "--flags lists them"
        click.echo(
            f"Table: {prices.n_odd_cells} products with a value that is unreadable, or "
            f"new or rare in the run; {where}."
        )
    if prices.lateness and (dates := prices.lateness.describe()):
        where = "" if not prices.lateness.is_late.any() else "; --flags marks them"
        click.echo(f"{dates}{'' if flags else where}.")
    if prices.n_doubtful:
        where = "see the column flags" if flags else "give --flags to see which and why"
        click.echo(
            f"Doubtful: {prices.n_doubtful} of {len(prices.price)} prices; {where}."
        )
    if (automatic := prices.automatic) is not None:
        click.echo(
            f"Automatic: {prices.auto.sum()} of {len(prices.price)} prices are marked. "
            f"Out of fold, {100 * automatic.rate:.1f} % of such prices are within 20 % "
            f"of the true one ({automatic.n} products of the run, "
            f"{100 * automatic.share:.0f} %)."
        )


@click.command("sample")
@click.option(
    "--products",
    "n_products",
    default=600,
    show_default=True,
    help="Number of products.",
)
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write catalog.csv, law.csv and images/ to.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the products; the same seed gives the same files.",
)
@one_line_errors
def sample_command(n_products: int, out_dir: Path, seed: int) -> None:
    """Generate a sample catalog whose prices follow a known formula plus noise.

    \b
    Example:
      pricestack sample --products 600 --out sample
    """
    from embed.sample.law import write_sample

    path = write_sample(out_dir, n_products=n_products, seed=seed)
    click.echo(f"{n_products} products drawn: {path}")


for command in (
    images_command,
    embed_command,
    finetune_command,
    stack_command,
    evaluate_main,
    runs_command,
    compare_command,
    predict_command,
    report_command,
    explain_command,
    review_command,
    audit_command,
    export_command,
    serve_command,
    sample_command,
):
    main.add_command(command)
