"""Request many links at once, with retries, and yield the results as they come."""

import asyncio
import random
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from embed.download.config import DownloadConfig
from embed.download.failure import PhotoFailure
from embed.download.fetch import PhotoClient, parse_link
from embed.download.folder import store_photo

_DECODERS = 2
_LANES_PER_TURN = 4


@dataclass(frozen=True)
class Ask:
    """A link to request, and the file names of its photo."""

    link: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """Outcome of an `Ask`; `reason` is "" if the photo is stored."""

    ask: Ask
    reason: str
    n_bytes: int = 0
    attempts: int = 0


@dataclass(frozen=True)
class _Parsed:
    ask: Ask
    url: httpx2.URL


def photos_asked(
    asks: Sequence[Ask], *, config: DownloadConfig
) -> Generator[Outcome, None, None]:
    """Request photos and store them.

    Parameters
    ----------
    asks : sequence of Ask
        Links to request, each once.
    config : DownloadConfig
        Limits of the download.

    Yields
    ------
    Outcome
        Outcome of each ask, in the order in which they end.

    Raises
    ------
    OSError
        If the folder can no longer be written to.
    KeyboardInterrupt
        On Ctrl-C, after all requests have ended.
    """
    parsed: list[_Parsed] = []
    for ask in asks:
        try:
            parsed.append(_Parsed(ask, parse_link(ask.link)))
        except PhotoFailure as failure:
            yield Outcome(ask, str(failure))
    with asyncio.Runner() as runner, ThreadPoolExecutor(_DECODERS) as decoders:
        queue = _Queue(config, decoders)
        _call_on_ctrl_c(runner.get_loop(), queue.stop)
        work = runner.get_loop().create_task(queue.work(parsed))
        for _ in parsed:
            outcome = runner.run(queue.next_outcome(work))
            if outcome is None:
                raise KeyboardInterrupt
            yield outcome
        runner.run(_finish(work))


def _call_on_ctrl_c(
    loop: asyncio.AbstractEventLoop, callback: Callable[[], None]
) -> None:
    """Call back on Ctrl-C until the loop is closed, if the system supports it.

    By default, Python raises KeyboardInterrupt in the running task. Each task that
    waits for that task raises it again, outside the loop that should end them.
    """
    # Windows has no signal handlers, and only the main thread gets signals.
    with suppress(NotImplementedError, ValueError, RuntimeError):
        loop.add_signal_handler(signal.SIGINT, callback)


class _Queue:
    """The asynchronous part of `photos_asked`."""

    def __init__(self, config: DownloadConfig, decoders: ThreadPoolExecutor) -> None:
        self._config = config
        self._decoders = decoders
        self._random = random.Random(config.seed)  # noqa: S311 - spreads pauses
        self._outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._stopped = False

    def stop(self) -> None:
        """Make the next outcome None, including one that is already awaited."""
        self._stopped = True
        self._outcomes.put_nowait(None)

    async def next_outcome(self, work: "asyncio.Task[None]") -> Outcome | None:
        """Return the next outcome, None once stopped; raise if the work fails."""
        if self._stopped:
            return None
        outcome = asyncio.ensure_future(self._outcomes.get())
        await asyncio.wait({outcome, work}, return_when=asyncio.FIRST_COMPLETED)
        if not outcome.done():
            outcome.cancel()
            work.result()
        return await outcome

    async def work(self, asks: Sequence[_Parsed]) -> None:
        """Request all links; hosts with many links begin first, as they take longest.

        The number of hosts in work, and of links per host, is bounded, so a catalog of
        100,000 hosts does not create 100,000 tasks.
        """
        by_host: dict[str, deque[_Parsed]] = {}
        for ask in asks:
            by_host.setdefault(ask.url.host, deque()).append(ask)
        hosts = iter(sorted(by_host.values(), key=len, reverse=True))
        async with aclosing(PhotoClient(self._config)) as client:
            await asyncio.gather(
                *(
                    self._lane(client, hosts)
                    for _ in range(_LANES_PER_TURN * self._config.concurrency)
                )
            )

    async def _lane(self, client: PhotoClient, hosts: Iterator[deque[_Parsed]]) -> None:
        for asks in hosts:
            n_workers = min(self._config.per_host, len(asks))
            await asyncio.gather(*(self._drain(client, asks) for _ in range(n_workers)))

    async def _drain(self, client: PhotoClient, asks: deque[_Parsed]) -> None:
        while asks:
            self._outcomes.put_nowait(await self._until_done(client, asks.popleft()))

    async def _until_done(self, client: PhotoClient, parsed: _Parsed) -> Outcome:
        """Request one link, again after failures that may be temporary."""
        again = AsyncRetrying(
            retry=retry_if_exception(_may_be_temporary),
            stop=stop_after_attempt(self._config.retries + 1),
            wait=lambda state: self._pause(state.attempt_number),
            reraise=True,
        )
        try:
            n_bytes: int = await again(self._once, client, parsed)
        except PhotoFailure as failure:
            if failure.unreached:
                client.hosts[parsed.url.host].note_unreached(
                    limit=self._config.give_up_host_after
                )
            n_asked = again.statistics["attempt_number"] - (not failure.asked)
            return Outcome(parsed.ask, str(failure), attempts=n_asked)
        n_asked = again.statistics["attempt_number"]
        return Outcome(parsed.ask, "", n_bytes, n_asked)

    async def _once(self, client: PhotoClient, parsed: _Parsed) -> int:
        body = await client.fetch(parsed.url)
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._decoders, store_photo, body.content, parsed.ask.paths
            )
        except PhotoFailure as failure:
            kind = body.content_type
            if not kind or kind.startswith("image/"):
                raise
            raise PhotoFailure(f"{failure} (sent as {kind})") from failure
        return len(body.content)

    def _pause(self, attempt: int) -> float:
        """Draw the pause before the next request: exponential, with full jitter.

        References
        ----------
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        longest = min(
            self._config.max_backoff, self._config.backoff * 2.0 ** (attempt - 1)
        )
        return self._random.uniform(0, longest)


def _may_be_temporary(error: BaseException) -> bool:
    return isinstance(error, PhotoFailure) and error.retry


async def _finish(work: "asyncio.Task[None]") -> None:
    """Wait until the connections are closed."""
    await work
