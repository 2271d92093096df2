"""Joins what waits into batches for one thread, in the order of arrival."""

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
    """How much may be in progress at a time: a count that is never exceeded."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def take(self, n: int) -> Iterator[None]:
        """Hold room for `n`.

        Raises
        ------
        Full
            If there is not so much left.
        """
        if self.taken + n > self.most:
            raise Full
        self.taken += n
        try:
            yield
        finally:
            self.taken -= n


@dataclass(frozen=True, kw_only=True)
class _Asked(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Calls a function for many items at once, for askers that come one by one.

    Parameters
    ----------
    work : callable
        Takes a list of items, returns a result for each, in order. It is called in
        `thread`, never twice at a time if that has one worker.
    thread : Executor
    most : int
        Items a batch.
    wait_s : float
        How long an item waits for others to join it.
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
        self._waiting: deque[_Asked[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self.seconds_per_item = 0.1

    async def ask(self, items: Sequence[Item]) -> list[Result]:
        """Return the result of each item.

        More than a batch is asked for a batch at a time, so that others who ask
        meanwhile need not wait for all of it.
        """
        results: list[Result] = []
        for start in range(0, len(items), self._most):
            results += await self._ask_some(items[start : start + self._most])
        return results

    async def _ask_some(self, items: Sequence[Item]) -> list[Result]:
        loop = asyncio.get_running_loop()
        asked = [_Asked(item=item, answer=loop.create_future()) for item in items]
        self._waiting.extend(asked)
        self._arrived.set()
        return list(await asyncio.gather(*(one.answer for one in asked)))

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            batch = await self._next()
            if batch:
                await self._answer(batch)

    async def _next(self) -> list[_Asked[Item, Result]]:
        await self._arrived.wait()
        if len(self._waiting) < self._most:
            await asyncio.sleep(self._wait_s)
        count = min(len(self._waiting), self._most)
        batch = [self._waiting.popleft() for _ in range(count)]
        if not self._waiting:
            self._arrived.clear()
        # Whoever went away or waited too long has cancelled.
        return [asked for asked in batch if not asked.answer.done()]

    async def _answer(self, batch: list[_Asked[Item, Result]]) -> None:
        started = time.monotonic()
        try:
            results = await self._call([asked.item for asked in batch])
        except Exception as error:
            await self._answer_alone(batch, error)
            return
        seconds = (time.monotonic() - started) / len(batch)
        self.seconds_per_item += 0.2 * (seconds - self.seconds_per_item)
        for asked, result in zip(batch, results, strict=True):
            if not asked.answer.done():
                asked.answer.set_result(result)

    async def _answer_alone(
        self, batch: list[_Asked[Item, Result]], error: Exception
    ) -> None:
        """Let one item that fails not fail those it was joined with."""
        if len(batch) > 1:
            for asked in batch:
                await self._answer([asked])
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(error)

    async def _call(self, items: list[Item]) -> list[Result]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._work, items)
