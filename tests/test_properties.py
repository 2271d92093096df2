"""Properties of readers and parsers, on generated inputs.

The same inputs are generated on every machine and in every run.
"""

import csv
import gzip
import io
import math
import unicodedata

import bad_catalogs
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from embed.attributes import (
    ATTRIBUTE_NAMES,
    LARGEST,
    SMALLEST,
    extract_attributes,
    parse_size,
)
from embed.catalog.price_checks import require_prices
from embed.catalog.prices import is_readable, parse_prices, plain_price
from embed.catalog.reader import CatalogColumns, CatalogError, read_catalog
from embed.text import MISSING_TEXT, ProductText, compose_text, parse_fields

GENERATED = "generated inputs of the property tests"
LOG_LOW, LOG_HIGH = math.log(SMALLEST) - 1e-5, math.log(LARGEST) + 1e-5

FRAGMENTS = (
    *("Item Name: ", "Bullet Point 1: ", "Product Description: ", "Value: ", "Unit: "),
    *(
        "Pack of ",
        "Case of ",
        "(Pack of 6)",
        "Pack of 0",
        " x ",
        "x",
        "12",
        "1.5",
        "1/2",
        "1/0",
        "0",
    ),
    *(
        "9999999999",
        "1,000",
        ".5",
        "-3",
        "1e400",
        "nan",
        "inf",
        "\u00bd",
        "\uff11\uff12",
    ),
    *(" Fl Oz", " oz", "Ounce", " lb", " kg", " g", " ml", " Count", " ct", "k-cup"),
    *(
        "\n",
        "\r",
        "\t",
        " ",
        ",",
        "<br>",
        "<p",
        ">",
        "&amp;",
        "&#",
        "&#0;",
        ";",
        "\u0301",
    ),
    *("\u200b", "\u202e", "\u2066", "\u05d0", "\U0001f375", "\x00", "\ud800", "\u0130"),
)
TEXT = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.text(max_size=5),
        st.integers(-(10**12), 10**12).map(str),
        st.floats().map(str),
        st.characters(codec=None),
    ),
    max_size=12,
).map("".join)
PRICE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *"$\u20ac\u00a3.,' -+eE%/",
                "\u00a0",
                "USD ",
                "Rs.",
                " kr",
                "0",
                "1",
                "299",
            ]
        ),
        st.text(max_size=2),
        st.integers(-9, 99999).map(str),
    ),
    max_size=7,
).map("".join)


