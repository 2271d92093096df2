"""Photos of requests: decoded from base64 and made into thumbnails."""

import base64
import binascii
from http import HTTPStatus

from embed.chunks import NO_PHOTO_GIVEN, Photo
from embed.errors import UnreadableImage
from embed.photos.decode import decode_photo
from stack.service.bodies import MAX_PHOTO_BYTES, too_large
from stack.service.errors import ApiError


def from_base64(image: str | None, *, where: str) -> bytes | None:
    """Decode base64.

    Raises
    ------
    ApiError
        422 if it is empty or not base64.
    """
    if image is None:
        return None
    try:
        content = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            where=where,
            message=f"must be a photo in base64, found {image[:20]!r}",
            what_to_do="Send the base64 alone, without `data:` before it; leave the "
            "field out if there is no photo.",
        )
    return content


def thumbnail(content: bytes | None, *, size: int, where: str) -> Photo:
    """Decode a photo, if there is one.

    Raises
    ------
    ApiError
        413 if it is longer than `MAX_PHOTO_BYTES`, 422 if it cannot be read: a client
        that sends a photo does not expect a price without it.
    """
    if content is None:
        return NO_PHOTO_GIVEN
    if len(content) > MAX_PHOTO_BYTES:
        raise too_large(where, len(content), MAX_PHOTO_BYTES)
    try:
        return decode_photo(content, size=size)
    except UnreadableImage as problem:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            where=where,
            message=f"the photo cannot be read: {problem}",
            what_to_do="Send another photo (JPEG, PNG or WebP), or none.",
        ) from None
