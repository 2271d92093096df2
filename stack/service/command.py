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
    help="Address to listen on. On one that other machines reach, such as 0.0.0.0, "
    "anyone can use the service unless you give --api-key-file.",
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
@click.option(
    "--root-path",
    default="",
    help="Prefix of the paths behind a proxy, such as /prices.",
)
@click.option(
    "--api-key-file",
    "key_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a key that requests must send: Authorization: Bearer KEY.",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this origin use the service (CORS), such as "
    "https://shop.example; repeat it for more.",
)
@click.option("--access-log", is_flag=True, help="Log a line for each request.")
@only_fold_option
@threads_option
@one_line_errors
def serve_command(
    run_dir: Path,
    host: str,
    port: int,
    currency: str | None,
    root_path: str,
    key_path: Path | None,
    origins: tuple[str, ...],
    access_log: bool,
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
    # Late, because both import FastAPI, and the second torch.
    from stack.service.access import Access, read_key
    from stack.service.server import serve

    serve(
        run_dir,
        access=Access(
            host=host,
            port=port,
            root_path=root_path,
            key=read_key(key_path) if key_path else None,
            origins=origins,
            logs_requests=access_log,
        ),
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
