"""Price the products of a catalog with a finished run, to a CSV file."""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.amounts import csv_amount
from embed.catalog.reader import Catalog
from embed.chunks import Chunk, Inputs, prepared_chunks
from embed.errors import UnreadableImage
from embed.store.durable import write_bytes
from embed.terminal.progress import track
from embed.text import MISSING_TEXT
from stack.price.calibration import SHARES, require_level
from stack.price.confidence import Automatic
from stack.price.dates import Lateness, measure_lateness
from stack.price.engine import Predicted
from stack.price.flags import NO_PHOTO, NO_TEXT
from stack.price.predictor import Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogPrices:
    """Prices of a catalog's products; row i is row i of the catalog."""

    price: NDArray[np.float64]
    """Catalog currency, finite and above 0, shape (n_products,)."""

    price_low: NDArray[np.float64]
    """Low end of each prediction interval, catalog currency, shape (n_products,)."""

    price_high: NDArray[np.float64]
    """High end of each prediction interval, as `price_low`."""

    within_10: NDArray[np.float64]
    """Probability that each price is within 10 % of the true one, (n_products,)."""

    within_20: NDArray[np.float64]
    """The same for 20 %."""

    unlike: NDArray[np.bool_]
    """Whether each product is unlike all that the run was trained on, (n_products,)."""

    doubts: tuple[tuple[str, ...], ...]
    """Reasons to doubt each price, from `stack.price.flags.flag_price`."""

    lacks: tuple[tuple[str, ...], ...]
    """Inputs of each product that are missing, unreadable or new to the run."""

    lateness: Lateness | None = None
    """Dates of the products; None without a time column."""

    automatic: Automatic | None = None
    """Which prices are sure enough to be used unseen; None if not asked for."""

    @property
    def auto(self) -> NDArray[np.bool_]:
        """Whether each price may be used unseen, shape (n_products,)."""
        assert self.automatic is not None
        marked: NDArray[np.bool_] = self.within_20 >= self.automatic.least
        return marked & ~self.unlike

    @property
    def n_doubtful(self) -> int:
        """Number of prices with a reason for doubt."""
        return sum(map(bool, self.doubts))

    def n_lacking(self, lack: str) -> int:
        """Count the products that lack a usable text (`NO_TEXT`) or a photo."""
        return sum(lack in lacks for lacks in self.lacks)

    @property
    def n_odd_cells(self) -> int:
        """Number of products with a table cell that is unreadable or new to the run."""
        return sum(bool({*lacks} - {NO_TEXT, NO_PHOTO}) for lacks in self.lacks)


def predict_prices(
    run_dir: Path,
    catalog: Catalog,
    *,
    images_dir: Path | None,
    level: int = 90,
    n_threads: int = 2,
    only_fold: int | None = None,
    auto_at: float | None = None,
) -> CatalogPrices:
    """Price the products of a catalog, in bounded memory.

    Parameters
    ----------
    run_dir : Path
        Run folder with all three stages finished.
    catalog : Catalog
        Products to price; its own prices are not used.
    images_dir : Path, optional
        Folder of the photos.
    level : int
        Level of the prediction intervals in percent, 50 to 99.
    n_threads : int
        Threads for arithmetic.
    only_fold : int, optional
        Price with the models of this fold alone.
    auto_at : float, optional
        Wanted share of right prices among those that `CatalogPrices.auto` marks; a
        price is right within 20 % of the true one.

    Raises
    ------
    CacheError, WeightsError
        If the run is incomplete, or its encoders cannot be found.
    ConfigError
        If the level is another, the run has no such fold, or its prices do not reach
        the wanted share.
    """
    folds = None if only_fold is None else [only_fold]
    predictor = Predictor(run_dir, n_threads=n_threads, folds=folds)
    return price_products(
        predictor,
        predictor.inputs(catalog, images_dir),
        level=level,
        lateness=measure_lateness(catalog, predictor.run.finetune.dates),
        auto_at=auto_at,
    )


def price_products(
    predictor: Predictor,
    inputs: Inputs,
    *,
    level: int,
    lateness: Lateness | None,
    auto_at: float | None = None,
) -> CatalogPrices:
    """Price products with a loaded run, as `predict_prices`."""
    require_level(level)
    confidence = predictor.confidence
    automatic = None if auto_at is None else confidence.automatic_from(auto_at)
    n_products = inputs.catalog.n_products
    price, low, high, *within = np.zeros((3 + len(SHARES), n_products))
    unlike = np.zeros(n_products, dtype=bool)
    doubts: list[tuple[str, ...]] = []
    lacks: list[tuple[str, ...]] = []
    for chunk, predicted in predict_chunks(predictor, inputs):
        rows = slice(chunk.rows.start, chunk.rows.stop)
        price[rows], unlike[rows] = predicted.price, predicted.unlike
        low[rows], high[rows] = confidence.bounds(predicted, level=level)
        for probability, percent in zip(within, SHARES, strict=True):
            probability[rows] = confidence.within(predicted, percent)
        doubts += map(tuple, predictor.doubts(predicted))
        lacks += _lacks(chunk)
    return CatalogPrices(
        price=price,
        price_low=low,
        price_high=high,
        within_10=within[0],
        within_20=within[1],
        unlike=unlike,
        doubts=tuple(doubts),
        lacks=tuple(lacks),
        lateness=lateness,
        automatic=automatic,
    )


