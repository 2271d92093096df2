"""Decode a product's photo and fit it into a thumbnail.

A photo that cannot be read raises `UnreadableImage`; it is never replaced by another
product's. A file whose header shows that decoding needs too much memory or time is
refused.
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

# Photo formats only: EPS, for example, would run Ghostscript on an untrusted file.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
NO_SHA256 = bytes(hashlib.sha256().digest_size)
"""In the place of a sha256, where there is no content."""

_THUMBNAIL_QUALITY = 90
_SMALLEST_CROP = 0.85  # of the side, for random crops in training
_LARGE_PIXELS = 4_000_000
_HUGE_PIXELS = 16_000_000  # from here on, decoders' memory is given back at once
_LARGE_PHOTO = threading.Lock()  # only one large photo is in memory at a time
_PILLOW_START = threading.Lock()
# Windows has neither these flags nor pipes in folders.
_PLAIN_ONLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


def load_image(path: Path, *, size: int) -> NDArray[np.uint8]:
    """Read one photo and centre it, uncropped, on a white square.

    Orientation from EXIF is applied, transparency becomes white, deep pixels are scaled
    to 8 bits, and only the first frame of an animation is read. The function is
    thread-safe. Its first call silences the warnings of Pillow in this process, because
    the files they concern are refused or repaired here.

    Parameters
    ----------
    path : Path
        File of the photo; its suffix does not matter.
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
        follows those that stay in its folder), empty, truncated, no photo, or above the
        limits of `embed.photos.limits`.
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


def photo_sha256(path: Path) -> bytes:
    """Return the sha256 of a photo's file; `NO_SHA256` if `load_image` refuses it.

    A file that is refused for its content, such as a truncated photo, has a sha256.
    """
    try:
        _check_plain(path, path.lstat())
        with open(path, "rb", opener=_open_plain) as file:
            _check_plain(path, os.fstat(file.fileno()))
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return NO_SHA256


def decode_photo(content: bytes, *, size: int) -> NDArray[np.uint8]:
    """Decode a photo in memory like `load_image`, within the same limits.

    Parameters
    ----------
    content : bytes
        Content of a photo's file.
    size : int
        Side of the square, pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        RGB, 0 to 255.

    Raises
    ------
    UnreadableImage
        If the content is empty, truncated, no photo, or above the limits.
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
        JPEG file; equal for equal pixels.

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
    """Return the sha256 (hex) of a thumbnail, which is equal for equal pixels.

    Parameters
    ----------
    data : bytes
        JPEG from `encode_thumbnail`.
    """
    return hashlib.sha256(data).hexdigest()


def decode_thumbnail(data: bytes) -> NDArray[np.uint8]:
    """Decode a thumbnail from `encode_thumbnail`.

    Parameters
    ----------
    data : bytes
        JPEG from `encode_thumbnail`.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB, 0 to 255; writable.
    """
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as photo:
        return np.array(photo.convert("RGB"))


def read_thumbnail(
    data: bytes, size: int, *, augment: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Decode a thumbnail and scale it for a network.

    Parameters
    ----------
    data : bytes
        JPEG from `encode_thumbnail` of a square.
    size : int
        Side of the result, pixels.
    augment : Generator, optional
        Crops and mirrors at random.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
    """
    photo = Image.open(io.BytesIO(data), formats=["JPEG"])
    side = photo.width
    box = (0.0, 0.0, float(side), float(side))
    mirror = False
    if augment is not None:
        crop = side * augment.uniform(_SMALLEST_CROP, 1)
        left, top = augment.uniform(0, side - crop, size=2)
        box = (left, top, left + crop, top + crop)
        mirror = bool(augment.random() < 0.5)
    pixels = np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if mirror else pixels


def as_stored(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a square photo as training reads it: compressed, decoded and scaled."""
    return read_thumbnail(encode_thumbnail(pixels), size)


def _silence_pillow() -> None:
    """Add a warning filter once; `catch_warnings` is not thread-safe."""
    if ("ignore", None, Warning, re.compile(r"PIL\."), 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _open_plain(path: str, flags: int) -> int:
    """Open a file without waiting for a pipe's writer or following a link."""
    return os.open(path, flags | _PLAIN_ONLY)


def _check_plain(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        path.stat()  # raises FileNotFoundError for a broken link
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
        # A progressive photo is in memory at full size, even if it is decoded smaller.
        is_progressive = "progressive" in photo.info
        full_pixels = photo.width * photo.height if is_progressive else 0
        # `draft` decodes a JPEG at 1/2, 1/4 or 1/8, at least twice the final size.
        scale = 2 * size / max(photo.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in photo.size)
            photo.draft("RGB", (width, height))
        pixels = max(full_pixels, cost * photo.width * photo.height)
        if pixels <= _LARGE_PIXELS:
            return _load_square(photo, size)
        with _LARGE_PHOTO:
            try:
                return _load_square(photo, size)
            finally:
                if pixels > _HUGE_PIXELS:
                    photo.close()  # frees the pixels
                    give_memory_back()


def _load_square(photo: Image.Image, size: int) -> NDArray[np.uint8]:
    try:
        photo.load()
        check_exif(photo)
        ImageOps.exif_transpose(photo, in_place=True)
        return square(photo, size)
    except Exception as error:
        # The error is stored for the product, and its frames would keep the pixels.
        traceback.clear_frames(error.__traceback__)
        photo.close()
        raise


def _known_formats() -> list[str]:
    """Return the formats that this Pillow supports; it raises KeyError for others."""
    # While Pillow initialises, another thread would find only some of the formats.
    with _PILLOW_START:
        Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _unreadable(error: Exception) -> UnreadableImage:
    # The error's frames would keep the file open.
    traceback.clear_frames(error.__traceback__)
    return UnreadableImage(_reason(error))


def _reason(error: BaseException) -> str:
    """Describe an error in a few words, without the path, for `problems.csv`."""
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
