"""Describe a product's size by numbers: value, unit, pack count and total quantity.

Masses are in g, volumes in ml, counts in pieces. `embed.sizes.reader` reads the name;
this module reads the catalog's own value and unit fields.
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from embed.catalog.currencies import DecimalSign
from embed.sizes.reader import LARGEST, SMALLEST, Size, clip, parse_size, read_sizes
from embed.sizes.tokens import MAX_NAME_CHARS
from embed.sizes.units import KINDS, UNITS, Kind
from embed.text import ProductText

__all__ = [
    "ATTRIBUTE_NAMES",
    "KINDS",
    "LARGEST",
    "SMALLEST",
    "Kind",
    "Size",
    "extract_attributes",
    "parse_size",
]

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

_NUMBER = re.compile(r"(?<![\d.])\d{1,9}(?:\.\d{1,6})?", re.ASCII)


def extract_attributes(
    product: ProductText, *, decimal: DecimalSign | None = None
) -> NDArray[np.float32]:
    """Return the sizes and quantities of one product as numbers.

    In most rows the value field is the total (12 oz x 6 = 72), in some it is one item's
    size (17.6), in some a placeholder (1). So the total is the field's quantity if that
    exceeds one item's size in the name (for counts: or equals it), and pack count x
    item size otherwise. If only the field or only the name has a size, that one counts.

    Parameters
    ----------
    product : ProductText
        Text fields from `parse_fields`.
    decimal : {".", ","} or None
        Decimal sign of the catalog's sizes; None if it is unknown.

    Returns
    -------
    ndarray of float32, shape (len(ATTRIBUTE_NAMES),)
        Finite, or NaN where unknown. Quantities are natural logarithms of g, ml or
        pieces, which are first clipped to [1e-3, 1e7].
    """
    field_kind, field_quantity = _measure_field(product)
    fluid = field_kind == "volume"
    named_sizes = read_sizes(product.name, fluid=fluid, decimal=decimal)
    sizes = [named_sizes.of((kind,)) for kind in KINDS]
    named = named_sizes.of(KINDS)
    main_kind = field_kind or named.kind
    totals = [
        _total(size, kind, field_quantity if kind == field_kind else None)
        for kind, size in zip(KINDS, sizes, strict=True)
    ]
    numbers = _NUMBER.findall(product.name[:MAX_NAME_CHARS])
    texts = (product.name, *product.bullets, product.description)
    values = [
        _log(product.value),
        _log(field_quantity),
        _log(named.pack_count or _infer_pack(named, main_kind, field_quantity)),
        _log(named.item_quantity),
        *map(_log, totals),
        _log(next(filter(None, totals), None)),
        *(math.nan if main_kind is None else float(main_kind == k) for k in KINDS),
        _log(max(map(float, numbers), default=None)),
        _log(len(product.name)),
        _log(sum(map(len, texts))),
        float(len(product.bullets)),
    ]
    return np.array(values, dtype=np.float32)


def _measure_field(product: ProductText) -> tuple[Kind | None, float | None]:
    """Return the kind of the unit field, and the value field in its base unit."""
    measured = _measure(product.value or 0.0, product.unit[:40])
    if measured:
        return measured
    kind = _measure(1.0, product.unit[:40])
    return (kind[0] if kind else None), None


def _measure(amount: float, unit: str) -> tuple[Kind, float] | None:
    """Return kind and clipped quantity in base units; None if unknown or zero."""
    spelling = re.sub(r"[^a-z]", "", unit.lower())
    if spelling not in UNITS or amount <= 0:
        return None
    kind, factor = UNITS[spelling]
    return kind, clip(amount * factor)


def _infer_pack(
    named: Size, field_kind: Kind | None, field_quantity: float | None
) -> float | None:
    """Return how many items make the field's quantity: 64 Ounce of "8 Oz" are 8."""
    if named.kind != field_kind or not named.item_quantity or not field_quantity:
        return None
    ratio = field_quantity / named.item_quantity
    count = round(ratio)
    return float(count) if count >= 1 and abs(ratio / count - 1) < 0.03 else None


def _total(size: Size, kind: Kind, field_quantity: float | None) -> float | None:
    """Return the total quantity of a kind, by the rule of `extract_attributes`."""
    item = size.item_quantity
    if item is None and kind == "count" and size.pack_count:
        item = 1.0
    # 41 real names with field = item: prices fit the field for counts ("96 pods,
    # 4 boxes"), pack x item for masses and volumes (143 names)
    one_item = (0.95 if kind == "count" and item != 1 else 1.05) * (item or 0.0)
    if item is None or (field_quantity and field_quantity > one_item):
        return field_quantity
    return clip(item * (size.pack_count or 1.0))


def _log(quantity: float | None) -> float:
    return math.log(clip(quantity)) if quantity else math.nan
