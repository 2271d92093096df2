"""One product's photo: decoded, repaired, cut to a thumbnail.

A photo that cannot be read raises `UnreadableImage`; it is never replaced by another
product's. No file, however it was made, takes more than bounded memory and time: what
would is refused from its header.
"""

import hashlib
import io
import os
import re
import stat
import threading
import traceback
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from embed.errors import UnreadableImage
from embed.photos.limits import (
    MAX_BYTES,
    MAX_PIXELS,
    check_exif,
    check_header,
    check_size,
    give_memory_back,
)
from embed.photos.pixels import square

# Photo formats only: of the others, EPS would start Ghostscript on a stranger's file.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_THUMBNAIL_QUALITY = 90
_LARGE_PIXELS = 4_000_000
_HUGE_PIXELS = 16_000_000  # each thread would keep the memory of one
_LARGE_PHOTO = threading.Lock()  # of the large ones, memory holds one at a time
_PILLOW_START = threading.Lock()
# Windows has neither flag, nor pipes in folders.
_PLAIN_ONLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


def load_image(path: Path, *, size: int) -> NDArray[np.uint8]:
    """Read one photo, whole, into the middle of a white square.

    Orientation from EXIF is applied, transparency is put on white, deep pixels are
    scaled to 8 bits, and of an animation the first frame is taken. Safe to call from
    several threads; the first call silences the warnings of Pillow in this process,
    because what they warn of is refused or repaired here.

    Parameters
    ----------
    path : Path
        A photo as downloaded; its suffix does not matter.
    size : int
        Side of the square, pixels; the photo's longest side is scaled to it.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        RGB, 0 to 255.

    Raises
    ------
    UnreadableImage
        If the file is missing, no regular file, a symbolic link (`embed.photos.index`
        follows those that stay in its folder), empty, truncated, no photo, or takes
        more than bounded memory and time: `MAX_BYTES`, `MAX_PIXELS` and below.
    ValueError
        If `size` is not positive.
    """
    _check_square(size)
    _silence_pillow()
    try:
        _check_plain(path, path.lstat())
        with open(path, "rb", opener=_open_plain) as file:
            _check_plain(path, os.fstat(file.fileno()))
            return _decode(file, size)
    except UnreadableImage:
        raise
    except Exception as error:  # on damaged bytes, decoders raise whatever they like
        raise _unreadable(error) from error


def decode_photo(content: bytes, *, size: int) -> NDArray[np.uint8]:
    """Decode a photo that is no file, as `load_image` does, within the same limits.

    Parameters
    ----------
    content : bytes
        Of a photo's file.
    size : int
        Side of the square, pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        RGB, 0 to 255.

    Raises
    ------
    UnreadableImage
        If it is empty, truncated, no photo, or takes too much memory or time.
    ValueError
        If `size` is not positive.
    """
    _check_square(size)
    _silence_pillow()
    try:
        _check_length(len(content))
        return _decode(io.BufferedReader(io.BytesIO(content)), size)
    except UnreadableImage:
        raise
    except Exception as error:  # on damaged bytes, decoders raise whatever they like
        raise _unreadable(error) from error


def encode_thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """Compress a thumbnail as JPEG, quality 90.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB, 0 to 255.

    Returns
    -------
    bytes
        The same bytes for the same pixels.

    Raises
    ------
    ValueError
        If `pixels` has another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"encode_thumbnail: pixels must be uint8 of shape (height, width, 3), "
            f"got {pixels.dtype} of shape {pixels.shape}"
        )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()


def thumbnail_sha256(data: bytes) -> str:
    """Return the sha256 (hex) of a thumbnail: equal for photos of equal pixels.

    Parameters
    ----------
    data : bytes
        From `encode_thumbnail`.
    """
    return hashlib.sha256(data).hexdigest()


def decode_thumbnail(data: bytes) -> NDArray[np.uint8]:
    """Undo `encode_thumbnail`, up to the loss of JPEG.

    Parameters
    ----------
    data : bytes
        From `encode_thumbnail`.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB, 0 to 255; writable.
    """
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as photo:
        return np.array(photo.convert("RGB"))


def as_stored(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a photo as training read it: by way of a stored JPEG, then resized.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    size : int
        Side of the result, pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
    """
    stored = Image.fromarray(decode_thumbnail(encode_thumbnail(pixels)))
    return np.asarray(stored.resize((size, size), Image.Resampling.BILINEAR))


def _silence_pillow() -> None:
    """Add one filter if it is not there: `catch_warnings` is not safe in threads."""
    if ("ignore", None, Warning, re.compile(r"PIL\."), 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _open_plain(path: str, flags: int) -> int:
    """Open for `open`, never waiting for a pipe's writer and following no link."""
    return os.open(path, flags | _PLAIN_ONLY)


def _check_plain(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        path.stat()  # a link that leads nowhere is a missing file
        raise UnreadableImage("a link that leads out of the images folder")
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("not a regular file")
    _check_length(status.st_size)


def _check_length(n_bytes: int) -> None:
    if n_bytes == 0:
        raise UnreadableImage("empty file")
    if n_bytes > MAX_BYTES:
        raise UnreadableImage(
            f"too large: {n_bytes} bytes, at most {MAX_BYTES} are read"
        )


def _check_square(size: int) -> None:
    if size < 1:
        raise ValueError(f"load_image: size must be at least 1 pixel, got {size}")


def _decode(file: io.BufferedReader, size: int) -> NDArray[np.uint8]:
    check_header(file)
    with Image.open(file, formats=_known_formats()) as photo:
        cost = check_size(photo)
        # A progressive photo is held whole, whatever the size it is decoded at.
        held = photo.width * photo.height if "progressive" in photo.info else 0
        # JPEG only: decodes at 1/2, 1/4 or 1/8, never below twice the final size.
        scale = 2 * size / max(photo.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in photo.size)
            photo.draft("RGB", (width, height))
        pixels = max(held, cost * photo.width * photo.height)
        if pixels <= _LARGE_PIXELS:
            return _load_square(photo, size)
        with _LARGE_PHOTO:
            try:
                return _load_square(photo, size)
            finally:
                if pixels > _HUGE_PIXELS:
                    photo.close()  # still holds its pixels
                    give_memory_back()


def _load_square(photo: Image.Image, size: int) -> NDArray[np.uint8]:
    try:
        photo.load()
        check_exif(photo)
        ImageOps.exif_transpose(photo, in_place=True)
        return square(photo, size)
    except Exception as error:
        # Pixels are in the decoder's frames, and those live as long as the error,
        # which is kept for the product.
        traceback.clear_frames(error.__traceback__)
        photo.close()
        raise


def _known_formats() -> list[str]:
    """Of ours, those this Pillow was built with; it raises KeyError for another."""
    # In the midst of Pillow's own start, another thread would see half of the formats.
    with _PILLOW_START:
        Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _unreadable(error: Exception) -> UnreadableImage:
    # The decoder's frames hold the file, and live as long as the error.
    traceback.clear_frames(error.__traceback__)
    return UnreadableImage(_reason(error))


def _reason(error: BaseException) -> str:
    """Say in a few words what was wrong; no path, `problems.csv` has the product."""
    if isinstance(error, UnidentifiedImageError):
        return "not a photo in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: at most {MAX_PIXELS} pixels are read"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    if isinstance(error, MemoryError):
        return "too large: not enough memory to decode it"
    if "truncated" in str(error).lower():
        return "truncated file"
    words = " ".join(str(error).split()) or type(error).__name__
    return f"damaged file: {words[:200]}"
