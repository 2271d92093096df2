"""Bad catalogs by kind: how each is made, and what reading it must come to.

Every table maps the name of a kind to what is written and what is expected. A list is
what the catalog must hold; a tuple of strings is what the error must say.
"""

import codecs
import datetime
import decimal
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

HEADER = "sample_id,catalog_content,image_link,price\n"
ROWS = "1,red tea,a.jpg,1.5\n2,blue tea,,2\n"
PLAIN = HEADER + ROWS
READ = [("1", "red tea", "a.jpg", "1.5"), ("2", "blue tea", "", "2")]
SAVE_AS_UTF8 = "Save it as UTF-8"

Expected = list[tuple[str, str, str, str]] | tuple[str, ...]


def _rows(*ids: str) -> Expected:
    """Return rows of these ids, with the texts a, b, c and d."""
    return [(name, text, "", "1") for name, text in zip(ids, "abcd", strict=False)]


# (id, text, link, price) of each row, or what the message says
CSV_FILES: dict[str, tuple[str | bytes, Expected]] = {
    # encodings
    "UTF-8 mark": (codecs.BOM_UTF8 + PLAIN.encode(), READ),
    "UTF-8 mark before a quoted header": (
        codecs.BOM_UTF8 + ('"sample_id"' + PLAIN[9:]).encode(),
        READ,
    ),
    "two UTF-8 marks": (
        codecs.BOM_UTF8 * 2 + PLAIN.encode(),
        (r"'\ufeffsample_id'", "--id-column"),
    ),
    "UTF-16 with mark": (
        PLAIN.encode("utf-16"),
        READ,
    ),
    "UTF-16 big-endian with mark": (
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        READ,
    ),
    "UTF-16 without mark": (
        PLAIN.encode("utf-16-le"),
        READ,
    ),
    "UTF-16 big-endian without mark": (
        PLAIN.encode("utf-16-be"),
        READ,
    ),
    "UTF-16 cut off": (
        PLAIN.encode("utf-16")[:-1],
        ("not utf-16-le text at byte 154, line 4", "--encoding"),
    ),
    "UTF-32 with mark": (PLAIN.encode("utf-32"), READ),
    "UTF-32 without mark": (PLAIN.encode("utf-32-be"), READ),
    "Latin-1": (
        HEADER.encode() + "1,caf\u00e9,,1\n".encode("latin-1"),
        [("1", "caf\u00e9", "", "1")],
    ),
    "Windows-1252 quotes": (
        HEADER.encode() + b"1,\x93best\x94 \x96 men\x92s,,1\n",
        [("1", "\u201cbest\u201d \u2013 men\u2019s", "", "1")],
    ),
    "a letter that is another one in another encoding": (
        HEADER.encode() + b"1,jalape\xf1o,,1\n",
        (
            "byte 51, line 2 (0xf1)",
            "'jalape\u00f1o' in windows-1252, 'jalape\u0144o' in windows-1250",
            SAVE_AS_UTF8,
            "--encoding windows-1252",
        ),
    ),
    "Cyrillic in Windows-1251": (
        HEADER.encode() + "1,\u0447\u0430\u0439,,1\n".encode("windows-1251"),
        ("line 2 (0xf7)", "'\u0447\u0430\u0439' in windows-1251", "--encoding"),
    ),
    "Japanese in Shift JIS": (
        HEADER.encode() + "1,\u304a\u8336,,1\n".encode("shift_jis"),
        ("line 2 (0x82)", "Several encodings fit it", "--encoding"),
    ),
    "a letter of a Mac": (
        HEADER.encode() + "1,jalape\u00f1o,,1\n".encode("mac-roman"),
        ("line 2 (0x96)", "'jalape\u00f1o' in mac-roman"),
    ),
    "a byte of no encoding": (
        HEADER.encode() + b"1,\x81,,1\n",
        ("byte 45, line 2 (0x81)", SAVE_AS_UTF8, "--encoding windows-1251"),
    ),
    "a surrogate in UTF-8": (
        HEADER.encode() + b"1,\xed\xa0\xbd,,1\n",
        ("byte 45, line 2", "surrogate pair", SAVE_AS_UTF8),
    ),
    "a letter cut off at the end": (
        PLAIN.encode() + b"3,\xe2\x82",
        ("line 4 (0xe2", SAVE_AS_UTF8),
    ),
    "UTF-8 with one bad byte far behind": (
        HEADER.encode() + b"1," + "\u00e9".encode() * 600_000 + b"\n\xff,,1\n",
        ("byte 1200046, line 3",),
    ),
    # bytes that are no text
    "NUL in a text": (HEADER + "1,a\0b,,1\n", [("1", "a\0b", "", "1")]),
    "NUL at the end of an id": (
        HEADER + "1,a,,1\n2\0,b,,1\n",
        ("row 2", "NUL", r"'2\x00'", "Remove it"),
    ),
    "carriage return in an id": (
        HEADER.replace("\n", "\r\n") + '"1\r2",a,,1\r\n',
        ("row 1", "carriage return", r"'1\r2'", "look for a stray quote"),
    ),
    "NUL in the header": ("sample_id\0" + PLAIN[9:], (r"'sample_id\x00'",)),
    "nothing but NUL": (b"\0" * 5000, ("NUL bytes", "Copy it again")),
    "Parquet in .csv": (b"PAR1\x15\x04\x15", ("Parquet", ".parquet")),
    "an Excel workbook in .csv": (b"PK\x03\x04\x14\0", ("Excel", "as CSV")),
    "an old workbook in .csv": (b"\xd0\xcf\x11\xe0\xa1", ("old Excel",)),
    "gzip in .csv": (gzip.compress(PLAIN.encode()), ("gzip", ".csv.gz")),
    "bzip2 in .csv": (b"BZh91AY&SY\x01\x02", ("bzip2", "Decompress it")),
    "a web page in .csv": (
        "<!DOCTYPE html>\n<html><body>404</body></html>\n",
        ("present: '<!DOCTYPE html>'", "--id-column"),
    ),
    "JSON in .csv": (
        '[{"sample_id": 1, "catalog_content": "a"}]\n',
        ("no column", """present: '[{"sample_id": 1',"""),
    ),
    # lines
    "CRLF line ends": (PLAIN.replace("\n", "\r\n"), READ),
    "CR line ends": (PLAIN.replace("\n", "\r"), READ),
    "mixed line ends": (HEADER[:-1] + "\r\n" + ROWS.replace("5\n", "5\r"), READ),
    "no line end at the end": (PLAIN[:-1], READ),
    "empty lines between": (PLAIN.replace("\n", "\n\n\r\n"), READ),
    "an empty line first": ("\n" + PLAIN, ("begins with an empty line",)),
    "a line of spaces": (
        HEADER + "1,a,,1\n   \n2,b,,1\n",
        ("row 2, line 3, sample_id '   '", "must have 4 cells", "got 1"),
    ),
    "line breaks in cells": (
        HEADER + '1,"two\nlines",,1\n2,"a\r\nb\rc",,2\n',
        [("1", "two\nlines", "", "1"), ("2", "a\r\nb\rc", "", "2")],
    ),
    "an end-of-file mark of DOS": (PLAIN + "\x1a", ("row 3, line 4", "got 1")),
    "line separators of Unicode": (
        HEADER + "1,a\u2028b\x0bc\x85d,,1\n",
        [("1", "a\u2028b\x0bc\x85d", "", "1")],
    ),
    # quotes
    "a quote that never closes": (
        HEADER + '1,a,,1\n2,"b,,1\n3,c,,1\n',
        ("row 2, which begins in line 3", "never closes", "twice"),
    ),
    "a quote that closes rows later": (
        HEADER + '1,"a,,1\n2,b,,1\n3,"c",,1\n',
        ("row 1, which begins in line 2", "in line 4", "text follows"),
    ),
    "text after a quote": (
        HEADER + '1,"a" b,,1\n',
        ("row 1, which begins in line 2", "text follows it"),
    ),
    "a quote in an open cell": (
        HEADER + '1,12" pan,,1\n',
        [("1", '12" pan', "", "1")],
    ),
    "quotes written twice": (HEADER + '1,"12"" pan",,1\n', [("1", '12" pan', "", "1")]),
    "a quote left open in the header": (
        'sample_id,"catalog_content,image_link,price\n1,a,,1\n',
        ("malformed CSV in the header", "never closes"),
    ),
    # separators and headers
    "semicolons": (
        PLAIN.replace(",", ";"),
        READ,
    ),
    "semicolons and quotes": (
        '"id";"catalog_content"\n"1";"a, b"\n',
        (
            "no column 'sample_id'; columns present: 'id', 'catalog_content'",
            "--id-column",
        ),
    ),
    "tabs": (PLAIN.replace(",", "\t"), READ),
    "bars": (PLAIN.replace(",", "|"), READ),
    "semicolons under other names": (
        "id;text\n1;a\n",
        ("columns present: 'id', 'text'",),
    ),
    "Excel's line of the separator": (
        "sep=;\n" + PLAIN.replace(",", ";"),
        READ,
    ),
    "an empty file": ("", ("is empty", "header line")),
    "a header alone": (HEADER, ("no rows", "Add products")),
    "a header without line end": (HEADER[:-1], ("no rows",)),
    "no header": (ROWS, ("no column 'catalog_content', 'sample_id'", "'red tea'")),
    "spaces around names": (
        PLAIN.replace("catalog_content", " catalog_content"),
        ("present: 'sample_id', ' catalog_content'", "--text-column"),
    ),
    "names in capitals": (HEADER.upper() + ROWS, ("'SAMPLE_ID'", "--id-column")),
    "a needed column twice": (
        HEADER[:-1] + ",price\n1,a,,1,2\n",
        ("'price' is there 2 times", "Rename"),
    ),
    "another column twice": (
        "x,x," + HEADER + "7,8,1,a,,1\n",
        [("1", "a", "", "1")],
    ),
    "blank names": (",," + HEADER + "0,0,1,a,,1\n", [("1", "a", "", "1")]),
    "a comma at the end of every line": (
        PLAIN.replace("\n", ",\n"),
        READ,
    ),
    "a comma at the end of the rows alone": (
        HEADER + "1,a,,1,\n",
        ("row 1, line 2, sample_id '1'", "got 5"),
    ),
    "extra and reordered columns": (
        "price,brand,catalog_content,sample_id\n3,b,a,1\n",
        [("1", "a", "", "3")],
    ),
    "five hundred columns": (
        ",".join(f"column{n}" for n in range(500)) + "\n",
        ("'column19', and 480 more",),
    ),
    "a row too short": (
        HEADER + "1,a,,1\n2,b\n",
        ("row 2, line 3, sample_id '2'", "got 2", "a comma for every empty cell"),
    ),
    "a row too long": (
        HEADER + "1,a, red,,1\n",
        ("row 1, line 2, sample_id '1'", "got 5", "commas into quotes"),
    ),
    "rows of commas as spreadsheets leave them": (
        PLAIN + ",,,\n",
        ("row 3", "'sample_id' is blank"),
    ),
    "one row": (HEADER + "1,a,b,2\n", [("1", "a", "b", "2")]),
    # ids
    "ids with leading zeros": (
        HEADER + "007,a,,1\n7,b,,1\n",
        [("007", "a", "", "1"), ("7", "b", "", "1")],
    ),
    "ids like floats": (
        HEADER + "7.0,a,,1\n7,b,,1\n7.00,c,,1\n7e0,d,,1\n",
        _rows("7.0", "7", "7.00", "7e0"),
    ),
    "ids of other names for nothing": (
        HEADER + "NA,a,,1\nnull,b,,1\nNone,c,,1\nTRUE,d,,1\n",
        _rows("NA", "null", "None", "TRUE"),
    ),
    "ids with spaces around": (
        HEADER + " 7,a,,1\n7 ,b,,1\n7,c,,1\n",
        _rows(" 7", "7 ", "7"),
    ),
    "ids that differ in capitals": (
        HEADER + "a1,a,,1\nA1,b,,1\n",
        [("a1", "a", "", "1"), ("A1", "b", "", "1")],
    ),
    "ids that differ in Unicode form": (
        HEADER + "\u00e9,a,,1\ne\u0301,b,,1\n",
        [("\u00e9", "a", "", "1"), ("e\u0301", "b", "", "1")],
    ),
    "ids of twenty digits": (
        HEADER + "12345678901234567890,a,,1\n",
        [("12345678901234567890", "a", "", "1")],
    ),
    "ids with commas, quotes, breaks": (
        HEADER + '"a,""b""\n",a,,1\n',
        [('a,"b"\n', "a", "", "1")],
    ),
    "a very long id": (
        HEADER + "i" * 300 + ",a,,1\n",
        ("row 1", "at most 256 characters, got 300", "--id-column"),
    ),
    "a blank id": (HEADER + "1,a,,1\n \t,b,,1\n", ("row 2", "is blank", "its own id")),
    "a repeated id": (
        HEADER + "1,a,,1\n2,b,,1\n1,c,,1\n",
        ("rows 1 and 3", "same sample_id '1'", "remove one"),
    ),
    # texts
    "only white space": (
        HEADER + '1," \t\n\u00a0",\u3000,1\n',
        [("1", "", "", "1")],
    ),
    "right-to-left and emoji": (
        HEADER + "\u0639\u200f,\u05d0\u202e\U0001f3f4\U0001f468\u200d\U0001f467,,1\n",
        [("\u0639\u200f", "\u05d0\u202e\U0001f3f4\U0001f468\u200d\U0001f467", "", "1")],
    ),
    "control characters": (
        HEADER + "1,\x01\x07\x1b[31m\x7f,,1\n",
        [("1", "\x01\x07\x1b[31m\x7f", "", "1")],
    ),
    "HTML with commas in quotes": (
        HEADER + '1,"<p class=""x"">a, b</p>",,1\n',
        [("1", '<p class="x">a, b</p>', "", "1")],
    ),
}


