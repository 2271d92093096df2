"""Connect links from unknown sources only to addresses that were checked as public.

The host name is resolved once per connection, and the connection goes to the address
that was checked, so DNS rebinding (another answer at the second lookup) has no effect.
The Host header and the certificate are those of the name. `ipaddress` recognises
addresses that are not public by the IANA special-purpose registries (RFC 6890).
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Iterable

import httpcore2
import httpx2

from embed.download.config import DownloadConfig
from embed.download.failure import PhotoFailure, shown

# Copied from httpcore2, which does not export this type.
_SocketOption = (
    tuple[int, int, int]
    | tuple[int, int, bytes | bytearray]
    | tuple[int, int, None, int]
)
_KEEP_IDLE = 5.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Tell whether an address belongs to the public internet.

    Parameters
    ----------
    address : str
        IPv4 or IPv6 address from a resolver.

    Returns
    -------
    bool
        False for loopback, private, link-local, multicast, reserved and unspecified
        addresses, and for IPv6 addresses that embed such an IPv4 address.
    """
    parsed = _innermost(ipaddress.ip_address(address))
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.is_site_local:
        return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


async def addresses_of(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Resolve a host once, and check every address.

    Parameters
    ----------
    host : str
        Name or address, in any form that a resolver accepts ("2130706433").
    port : int
        Port to connect to.
    allow_private : bool
        Whether to accept addresses that are not public.

    Returns
    -------
    list of str
        At least one address to connect to, best first.

    Raises
    ------
    PhotoFailure
        If the host has no address, or one of them is not public.
    """
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise PhotoFailure(
            f"host name not found: {shown(host)} ({error.strerror})",
            retry=error.errno == socket.EAI_AGAIN,
            unreached=True,
        ) from error
    except UnicodeError as error:  # a label of more than 63 characters
        raise PhotoFailure(f"host name not found: {shown(host)}") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise PhotoFailure(
                f"address is not public: {shown(host)} is {address}; --allow-private "
                f"allows it"
            )
    return addresses


def _innermost(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address embeds, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class CheckedBackend(httpcore2.AnyIOBackend):
    """Network backend that connects only to checked addresses."""

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
    """Transport that sends requests over connections of a `CheckedBackend`.

    It uses only public parts of both packages: a new version could silently drop a
    check that relies on a private attribute.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            # Only certificate roots (SSL_CERT_FILE) come from the environment. A proxy
            # would resolve the names itself and bypass the check.
            ssl_context=httpx2.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=config.concurrency,
            keepalive_expiry=_KEEP_IDLE,
            network_backend=CheckedBackend(allow_private=config.allow_private),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; errors come from httpcore2."""
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
        """Send a request; repeat it if the host had closed a reused connection.

        A closed connection is no failure of the photo (RFC 9112, 9.3.1). Each repeat
        uses up one reused connection, and a failure on a new connection is final.
        """
        while True:
            events: list[str] = []

            async def note(event: str, _: object, events: list[str] = events) -> None:
                events.append(event)

            request.extensions = {**request.extensions, "trace": note}
            try:
                return await self._pool.handle_async_request(request)
            except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
                if "connection.connect_tcp.started" in events:
                    raise

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """Body of a response in the form of httpx2."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._response.aclose()
