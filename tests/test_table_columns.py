import numpy as np
import pytest

from embed.catalog.columns import CatalogError
from embed.table.dates import DATE_FORMATS, find_format, read_dates, write_date
from embed.table.detect import guess_kind
from embed.table.encode import TableColumn, encode, feature_names, learn_columns
from embed.table.giveaways import find_giveaway
from embed.table.numbers import find_style, read_numbers


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,299.50", "3"], [1299.5, 3]),
        (["1.299,5", "12"], [1299.5, 12]),
        (["3 kg", "500 g", "750g"], [3000, 500, 750]),
        (["$12.99", "$5"], [12.99, 5]),
        (["45 %", "20%"], [45, 20]),
        (["Rs.500", "Rs. 1,20,000"], [500, 120_000]),
        (["-3.5", "\u22122", "+4"], [-3.5, -2, 4]),
        (["1e5", "2.5"], [1e5, 2.5]),
        (["1e21", "1"], [1e21, 1]),
        (["0.125", "1.299"], [0.125, 1.299]),
        (["\uff15", "6"], [5, 6]),
        (["€ 12,50", "3 €"], [12.5, 3]),
        (["1 200,5", "30,0"], [1200.5, 30]),
        (["12", "", "n/a", "NaN", "-"], [12, None, None, None, None]),
        (["5", "10 x 20", "3-5", "about 7 of 9"], [5, None, None, None]),
        (["5 lb", "3", "4"], [None, 3, 4]),
        (["5 in", "5 in", "5 cm"], [5, 5, None]),
        (["0", "-0"], [0, 0]),
    ],
)
def test_numbers_are_read_by_the_style_of_their_column(cells, numbers):
    style = find_style(cells)
    assert style is not None
    expected = [np.nan if number is None else number for number in numbers]
    np.testing.assert_allclose(read_numbers(cells, style), expected)


@pytest.mark.parametrize(
    "cells", [["1,299", "850"], ["1.299,5", "1,299.5"], ["red", ""], []]
)
def test_a_column_without_one_reading_has_no_style(cells):
    assert find_style(cells) is None


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["2018-12-30", "2018-12-29T10:00:00Z"], [6938, 6937]),
        (["3/4/2000", "25/4/2000"], [93, 115]),
        (["3/4/2000", "4/25/2000"], [63, 115]),
        (["1 Jan 2000", "2 jan 2000"], [0, 1]),
        (["January 3, 2000", ""], [2, np.nan]),
        (["2.1.2000", "unknown"], [1, np.nan]),
        (["1999-12-31 23:59:59 +0000"], [-1]),
    ],
)
def test_dates_are_read_by_the_format_of_their_column(cells, days):
    date_format = find_format(cells)
    assert date_format is not None
    np.testing.assert_array_equal(read_dates(cells, date_format)[:, 0], days)


@pytest.mark.parametrize(
    "cells", [["3/4/2024", "5/6/2024"], ["2024-13-01"], ["soon"], [], ["12.5", "3.5"]]
)
def test_a_column_without_one_reading_has_no_date_format(cells):
    assert find_format(cells) is None


def test_a_date_has_month_and_weekday():
    assert read_dates(["2024-02-29"], "ISO8601").tolist() == [[8825, 2, 3]]


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("weight", ["3 kg", "500 g"] * 20, "number"),
        ("year", ["2018", "2019"] * 20, "number"),
        ("sold", ["2018-01-02", "2018-01-03"] * 20, "date"),
        ("brand", ["Acme", "Bolt", "acme", ""] * 10, "category"),
        ("in_stock", ["yes", "no"] * 20, "category"),
        ("sku", [f"A-{n}" for n in range(40)], "identifiers"),
        ("productId", [f"{n * n}" for n in range(40)], "identifiers"),
        ("number", [f"{n}" for n in range(1, 41)], "identifiers"),
        ("code", [f"{4_000_000_000_000 + 7**n % 99991}" for n in range(40)], "ident"),
        ("photo", ["https://a.test/1.jpg", "https://a.test/2.jpg"] * 20, "links"),
        ("file", [f"{n}.webp" for n in range(40)], "links"),
        ("notes", [f"a long text of many words {n % 9}" for n in range(40)], "texts"),
        ("name", [f"name {n}" for n in range(40)], "hardly any value"),
        ("currency", ["USD"] * 40, "every product has the same value"),
        ("empty", ["", "n/a"] * 20, "blank"),
        ("key", [f"{n}" + "7" * 5000 for n in range(10, 40)], "identifiers"),
        ("total", [f"{n}.5" for n in range(40)], "number"),
    ],
)
def test_the_kind_of_a_column_is_guessed(name, cells, kind):
    assert guess_kind(name, cells).startswith(kind)


