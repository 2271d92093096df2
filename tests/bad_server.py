"""A photo server on loopback that misbehaves as the path of a link says.

`/KIND/NAME` is answered in the manner KIND; `/ok/a.png` is a good photo. The server
counts what it was asked for, when, and how many requests were open at once.
"""

import asyncio
import functools
import gzip
import io
import threading
import time
import zlib
from collections import Counter, defaultdict

import numpy as np
from PIL import Image

GZIP_BOMB = gzip.compress(bytes(30 << 20))
_REASONS = {429: "Too Many Requests", 503: "Service Unavailable"}


@functools.cache
def photo_bytes(seed=0, *, size=(24, 16), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def photo_of(path):
    """The photo that a good answer to a path carries; few paths share one."""
    return photo_bytes(zlib.crc32(path.encode()) % 499)


def head(status=200, *headers, length=None):
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Whatever')}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class BadServer:
    """Runs in a thread of its own between `with` and its end."""

    def __init__(self):
        self.asked = Counter()
        self.times = defaultdict(list)
        self.headers = []
        self.max_open = 0
        self.retry_after = "1"
        self.location = ""
        self.wait_for_open = 0  # answers none until so many were open at once
        self.most_answered = 10**9  # a request after so many gets no answer
        self._stale = set()  # connections that break at their next request
        self._open = 0

    def __enter__(self):
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        assert started.wait(60)
        return self

    def __exit__(self, *_):
        self._events.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def n_asked(self):
        return sum(self.asked.values())

    def _run(self, started):
        asyncio.run(self._serve(started))

    async def _serve(self, started):
        self._events, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._connections = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader, writer):
        self._connections.add(asyncio.current_task())
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(asyncio.current_task())
            writer.close()

    async def _answer(self, reader, writer):
        """Answer one request; return whether the connection stays open."""
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = request.split(" ", 2)[1]
        if writer in self._stale:
            writer.transport.abort()
            return False
        self.asked[path] += 1
        self.times[path].append(time.monotonic())
        self.headers.append(request)
        self._open += 1
        self.max_open = max(self.max_open, self._open)
        try:
            await self._hold_back()
            kind = path.split("/")[1].split("?")[0].replace("-", "_")
            answer = getattr(self, f"_{kind}", self._ok)
            stays = await answer(writer, path)
            await writer.drain()
        finally:
            self._open -= 1
        return stays is not False

    async def _hold_back(self):
        if self.n_asked > self.most_answered:
            await asyncio.sleep(60)
        for _ in range(1000):
            if self.max_open >= self.wait_for_open:
                return
            await asyncio.sleep(0.005)

    def _first(self, path):
        return self.asked[path] == 1

    async def _ok(self, writer, path):
        body = photo_of(path)
        writer.write(head(200, "Content-Type: image/png", length=len(body)) + body)

    async def _then_stale(self, writer, path):
        self._stale.add(writer)
        await self._ok(writer, path)

    async def _photo_as_text(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, "Content-Type: text/plain", length=len(body)) + body)

    async def _429(self, writer, path):
        if self._first(path):
            writer.write(head(429, f"Retry-After: {self.retry_after}", length=0))
        else:
            await self._ok(writer, path)

    async def _503_once(self, writer, path):
        if self._first(path):
            writer.write(head(503, length=0))
        else:
            await self._ok(writer, path)

    async def _503(self, writer, path):
        writer.write(head(503, length=0))

    async def _404(self, writer, path):
        writer.write(head(404, length=0))

    async def _410(self, writer, path):
        writer.write(head(410, length=0))

    async def _403(self, writer, path):
        writer.write(head(403, length=0))

    async def _drip(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, length=len(body)))
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async def _hang(self, writer, path):
        await asyncio.sleep(60)

    async def _hang_once(self, writer, path):
        if self._first(path):
            await asyncio.sleep(60)
        await self._ok(writer, path)

    async def _cut(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, length=len(body)) + body[: len(body) // 2])
        return False

    async def _cut_once(self, writer, path):
        if self._first(path):
            return await self._cut(writer, path)
        return await self._ok(writer, path)

    async def _cut_unannounced(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, "Connection: close") + body[: len(body) // 2])
        return False

    async def _drop(self, writer, path):
        return False

    async def _html(self, writer, path):
        body = b"<html>Please log in</html>"
        kind = "Content-Type: text/html; charset=utf-8"
        writer.write(head(200, kind, length=len(body)) + body)

    async def _html_as_photo(self, writer, path):
        body = b"<html>Please log in</html>"
        writer.write(head(200, "Content-Type: image/png", length=len(body)) + body)

    async def _empty(self, writer, path):
        writer.write(head(200, length=0))

    async def _too_short_length(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, length=len(body) // 2) + body)
        return False

    async def _length_of_words(self, writer, path):
        writer.write(head(200, length="many") + photo_bytes())
        return False

    async def _huge_length(self, writer, path):
        writer.write(head(200, length=10**13))

    async def _huge(self, writer, path):
        writer.write(head(200, "Connection: close"))
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()
        return False

    async def _many_pixels(self, writer, path):
        buffer = io.BytesIO()
        Image.new("1", (9000, 9000)).save(buffer, "PNG")
        body = buffer.getvalue()
        writer.write(head(200, length=len(body)) + body)

    async def _bomb(self, writer, path):
        coding = "Content-Encoding: gzip"
        writer.write(head(200, coding, length=len(GZIP_BOMB)) + GZIP_BOMB)

    async def _gzip(self, writer, path):
        body = gzip.compress(photo_bytes())
        writer.write(head(200, "Content-Encoding: gzip", length=len(body)) + body)

    async def _bad_gzip(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, "Content-Encoding: gzip", length=len(body)) + body)

    async def _coded(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, "Content-Encoding: br", length=len(body)) + body)

    async def _garbage(self, writer, path):
        writer.write(b"220 ready, this is no web server\r\n\r\n")
        return False

    async def _loop(self, writer, path):
        writer.write(head(302, f"Location: {path}", length=0))

    async def _away(self, writer, path):
        writer.write(head(302, f"Location: {self.location}", length=0))

    async def _hops(self, writer, path):
        """`/hops/3/a.png` is three redirects away from a photo."""
        left = int(path.split("/")[2])
        name = path.rpartition("/")[2]
        to = f"/hops/{left - 1}/{name}" if left > 1 else f"/ok/{name}"
        writer.write(head(302, f"Location: {to}", length=0))

    async def _nowhere(self, writer, path):
        writer.write(head(302, length=0))

    async def _cookie(self, writer, path):
        body = photo_bytes()
        writer.write(head(200, "Set-Cookie: a=b; Path=/", length=len(body)) + body)
