"""Price only the products of a catalog that are new or have other inputs.

A price depends on the text, the photo's bytes and the table columns of its product, on
the models and on the options. Beside a file of prices lies a record of these; a price
is kept if all of them are the same.
"""

import csv
import dataclasses
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from embed.catalog.reader import Catalog
from embed.errors import CacheError
from embed.photos.decode import photo_sha256
from embed.photos.files import PhotoMatches, match_photos
from embed.store.durable import write_bytes
from embed.store.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_record,
    sha256_file,
    sha256_strings,
    write_record,
)
from embed.store.records import Record
from embed.store.rules import Text
from stack.price.catalog import (
    CatalogPrices,
    as_csv,
    price_cells,
    price_columns,
    price_products,
)
from stack.price.dates import Lateness, measure_lateness
from stack.price.predictor import Predictor
from stack.run import Run, open_run

logger = logging.getLogger(__name__)


class PricedFrom(Record):
    """What the prices of a file were computed from."""

    model: dict[Text, Text]
    """Hashes of the models, the options and the versions of packages."""

    prices_sha256: Text
    """sha256 of the file of prices."""

    inputs: list[Text] = Field(default_factory=list)
    """sha256 of the inputs of each product of the file."""


@dataclass(frozen=True, kw_only=True)
class PriceOptions:
    """Options of a file of prices."""

    level: int | None = None
    """Level of the prediction intervals in percent; None without intervals."""

    confidence: bool = False
    auto_at: float | None = None
    flags: bool = False
    only_fold: int | None = None
    n_threads: int = 2


def predict_new(
    path: Path,
    run_dir: Path,
    catalog: Catalog,
    *,
    images_dir: Path | None,
    options: PriceOptions,
) -> CatalogPrices | None:
    """Write the prices of a catalog; keep those of products that are unchanged.

    Parameters
    ----------
    path : Path
        CSV file of prices; the record of what they were computed from lies beside it.
    run_dir : Path
        Run folder with all three stages finished.
    catalog : Catalog
    images_dir : Path, optional
        Folder of the photos.
    options : PriceOptions

    Returns
    -------
    CatalogPrices or None
        Prices of the products that were priced again; None if there are none.

    Raises
    ------
    CacheError, WeightsError, ConfigError
        As `predict_prices`, or if the record is damaged.
    """
    columns = price_columns(
        intervals=options.level is not None,
        confidence=options.confidence,
        auto=options.auto_at is not None,
        flags=options.flags,
    )
    matches = match_photos(catalog, images_dir)
    for note in matches.notes:
        logger.info("%s", note)
    run = open_run(run_dir)
    lateness = measure_lateness(catalog, run.finetune.dates)
    hashes = _input_hashes(run, catalog, matches, lateness)
    model = _model(run, options)
    cells = _kept_cells(path, model, columns)
    new = [row for row, key in enumerate(hashes) if key not in cells]
    prices = None
    if new:
        folds = None if options.only_fold is None else [options.only_fold]
        predictor = Predictor(run_dir, n_threads=options.n_threads, folds=folds)
        inputs = predictor.inputs_of(*_take(catalog, matches, new))
        if lateness is not None:  # read from the column as a whole
            lateness = dataclasses.replace(lateness, days=lateness.days[new])
        prices = price_products(
            predictor,
            inputs,
            level=options.level or 90,
            lateness=lateness,
            auto_at=options.auto_at,
        )
        new_cells = price_cells(prices, columns)
        cells |= zip((hashes[row] for row in new), new_cells, strict=True)
    content = as_csv(catalog, columns, (cells[key] for key in hashes))
    write_bytes(path, content)
    record = PricedFrom(model=model, prices_sha256=sha256_file(path), inputs=hashes)
    write_record(record_path(path), record)
    return prices


def record_path(path: Path) -> Path:
    """Return the path of the record beside a file of prices."""
    return path.with_name(f"{path.name}.inputs.json")


def _input_hashes(
    run: Run, catalog: Catalog, matches: PhotoMatches, lateness: Lateness | None
) -> list[str]:
    """Return the sha256 of what each product's price and flags are computed from."""
    n_products = catalog.n_products
    columns = run.embed.table
    table = [catalog.table.get(column.name, ("",) * n_products) for column in columns]
    # A number of a numeric type has one reading, a number as text may have two.
    plain = repr([column.name in catalog.plain_numbers for column in columns])
    days = [""] * n_products if lateness is None else lateness.days.astype(str)
    with ThreadPoolExecutor() as pool:
        photos = pool.map(
            lambda photo: "" if photo is None else photo_sha256(photo).hex(),
            matches.paths,
        )
        rows = zip(catalog.text, photos, days, *table, strict=True)
        return [sha256_strings((plain, *row)) for row in rows]


def _model(run: Run, options: PriceOptions) -> dict[str, str]:
    """Return what all prices depend on, by the words for a message."""
    manifests = {
        stage: sha256_file(path)
        for stage in ("finetune", "stack")
        if (path := run.run_dir / stage / MANIFEST_NAME).is_file()
    }
    return {
        "the models": content_key({"embed": run.embed.key, **manifests}),
        **{
            option: str(value)
            for option, value in (
                ("--only-fold", options.only_fold),
                ("--intervals", options.level),
                ("--confidence", options.confidence),
                ("--auto-at", options.auto_at),
                ("--flags", options.flags),
                ("--threads", options.n_threads),
            )
        },
        "the versions of packages": content_key(environment()),
    }


def _kept_cells(
    path: Path, model: dict[str, str], columns: Sequence[str]
) -> dict[str, list[str]]:
    """Return the cells of the products of an earlier file, by their inputs' hash."""
    if not path.exists():
        return {}
    record = read_record(record_path(path), PricedFrom)
    if record is None:
        reason = "there is no record of what its prices were computed from"
    elif record.prices_sha256 != sha256_file(path):
        reason = "it was changed since it was written"
    else:
        others = (name for name in model if model[name] != record.model.get(name))
        if not (other := next(others, "")):
            return _read_cells(path, record, columns)
        is_option = other.startswith("--")
        reason = f"{other} was another" if is_option else f"{other} were others"
    logger.info("%s: %s, so all products are priced again.", path, reason)
    return {}


def _read_cells(
    path: Path, record: PricedFrom, columns: Sequence[str]
) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    if header != ["sample_id", *columns] or len(rows) != len(record.inputs):
        raise CacheError(
            f"{record_path(path)}: does not fit {path.name}. Delete it; all products "
            f"are then priced again."
        )
    return {key: row[1:] for key, row in zip(record.inputs, rows, strict=True)}


def _take(
    catalog: Catalog, matches: PhotoMatches, rows: Sequence[int]
) -> tuple[Catalog, PhotoMatches]:
    """Return some products of a catalog, with their photos."""
    return catalog.take(rows), PhotoMatches(
        paths=tuple(matches.paths[row] for row in rows),
        reasons=tuple(matches.reasons[row] for row in rows),
        notes=(),
    )
