"""Phrases of sizes in a product's name, before they are settled into one size."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from embed.sizes.tokens import Token
from embed.sizes.units import OUNCES, UNITS, Kind

MAX_COUNT = 100_000
RESTATED = 0.06
"""Largest relative difference of one size in two units: "12 oz (350 g)"."""

Form = Literal["product", "of", "number", "per", "inner"]
"""Form of a pack count: "3 packs of 6", "pack of 6", "6-pack", "6 per case", and for
the items inside a pack "6 cans" or "6 x"."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A mass or volume in g or ml."""

    kind: Kind
    amount: float
    at: int
    unit: str


@dataclass(kw_only=True)
class Phrases:
    """Phrases that the rules have read in a name."""

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
        """Add a pack count; return False if the number cannot be one."""
        if not (count == int(count) and 1 <= count <= MAX_COUNT):
            return False
        self.packs.append((int(count), form))
        return True

    def measure(self, at: int) -> Quantity | None:
        """Return the quantity of the number at token `at` and the unit after it."""
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
        quantities = (self.measure(match.start() + place.start()) for place in places)
        return [quantity for quantity in quantities if quantity]


def are_equal(first: Quantity, second: Quantity, within: float = RESTATED) -> bool:
    """Tell whether two quantities are one size in two units."""
    return (
        first.kind == second.kind and abs(first.amount / second.amount - 1) <= within
    ) or are_fluid(first, second)


def are_fluid(first: Quantity, second: Quantity) -> bool:
    """Tell whether two quantities are fluid ounces and the same volume."""
    if {first.kind, second.kind} != {"mass", "volume"}:
        return False
    mass, volume = (first, second) if first.kind == "mass" else (second, first)
    as_volume = mass.amount / UNITS["oz"][1] * UNITS["floz"][1]
    return mass.unit in OUNCES and abs(as_volume / volume.amount - 1) <= RESTATED
