"""Counts of the service for Prometheus, in a registry of their own."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PRODUCTS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "pricestack_requests",
            "Requests answered.",
            ("path", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "pricestack_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "pricestack_batch_products",
            "Products that were priced together.",
            buckets=_PRODUCTS,
            registry=registry,
        )
        self.predict_seconds = Histogram(
            "pricestack_predict_seconds",
            "Time of the predictor for a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting = Gauge(
            "pricestack_queue_products",
            "Products in the queue, not yet priced.",
            registry=registry,
        )
        self.placeholders = Counter(
            "pricestack_placeholders",
            "Texts, photos and table values that products lack or that are unusable.",
            ("field",),
            registry=registry,
        )
        self.ready = Gauge(
            "pricestack_ready", "1 if the service is ready.", registry=registry
        )

    def text(self) -> bytes:
        """Return all counts in the text format of Prometheus."""
        return generate_latest(self.registry)
