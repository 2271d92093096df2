"""Split product names into tokens for `embed.sizes.reader`: numbers, words, signs.

Each token has a class, which is a letter. A number that counts nothing (a model number,
a percentage, the 14 of "A14") has the letter N, any other number n.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from embed.catalog.currencies import DecimalSign
from embed.sizes.numbers import Scale, read_fraction, read_number, settle_number
from embed.sizes.units import (
    ENDINGS,
    FACTORS_IN_WORDS,
    IMPERIAL,
    NOT_COMPOUNDS,
    PACKS_IN_WORDS,
    SHORTEST_START,
    SIZE_UNITS,
    UNITS,
    WORD_CLASS,
)

MAX_NAME_CHARS = 1000
AGREEMENT = 0.9
"""Share of a catalog's numbers that must agree to settle the decimal sign."""

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_CJK_WORDS = sorted(
    (word for word in {*WORD_CLASS, *UNITS} if re.match(f"[{_CJK}]", word)),
    key=len,
    reverse=True,
)
_TOKEN = re.compile(
    r"\d+(?:[.,']\d+)*"
    r"|(?<![^\W_])\.\d+"
    rf"|{'|'.join(_CJK_WORDS)}|[{_CJK}]"
    rf"|[^\W\d_{_CJK}]+?(?=[xX]\d)|[^\W\d_{_CJK}]+"
    r"|[^\w\s]"
)
_JOINED = (  # several words that mean one
    (
        re.compile(r"\b(?:fl|fluid)[. -]{0,3}(oz|ounces?)(?![a-z])", re.I),
        r"fl\1",
    ),
    (re.compile(r"\b(pack|case|box|set)of(?=[ \d])", re.I), r"\1 of "),
    (re.compile(r"\bt(?:ea)?[ -]?(bags?)\b", re.I), r"tea\1"),
    (re.compile(r"\bk[ -](cups?)\b", re.I), r"k\1"),
    (re.compile(r"(\d ?)(?:fl|fluid)[. -]{1,3}(oz|ounces?)(?![a-z])", re.I), r"\1fl\2"),
)
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_MARKS = re.compile("[\u0300-\u036f\u2122\u00ae\u00a9]")
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u00d7\u2715\u2716*", "x"),
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\u301c~", "-"),
        **dict.fromkeys("\u201c\u201d\u2033", '"'),
        **dict.fromkeys("\u2018\u2019\u2032\u00b4`", "'"),
        **dict.fromkeys("[{\u3010\u300c", "("),
        **dict.fromkeys("]}\u3011\u300d", ")"),
        **dict.fromkeys("\u3001;|", ","),
        **dict.fromkeys("\u2007\u202f\u00a0", "\u00a0"),
    }
)
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})(?:\u00a0(\d{3})| (0\d{2}))(?!\d)")
# Classes of words that "x" may follow without a space ("mlx6"), that a number may
# follow, and that may follow a number
_BEFORE_TIMES = "mcCsgbBpt"
_NUMBERED, _COUNTED = "xpom", "mcCstgbBpxEDdl"


@dataclass(kw_only=True)
class Token:
    """A number, a word in lower case or a sign, and its class."""

    text: str
    raw: str
    letter: str
    starts_free: bool  # no letter or digit right before it
    ends_free: bool  # nor right after it
    value: float | None = None


def tokenize(name: str, decimal: DecimalSign | None) -> list[Token]:
    """Split a name into tokens, with the values of its numbers.

    Parameters
    ----------
    name : str
        Product name; only the first 1000 characters are read.
    decimal : {".", ","} or None
        The catalog's decimal sign. A number in the name with only one possible reading
        overrides it.
    """
    tokens = _split(name)
    own = {sign for sign in map(settle_number, _sized_numbers(tokens)) if sign}
    if len(own) == 1:
        decimal = own.pop()
    _read_numbers(tokens, decimal)
    tokens = _merge_fractions(tokens)
    _name_numbers(tokens)
    return tokens


def settle_decimal(names: Iterable[str]) -> DecimalSign | None:
    """Return the decimal sign of a catalog's sizes.

    Parameters
    ----------
    names : iterable of str
        Product names. Only numbers before a unit count, and only if one sign is
        possible, as in "0,75 l" or "2.5 kg".

    Returns
    -------
    {".", ","} or None
        Decimal sign; None if no name shows it, or more than a tenth disagree.
    """
    counts: dict[DecimalSign, int] = {".": 0, ",": 0}
    for name in names:
        if re.search(r"\d[.,]\d", name[:MAX_NAME_CHARS]):
            for written in _sized_numbers(_split(name)):
                if sign := settle_number(written):
                    counts[sign] += 1
    sign, most = max(counts.items(), key=lambda item: item[1])
    return sign if most and most >= AGREEMENT * sum(counts.values()) else None


def _split(name: str) -> list[Token]:
    """Split a name into tokens, and set the class of each token by itself."""
    text = name[:MAX_NAME_CHARS].translate(_SIGNS)
    text = _VULGAR.sub(lambda match: f" {match[0]} ", text)
    text = _SPACED_THOUSANDS.sub(r"\1\2\3", text)
    text = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    text = unicodedata.normalize("NFC", text)[: 2 * MAX_NAME_CHARS].translate(_SIGNS)
    for pattern, joined in _JOINED:
        text = pattern.sub(joined, text)
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        word = match[0].lower()
        if word == "." and tokens and tokens[-1].letter not in "nw":
            continue  # of an abbreviation: "oz.", "pk."
        start, end = match.span()
        letter = _class_of(word)
        if letter == "x" and text[start - 1 : start].isalpha():
            letter = "x" if tokens[-1].letter in _BEFORE_TIMES else "w"  # "IPX7"
        is_number = letter == "n"
        before, after = text[start - 1 : start], text[end : end + 1]
        tokens.append(
            Token(
                text=word,
                raw=match[0],
                letter=letter,
                starts_free=not (before.isalpha() if is_number else before.isdigit()),
                ends_free=not (after.isalpha() if is_number else after.isdigit()),
            )
        )
    return tokens


