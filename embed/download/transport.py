"""Connections for strangers' links: to addresses that were checked, and to no other.

The name is resolved once per connection and the connection goes to the very address
that was checked, so a resolver that answers differently the next time (DNS rebinding)
gains nothing. Host header and certificate are still those of the name.
"""

import time
from collections.abc import AsyncIterator, Iterable

import httpcore2
import httpx2

from embed.download.addresses import addresses_of
from embed.download.config import DownloadConfig

# As httpcore2 declares it; it exports no name for it.
_SocketOption = (
    tuple[int, int, int]
    | tuple[int, int, bytes | bytearray]
    | tuple[int, int, None, int]
)
_KEEP_IDLE = 5.0


class CheckedBackend(httpcore2.AnyIOBackend):
    """Opens connections to checked addresses."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check, and connect to the first address that answers."""
        addresses = await addresses_of(host, port, allow_private=self._allow_private)
        stop = None if timeout is None else time.monotonic() + timeout
        for address in addresses[:-1]:
            left = None if stop is None else max(0.0, stop - time.monotonic()) / 2
            try:
                return await super().connect_tcp(
                    address, port, left, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        left = None if stop is None else max(0.0, stop - time.monotonic())
        return await super().connect_tcp(
            addresses[-1], port, left, local_address, socket_options
        )


class PhotoTransport(httpx2.AsyncBaseTransport):
    """Carries requests over connections of a `CheckedBackend`.

    Built from public parts of both packages: were a check hooked into a private
    attribute, a new version could drop it without a word.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            # From the environment only certificate roots (SSL_CERT_FILE) are taken. A
            # proxy would resolve the names itself, past the check.
            ssl_context=httpx2.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=config.concurrency,
            keepalive_expiry=_KEEP_IDLE,
            network_backend=CheckedBackend(allow_private=config.allow_private),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; errors are those of httpcore2."""
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        response = await self._send(
            httpcore2.Request(
                request.method,
                httpcore2.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def _send(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send once more what went to a kept connection that the host had closed.

        The break says nothing of the photo asked for, so it is no failure of its own
        (RFC 9112, 9.3.1). Each turn uses up a kept connection; a new one ends them.
        """
        while True:
            seen: list[str] = []

            async def note(event: str, _: object, seen: list[str] = seen) -> None:
                seen.append(event)

            request.extensions = {**request.extensions, "trace": note}
            try:
                return await self._pool.handle_async_request(request)
            except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
                if "connection.connect_tcp.started" in seen:
                    raise

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """The body of a response, as httpx2 wants it."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._response.aclose()
