"""Bodies of requests, read within limits, and the fields in them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from stack.service.batching import Full
from stack.service.errors import ApiError, busy, of_validation
from stack.service.schemas import ProductForm

JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data"

MAX_PHOTO_BYTES = 12_000_000
MAX_BODY_BYTES = 18_000_000
"""Largest body of one product: its photo in base64 and the longest text, escaped."""
MAX_BATCH_BODY_BYTES = 64_000_000
MAX_BODY_SECONDS = 30.0
_DISCARD_BYTES = 64_000_000
_MAX_PARTS = 8
_PIECE_BYTES = 2**16

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class ContentType:
    """Fields of the header Content-Type."""

    name: str
    boundary: bytes | None


def content_type(request: Request, *, allowed: tuple[str, ...]) -> ContentType:
    """Read the header Content-Type.

    Raises
    ------
    ApiError
        415 if it is missing or not allowed, for a charset other than UTF-8, and for
        compressed bodies.
    """
    name, options = parse_options_header(request.headers.get("content-type"))
    media_type = name.decode("latin-1")
    encoding = request.headers.get("content-encoding", "identity")
    charset = options.get(b"charset", b"utf-8").lower()
    if media_type not in allowed or (
        media_type == FORM_TYPE and b"boundary" not in options
    ):
        raise _unsupported("content-type", media_type or "none", " or ".join(allowed))
    if charset not in (b"utf-8", b"utf8"):
        raise _unsupported("content-type", charset.decode("latin-1"), "charset utf-8")
    if encoding != "identity":
        raise _unsupported("content-encoding", encoding, "no compression")
    return ContentType(name=media_type, boundary=options.get(b"boundary"))


def _unsupported(where: str, value: str, rule: str) -> ApiError:
    return ApiError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        where=where,
        message=f"must be {rule}, found {value[:80]!r}",
        what_to_do=f"Send {rule}.",
    )


async def read_body(
    request: Request, *, most: int, take: Callable[[int], None]
) -> bytes:
    """Read a body whole.

    Parameters
    ----------
    request : Request
    most : int
        Largest number of bytes.
    take : callable
        Function from `Room.held`.

    Raises
    ------
    ApiError
        413 if the body is longer, 408 if it takes longer than `MAX_BODY_SECONDS`, 503
        if the budget has too little left.
    """
    announced = int(request.headers.get("content-length", 0))
    waits = request.headers.get("expect", "").lower() == "100-continue"
    if announced > most and waits:
        raise too_large("body", announced, most)
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            body, n_bytes = await _read(request, most, take)
    except TimeoutError:
        raise _too_slow() from None
    except Full:
        raise busy(5, close=True) from None
    if n_bytes > most:
        raise too_large("body", max(announced, n_bytes), most)
    return body


async def _read(
    request: Request, most: int, take: Callable[[int], None]
) -> tuple[bytes, int]:
    """Read a body; read on beyond the limit for a while, and drop the rest.

    Most clients read an answer only after they have sent everything.
    """
    body, n_bytes = bytearray(), 0
    async for piece in request.stream():
        n_bytes += len(piece)
        if n_bytes <= most:
            take(len(piece))
            body += piece
        elif n_bytes > most + _DISCARD_BYTES:
            break
    return bytes(body), n_bytes


def too_large(where: str, n_bytes: int, most: int) -> ApiError:
    """Return the answer to a body or photo of too many bytes."""
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        where=where,
        message=f"too large: {n_bytes} bytes, at most {most} are read",
        what_to_do="Send a smaller photo, or fewer products at a time.",
        # The rest of the body would be read as the next request.
        headers={"Connection": "close"},
    )


def _too_slow() -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_TIMEOUT,
        where="body",
        message=f"did not arrive within {MAX_BODY_SECONDS:g} s",
        what_to_do="Send a smaller body, or use a faster connection.",
        headers={"Connection": "close"},
    )


def parse_json(body: bytes, model: type[Model]) -> Model:
    """Read a JSON object.

    Raises
    ------
    ApiError
        422 if it is not JSON in UTF-8, or its fields are not the model's.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from None


async def parse_form(body: bytes, boundary: bytes | None) -> ProductForm:
    """Read a form: its fields, and its photo if it has one.

    Raises
    ------
    ApiError
        422 if it is damaged, not in UTF-8, or has other fields.
    """
    fields: dict[str, str | bytes] = {}
    for raw_name, content in await _parts(body, boundary or b""):
        name = raw_name.decode("utf-8", "replace")
        if name in fields:
            raise _bad_form(name, "occurs twice")
        fields[name] = content if name == "photo" else _decoded(name, content)
    try:
        return ProductForm.model_validate(fields)
    except ValidationError as error:
        raise of_validation(error) from None


async def _parts(body: bytes, boundary: bytes) -> list[tuple[bytes, bytes]]:
    """Return the name and the content of each part of a form."""
    # The parser drops a part that was cut.
    if b"\r\n--%s--" % boundary not in b"\r\n" + body:
        raise _bad_form("body", "damaged form: it ends before its last boundary")
    # As latin-1, no byte is lost: the parser would replace what is not UTF-8.
    header = b'%s; boundary="%s"; charset=latin-1' % (FORM_TYPE.encode(), boundary)
    parser = MultiPartParser(
        Headers(raw=[(b"content-type", header)]),
        _pieces(body),
        max_files=_MAX_PARTS,
        max_fields=_MAX_PARTS,
        max_part_size=len(body),
    )
    parser.spool_max_size = len(body)  # in memory, because the body is there already
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _bad_form("body", f"damaged form: {error.message}") from None
    parts = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            content = await value.read()
            if not (content or value.filename):
                continue  # a browser's form without a photo
        else:
            content = value.encode("latin-1")
        parts.append((name.encode("latin-1"), content))
    await form.close()
    return parts


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
        await asyncio.sleep(0)  # let other requests go on


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad_form(name, f"not UTF-8: {error.reason}") from None


def _bad_form(where: str, message: str) -> ApiError:
    return ApiError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        where=where[:80],
        message=message,
        what_to_do="Send a form with the field text and, optionally, photo and table.",
    )
