"""Who may use the service: names of this machine, a key, pages of other origins."""

import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from embed.errors import ConfigError
from stack.service.errors import foreign_host, no_key

_LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")
_WITH_KEY = frozenset({"/price", "/prices", "/metrics", "/health"})
_SHORTEST_KEY = 16


@dataclass(frozen=True, kw_only=True)
class Access:
    """How the service is reached, and by whom.

    Raises
    ------
    ConfigError
        If the prefix or an origin is not of the form that the message gives.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 8080
    """Port; 0 for any free one."""

    root_path: str = ""
    """Prefix of the paths behind a proxy, such as "/prices"; "" for none."""

    key: str | None = None
    """Key that requests must send; None asks for none."""

    origins: tuple[str, ...] = ()
    """Origins whose pages may use the service, such as "https://shop.example"."""

    logs_requests: bool = False
    """Whether each request is logged: method, path, status and seconds."""

    def __post_init__(self) -> None:
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise ConfigError(
                f"--root-path: must be a path without a slash at its end, found "
                f"{self.root_path!r}. Give for example /prices, or leave it out."
            )
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"--allow-origin: must be a scheme and a host, found {origin!r}. "
                    f"Give for example https://shop.example, without a path."
                )

    def below_prefix(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose paths begin with the prefix.

        A proxy may send the prefix or cut it off; `app` always gets it, as ASGI asks.
        """
        root = self.root_path

        async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
            if root and scope["type"] == "http":
                path = scope["path"]
                has_prefix = path == root or path.startswith(f"{root}/")
                path = path if has_prefix else root + path
                scope = {**scope, "root_path": root, "path": path}
            await app(scope, receive, send)

        return prefixed

    def around(self, app: ASGIApp, *, is_local: bool) -> ASGIApp:
        """Return an application that answers only those who may ask.

        Parameters
        ----------
        app : ASGI application
        is_local : bool
            Whether only this machine reaches the service.
        """
        if self.key is not None:
            app = _KeyRequired(app, self.key, root_path=self.root_path)
        if self.origins:
            app = CORSMiddleware(
                app,
                allow_origins=self.origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type"],
            )
        return LocalHosts(app) if is_local else app


def read_key(path: Path) -> str:
    """Read the key that a file contains.

    Raises
    ------
    ConfigError
        If it is shorter than 16 characters, or has others than printable ASCII.
    """
    key = path.read_text("utf-8", errors="replace").strip()
    if len(key) < _SHORTEST_KEY or not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(
            f"--api-key-file {path}: must contain one line of at least "
            f"{_SHORTEST_KEY} ASCII characters without blanks, found {len(key)}. Make "
            f"one by `openssl rand -hex 32 > {path.name}`."
        )
    return key


class _KeyRequired:
    """An application whose prices and counts need a key.

    The pages and the description of the endpoints are open: they hold nothing of the
    run, and the page asks for the key.
    """

    def __init__(self, app: ASGIApp, key: str, *, root_path: str) -> None:
        self._app, self._root_path = app, root_path
        self._sent = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 401."""
        if scope["type"] == "http":
            path = scope["path"].removeprefix(self._root_path)
            sent = Headers(scope=scope).get("authorization", "").encode()
            # Takes the same time wherever the first difference is.
            if path in _WITH_KEY and not hmac.compare_digest(sent, self._sent):
                await no_key().response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
