"""Price a catalog with the exported model in this folder, here named `model`.

    pip install -r model/requirements.txt
    python model/predict.py --catalog new.csv --images photos --out prices.csv

The catalog's columns are those in manifest.json, unless options name others. Prices are
in the currency of the training catalog.
"""

import argparse
import csv
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from embed.catalog.amounts import csv_amount
from embed.catalog.columns import DELIMITER_NAMES, ExportName
from embed.catalog.reader import CatalogColumns, read_catalog
from embed.errors import InputError, UnreadableImage
from embed.photos.decode import load_image
from embed.photos.files import find_photos
from embed.table.encode import encode
from embed.text import MISSING_TEXT, compose_text, parse_fields
from stack.price.flags import NO_PHOTO, NO_TEXT, flag_price
from stack.price.onnx_model import Model

# Messages about a catalog advise these options.
_COLUMN_OPTIONS: dict[str, dict[str, Any]] = {
    "--text-column": {"dest": "text", "action": "append", "help": "repeat it for more"},
    "--id-column": {"dest": "sample_id"},
    "--image-column": {"dest": "image"},
    "--price-column": {"dest": "price", "help": "not needed to price"},
    "--export": {"dest": "export", "choices": get_args(ExportName)},
    "--encoding": {"dest": "encoding", "help": "such as windows-1252"},
    "--delimiter": {"dest": "delimiter", "help": f"or {', '.join(DELIMITER_NAMES)}"},
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of the file of prices beside sample_id and price."""

    level: int | None = None
    """Level of the interval in percent; None without its ends."""

    confidence: bool = False
    auto_at: float | None = None
    flags: bool = False

    @property
    def names(self) -> list[str]:
        """Return all columns of the file, in order."""
        return [
            "sample_id",
            "price",
            *(("price_low", "price_high") if self.level else ()),
            *(("within_10", "within_20", "unlike") if self.confidence else ()),
            *(("auto",) if self.auto_at else ()),
            *(("flags",) if self.flags else ()),
        ]


def price_catalog(
    model: Model,
    catalog_path: Path,
    images: Path | None,
    wanted: Columns = Columns(),
    **options: Any,
) -> list[list[str]]:
    """Return the cells of each product, in the order of `wanted.names`.

    `options` are fields of `CatalogColumns`; None stands for the model's own.
    """
    least = 0.0
    if wanted.auto_at:
        least = model.confidence.automatic_from(wanted.auto_at).least
    columns = _columns(model.settings["columns"], options)
    catalog = read_catalog(catalog_path, columns=columns)
    for note in catalog.notes:
        print(f"{catalog_path.name}: {note}", file=sys.stderr)  # noqa: T201
    table = encode(model.table, catalog.table, n_products=catalog.n_products)
    odd_cells: dict[int, list[str]] = {}
    for row, reason in (*table.unreadable, *table.rare):
        odd_cells.setdefault(row, []).append(reason)
    photos = find_photos(catalog, images)
    size, rows = model.settings["image_size"], []
    products = zip(catalog.sample_id, catalog.text, photos, strict=True)
    for row, (sample_id, text, path) in enumerate(products):
        photo = None
        with suppress(UnreadableImage):
            photo = load_image(path, size=size) if path else None
        cells = {name: column[row] for name, column in catalog.table.items()}
        predicted = model.predict(text, photo, cells)
        price = float(predicted.price[0])
        within_10, within_20 = (
            float(model.confidence.within(predicted, percent)[0])
            for percent in (10, 20)
        )
        unlike = bool(predicted.unlike[0])
        cells_of = {
            "sample_id": sample_id,
            "price": csv_amount(price),
            "within_10": f"{within_10:.3f}",
            "within_20": f"{within_20:.3f}",
            "unlike": f"{unlike:d}",
            "auto": f"{within_20 >= least and not unlike:d}",
        }
        if wanted.level:
            low, high = model.confidence.bounds(predicted, level=wanted.level)
            cells_of["price_low"] = csv_amount(float(low[0]))
            cells_of["price_high"] = csv_amount(float(high[0]))
        doubts = flag_price(
            price,
            float(predicted.network_factor[0]),
            model.settings["trained"],
            unlike=unlike,
        )
        doubts += [NO_TEXT] * (compose_text(parse_fields(text)) == MISSING_TEXT)
        doubts += [NO_PHOTO] * (photo is None)
        cells_of["flags"] = "; ".join((*doubts, *odd_cells.get(row, ())))
        rows.append([cells_of[name] for name in wanted.names])
    return rows


def _columns(model: Mapping[str, Any], options: Mapping[str, Any]) -> CatalogColumns:
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in model.items()
    }
    changes = {name: value for name, value in options.items() if value is not None}
    if "text" in changes:
        changes["text"] = tuple(changes["text"])
    if "delimiter" in changes:
        sign = changes["delimiter"]
        changes["delimiter"] = DELIMITER_NAMES.get(sign.lower(), sign)
    return replace(CatalogColumns(**given).for_another_file(), **changes)


def main() -> None:
    """Read the arguments, write the prices."""
    parser = argparse.ArgumentParser(description="Price products from text and photo.")
    parser.add_argument("--catalog", type=Path, required=True, help="file of products")
    parser.add_argument("--images", type=Path, help="folder of the photos")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--intervals", type=int, help="percent, 50 to 99")
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="probabilities to be within 10 and 20 percent of the true price",
    )
    parser.add_argument("--auto-at", type=float, help="wanted share of right prices")
    parser.add_argument("--flags", action="store_true", help="reasons to doubt a price")
    for option, settings in _COLUMN_OPTIONS.items():
        parser.add_argument(option, **settings)
    arguments = parser.parse_args()
    if not arguments.out.parent.is_dir():  # before the work, not after it
        parser.error(
            f"--out {arguments.out}: the folder {arguments.out.parent} is not there. "
            f"Make it"
        )
    try:
        model = Model(Path(__file__).resolve().parent)
        names = [settings["dest"] for settings in _COLUMN_OPTIONS.values()]
        columns = {name: getattr(arguments, name) for name in names}
        wanted = Columns(
            level=arguments.intervals,
            confidence=arguments.confidence,
            auto_at=arguments.auto_at,
            flags=arguments.flags,
        )
        rows = price_catalog(
            model, arguments.catalog, arguments.images, wanted, **columns
        )
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([wanted.names, *rows])
    except (InputError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
