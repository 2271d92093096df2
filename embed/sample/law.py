"""Generate a small catalog with a known law of price, to try the whole pipeline.

Texts and product photos are generated, so nothing has to be downloaded. The texts have
the form of the price challenge's catalogs. The law, in log price:

    log price = LOG_BASE
              + CATEGORIES   category: in the text and, as silhouette, in the photo
              + BRANDS + SIZE_EXPONENT * log(pack * size / TYPICAL_QUANTITY): text only
              + FINISHES + DOT_EFFECT * (dots - 1.5): photo only (colour, white dots)
              + normal noise with standard deviation LAW_NOISE

The three parts have similar standard deviations (0.4 to 0.5 in log price), so a model
without the text or the photo is clearly worse. Some products are damaged on purpose, as
in real catalogs: see `DAMAGE`.
"""

import csv
import functools
import html
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from embed.catalog.reader import CatalogError
from embed.errors import ConfigError
from embed.sample.photos import draw_photo, encode_photo

LAW_NOISE = 0.15
"""Standard deviation of log price that no model can explain."""

LOG_BASE = 3.0
SIZE_EXPONENT = 0.3
TYPICAL_QUANTITY = 30.0
"""Ounces at which the quantity neither raises nor lowers the price."""

DOT_EFFECT = 0.16
MAX_DOTS = 3

# fmt: off
CATEGORIES = {
    "Soup": -0.70, "Juice": -0.50, "Crackers": -0.30, "Ice Cream": -0.10,
    "Honey": 0.10, "Coffee": 0.30, "Olive Oil": 0.50, "Hand Cream": 0.70,
}
BRANDS = {
    "Bargain Barn": -0.50, "Daily Basket": -0.30, "Millbrook": -0.10,
    "Hartwell": 0.10, "Casa Fiorella": 0.30, "Maison Auclair": 0.50,
}
FINISHES = {
    "grey": -0.50, "blue": -0.25, "green": 0.0, "red": 0.25, "gold": 0.50,
}
# fmt: on
SIZES = (4, 8, 12, 16, 24)
"""Ounces in one package."""
PACKS = (1, 2, 4, 6, 12)
"""Packages sold together."""

DAMAGE = {"no photo": 0.02, "broken photo": 0.01, "no text": 0.01, "duplicate": 0.01}
"""Share of products per kind of damage, at least one product each. A duplicate has the
text and link of another product."""

MIN_PRODUCTS = 20
_LIQUIDS = frozenset({"Soup", "Juice", "Olive Oil", "Hand Cream"})
_STYLES = ("Classic", "Country", "Garden", "Harvest", "Heritage", "Original")
_CLAIMS = (
    "Made in small batches from carefully chosen ingredients",
    "Closes tightly and keeps fresh in the cupboard",
    "A family favourite for every day of the week",
    "No artificial flavours and no preservatives",
    "Packed with care and shipped in a sturdy carton",
    "Easy to open, easy to pour, easy to store",
)
_DESCRIPTIONS = (
    "Bring it to the table and enjoy it with friends.",
    "A welcome gift for any household.",
    "Stock up your kitchen & save a trip to the shop.",
    "Simple, honest and always at hand.",
)


_HTML_PAGE = b"<!DOCTYPE html><html><body>404: no such photo</body></html>\n"


@dataclass(frozen=True, kw_only=True)
class SampleProduct:
    """Properties of one product that its price, text and photo depend on."""

    category: str
    brand: str
    size: int
    """Ounces in one package."""
    pack: int
    finish: str
    n_dots: int
    wording: int = 0
    """Seed of the words that do not affect the price."""
    pose: int = 0
    """Seed of place, scale and light in the photo, which do not affect the price."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One product's row in the catalog."""

    product: SampleProduct
    link_row: int
    """Row of the linked photo, which differs from the own row only for duplicates."""
    damage: str = ""
    """A key of `DAMAGE`, or ""."""


def shared_part(product: SampleProduct) -> float:
    """Return the part of the log price that both text and photo show."""
    return LOG_BASE + CATEGORIES[product.category]


def text_part(product: SampleProduct) -> float:
    """Return the part of the log price that only the text shows."""
    quantity = product.size * product.pack
    return BRANDS[product.brand] + SIZE_EXPONENT * math.log(quantity / TYPICAL_QUANTITY)


