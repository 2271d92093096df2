"""Run the service on a port until a signal stops it."""

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute

from embed.errors import ConfigError
from stack.service.access import Access
from stack.service.app import create_app
from stack.service.metrics import Metrics
from stack.service.observe import Observed
from stack.service.pricing import Pricer
from stack.service.service import PriceSource, Service

STOP_SECONDS = 10
"""Seconds for open requests when a signal comes."""


def serve(
    run_dir: Path,
    *,
    access: Access,
    currency: str | None = None,
    n_threads: int = 2,
    only_fold: int | None = None,
    say: Callable[[str], None],
) -> None:
    """Serve prices over HTTP until SIGTERM or SIGINT.

    Parameters
    ----------
    run_dir : Path
    access : Access
        Address, and who may use the service.
    currency : str, optional
        Currency code for prices on the page.
    n_threads : int
        Threads for arithmetic.
    only_fold : int, optional
        Price with the models of this fold alone.
    say : callable
        Function that prints a line for the user.

    Raises
    ------
    ConfigError
        If the address cannot be listened on, or the run has no such fold.
    CacheError, WeightsError
        If the run is incomplete.
    """
    listening = listen(access.host, access.port)
    url = _url(listening)
    metrics = Metrics()
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    fold = "" if only_fold is None else f", fold {only_fold + 1} alone"

    def ready(source: PriceSource) -> None:
        say(f"ready at {url} (run {source.run_key[:12]}, {source.chosen}{fold})")

    service = Service(
        lambda: Pricer(run_dir, n_threads=n_threads, only_fold=only_fold),
        metrics,
        on_ready=ready,
        on_failed=failed,
    )
    app = create_app(service, currency=currency)
    server = _server(app, service.metrics, access, is_local=_is_local(listening))
    say(f"loading {run_dir}; {url}/health shows when it is ready")
    _run(server, listening)
    if failures:
        raise failures[0]
    say(f"stopped; {service.n_priced} products were priced")


def _server(
    app: FastAPI, metrics: Metrics, access: Access, *, is_local: bool
) -> uvicorn.Server:
    paths = [route.path for route in app.routes if isinstance(route, APIRoute)]
    config = uvicorn.Config(
        access.below_prefix(
            Observed(
                access.around(app, is_local=is_local),
                metrics,
                [access.root_path + path for path in paths],
                logs_requests=access.logs_requests,
            )
        ),
        log_config=None,  # the commands set it up
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that a second Ctrl-C does not interrupt: it soon ends anyway."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.force_exit = False


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Run the server; swallow the signal that stopped it, so that this returns."""
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Open a port.

    Raises
    ------
    ConfigError
        If the port is taken, or the address is not of this machine.
    """
    if not host:
        raise ConfigError(
            "--host: must be an address of this machine, found ''. Give 127.0.0.1, or "
            "0.0.0.0 for others to reach it."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (
        OSError,
        UnicodeError,
    ) as error:  # UnicodeError for an impossible name such as `a..b`
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(
            f"--host {host} --port {port}: must be a free port of this machine, "
            f"found: {reason}. Stop what listens there, or choose another."
        ) from error


def _is_local(listening: socket.socket) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
