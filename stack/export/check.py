"""Whether an export prices as its run does."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunks import prepare_chunk
from embed.errors import InputError, UnreadableImage
from embed.photos.decode import decode_thumbnail
from embed.store.arrays import RaggedRows
from finetune.price_unit import PRICE_FLOOR, to_log_price
from stack.price.onnx_model import Model
from stack.price.predictor import Predictor
from stack.run import Run

MOST_DIFFERENCE = 1e-3
"""In log1p price: a thousandth of the price."""

_N_OF_EACH = 4
_NO_PHOTO = UnreadableImage("none given")
Photo = NDArray[np.uint8] | UnreadableImage


def check_export(run: Run, folder: Path) -> float:
    """Price some of the run's products by both, and refuse a difference.

    Parameters
    ----------
    run : Run
    folder : Path
        Of the export.

    Returns
    -------
    float
        The greatest difference found, log1p price in units of the run.

    Raises
    ------
    InputError
        If it is above `MOST_DIFFERENCE`, or the run's catalog is not there any more.
    """
    texts, photos = _some_products(run)
    predictor = Predictor(run.run_dir, exact=True)
    prices = predictor.price(
        prepare_chunk(texts, photos, decimal=predictor.config.decimal)
    )
    expected = to_log_price(prices, run.price_unit)
    found = exported_log_prices(Model(folder), texts, photos)
    greatest = float(np.abs(found - expected).max())
    if not greatest <= MOST_DIFFERENCE:
        raise InputError(
            f"{run.run_dir}: the exported model's log price differs from the run's by "
            f"up to {greatest:.2g} on {len(texts)} products, at most "
            f"{MOST_DIFFERENCE:g} is allowed. Nothing was written. --no-check writes "
            f"it all the same."
        )
    return greatest


def exported_log_prices(
    model: Model, texts: list[str], photos: list[Photo]
) -> NDArray[np.float64]:
    """Return log1p prices by an export, floored as prices are, shape (n_products,)."""
    found: list[float] = [
        model.log_price(text, None if isinstance(photo, UnreadableImage) else photo)
        for text, photo in zip(texts, photos, strict=True)
    ]
    return np.maximum(found, np.log1p(PRICE_FLOOR))


def _some_products(run: Run) -> tuple[list[str], list[Photo]]:
    """Take products with a photo and without, and one that has nothing at all."""
    catalog = run.catalog()
    image_ok = np.asarray(run.array("embed/image_ok"))
    run.array("embed/thumbnails")  # refused here if damaged
    thumbnails = RaggedRows(run.run_dir / "embed" / "thumbnails.npy")
    texts = ["", catalog.text[0]]
    photos: list[Photo] = [_NO_PHOTO, _NO_PHOTO]
    for rows in (np.flatnonzero(image_ok), np.flatnonzero(~image_ok)):
        for row in rows[:: max(1, len(rows) // _N_OF_EACH)][:_N_OF_EACH]:
            jpeg = thumbnails[int(row)].tobytes()
            texts.append(catalog.text[row])
            photos.append(decode_thumbnail(jpeg) if jpeg else _NO_PHOTO)
    return texts, photos