def photo_part(product: SampleProduct) -> float:
    """Return the part of the log price that only the photo shows."""
    return FINISHES[product.finish] + DOT_EFFECT * (product.n_dots - MAX_DOTS / 2)


def write_sample(out_dir: Path, *, n_products: int = 600, seed: int = 0) -> Path:
    """Generate a catalog and its photos; equal arguments give equal bytes.

    Parameters
    ----------
    out_dir : Path
        Folder for ``catalog.csv`` (sample_id, catalog_content, image_link, price),
        ``images/`` (JPEG, 320 x 320 pixels, named by sample_id) and ``law.csv``, which
        has for each row law_price, the parts of the law (shared, text_only, photo_only;
        log price) and the damage. An earlier sample in the folder is replaced.
    n_products : int
        Rows of the catalog, at least 20.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    Path
        Path of the catalog, which is written last.

    Raises
    ------
    ConfigError
        If `n_products` is below 20.
    FileExistsError
        If `out_dir` has a catalog that is no sample.

    Notes
    -----
    law_price is the best prediction from the undamaged inputs of a row: the price
    without noise, with the median of the text-only or photo-only part if text or photo
    cannot be read. Its SMAPE is approximately the best possible one: for the few
    damaged rows the median is the best prediction of log price rather than of SMAPE,
    and prices are rounded to cents.
    """
    if n_products < MIN_PRODUCTS:
        raise ConfigError(
            f"the sample must have at least {MIN_PRODUCTS} products, so that each kind "
            f"of damage occurs, got {n_products}"
        )
    catalog_path = out_dir / "catalog.csv"
    _remove_earlier_sample(catalog_path)
    rng = np.random.default_rng(seed)
    rows = _draw_rows(n_products, rng)
    noise = rng.normal(0.0, LAW_NOISE, n_products)
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    _write_csv(out_dir / "law.csv", [_law_record(i, row) for i, row in enumerate(rows)])
    for i, row in enumerate(rows):
        if row.damage not in ("no photo", "duplicate"):
            photo = encode_photo(photo_of(row.product))
            if row.damage == "broken photo":
                photo = _HTML_PAGE if i % 2 else photo[: len(photo) // 2]
            (out_dir / "images" / f"{_sample_id(i)}.jpg").write_bytes(photo)
    _write_csv(
        catalog_path,
        [_catalog_record(i, row, noise[i]) for i, row in enumerate(rows)],
    )
    return catalog_path


def best_reachable_prices(catalog_path: Path) -> dict[str, float] | None:
    """Read the best possible predictions for a sample catalog.

    Parameters
    ----------
    catalog_path : Path
        Path of any catalog; only a sample has ``law.csv`` beside it.

    Returns
    -------
    dict of str to float or None
        law_price by sample_id, in catalog currency; None without ``law.csv``.

    Raises
    ------
    CatalogError
        If ``law.csv`` has other columns than a sample's.
    """
    law_path = catalog_path.with_name("law.csv")
    if not law_path.is_file():
        return None
    try:
        return _read_law(law_path)
    except (ValueError, TypeError, csv.Error) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(
            f"{law_path}: not readable as a sample's law ({error}). Write the sample "
            f"again, or move this file away if it is not a sample's."
        ) from error


def _read_law(law_path: Path) -> dict[str, float]:
    with law_path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        if not {"sample_id", "law_price"} <= set(columns):
            raise CatalogError(
                f"{law_path}: must have the columns sample_id and law_price, got "
                f"{', '.join(columns) or 'none'}. Write the sample again, or move "
                f"this file away if it is not a sample's."
            )
        return {row["sample_id"]: float(row["law_price"]) for row in reader}


def compose_content(product: SampleProduct) -> str:
    """Return a product's catalog text, in the challenge's form.

    Parameters
    ----------
    product : SampleProduct
        Product, whose finish, dots and pose are not used.

    Returns
    -------
    str
        Lines ``Item Name:``, ``Bullet Point 1:``, ``Bullet Point 2:``, ``Product
        Description:``, ``Value:`` (ounces in all) and ``Unit:``.
    """
    rng = np.random.default_rng(product.wording)
    style, description = rng.choice(_STYLES), rng.choice(_DESCRIPTIONS)
    claims = rng.choice(_CLAIMS, 2, replace=False)
    unit = "Fl Oz" if product.category in _LIQUIDS else "Ounce"
    pack = f" (Pack of {product.pack})" if product.pack > 1 else ""
    title = f"{product.brand} {style} {product.category}, {product.size} {unit}{pack}"
    return (
        f"Item Name: {title}\n"
        f"Bullet Point 1: {claims[0]}\n"
        f"Bullet Point 2: {claims[1]}\n"
        f"Product Description: {html.escape(f'{product.category}. {description}')}\n"
        f"Value: {float(product.size * product.pack)}\n"
        f"Unit: {unit}\n"
    )


def photo_of(product: SampleProduct) -> Image.Image:
    """Draw a product's photo from its category, finish, dots and pose."""
    return draw_photo(
        product.category, product.finish, n_dots=product.n_dots, pose=product.pose
    )


def _remove_earlier_sample(catalog_path: Path) -> None:
    """Remove the files of a sample, by its `law.csv`; refuse any other catalog."""
    earlier = best_reachable_prices(catalog_path)
    if earlier is None:
        if catalog_path.exists():
            raise FileExistsError(
                f"{catalog_path}: this catalog is no sample (no law.csv beside it). "
                f"Choose another folder, or move it away."
            )
        return
    catalog_path.unlink(missing_ok=True)
    for photo_path in (catalog_path.parent / "images").glob("*.jpg"):
        if photo_path.stem in earlier:
            photo_path.unlink()


def _draw_rows(n_products: int, rng: np.random.Generator) -> list[_Row]:
    rows = [_Row(product=_draw_product(rng), link_row=i) for i in range(n_products)]
    order = iter(rng.permutation(n_products).tolist())
    for damage, share in DAMAGE.items():
        for i in itertools.islice(order, max(1, round(share * n_products))):
            source = rows[next(order)] if damage == "duplicate" else rows[i]
            rows[i] = replace(source, damage=damage)
    return rows


def _draw_product(rng: np.random.Generator) -> SampleProduct:
    wording, pose = rng.integers(2**31, size=2).tolist()
    return SampleProduct(
        category=str(rng.choice(list(CATEGORIES))),
        brand=str(rng.choice(list(BRANDS))),
        size=int(rng.choice(SIZES)),
        pack=int(rng.choice(PACKS)),
        finish=str(rng.choice(list(FINISHES))),
        n_dots=int(rng.integers(MAX_DOTS + 1)),
        wording=wording,
        pose=pose,
    )


def _law_record(i: int, row: _Row) -> dict[str, str]:
    shared, text_only, photo_only = (
        part(row.product) for part in (shared_part, text_part, photo_part)
    )
    known_text = _median(text_part) if row.damage == "no text" else text_only
    has_no_photo = row.damage in ("no photo", "broken photo")
    known_photo = _median(photo_part) if has_no_photo else photo_only
    return {
        "sample_id": _sample_id(i),
        "law_price": f"{math.exp(shared + known_text + known_photo):.6g}",
        "shared": f"{shared:.6g}",
        "text_only": f"{text_only:.6g}",
        "photo_only": f"{photo_only:.6g}",
        "damage": row.damage,
    }


def _catalog_record(i: int, row: _Row, noise: float) -> dict[str, str]:
    product = row.product
    log_price = shared_part(product) + text_part(product) + photo_part(product) + noise
    return {
        "sample_id": _sample_id(i),
        "catalog_content": "" if row.damage == "no text" else compose_content(product),
        "image_link": f"https://example.com/images/{_sample_id(row.link_row)}.jpg",
        "price": f"{math.exp(log_price):.2f}",
    }


@functools.cache
def _median(part: Callable[[SampleProduct], float]) -> float:
    """Return the median of a part over all combinations, which are equally likely."""
    products = (
        SampleProduct(
            category="Soup", brand=brand, size=size, pack=pack, finish=finish, n_dots=n
        )
        for brand, size, pack, finish, n in itertools.product(
            BRANDS, SIZES, PACKS, FINISHES, range(MAX_DOTS + 1)
        )
    )
    return float(np.median([part(product) for product in products]))


def _sample_id(i: int) -> str:
    return str(100_001 + i)


def _write_csv(path: Path, records: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
