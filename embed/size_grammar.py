"""The grammar of sizes: rules over the classes of a name's tokens.

A name is a string of letters, one for each token ("Cola 24 x 330 ml" is "wnxnm"), and
each rule a regular expression over it; the letters are listed in `embed.size_units`.
Rules are tried in order, and the tokens that a rule has read are gone for later ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from embed.currencies import DecimalSign
from embed.size_tokens import Token, tokenize
from embed.size_units import (
    CARAT_WORDS,
    ELECTRONIC_WORDS,
    FACTORS_IN_WORDS,
    FOR_HOLDERS,
    HOLDER_PAIRS,
    HOLDERS,
    OUNCES,
    PACKS_IN_WORDS,
    UNITS,
    Kind,
)

MAX_COUNT = 100_000
MAX_BRACKETED = 1000
NUTRIENT_G = 60.0
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


def read_phrases(name: str, decimal: DecimalSign | None) -> Phrases:
    """Read a name by all rules; time grows with its length alone.

    Parameters
    ----------
    name : str
        Only the first 1000 characters are looked at.
    decimal : {".", ","} or None
        The catalog's decimal sign.
    """
    tokens = tokenize(name, decimal)
    phrases = Phrases(tokens=tokens, letters="".join(t.letter for t in tokens))
    phrases.plus_at = [at for at, t in enumerate(tokens) if t.letter == "+"]
    for pattern, read in _RULES:
        matches = pattern.finditer(phrases.letters)
        spans = [match.span() for match in matches if read(phrases, match)]
        for start, end in spans:
            gone = "_" * (end - start)
            phrases.letters = phrases.letters[:start] + gone + phrases.letters[end:]
    return phrases


def _ignore(phrases: Phrases, match: re.Match[str]) -> bool:
    return True


def _ignore_sides(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "12 L x 8 W x 4 H", but not litres."""
    return "l" in phrases.words(match)[:3]


