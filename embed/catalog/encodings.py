"""How the bytes of a text file are to be read: its encoding, named or guessed.

A guess is made only where the encodings that a shop's file may have give the same
letters. Elsewhere the user is asked: "jalape\\xf1o" is as good in Windows-1250 as in
Windows-1252, with another letter.
"""

from __future__ import annotations

import codecs
import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from embed.catalog.columns import CatalogError

HEAD_BYTES = 4096
_UTF8 = "Save it as UTF-8 (in Excel: 'CSV UTF-8')"
_CHUNK_BYTES = 1 << 20

_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Tried in this order where a byte is no UTF-8, for the message.
_CANDIDATES = (
    *("windows-1252", "windows-1250", "windows-1251", "windows-1254", "mac-roman"),
    *("cp932", "gb18030", "iso8859-1"),
)
_GUESS = "windows-1252"
_AGREEING = ("windows-1250", "windows-1254", "iso8859-15", "iso8859-1")


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a file is read."""

    name: str
    """Name of a codec of Python; decoding with it keeps a byte order mark."""

    note: str | None = None
    """What was guessed, as a sentence for the user; None if nothing was."""


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, decompressed if its name ends in .gz."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(BinaryIO, opener(path, "rb"))


def find_encoding(
    path: Path, named: str | None, *, other: str | None = None
) -> Encoding:
    """Tell how a file's bytes are to be read.

    Parameters
    ----------
    path : Path
        CSV, perhaps gzipped.
    named : str or None
        What the user says; None to guess.
    other : str, optional
        Encoding of a file that is not UTF-8, if all of it fits.

    Returns
    -------
    Encoding
        UTF-8 where all of the file fits it, or as its byte order mark tells;
        Windows-1252 where all that the file holds beyond ASCII is the same in the
        other encodings of Europe.

    Raises
    ------
    CatalogError
        If the file does not fit the encoding named, or several encodings fit it with
        other letters; with the option that settles it.
    """
    with open_bytes(path) as stream:
        head = stream.read(HEAD_BYTES)
    if named is not None:
        name = _by_mark(named, head)
        _require_fit(path, name, named)
        return Encoding(name=name)
    if wide := _wide_encoding(head):
        _require_fit(path, wide, wide)
        sign = "its byte order mark" if _mark_of(head) else "its empty bytes"
        return Encoding(name=wide, note=f"Read as {wide.upper()}, by {sign}.")
    if first_misfit(path, "utf-8") is None:
        return Encoding(name="utf-8")
    if other is not None and first_misfit(path, other) is None:
        note = f"Not UTF-8: read as {other}, like the catalog of the run."
        return Encoding(name=other, note=note)
    return _guess(path)


def first_misfit(path: Path, encoding: str) -> tuple[int, int, bytes] | None:
    """Find the first bytes that are not of an encoding.

    Returns
    -------
    tuple of (int, int, bytes) or None
        Offset in the decompressed file, line, and two bytes; None if all bytes fit.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    with open_bytes(path) as stream:
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            held = decoder.getstate()[0]
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                seen = held + chunk
                line += _count_lines(seen[: error.start])
                bad = seen[error.start : error.start + 2]
                return offset - len(held) + error.start, line, bad
            if not chunk:
                return None
            offset += len(chunk)
            line += _count_lines(chunk)


