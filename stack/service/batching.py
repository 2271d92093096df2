"""Collect waiting items into batches for a thread, in the order of arrival."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Full(Exception):
    """There is no room for more."""


class Room:
    """A limit on how much is in progress at the same time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes room for `n` more, until the block ends.

        The function raises `Full` if less than `n` is left.
        """
        held = 0

        def take(n: int) -> None:
            nonlocal held
            if self.taken + n > self.most:
                raise Full
            self.taken += n
            held += n

        try:
            yield take
        finally:
            self.taken -= held

    @contextmanager
    def take(self, n: int) -> Iterator[None]:
        """Hold room for `n` until the block ends.

        Raises
        ------
        Full
            If less than `n` is left.
        """
        with self.held() as take:
            take(n)
            yield


@dataclass(frozen=True, kw_only=True)
class _Request(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Call a function for many items at once, for callers that come with a few each.

    Parameters
    ----------
    work : callable
        Function from a list of items to their results, in order. It runs in `thread`;
        if `thread` has one worker, no two calls run at the same time.
    thread : Executor
    most : int
        Largest number of items in a batch.
    wait_s : float
        Seconds that an item waits for others to join it.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        thread: Executor,
        *,
        most: int = 32,
        wait_s: float = 0.005,
    ) -> None:
        self._work, self._thread = work, thread
        self._most, self._wait_s = most, wait_s
        self._waiting: deque[_Request[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self.seconds_per_item = 0.1

    async def ask(self, items: Sequence[Item]) -> list[Result]:
        """Return the result of each item.

        Items beyond one batch join the queue when that batch is done, so that other
        callers do not wait for all of them.
        """
        results: list[Result] = []
        for start in range(0, len(items), self._most):
            results += await self._ask_some(items[start : start + self._most])
        return results

    async def _ask_some(self, items: Sequence[Item]) -> list[Result]:
        loop = asyncio.get_running_loop()
        requests = [_Request(item=item, answer=loop.create_future()) for item in items]
        self._waiting.extend(requests)
        self._arrived.set()
        return list(await asyncio.gather(*(request.answer for request in requests)))

    async def run(self) -> None:
        """Answer waiting items until cancelled."""
        while True:
            batch = await self._next()
            if batch:
                await self._answer(batch)

    async def _next(self) -> list[_Request[Item, Result]]:
        await self._arrived.wait()
        if len(self._waiting) < self._most:
            await asyncio.sleep(self._wait_s)
        count = min(len(self._waiting), self._most)
        batch = [self._waiting.popleft() for _ in range(count)]
        if not self._waiting:
            self._arrived.clear()
        # The request of a client that left or waited too long is cancelled.
        return [request for request in batch if not request.answer.done()]

    async def _answer(self, batch: list[_Request[Item, Result]]) -> None:
        started = time.monotonic()
        try:
            results = await self._call([request.item for request in batch])
        except Exception as error:
            await self._answer_alone(batch, error)
            return
        seconds = (time.monotonic() - started) / len(batch)
        self.seconds_per_item += 0.2 * (seconds - self.seconds_per_item)
        for request, result in zip(batch, results, strict=True):
            if not request.answer.done():
                request.answer.set_result(result)

    async def _answer_alone(
        self, batch: list[_Request[Item, Result]], error: Exception
    ) -> None:
        """Answer each item alone, so that a failing item does not fail the others."""
        if len(batch) > 1:
            for request in batch:
                await self._answer([request])
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(error)

    async def _call(self, items: list[Item]) -> list[Result]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._work, items)
