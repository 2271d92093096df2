"""Error answers of the service: one form, without traceback or path."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

_REMEDIES = {
    "missing": "Add the field.",
    "extra_forbidden": "Leave it out.",
    "string_too_long": "Shorten it.",
    "too_long": "Send fewer at a time.",
    "too_short": "Send at least one.",
    "json_invalid": "Send one JSON object, in UTF-8.",
}
_SEE = "See /docs for the fields and their types."


class ApiError(Exception):
    """An error answer for a client.

    Parameters
    ----------
    status : int
        HTTP status.
    where : str
        Field, header or part of the request, e.g. ``products[3].image``.
    message : str
        Value found, and the rule.
    what_to_do : str
    headers : mapping of str to str, optional
    """

    def __init__(
        self,
        status: int,
        *,
        where: str,
        message: str,
        what_to_do: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {
            "error": {"where": where, "message": message, "what_to_do": what_to_do}
        }

    def response(self) -> JSONResponse:
        """Return the answer to send."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def of_validation(
    error: ValidationError | RequestValidationError, *, where: str = ""
) -> ApiError:
    """Return the answer for the first wrong field of a request, or of its part."""
    first: ErrorDetails = error.errors()[0]
    n_more = len(error.errors()) - 1
    message = first["msg"]
    return ApiError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        where=place((where, *first["loc"]) if where else first["loc"]),
        message=f"{message} ({n_more} more problems)" if n_more else message,
        what_to_do=_REMEDIES.get(first["type"], _SEE),
    )


def place(location: tuple[int | str, ...]) -> str:
    """Write a field's place as JavaScript would: ``products[3].image``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:80]}"
    return text.lstrip(".") or "body"


def of_http(error: HTTPException) -> ApiError:
    """Convert an error of the router, such as an unknown path."""
    is_path = error.status_code == HTTPStatus.NOT_FOUND
    return ApiError(
        error.status_code,
        where="path" if is_path else "request",
        message=HTTPStatus(error.status_code).phrase,
        what_to_do="See /docs for the endpoints.",
        headers=error.headers,
    )


def unexpected() -> ApiError:
    """Return the answer to a fault of the service itself."""
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        where="service",
        message="this request could not be answered",
        what_to_do="Try another product; the log of the service has the reason.",
    )


def busy(retry_after_s: int, *, close: bool = False) -> ApiError:
    """Return the answer when the queue is full.

    `close` ends the connection, so that the rest of the request is not read.
    """
    headers = {"Retry-After": str(retry_after_s)}
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        where="service",
        message="too many products wait already",
        what_to_do=f"Try again in {retry_after_s} s.",
        headers=headers | ({"Connection": "close"} if close else {}),
    )


def foreign_host(host: str) -> ApiError:
    """Return the answer to a request for a host that is not this machine."""
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        where="host",
        message=f"must be 127.0.0.1, localhost or [::1], found {host[:80]!r}",
        what_to_do="Use one of these; a proxy in front must send one as Host.",
    )


def no_key() -> ApiError:
    """Return the answer to a request without the key of the service."""
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        where="header Authorization",
        message="must be Bearer and the key of the service",
        what_to_do="Send it; who runs the service has the key (--api-key-file).",
        headers={"WWW-Authenticate": "Bearer"},
    )


def not_ready() -> ApiError:
    """Return the answer while the run is being loaded."""
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        where="service",
        message="the run is still being loaded",
        what_to_do="Try again when the status of /health is ready.",
        headers={"Retry-After": "5"},
    )


def no_explanations() -> ApiError:
    """Return the answer if a price can be predicted but not explained."""
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        where="query.explain",
        message="prices cannot be explained: a file of the run is missing or damaged",
        what_to_do="Ask without explain; the log of the service has the reason.",
    )
