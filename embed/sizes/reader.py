"""Read the size of a product from its name: the pack count and the size of one item.

Masses are in g, volumes in ml, counts in pieces. An ounce is a mass unless it is called
fluid, the catalog's own unit field is a volume, or the same amount is given in ml
beside it. An ambiguous size is unknown.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from embed.catalog.currencies import DecimalSign
from embed.sizes.grammar import read_phrases
from embed.sizes.phrases import Form, Phrases, Quantity, are_equal, are_fluid
from embed.sizes.tokens import Token
from embed.sizes.units import (
    DRINKWARE,
    FLUID_OUNCE_ML,
    FOR_HOLDERS,
    HOLDERS,
    IMPERIAL,
    KINDS,
    OUNCE_G,
    OUNCES,
    UNITS,
    WASHERS,
    Kind,
)

SMALLEST, LARGEST = 1e-3, 1e7
SAME = 0.03
"""Largest relative difference of a stated total and pack count times item size."""
SWALLOWED_G = 5.0
_ALL_HOLDERS = HOLDERS | DRINKWARE
LARGE_UNIT_ML = 400.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size in a product's name; unknown parts are None.

    Attributes
    ----------
    pack_count : float or None
        Items in the pack, at least 1.
    item_quantity : float or None
        Size of one item in g, ml or pieces, within [1e-3, 1e7].
    kind : {"mass", "volume", "count"} or None
        Kind of `item_quantity`.
    """

    pack_count: float | None = None
    item_quantity: float | None = None
    kind: Kind | None = None


@dataclass(frozen=True, kw_only=True)
class NamedSizes:
    """All sizes in a product's name: the pack count, and one item's size by kind."""

    pack_count: float | None
    items: dict[Kind, float]

    def of(self, kinds: tuple[Kind, ...]) -> Size:
        """Return the size of the first known kind of `kinds`."""
        kind = next((kind for kind in kinds if kind in self.items), None)
        item = self.items[kind] if kind else None
        return Size(pack_count=self.pack_count, item_quantity=item, kind=kind)


def parse_size(
    name: str,
    *,
    kinds: tuple[Kind, ...] = KINDS,
    fluid: bool = False,
    decimal: DecimalSign | None = None,
) -> Size:
    """Read pack count and item size from phrases like "12 Ounce (Pack of 6)".

    Parameters
    ----------
    name : str
        Product name; only the first 1000 characters are read.
    kinds : tuple of Kind
        Kinds of size to look for, the preferred kind first.
    fluid : bool
        Whether bare ounces are fluid ounces.
    decimal : {".", ","} or None
        Decimal sign of the catalog, from `embed.sizes.tokens.settle_decimal`; None if
        it is unknown.

    Returns
    -------
    Size
        Size of the first kind in the name. Nutrients, doses, loads, dimensions and
        model numbers are ignored.

    Examples
    --------
    >>> parse_size("Mineralwasser 6 x 1,5 l")
    Size(pack_count=6.0, item_quantity=1500.0, kind='volume')
    """
    return read_sizes(name, fluid=fluid, decimal=decimal).of(kinds)


def read_sizes(
    name: str, *, fluid: bool = False, decimal: DecimalSign | None = None
) -> NamedSizes:
    """Read the pack count and the sizes of all kinds; see `parse_size`."""
    phrases = read_phrases(name, decimal)
    quantities = _without_capacity(phrases, _without_doses(phrases))
    quantities = _settle_ounces(quantities, fluid=fluid)
    pack = _settle_pack(phrases, has_size=bool(quantities))
    if _is_mixed(quantities, phrases):
        return NamedSizes(pack_count=None, items={})
    items: dict[Kind, float] = {}
    for kind in ("mass", "volume"):
        of_kind = [quantity for quantity in quantities if quantity.kind == kind]
        if item := _settle_item(of_kind, pack):
            items[kind] = clip(item)
    if pieces := _settle_pieces(phrases, pack, has_size=bool(quantities)):
        items["count"] = clip(pieces)
    return NamedSizes(pack_count=pack, items=items)


def _is_mixed(quantities: list[Quantity], phrases: Phrases) -> bool:
    """Tell whether different things are sold together: "Gel 400 ml + Soap 200 ml"."""
    places = [q.at for q in quantities]
    return len(places) > 1 and any(
        min(places) < at < max(places) for at in phrases.plus_at
    )


def clip(quantity: float) -> float:
    """Clip a quantity to [1e-3, 1e7]."""
    return min(max(quantity, SMALLEST), LARGEST)


