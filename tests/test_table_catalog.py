"""Table columns of whole catalogs in each format, odd cells, odd names, giveaways."""

import csv
import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from embed.catalog import excel_format
from embed.catalog.columns import CatalogColumns, CatalogError
from embed.catalog.own_copy import write_run_catalog
from embed.catalog.reader import read_catalog
from embed.chunks import attribute_names
from embed.table.detect import guess_kind, settle_table
from embed.table.encode import encode, learn_columns
from embed.table.giveaways import find_giveaway
from embed.table.learn import learn_table

AUTO = CatalogColumns(table="auto")
N = 40


def write(path, **columns):
    """Write a catalog of N products with some columns."""
    base = {
        "sample_id": [f"p{n}" for n in range(N)],
        "catalog_content": [f"product {n}" for n in range(N)],
        "price": [f"{5 + n * 37 % 41}.5" for n in range(N)],
    }
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([*base, *columns])
        lines.writerows(zip(*base.values(), *columns.values(), strict=True))
    return path


def cycle(*values):
    return [values[n % len(values)] for n in range(N)]


def features(catalog):
    table = learn_table(catalog)
    array = encode(table, catalog.table, n_products=catalog.n_products).array
    return attribute_names(table)[-array.shape[1] :], array


ODD_CELLS = [
    ("zip", cycle("01234", "90210"), "category"),
    ("some zero", cycle(*map(str, range(1, 25)), "05"), "number"),
    ("phone", [f"{2_025_550_100 + 7919 * n}" for n in range(N)], "identifiers"),
    ("ean", cycle("4006381333931", "5012345678900"), "category"),
    ("huge", [f"{10**25 + 7**n}" for n in range(N)], "identifiers"),
    ("unix time", [f"{1_600_000_000 + 99_991 * n}" for n in range(N)], "number"),
    ("row", [f"{n}.0" for n in range(N)], "identifiers"),
    ("version", cycle("1.2.3", "1.10.0"), "category"),
    ("excel", cycle("3", "#N/A", "4.5", "#REF!", "#DIV/0!"), "number"),
    ("ja", cycle("ja", "nein"), "category"),
    ("oui", cycle("oui", "non"), "category"),
    ("TRUE", cycle("TRUE", "FALSE"), "category"),
    ("percent", cycle("15%", "20 %"), "number"),
    ("money", cycle("$1,299.50", "$3"), "number"),
    ("eastern digits", cycle("\u0661\u0662", "\u0663"), "number"),
    ("minus behind", cycle("5-", "7-"), "category"),
    ("year", cycle("1969", "2024"), "number"),
    ("thousands", cycle("12,500", "1,299"), "1,299 may be 1299 or 1.299"),
    ("days first", cycle("13/4/2024", "1/2/2024"), "date"),
    ("months first", cycle("4/13/2024", "1/2/2024"), "date"),
    ("either first", cycle("3/4/2024", "1/2/2024"), "dates that may be day/month"),
    ("compact", [f"202403{1 + n % 28:02}" for n in range(N)], "date"),
    ("with time", cycle("1/13/2024 9:05 PM", "1/2/2024 1:00 AM"), "date"),
    ("of a feed", cycle("Tue, 12 Mar 2024 10:00:00 +0000", ""), "every product"),
    ("german time", cycle("31.12.2023 08:00", "1.1.2024 09:30"), "date"),
    ("old", cycle("1850-01-01", "1969-12-31"), "date"),
    ("future", cycle("2150-01-01", "9999-12-31", "2024-01-01"), "date"),
    ("too far", cycle("0999-01-01", "2924-01-01"), "category"),
    ("no such day", cycle("2024-02-30", "2024-13-01"), "category"),
    ("no date", cycle("0000-00-00", "2024-01-01", "2024-01-02"), "date"),
    ("mixed", cycle("3", "red", "2024-01-01"), "category"),
    ("unique", [f"name {n}" for n in range(N)], "hardly any"),
]


@pytest.mark.parametrize(("name", "cells", "kind"), ODD_CELLS, ids=lambda value: value)
def test_odd_cells_have_a_kind_or_a_reason(name, cells, kind):
    assert guess_kind("x", cells).startswith(kind)


def test_numbers_that_are_none_are_unknown():
    cells = ["NaN", "inf", "-inf", "1e400", "1e99", "9" * 60, "2.5", "5-", *["3"] * 100]
    columns = learn_columns({"x": cells}, {"x": "number"}, where="c.csv")
    read = encode(columns, {"x": cells}, n_products=len(cells))
    np.testing.assert_array_equal(read.array[:8, 0], [np.nan] * 6 + [2.5, np.nan])
    assert [row for row, _ in read.unreadable] == [3, 4, 5, 7]


def test_columns_that_a_file_stores_as_numbers_need_no_guess():
    cells = {"x": cycle("1.299", "2.45"), "y": cycle("1", "7"), "ean": cycle("4" * 13)}
    columns, notes = settle_table(AUTO, cells, plain_numbers={"x", "y"})
    assert columns.kinds == {"x": "number", "y": "number"}
    assert any("every product has the same value" in note for note in notes)


