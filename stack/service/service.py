"""What stands between requests and the predictor: queue, threads, limits."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, Protocol, TypeVar

from stack.service.batching import Batcher, Full, Room
from stack.service.bodies import BodyBudget
from stack.service.errors import busy, not_ready
from stack.service.metrics import Metrics
from stack.service.pricing import Product
from stack.service.schemas import MAX_PRODUCTS, PriceAnswer

MAX_WAITING = MAX_PRODUCTS
"""Products asked for and not yet answered; more are told to come again.

The largest request has place if nothing else waits, and what has place is answered in
time (`MAX_SECONDS`) where a product takes less than 0.2 s.
"""
EXPLANATION_COST = 24
"""Products that an explanation counts for: so many variants it prices."""
MAX_BODIES_BYTES = 256_000_000

T = TypeVar("T")


class Backend(Protocol):
    """What prices are asked of: `Pricer`, or what stands in for it in a test."""

    run_key: str
    chosen: Literal["network", "stacker"]
    image_size: int

    def warm_up(self) -> None: ...  # noqa: D102

    def price(self, products: Sequence[Product]) -> list[PriceAnswer]: ...  # noqa: D102

    def explain(self, product: Product) -> PriceAnswer: ...  # noqa: D102


class Service:
    """One predictor in one thread, and those who wait for it.

    Parameters
    ----------
    load : callable
        Gives the predictor; called in its thread, once.
    metrics : Metrics
    on_ready, on_failed : callable
        Called when the predictor has given its first price, or with what it raised.
    max_waiting : int
        Products.
    """

    def __init__(
        self,
        load: Callable[[], Backend],
        metrics: Metrics,
        *,
        on_ready: Callable[[Backend], None] = lambda backend: None,
        on_failed: Callable[[Exception], None] = lambda error: None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.metrics = metrics
        self.bodies = BodyBudget(MAX_BODIES_BYTES)
        self.backend: Backend | None = None
        self.n_priced = 0
        self._load, self._on_ready, self._on_failed = load, on_ready, on_failed
        self._room = Room(max_waiting)
        self._explaining = asyncio.Lock()
        metrics.waiting.set_function(lambda: self._room.taken)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="photos")

    async def run(self) -> None:
        """Load the predictor, then give prices until cancelled."""
        self._batcher = Batcher(self._price, self._thread)
        loop = asyncio.get_running_loop()
        try:
            self.backend = await loop.run_in_executor(self._thread, self._loaded)
            self.metrics.ready.set(1)
            self._on_ready(self.backend)
            await self._batcher.run()
        except Exception as error:
            self._on_failed(error)

    def close(self) -> None:
        """Let go of the threads; what has not begun by now never will."""
        for threads in (self._thread, self._pool):
            threads.shutdown(wait=False, cancel_futures=True)

    def ready(self) -> Backend:
        """Return the predictor.

        Raises
        ------
        ApiError
            503 if it is not there yet.
        """
        if self.backend is None:
            raise not_ready()
        return self.backend

    @contextmanager
    def admitted(self, n_products: int) -> Iterator[None]:
        """Hold a place for some products while they are worked on.

        Raises
        ------
        ApiError
            503 if there is no place left.
        """
        try:
            with self._room.take(n_products):
                yield
        except Full:
            raise busy(self.retry_after()) from None

    def retry_after(self) -> int:
        """Return in how many seconds what waits now will be done, 1 to 30."""
        seconds = self._room.taken * self._batcher.seconds_per_item
        return min(max(math.ceil(seconds), 1), 30)

    async def price(self, products: Sequence[Product]) -> list[PriceAnswer]:
        """Price some products, in order."""
        return await self._batcher.ask(products)

    async def explain(self, product: Product) -> PriceAnswer:
        """Price one product and say why, between two batches of others.

        Only one at a time is handed to the thread, so that prices need not wait for
        all that were asked for before them.
        """
        loop = asyncio.get_running_loop()
        explain = self.ready().explain
        async with self._explaining:
            return await loop.run_in_executor(self._thread, explain, product)

    def count(self, answers: Sequence[PriceAnswer]) -> None:
        """Count what was answered."""
        self.n_priced += len(answers)
        for answer in answers:
            for placeholder in answer.placeholders:
                self.metrics.placeholders.labels(placeholder.field).inc()

    async def in_pool(self, work: Callable[[], T]) -> T:
        """Do what takes some time, such as reading a photo, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _loaded(self) -> Backend:
        backend = self._load()
        backend.warm_up()
        return backend

    def _price(self, products: list[Product]) -> list[PriceAnswer]:
        started = time.monotonic()
        answers = self.ready().price(products)
        self.metrics.predict_seconds.observe(time.monotonic() - started)
        self.metrics.batch.observe(len(products))
        return answers