def _ignore_measured(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "8x10 sheets" and "6 x 9 bags": sides, or as many packs of them."""
    return phrases.tokens[match.end()].text in _FLAT


def _ignore_nutrient(phrases: Phrases, match: re.Match[str]) -> bool:
    first = phrases.measure(match.start())
    return first is None or (first.kind == "mass" and first.amount <= NUTRIENT_G)


def _ignore_load(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "holds 5 lb" and "up to 25 lb", but not "Max 330 ml"."""
    words = phrases.words(match)
    return words[0] not in ("max", "maximum", "rated", "net", "or", "user")


def _ignore_up_to(phrases: Phrases, match: re.Match[str]) -> bool:
    return phrases.words(match)[0] == "up"


def _ignore_rate(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "250 mg/5 ml"; of "12 oz/340 g" read one."""
    found = phrases.measure_all(match)
    if len(found) == 2 and are_equal(*found):
        phrases.quantities += found
    return True


def _sum_extra(phrases: Phrases, match: re.Match[str]) -> bool:
    """Add "2.5 kg + 500 g"; "3 x 400 g + 200 g" and other kinds stay unknown."""
    found = phrases.measure_all(match)
    if "x" not in match[0] and len({q.kind for q in found}) == 1:
        phrases.quantities.append(_sum(found))
    return True


def _sum_compound(phrases: Phrases, match: re.Match[str]) -> bool:
    """Add "1 lb 4 oz"."""
    found = phrases.measure_all(match)
    if len(found) != 2 or (found[0].unit[0], found[1].unit[0]) not in _COMPOUNDS:
        return False
    large, small = found
    one_large = UNITS[large.unit][1]
    if large.kind != small.kind or small.amount >= one_large:
        return False
    phrases.quantities.append(_sum(found))
    return True


def _sum(quantities: list[Quantity]) -> Quantity:
    first = quantities[0]
    amount = sum(quantity.amount for quantity in quantities)
    return Quantity(kind=first.kind, amount=amount, at=first.at, unit=first.unit)


def _multiply(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "4 x 6 x" before a size, or "x 4 x 6" after one."""
    count = 1.0
    for number in phrases.numbers(match):
        count *= number
    return phrases.add_pack(count, "inner")


def _multiply_packs(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "3 pack of 12 cans"."""
    outer, inner = phrases.numbers(match)
    return phrases.add_pack(outer * inner, "product")


def _read_pack(phrases: Phrases, match: re.Match[str]) -> bool:
    return phrases.add_pack(phrases.numbers(match)[0])


def _read_bracketed(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "750 ml (6)", but not "5G (2024)"."""
    (count,) = phrases.numbers(match)
    return count < MAX_BRACKETED and phrases.add_pack(count)


def _read_pack_of(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "case of 1,000", and whether a plural follows."""
    added = phrases.add_pack(phrases.numbers(match)[0], "of")
    for after in phrases.tokens[match.end() : match.end() + 1]:
        is_plural = after.letter in "wks" and re.search(r"[a-z]{3}s$", after.text)
        phrases.is_count |= added and bool(is_plural)
    return added


def _read_inner(phrases: Phrases, match: re.Match[str]) -> bool:
    return phrases.add_pack(phrases.numbers(match)[0], "inner")


def _read_in_pack(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "12 per case" and "6 in a pack", but not "12 inch box"."""
    if "l" in match[0] and "in" not in phrases.words(match):
        return False
    return phrases.add_pack(phrases.numbers(match)[0], "per")


def _read_numbered_pack(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "6-pack", but not "75192 set"."""
    word = phrases.words(match)[-1]
    if word in _NOT_AFTER_NUMBERS:
        return False
    return _read_pack(phrases, match)


def _read_word_pack(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "twin pack", "pack of six", "Doppelpack"."""
    known = FACTORS_IN_WORDS | PACKS_IN_WORDS
    return phrases.add_pack(next(known[w] for w in phrases.words(match) if w in known))


def _read_generic(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "pack of 6 units": a pack if a size is given, else pieces."""
    (count,) = phrases.numbers(match)
    if count == int(count) and 1 <= count <= MAX_COUNT:
        phrases.generic.append(int(count))
    return True


def _read_dozens(phrases: Phrases, match: re.Match[str]) -> bool:
    numbers = phrases.numbers(match) or [0.5 if "h" in match[0] else 1.0]
    phrases.is_count = True
    return phrases.add_pack(12 * numbers[0])


def _read_offer(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "buy 1 get 1" as 2, "leve 6 pague 5" as 6, "3 + 1 gratis" as 4."""
    first, second = phrases.numbers(match)
    pays = {"pague", "paga", "paghi", "zahl", "payez", "betaal"}
    is_price = pays & set(phrases.words(match))
    return phrases.add_pack(first if is_price else first + second)


def _read_joined(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "24-16.9 fl oz bottles" as 24; "10-25 lb" is a range."""
    count, size = phrases.numbers(match)
    follows = phrases.letters[match.end() :].lstrip("-")
    if count > size or follows.startswith("b"):
        added = phrases.add_pack(count, "inner")
        found = phrases.measure(match.end() - len(match[0].rpartition("n")[2]) - 1)
        if added and found:
            phrases.quantities.append(found)
    return True


def _read_pieces(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "100 sheets" and "24 ct"; "18 ct gold" is of carats."""
    (count,) = phrases.numbers(match)
    if "t" in match[0] and (count != int(count) or _is_carat(phrases, match)):
        return True
    if count == int(count) and count > 0:
        phrases.pieces.append(count)
    return True


def _is_carat(phrases: Phrases, match: re.Match[str]) -> bool:
    if phrases.words(match)[-1] not in ("ct", "cts"):
        return False
    after = [t.text for t in phrases.tokens[match.end() : match.end() + 3]]
    jewels = {"ring", "earrings", "necklace", "pendant", "diamond", "moissanite"}
    return bool(CARAT_WORDS & set(after) or jewels & {t.text for t in phrases.tokens})


def _read_quantity(phrases: Phrases, match: re.Match[str]) -> bool:
    found = phrases.measure(match.start())
    if found and not _is_network(phrases, match):
        phrases.quantities.append(found)
    return True


def _is_network(phrases: Phrases, match: re.Match[str]) -> bool:
    """Whether it is the 5G of a telephone."""
    number, *_, unit = phrases.tokens[match.start() : match.end()]
    if unit.text != "g" or number.text not in ("2", "3", "4", "5", "6"):
        return False
    words = {token.text for token in phrases.tokens}
    return (unit.raw == "G" and not unit.starts_free) or bool(ELECTRONIC_WORDS & words)


def _read_part(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "half gallon" and "two pound"."""
    word, *_, unit = phrases.tokens[match.start() : match.end()]
    if word.text in _NOT_NUMBERS or len(unit.text) < 2:
        return False
    share = {"h": 0.5, "Q": 0.25}.get(word.letter) or FACTORS_IN_WORDS[word.text]
    kind, factor = UNITS[unit.text]
    phrases.quantities.append(
        Quantity(kind=kind, amount=share * factor, at=match.start(), unit=unit.text)
    )
    return True


def are_equal(one: Quantity, other: Quantity) -> bool:
    """Whether two sizes are one in two units."""
    return (
        one.kind == other.kind and abs(one.amount / other.amount - 1) <= RESTATED
    ) or are_fluid(one, other)


def are_fluid(one: Quantity, other: Quantity) -> bool:
    """Whether ounces are those of a volume that stands beside them."""
    if {one.kind, other.kind} != {"mass", "volume"}:
        return False
    mass, volume = (one, other) if one.kind == "mass" else (other, one)
    as_volume = mass.amount / UNITS["oz"][1] * UNITS["floz"][1]
    return mass.unit in OUNCES and abs(as_volume / volume.amount - 1) <= RESTATED


def holds_something(tokens: list[Token]) -> bool:
    """Whether a name is of a kettle or another thing that has a capacity."""
    words = [token.text for token in tokens if token.text[0].isalpha()]
    for at, word in enumerate(words):
        pair = " ".join(words[at : at + 2])
        length = 2 if pair in HOLDER_PAIRS else 1 if word in HOLDERS else 0
        if length and not FOR_HOLDERS & set(words[at + length : at + length + 1]):
            return True
    return False


_COMPOUNDS = {("l", "o"), ("p", "o"), ("k", "g"), ("l", "m"), ("g", "q"), ("q", "p")}
_NOT_AFTER_NUMBERS = {"set", "lot", "kit", "bundle", "tray", "lote", "conf"}
_NOT_NUMBERS = {"twin", "duo", "double", "doppel", "doble", "duplo", "doppio", "trio"}
_NOT_NUMBERS |= {"triple", "triplo", "quad"}
_FLAT = {
    *("sheet", "sheets", "card", "cards", "envelope", "envelopes", "plates", "single"),
    *("singles", "pads", "napkins", "bag", "bags", "box", "boxes", "pouch", "pouches"),
    *("blatt", "feuilles", "fogli", "folhas", "hojas", "vellen", "canvas", "prints"),
}

_Rule = Callable[[Phrases, re.Match[str]], bool]
# what does not stand after a pack count
_NO_SIZE = r"(?!-?[mlN]|x|/n|-?[aT]{0,3}[cCt])"
_TABLE: tuple[tuple[str, _Rule], ...] = (
    # what counts nothing
    (r"(?<=[cCgtsbBp])\)?=n-?[aTw]{0,3}[cCgtsbBp]", _ignore),
    (r"nl?m(?:xnl?[dm])+l?", _ignore_sides),
    (r"(?<!x)nl?d?(?:xnl?d?)*xn(?:l+d?|d)(?!-?m)(?:xnl?d?)*", _ignore),
    (r"nld?(?:xnl?d?)+(?!-?m)", _ignore),
    (r"(?<!x)n(?:xn)+(?=[csbB])", _ignore_measured),
    (r"(?<!x)n(?:xn)+(?!-?[mcgCtsbBpxaTE]|x)", _ignore),
    (r"n-?m/n-?m", _ignore_rate),
    (r"n-?m(?:/[^pBn_]|r(?![ow]?[pBb]))", _ignore),
    (r"n-?m,?[jo]{0,4}k", _ignore_nutrient),
    (r"n-?m-?[,(]?[joaw]?j?K", _ignore),
    (r"Kj?[o:(i]{0,2}n-?m", _ignore_load),
    (r"jin-?m", _ignore_up_to),
    (r"n-?m-?\+?v", _ignore),
    # sums
    (r"(?:nx)?n-?m(?:\+n-?m)+", _sum_extra),
    (r"n-?m[,&]?-?n-?m", _sum_compound),
    (r"yn[^n]{0,2}Yn", _read_offer),
    (r"n\+nY", _read_offer),
    # packs, the most explicit first
    (r"n-?[pb]-?on(?!-?[aT]{0,3}[mxcCtgs])(?:-?[pbB])?", _multiply_packs),
    (r"[pB](?:[o:]|d/)[:(-]?n" + _NO_SIZE + r"(?=g)g", _read_generic),
    (r"[pB](?:[o:]|d/)[:(-]?n" + _NO_SIZE, _read_pack_of),
    (r"[pBb](?:oT|T(?!-?m))|T-?p|U", _read_word_pack),
    (r"nE-?[pBb]?", _read_pack),
    (r"(?:n-?)?h?-?D", _read_dozens),
    (r"\(?(?:nx)+\(?(?=n-?m)", _multiply),
    (r"(?<=m)\)?,?(?:xn)+" + r"(?!-?m|l)(?:-?[aT]{0,2}[bBgcCsp])?", _multiply),
    (r"(?<=m)\(n\)", _read_bracketed),
    (r"nb?[irl/]o?[pB]", _read_in_pack),
    (r"n/(?=n-?m)", _read_inner),
    (r"n/#N(?:-?[bB])?", _read_inner),
    (r"n[.]?-?p", _read_numbered_pack),
    (r"n-?[tg]-?p(?!o)", _read_generic),
    (r"p[-#:]{0,3}n" + _NO_SIZE + r"(?=g)g", _read_generic),
    (r"p[-#:]{0,3}n(?=$|[),(/&+=.]|-n)(?!/n)", _read_pack),
    (r"n-n-?m", _read_joined),
    (r"nin-?m", _ignore),
    (r"n-?[tcgCs],?(?=n-?me)", _read_inner),
    (r"(?<=me)[Bp]?[,(-]{0,2}n-?[tcgs]", _read_inner),
    (r"n-?g(?=on-?m)", _read_inner),
    (r"n(?=xn-?[aT]{0,3}[cCgts])", _read_inner),
    (r"n(?:\(T\))?-?b", _read_inner),
    (r"n-?B(?=$|[^wacCgsnNkL])", _read_inner),
    # pieces and sizes
    (r"n-?[aT]{0,3}[cCgts]r(?!o?[pB])", _ignore),
    (r"n-?[aT]{0,3}[cCgts]", _read_pieces),
    (r"n-?m", _read_quantity),
    (r"[hQT]-?m", _read_part),
)
_RULES = tuple((re.compile(pattern), read) for pattern, read in _TABLE)
