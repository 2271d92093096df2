"""Plant errors of six kinds in a copy of a catalog, drawn by a seed.

Each wrong price differs from the right one by a factor of `LEAST_FACTOR` or more, as a
smaller error is not told from what the model does not know. Prices stay in cents.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed.attributes import ATTRIBUTE_NAMES, extract_attributes
from embed.text import parse_fields

KINDS = ("decimal", "pack", "size", "currency", "twin", "photo")
LEAST_FACTOR = 5.0
SHIFTS = (10.0, 0.1, 100.0)
RATES = {"CNY": 7.2, "MXN": 17.1, "INR": 83.2, "JPY": 149.5}
OTHER_SIZES = {
    "g": (28.35, 100.0, 453.6, 1000.0),
    "ml": (29.57, 100.0, 1000.0, 3785.0),
}
"""Amounts that prices are often stated for: an ounce, 100 g, a pound, a kilogram."""

_MOST_FACTOR = 30.0  # of a size or pack
_ALIKE = 0.7  # Jaccard index of two names' words
_SAME_PRICE = 1.5


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product of the catalog, and what the planting needs of it."""

    row: int
    price: float
    words: frozenset[str]
    pack: float | None
    amounts: dict[str, float]
    link: str
    has_photo: bool


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A wrong price."""

    row: int
    kind: str
    price: float
    detail: str
    link: str | None = None
    """Photo's link in place of the product's own."""
    photo_row: int | None = None
    """Row whose photo that is."""


def plant(
    catalog: Path, out: Path, *, n: int, seed: int, images: Path | None
) -> list[Planted]:
    """Write a copy of a catalog with wrong prices, and planted.csv beside it.

    Parameters
    ----------
    catalog : Path
        CSV file with the columns sample_id, catalog_content, image_link, price.
    out : Path
        Folder to write `catalog.csv` and `planted.csv` to.
    n : int
        Number of errors, about as many of each kind.
    seed : int
    images : Path, optional
        Folder of the photos; without it no photos are exchanged.
    """
    with catalog.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    products = read_products(rows, images)
    errors = draw(products, n=n, seed=seed)
    right = {error.row: rows[error.row]["price"] for error in errors}
    for error in errors:
        rows[error.row]["price"] = f"{error.price:.2f}"
        if error.link is not None:
            rows[error.row]["image_link"] = error.link
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "catalog.csv", list(rows[0]), [[*row.values()] for row in rows])
    _write(
        out / "planted.csv",
        ["sample_id", "kind", "right_price", "price", "detail"],
        [
            [rows[e.row]["sample_id"], e.kind, right[e.row], f"{e.price:.2f}", e.detail]
            for e in errors
        ],
    )
    return errors


def read_products(rows: list[dict[str, str]], images: Path | None) -> list[Product]:
    """Read sizes, words and photos of the rows that have a price."""
    files = {path.name for path in images.iterdir()} if images else set()
    products = []
    for number, row in enumerate(rows):
        if not row["price"] or not float(row["price"]) > 0:
            continue
        product = parse_fields(row["catalog_content"])
        sizes = dict(zip(ATTRIBUTE_NAMES, extract_attributes(product), strict=True))
        amounts = {
            unit: float(np.exp(sizes[f"log_total_{unit}"])) for unit in OTHER_SIZES
        }
        pack = float(np.exp(sizes["log_pack_count"]))
        link = row["image_link"]
        products.append(
            Product(
                row=number,
                price=float(row["price"]),
                words=frozenset(product.name.lower().split()),
                pack=None if np.isnan(pack) else round(pack),
                amounts={u: a for u, a in amounts.items() if not np.isnan(a)},
                link=link,
                has_photo=link.rsplit("/", 1)[-1] in files,
            )
        )
    return products


def draw(products: list[Product], *, n: int, seed: int) -> list[Planted]:
    """Draw wrong prices, at most one of each product; rarer kinds are drawn first."""
    rng = np.random.default_rng(seed)
    order = [products[i] for i in rng.permutation(len(products))]
    makers = {
        "photo": _photos(order),
        "twin": _twins(order, rng),
        "size": _sizes(order, rng),
        "pack": _packs(order, rng),
        "currency": _currencies(order, rng),
        "decimal": _decimals(order, rng),
    }
    share, taken, drawn = n / len(KINDS), set(), []
    for number, kind in enumerate(makers, start=1):
        for errors in makers[kind]:
            if len(drawn) >= round(share * number):
                break
            if not taken & {error.row for error in errors}:
                taken |= {error.row for error in errors}
                drawn += errors
    return drawn


def _decimals(
    order: list[Product], rng: np.random.Generator
) -> Iterator[list[Planted]]:
    for product in order:
        factor = float(rng.choice(SHIFTS))
        yield _wrong(product, "decimal", product.price * factor, f"times {factor:g}")


def _packs(order: list[Product], rng: np.random.Generator) -> Iterator[list[Planted]]:
    """Yield the price of one piece for a pack, and more rarely the other way round."""
    for product in order:
        if product.pack and LEAST_FACTOR <= product.pack <= _MOST_FACTOR:
            is_piece = rng.random() < 2 / 3
            price = product.price * product.pack ** (-1 if is_piece else 1)
            what = "one piece of" if is_piece else "a case of"
            yield _wrong(product, "pack", price, f"{what} {product.pack:g}")


def _sizes(order: list[Product], rng: np.random.Generator) -> Iterator[list[Planted]]:
    for product in order:
        factors = [
            (other / amount, f"{other:g} {unit} for {amount:g} {unit}")
            for unit, amount in product.amounts.items()
            for other in OTHER_SIZES[unit]
            if LEAST_FACTOR <= max(other / amount, amount / other) <= _MOST_FACTOR
        ]
        if factors:
            factor, detail = factors[rng.integers(len(factors))]
            yield _wrong(product, "size", product.price * factor, detail)


def _currencies(
    order: list[Product], rng: np.random.Generator
) -> Iterator[list[Planted]]:
    for product in order:
        name = str(rng.choice([*RATES]))
        yield _wrong(product, "currency", product.price * RATES[name], name)


def _twins(order: list[Product], rng: np.random.Generator) -> Iterator[list[Planted]]:
    """Yield one of two products of nearly the same name with a far product's price."""
    by_word: dict[str, list[Product]] = defaultdict(list)
    for product in order:
        for word in product.words:
            by_word[word].append(product)
    for product in order:
        twin = _twin(product, by_word)
        far = order[rng.integers(len(order))]
        if twin is not None and _factor(far.price, product.price) >= LEAST_FACTOR:
            yield _wrong(product, "twin", far.price, f"row {twin.row + 1}")


