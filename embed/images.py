"""One product's photo: found in a folder, decoded, repaired, cut to a thumbnail.

A photo that cannot be read raises `UnreadableImage`; it is never replaced by another
product's. Pixel formats follow the Pillow handbook, https://pillow.readthedocs.io.
"""

import io
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from embed.catalog import Catalog, CatalogError

MAX_PIXELS = 50_000_000
"""More is refused from the header: decoding takes 4 bytes a pixel and more."""

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".jp2", ".avif",
})
# fmt: on

# Photo formats only: of the others, EPS would start Ghostscript on a stranger's file.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_THUMBNAIL_QUALITY = 90
_PILLOW_START = threading.Lock()
_PILLOW_RAISES_ON_BAD_INPUT = (
    OSError,  # EOF, truncation and UnidentifiedImageError among others
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,  # AVIF
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadableImage(ValueError):
    """A photo that cannot be used; the message is the reason in a few words."""


def index_images(images_dir: Path) -> dict[str, Path]:
    """List a folder of photos, sub folders included, once.

    Parameters
    ----------
    images_dir : Path
        Folder of downloaded photos.

    Returns
    -------
    dict of str to Path
        Each file's name, and each image file's name without suffix. Names are
        case-sensitive; of two files with one name the shallower, then the
        alphabetically first, is kept, and a full name beats a shortened one.

    Raises
    ------
    CatalogError
        If the folder does not exist.
    """
    if not images_dir.is_dir():
        raise CatalogError(
            f"--images {str(images_dir)!r}: must be an existing folder, found "
            f"{'a file' if images_dir.exists() else 'nothing'}. Give the folder that "
            f"holds the downloaded photos, or leave --images out to use text only."
        )
    paths = [
        Path(folder, name) for folder, _, names in os.walk(images_dir) for name in names
    ]
    paths.sort(key=lambda path: (len(path.parts), path))
    index: dict[str, Path] = {}
    for path in paths:
        index.setdefault(path.name, path)
    for path in paths:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            index.setdefault(path.stem, path)
    return index


def find_image(
    index: dict[str, Path], *, image_link: str, sample_id: str
) -> Path | None:
    """Find a product's photo by its link, else by its id.

    Parameters
    ----------
    index : dict of str to Path
        From `index_images`. Only its keys are looked up, so that no link, whatever
        it holds, leads out of the folder.
    image_link : str
        URL or path; its last part counts, without query string, as written or with
        percent escapes resolved. May be empty.
    sample_id : str
        The file ``<sample_id>.<any image suffix>`` stands in when the link has none.

    Returns
    -------
    Path or None
        None if the folder has no such photo.
    """
    last_part = re.split(r"[?#]", image_link.strip(), maxsplit=1)[0].rpartition("/")[2]
    for name in (last_part, unquote(last_part), sample_id):
        if name and name in index:
            return index[name]
    return None


def find_photos(catalog: Catalog, images_dir: Path | None) -> tuple[Path | None, ...]:
    """Find the photo of each product; None where the folder has none.

    Raises
    ------
    CatalogError
        If the folder does not exist.
    """
    index = index_images(images_dir) if images_dir else {}
    return tuple(
        find_image(index, image_link=link, sample_id=str(sample_id))
        for link, sample_id in zip(catalog.image_link, catalog.sample_id, strict=True)
    )


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
        If the file is missing, no regular file, empty, truncated, no photo, or larger
        than `MAX_PIXELS`.
    ValueError
        If `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"load_image: size must be at least 1 pixel, got {size}")
    _silence_pillow()
    try:
        _check_regular_file(path)
        with path.open("rb") as file:
            return _decode(file, size)
    except UnreadableImage:
        raise
    except _PILLOW_RAISES_ON_BAD_INPUT as error:
        raise UnreadableImage(_reason(error)) from error


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


def _silence_pillow() -> None:
    """Add one filter if it is not there: `catch_warnings` is not safe in threads."""
    if ("ignore", None, Warning, re.compile(r"PIL\."), 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _check_regular_file(path: Path) -> None:
    """Before opening: to open a pipe would wait for its writer for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("not a regular file")
    if status.st_size == 0:
        raise UnreadableImage("empty file")


def _decode(file: io.BufferedReader, size: int) -> NDArray[np.uint8]:
    with Image.open(file, formats=_known_formats()) as photo:
        width, height = photo.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(
                f"too large: {width} x {height}, at most {MAX_PIXELS} pixels are read"
            )
        # JPEG only: decodes at 1/2, 1/4 or 1/8, never below twice the final size.
        scale = 2 * size / max(width, height)
        if scale < 1:
            photo.draft(
                "RGB", (max(1, round(width * scale)), max(1, round(height * scale)))
            )
        upright = ImageOps.exif_transpose(photo)
    return _pad(_to_rgb(upright), size)


def _known_formats() -> list[str]:
    """Of ours, those this Pillow was built with; it raises KeyError for another."""
    # In the midst of Pillow's own start, another thread would see half of the formats.
    with _PILLOW_START:
        Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _to_rgb(photo: Image.Image) -> Image.Image:
    """Convert any mode, transparency on white."""
    if photo.mode in ("I", "F") or photo.mode.startswith("I;16"):
        photo = _scale_to_8_bits(photo)
    if not photo.has_transparency_data:
        return photo.convert("RGB")
    layer = photo.convert("RGBA")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer.getchannel("A"))
    return page


def _scale_to_8_bits(photo: Image.Image) -> Image.Image:
    """Scale grey values, which `Image.convert` would clip at 255.

    Full white is 65535 for integers, 1 or 255 for floats, the brightest pixel if that
    is more.
    """
    values = np.nan_to_num(np.asarray(photo, np.float64), posinf=0.0, neginf=0.0)
    peak = float(values.max())
    whites = (1.0, 255.0) if photo.mode == "F" else (65535.0,)
    white = next((white for white in whites if peak <= white), peak)
    return Image.fromarray(np.rint(values.clip(0) * (255 / white)).astype(np.uint8))


def _pad(photo: Image.Image, size: int) -> NDArray[np.uint8]:
    """Fit the longest side to `size` and centre on white."""
    scale = size / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    fitted = photo.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    page = Image.new("RGB", (size, size), "white")
    page.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return np.array(page)


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
    if "truncated" in str(error).lower():
        return "truncated file"
    return f"damaged file: {str(error) or type(error).__name__}"
