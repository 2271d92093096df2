"""Add security headers to answers, count them, and log failures."""

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stack.service.metrics import Metrics

logger = logging.getLogger(__name__)

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_RAW_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in _HEADERS.items()
]


class Observed:
    """An application that counts each answer of another and adds security headers.

    Parameters
    ----------
    app : ASGI application
        Application that answers even if it fails; its exceptions are logged here.
    metrics : Metrics
    paths : collection of str
        Paths with counts of their own. All other paths, of which clients can invent any
        number, share one count.
    logs_requests : bool
        Log a line for each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        paths: Collection[str],
        *,
        logs_requests: bool = False,
    ) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)
        self._logs_requests = logs_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request through the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_RAW_HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, send_more)
        except Exception:  # the client has its answer, or is gone
            logger.exception("%s %s failed", scope["method"], self._path(scope))
        finally:
            path, seconds = self._path(scope), time.monotonic() - started
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            if self._logs_requests:
                logger.info("%s %s %d %.3f s", scope["method"], path, status, seconds)

    def _path(self, scope: Scope) -> str:
        return scope["path"] if scope["path"] in self._paths else "other"
