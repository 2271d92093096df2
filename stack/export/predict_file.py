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
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from embed.catalog.amounts import csv_amount
from embed.catalog.columns import DELIMITER_NAMES, ExportName
from embed.catalog.reader import CatalogColumns, read_catalog
from embed.errors import InputError, UnreadableImage
from embed.photos.decode import load_image
from embed.photos.files import find_photos
from embed.table.encode import encode
from embed.text import MISSING_TEXT, compose_text, parse_fields
from finetune.price_unit import to_price
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


def price_catalog(
    model: Model,
    catalog_path: Path,
    images: Path | None,
    level: str | None,
    *,
    flags: bool = False,
    **options: Any,
) -> list[list[str]]:
    """Return sample_id, price, ends of the interval and doubts of each product.

    `options` are fields of `CatalogColumns`; None stands for the model's own.
    """
    columns = _columns(model.settings["columns"], options)
    catalog = read_catalog(catalog_path, columns=columns)
    for note in catalog.notes:
        print(f"{catalog_path.name}: {note}", file=sys.stderr)  # noqa: T201
    offsets = [0.0, *(model.settings["intervals"][level] if level else ())]
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
        prices = to_price(
            predicted.log_price + np.array(offsets), model.settings["price_unit"]
        )
        rows.append([sample_id, *(csv_amount(price) for price in prices)])
        if flags:
            doubts = flag_price(
                float(prices[0]),
                float(predicted.network_factor[0]),
                model.settings["trained"],
            )
            if compose_text(parse_fields(text)) == MISSING_TEXT:
                doubts.append(NO_TEXT)
            if photo is None:
                doubts.append(NO_PHOTO)
            rows[-1].append("; ".join((*doubts, *odd_cells.get(row, ()))))
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
    parser.add_argument("--intervals", choices=["80", "90"], help="percent")
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
        rows = price_catalog(
            model,
            arguments.catalog,
            arguments.images,
            arguments.intervals,
            flags=arguments.flags,
            **columns,
        )
        heads = ["sample_id", "price"]
        heads += ["price_low", "price_high"] if arguments.intervals else []
        lines = [[*heads, "flags"] if arguments.flags else heads, *rows]
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
    except (InputError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
