"""Request one photo within limits, and follow redirects; every failure has a reason."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import metadata

import httpcore2
import httpx2

from embed.download.config import DownloadConfig
from embed.download.failure import PhotoFailure, shown
from embed.download.hosts import Host, Hosts
from embed.download.transport import PhotoTransport

_TRY_AGAIN = frozenset({408, 425, 429, *range(500, 600)})
# These decompress in small pieces, so `max_bytes` holds. No coding was requested.
_CODINGS = ("", "identity", "gzip", "x-gzip", "deflate")


@dataclass(frozen=True)
class Body:
    """Answer of a host to a request for a link.

    Attributes
    ----------
    content : bytes
        Complete and decompressed, at most `max_bytes`; perhaps not a photo.
    content_type : str
        Content type from the host, or "".
    """

    content: bytes
    content_type: str


def parse_link(link: str) -> httpx2.URL:
    """Parse a link to a URL that can be requested.

    Parameters
    ----------
    link : str
        Link in the catalog; spaces and other letters are escaped as browsers do.

    Returns
    -------
    httpx2.URL
        http or https URL with a host, without user name and password.

    Raises
    ------
    PhotoFailure
        If the link has no scheme of http or https, no host, or is malformed.
    """
    try:
        url = httpx2.URL(link)
    except (httpx2.InvalidURL, ValueError) as error:
        raise PhotoFailure(f"not a usable link: {shown(error)}") from error
    return _check(url, reason="not an http or https link")


class PhotoClient:
    """HTTP client for photos; `aclose` ends it.

    The client reads only certificate roots from the environment, sends no credentials
    and stores no cookies.

    Parameters
    ----------
    config : DownloadConfig
        Limits and timeouts.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._config = config
        self.hosts = Hosts(config)
        self._client = httpx2.AsyncClient(
            transport=PhotoTransport(config),
            headers={
                "User-Agent": f"pricestack/{_version()} (product photos)",
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx2.Timeout(
                config.read_timeout, connect=config.connect_timeout, pool=None
            ),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def fetch(self, url: httpx2.URL) -> Body:
        """Request a photo once.

        Parameters
        ----------
        url : httpx2.URL
            URL from `parse_link`.

        Returns
        -------
        Body
            Answer of the last redirect.

        Raises
        ------
        PhotoFailure
            With the reason, and whether another request may help.
        """
        seconds_left = self._config.deadline
        for _ in range(self._config.max_redirects + 1):
            async with self.hosts.turn(url.host) as host:
                start = time.monotonic()
                answer = await self._ask(url, host, seconds_left)
                seconds_left -= time.monotonic() - start
            if isinstance(answer, Body):
                return answer
            url = answer
        raise PhotoFailure(f"more than {self._config.max_redirects} redirects")

    async def _ask(
        self, url: httpx2.URL, host: Host, seconds: float
    ) -> Body | httpx2.URL:
        """Send one request; return the body, or the URL of a redirect."""
        try:
            with _failures(self._config):
                async with asyncio.timeout(seconds):
                    request = self._client.build_request("GET", url)
                    response = await self._client.send(request, stream=True)
                    try:
                        return await self._read(response, host)
                    finally:
                        await response.aclose()
        except TimeoutError as error:
            raise PhotoFailure(
                f"not complete after {self._config.deadline:g} s", retry=True
            ) from error

    async def _read(self, response: httpx2.Response, host: Host) -> Body | httpx2.URL:
        host.note_reached()
        if response.has_redirect_location:
            return _redirect(response)
        if response.status_code != HTTPStatus.OK:
            raise self._refused(response, host)
        content_type = response.headers.get("Content-Type", "").partition(";")[0]
        return Body(await self._read_body(response), shown(content_type))

    def _refused(self, response: httpx2.Response, host: Host) -> PhotoFailure:
        """Turn a status into a failure; let the host rest if it asks for a pause."""
        reason = f"HTTP {response.status_code} {_phrase(response.status_code)}".strip()
        if response.status_code not in _TRY_AGAIN:
            return PhotoFailure(reason)
        pause = seconds_asked(response.headers.get("Retry-After", ""), now=time.time())
        if pause > self._config.max_pause:
            reason = (
                f"host asked for too long a pause ({reason}): {pause:.0f} s, at most "
                f"{self._config.max_pause:g} s are waited; run again later"
            )
            host.give_up(reason)
            return PhotoFailure(reason)
        host.rest(pause)
        return PhotoFailure(reason, retry=True)

    async def _read_body(self, response: httpx2.Response) -> bytes:
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        if coding not in _CODINGS:
            raise PhotoFailure(f"unexpected compression: {shown(coding)}")
        limit = self._config.max_bytes
        claimed = response.headers.get("Content-Length", "0")
        if claimed.isdecimal() and int(claimed) > limit:
            raise PhotoFailure(
                f"too many bytes: {int(claimed)} announced, at most {limit} are read"
            )
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > limit:
                raise PhotoFailure(f"too many bytes: at most {limit} are read")
        return bytes(content)


def seconds_asked(retry_after: str, *, now: float) -> float:
    """Read a Retry-After header.

    Parameters
    ----------
    retry_after : str
        Seconds or an HTTP date (RFC 9110, 10.2.3).
    now : float
        Unix time, seconds.

    Returns
    -------
    float
        Seconds to wait, at least 0; 0 if the header is absent or malformed.
    """
    written = retry_after.strip()
    if written.isascii() and written.isdecimal():
        return float(written)  # inf if it has hundreds of digits
    try:
        return max(0.0, parsedate_to_datetime(written).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _redirect(response: httpx2.Response) -> httpx2.URL:
    location = response.headers["Location"]
    if response.next_request is None:
        raise PhotoFailure(f"redirect to no usable link: {shown(location)}")
    return _check(response.next_request.url, reason="redirect to no http or https link")


def _check(url: httpx2.URL, *, reason: str) -> httpx2.URL:
    if url.scheme not in ("http", "https") or not url.host:
        raise PhotoFailure(f"{reason}: {shown(url)}")
    if url.port is not None and not 0 < url.port < 65536:
        raise PhotoFailure(f"not a usable link: port {url.port}")
    return url.copy_with(userinfo=b"")


@contextmanager
def _failures(config: DownloadConfig) -> Iterator[None]:
    """Turn errors of the HTTP client into failures with a reason."""
    try:
        yield
    except httpcore2.ConnectTimeout as error:
        raise PhotoFailure(
            f"no connection within {config.connect_timeout:g} s",
            retry=True,
            unreached=True,
        ) from error
    except httpcore2.TimeoutException as error:
        raise PhotoFailure(
            f"no byte for {config.read_timeout:g} s", retry=True
        ) from error
    except httpcore2.ConnectError as error:
        trusted = not _is_about_certificate(error)
        reason = "no connection" if trusted else "certificate not trusted"
        raise PhotoFailure(
            f"{reason}: {shown(error)}", retry=trusted, unreached=True
        ) from error
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
        raise PhotoFailure(f"connection broken: {shown(error)}", retry=True) from error
    except httpx2.DecodingError as error:
        raise PhotoFailure(f"damaged compression: {shown(error)}") from error
    except (
        httpcore2.LocalProtocolError,
        httpcore2.UnsupportedProtocol,
        httpx2.InvalidURL,
    ) as error:
        raise PhotoFailure(f"not a usable link: {shown(error)}") from error


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _version() -> str:
    try:
        return metadata.version("pricestack")
    except metadata.PackageNotFoundError:
        return "unknown"
