"""The products that the page shows, with text, photo and prices."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embed.catalog.reader import Catalog
from embed.photos.decode import decode_thumbnail
from embed.text import compose_text, parse_fields
from stack.html_report.finished import Judged
from stack.run import Run

N_SHOWN = 20
TEXT_CHARS = 300
_PHOTO_SIZE = 192  # pixels; shown half as large, for dense screens
_PHOTO_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class ShownProduct:
    """A product as the page shows it; prices in catalog currency."""

    sample_id: str
    text: str
    photo: str | None
    """JPEG as a data URI."""

    price: float
    predicted: float
    low: float
    high: float
    within_20: float
    """Probability that the price is within 20 % of the true one."""

    error: float
    """SMAPE, 0 to 200."""

    @property
    def is_inside(self) -> bool:
        """True if the true price lies in the interval."""
        return self.low <= self.price <= self.high


def worst_products(error: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the places of the largest errors, largest first."""
    return np.argsort(-error, kind="stable")[:N_SHOWN]


def median_products(error: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the places of the errors around the median, smallest first."""
    start = max(0, (len(error) - N_SHOWN) // 2)
    return np.argsort(error, kind="stable")[start : start + N_SHOWN]


def show_products(
    places: NDArray[np.integer], *, judged: Judged, run: Run, catalog: Catalog
) -> list[ShownProduct]:
    """Collect the shown text, photo and prices of some products.

    Parameters
    ----------
    places : ndarray of int
        Places in `judged`, in the order to show.
    judged : Judged
    run : Run
        Run with the thumbnails.
    catalog : Catalog
        Catalog of the run.

    Raises
    ------
    CacheError
        If the thumbnails are damaged.
    """
    photos = photo_uris(run, judged.rows[places])
    return [
        ShownProduct(
            sample_id=str(catalog.sample_id[judged.rows[place]]),
            text=shorten(compose_text(parse_fields(catalog.text[judged.rows[place]]))),
            # A stand-in has a thumbnail too.
            photo=photo if judged.has_photo[place] else None,
            price=float(judged.price[place]),
            predicted=float(judged.predicted[place]),
            low=float(judged.low[place]),
            high=float(judged.high[place]),
            within_20=float(judged.within_20[place]),
            error=float(judged.error[place]),
        )
        for place, photo in zip(places.tolist(), photos, strict=True)
    ]


def shorten(text: str) -> str:
    """Return the first characters of a text, cut between words."""
    if len(text) <= TEXT_CHARS:
        return text
    return text[:TEXT_CHARS].rsplit(" ", 1)[0] + " \N{HORIZONTAL ELLIPSIS}"


def photo_uris(run: Run, rows: NDArray[np.integer]) -> list[str | None]:
    """Return the thumbnails of some rows as data URIs; None where there is none.

    Raises
    ------
    CacheError
        If the thumbnails are damaged.
    """
    thumbnails = run.thumbnails()
    jpegs = (thumbnails[row].tobytes() for row in rows)
    return [_data_uri(jpeg) if jpeg else None for jpeg in jpegs]


def _data_uri(jpeg: bytes) -> str:
    """Return a thumbnail as a data URI, small because the page has forty."""
    photo = Image.fromarray(decode_thumbnail(jpeg))
    photo.thumbnail((_PHOTO_SIZE, _PHOTO_SIZE))
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=_PHOTO_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
