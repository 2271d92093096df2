"""Find the encoding of a text file: named by the user, or guessed.

The guess is used only if all likely encodings of a shop's file give the same letters.
Otherwise the user must decide: "jalape\\xf1o" is valid in Windows-1250 and in
Windows-1252, but with different letters.
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

_MARKS = (  # longest first: the byte order mark of UTF-32 begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The message for a file that is not UTF-8 shows readings in this order.
_CANDIDATES = (
    "windows-1252",
    "windows-1250",
    "windows-1251",
    "windows-1254",
    "mac-roman",
    "cp932",
    "gb18030",
    "iso8859-1",
)
_GUESS = "windows-1252"
_AGREEING = ("windows-1250", "windows-1254", "iso8859-15", "iso8859-1")


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding in which a file is read."""

    name: str
    """Name of a Python codec, which keeps a byte order mark when it decodes."""

    note: str | None = None
    """Sentence for the user about a guess; None without a guess."""


def open_bytes(path: Path) -> BinaryIO:
    """Open a file; decompress it if its name ends in .gz."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(BinaryIO, opener(path, "rb"))


def find_encoding(
    path: Path, named: str | None, *, other: str | None = None
) -> Encoding:
    """Find the encoding of a file.

    Parameters
    ----------
    path : Path
        CSV file, perhaps gzipped.
    named : str or None
        Encoding that the user named; None to guess.
    other : str, optional
        Encoding to use for a file that is not UTF-8, if the whole file fits it.

    Returns
    -------
    Encoding
        The encoding of the byte order mark if there is one; UTF-8 if the whole file
        fits it; Windows-1252 if all bytes beyond ASCII mean the same in the other
        European encodings.

    Raises
    ------
    CatalogError
        If the file does not fit the named encoding, or fits several encodings with
        different letters; the message names the option that decides.
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
    """Find the first bytes that do not fit an encoding.

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
            pending = decoder.getstate()[0]
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                undecoded = pending + chunk
                line += _count_lines(undecoded[: error.start])
                bad = undecoded[error.start : error.start + 2]
                return offset - len(pending) + error.start, line, bad
            if not chunk:
                return None
            offset += len(chunk)
            line += _count_lines(chunk)


def _count_lines(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _by_mark(named: str, head: bytes) -> str:
    """Return the codec of a named encoding; the file's mark sets its byte order."""
    name = codecs.lookup(named).name
    if name in ("utf-16", "utf-32"):
        wide = _wide_encoding(head) or ""
        return wide if wide.startswith(name) else f"{name}-le"
    return "utf-8" if name == "utf-8-sig" else name


def _require_fit(path: Path, name: str, named: str) -> None:
    misfit = first_misfit(path, name)
    if misfit is not None:
        offset, line, bad = misfit
        raise CatalogError(
            f"{path}: not {named} text at byte {offset}, line {line} "
            f"(0x{bad[:1].hex()}). Name its encoding with --encoding, or check that "
            f"the file is whole"
        )


def _mark_of(head: bytes) -> str | None:
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def _wide_encoding(head: bytes) -> str | None:
    """Name UTF-16 or UTF-32, by its mark or by the NUL bytes in its header line."""
    if marked := _mark_of(head):
        return marked
    start = head[: min(64, len(head) // 4 * 4)]
    # Column names are ASCII, so in UTF-16 and UTF-32 the same bytes are always NUL.
    zero = [start[byte::4].count(0) / max(1, len(start) // 4) for byte in range(4)]
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
    """Return the letters beyond ASCII that are the same in all European encodings."""
    codes = []
    for code in range(0xC0, 0x100):
        byte = bytes([code])
        letter = byte.decode(_GUESS)
        readings = {byte.decode(name) for name in _AGREEING}
        if letter.isalpha() and readings == {letter}:
            codes.append(code)
    return bytes(codes)


# A letter beyond ASCII is surrounded by ASCII letters; in Cyrillic, Greek, Chinese or
# Japanese text, bytes beyond ASCII come in runs. A sign has no letter on one of its
# sides: "jalape\x96o" comes from a Mac.
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
            rest = _SURE.sub(lambda match: b" " * len(match[0]), line)
            if unsure := _BEYOND_ASCII.search(rest):
                raise CatalogError(_describe_unsure(path, line, unsure.start()))
            if first is None:
                first = f"line {number} has {_word(line).decode(_GUESS)!r}"
    return Encoding(
        name=_GUESS,
        note=f"Not UTF-8: read as Windows-1252, in which {first}. If that is wrong, "
        f"name the encoding with --encoding.",
    )


def _word(line: bytes, start: int = 0) -> bytes:
    """Return the first word with a byte beyond ASCII that ends after `start`."""
    words = (word[0] for word in _WORD.finditer(line) if word.end() > start)
    return next((w for w in words if not w.isascii()), b"")[:40]


def _describe_unsure(path: Path, line: bytes, unsure_at: int) -> str:
    misfit = first_misfit(path, "utf-8")
    assert misfit is not None  # UTF-8 is tried before any guess
    offset, number, bad = misfit
    where = f"{path}: not UTF-8 text at byte {offset}, line {number}"
    if bad[0] == 0xED and bad[1:2] >= b"\xa0":
        return (
            f"{where} (half of a surrogate pair, which UTF-8 cannot hold). {_UTF8}, or "
            "name its encoding with --encoding"
        )
    readings: dict[str, str] = {}
    for name in _CANDIDATES:
        if first_misfit(path, name) is None:
            readings.setdefault(_word(line, unsure_at).decode(name, "replace"), name)
    shown = [f"{text!r} in {name}" for text, name in readings.items()][:3]
    if not shown:
        return f"{where} (0x{bad[:1].hex()}), nor of another encoding. {_UTF8}"
    return (
        f"{where} (0x{bad[:1].hex()}). Several encodings fit it, with other letters: "
        f"{', '.join(shown)}. {_UTF8}, or name its encoding, such as --encoding "
        f"{next(iter(readings.values()))}"
    )
