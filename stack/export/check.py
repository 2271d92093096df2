"""Check that an export predicts the same prices as its run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunks import NO_PHOTO_GIVEN, Photo, prepare_chunk
from embed.errors import InputError, UnreadableImage
from embed.photos.decode import decode_thumbnail
from finetune.price_unit import PRICE_FLOOR, to_log_price
from stack.price.onnx_model import Model
from stack.price.predictor import Predictor
from stack.run import Run

MOST_DIFFERENCE = 1e-3
"""Largest allowed difference in log1p price: a thousandth of the price."""

_N_PER_KIND = 4
_UNUSABLE = "no number, no date, new"


def check_export(run: Run, folder: Path) -> float:
    """Price some of the run's products with both, and raise if they differ.

    Parameters
    ----------
    run : Run
    folder : Path
        Folder of the export.

    Returns
    -------
    float
        The largest difference in log1p price, units of the run.

    Raises
    ------
    InputError
        If it is above `MOST_DIFFERENCE`, or the run's catalog is missing.
    """
    texts, photos, cells = _some_products(run)
    predictor = Predictor(run.run_dir, exact=True)
    chunk = prepare_chunk(
        texts,
        photos,
        decimal=predictor.config.decimal,
        table=run.embed.table,
        cells=cells,
    )
    expected = to_log_price(predictor.price(chunk), run.price_unit)
    exported = exported_log_prices(Model(folder), texts, photos, cells)
    greatest = float(np.abs(exported - expected).max())
    if not greatest <= MOST_DIFFERENCE:
        raise InputError(
            f"{run.run_dir}: the exported model's log price differs from the run's by "
            f"up to {greatest:.2g} on {len(texts)} products, at most "
            f"{MOST_DIFFERENCE:g} is allowed. Nothing was written. --no-check writes "
            f"it all the same."
        )
    return greatest


def exported_log_prices(
    model: Model,
    texts: Sequence[str],
    photos: Sequence[Photo],
    cells: Mapping[str, Sequence[str]] | None = None,
) -> NDArray[np.float64]:
    """Return an export's log1p prices with the floor of prices, shape (n_products,)."""
    log_prices: list[float] = [
        model.log_price(
            text,
            None if isinstance(photo, UnreadableImage) else photo,
            {name: column[row] for name, column in (cells or {}).items()},
        )
        for row, (text, photo) in enumerate(zip(texts, photos, strict=True))
    ]
    return np.maximum(log_prices, np.log1p(PRICE_FLOOR))


def _some_products(run: Run) -> tuple[list[str], list[Photo], dict[str, list[str]]]:
    """Return texts, photos and table cells of products.

    Some have a photo; one has no input at all, and one has no usable table cell.
    """
    catalog = run.catalog()
    image_ok = np.asarray(run.array("embed/image_ok"))
    thumbnails = run.thumbnails()
    texts = ["", catalog.text[0]]
    photos: list[Photo] = [NO_PHOTO_GIVEN, NO_PHOTO_GIVEN]
    cells = {name: ["", _UNUSABLE] for name in catalog.table}
    for rows in (np.flatnonzero(image_ok), np.flatnonzero(~image_ok)):
        for row in rows[:: max(1, len(rows) // _N_PER_KIND)][:_N_PER_KIND]:
            jpeg = thumbnails[int(row)].tobytes()
            texts.append(catalog.text[row])
            photos.append(decode_thumbnail(jpeg) if jpeg else NO_PHOTO_GIVEN)
            for name, column in catalog.table.items():
                cells[name].append(column[row])
    return texts, photos, cells
