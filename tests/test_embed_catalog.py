import gzip
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from embed.catalog.columns import near_column
from embed.catalog.price_checks import require_prices
from embed.catalog.reader import Catalog, CatalogColumns, CatalogError, read_catalog

HEADER = "sample_id,catalog_content,image_link,price\n"


def write(folder: Path, text: str | bytes, name: str = "catalog.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, rows: str, **columns) -> Catalog:
    return read_catalog(write(folder, HEADER + rows), columns=CatalogColumns(**columns))


@pytest.mark.parametrize(
    ("name", "present", "near"),
    [
        ("price", ["id", "Price"], "Price"),
        ("price", ["prices", " PRICE "], " PRICE "),
        ("price", ["id", "pirce", "weight"], "pirce"),
        ("image_link", ["Image Link", "image"], "Image Link"),
        ("image_link", ["image_links"], "image_links"),
        ("sample_id", ["sampleId"], "sampleId"),
        ("price", ["cost", "slice", "", "--"], None),
        ("--", ["", "##"], None),
        ("price", [], None),
    ],
)
def test_a_misspelt_column_is_told_from_another_one(name, present, near):
    assert near_column(name, present) == near


def test_a_misspelt_column_is_proposed_at_once(tmp_path, caplog):
    path = tmp_path / "c.csv"
    path.write_text("sample_id,catalog_content, price,Image_Link\n1,tea,2,a.jpg\n")
    assert read_catalog(path).price is None
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "no column 'image_link'. If 'Image_Link' is meant, name it with "
        "--image-column Image_Link",
        "no column 'price'. If ' price' is meant, name it with --price-column ' price'",
    ]
    caplog.clear()
    columns = CatalogColumns(image="Image_Link", price=" price")
    assert read_catalog(path, columns=columns).price.tolist() == [2.0]
    assert not caplog.records
    columns = CatalogColumns(text=("Catalog Content",), image="Image_Link", price="2")
    with pytest.raises(
        CatalogError, match=r"column with --text-column catalog_content"
    ):
        read_catalog(path, columns=columns)


def test_a_column_in_use_is_proposed_for_nothing_else(tmp_path, caplog):
    path = tmp_path / "c.csv"
    path.write_text("sample_id,prices\n1,two pounds\n")
    read_catalog(path, columns=CatalogColumns(text=("prices",)))
    assert not caplog.records


def test_cells_are_kept_as_written_in_file_order(tmp_path):
    catalog = read(tmp_path, '007,NA,a.jpg,1.5\n7,"two\nlines",,2\nNA,null,c,3\n')
    assert catalog.sample_id.tolist() == ["007", "7", "NA"]
    assert catalog.text == ("NA", "two\nlines", "null")
    assert catalog.image_link == ("a.jpg", "", "c")
    assert catalog.price.tolist() == [1.5, 2, 3]
    assert catalog.price_text == ("1.5", "2", "3")
    assert catalog.n_products == 3


def test_byte_order_mark_and_gzip_are_read(tmp_path):
    text = gzip.compress(b"\xef\xbb\xbf" + (HEADER + "1,a,,2\n").encode())
    assert read_catalog(write(tmp_path, text, "c.csv.gz")).text == ("a",)


def test_text_columns_are_joined_without_the_missing(tmp_path):
    path = write(tmp_path, "sample_id,title,brand\n1,t,b\n2,,b\n3,t,\n4,,\n")
    columns = CatalogColumns(text=("brand", "title"))
    assert read_catalog(path, columns=columns).text == ("b\nt", "b", "t", "")


def test_image_and_price_columns_may_be_absent(tmp_path):
    catalog = read_catalog(write(tmp_path, "catalog_content,sample_id\na,1\n"))
    assert catalog.image_link == ("",)
    assert catalog.price is None
    assert catalog.price_text is None
    with pytest.raises(CatalogError, match=r"no price column 'price'.*--price-column"):
        require_prices(catalog)


@pytest.mark.parametrize(
    "price", ["", "x", "0", "-1", "inf", "nan", "1e400", "1_000", "$5", '"1,299"']
)
def test_unusable_price_is_nan_and_named(tmp_path, price):
    catalog = read(tmp_path, f"1,a,,3\nid2,b,,{price}\n")
    assert math.isnan(catalog.price[1])
    with pytest.raises(CatalogError, match=r"1 of 2 .*row 2.*'id2'.*--drop-unpriced"):
        require_prices(catalog)
    np.testing.assert_array_equal(
        require_prices(catalog, drop_unpriced=True), [3, math.nan]
    )