def test_odd_names_of_columns_are_kept_apart(tmp_path):
    names = (
        "log_value",
        "table.x",
        "x",
        "fused-0",
        "größe",
        "a,b",
        'a"b',
        "=1+1",
        "é" * 99,
    )
    values = {name: cycle(n + 1, n + 2, "9") for n, name in enumerate(names)}
    path = write(tmp_path / "c.csv", **values, **{"": cycle("1", "2")})
    catalog = read_catalog(path, columns=AUTO)
    assert tuple(catalog.columns.kinds) == names
    found, array = features(catalog)
    assert len({*attribute_names(learn_table(catalog))}) == 15 + len(names)
    assert not set('",:[]{}') & set("".join(found))
    np.testing.assert_array_equal(array[0], range(1, len(names) + 1))


def test_a_name_that_is_there_twice_is_left_out_or_refused(tmp_path):
    path = write(tmp_path / "c.csv", size=cycle("1", "2"), other=cycle("3", "4"))
    path.write_text(path.read_text().replace("other", "size", 1))
    assert read_catalog(path, columns=AUTO).columns.kinds == {}
    with pytest.raises(CatalogError, match="'size' is there 2 times"):
        read_catalog(path, columns=CatalogColumns(numbers=("size",)))


def test_too_many_columns_are_refused(tmp_path):
    path = write(tmp_path / "c.csv", **{f"x{n}": cycle("1", "2") for n in range(3000)})
    catalog = read_catalog(path, columns=AUTO)
    with pytest.raises(
        CatalogError, match=r"at most 1000 table columns, got 3000\. Name"
    ):
        learn_table(catalog)


def test_a_catalog_needs_no_text(tmp_path):
    path = write(tmp_path / "c.csv", brand=cycle("a", "b"))
    columns = CatalogColumns(text=(), categories=("brand",))
    catalog = read_catalog(path, columns=columns)
    assert catalog.text == ("",) * N
    write_run_catalog(catalog, tmp_path)


