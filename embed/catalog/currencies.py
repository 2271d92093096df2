"""Currency signs in catalogs, and the decimal sign usual for each currency.

Codes and numbers of decimals are from ISO 4217, decimal signs from the Unicode CLDR.
Currencies that several countries write differently (euro, franc, rand, US and Canadian
dollar) have no usual sign here.
"""

from __future__ import annotations

from typing import Literal

DecimalSign = Literal[".", ","]

_CODES = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl "
    "bsd btn bwp byn bzd cad cdf chf clp cny cop crc cup cve czk djf dkk dop dzd egp "
    "ern etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr "
    "iqd irr isk jmd jod jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl "
    "lyd mad mdl mga mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr "
    "nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sdg sek sgd "
    "shp sle sos srd ssp stn svc syp szl thb tjs tmt tnd top try ttd twd tzs uah ugx "
    "usd uyu uzs ves vnd vuv wst xaf xcd xof xpf yer zar zmw"
)
# Signs without their points: "Rs." is "rs", "S/." is "s/", "د.إ" is "دإ".
_SIGNS = (
    ("usd", "us$ usd$ u$s"),
    ("cad", "c$ ca$ cad$ cdn$"),
    ("aud", "a$ au$ aud$"),
    ("nzd", "nz$ nzd$"),
    ("hkd", "hk$ hkd$"),
    ("sgd", "s$ sg$ sgd$"),
    ("twd", "nt$ ntd nt 元整"),
    ("mxn", "mx$ mex$ mxn$"),
    ("ars", "ar$ ars$"),
    ("clp", "cl$ clp$"),
    ("cop", "col$ cop$"),
    ("dop", "rd$"),
    ("nad", "n$"),
    ("jmd", "j$"),
    ("ttd", "tt$"),
    ("brl", "r$"),
    ("eur", "€ euro euros"),
    ("jpy", "jp¥ 円 yen"),
    ("cny", "cn¥ rmb 元 人民币"),
    ("inr", "₹"),
    ("bdt", "৳ tk"),
    ("chf", "fr sfr"),
    ("pln", "zł zl"),
    ("czk", "kč"),
    ("huf", "ft"),
    ("ron", "lei leu"),
    ("bgn", "лв"),
    ("rsd", "din дин"),
    ("rub", "₽ \u0440\u0443\u0431 \u0440"),  # as Russians shorten it
    ("uah", "₴ грн"),
    ("kzt", "₸ тг"),
    ("uzs", "сум so'm"),
    ("gel", "₾"),
    ("azn", "₼"),
    ("amd", "֏"),
    ("try", "₺ tl"),
    ("krw", "₩ 원"),
    ("vnd", "₫ đ vnđ đồng dong"),
    ("thb", "฿ บาท baht"),
    ("idr", "rp"),
    ("myr", "rm"),
    ("php", "₱ php₱"),
    ("khr", "៛"),
    ("lak", "₭"),
    ("mnt", "₮"),
    ("ils", "₪ nis"),
    ("aed", "دإ dhs درهم \u20c3"),
    ("sar", "رس sr \u20c1"),
    ("qar", "رق qr"),
    ("kwd", "دك kd"),
    ("bhd", "دب bd"),
    ("omr", "رع"),
    ("jod", "دا jd"),
    ("egp", "جم e£ le"),
    ("ngn", "₦"),
    ("kes", "ksh kshs"),
    ("ugx", "ush"),
    ("tzs", "tsh"),
    ("ghs", "₵ gh₵ gh¢"),
    ("crc", "₡"),
    ("pyg", "₲"),
    ("pen", "s/"),
    ("pab", "b/"),
    ("zar", "r"),
)
_DOLLARS = (
    "ars aud bbd bmd bnd bsd bzd cad clp cop cup dop fjd gyd hkd jmd kyd lrd mop mxn "
    "nad nio nzd sbd sgd srd ttd twd usd uyu xcd"
)
_POUNDS = "egp fkp gbp gip lbp sdg shp ssp syp"
_RUPEES = "inr lkr mur npr pkr scr"
# Signs that several currencies share. A code beside the sign decides ("$12 CAD");
# alone, the sign means the currency given first.
_SHARED: dict[str, tuple[str, frozenset[str]]] = {
    "$": ("usd", frozenset(_DOLLARS.split())),
    "£": ("gbp", frozenset(_POUNDS.split())),
    "¥": ("jpy", frozenset({"cny", "jpy"})),
    "rs": ("inr", frozenset(_RUPEES.split())),
    "kr": ("kr", frozenset({"dkk", "isk", "nok", "sek"})),
}
_SHARED |= dict.fromkeys(("₨", "re"), _SHARED["rs"])
_CURRENCIES = {code: code for code in _CODES.split()} | {
    sign: code for code, signs in _SIGNS for sign in signs.split()
}
# Codes and signs that are also words count only in capitals.
_WORDS = {"all", "bam", "cup", "gel", "mad", "mop", "pen", "sos", "top", "try"}
_WORDS |= {"bd", "jd", "kd", "le", "nt", "qr", "sr"}