def _without_doses(phrases: Phrases) -> list[Quantity]:
    """Drop the dose of one tablet."""
    has_count = bool(phrases.pieces)
    is_swallowed = any(token.letter == "C" for token in phrases.tokens)
    if not (has_count or is_swallowed):
        return phrases.quantities
    return [
        q
        for q in phrases.quantities
        if q.unit not in ("mg", "milligram", "milligrams")
        and not (
            has_count and is_swallowed and q.unit == "g" and q.amount <= SWALLOWED_G
        )
    ]


def _without_capacity(phrases: Phrases, quantities: list[Quantity]) -> list[Quantity]:
    """Drop the capacity of a product that is sold empty."""
    holders = _holders(phrases.tokens) if quantities else set()
    return [q for q in quantities if not any(_holds(holder, q) for holder in holders)]


def _holds(holder: str, quantity: Quantity) -> bool:
    if holder in DRINKWARE:
        return quantity.kind == "volume" or quantity.unit in OUNCES
    if holder in WASHERS:
        return quantity.unit == "kg"
    return quantity.kind == "volume" and UNITS[quantity.unit][1] >= LARGE_UNIT_ML


def _holders(tokens: list[Token]) -> set[str]:
    """Return the kettles, backpacks and other things with a capacity in a name."""
    words = [token.text for token in tokens if token.text[0].isalpha()]
    holders = set()
    for start in range(len(words)):
        for stop in (start + 1, start + 2):
            holder = " ".join(words[start:stop])
            is_sold = not FOR_HOLDERS & set(words[stop : stop + 1])
            if holder in _ALL_HOLDERS and is_sold:
                holders.add(holder)
    return holders


def _settle_ounces(quantities: list[Quantity], *, fluid: bool) -> list[Quantity]:
    """Turn ounces into fluid ounces if `fluid`, or if the name has the same volume."""
    volumes = [q for q in quantities if q.kind == "volume"]
    return [
        _to_fluid(q)
        if q.unit in OUNCES and (fluid or any(are_fluid(q, v) for v in volumes))
        else q
        for q in quantities
    ]


def _to_fluid(ounces: Quantity) -> Quantity:
    amount = ounces.amount / OUNCE_G * FLUID_OUNCE_ML
    return Quantity(kind="volume", amount=amount, at=ounces.at, unit="floz")


def _settle_pack(phrases: Phrases, *, has_size: bool) -> float | None:
    """Return the pack count that fits all phrases together."""
    forms: dict[int, Form] = {}
    for count, form in phrases.packs:
        forms.setdefault(count, form)
    if not forms:
        is_pack = has_size and phrases.generic
        return float(phrases.generic[0]) if is_pack else None
    counts = sorted(count for count in forms if count > 1)
    if len(counts) < 2:
        return float(counts[0]) if counts else 1.0
    *factors, largest = counts
    if "product" in forms.values() or math.prod(factors) == largest:
        stated = max(c for c in counts if forms[c] == "product" or c == largest)
        return float(stated)
    if len(counts) == 2 and counts[1] / counts[0] in phrases.pieces:
        return float(counts[1])  # "24 cans, 6 packs of 4 count"
    if len(counts) > 2 or all(forms[count] == "number" for count in counts):
        return None  # such as "20 pack and 12 pack bundle"
    return float(math.prod(counts))


def _settle_item(quantities: list[Quantity], pack: float | None) -> float | None:
    """Return one item's size; a name may repeat it in another unit or as a total."""
    distinct: list[Quantity] = []
    for quantity in sorted(quantities, key=lambda q: q.at):
        equal = [i for i, known in enumerate(distinct) if are_equal(quantity, known)]
        if not equal:
            distinct.append(quantity)
        elif quantity.unit not in IMPERIAL:  # in "1.7 oz (50 g)", ounces are rounded
            distinct[equal[0]] = quantity
    if len(distinct) < 2:
        return distinct[0].amount if distinct else None
    for item, total in itertools.permutations(distinct, 2):
        if pack and abs(total.amount / (pack * item.amount) - 1) < SAME:
            return item.amount
    return distinct[-1].amount


def _settle_pieces(
    phrases: Phrases, pack: float | None, *, has_size: bool
) -> float | None:
    """Return the pieces of one pack."""
    pieces = [*phrases.pieces]
    if phrases.generic and not has_size:
        pieces += map(float, phrases.generic)
    for item in pieces:
        if pack and pack > 1 and pack * item in pieces:
            return item
    if pack and pack > 1 and pack in pieces:  # "36 pieces (36 pack)", or 12 x 12
        form = next((form for count, form in phrases.packs if count == pack), "per")
        if form != "per":
            return 1.0 if form == "product" else None
    if pieces:
        return pieces[-1]
    return 1.0 if phrases.is_count and pack and not has_size else None