def _twin(product: Product, by_word: dict[str, list[Product]]) -> Product | None:
    rare = sorted(product.words, key=lambda word: (len(by_word[word]), word))
    for other in (other for word in rare[:3] for other in by_word[word]):
        union = product.words | other.words
        if (
            other.row != product.row
            and len(product.words & other.words) >= _ALIKE * len(union)
            and (other.pack, other.amounts) == (product.pack, product.amounts)
            and _factor(other.price, product.price) <= _SAME_PRICE
        ):
            return other
    return None


def _photos(order: list[Product]) -> Iterator[list[Planted]]:
    """Yield two products that have each other's photo and price."""
    left = [product for product in order if product.has_photo]
    while left:
        one = left.pop()
        far = [p for p in left if _factor(p.price, one.price) >= LEAST_FACTOR]
        if far:
            left.remove(far[0])
            pair = (one, far[0]), (far[0], one)
            yield [
                Planted(
                    row=product.row,
                    kind="photo",
                    price=other.price,
                    detail=f"row {other.row + 1}",
                    link=other.link,
                    photo_row=other.row,
                )
                for product, other in pair
            ]


def _wrong(product: Product, kind: str, price: float, detail: str) -> list[Planted]:
    return [
        Planted(
            row=product.row, kind=kind, price=max(0.01, round(price, 2)), detail=detail
        )
    ]


def _factor(price: float, other: float) -> float:
    return max(price / other, other / price)


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(header)
        lines.writerows(rows)
