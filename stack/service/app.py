"""The endpoints of the service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from importlib import metadata
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embed.table.encode import TableColumn
from stack.service import bodies
from stack.service.answers import ClientGoneError, price_many, price_one
from stack.service.errors import ApiError, of_http, of_validation, unexpected
from stack.service.metrics import CONTENT_TYPE
from stack.service.schemas import (
    MAX_CATEGORIES,
    BatchRequest,
    ErrorAnswer,
    Health,
    KnownColumn,
    PriceAnswer,
    PricesAnswer,
    ProductForm,
    ProductRequest,
    State,
)
from stack.service.service import Service

CLIENT_GONE = 499
"""Status that is counted but not sent."""

_PAGES = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs.js": ("docs.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in (
        (400, "The header Host is not a name of this machine."),
        (401, "The key of the service is missing or wrong."),
        (408, "The body took too long to arrive."),
        (413, "The body or a photo is too large."),
        (415, "The content type is not supported."),
        (422, "A field is missing, unknown or wrong, or a photo cannot be read."),
        (500, "The service failed."),
        (503, "Loading, or the queue is full; see the header Retry-After."),
        (504, "No answer in time."),
    )
}
_REF = "#/components/schemas/{model}"


def create_app(service: Service, *, currency: str | None = None) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    service : Service
        Started and closed with the application.
    currency : str, optional
        Code of the catalog's currency for /health and the page.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.run())
        try:
            yield
        finally:
            running.cancel()
            service.close()

    app = FastAPI(
        title="pricestack",
        version="1",
        description="Prices products from catalog text and photo.",
        docs_url=None,  # both would load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_prices(app, service)
    _add_state(app, service, currency)
    _add_pages(app)
    _add_errors(app)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]
    return app


def _add_prices(app: FastAPI, service: Service) -> None:
    @app.post(
        "/price",
        response_model=PriceAnswer,
        responses=_ERRORS,
        openapi_extra=_body(
            {bodies.JSON_TYPE: ProductRequest, bodies.FORM_TYPE: ProductForm}
        ),
    )
    async def price(
        request: Request,
        explain: Annotated[bool, Query(description="Explain the price too.")] = False,
    ) -> PriceAnswer:
        """Price one product."""
        return await price_one(request, service, explain=explain)

    @app.post(
        "/prices",
        response_model=PricesAnswer,
        responses=_ERRORS,
        openapi_extra=_body({bodies.JSON_TYPE: BatchRequest}),
    )
    async def prices(request: Request) -> PricesAnswer:
        """Price some products; the answers are in the order of the request."""
        return await price_many(request, service)


def _body(models: dict[str, type]) -> dict[str, Any]:
    content = {
        media_type: {"schema": {"$ref": _REF.format(model=model.__name__)}}
        for media_type, model in models.items()
    }
    return {"requestBody": {"required": True, "content": content}}


def _add_state(app: FastAPI, service: Service, currency: str | None) -> None:
    @app.get("/live")
    async def live() -> State:
        """Return 200 while the process answers."""
        return State(status="live")

    @app.get("/ready", response_model=State, responses={503: {"model": State}})
    async def ready(response: Response) -> State:
        """Return 200 if the service is ready, 503 while it loads the run."""
        response.status_code = 200 if service.source else 503
        return State(status="ready" if service.source else "loading")

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """Name the run that prices, its score and its table columns."""
        source = service.source
        response.status_code = 200 if source else 503
        return Health(
            status="ready" if source else "loading",
            run=source.run_key if source else None,
            chosen=source.chosen if source else None,
            smape=source.smape if source else None,
            version=metadata.version("pricestack"),
            currency=currency,
            table=[_known_column(column) for column in source.table] if source else [],
        )

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Count requests, seconds, batches and placeholders, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _known_column(column: TableColumn) -> KnownColumn:
    return KnownColumn(
        name=column.name,
        kind=column.kind,
        units=list(column.units),
        date_format=column.date_format,
        categories=list(column.categories[:MAX_CATEGORIES]),
        n_categories=len(column.categories),
    )


def _add_pages(app: FastAPI) -> None:
    folder = files("stack.service") / "page"
    for path, (name, media_type) in _PAGES.items():
        content = (folder / name).read_bytes()
        app.add_api_route(
            path,
            partial(_page, content, media_type),
            include_in_schema=False,
            response_class=Response,
        )


async def _page(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type)


def _add_errors(app: FastAPI) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return of_http(error).response()

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return of_validation(error).response()

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return unexpected().response()

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientGoneError, gone)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the endpoints; add the models of bodies, which FastAPI does not read."""
    schema = FastAPI.openapi(app)
    models = (ProductRequest, ProductForm, BatchRequest)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF
    )
    schema["components"]["schemas"] |= definitions["$defs"]
    return schema
