"""Write letters, digits and signs in one form: Unicode's NFKC with exceptions.

NFKC alone would turn "1½" into "11⁄2", "10²" into "102", "Lego™" into "LegoTM" and
"Levi´s" into "Levi ́s".
"""

# ruff: noqa: RUF002  (look-alikes of plain letters are what this module is about)

from __future__ import annotations

import re
import unicodedata

# Signs that NFKC would make worse: trade marks, ordinals, separate accents.
_KEPT = "\u2122\u2120\u00aa\u00ba\u00a8\u00af\u00b8\u02d8-\u02dd\u2017\u203e\u2026"
_REST = re.compile(f"[^{_KEPT}]+")
_SIGNS = str.maketrans(
    {
        "\u00b4": "'",  # an accent that people type for an apostrophe
        "\u2010": "-",
        "\u2011": "-",
        "\u2033": '"',  # inches
        "\u2036": '"',
    }
)
_SUPERSCRIPTS = "\u00b2\u00b3\u00b9\u2070\u2074-\u2079"
_POWER = re.compile(rf"(?<=\d)(?=[\u207a\u207b]?[{_SUPERSCRIPTS}])")
_SUBSCRIPT = re.compile(r"(?<=\d)(?=[\u2080-\u2089])")
# Fractions, and numbers in circles, brackets or with a full stop.
_FRACTIONS = "\u00bc-\u00be\u2150-\u215f\u2189"
_NUMBERED = "\u2460-\u249b\u24ea-\u24ff\u2776-\u2793\u3251-\u325f\u32b1-\u32bf"
_NEXT_TO_NUMBER = re.compile(
    rf"(?<=\d)(?=[{_FRACTIONS}])|(?<=\w)(?=[{_NUMBERED}])"
    rf"|(?<=[{_NUMBERED}\u2116])(?=\w)"
)


def normalise_forms(text: str) -> str:
    """Write letters, digits and signs in the form that most texts have.

    Parameters
    ----------
    text : str
        Text of bounded length: NFKC is quadratic in a run of combining marks.

    Returns
    -------
    str
        Text in NFKC. Full-width and squared letters become plain ones ("５００㎖":
        "500ml"). Fractions and circled numbers become digits after a blank ("1½":
        "1 1/2"). A power of a number gets a sign ("10²": "10^2", but "m²": "m2"). Signs
        such as "™", "º" and "…" stay.

    Examples
    --------
    >>> normalise_forms("Ｔｅａ 1½ lb, 500㎖")
    'Tea 1 1/2 lb, 500ml'
    """
    if text.isascii():
        return text
    text = _SUBSCRIPT.sub(" ", _POWER.sub("^", text.translate(_SIGNS)))
    text = _NEXT_TO_NUMBER.sub(" ", text)
    text = _REST.sub(lambda part: unicodedata.normalize("NFKC", part[0]), text)
    # NFKC may leave a combining mark after a letter that was left out of it.
    return unicodedata.normalize("NFC", text.replace("\u2044", "/"))