def _class_of(word: str) -> str:
    if word[0].isdigit() or (word[0] == "." and len(word) > 1):
        return "n"
    if word in SIZE_UNITS:
        return "m"
    if word in PACKS_IN_WORDS:
        return "U"
    if word in FACTORS_IN_WORDS:
        return "T"
    if word == "x":
        return "x"
    if not word[0].isalpha():
        return word[0] if word in "()+=/-,.:&#%'\"" else "~"
    return WORD_CLASS.get(word) or _class_of_compound(word)


def _class_of_compound(word: str) -> str:
    if word not in NOT_COMPOUNDS:
        for ending, letter in ENDINGS.items():
            if word.endswith(ending) and len(word) >= len(ending) + SHORTEST_START:
                return letter
    return "w"


def _sized_numbers(tokens: list[Token]) -> Iterable[str]:
    """Yield the numbers, as written, that come before a unit of size or length."""
    for index, token in enumerate(tokens[:-1]):
        has_dash = tokens[index + 1].letter == "-" and index + 2 < len(tokens)
        after = tokens[index + 1 + has_dash]
        if token.letter == "n" and token.starts_free and after.letter in "ml":
            yield token.text


def _read_numbers(tokens: list[Token], decimal: DecimalSign | None) -> None:
    """Set the values of numbers; a number without a value counts nothing."""
    for index, token in enumerate(tokens):
        if token.letter == "n":
            scale = _scale(tokens[index + 1 :][:2])
            token.value = read_number(token.text, decimal, scale)
            token.letter = "n" if token.value is not None else "N"


def _scale(after: list[Token]) -> Scale:
    """Return the scale of the unit after a number and perhaps a dash."""
    unit = next((t for t in after if t.letter != "-"), None)
    if unit is None or unit.letter not in "ml":
        return "count"
    if unit.text in IMPERIAL:
        return "imperial"
    return "small" if UNITS.get(unit.text, ("", 1e3))[1] < 10 else "large"


def _merge_fractions(tokens: list[Token]) -> list[Token]:
    """Merge "1/2" and "1 1/2" into one number each."""
    merged: list[Token] = []
    for token in tokens:
        merged.append(token)
        if [t.letter for t in merged[-3:]] != ["n", "/", "n"]:
            continue
        top, _, bottom = merged[-3:]
        fraction = read_fraction(top.value or 0.0, bottom.value or 0.0)
        if fraction is None or not bottom.starts_free:
            continue
        bottom.value, bottom.starts_free = fraction, top.starts_free
        del merged[-3:-1]
        _add_whole(merged)
    return merged


def _add_whole(merged: list[Token]) -> None:
    """Add the 1 of "1 1/2" or "1-1/2" to the fraction at the end of the tokens."""
    index = len(merged) - (3 if len(merged) > 2 and merged[-2].letter == "-" else 2)
    if index < 0 or merged[index].letter != "n" or not merged[index].ends_free:
        return
    whole, is_count = merged[index], index > 0 and merged[index - 1].letter in "opL"
    if not is_count and whole.text.isdigit() and (whole.value or 0.0) <= 99:
        merged[-1].value = (whole.value or 0.0) + (merged[-1].value or 0.0)
        merged[-1].starts_free = whole.starts_free
        del merged[index:-1]


def _name_numbers(tokens: list[Token]) -> None:
    """Mark the numbers that count nothing: labels, percentages, parts of words."""
    for index, token in enumerate(tokens):
        if token.letter == "n" and not _counts(tokens, index):
            token.letter = "N"
        if token.letter in "'\"" and index and tokens[index - 1].letter == "n":
            token.letter = "l"  # feet and inches


def _counts(tokens: list[Token], index: int) -> bool:
    token = tokens[index]
    before = tokens[index - 1] if index else None
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if not token.starts_free and before and not _may_touch(before):
        return after is not None and after.text in IMPERIAL and len(before.text) > 2
    if not token.ends_free and after and after.letter not in _COUNTED:
        return False
    if after and after.text in ("%", "\u00b0", "\u2030"):
        return False
    if before and (before.text in "#$\u20ac\u00a3\u20b9\u00a5" or before.letter == "#"):
        return False
    if after and after.text == "st" and not token.ends_free:  # 1st, not German pieces
        return False
    return not _is_label(tokens, index)


def _may_touch(word: Token) -> bool:
    """Tell whether a number may follow a word without a space: "x12", not "A4"."""
    return word.letter in _NUMBERED and word.text not in ("a", "d")


def _is_label(tokens: list[Token], index: int) -> bool:
    """Tell whether a number is part of a name: "Size 4", "Model (500)", "No. 5"."""
    before = index - 1
    while before >= 0 and tokens[before].letter in "(:.#-":
        before -= 1
    if before < 0 or tokens[before].letter != "L":
        return False
    after = "".join(token.letter for token in tokens[index + 1 : index + 3])
    return not re.match("-?m", after)