def test_a_catalog_without_any_price_is_refused(tmp_path):
    catalog = read(tmp_path, "1,a,,x\n2,b,,\n")
    for drop_unpriced in (False, True):
        with pytest.raises(CatalogError, match="no row has a usable price"):
            require_prices(catalog, drop_unpriced=drop_unpriced)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        ("id,text\n1,a\n", r"'catalog_content'.*present: 'id', 'text'.*--text-column"),
        ("id,catalog_content\n1,a\n", "no column 'sample_id'.*--id-column"),
        (HEADER + "1,a,,1\n ,b,,1\n", "row 2: column 'sample_id' is blank"),
        (HEADER + "1,a,,1\n2,b,,1\n1,c,,1\n", "rows 1 and 3 have the same .* '1'"),
        (
            HEADER + "1,a,,1\n2,b,,1,x,y\n",
            "row 2, line 3, sample_id '2': must have 4 cells like the header, got 6",
        ),
        (HEADER + "1,a,,1,x\n2,b,,1,y\n", "row 1, line 2, .*got 5.*into quotes"),
        (
            HEADER + "1,a,,1\n2,b\n",
            "line 3, .* 4 cells.*got 2.*a comma for every empty",
        ),
        (
            HEADER + '1,"a,,1\n',
            "row 1, which begins in line 2: a quote .* never closes",
        ),
        (HEADER + "i" * 300 + ",a,,1\n", "at most 256 characters, got 300"),
        ("è".encode("latin-1") + HEADER.encode(), "not UTF-8 text at byte 0"),
        (HEADER.encode() + b"1,caf\xe8,,1\n", "not UTF-8 text at byte 48.*as UTF-8"),
        (
            HEADER.encode() + b"1," + "é".encode() * 600_000 + b"\xff,,1\n",
            "at byte 1200045",
        ),
    ],
)
def test_unusable_csv_is_one_line_saying_what_to_do(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(CatalogError, match=message) as caught:
        read_catalog(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_catalog_are_named(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CatalogError, match="is a folder"):
        read_catalog(tmp_path / "folder.csv")
    with pytest.raises(CatalogError, match="no such file"):
        read_catalog(tmp_path / "missing.csv")
    with pytest.raises(CatalogError, match=r"must end in \.csv.*'c\.json'"):
        read_catalog(write(tmp_path, "", "c.json"))


def test_long_texts_are_read(tmp_path):
    assert len(read(tmp_path, "1," + "a" * 300_000 + ",,1\n").text[0]) == 300_000


def test_damaged_gzip_is_refused(tmp_path):
    whole = gzip.compress((HEADER + "1,a,,2\n" * 9).encode())
    for content in (b"plain", whole[:-12]):
        with pytest.raises(CatalogError, match=r"gzip"):
            read_catalog(write(tmp_path, content, "c.csv.gz"))


def test_parquet_reads_like_csv(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "catalog.parquet"
    columns = {
        "sample_id": [7, 8, 9],
        "catalog_content": ["a", None, "NA"],
        "price": [1.5, None, math.nan],
        "other": [[1], [2], [3]],
    }
    parquet.write_table(pa.table(columns), path)
    catalog = read_catalog(path)
    assert catalog.sample_id.tolist() == ["7", "8", "9"]
    assert catalog.text == ("a", "", "NA")
    np.testing.assert_array_equal(catalog.price, [1.5, math.nan, math.nan])
    with pytest.raises(CatalogError, match=r"no column 'id'.*--id-column"):
        read_catalog(path, columns=CatalogColumns(sample_id="id"))
    with pytest.raises(CatalogError, match="not a usable Parquet file"):
        read_catalog(write(tmp_path, b"no parquet", "x.pq"))


@pytest.mark.parametrize(
    "name", ["ArrowNotImplementedError", "ArrowKeyError", "ArrowTypeError"]
)
def test_any_error_of_pyarrow_is_told_with_the_file(tmp_path, monkeypatch, name):
    pa = pytest.importorskip("pyarrow")

    def fail(*_, **__):
        raise getattr(pa.lib, name)("codec\nXYZ is unknown")

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", fail)
    with pytest.raises(CatalogError, match=r"c\.pq: not a usable .*codec XYZ is unkn"):
        read_catalog(write(tmp_path, b"PAR1", "c.pq"))


def test_missing_pyarrow_is_told_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CatalogError, match=r"pip install pyarrow"):
        read_catalog(write(tmp_path, b"", "c.parquet"))


def test_content_hash_is_of_content_not_of_prices(tmp_path):
    first = read(tmp_path, "1,ab,c,1\n2,,,1\n").content_sha256
    assert read(tmp_path, "1,ab,c,9\n2,,,8\n").content_sha256 == first
    others = ["1,a,bc,1\n2,,,1\n", "1a,b,c,1\n2,,,1\n", "2,,,1\n1,ab,c,1\n"]
    assert len({read(tmp_path, rows).content_sha256 for rows in others} | {first}) == 4


def test_products_need_a_text_a_photo_or_a_table(tmp_path):
    with pytest.raises(CatalogError, match="--text-column"):
        read(tmp_path, "1,a,b,1\n", text=(), image="photo")
