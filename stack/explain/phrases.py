"""Words and phrases of a catalog text, to be left out one at a time."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from embed.catalog.columns import shorten

# The same marks of fields as in `parse_fields`.
from embed.text import FIELD, plain_text

_WORD = re.compile(r"\S+")
_NAME_SHARE = 2 / 3  # of the phrases, at most, when there is other text too
_MAX_AMOUNTS = 4  # a value and a unit, and more where they are repeated
_SHOWN_CHARS = 120
_RANKS = {"Item Name": 0, "Bullet Point": 1, "Product Description": 2}

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """Words that are left out together."""

    text: str
    """The words on one line, cut if there are many."""

    without: str
    """The text without these words; its fields stay marked."""


@dataclass(frozen=True, kw_only=True)
class _Field:
    label: str
    start: int
    stop: int


def split_phrases(text: str, *, limit: int, max_words: int) -> list[Phrase]:
    """Cut a text into words, or phrases where it has too many.

    The name is cut finest. The value and the unit are a phrase each. The words after
    the first `max_words`, which no encoder reads, are one phrase.

    Parameters
    ----------
    text : str
        Catalog text, with or without marked fields.
    limit : int
        Largest number of phrases, 4 or more.
    max_words : int
        Largest number of words that an encoder reads: each has one token or more.

    Returns
    -------
    list of Phrase
        Phrases in reading order, without field marks, markup and lone punctuation.
    """
    text = plain_text(text)
    fields = _fields(text)
    words = _words(text)
    amounts = [_inside(words, f) for f in fields if f.label in ("Value", "Unit")]
    prose = sorted((f for f in fields if f.label in _RANKS), key=lambda f: _rank(f))
    read, unread = _cut([_inside(words, field) for field in prose], max_words)
    groups = _join_last([spans for spans in amounts if spans], _MAX_AMOUNTS)
    room = limit - len(groups) - bool(unread)
    has_name = bool(prose) and prose[0].label == "Item Name"
    groups += _group(read, room, has_name=has_name)
    phrases = [_phrase(text, spans) for spans in [*groups, unread] if spans]
    labels = [field.label for field in fields]
    # "Best Value: 3" without "Best" would begin with the mark of a field.
    return [p for p in phrases if _keeps_labels(p.without, labels)]


def _fields(text: str) -> list[_Field]:
    """Find the fields as `parse_fields` does; without marks line 1 is the name."""
    marks = list(FIELD.finditer(text))
    if not any(mark[1] == "Item Name" or mark.start() == 0 for mark in marks):
        end = text.find("\n") if "\n" in text else len(text)
        return [
            _Field(label="Item Name", start=0, stop=end),
            _Field(label="Product Description", start=end, stop=len(text)),
        ]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    marked = [
        _Field(label=mark[1], start=mark.end(), stop=end)
        for mark, end in zip(marks, ends, strict=True)
    ]
    unmarked = _Field(label="Product Description", start=0, stop=marks[0].start())
    return [*marked, unmarked]


def _keeps_labels(text: str, labels: list[str]) -> bool:
    return [field.label for field in _fields(text.strip())] == labels


def _rank(field: _Field) -> tuple[int, int]:
    return _RANKS[field.label], field.start


def _words(text: str) -> list[Span]:
    return [
        word.span() for word in _WORD.finditer(text) if any(map(str.isalnum, word[0]))
    ]


def _inside(words: list[Span], field: _Field) -> list[Span]:
    return [(a, b) for a, b in words if field.start <= a and b <= field.stop]


def _cut(
    fields: list[list[Span]], max_words: int
) -> tuple[list[list[Span]], list[Span]]:
    """Split words into those that an encoder reads, by field, and the rest."""
    read, unread, left = [], [], max_words
    for words in fields:
        read.append(words[:left])
        unread += words[left:]
        left = max(0, left - len(words))
    return read, unread


def _group(fields: list[list[Span]], limit: int, *, has_name: bool) -> list[list[Span]]:
    name = fields[0] if has_name else []
    rest = [words for words in fields[has_name:] if words]
    n_rest = sum(map(len, rest))
    for_name = max(limit - n_rest, int(limit * _NAME_SHARE)) if rest else limit
    groups = _even_runs(name, for_name)
    room = limit - len(groups)
    rest = _join_last(rest, room)
    size = _run_size([len(words) for words in rest], room)
    for words in rest:
        groups += _even_runs(words, -(-len(words) // size))
    return groups


def _join_last(groups: list[list[Span]], limit: int) -> list[list[Span]]:
    """Join the last groups if there are more than `limit`."""
    if len(groups) <= limit:
        return groups
    return [*groups[: limit - 1], list(itertools.chain(*groups[limit - 1 :]))]


def _run_size(lengths: list[int], room: int) -> int:
    """Return the least number of words in a phrase with which all phrases fit."""
    sizes = range(1, max(lengths, default=0) + 2)
    return next(s for s in sizes if sum(-(-n // s) for n in lengths) <= room)


def _even_runs(words: list[Span], n_runs: int) -> list[list[Span]]:
    n_runs = min(n_runs, len(words))
    bounds = [len(words) * run // max(n_runs, 1) for run in range(n_runs + 1)]
    return [words[a:b] for a, b in itertools.pairwise(bounds)]


def _phrase(text: str, spans: Sequence[Span]) -> Phrase:
    pieces, position = [], 0
    for start, stop in sorted(spans):
        pieces.append(text[position:start])
        position = stop
    words = " ".join(text[start:stop] for start, stop in spans)
    return Phrase(
        text=shorten(words, _SHOWN_CHARS), without="".join([*pieces, text[position:]])
    )
