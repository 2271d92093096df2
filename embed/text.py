"""Parse a product's text into fields, clean them, and compose them for an encoder.

The fields are those of the Smart Product Pricing data: lines that start with
`Item Name:`, `Bullet Point 1:`, `Product Description:`, `Value:`, `Unit:`. If the same
text gives different fields, raise `embed.formats.TEXT_FORMAT`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.cleaning.markup import strip_markup
from embed.cleaning.unicode_forms import normalise_forms

MISSING_TEXT = "product without description"
"""Text for the encoder in place of a missing text."""

# No encoder reads further, and it bounds the work: NFKC is quadratic in a run of
# combining marks.
MAX_FIELD_CHARS = 20_000
# A tokeniser reads a whole text before it cuts it: 11 s and 0.7 GB for 6 MB of bullets
MAX_TEXT_CHARS = 100_000

FIELD = re.compile(
    r"^[ \t]*(Item Name|Bullet Point|Product Description|Value|Unit)(?: ?\d{1,4})?:",
    re.MULTILINE,
)
# Control characters that are not white space, marks of direction and of zero width,
# tags, lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000e0001\U000e0020-\U000e007f]"
)
_NUMBER = re.compile(r"[+]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOTHING = {"none", "nan", "null", ""}


@dataclass(frozen=True, kw_only=True)
class ProductText:
    """A product's text in fields, cleaned; "", () or None where missing.

    Attributes
    ----------
    name, description : str
        One line each.
    bullets : tuple of str
        Bullet points in order of appearance, none empty.
    value : float or None
        Amount in `unit`, positive and finite.
    unit : str
        Unit as written, such as "Fl Oz".
    """

    name: str = ""
    bullets: tuple[str, ...] = ()
    description: str = ""
    value: float | None = None
    unit: str = ""


def parse_fields(text: str) -> ProductText:
    """Split a product's text into cleaned fields.

    Parameters
    ----------
    text : str
        Labelled fields in any order, which may be missing or repeated. In any other
        text, the first line is the name and the rest is the description.

    Returns
    -------
    ProductText
        Cleaned fields. The first of several names counts, and the last of several
        values or units. Further names and text before the first label join the
        description.
    """
    text = plain_text(text)
    labels = list(FIELD.finditer(text))
    if not any(label[1] == "Item Name" or label.start() == 0 for label in labels):
        name, _, description = text.partition("\n")
        return ProductText(name=_clean(name), description=_clean(description))
    fields = defaultdict(list)
    ends = [label.start() for label in labels[1:]] + [len(text)]
    for label, end in zip(labels, ends, strict=True):
        if content := _clean(text[label.end() : end]):
            fields[label[1]].append(content)
    name, *more_names = fields["Item Name"] or [""]
    preamble = _clean(text[: labels[0].start()])
    extra = [preamble, *more_names, *fields["Product Description"]]
    unit = (fields["Unit"] or [""])[-1]
    return ProductText(
        name=name,
        bullets=tuple(fields["Bullet Point"]),
        description=" ".join(filter(None, extra)),
        value=_to_value((fields["Value"] or [""])[-1]),
        unit="" if unit.casefold() in _NOTHING else unit,
    )


def plain_text(text: str) -> str:
    """Return a catalog's text as `parse_fields` reads it: without markup, in lines.

    Parameters
    ----------
    text : str
        Text of the catalog.

    Returns
    -------
    str
        Plain text with the labels of fields. A second call changes nothing.
    """
    return strip_markup(text).strip()


def compose_text(product: ProductText) -> str:
    """Compose a product's fields for an encoder, the most relevant to price first.

    Parameters
    ----------
    product : ProductText
        Fields from `parse_fields`.

    Returns
    -------
    str
        Value and unit, name, bullets and description as sentences on one line, at most
        `MAX_TEXT_CHARS` characters; `MISSING_TEXT` if all are missing.

    Examples
    --------
    >>> compose_text(ProductText(name="Green Taco Sauce", value=72.0, unit="Fl Oz"))
    '72 Fl Oz. Green Taco Sauce'
    """
    amount = "" if product.value is None else f"{product.value:g} {product.unit}"
    parts = [amount.strip(), product.name, *product.bullets, product.description]
    sentences = [part for part in parts if part]
    ended = [part if part[-1] in ".!?" else part + "." for part in sentences[:-1]]
    text = " ".join(ended + sentences[-1:])
    return text[:MAX_TEXT_CHARS].rstrip() or MISSING_TEXT


def cut_tokens(ids: NDArray[np.integer], max_tokens: int) -> NDArray[np.integer]:
    """Cut token ids to `max_tokens`, and keep the closing token."""
    if len(ids) <= max_tokens:
        return ids
    return np.concatenate([ids[: max_tokens - 1], ids[-1:]])


def _clean(raw: str) -> str:
    """Return plain text on one line, NFKC; "" without a single letter or digit."""
    if not raw or raw.isspace():
        return ""
    text = normalise_forms(_CONTROL.sub("", raw[:MAX_FIELD_CHARS]))
    # NFKC may turn a single sign into 18 letters.
    text = " ".join(text[:MAX_FIELD_CHARS].split())
    return text if any(map(str.isalnum, text)) else ""


def _to_value(written: str) -> float | None:
    """Return a positive finite number, or None."""
    value = float(written) if _NUMBER.fullmatch(written) else 0.0
    return value if 0 < value < math.inf else None