def test_columns_of_parquet_have_their_types(tmp_path):
    days = [datetime.date(2024, 1, 1 + n % 28) for n in range(N)]
    odd = {
        "whole": pa.array([n % 7 for n in range(N)], pa.int64()),
        "floats": pa.array([1.299, None] * (N // 2)),
        "infinite": pa.array([np.inf, 1.5, 2.5, 3.5] * (N // 4)),
        "flag": pa.array([True, False] * (N // 2)),
        "day": pa.array(days, pa.date32()),
        "time": pa.array(pd.to_datetime(days), pa.timestamp("ns", tz="UTC")),
        "maker": pa.array(cycle("a", "b")).dictionary_encode(),
        "list": pa.array([[1, 2]] * N),
        "more": pa.array([1.299, 2.45] * (N // 2)),
    }
    base = {
        "sample_id": pa.array([f"p{n}" for n in range(N)]),
        "catalog_content": pa.array(["tea"] * N),
    }
    parquet.write_table(pa.table(base | odd), tmp_path / "c.parquet")
    catalog = read_catalog(tmp_path / "c.parquet", columns=AUTO)
    kinds = dict.fromkeys(("whole", "infinite", "more"), "number")
    kinds |= dict.fromkeys(("day", "time"), "date")
    assert catalog.columns.kinds == kinds | {"flag": "category", "maker": "category"}
    names, array = features(catalog)
    assert array[0, names.index("table.more")] == np.float32(1.299)
    assert np.isnan(array[0, names.index("table.infinite")])
    day = names.index("table.day.day")
    np.testing.assert_array_equal(
        array[:, day], array[:, names.index("table.time.day")]
    )


def test_cells_of_a_workbook_have_their_types():
    day = datetime.date(2024, 2, 29)
    rows = [
        ["sample_id", "catalog_content", "sold", "seen", "flag", "size", "cost"],
        *(
            [
                *(n, "tea", day, day.replace(day=1 + n % 9), n % 2 == 0),
                *(1.299 + n % 2, "#N/A" if n % 3 else 2.5 + n % 2),
            ]
            for n in range(N)
        ),
        ["", "", "", "", "", "", ""],
    ]
    cells = excel_format._read_rows(Path("c.xlsx"), AUTO, rows)
    columns, _ = settle_table(AUTO, cells.of, plain_numbers=cells.numbers)
    assert "flag" not in cells.numbers
    assert columns.kinds == {
        **{"size": "number", "cost": "number", "seen": "date", "flag": "category"}
    }


def test_variants_of_a_shop_inherit_their_table_cells(tmp_path):
    path = tmp_path / "export.csv"
    header = [
        *("Handle", "Title", "Vendor", "Type", "Option1 Value", "Variant SKU"),
        *("Variant Grams", "Variant Price", "Variant Compare At Price"),
    ]
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(header)
        for n in range(N):
            price = float(np.exp(rng.normal(3, 1)).round(2))
            vendor, kind = "AB"[n % 2], ("mug", "pot", "cup")[n % 3]
            grams, dear = 100 + n % 5, round(price * 1.2, 2)
            lines.writerow(
                [f"h{n}", "Mug", vendor, kind, "S", f"S{n}", grams, price, dear]
            )
            lines.writerow(
                [f"h{n}", "", "", "", "L", f"L{n}", "", 2 * price, 2.4 * price]
            )
    catalog = read_catalog(path, columns=AUTO)
    assert catalog.table["Vendor"][:4] == ("A", "A", "B", "B")
    assert catalog.table["Variant Grams"][2:4] == ("101", "101")
    with pytest.raises(
        CatalogError,
        match=r"'Variant Compare At Price' gives the price away: .* is 1\.000.*"
        r"--ignore-column 'Variant Compare At Price'.*--allow-column",
    ):
        learn_table(catalog)
    ignoring = dataclasses.replace(AUTO, ignored=("Variant Compare At Price",))
    names, array = features(read_catalog(path, columns=ignoring))
    assert names == ["table.Variant_Grams", "table.Vendor", "table.Type"]
    assert np.isfinite(array).all()


def test_fields_of_a_feed_are_table_columns(tmp_path):
    items = "".join(
        f"<item><g:id>{n}</g:id><title>Mug {n}</title><description>d</description>"
        f"<g:image_link>http://i/{n}.jpg</g:image_link><g:brand>{'AB'[n % 2]}</g:brand>"
        f"<g:shipping_weight>{1 + n % 4} kg</g:shipping_weight></item>"
        for n in range(N)
    )
    path = tmp_path / "feed.xml"
    path.write_text(
        f'<rss xmlns:g="http://base.google.com/ns/1.0"><channel>{items}</channel></rss>'
    )
    catalog = read_catalog(path, columns=AUTO)
    assert catalog.columns.kinds == {"shipping_weight": "number", "brand": "category"}
    assert catalog.plain_numbers == frozenset()


@pytest.fixture(scope="module")
def price():
    return np.exp(np.random.default_rng(0).normal(3, 1, 600)).round(2)


@pytest.fixture
def giveaway(price):
    def find(prices=price, **written):
        cells = {name: list(map(str, values)) for name, values in written.items()}
        kinds = {name: guess_kind(name, column) for name, column in cells.items()}
        columns = learn_columns(cells, kinds, where="c.csv")
        array = encode(columns, cells, n_products=len(prices)).array
        found = find_giveaway(columns, array, prices)
        return None if found is None else found[0]

    return find


def test_changed_copies_of_the_price_are_found(giveaway, price):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=len(price))
    copies = {
        "another currency": [f"€{p * 0.92:.2f}" for p in price],
        "rounded": price.round(),
        "with tax": price * 1.19,
        "cents": (price * 100).astype(int),
        "rank": 7 * price.argsort().argsort(),
        "near": price * np.exp(0.05 * noise),
        "rough": price * np.exp(0.2 * noise),
        "cost": price * rng.uniform(0.4, 0.8, len(price)),
        "band": [f"band {'abcdefghijklmnop'[int(np.log(p + 1) * 2)]}" for p in price],
    }
    for name, cells in copies.items():
        assert giveaway(noise=noise, **{name: cells}) == (name,)


def test_columns_that_give_the_price_away_together_are_found(giveaway, price):
    rng = np.random.default_rng(1)
    noise = {f"x{n}": rng.normal(size=len(price)) for n in range(5)}
    long, wide = np.exp(rng.normal(0, 0.6, (2, len(price))))
    assert giveaway(**noise, size=long, unit_price=price / long) == (
        "size",
        "unit_price",
    )
    three = giveaway(**noise, long=long, wide=wide, per_area=price / long / wide)
    assert {*three} == {"long", "wide", "per_area"}
    share = rng.uniform(0, 90, len(price)).round(1)
    usual = price / (1 - share / 100)
    assert giveaway(**noise, usual=usual, off=share) == ("usual", "off")


def test_honest_columns_are_no_giveaways(giveaway, price):
    rng = np.random.default_rng(1)
    n = len(price)
    assert giveaway(estimate=price * np.exp(0.4 * rng.normal(size=n))) is None
    assert (
        giveaway(
            weight=price**0.5 * np.exp(0.7 * rng.normal(size=n)),
            rating=rng.uniform(1, 5, n).round(1),
            noise=[f"brand {b}" for b in rng.integers(0, 9, n)],
            level=[
                "cheap" if p < 10 else "middle" if p < 40 else "dear" for p in price
            ],
        )
        is None
    )
    brand = rng.integers(0, 30, n)
    of_brand = rng.normal(0, 1, 30)[brand]
    assert (
        giveaway(
            np.exp(3 + of_brand + 0.5 * rng.normal(size=n)),
            brand=[f"b{b}" for b in brand],
        )
        is None
    )


def test_chance_is_no_giveaway():
    """The mean price of the others of a category falls with a product's own price."""
    rng = np.random.default_rng(0)
    price = np.exp(rng.normal(size=48))
    cells = {"brand": rng.choice(["a", "b", "c"], 48).tolist()}
    columns = learn_columns(cells, {"brand": "category"}, where="c.csv")
    array = encode(columns, cells, n_products=48).array
    assert find_giveaway(columns, array, price) is None
