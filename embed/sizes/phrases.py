"""What a product's name says of sizes, phrase by phrase, before it is settled."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from embed.sizes.tokens import Token
from embed.sizes.units import OUNCES, UNITS, Kind

MAX_COUNT = 100_000
RESTATED = 0.06
"""Two sizes are one in two units if they differ by no more: "12 oz (350 g)"."""

Form = Literal["product", "of", "number", "per", "inner"]
"""How a pack count is written: "3 packs of 6", "pack of 6", "6-pack", "6 per case", and
what is in one: "6 cans", "6 x"."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A mass or volume in g or ml."""

    kind: Kind
    amount: float
    at: int
    unit: str


@dataclass(kw_only=True)
class Phrases:
    """What the rules have found in a name."""

    tokens: list[Token]
    letters: str
    packs: list[tuple[int, Form]] = field(default_factory=list)
    pieces: list[float] = field(default_factory=list)
    generic: list[int] = field(default_factory=list)  # "pack of 6 units"
    quantities: list[Quantity] = field(default_factory=list)
    plus_at: list[int] = field(default_factory=list)
    is_count: bool = False  # the packs hold countable things: "Case of 100 Gloves"

    def numbers(self, match: re.Match[str]) -> list[float]:
        """Return the values of a phrase's numbers."""
        return [
            token.value
            for token in self.tokens[match.start() : match.end()]
            if token.letter == "n" and token.value is not None
        ]

    def words(self, match: re.Match[str]) -> list[str]:
        """Return the words and signs of a phrase."""
        return [t.text for t in self.tokens[match.start() : match.end()]]

    def add_pack(self, count: float, form: Form = "number") -> bool:
        """Add a pack count; return whether it can be one."""
        if not (count == int(count) and 1 <= count <= MAX_COUNT):
            return False
        self.packs.append((int(count), form))
        return True

    def measure(self, at: int) -> Quantity | None:
        """Return the quantity of the number at a place and the unit after it."""
        number = self.tokens[at]
        unit = next(t for t in self.tokens[at + 1 :] if t.letter != "-").text
        kind, factor = UNITS[unit]
        amount = (number.value or 0.0) * factor
        if amount <= 0:
            return None
        return Quantity(kind=kind, amount=amount, at=at, unit=unit)

    def measure_all(self, match: re.Match[str]) -> list[Quantity]:
        """Return the quantities of a phrase, in order."""
        places = re.finditer(r"n-?m", match[0])
        found = (self.measure(match.start() + place.start()) for place in places)
        return [quantity for quantity in found if quantity]


def are_equal(one: Quantity, other: Quantity, within: float = RESTATED) -> bool:
    """Whether two sizes are one in two units."""
    return (
        one.kind == other.kind and abs(one.amount / other.amount - 1) <= within
    ) or are_fluid(one, other)


def are_fluid(one: Quantity, other: Quantity) -> bool:
    """Whether ounces are those of a volume that stands beside them."""
    if {one.kind, other.kind} != {"mass", "volume"}:
        return False
    mass, volume = (one, other) if one.kind == "mass" else (other, one)
    as_volume = mass.amount / UNITS["oz"][1] * UNITS["floz"][1]
    return mass.unit in OUNCES and abs(as_volume / volume.amount - 1) <= RESTATED
