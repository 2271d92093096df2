"""Draw the photos of the sample: a silhouette, a colour and white dots."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

_PHOTO_SIDE = 320
_OVERSAMPLING = 2

Colour = tuple[int, int, int]
Outline = tuple[tuple[float, float], ...]


def _oval(x: float, y: float, x_radius: float, y_radius: float) -> Outline:
    angles = (2 * math.pi * i / 48 for i in range(48))
    return tuple(
        (x + x_radius * math.cos(a), y + y_radius * math.sin(a)) for a in angles
    )


def _box(left: float, top: float, right: float, bottom: float) -> Outline:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


# Outlines in the unit square, y downwards, each with its brightness factor.
_PANEL = (0.55, _box(0.38, 0.48, 0.62, 0.92))
# fmt: off
_COLOURS: dict[str, Colour] = {
    "grey": (128, 130, 134), "blue": (38, 84, 190), "green": (34, 140, 66),
    "red": (200, 36, 40), "gold": (226, 168, 24),
}
_SILHOUETTES: dict[str, tuple[tuple[float, Outline], ...]] = {
    "Soup": (
        (1.0, _oval(0.5, 0.90, 0.32, 0.07)),
        (1.0, _box(0.18, 0.13, 0.82, 0.90)),
        (0.7, _oval(0.5, 0.13, 0.32, 0.07)),
    ),
    "Juice": (
        (1.0, _box(0.23, 0.32, 0.77, 0.96)),
        (0.8, ((0.23, 0.32), (0.34, 0.12), (0.66, 0.12), (0.77, 0.32))),
        (0.6, _box(0.34, 0.05, 0.66, 0.12)),
    ),
    "Crackers": (
        (1.0, _box(0.16, 0.18, 0.78, 0.96)),
        (0.7, ((0.78, 0.18), (0.90, 0.08), (0.90, 0.86), (0.78, 0.96))),
        (0.85, ((0.16, 0.18), (0.28, 0.08), (0.90, 0.08), (0.78, 0.18))),
    ),
    "Ice Cream": (
        (1.0, ((0.07, 0.34), (0.93, 0.34), (0.80, 0.96), (0.20, 0.96))),
        (0.6, _box(0.03, 0.25, 0.97, 0.35)),
    ),
    "Honey": (
        (1.0, ((0.28, 0.22), (0.72, 0.22), (0.86, 0.36), (0.86, 0.86),
               (0.78, 0.96), (0.22, 0.96), (0.14, 0.86), (0.14, 0.36))),
        (0.5, _box(0.25, 0.08, 0.75, 0.22)),
    ),
    "Coffee": (
        (1.0, ((0.27, 0.10), (0.73, 0.10), (0.88, 0.96), (0.12, 0.96))),
        (0.6, _box(0.24, 0.05, 0.76, 0.13)),
    ),
    "Olive Oil": (
        (1.0, ((0.42, 0.14), (0.58, 0.14), (0.58, 0.28), (0.74, 0.42),
               (0.74, 0.96), (0.26, 0.96), (0.26, 0.42), (0.42, 0.28))),
        (0.4, _box(0.41, 0.04, 0.59, 0.14)),
    ),
    "Hand Cream": (
        (1.0, ((0.16, 0.06), (0.84, 0.06), (0.66, 0.93), (0.34, 0.93))),
        (0.7, _box(0.16, 0.05, 0.84, 0.12)),
        (0.4, _box(0.38, 0.93, 0.62, 0.99)),
    ),
}
# fmt: on


def draw_photo(category: str, finish: str, *, n_dots: int, pose: int) -> Image.Image:
    """Draw a product's photo.

    Parameters
    ----------
    category : str
        Category, which sets the silhouette.
    finish : str
        Finish, which sets the colour.
    n_dots : int
        Number of white dots on the front.
    pose : int
        Seed of place, scale and light.

    Returns
    -------
    PIL.Image.Image
        RGB photo, 320 x 320 pixels, on a nearly white ground.
    """
    rng = np.random.default_rng(pose)
    side = _PHOTO_SIDE * _OVERSAMPLING
    ground = int(rng.integers(240, 256))
    scale, light = rng.uniform(0.86, 0.98), rng.uniform(0.88, 1.08)
    corner = 0.5 - scale / 2 + rng.uniform(-0.02, 0.02, 2)
    page = Image.new("RGB", (side, side), (ground, ground, ground))
    pen = ImageDraw.Draw(page)

    def fill(outline: Outline, colour: Colour) -> None:
        pen.polygon(
            [tuple(side * (corner + scale * np.array(p))) for p in outline], colour
        )

    body = _shade(_COLOURS[finish], light)
    for shade, outline in (*_SILHOUETTES[category], _PANEL):
        fill(outline, _shade(body, shade))
    for dot in range(n_dots):
        fill(_oval(0.5, 0.57 + 0.135 * dot, 0.057, 0.057), (255, 255, 255))
    return page.reduce(_OVERSAMPLING)


def encode_photo(photo: Image.Image) -> bytes:
    """Compress a drawn photo as JPEG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(factor * channel)) for channel in colour)
    return red, green, blue
