"""Read sizes in names by rules over the classes of their tokens.

A name becomes a string of letters, one for each token: "Cola 24 x 330 ml" is "wnxnm".
Each rule is a regular expression over that string; `embed.sizes.units` lists the
letters. Rules are tried in order, and later rules skip the tokens that a rule has read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from embed.catalog.currencies import DecimalSign
from embed.sizes.phrases import MAX_COUNT, Phrases, Quantity, are_equal
from embed.sizes.tokens import tokenize
from embed.sizes.units import (
    CARAT_WORDS,
    ELECTRONIC_WORDS,
    FACTORS_IN_WORDS,
    PACKS_IN_WORDS,
    TEA_WORDS,
    UNITS,
)

MAX_BRACKETED = 1000
NUTRIENT_G = 60.0


def read_phrases(name: str, decimal: DecimalSign | None) -> Phrases:
    """Apply all rules to a name; the time depends only on the name's length.

    Parameters
    ----------
    name : str
        Product name; only the first 1000 characters are read.
    decimal : {".", ","} or None
        The catalog's decimal sign.
    """
    tokens = tokenize(name, decimal)
    phrases = Phrases(tokens=tokens, letters="".join(t.letter for t in tokens))
    phrases.plus_at = [index for index, t in enumerate(tokens) if t.letter == "+"]
    for pattern, read in _RULES:
        matches = pattern.finditer(phrases.letters)
        spans = [match.span() for match in matches if read(phrases, match)]
        for start, end in spans:
            blanks = "_" * (end - start)
            phrases.letters = phrases.letters[:start] + blanks + phrases.letters[end:]
    return phrases


def _ignore(phrases: Phrases, match: re.Match[str]) -> bool:
    return True


def _ignore_sides(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "12 L x 8 W x 4 H", but not litres."""
    units = [t for t in phrases.tokens[match.start() : match.end()] if t.letter in "dm"]
    has_side = any(unit.letter == "d" for unit in units)
    return has_side and all(unit.letter == "d" or unit.text == "l" for unit in units)


