"""Refuse requests that a browser sends to this machine under another name."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stack.service.errors import foreign_host

_LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


class LocalHosts:
    """An application that answers only to names of this machine.

    A page of another host can point its own name to 127.0.0.1 (DNS rebinding), and a
    browser would then let it read the answers. The header Host still has that name.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 400."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not _LOCAL.fullmatch(host):
                await foreign_host(host).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)
