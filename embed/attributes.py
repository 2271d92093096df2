"""A product's size as numbers: value, unit, pack count and total quantity.

Masses are in g, volumes in ml, counts in pieces. An ounce is a mass unless it is
called fluid or the catalog's own unit field is a volume.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embed.text import ProductText

Kind = Literal["mass", "volume", "count"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ATTRIBUTE_NAMES = (
    "log_value",  # the value field as it stands
    "log_field_total",  # the value field in g, ml or pieces
    "log_pack_count",
    "log_item_size",  # one item's g, ml or pieces
    "log_total_g",
    "log_total_ml",
    "log_total_count",
    "log_total_amount",  # g, else ml, else pieces
    "is_mass",  # kind of the unit field, else of the size in the name
    "is_volume",
    "is_count",
    "log_largest_number",  # in the name
    "log_name_chars",
    "log_text_chars",
    "n_bullets",
)

SMALLEST, LARGEST = 1e-3, 1e7
MAX_NAME_CHARS = 1000
OUNCE_G, FLUID_OUNCE_ML = 28.3495, 29.5735

# kind, size in base units, spellings in small letters without anything between
_SPELLINGS: tuple[tuple[Kind, float, str], ...] = (
    ("mass", 1e-3, "mg milligram milligrams"),
    ("mass", 1.0, "g gr grs gm gms gram grams gramm gramms"),
    ("mass", 1e3, "kg kgs kilo kilos kilogram kilograms"),
    ("mass", OUNCE_G, "oz ozs onz ounce ounces"),
    ("mass", 453.592, "lb lbs pound pounds"),
    ("volume", 1.0, "ml mls milliliter milliliters millilitre millilitres"),
    ("volume", 10.0, "cl"),
    ("volume", 1e3, "l lt ltr liter liters litre litres"),
    ("volume", FLUID_OUNCE_ML, "floz flozs flounce flounces fluidounce"),
    ("volume", FLUID_OUNCE_ML, "fluidounces fluidoz"),
    ("volume", 473.176, "pt pint pints"),
    ("volume", 946.353, "qt quart quarts"),
    ("volume", 3785.41, "gal gallon gallons"),
    ("count", 1.0, "ct cts cnt count counts ea each pc pcs piece pieces"),
    ("count", 1.0, "unit units pod pods kcup kcups stick sticks"),
    ("count", 1.0, "teabag teabags capsule capsules tablet tablets stem"),
    ("count", 1.0, "stems bar bars packet packets sachet sachets single singles"),
    ("count", 1.0, "can cans jar jars bottle bottles box boxes bag bags pouch"),
    ("count", 1.0, "pouches pack packs tin tins tub tubs"),
)
_UNITS = {
    spelling: (kind, factor)
    for kind, factor, spellings in _SPELLINGS
    for spelling in spellings.split()
}
_OUNCES = {"oz", "ozs", "onz", "ounce", "ounces"}
# containers count as pieces in the unit field, but as a pack in a name
_CONTAINERS = (
    "cans?|jars?|bottles?|box(?:es)?|bags?|pouch(?:es)?|tins?|tubs?|canisters?"
)

_AMOUNT = (
    r"(?<![\d.,/])(\d{1,4}[ -]\d/\d{1,2}|\d{1,4}/\d{1,4}"
    r"|\d{1,3}(?:,\d{3}){1,3}(?:\.\d{1,6})?|\d{1,9}(?:\.\d{1,6})?|(?<![a-z])\.\d{1,6})"
)
_SIZE = re.compile(
    _AMOUNT + r"[\s-]{0,3}((?:fl|fluid)[.\s-]{0,3}(?:oz|ounces?)|tea[ -]?bags?"
    r"|k-cups?|[a-z]{1,11}?)(?=$|[^a-z]|x ?\d)"
)
_NUTRIENT = re.compile(
    r"\.?,? ?(?:of |net |total |added |plant |natural |whey |less |per |or less )*"
    r"(?:protein|sugar|carb|fat|fiber|fibre|caffeine|sodium|salt|thc|cbd|collagen"
    r"|trans|vitamin|serving|cholesterol|electrolyte|omega)"
)
_N = r"(?<![\d.,/])(\d{1,4})"
_PACKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:pack|case|box|set|bundle|lot|carton|package|pk|pkg|tray)s?[ -]?"
        r"(?:of|w/|with)[ :-]{0,2}(\d{1,4})"
        r"(?!\.?\d|[ -]?(?:fl|oz|ounce|lb|pound|g|ml|gram)s?\b"
        r"|[ -]?(?:count|ct|pod|k-cup|tea bag)s?\b)",
        _N + r"[\s-]{0,2}(?:packs?|pks?|pck|packages)\b",
        _N + r" ?(?:in|per|to|/) ?(?:a |an |each |the )?"
        r"(?:pack|case|box|carton|package|cs|pk|bag)s?\b",
        r"\b(?:pack|pk|qty|quantity)[ :-]{0,2}(\d{1,4})(?![\d.]|[ -]?(?:oz|ounce))",
        _N + r" ?x ?(?=\d{1,4}(?:\.\d{1,3})? ?-?(?:oz|ounce|fl|g|kg|ml|cl|l|lb))",
        r"(?:oz|ounces?|g|kg|ml|cl|l|lbs?)\.? ?x ?(\d{1,4})(?![\d.])",
        _N + r"[ -](?:" + _CONTAINERS + r")\b",
        r"(?:oz|ounces?|g|kg|ml|cl|l|lbs?)\.? ?\((\d{1,3})\)",
    )
)
_NUMBER = re.compile(r"(?<![\d.])\d{1,9}(?:\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a name says about size; None where it says nothing.

    Attributes
    ----------
    pack_count : float or None
        Items in the pack, at least 1.
    item_quantity : float or None
        One item's g, ml or pieces, within [1e-3, 1e7].
    kind : {"mass", "volume", "count"} or None
        Of `item_quantity`.
    """

    pack_count: float | None = None
    item_quantity: float | None = None
    kind: Kind | None = None