_WITHOUT_DECIMALS = "bif clp djf gnf isk jpy kmf krw pyg rwf ugx vnd vuv xaf xof xpf"
_WITHOUT_COINS = "huf idr lak mmk twd"
NO_CENTS = frozenset(f"{_WITHOUT_DECIMALS} {_WITHOUT_COINS}".split())
"""Currencies whose prices are whole numbers: ISO 4217 gives them no decimals, or coins
smaller than one are out of use."""

THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr"})
"""Currencies with three decimals, in countries that write a decimal point."""

_POINT = (
    "aed aud bdt bhd cny dop egp gbp ghs gtq hkd hnl ils inr jmd jod jpy kes krw kwd "
    "lkr mxn myr ngn npr nzd omr pab pen php pkr qar sar sgd thb ttd twd tzs ugx"
)
_COMMA = (
    "all amd ars azn bam bgn brl byn clp cop czk dkk gel huf idr isk kr kzt mkd nok "
    "pln pyg ron rsd rub sek try uah uyu uzs vnd"
)
USUAL_SIGN: dict[str, DecimalSign] = {
    **dict.fromkeys(_POINT.split(), "."),
    **dict.fromkeys(_COMMA.split(), ","),
}
"""Decimal sign in the countries that pay in a currency, by its code."""


def find_currency(before: str, after: str) -> str | None:
    """Name the currency written beside a number.

    Parameters
    ----------
    before, after : str
        The text on either side of the number; a currency may be on both ("$12 USD").

    Returns
    -------
    str or None
        The currency's code, "kr" for krone and krona, "" if nothing is written. None
        if the text is not one currency.
    """
    codes: set[str] = set()
    shared: set[str] = set()
    for written in (before, after):
        tokens = written.split()
        joined = "".join(tokens)
        for token in [joined] if _name(joined) else tokens:
            name = _name(token)
            if name is None:
                return None
            (shared if name in _SHARED else codes).add(_CURRENCIES.get(name, name))
    return _one_code(codes, shared)


def drop_shared(first: dict[str, int]) -> dict[str, int]:
    """Drop "kr" from a column's two currencies if the other one is a krone or krona.

    Parameters
    ----------
    first : dict of str to int
        First row of each of the two currency codes.
    """
    other_codes = [code for code in first if code != "kr"]
    is_same = "kr" in first and set(other_codes) <= _SHARED["kr"][1]
    return {code: first[code] for code in other_codes} if is_same else first


def _name(token: str) -> str | None:
    """Return the key of a currency in the tables, None for any other word."""
    letters = token.replace(".", "")
    name = letters.casefold()
    if name in _WORDS and not letters.isupper():
        return None
    return name if name in _CURRENCIES or name in _SHARED else None


def _one_code(codes: set[str], shared: set[str]) -> str | None:
    if len(codes) > 1 or len({_SHARED[sign] for sign in shared}) > 1:
        return None
    code = next(iter(codes), "")
    if not shared:
        return code
    default_code, possible_codes = _SHARED[next(iter(shared))]
    if not code:
        return default_code
    return code if code in possible_codes else None
