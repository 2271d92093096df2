"""Convert a decoded photo of any mode to an RGB square, with little extra memory.

Pixel formats follow the Pillow handbook, https://pillow.readthedocs.io.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_REDUCING_GAP = 3.0
_STRIP_PIXELS = 1 << 20


def square(photo: Image.Image, size: int) -> NDArray[np.uint8]:
    """Scale a photo's longest side to `size` and centre the photo on white.

    Parameters
    ----------
    photo : Image
        Upright photo of any mode.
    size : int
        Side of the square, pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        RGB, 0 to 255; transparency becomes white, deep pixels are scaled to 8 bits.
    """
    scale = size / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    factor = (
        max(1, int(photo.width / width / _REDUCING_GAP)),
        max(1, int(photo.height / height / _REDUCING_GAP)),
    )
    box = (0, 0, photo.width / factor[0], photo.height / factor[1])
    fitted = _reduced_rgb(photo, factor).resize(
        (width, height), Image.Resampling.BICUBIC, box=box
    )
    page = Image.new("RGB", (size, size), "white")
    page.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return np.array(page)


def _reduced_rgb(photo: Image.Image, factor: tuple[int, int]) -> Image.Image:
    """Convert and shrink by whole factors, in strips to copy no large photo."""
    if factor == (1, 1) and photo.mode == "RGB" and not photo.has_transparency_data:
        return photo
    white = _white_level(photo) if _is_deep(photo) else 0.0
    width, height = (
        -(-side // by) for side, by in zip(photo.size, factor, strict=True)
    )
    page = Image.new("RGB", (width, height))
    for top, strip in _strips(photo, factor[1]):
        page.paste(_to_rgb(strip, white).reduce(factor), (0, top // factor[1]))
    return page


def _strips(photo: Image.Image, step: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips of about `_STRIP_PIXELS`, each of a multiple of `step` rows."""
    rows = max(1, _STRIP_PIXELS // photo.width // step) * step
    for top in range(0, photo.height, rows):
        bottom = min(top + rows, photo.height)
        yield top, photo.crop((0, top, photo.width, bottom))


def _to_rgb(photo: Image.Image, white: float) -> Image.Image:
    """Convert any mode to RGB, with white for transparency."""
    if _is_deep(photo):
        photo = _scale_to_8_bits(photo, white)
    if not photo.has_transparency_data:
        return photo.convert("RGB")
    layer = photo.convert("RGBA")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer.getchannel("A"))
    return page


def _is_deep(photo: Image.Image) -> bool:
    """Tell whether grey has more than 8 bits, which `Image.convert` clips at 255."""
    return photo.mode in ("I", "F") or photo.mode.startswith("I;16")


def _white_level(photo: Image.Image) -> float:
    """Return the value of full white.

    It is 65535 for integers and 1 or 255 for floats, or the brightest pixel if larger.
    """
    peak = max(float(_values(strip).max()) for _, strip in _strips(photo, 1))
    whites = (1.0, 255.0) if photo.mode == "F" else (65535.0,)
    return next((white for white in whites if peak <= white), peak)


def _values(photo: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(photo, np.float64), posinf=0.0, neginf=0.0)


def _scale_to_8_bits(photo: Image.Image, white: float) -> Image.Image:
    values = _values(photo)
    grey = np.rint(values.clip(0) * (255 / white)).astype(np.uint8)
    transparent = photo.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)