def _count_lines(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _by_mark(named: str, head: bytes) -> str:
    """Return the codec of a named encoding; UTF-16 may be either by the file's mark."""
    name = codecs.lookup(named).name
    if name in ("utf-16", "utf-32"):
        found = _wide_encoding(head) or ""
        return found if found.startswith(name) else f"{name}-le"
    return "utf-8" if name == "utf-8-sig" else name


def _require_fit(path: Path, name: str, named: str) -> None:
    misfit = first_misfit(path, name)
    if misfit is not None:
        offset, line, found = misfit
        raise CatalogError(
            f"{path}: not {named} text at byte {offset}, line {line} "
            f"(0x{found[:1].hex()}). Name its encoding with --encoding, or check that "
            f"the file is whole"
        )


def _mark_of(head: bytes) -> str | None:
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def _wide_encoding(head: bytes) -> str | None:
    """Name UTF-16 or UTF-32, by its mark or by the NUL bytes in its header line."""
    if marked := _mark_of(head):
        return marked
    start = head[: min(64, len(head) // 4 * 4)]
    # Columns have names in ASCII, so it is known which bytes of a character are NUL.
    zero = [start[at::4].count(0) / max(1, len(start) // 4) for at in range(4)]
    shapes = {
        "utf-32-le": (0, 1, 1, 1),
        "utf-32-be": (1, 1, 1, 0),
        "utf-16-le": (0, 1, 0, 1),
        "utf-16-be": (1, 0, 1, 0),
    }
    for encoding, shape in shapes.items():
        if all(abs(z - s) < 0.2 for z, s in zip(zero, shape, strict=True)):
            return encoding
    return None


def _same_letters() -> bytes:
    """Return the letters beyond ASCII that are the same in all encodings of Europe."""
    found = []
    for code in range(0xC0, 0x100):
        byte = bytes([code])
        letter = byte.decode(_GUESS)
        others = {byte.decode(name) for name in _AGREEING}
        if letter.isalpha() and others == {letter}:
            found.append(code)
    return bytes(found)


# A letter stands alone among those of ASCII: in Cyrillic, Greek, Chinese or Japanese
# text bytes beyond ASCII stand together. A sign has no letter on one of its sides:
# "jalape\x96o" is of a Mac.
_LETTER = rb"[" + re.escape(_same_letters()) + rb"](?![\x80-\xff])"
_SIGN = rb"[\x80\x84\x85\x8b\x91-\x97\x99\x9b\xa0\xa7\xa9\xab\xae\xb0\xb4\xb7\xbb\xd7]"
_SURE = re.compile(
    rb"(?<![\x80-\xff])" + _LETTER + rb"|(?<![A-Za-z])" + _SIGN + rb"+"
    rb"|" + _SIGN + rb"+(?![A-Za-z\x80-\xff])"
    rb"|(?<=[A-Za-z])\x92(?=(?:[dmst]|ll|re|ve)(?![A-Za-z]))"  # men's
    rb"|(?<![A-Za-z\x80-\xff][A-Za-z])(?<=[A-Za-z])\x92(?=[A-Za-z])"  # l'or
)
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_WORD = re.compile(rb"[A-Za-z\x80-\xff]+")


def _guess(path: Path) -> Encoding:
    """Guess Windows-1252, if no other encoding gives other letters."""
    first = None
    with open_bytes(path) as stream:
        lines = iter(lambda: stream.readline(_CHUNK_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if line.isascii():
                continue
            left = _BEYOND_ASCII.search(_SURE.sub(lambda at: b" " * len(at[0]), line))
            if left:
                raise CatalogError(_describe_unsure(path, line, left.start()))
            if first is None:
                first = f"line {number} has {_word(line).decode(_GUESS)!r}"
    return Encoding(
        name=_GUESS,
        note=f"Not UTF-8: read as Windows-1252, in which {first}. If that is wrong, "
        f"name the encoding with --encoding.",
    )


def _word(line: bytes, at: int = 0) -> bytes:
    """Return the first word with a byte beyond ASCII that ends after a place."""
    words = (word[0] for word in _WORD.finditer(line) if word.end() > at)
    return next((w for w in words if not w.isascii()), b"")[:40]


def _describe_unsure(path: Path, line: bytes, at: int) -> str:
    misfit = first_misfit(path, "utf-8")
    assert misfit is not None  # else it were read as UTF-8
    offset, number, found = misfit
    where = f"{path}: not UTF-8 text at byte {offset}, line {number}"
    if found[0] == 0xED and found[1:2] >= b"\xa0":
        return (
            f"{where} (half of a surrogate pair, which UTF-8 cannot hold). {_UTF8}, or "
            "name its encoding with --encoding"
        )
    readings: dict[str, str] = {}
    for name in _CANDIDATES:
        if first_misfit(path, name) is None:
            readings.setdefault(_word(line, at).decode(name, "replace"), name)
    shown = [f"{text!r} in {name}" for text, name in readings.items()][:3]
    if not shown:
        return f"{where} (0x{found[:1].hex()}), nor of another encoding. {_UTF8}"
    return (
        f"{where} (0x{found[:1].hex()}). Several encodings fit it, with other letters: "
        f"{', '.join(shown)}. {_UTF8}, or name its encoding, such as --encoding "
        f"{next(iter(readings.values()))}"
    )
