"""The map of a photo: how the price changes without each part of it, as a PNG file.

The colours run from blue through none to orange, which people with red-green colour
blindness can distinguish. Each patch also shows its number.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embed.store.durable import write_bytes
from stack.explain.variants import patch_bounds

_SIDE = 560  # pixels of the map; a photo of 160 or 224 is enlarged
_LEGEND_HEIGHT = 52
_FALLS, _RISES = (0, 90, 181), (220, 110, 0)  # blue, orange
_STRONGEST = 0.6  # opacity of the largest change
_LEAST = 0.5  # percent at full colour, at least, so that noise stays pale


def write_image_map(
    path: Path, photo: NDArray[np.uint8], grid: Sequence[Sequence[float]]
) -> None:
    """Write the photo with its map over it, whole or not at all.

    Parameters
    ----------
    path : Path
        PNG file to write, whatever its suffix.
    photo : ndarray of uint8, shape (size, size, 3)
    grid : n rows of n numbers
        Change of the price in percent without each patch.
    """
    changes = np.array(grid)
    scale = max(float(np.abs(changes).max()), _LEAST)
    canvas = Image.new("RGB", (_SIDE, _SIDE + _LEGEND_HEIGHT), "white")
    enlarged = Image.fromarray(photo).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    canvas.paste(_shaded(enlarged, changes / scale))
    draw = ImageDraw.Draw(canvas)
    _write_numbers(draw, changes)
    _write_legend(draw, scale)
    content = io.BytesIO()
    canvas.save(content, "PNG")
    write_bytes(path, content.getvalue())


def _shaded(photo: Image.Image, strength: NDArray[np.float64]) -> Image.Image:
    """Lay a colour over each patch; strength is -1 to 1, and 0 leaves the photo."""
    pixels = np.asarray(photo, dtype=np.float64).copy()
    bounds = patch_bounds(_SIDE, len(strength))
    for (top, bottom), row in zip(bounds, strength, strict=True):
        for (left, right), value in zip(bounds, row, strict=True):
            colour = np.array(_FALLS if value < 0 else _RISES)
            opacity = _STRONGEST * abs(value)
            patch = pixels[top:bottom, left:right]
            pixels[top:bottom, left:right] = (1 - opacity) * patch + opacity * colour
    return Image.fromarray(np.round(pixels).astype(np.uint8))


def _write_numbers(draw: ImageDraw.ImageDraw, changes: NDArray[np.float64]) -> None:
    bounds = patch_bounds(_SIDE, len(changes))
    for (top, bottom), row in zip(bounds, changes, strict=True):
        for (left, right), change in zip(bounds, row, strict=True):
            draw.text(
                ((left + right) // 2, (top + bottom) // 2),
                f"{change:+.1f}",
                fill="black",
                anchor="mm",
                stroke_width=2,
                stroke_fill="white",
            )


def _write_legend(draw: ImageDraw.ImageDraw, scale: float) -> None:
    lines = (
        (_FALLS, "blue: the price falls if this part is white"),
        (_RISES, "orange: it rises"),
    )
    for line, (colour, words) in enumerate(lines):
        y = _SIDE + 6 + 15 * line
        draw.rectangle((6, y, 16, y + 10), fill=colour)
        draw.text((22, y), words, fill="black")
    words = f"numbers in percent of the price; full colour: {scale:.1f} %"
    draw.text((22, _SIDE + 36), words, fill="black")