def test_new_products_are_encoded_as_the_catalog_was():
    cells = {
        "net weight": ["1,5 kg", "500 g", "n/a"],
        "Brand": ["ACME", "acme ", "Solo"],
        "sold": ["1/2/2024", "13/2/2024", ""],
    }
    kinds = {"net weight": "number", "Brand": "category", "sold": "date"}
    columns = learn_columns(cells, kinds, where="catalog.csv")
    features = encode(columns, cells, n_products=3)
    assert feature_names(columns) == [
        "table.net_weight",
        "table.Brand",
        "table.sold.day",
        "table.sold.month",
        "table.sold.weekday",
    ]
    np.testing.assert_array_equal(
        features.array,
        [
            [1500, 2, 8797, 2, 3],
            [500, 2, 8809, 2, 1],
            [np.nan, 1, np.nan, np.nan, np.nan],
        ],
    )
    assert features.unreadable == []

    new = {"net weight": ["2,5 kg", "heavy"], "Brand": ["Acme", "New"]}
    priced = encode(columns, new, n_products=2)
    np.testing.assert_array_equal(priced.array[:, :2], [[2500, 2], [np.nan, 1]])
    assert np.isnan(priced.array[:, 2:]).all()
    assert priced.unreadable == [(1, "column 'net weight': 'heavy' is no number")]


def test_names_of_features_are_distinct_and_plain():
    names = ("a b", "a_b", "a:b", "a_b.day", "größe")
    columns = [
        TableColumn(name=n, kind="date" if ":" in n else "number") for n in names
    ]
    assert feature_names(columns) == [
        "table.a_b",
        "table.a_b_",
        "table.a_b__.day",
        "table.a_b__.month",
        "table.a_b__.weekday",
        "table.a_b.day",
        "table.größe",
    ]


def test_a_date_gets_a_name_for_each_part_beside_a_column_of_that_name():
    cells = {"sold.month": ["3", "4"], "sold": ["2024-03-31", "2024-04-01"]}
    kinds = {"sold.month": "number", "sold": "date"}
    columns = learn_columns(cells, kinds, where="catalog.csv")
    names = feature_names(columns)
    assert len(names) == encode(columns, cells, n_products=2).array.shape[1]
    assert len({*names}) == len(names)


@pytest.mark.parametrize("date_format", ["%d %d", "%q", ""])
def test_a_format_that_reads_no_dates_is_refused(date_format):
    with pytest.raises(CatalogError, match="date_format must be a format"):
        TableColumn(name="sold", kind="date", date_format=date_format)


@pytest.mark.parametrize("date_format", DATE_FORMATS)
def test_a_date_is_written_so_that_it_is_read_alike(date_format):
    written = write_date("2024-03-31", date_format)
    assert read_dates([written], date_format)[0].tolist() == [8856, 3, 6]
    assert write_date("soon", date_format) == "soon"
    year = read_dates([write_date("1960-03-31", date_format)], date_format)[0, 0]
    assert np.isnan(year) if "%y" in date_format else year == -14520


@pytest.mark.parametrize(("kind", "rule"), [("number", "numbers"), ("date", "dates")])
def test_a_column_of_another_kind_is_refused(kind, rule):
    with pytest.raises(
        CatalogError,
        match=rf"^c.csv: column 'x' must contain {rule}.*'red' is none\. .*"
        r"--category-column",
    ):
        learn_columns({"x": ["red", "blue", "12"]}, {"x": kind}, where="c.csv")


def test_one_bad_cell_in_many_is_unknown_and_named():
    cells = {"x": [*map(str, range(40)), "heavy"]}
    columns = learn_columns(cells, {"x": "number"}, where="c.csv")
    assert encode(columns, cells, n_products=41).unreadable == [
        (40, "column 'x': 'heavy' is no number")
    ]


def _giveaway(price, **written):
    cells = {name: list(map(str, values)) for name, values in written.items()}
    kinds = {name: guess_kind(name, column) for name, column in cells.items()}
    columns = learn_columns(cells, kinds, where="c.csv")
    features = encode(columns, cells, n_products=len(price))
    return find_giveaway(columns, features.array, price)


def test_columns_that_give_the_price_away_are_found():
    rng = np.random.default_rng(0)
    price = np.exp(rng.normal(2, 1, 300)).round(2)
    noise = rng.normal(size=300)
    list_price = price * np.exp(rng.uniform(0, 1.5, 300))
    discount = 100 * (1 - price / list_price)
    shops = [f"shop {n}" for n in rng.integers(0, 9, 300)]
    assert _giveaway(price, noise=noise, shop=shops) is None
    assert _giveaway(price, noise=noise, tax=price * 0.19)[0] == ("tax",)
    assert _giveaway(price, copy=[f"${p:,.2f}" for p in price])[0] == ("copy",)
    assert _giveaway(price, loss=-price)[0] == ("loss",)
    estimate = price * np.exp(0.2 * noise)
    assert _giveaway(price, estimate=estimate)[0] == ("estimate",)
    bands = [f"band {int(np.log(p) * 3)}" for p in price]
    assert _giveaway(price, noise=noise, band=bands)[0] == ("band",)
    assert _giveaway(price, list=list_price) is None
    both = _giveaway(price, noise=noise, list=list_price, off=discount)
    assert both[0] == ("list", "off")
    unpriced = np.where(np.arange(300) < 290, np.nan, price)
    assert _giveaway(unpriced, copy=price) is None  # too few to tell
