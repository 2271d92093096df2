"""Price the products of a catalog with a finished run, to a CSV file."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.amounts import csv_amount
from embed.catalog import Catalog
from embed.chunks import prepared_chunks
from embed.durable import write_bytes
from embed.errors import UnreadableImage
from embed.progress import track
from embed.text import MISSING_TEXT
from finetune.price_unit import to_price
from stack.predict import Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogPrices:
    """Prices of a catalog's products; row i is row i of the catalog."""

    price: NDArray[np.float64]
    """Catalog currency, finite and above 0, shape (n_products,)."""

    price_low: NDArray[np.float64]
    """Low end of each prediction interval."""

    price_high: NDArray[np.float64]
    """High end of each prediction interval."""

    substituted: dict[str, int]
    """Products without usable text or photo, by field."""


def predict_prices(
    run_dir: Path,
    catalog: Catalog,
    *,
    images_dir: Path | None,
    level: int = 90,
    n_threads: int = 2,
    only_fold: int | None = None,
) -> CatalogPrices:
    """Price the products of a catalog, in bounded memory.

    Parameters
    ----------
    run_dir : Path
        With all three stages finished.
    catalog : Catalog
        Prices in it are not read.
    images_dir : Path, optional
        Folder of the photos.
    level : int
        Of the prediction intervals: 80 or 90, percent.
    n_threads : int
        Threads for arithmetic.
    only_fold : int, optional
        Price by what was trained for this fold alone.

    Raises
    ------
    CacheError, WeightsError
        If the run is not whole, or its encoders are not to be found any more.
    ConfigError
        If there are no intervals of that level, or no such fold.
    """
    folds = None if only_fold is None else [only_fold]
    predictor = Predictor(run_dir, n_threads=n_threads, folds=folds)
    inputs = predictor.inputs(catalog, images_dir)
    log_price = np.zeros(catalog.n_products)
    substituted = {"text": 0, "image": 0}
    for chunk in track(
        ((len(c.rows), c) for c in prepared_chunks(inputs, predictor.config, 0)),
        total=catalog.n_products,
        label="predict",
        unit="products",
    ):
        rows = slice(chunk.rows.start, chunk.rows.stop)
        log_price[rows] = predictor.predict(chunk).log_price
        substituted["text"] += sum(text == MISSING_TEXT for text in chunk.texts)
        substituted["image"] += sum(
            isinstance(photo, UnreadableImage) for photo in chunk.thumbnails
        )
    low, high = predictor.intervals.bounds(log_price, level=level)
    return CatalogPrices(
        price=to_price(log_price, predictor.run.price_unit),
        price_low=low,
        price_high=high,
        substituted=substituted,
    )


def write_prices(
    path: Path, catalog: Catalog, prices: CatalogPrices, *, intervals: bool = False
) -> None:
    """Write a CSV file of sample_id and price, whole or not at all.

    Parameters
    ----------
    path : Path
    catalog : Catalog
    prices : CatalogPrices
    intervals : bool
        Add the columns price_low and price_high.
    """
    columns = ["price", *(["price_low", "price_high"] if intervals else [])]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("sample_id", *columns))
    values = np.column_stack([getattr(prices, name) for name in columns])
    for sample_id, row in zip(catalog.sample_id, values, strict=True):
        lines.writerow((sample_id, *(csv_amount(value) for value in row)))
    write_bytes(path, text.getvalue().encode())