def _ignore_measured(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "8x10 sheets" and "6 x 9 bags", which are sides or packs in packs."""
    return phrases.tokens[match.end()].text in _FLAT


def _ignore_nutrient(phrases: Phrases, match: re.Match[str]) -> bool:
    first = phrases.measure(match.start())
    return first is None or (first.kind == "mass" and first.amount <= NUTRIENT_G)


def _ignore_capacity(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "300 lb weight capacity" and "120 kg max", but not "330 ml Max"."""
    word = phrases.words(match)[-1]
    if word in _YIELDS:
        return False
    return word not in _WEAK_LOADS or _ignore_heavy(phrases, match)


def _ignore_heavy(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "30 lb dogs", but not "150 g cats"."""
    load = phrases.measure(match.start())
    return load is None or (load.kind == "mass" and load.unit[0] in "kpl")


def _ignore_load(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "holds 5 lb" and "up to 25 lb", but not "Max 330 ml"."""
    words = phrases.words(match)
    if words[0] in ("holds", "supports"):
        return UNITS[words[-1]][1] >= UNITS["lb"][1]
    return words[0] not in _WEAK_LOADS


def _ignore_up_to(phrases: Phrases, match: re.Match[str]) -> bool:
    return phrases.words(match)[0] == "up"


def _ignore_share(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "100 mg per serving" and "180 g/m2", but not "12 oz per can"."""
    sign, word = phrases.tokens[match.end() - 2 : match.end()]
    is_number = word.letter in "mN" or (word.letter == "n" and sign.letter == "r")
    return is_number or word.text in _SHARES


def _ignore_rate(phrases: Phrases, match: re.Match[str]) -> bool:
    """Ignore "250 mg/5 ml", but read "12 oz/340 g", which is one size in two units."""
    quantities = phrases.measure_all(match)
    if len(quantities) == 2 and are_equal(quantities[0], quantities[1], within=ROUNDED):
        phrases.quantities += quantities
    return True


def _sum_extra(phrases: Phrases, match: re.Match[str]) -> bool:
    """Add "2.5 kg + 500 g"; "3 x 400 g + 200 g" and mixed kinds stay unknown."""
    quantities = phrases.measure_all(match)
    if "x" not in match[0] and len({q.kind for q in quantities}) == 1:
        phrases.quantities.append(_sum(quantities))
    return True


def _sum_compound(phrases: Phrases, match: re.Match[str]) -> bool:
    """Add "1 lb 4 oz"."""
    quantities = phrases.measure_all(match)
    if tuple(quantity.unit[0] for quantity in quantities) not in _COMPOUNDS:
        return False
    large, small = quantities
    one_large = UNITS[large.unit][1]
    if large.kind != small.kind or small.amount >= one_large:
        return False
    phrases.quantities.append(_sum(quantities))
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
    """Read "case of 1,000", and note whether a plural follows."""
    added = phrases.add_pack(phrases.numbers(match)[0], "of")
    for after in phrases.tokens[match.end() : match.end() + 1]:
        is_plural = after.letter in "wks" and re.search(r"[a-z]{3}s$", after.text)
        phrases.is_count |= added and bool(is_plural)
    return added


def _read_inner(phrases: Phrases, match: re.Match[str]) -> bool:
    return phrases.add_pack(phrases.numbers(match)[0], "inner")


def _read_pieces_of_size(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "20 bags x 2 g" and "6 bars of 40 g", but no doses or paper weights."""
    number_at = match.end() + phrases.letters[match.end() :].index("n")
    piece = phrases.measure(number_at)
    if piece is None or (piece.kind == "mass" and piece.amount < 1):
        return False
    if _SHEETS & set(phrases.words(match)):
        return False
    return _read_inner(phrases, match)


def _read_bags(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "tea, 20 bags" as pieces; a mass beside them is the total."""
    words = {token.text for token in phrases.tokens}
    return bool(
        phrases.words(match)[-1] in _TEA_BAGS
        and TEA_WORDS & words
        and _read_pieces(phrases, match)
    )


def _read_times(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "diapers x50" as pieces and "T-shirt x 3" as a pack, but not "M6 x 30"."""
    if not phrases.tokens[match.start() - 1].starts_free:
        return True
    if any(token.letter in "csC" for token in phrases.tokens):
        return _read_pieces(phrases, match)
    is_label = phrases.tokens[match.start() - 1].letter == "N"
    return is_label or _read_inner(phrases, match)


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
    """Read "24-16.9 fl oz bottles" as 24, but not the range "10-25 lb"."""
    count, size = phrases.numbers(match)
    follows = phrases.letters[match.end() :].lstrip("-")
    if count == 1 or count > size or follows.startswith("b"):
        added = phrases.add_pack(count, "inner")
        item = phrases.measure(match.end() - len(match[0].rpartition("n")[2]) - 1)
        if added and item:
            phrases.quantities.append(item)
    return True


def _read_pieces(phrases: Phrases, match: re.Match[str]) -> bool:
    """Read "100 sheets" and "24 ct", but not the carats of "18 ct gold"."""
    (count,) = phrases.numbers(match)
    is_decimal = re.search(r"[.,]\d{1,2}$", phrases.words(match)[0])
    if "t" in match[0] and (count != int(count) or _is_carat(phrases, match)):
        return True
    if count == int(count) and count > 0 and not is_decimal:
        phrases.pieces.append(count)
    return True


def _is_carat(phrases: Phrases, match: re.Match[str]) -> bool:
    if phrases.words(match)[-1] not in ("ct", "cts"):
        return False
    after = [t.text for t in phrases.tokens[match.end() : match.end() + 3]]
    jewels = {"ring", "earrings", "necklace", "pendant", "diamond", "moissanite"}
    return bool(CARAT_WORDS & set(after) or jewels & {t.text for t in phrases.tokens})


def _read_quantity(phrases: Phrases, match: re.Match[str]) -> bool:
    quantity = phrases.measure(match.start())
    if quantity and not _is_network(phrases, match):
        phrases.quantities.append(quantity)
    return True


def _is_network(phrases: Phrases, match: re.Match[str]) -> bool:
    """Tell whether a quantity is the 5G of a telephone."""
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


_TEA_BAGS = {"bags", "beutel", "sachets", "bolsas", "bustine", "zakken"}
_SHEETS = {"sheet", "sheets", "blatt", "feuilles", "fogli", "folhas", "hojas"}
_SHEETS |= {"vellen", "pages", "leaves"}
_YIELDS = {"makes", "yields"}
_WEAK_LOADS = {"max", "maximum", "rated", "rating", "holds", "supports"}
# fmt: off
_SHARES = {
    "serving", "servings", "portion", "day", "dose", "hour", "h", "min", "m", "sqm",
    "sq", "tablet", "capsule", "kg", "dosis", "dia", "jour", "person", "porcion", "cm",
    "ft", "yd", "square", "dl", "l", "100",
}
# fmt: on
ROUNDED = 0.15
"""Largest relative difference of one size in two units that a slash joins."""
_COMPOUNDS = {("l", "o"), ("p", "o"), ("k", "g"), ("l", "m"), ("g", "q"), ("q", "p")}
_NOT_AFTER_NUMBERS = {"set", "lot", "kit", "bundle", "tray", "lote", "conf"}
_NOT_NUMBERS = {"twin", "duo", "double", "doppel", "doble", "duplo", "doppio", "trio"}
_NOT_NUMBERS |= {"triple", "triplo", "quad"}
# fmt: off
_FLAT = {
    "sheet", "sheets", "card", "cards", "envelope", "envelopes", "plates", "single",
    "singles", "pads", "napkins", "bag", "bags", "box", "boxes", "pouch", "pouches",
    "blatt", "feuilles", "fogli", "folhas", "hojas", "vellen", "canvas", "prints",
}
# fmt: on

_Rule = Callable[[Phrases, re.Match[str]], bool]
# tokens that never follow a pack count
_NO_SIZE = r"(?!-?[ml]|N|x\(?n|/n|-?[aT]{0,3}[cCt])"
_TABLE: tuple[tuple[str, _Rule], ...] = (
    # numbers that count nothing
    (r"(?<=[cCgtsbBp])\)?=n-?[aTw]{0,3}[cCgtsbBp]", _ignore),
    (r"nl?[dm](?:xnl?[dm])+l?", _ignore_sides),
    (r"(?<!x)nl?d?(?:xnl?d?)*xn(?:l+d?|d)(?!-?m)(?:xnl?d?)*", _ignore),
    (r"nld?(?:xnl?d?)+(?!-?m)", _ignore),
    (r"(?<!x)n(?:xn)+(?=[csbB])", _ignore_measured),
    (r"(?<!x)n(?:xn)+(?!-?[mcgCtsbBpxaTE]|x)", _ignore),
    (r"(?:nx)?n-?m(?:\+n-?m)+", _sum_extra),
    (r"\(?(?:nx)+\(?(?=n-?m)", _multiply),
    (r"n-?m/n-?m", _ignore_rate),
    (r"n-?m[/r].", _ignore_share),
    (r"n-?m,?[jo]{0,4}k", _ignore_nutrient),
    (r"n-?m-?[,(]?[joaw]?j?K", _ignore_capacity),
    (r"Kj?[o:(i]{0,2}n-?m", _ignore_load),
    (r"jin-?m", _ignore_up_to),
    (r"n-?m-?\+?v", _ignore_heavy),
    # sums
    (r"n-?m[,&]?-?n-?m", _sum_compound),
    (r"yn[^n]{0,2}Yn", _read_offer),
    (r"n\+nY", _read_offer),
    # packs, the most explicit first
    (r"n-?[aT]{0,3}[bBcCgts][xo](?=\(?n-?m)", _read_pieces_of_size),
    (r"n-?[pb]-?on(?!-?[aT]{0,3}[mxcCtgs])(?:-?[pbB])?", _multiply_packs),
    (r"n-?[pb]o(?=n-?[aT]{0,3}[cCtgs])", _read_pack),
    (r"[pB](?:[o:]|d/)[:(-]?n" + _NO_SIZE + r"(?=g)g", _read_generic),
    (r"[pB](?:[o:]|d/)[:(-]?n" + _NO_SIZE, _read_pack_of),
    (r"[pBb](?:oT|T(?!-?m))|T-?p|U", _read_word_pack),
    (r"nE-?[pBb]?", _read_pack),
    (r"(?:n-?)?h?-?D", _read_dozens),
    (r"(?<=m)\)?,?(?:xn)+" + r"(?!-?m|l)(?:-?[aT]{0,2}[bBgcCsp])?", _multiply),
    (r"(?<=m)\(n\)", _read_bracketed),
    (r"nb?[irl/]o?[pB]", _read_in_pack),
    (r"n/(?=n-?m)", _read_inner),
    (r"n/#N(?:-?[bB])?", _read_inner),
    (r"n[.]?-?p", _read_numbered_pack),
    (r"n-[wscg]p", _read_numbered_pack),
    (r"n-?[tg]-?p(?!o)", _read_generic),
    (r"p[-#:]{0,3}n" + _NO_SIZE + r"(?=g)g", _read_generic),
    (r"p[-#:]{0,3}n(?=$|[),(/&+=.]|-n)(?!/n)", _read_pack),
    (r"n-n-?m", _read_joined),
    (r"nin-?m", _ignore),
    (r"n-?[tcgCs],?(?=n-?me)", _read_inner),
    (r"(?<=me)[Bp]?[,(-]{0,2}n-?[tcgs]", _read_inner),
    (r"n-?g(?=on-?m)", _read_inner),
    (r"n(?=xn-?[aT]{0,3}[cCgts])", _read_inner),
    (r"n-?[aT]{0,2}b", _read_bags),
    (r"n(?:\(T\))?-?b", _read_inner),
    (r"n-?B(?=$|[^wacCgsnNkL])", _read_inner),
    (r"(?<=[^nmx_])xn(?=$|[),])", _read_times),
    # pieces and sizes
    (r"n-?[aT]{0,3}[cCgts]r(?!o?[pB])", _ignore),
    (r"n-?[aT]{0,3}[cCgts]", _read_pieces),
    (r"n-?e", _read_pieces),
    (r"n-?m", _read_quantity),
    (r"[hQT]-?m", _read_part),
)
_RULES = tuple((re.compile(pattern), read) for pattern, read in _TABLE)