def write_csv(folder: Path, content: str | bytes, name: str = "catalog.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _folder(folder: Path) -> Path:
    (folder / "catalog.csv").mkdir()
    return folder / "catalog.csv"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "catalog.csv")
    return folder / "catalog.csv"


def _dead_link(folder: Path) -> Path:
    (folder / "catalog.csv").symlink_to(folder / "gone.csv")
    return folder / "catalog.csv"


def _loop(folder: Path) -> Path:
    (folder / "catalog.csv").symlink_to(folder / "catalog.csv")
    return folder / "catalog.csv"


def _bomb(folder: Path) -> Path:
    """Write a gzip file of 100 KB that holds one cell of 100 MB."""
    with gzip.open(folder / "catalog.csv.gz", "wb") as file:
        file.write((HEADER + "1,").encode())
        for _ in range(100):
            file.write(b"a" * 1_000_000)
        file.write(b",,1\n")
    return folder / "catalog.csv.gz"


def _many_lines_in_a_cell(folder: Path) -> Path:
    """Write a quote that never closes before 40 MB of rows."""
    row = "1," + "text " * 2000 + ",,1\n"
    return write_csv(folder, HEADER + '0,"a,,1\n' + row * (40_000_000 // len(row)))


_GZIPPED = gzip.compress(("\ufeff" + PLAIN).encode())
_LONG_GZIPPED = gzip.compress((HEADER + "1,a,,1\n" * 999).encode())


def _gzip(content: bytes) -> Callable[[Path], Path]:
    return lambda folder: write_csv(folder, content, "catalog.csv.gz")


# made in an empty folder
FILES: dict[str, tuple[Callable[[Path], Path], Expected]] = {
    "gzip": (_gzip(_GZIPPED), READ),
    "gzip in two parts": (
        _gzip(gzip.compress(HEADER.encode()) + gzip.compress(ROWS.encode())),
        READ,
    ),
    "gzip cut off": (
        _gzip(_LONG_GZIPPED[:-12]),
        ("gzip file is damaged", "Copy it again"),
    ),
    "gzip with a wrong checksum": (
        _gzip(_GZIPPED[:-8] + b"\0\0\0\0" + _GZIPPED[-4:]),
        ("gzip file is damaged (CRC check failed",),
    ),
    "gzip with wrong bytes within": (
        _gzip(_LONG_GZIPPED[:20] + b"\xff" * 8 + _LONG_GZIPPED[28:]),
        ("gzip file is damaged",),
    ),
    "plain text in .csv.gz": (
        _gzip(PLAIN.encode()),
        ("damaged (Not a gzipped file", ".csv if it is not compressed"),
    ),
    "UTF-16 in gzip": (
        _gzip(gzip.compress(PLAIN.encode("utf-16"))),
        READ,
    ),
    "a gzip bomb": (_bomb, ("line 2", "at most 33554432 characters")),
    "a quote open over 40 MB": (
        _many_lines_in_a_cell,
        ("row 1, which begins in line 2", "a quote never closes"),
    ),
    "another ending": (
        lambda folder: write_csv(folder, PLAIN, "catalog.json"),
        ("must end in .csv", "'catalog.json'", "Convert or rename"),
    ),
    "an ending in capitals": (
        lambda folder: write_csv(folder, PLAIN, "CATALOG.CSV"),
        READ,
    ),
    "a folder": (_folder, ("is a folder", "Name the catalog file inside")),
    "a missing file": (lambda folder: folder / "none.csv", ("no such file", "Check")),
    "a folder that is missing": (
        lambda folder: folder / "none" / "catalog.csv",
        ("no such file",),
    ),
    "a link to nothing": (_dead_link, ("no such file",)),
    "a link to itself": (_loop, ("cannot be read",)),
    "a file taken for a folder": (
        lambda folder: write_csv(folder, PLAIN, "a.csv") / "b.csv",
        ("cannot be read (Not a directory)",),
    ),
    "a NUL in the path": (lambda folder: folder / "a\0.csv", ("null", "Check the")),
    "a path too long": (
        lambda folder: folder / ("a" * 300 + ".csv"),
        ("cannot be read (File name too long)",),
    ),
    "a pipe": (_pipe, ("must be a file", "pipe", "write it to a file")),
    "a device": (lambda folder: _link(folder, "/dev/zero"), ("must be a file",)),
    "CSV in .parquet": (
        lambda folder: write_csv(folder, PLAIN, "catalog.parquet"),
        ("begin with b'PAR1', got b'samp'", ".csv if it is CSV"),
    ),
    "an empty file in .parquet": (
        lambda folder: write_csv(folder, b"", "catalog.parquet"),
        ("begin with b'PAR1', got b''",),
    ),
    "Parquet cut off": (
        lambda folder: _damaged_parquet(folder, lambda raw: raw[:-20]),
        ("not a usable Parquet file", "Write it again"),
    ),
    "Parquet with zeros within": (
        lambda folder: _damaged_parquet(
            folder, lambda raw: raw[:30] + bytes(200) + raw[230:]
        ),
        ("Check that the file is whole",),
    ),
}


def _link(folder: Path, to: str) -> Path:
    (folder / "catalog.csv").symlink_to(to)
    return folder / "catalog.csv"


def write_parquet(folder: Path, table: pa.Table) -> Path:
    path = folder / "catalog.parquet"
    parquet.write_table(table, path)
    return path


def _damaged_parquet(folder: Path, damage: Callable[[bytes], bytes]) -> Path:
    buffer = io.BytesIO()
    parquet.write_table(table(), buffer)
    return write_csv(folder, damage(buffer.getvalue()), "catalog.parquet")


def table(**columns: pa.Array | list[object]) -> pa.Table:
    """Return a table of two products, with other columns where they are given."""
    whole: dict[str, pa.Array | list[object]] = {
        "sample_id": ["1", "2"],
        "catalog_content": ["red tea", "blue tea"],
        "image_link": ["a.jpg", None],
        "price": [1.5, 2.0],
    }
    return pa.table({**whole, **columns})


def _twice(name: str) -> pa.Table:
    one = table()
    return one.append_column(name, one.column(name))


def _invalid_text() -> pa.Array:
    """Return strings of which the second is not UTF-8."""
    raw = pa.array([b"a", b"\xff\xfe"], pa.binary())
    return pa.Array.from_buffers(pa.string(), 2, raw.buffers())


def _with_ids(first: str, second: str) -> Expected:
    return [(first, *READ[0][1:]), (second, *READ[1][1:])]


def _with_prices(first: str, second: str) -> Expected:
    return [(*READ[0][:3], first), (*READ[1][:3], second)]


_DAY = datetime.date(2024, 1, 2)
PARQUET: dict[str, tuple[Callable[[], pa.Table], Expected]] = {
    "prices as text": (
        lambda: table(price=["1.50", "$2"]),
        _with_prices("1.50", "$2"),
    ),
    "prices as decimals": (
        lambda: table(price=[decimal.Decimal("1.50"), decimal.Decimal("2.00")]),
        _with_prices("1.50", "2.00"),
    ),
    "prices as whole numbers": (lambda: table(price=[3, 4]), _with_prices("3", "4")),
    "prices with nulls": (
        lambda: table(price=[None, float("nan")]),
        _with_prices("", ""),
    ),
    "prices of nulls alone": (
        lambda: table(price=pa.nulls(2)),
        _with_prices("", ""),
    ),
    "prices as truth values": (
        lambda: table(price=[True, False]),
        _with_prices("True", "False"),
    ),
    "prices as dates": (
        lambda: table(price=[_DAY, _DAY]),
        ("column 'price' must contain text or numbers", "date32", "Write it as text"),
    ),
    "prices as lists": (
        lambda: table(price=[[1.5], [2.0]]),
        ("column 'price'", "list<"),
    ),
    "texts as lists": (
        lambda: table(catalog_content=[["a"], ["b"]]),
        ("column 'catalog_content'", "list<", "Write it as text"),
    ),
    "texts as structs": (
        lambda: table(catalog_content=[{"en": "a"}, {"en": "b"}]),
        ("column 'catalog_content'", "struct<"),
    ),
    "texts as codes of a dictionary": (
        lambda: table(
            catalog_content=pa.array(["red tea", "blue tea"]).dictionary_encode()
        ),
        READ,
    ),
    "texts as bytes": (
        lambda: table(catalog_content=[b"red tea", b"blue tea"]),
        READ,
    ),
    "texts as long strings": (
        lambda: table(
            catalog_content=pa.array(["red tea", "blue tea"], pa.large_string())
        ),
        READ,
    ),
    "texts as bytes that are not UTF-8": (
        lambda: table(catalog_content=[b"a", b"caf\xe9"]),
        ("row 2", "column 'catalog_content' must contain UTF-8", "Write it as text"),
    ),
    "strings that are not UTF-8": (
        lambda: table(catalog_content=_invalid_text()),
        ("row 2", "column 'catalog_content' must contain UTF-8"),
    ),
    "ids as floats": (lambda: table(sample_id=[7.0, 8.0]), _with_ids("7", "8")),
    "ids as floats with nulls": (
        lambda: table(sample_id=[7.0, None]),
        ("row 2", "'sample_id' is blank"),
    ),
    "ids as floats past 2^53": (
        lambda: table(sample_id=[1.0, 2.0**53 + 2]),
        ("row 2", "exact below 9007199254740992", "got 9007199254740994"),
    ),
    "ids as short floats past 2^24": (
        lambda: table(sample_id=pa.array([1, 2**24], pa.float32())),
        ("row 2", "exact below 16777216", "Write ids as text or whole numbers"),
    ),
    "ids as integers past 2^53": (
        lambda: table(sample_id=[2**53, 2**53 + 1]),
        _with_ids("9007199254740992", "9007199254740993"),
    ),
    "ids as unsigned integers": (
        lambda: table(sample_id=pa.array([2**64 - 1, 0], pa.uint64())),
        _with_ids("18446744073709551615", "0"),
    ),
    "ids as half floats": (
        lambda: table(sample_id=pa.array([7, 8], pa.float16())),
        _with_ids("7", "8"),
    ),
    "ids as times": (
        lambda: table(sample_id=[datetime.datetime(2024, 1, n) for n in (1, 2)]),
        ("column 'sample_id'", "timestamp"),
    ),
    "ids as text with zeros": (
        lambda: table(sample_id=["007", "7.0"]),
        _with_ids("007", "7.0"),
    ),
    "a needed Parquet column twice": (
        lambda: _twice("price"),
        ("'price' is there 2 times", "Rename"),
    ),
    "Parquet without rows": (lambda: table().slice(0, 0), ("no rows",)),
    "Parquet of one row": (lambda: table().slice(0, 1), READ[:1]),
    "Parquet without the id": (
        lambda: table().drop_columns(["sample_id"]),
        ("no column 'sample_id'", "--id-column"),
    ),
    "Parquet without columns": (
        lambda: pa.table({}),
        ("no column", "present: none"),
    ),
}

# column of prices, and what --parse-prices makes of it; None: not usable
PRICES: dict[str, tuple[list[str], list[float | None] | tuple[str, ...]]] = {
    "dollars": (["$1,299.00", "$ 5", "12.50"], [1299, 5, 12.5]),
    "euros": (["1.299,00 \u20ac", "12,50\u20ac", "7 EUR"], [1299, 12.5, 7]),
    "spaces": (
        ["1 299,00", "1\u00a0299,50", "1\u202f299", "1 234 567,8"],
        [1299, 1299.5, 1299, 1234567.8],
    ),
    "apostrophes": (
        ["CHF 1'299.00", "Fr. 1\u2019299.-", "1'000'000"],
        [1299, 1299, 1e6],
    ),
    "rupees": (
        ["\u20b91,29,900.00", "Rs.500", "Rs. 1,299/-", "INR 12,34,567"],
        [129900, 500, 1299, 1234567],
    ),
    "no cents": (["12,-", "1.299,-", "5,--", "7,\u2013"], [12, 1299, 5, 7]),
    "no cents after a point": (["12.-", "1.299.-"], [12, 1299]),
    "currency on both sides": (["$12 USD", "US$12", "usd 12.5"], [12, 12, 12.5]),
    "kroner": (["1 299,00 kr", "kr 5,50", "7 kr."], [1299, 5.5, 7]),
    "plain numbers": (
        ["4.890000000000001", "1.5e3", "1e-05", "+7", "12.", ".5", "3"],
        [4.890000000000001, 1500, 1e-05, 7, 12, 0.5, 3],
    ),
    "a comma settled by another row": (["1,299", "9.99"], [1299, 9.99]),
    "a point settled by another row": (["1.299", "9,99"], [1299, 9.99]),
    "three decimals settled by another row": (["1.299", "9.99"], [1.299, 9.99]),
    "settled by two groups": (["1,299", "1,299,000"], [1299, 1299000]),
    "settled by a leading zero": (["1.299", "0.125"], [1.299, 0.125]),
    "integers only": (["7", "12", "1299"], [7, 12, 1299]),
    "words": (["free", "N/A", "", "on request", "12 each", "9"], [None] * 5 + [9]),
    "ranges": (["10-12", "10 - 12", "from $5", "2 for 5", "3"], [None] * 4 + [3]),
    "percentages and cents": (["10%", "99\u00a2", "5k", "3"], [None] * 3 + [3]),
    "negative and zero": (
        ["-5", "$-5", "(5.00)", "\u22125", "0", "0.00", "3"],
        [None] * 6 + [3],
    ),
    "not finite": (["inf", "nan", "1e400", "9" * 200, "3"], [None] * 4 + [3]),
    "wrong groups": (
        ["1,29,00", "1.2.3", "12 50", "1,2999,000", "1'29", "1, 299", "3"],
        [None] * 6 + [3],
    ),
    "currencies that are not": (["12 cup", "top 10", "5 XXX", "3"], [None] * 3 + [3]),
    "a comma that nothing settles": (
        ["5", "1,299"],
        ("row 2, sample_id '2': '1,299'", "may be 1299 or 1.299", "write it as"),
    ),
    "a point that nothing settles": (
        ["$1.299", "$7"],
        ("row 1, sample_id '1': '$1.299'", "write it as 1299 or 1.2990"),
    ),
    "two decimal signs": (
        ["7", "1,299.00", "5", "12,50"],
        ("row 2, sample_id '2': '1,299.00' and row 4, sample_id '4': '12,50'",),
    ),
    "two currencies": (
        ["7", "$12", "\u20ac9"],
        ("one currency", "row 2, sample_id '2': '$12' and row 3", "Convert"),
    ),
    "two dollars": (["A$12", "$12"], ("one currency", "row 1", "row 2")),
}
