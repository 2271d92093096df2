"""`pricestack serve`: prices over HTTP, and a page."""

from pathlib import Path

import click

from embed.errors import ConfigError
from embed.terminal.options import (
    one_line_errors,
    only_fold_option,
    require_packages,
    run_option,
    threads_option,
)
from stack.run import open_finished_run

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


@click.command("serve")
@run_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. There is no log-in: on an address that other machines "
    "reach, such as 0.0.0.0, anyone can use the service.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0: any free one.",
)
@click.option(
    "--currency",
    help="Code of the catalog's currency, such as INR, for prices on the page.",
)
@only_fold_option
@threads_option
@one_line_errors
def serve_command(
    run_dir: Path,
    host: str,
    port: int,
    currency: str | None,
    only_fold: int | None,
    n_threads: int,
) -> None:
    """Predict prices over HTTP, and on a page in the browser.

    The command prints a line when the service is ready. Ctrl-C or SIGTERM stops it
    after the open requests are answered. /docs describes the endpoints, and /metrics
    has counts for Prometheus.

    \b
    Example:
      pricestack serve --run runs/mine --port 8080
      curl -F text='Green tea, 20 bags' -F photo=@tea.jpg localhost:8080/price
    """
    require_packages("serve", _PACKAGES)
    _check_currency(currency)
    open_finished_run(run_dir, verify=())  # before the port is opened
    from stack.service.server import serve  # late: it brings torch and FastAPI

    serve(
        run_dir,
        host=host,
        port=port,
        currency=currency,
        n_threads=n_threads,
        only_fold=only_fold,
        say=click.echo,
    )


def _check_currency(currency: str | None) -> None:
    if currency is None:
        return
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise ConfigError(
            f"--currency: must be a code of three capital letters, found "
            f"{currency!r}. Give for example USD or INR, or leave it out."
        )