def predict_chunks(
    predictor: Predictor, inputs: Inputs
) -> Iterator[tuple[Chunk, Predicted]]:
    """Price a catalog chunk by chunk, with a progress bar.

    Parameters
    ----------
    predictor : Predictor
    inputs : Inputs
        Result of `predictor.inputs`.

    Yields
    ------
    chunk : Chunk
    predicted : Predicted
        Prices of the products in `chunk.rows`.
    """
    chunks = prepared_chunks(inputs, predictor.config, 0)
    for chunk in track(
        ((len(chunk.rows), chunk) for chunk in chunks),
        total=inputs.catalog.n_products,
        label="predict",
        unit="products",
    ):
        yield chunk, predictor.predict(chunk)


def _lacks(chunk: Chunk) -> list[tuple[str, ...]]:
    """Return the inputs that each product of a chunk lacks."""
    lacks: list[list[str]] = [
        [NO_TEXT] * (text == MISSING_TEXT)
        + [NO_PHOTO] * isinstance(photo, UnreadableImage)
        for text, photo in zip(chunk.texts, chunk.thumbnails, strict=True)
    ]
    for row, reason in (*chunk.unreadable, *chunk.rare):
        lacks[row].append(reason)
    return [tuple(reasons) for reasons in lacks]


def write_prices(
    path: Path,
    catalog: Catalog,
    prices: CatalogPrices,
    *,
    intervals: bool = False,
    confidence: bool = False,
    flags: bool = False,
) -> None:
    """Write a CSV file of sample_id and price, whole or not at all.

    Parameters
    ----------
    path : Path
    catalog : Catalog
    prices : CatalogPrices
        The file has a column auto if these are asked for prices to use unseen.
    intervals : bool
        Add the columns price_low and price_high.
    confidence : bool
        Add the columns within_10, within_20 and unlike.
    flags : bool
        Add the column flags: reasons to doubt the price, separated by "; ".
    """
    columns = price_columns(
        intervals=intervals,
        confidence=confidence,
        auto=prices.automatic is not None,
        flags=flags,
    )
    write_bytes(path, as_csv(catalog, columns, price_cells(prices, columns)))


def price_columns(
    *, intervals: bool, confidence: bool, auto: bool, flags: bool
) -> list[str]:
    """Return the columns of a file of prices, without sample_id."""
    groups = (
        (True, ["price"]),
        (intervals, ["price_low", "price_high"]),
        (confidence, ["within_10", "within_20", "unlike"]),
        (auto, ["auto"]),
        (flags, ["flags"]),
    )
    return [name for is_wanted, names in groups if is_wanted for name in names]


def price_cells(prices: CatalogPrices, columns: Sequence[str]) -> list[list[str]]:
    """Return the cells of each product in these columns."""
    by_column = [
        _flag_cells(prices)
        if name == "flags"
        else [_WRITE.get(name, csv_amount)(value) for value in getattr(prices, name)]
        for name in columns
    ]
    return [list(cells) for cells in zip(*by_column, strict=True)]


_WRITE: dict[str, Callable[[float], str]] = {
    "within_10": "{:.3f}".format,
    "within_20": "{:.3f}".format,
    "unlike": "{:d}".format,
    "auto": "{:d}".format,
}
"""Functions that write the values of columns that are no amounts."""


def _flag_cells(prices: CatalogPrices) -> list[str]:
    late = prices.lateness.flags if prices.lateness else [""] * len(prices.price)
    reasons = zip(prices.doubts, prices.lacks, late, strict=True)
    return [
        "; ".join(filter(None, (*doubts, *lacks, date)))
        for doubts, lacks, date in reasons
    ]


def as_csv(
    catalog: Catalog, columns: Sequence[str], cells: Iterable[Sequence[str]]
) -> bytes:
    """Return a CSV file of sample_id and the cells of each product."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("sample_id", *columns))
    for sample_id, row in zip(catalog.sample_id, cells, strict=True):
        lines.writerow((sample_id, *row))
    return text.getvalue().encode()