def parse_size(
    name: str, *, kinds: tuple[Kind, ...] = KINDS, fluid: bool = False
) -> Size:
    """Read pack count and item size from phrases like "12 Ounce (Pack of 6)".

    Parameters
    ----------
    name : str
        Product name; only the first 1000 characters are looked at.
    kinds : tuple of Kind
        Kinds of size to look for, the preferred first.
    fluid : bool
        Take bare ounces for fluid ounces.

    Returns
    -------
    Size
        The last size of the first kind found; amounts of nutrients are passed over.
    """
    name = name[:MAX_NAME_CHARS].lower().replace("\N{MULTIPLICATION SIGN}", "x")
    found: dict[Kind, float] = {}
    for match in _SIZE.finditer(name):
        if re.fullmatch(_CONTAINERS + "|packs?", match[2]):
            continue
        measured = _measure(_to_number(match[1]), match[2], fluid=fluid)
        if measured and not _NUTRIENT.match(name, match.end()):
            found[measured[0]] = measured[1]
    kind = next((kind for kind in kinds if kind in found), None)
    item = found[kind] if kind else None
    return Size(pack_count=_find_pack(name), item_quantity=item, kind=kind)


def extract_attributes(product: ProductText) -> NDArray[np.float32]:
    """Sizes and quantities of one product as numbers.

    The value field is in most rows the total (12 oz x 6 = 72), in some one item's
    size (17.6), in some a placeholder (1). So a total is the field's quantity where
    that exceeds one item's size in the name (for counts: or equals it), and pack
    count x item size otherwise; the field alone, or the name alone, where only one
    is known.

    Parameters
    ----------
    product : ProductText
        As parsed.

    Returns
    -------
    ndarray of float32, shape (len(ATTRIBUTE_NAMES),)
        Finite, or NaN where unknown. Quantities are natural logarithms of g, ml or
        pieces, clipped to [1e-3, 1e7] before.
    """
    field_kind, field_quantity = _measure_field(product)
    fluid = field_kind == "volume"
    sizes = [parse_size(product.name, kinds=(kind,), fluid=fluid) for kind in KINDS]
    named = next((size for size in sizes if size.kind), sizes[0])
    kind = field_kind or named.kind
    totals = [
        _total(size, of, field_quantity if of == field_kind else None)
        for of, size in zip(KINDS, sizes, strict=True)
    ]
    numbers = _NUMBER.findall(product.name[:MAX_NAME_CHARS])
    texts = (product.name, *product.bullets, product.description)
    values = [
        _log(product.value),
        _log(field_quantity),
        _log(named.pack_count or _infer_pack(named, kind, field_quantity)),
        _log(named.item_quantity),
        *map(_log, totals),
        _log(next(filter(None, totals), None)),
        *((math.nan if kind is None else float(kind == of)) for of in KINDS),
        _log(max(map(float, numbers), default=None)),
        _log(len(product.name)),
        _log(sum(map(len, texts))),
        float(len(product.bullets)),
    ]
    return np.array(values, dtype=np.float32)


