"""A predictor that costs nothing, for tests of what stands before it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastapi.testclient import TestClient
from httpx2 import Response

from embed.errors import UnreadableImage
from stack.service.app import create_app
from stack.service.metrics import Metrics
from stack.service.observe import Observed
from stack.service.pricing import Product
from stack.service.schemas import Explanation, Interval, Placeholder, PriceAnswer
from stack.service.service import Service


class Standin:
    """Prices a product by the length of its text, plus 1000 with a photo."""

    run_key, chosen, smape, image_size = "0" * 64, "network", 50.5, 8
    table = ()

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        self.go.set()

    def warm_up(self) -> None:
        self.go.wait(10)

    def price(self, products: Sequence[Product]) -> list[PriceAnswer]:
        self.go.wait(10)
        self.batches.append(len(products))
        self.threads.add(threading.get_ident())
        if any(product.text == "bad" for product in products):
            raise RuntimeError("/secret/path: it broke")
        return [self._answer(product) for product in products]

    def explain(self, product: Product) -> PriceAnswer:
        self.threads.add(threading.get_ident())
        empty = Explanation(
            price_unit=1,
            parts=[],
            words=[],
            attributes=[],
            table=[],
            without_photo_percent=None,
            similar=[],
        )
        return self._answer(product).model_copy(update={"explanation": empty})

    def _answer(self, product: Product) -> PriceAnswer:
        lacks = isinstance(product.photo, UnreadableImage)
        price = 1.0 + len(product.text) + (0 if lacks else 1000)
        missing = [Placeholder(field="image", reason=str(product.photo))]
        return PriceAnswer(
            sample_id=product.sample_id,
            price=price,
            intervals=[Interval(level=80, price_low=price / 2, price_high=price * 2)],
            within_10=0.3,
            within_20=0.5,
            unlike=False,
            predictor="network",
            placeholders=missing if lacks else [],
            flags=[],
        )


def wait_until_ready(client: TestClient) -> None:
    end = time.monotonic() + 60
    while client.get("/health").status_code != 200:
        assert time.monotonic() < end, "the service did not get ready"
        time.sleep(0.02)


@contextmanager
def client_of(
    load, *, ready: bool = True, currency: str | None = None, **options: object
) -> Iterator[TestClient]:
    """Give a client of a service, which is ready."""
    service = Service(load, Metrics(), **options)
    app = create_app(service, currency=currency)
    observed = Observed(app, service.metrics, ["/price", "/prices", "/health", "/"])
    with TestClient(observed) as client:
        if ready:
            wait_until_ready(client)
        yield client


def failed_of(response: Response, number: int) -> dict[str, str]:
    """Return the error of one product of a batch; all others must have a price."""
    assert response.status_code == 200, response.text
    prices = response.json()["prices"]
    assert [row for row, one in enumerate(prices) if "price" not in one] == [number]
    assert list(prices[number]) == ["sample_id", "error"]
    error: dict[str, str] = prices[number]["error"]
    assert list(error) == ["where", "message", "what_to_do"]
    assert all(error.values())
    return error


def error_of(response: Response, status: int) -> dict[str, str]:
    """Return the error of an answer, which must have our shape and that status."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    error: dict[str, str] = response.json()["error"]
    assert list(error) == ["where", "message", "what_to_do"]
    assert all(error.values())
    return error
