"""The `pricestack audit` command."""

from pathlib import Path

import click

from embed.terminal.options import one_line_errors, run_option, threads_option


@click.command("audit")
@run_option
@click.option(
    "--products",
    "n_products",
    type=click.IntRange(min=2),
    default=30,
    show_default=True,
    help="Number of products that each fold's network prices again.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the drawn products and the shuffled prices.",
)
@threads_option
@one_line_errors
def audit_command(run_dir: Path, n_products: int, seed: int, n_threads: int) -> None:
    """Check a finished run for leaks: prices that enter their own prediction.

    The command prints one line for each check. If a check fails, the exit code is 1.

    \b
    Example:
      pricestack audit --run runs/mine
    """
    from stack.audit.checks import audit_run

    failed = False
    for check in audit_run(
        run_dir, n_products=n_products, n_threads=n_threads, seed=seed
    ):
        result = {True: "pass", False: "FAIL", None: "not checked"}[check.passed]
        click.echo(f"{result}  {check.name}: {check.detail}")
        failed |= check.passed is False
    if failed:
        raise SystemExit(1)