def _measure_field(product: ProductText) -> tuple[Kind | None, float | None]:
    """Kind of the unit field, and the value field in that kind's base unit."""
    measured = _measure(product.value or 0.0, product.unit[:40])
    if measured:
        return measured
    kind = _measure(1.0, product.unit[:40])
    return (kind[0] if kind else None), None


def _measure(
    amount: float, unit: str, *, fluid: bool = False
) -> tuple[Kind, float] | None:
    """Kind and clipped quantity in base units; None if unknown or zero."""
    spelling = re.sub(r"[^a-z]", "", unit.lower())
    if spelling not in _UNITS or amount <= 0:
        return None
    spelling = "floz" if fluid and spelling in _OUNCES else spelling
    kind, factor = _UNITS[spelling]
    return kind, _clip(amount * factor)


def _find_pack(name: str) -> float | None:
    """Pack count by the most explicit phrase in a lower-case name."""
    for pattern in _PACKS:
        for match in pattern.finditer(name):
            if (count := int(match[1])) > 0:
                return float(count)
    return None


def _infer_pack(
    named: Size, field_kind: Kind | None, field_quantity: float | None
) -> float | None:
    """Items in the field's quantity ("8 Oz, 8 Count", 64 Ounce), if it divides."""
    if named.kind != field_kind or not named.item_quantity or not field_quantity:
        return None
    ratio = field_quantity / named.item_quantity
    count = round(ratio)
    return float(count) if count >= 1 and abs(ratio / count - 1) < 0.03 else None


def _total(size: Size, kind: Kind, field_quantity: float | None) -> float | None:
    """Total quantity of a kind; the rule is that of `extract_attributes`."""
    item = size.item_quantity
    if item is None and kind == "count" and size.pack_count:
        item = 1.0
    # 41 real names with field = item: prices fit the field for counts ("96 pods,
    # 4 boxes"), pack x item for masses and volumes (143 names)
    one_item = (0.95 if kind == "count" and item != 1 else 1.05) * (item or 0.0)
    if item is None or (field_quantity and field_quantity > one_item):
        return field_quantity
    return _clip(item * (size.pack_count or 1.0))


def _to_number(written: str) -> float:
    """Read "1,000", "1.5", "1/2" or "1 1/2"; a fraction over 0 is 0."""
    whole, _, fraction = written.replace("-", " ").rpartition(" ")
    top, _, bottom = fraction.replace(",", "").partition("/")
    part = float(top) / (float(bottom) or math.inf) if bottom else float(top)
    return float(whole or 0) + part


def _clip(quantity: float) -> float:
    return min(max(quantity, SMALLEST), LARGEST)


def _log(quantity: float | None) -> float:
    return math.log(_clip(quantity)) if quantity else math.nan
