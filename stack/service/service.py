"""Queue, threads and limits between requests and the predictor."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, Protocol, TypeVar

from embed.table.encode import TableColumn
from stack.service.batching import Batcher, Full, Room
from stack.service.errors import busy, not_ready
from stack.service.metrics import Metrics
from stack.service.pricing import Product
from stack.service.schemas import MAX_PRODUCTS, PriceAnswer

MAX_WAITING = MAX_PRODUCTS
"""Largest number of products in the queue; further requests must try again.

The largest request fits if nothing else waits. The whole queue is answered in time
(`MAX_SECONDS`) if a product takes less than 0.2 s.
"""
EXPLANATION_COST = 24
"""Number of products that an explanation counts as: it prices that many variants."""
MAX_BODIES_BYTES = 256_000_000

T = TypeVar("T")


class PriceSource(Protocol):
    """The source of prices: `Pricer`, or a stand-in in tests."""

    run_key: str
    chosen: Literal["network", "stacker"]
    smape: float | None
    """Out-of-fold SMAPE, 0 to 200; None if the report lacks it."""
    image_size: int
    table: list[TableColumn]

    def warm_up(self) -> None: ...  # noqa: D102

    def price(self, products: Sequence[Product]) -> list[PriceAnswer]: ...  # noqa: D102

    def explain(self, product: Product) -> PriceAnswer: ...  # noqa: D102


class Service:
    """One predictor in one thread, and the queue for it.

    Parameters
    ----------
    load : callable
        Function that returns the predictor; called once, in its thread.
    metrics : Metrics
    on_ready, on_failed : callable
        Called with the predictor after its first price, or with its exception.
    max_waiting : int
        Largest number of products in the queue.
    """

    def __init__(
        self,
        load: Callable[[], PriceSource],
        metrics: Metrics,
        *,
        on_ready: Callable[[PriceSource], None] = lambda source: None,
        on_failed: Callable[[Exception], None] = lambda error: None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.metrics = metrics
        self.bodies = Room(MAX_BODIES_BYTES)
        self.source: PriceSource | None = None
        self.n_priced = 0
        self._load, self._on_ready, self._on_failed = load, on_ready, on_failed
        self._room = Room(max_waiting)
        self._explaining = asyncio.Lock()
        metrics.waiting.set_function(lambda: self._room.taken)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="photos")

    async def run(self) -> None:
        """Load the predictor, then predict prices until cancelled."""
        self._batcher = Batcher(self._price, self._thread)
        loop = asyncio.get_running_loop()
        try:
            self.source = await loop.run_in_executor(self._thread, self._loaded)
            self.metrics.ready.set(1)
            self._on_ready(self.source)
            await self._batcher.run()
        except Exception as error:
            self._on_failed(error)

    def close(self) -> None:
        """Release the threads; drop all work that has not begun."""
        for threads in (self._thread, self._pool):
            threads.shutdown(wait=False, cancel_futures=True)

    def ready(self) -> PriceSource:
        """Return the predictor.

        Raises
        ------
        ApiError
            503 if it is not loaded yet.
        """
        if self.source is None:
            raise not_ready()
        return self.source

    @contextmanager
    def admitted(self, n_products: int) -> Iterator[None]:
        """Reserve room for some products while they are in progress.

        Raises
        ------
        ApiError
            503 if there is no room left.
        """
        try:
            with self._room.take(n_products):
                yield
        except Full:
            raise busy(self.retry_after()) from None

    def retry_after(self) -> int:
        """Return the seconds until the queue is done, 1 to 30."""
        seconds = self._room.taken * self._batcher.seconds_per_item
        return min(max(math.ceil(seconds), 1), 30)

    async def price(self, products: Sequence[Product]) -> list[PriceAnswer]:
        """Price some products, in order."""
        return await self._batcher.ask(products)

    async def explain(self, product: Product) -> PriceAnswer:
        """Price and explain one product, between two batches of others.

        The thread gets one explanation at a time, so that prices do not wait for all
        earlier explanations.
        """
        loop = asyncio.get_running_loop()
        explain = self.ready().explain
        async with self._explaining:
            return await loop.run_in_executor(self._thread, explain, product)

    def count(self, answers: Sequence[PriceAnswer]) -> None:
        """Count the answered products and their placeholders."""
        self.n_priced += len(answers)
        for answer in answers:
            for placeholder in answer.placeholders:
                self.metrics.placeholders.labels(placeholder.field).inc()

    async def in_pool(self, work: Callable[[], T]) -> T:
        """Do slow work, such as reading a photo, outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _loaded(self) -> PriceSource:
        source = self._load()
        source.warm_up()
        return source

    def _price(self, products: list[Product]) -> list[PriceAnswer]:
        started = time.monotonic()
        answers = self.ready().price(products)
        self.metrics.predict_seconds.observe(time.monotonic() - started)
        self.metrics.batch.observe(len(products))
        return answers
