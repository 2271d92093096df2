"""Answers to requests: body, photos and queue, until the client leaves."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from embed.errors import InputError
from embed.table.values import write_cells
from stack.service import bodies, photos
from stack.service.errors import ApiError, of_validation
from stack.service.pricing import Product
from stack.service.schemas import (
    BatchRequest,
    ErrorDetail,
    FailedProduct,
    PriceAnswer,
    PricesAnswer,
    ProductForm,
    ProductRequest,
    Table,
)
from stack.service.service import EXPLANATION_COST, PriceSource, Service

MAX_SECONDS = 60.0
"""Longest time from the last byte of a request to its answer."""

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client no longer waits for the answer."""


async def price_one(
    request: Request, service: Service, *, explain: bool
) -> PriceAnswer:
    """Price the product of a request.

    Raises
    ------
    ApiError, ClientGoneError
    """
    service.ready()
    with service.bodies.held() as take:
        kind = bodies.content_type(
            request, allowed=(bodies.JSON_TYPE, bodies.FORM_TYPE)
        )
        body = await bodies.read_body(request, most=bodies.MAX_BODY_BYTES, take=take)
        with service.admitted(EXPLANATION_COST if explain else 1):
            work = _one(service, kind, body, explain=explain)
            answer = await _while_wanted(request, work)
    service.count([answer])
    return answer


async def price_many(request: Request, service: Service) -> PricesAnswer:
    """Price the products of a request, in order; say why the others have no price.

    Raises
    ------
    ApiError, ClientGoneError
    """
    service.ready()
    with service.bodies.held() as take:
        bodies.content_type(request, allowed=(bodies.JSON_TYPE,))
        body = await bodies.read_body(
            request, most=bodies.MAX_BATCH_BODY_BYTES, take=take
        )
        parse = partial(bodies.parse_json, body, BatchRequest)
        products = (await service.in_pool(parse)).products
        with service.admitted(len(products)):
            answers = await _while_wanted(request, _many(service, products))
    service.count([one for one in answers if isinstance(one, PriceAnswer)])
    return PricesAnswer(prices=answers)


async def _one(
    service: Service, kind: bodies.ContentType, body: bytes, *, explain: bool
) -> PriceAnswer:
    source = service.ready()
    if kind.name == bodies.FORM_TYPE:
        form = await bodies.parse_form(body, kind.boundary)
        read = partial(_form_product, form, source)
    else:
        read = partial(_json_product, body, source)
    product = await service.in_pool(read)
    if explain:
        return await service.explain(product)
    return (await service.price([product]))[0]


def _form_product(form: ProductForm, source: PriceSource) -> Product:
    return Product(
        text=form.text,
        photo=photos.thumbnail(form.photo, size=source.image_size, where="photo"),
        cells=_cells(form.table, source, where="table"),
        sample_id=form.sample_id,
    )


def _json_product(body: bytes, source: PriceSource) -> Product:
    return _product(bodies.parse_json(body, ProductRequest), source)


async def _many(
    service: Service, asked: list[Any]
) -> list[PriceAnswer | FailedProduct]:
    source = service.ready()
    reading = [
        asyncio.ensure_future(
            service.in_pool(partial(_read, one, source, where=f"products[{number}]"))
        )
        for number, one in enumerate(asked)
    ]
    try:
        products = await asyncio.gather(*reading)
    finally:  # a failed task does not end the others
        for task in reading:
            task.cancel()
    usable = [product for product in products if isinstance(product, Product)]
    prices = iter(await service.price(usable) if usable else ())
    return [
        next(prices) if isinstance(product, Product) else product
        for product in products
    ]


def _read(asked: Any, source: PriceSource, *, where: str) -> Product | FailedProduct:
    """Read a product of a batch, or say what is wrong with it."""
    try:
        try:
            request = ProductRequest.model_validate(asked)
        except ValidationError as error:
            raise of_validation(error, where=where) from None
        return _product(request, source, where=f"{where}.")
    except ApiError as error:
        given = asked.get("sample_id") if isinstance(asked, dict) else None
        return FailedProduct(
            sample_id=given if isinstance(given, str) else None,
            error=ErrorDetail(**error.body["error"]),
        )


def _product(
    request: ProductRequest, source: PriceSource, *, where: str = ""
) -> Product:
    place = f"{where}image"
    content = photos.from_base64(request.image, where=place)
    return Product(
        text=request.text,
        photo=photos.thumbnail(content, size=source.image_size, where=place),
        cells=_cells(request.table, source, where=f"{where}table"),
        sample_id=request.sample_id,
    )


def _cells(table: Table, source: PriceSource, *, where: str) -> dict[str, str]:
    try:
        return write_cells(source.table, table)
    except InputError as error:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            where=where,
            message=str(error),
            what_to_do="Use these names; /health lists them with their kinds.",
        ) from None


async def _while_wanted(request: Request, work: Coroutine[None, None, T]) -> T:
    """Wait for some work while the client does, `MAX_SECONDS` at most."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        done, _ = await asyncio.wait(
            (working, leaving),
            timeout=MAX_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if working in done:
            return working.result()
    finally:
        working.cancel()
        leaving.cancel()
    if leaving in done:
        raise ClientGoneError
    raise ApiError(
        HTTPStatus.GATEWAY_TIMEOUT,
        where="service",
        message=f"no answer within {MAX_SECONDS:g} s",
        what_to_do="Try again later, or send fewer products at a time.",
    )


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