@pytest.fixture
def examples(few_of, tally):
    """Call a check on as many generated inputs, fewer in the quick suite."""

    def call(n, strategy, check, *more):
        tally(
            GENERATED, n_called(len(few_of(range(n), n // 4)), strategy, check, *more)
        )

    return call


def n_called(n, strategy, check, *more):
    """Call `check` on generated inputs; return how many there were."""
    called = 0

    @settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(strategy)
    def run(value):
        nonlocal called
        called += 1
        check(value)

    for value in more:
        run = example(value)(run)
    run()
    return called


def assert_sound_attributes(product):
    values = extract_attributes(product)
    assert values.shape == (len(ATTRIBUTE_NAMES),)
    assert values.dtype == np.float32
    for name, value in zip(ATTRIBUTE_NAMES, values.tolist(), strict=True):
        if math.isnan(value):
            continue
        if name.startswith("log_"):  # of a quantity within its bounds, so above 0
            assert LOG_LOW <= value <= LOG_HIGH, name
        else:
            assert 0 <= value < math.inf, name


def test_any_text_gives_sizes_that_are_unknown_or_positive(examples):
    def check(text):
        for fluid in (False, True):
            size = parse_size(text, fluid=fluid)
            assert size.pack_count is None or 1 <= size.pack_count < math.inf
            if size.kind is None:
                assert size.item_quantity is None
            else:
                assert SMALLEST <= size.item_quantity <= LARGEST
        assert_sound_attributes(ProductText(name=text))

    known = ("tea (Pack of 0)", "0 oz tea", "1/0 oz", "9" * 400 + " kg")
    examples(300, TEXT, check, *known)


def test_any_text_is_parsed_into_sound_fields(examples):
    def check(text):
        product = parse_fields(text)
        assert product.value is None or 0 < product.value < math.inf
        assert all(product.bullets)
        assert_sound_attributes(product)

    examples(300, TEXT, check)


def test_any_text_is_composed_into_one_clean_line(examples):
    def check(text):
        composed = compose_text(parse_fields(text))
        assert composed == " ".join(composed.split())
        assert not {unicodedata.category(letter) for letter in composed} & {"Cc", "Cs"}
        assert composed == MISSING_TEXT or any(map(str.isalnum, composed))
        assert unicodedata.is_normalized("NFC", composed)
        assert parse_fields(text) == parse_fields(text)

    examples(300, TEXT, check)


def test_any_fields_give_sound_attributes(examples):
    number = st.one_of(st.none(), st.floats(allow_nan=False, min_value=0))
    fields = st.builds(
        ProductText,
        name=TEXT,
        bullets=st.lists(TEXT, max_size=3).map(tuple),
        description=TEXT,
        value=number,
        unit=st.one_of(TEXT, st.sampled_from(["Ounce", "Fl Oz", "Count", "kg"])),
    )
    examples(200, fields, assert_sound_attributes)


BYTES = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.one_of(
            st.sampled_from(
                [b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf"]
            ),
            st.binary(max_size=6),
            TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
        ),
        max_size=12,
    ).map(lambda parts: bad_catalogs.HEADER.encode() + b"".join(parts)),
)


def assert_catalog_or_error(path):
    try:
        catalog = read_catalog(path)
    except CatalogError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return
    assert catalog.n_products == len(catalog.text) == len(catalog.image_link) >= 1
    assert len(set(catalog.sample_id.tolist())) == catalog.n_products
    assert len(catalog.content_sha256) == 64
    assert catalog.price is None or not (catalog.price <= 0).any()


def test_any_bytes_are_a_catalog_or_a_catalog_error(tmp_path, examples):
    def check(content):
        assert_catalog_or_error(bad_catalogs.write_csv(tmp_path, content))

    examples(300, BYTES, check)


@pytest.mark.parametrize("ending", [".csv.gz", ".parquet"])
def test_any_change_to_a_packed_file_is_a_catalog_or_an_error(
    ending, tmp_path, examples
):
    buffer = io.BytesIO()
    parquet.write_table(bad_catalogs.table(), buffer)
    packed = gzip.compress(bad_catalogs.PLAIN.encode(), mtime=0)
    whole = packed if ending == ".csv.gz" else buffer.getvalue()
    changes = st.lists(
        st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4
    )

    def check(edit):
        content = bytearray(whole)
        for at, byte in edit[0]:
            content[at] = byte
        del content[len(content) - edit[1] :]
        path = bad_catalogs.write_csv(tmp_path, bytes(content), "catalog" + ending)
        assert_catalog_or_error(path)

    cut = st.one_of(st.just(0), st.integers(0, len(whole)))
    examples(250, st.tuples(changes, cut), check)


def test_ids_and_texts_come_back_as_they_were_written(tmp_path, examples):
    plain = st.text(st.characters(codec="utf-8"), max_size=20)
    name = plain.filter(lambda text: text.strip() and not set("\0\r") & {*text})
    ids = st.lists(st.one_of(name, st.floats().map(str)), min_size=1, unique=True)

    def check(drawn):
        ids, text, line_end = drawn
        path = tmp_path / "catalog.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=line_end)
            lines.writerow(("price", "sample_id", "catalog_content"))
            lines.writerows(("1", name, text) for name in ids)
        catalog = read_catalog(path)
        assert catalog.sample_id.tolist() == ids
        assert catalog.text == (text if text.strip() else "",) * len(ids)

    drawn = st.tuples(ids, plain, st.sampled_from(["\n", "\r\n", "\r"]))
    examples(250, drawn, check)


def describe(row):
    return f"row {row + 1}"


def test_any_prices_are_unusable_positive_or_a_catalog_error(examples):
    def check(written):
        try:
            prices = parse_prices(written, describe=describe, where="column 'price'")
        except CatalogError as error:
            message = str(error)
            assert message.startswith("column 'price': ")
            assert "row " in message
            assert "\n" not in message
            return
        assert len(prices) == len(written)
        assert not (prices <= 0).any()
        assert not np.isinf(prices).any()
        for price, text in zip(prices.tolist(), written, strict=True):
            assert math.isnan(price) or is_readable(text)
            plain = plain_price(text)
            # with a point it may be 1299, written as the rest of the column is
            if not math.isnan(plain) and "." not in text:
                assert price == plain

    prices = st.lists(PRICE, min_size=1, max_size=4)
    examples(400, prices, check)


def test_plain_prices_are_never_negative_or_infinite(examples):
    def check(written):
        price = plain_price(written)
        assert math.isnan(price) or 0 < price < math.inf

    written = st.one_of(PRICE, TEXT, st.floats().map(repr))
    examples(300, written, check)


# thousands and decimal sign
CONVENTIONS = [
    (",", "."),
    (".", ","),
    *[(space, ",") for space in (" ", "\u00a0", "\u202f")],
    (" ", "."),
    ("'", "."),
    ("\u2019", "."),
    ("", "."),
    ("", ","),
    ("indian", "."),
]
CURRENCIES = [
    *(("", ""), ("$", ""), ("$ ", ""), ("", " $"), ("\u20ac", ""), ("", " \u20ac")),
    *(("EUR ", ""), ("", " EUR"), ("CHF ", ""), ("Fr. ", ""), ("", " kr"), ("Rs.", "")),
    *(("\u20b9", ""), ("Rs. ", ""), ("US$", ""), ("R$ ", ""), ("\u00a3", "")),
]


def group(whole, thousands):
    """Write a whole number in groups, from the right."""
    digits = str(whole)
    if thousands == "indian" and len(digits) > 3:
        head, tail = digits[:-3], digits[-3:]
        start = len(head) % 2
        pairs = [head[at : at + 2] for at in range(start, len(head), 2)]
        return ",".join([*filter(None, [head[:start]]), *pairs, tail])
    return f"{whole:,}".replace(",", "" if thousands == "indian" else thousands)


@pytest.mark.parametrize(("thousands", "decimal"), CONVENTIONS)
def test_prices_written_in_one_way_are_read_as_they_were(thousands, decimal, examples):
    def write(cents, currency, *, bare):
        whole, rest = divmod(cents, 100)
        number = group(whole, thousands)
        if not (bare and rest == 0):
            number += f"{decimal}{rest:02}"
        return currency[0] + number + currency[1]

    def check(drawn):
        cents, currency, bare = drawn
        # the first has cents, and so settles the column
        written = [write(cents[0], currency, bare=False)]
        written += [write(one, currency, bare=bare) for one in cents[1:]]
        found = parse_prices(written, describe=describe, where="")
        np.testing.assert_allclose(found, np.array(cents) / 100, rtol=1e-12)

    cents = st.one_of(
        st.integers(1, 10**11), st.integers(1, 10**7).map(lambda whole: whole * 100)
    )
    drawn = st.tuples(
        st.lists(cents, min_size=1, max_size=4),
        st.sampled_from(CURRENCIES),
        st.booleans(),
    )
    examples(120, drawn, check)


def test_floats_as_programs_write_them_are_read_exactly(examples):
    def check(prices):
        written = ["0.5", *map(repr, prices)]
        found = parse_prices(written, describe=describe, where="")
        assert found.tolist() == [0.5, *prices]

    price = st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False)
    examples(300, st.lists(price, max_size=4), check)


def test_a_parsed_catalog_has_a_price_or_a_reason_for_each_row(tmp_path, examples):
    def check(written):
        path = tmp_path / "catalog.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, quoting=csv.QUOTE_ALL)
            lines.writerow(("sample_id", "catalog_content", "price"))
            lines.writerows((n, "a", price) for n, price in enumerate(written))
        columns = CatalogColumns(parse_prices=True)
        catalog = read_catalog(path, columns=columns)
        reason, price = "", np.ones(1)
        try:
            price = require_prices(catalog)
        except CatalogError as error:
            reason = str(error)
        assert (price > 0).all()
        assert np.isfinite(price).all()
        assert len(price) == len(written) or "sample_id '" in reason
        assert "\n" not in reason

    prices = st.lists(
        PRICE.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)),
        min_size=1,
        max_size=3,
    )
    examples(300, prices, check)
