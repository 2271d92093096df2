"""Prices as many countries write them, each alone in its column, and in columns."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import copy_run

from embed.catalog.own_copy import read_run_catalog
from embed.catalog.price_checks import describe_unpriced, doubtful_price, require_prices
from embed.catalog.prices import is_readable, parse_prices, plain_price, why_unusable
from embed.catalog.reader import CatalogColumns, CatalogError, read_catalog
from embed.records import EmbedManifest, Substituted
from embed.store.manifest import read_json
from stack.cli import main

NBSP, NNBSP, RLM = "\u00a0", "\u202f", "\u200f"

READ = {
    # no decimals: whatever stands before three digits groups them
    "¥1,280": 1280,
    "\uffe51,280": 1280,
    "1,280円": 1280,
    "JPY 1.280": 1280,
    "\uff11\uff0c\uff12\uff18\uff10\u5186": 1280,
    "¥128": 128,
    "₩12,000": 12000,
    "12,000원": 12000,
    "KRW 1,200,000": 1.2e6,
    "255.000đ": 255000,
    "255,000 ₫": 255000,
    "255.000 VND": 255000,
    "255.000 VNĐ": 255000,
    "1.255.000₫": 1_255_000,
    "Rp255.000": 255000,
    "Rp. 255.000": 255000,
    "Rp 25.500,00": 25500,
    "Rp255.000,-": 255000,
    "IDR 255,000": 255000,
    "1.299 Ft": 1299,
    "1 299 Ft": 1299,
    "HUF 1.299": 1299,
    "CLP 12.990": 12990,
    "CLP$ 12.990": 12990,
    "12.990 ISK": 12990,
    "NT$1,299": 1299,
    "₲ 125.000": 125000,
    # a decimal point is usual: the comma groups
    "₹1,099": 1099,
    "₹ 1,29,900": 129900,
    "Rs.1,299/-": 1299,
    "Rs 1,299": 1299,
    "PKR 1,299": 1299,
    "Rs. 1,299 LKR": 1299,
    "£1,299": 1299,
    "฿1,299": 1299,
    "1,299 บาท": 1299,
    "₱1,299": 1299,
    "RM1,299": 1299,
    "RM 12.90": 12.9,
    "S$1,299": 1299,
    "A$1,299": 1299,
    "AU$ 1,299": 1299,
    "NZ$1,299": 1299,
    "HK$1,299": 1299,
    "MX$1,299": 1299,
    "$1,299 MXN": 1299,
    "₪1,299": 1299,
    "AED 1,299": 1299,
    "AED1,299.50": 1299.5,
    "1,299 د.إ": 1299,
    "د.إ.\u200f 1,299": 1299,
    f"{RLM}1,299.00{NBSP}د.إ{RLM}": 1299,
    "Dhs. 1,299": 1299,
    "SAR 1,299": 1299,
    "ر.س 1,299": 1299,
    "\u0662\u066c\u0662\u0665\u0665\u066b\u0665\u0660 \u0631.\u0633": 2255.5,
    "QAR 45.5": 45.5,
    "KSh 1,299": 1299,
    "₦1,299": 1299,
    "S/ 1,299": 1299,
    "S/.12.50": 12.5,
    "¥12.80 CNY": 12.8,
    "RMB 1,299": 1299,
    # thousandths
    "KWD 1.299": 1.299,
    "1.250 د.ك": 1.25,
    "OMR 1,299": 1299,
    # a decimal comma is usual: the point groups
    "1.299 kr": 1299,
    "kr. 1.299": 1299,
    "1.299,95 kr": 1299.95,
    "1 299 SEK": 1299,
    "DKK 1.299": 1299,
    "1.299 zł": 1299,
    f"1{NBSP}299,99 zł": 1299.99,
    "R$ 1.299": 1299,
    "R$12,90": 12.9,
    "1.299 Kč": 1299,
    f"1{NNBSP}299 Kč": 1299,
    "1 299,- Kč": 1299,
    "₺1.299": 1299,
    "1.299,00 TL": 1299,
    "₽ 1 299": 1299,
    "1 299,50 \u0440\u0443\u0431.": 1299.5,
    "1.299 lei": 1299,
    "1 299 грн": 1299,
    "ARS 1.299": 1299,
    "COP 255.000": 255000,
    # settled by how it is written
    "CHF 1'299.-": 1299,
    "CHF 12.90": 12.9,
    "C$12.90": 12.9,
    "$12.90 CAD": 12.9,
    "US$1,299.00": 1299,
    "1.299,00 €": 1299,
    "12,50": 12.5,
    "$.50": 0.5,
    "0.0007": 0.0007,
}
UNUSABLE = {
    "": "blank",
    " \u200b ": "blank",
    "free": "no number",
    "N/A": "no number",
    "nan": "no number",
    "-5": "negative",
    "$-5": "negative",
    "-$5.00": "negative",
    "(5.00)": "negative",
    "\u22125": "negative",
    "5-": "negative",
    "0": "zero",
    "0.00": "zero",
    "$0": "zero",
    "1e400": "too large",
    "10-12": "more than one number",
    "2 for 5": "more than one number",
    "10%": "a percentage",
    "12 each": "text beside the number",
    "non-stock 5": "text beside the number",
    "USD 12 CAD": "text beside the number",
    "12.50 €/kg": "text beside the number",
    "1,29,00": "digits grouped neither",
    "1.2.3": "digits grouped neither",
    "$" + "5" * 101: "longer than 100",
}
AMBIGUOUS = ["1,299", "1.299", "$1,299", "$1.299", "1,299 €", "1.299 EUR", "CHF 1,299"]
AMBIGUOUS += ["C$1,299", "₹1.099", "1,299 zł", "R 1,299", "£1.299"]


def parse(*written, **options):
    return parse_prices(
        written, describe=lambda row: f"row {row + 1}", where="prices", **options
    ).tolist()


@pytest.mark.parametrize("written", READ)
def test_a_price_is_read_as_its_country_writes_it(written):
    assert parse(written) == [READ[written]]
    assert is_readable(written)


@pytest.mark.parametrize("written", UNUSABLE)
def test_a_cell_that_is_no_price_says_why(written):
    assert math.isnan(parse(written)[0])
    assert math.isnan(plain_price(written))
    assert why_unusable(written).startswith(UNUSABLE[written])


@pytest.mark.parametrize("written", AMBIGUOUS)
def test_what_may_be_two_prices_is_refused_with_options_that_settle_it(written):
    with pytest.raises(CatalogError, match="row 1") as refused:
        parse(written)
    options = re.findall(r"--decimal-sign (\S) if it is ([\d.]*\d)", str(refused.value))
    assert sorted(sign for sign, _ in options) == [",", "."]
    values = [parse(written, decimal_sign=sign) for sign, _ in options]
    assert values == [[float(value)] for _, value in options]
    assert values[0] == [1000 * values[1][0]]


def test_a_column_is_settled_by_its_currency_wherever_that_stands():
    assert parse("1,299", "¥500", "12,000") == [1299, 500, 12000]
    assert parse("1.299", "2.499 kr", "899") == [1299, 2499, 899]
    assert parse("₹1,099", "₹1,099.50") == [1099, 1099.5]


def test_a_krone_is_of_the_country_that_another_row_names():
    assert parse("kr 5", "7 SEK", "1.299 kr") == [5, 7, 1299]
    with pytest.raises(CatalogError, match="one currency"):
        parse("kr 5", "7 SEK", "9 NOK")
    with pytest.raises(CatalogError, match="one currency"):
        parse("kr 5", "7 EUR")


def test_what_a_row_settles_goes_before_the_usual_way_of_a_currency():
    assert parse("₹1.099", "₹1.099,50") == [1099, 1099.5]
    assert parse("1.299 kr", "9.99 kr") == [1.299, 9.99]


def test_a_decimal_sign_that_a_price_contradicts_is_refused_by_name():
    with pytest.raises(CatalogError, match=r"--decimal-sign \. .* row 2: '12,50'"):
        parse("1,299", "12,50", decimal_sign=".")
    with pytest.raises(CatalogError, match=r"--decimal-sign , .* row 1: '9.99'"):
        parse("9.99", decimal_sign=",")


def write_catalog(folder, prices, name="catalog.csv"):
    lines = [f'{row},tea number {row},"{price}"' for row, price in enumerate(prices)]
    path = folder / name
    path.write_text("\n".join(["sample_id,catalog_content,price", *lines, ""]))
    return path


@pytest.mark.parametrize(
    ("prices", "is_doubtful"),
    [
        (["899", "1.299", "45"], True),
        (["1.299", "2.499"], True),
        (["899", "255.000"], True),
        (["1.299", "12.50", "899.00"], True),
        (["1.299", "", "free"], True),
        (["0.075", "1.299", "2"], False),  # per piece
        (["0.250", "1.250", "12.000"], False),  # dinars
        (["1.299", "12.5", "3"], False),  # as programs write them
        (["1.299", "3.14159"], False),
        (["12.50", "899"], False),
        (["1299", "12345.678"], False),
        (["0.999"], False),
    ],
)
def test_a_plain_number_that_may_be_thousands_is_asked_about(
    prices, is_doubtful, tmp_path
):
    catalog = read_catalog(write_catalog(tmp_path, prices))
    assert (doubtful_price(catalog) is not None) is is_doubtful
    price = catalog.price[np.isfinite(catalog.price)]
    assert price.tolist() == [float(p) for p in prices if p not in ("", "free")]
    for columns in (
        CatalogColumns(decimal_sign="."),
        CatalogColumns(parse_prices=True),
    ):
        settled = read_catalog(catalog.path, columns=columns)
        assert doubtful_price(settled) is None


def embed(path, run_dir, monkeypatch, *options):
    """Run `embed` up to the encoding; return what it says and the prices it read."""
    prices = []

    def stand_in(catalog, run_dir, **_):
        prices.extend(catalog.price.tolist())
        nothing = Substituted(text=0, image=0)
        return EmbedManifest.model_construct(
            n_products=1, seconds=0, substituted=nothing
        )

    monkeypatch.setattr("embed.extract.extract", stand_in)
    arguments = ["embed", "--catalog", str(path), "--run", str(run_dir), *options]
    result = CliRunner().invoke(main, arguments)
    return result, prices


def test_embed_asks_about_a_doubtful_number_and_takes_either_answer(
    tmp_path, monkeypatch
):
    path, run_dir = write_catalog(tmp_path, ["899", "1.299"]), tmp_path / "run"
    result, prices = embed(path, run_dir, monkeypatch)
    assert "row 2, sample_id '1': '1.299' is read as 1.299" in result.output
    assert prices == [899, 1.299]
    result, prices = embed(path, run_dir, monkeypatch, "--decimal-sign", ",")
    assert "is read as" not in result.output
    assert prices == [899, 1299]
    result, prices = embed(path, run_dir, monkeypatch, "--decimal-sign", ".")
    assert "is read as" not in result.output
    assert prices == [899, 1.299]


def test_an_ambiguous_column_is_read_by_the_option_that_its_error_names(
    tmp_path, monkeypatch
):
    path, run_dir = write_catalog(tmp_path, ["$5", "$1,299"]), tmp_path / "run"
    result, _ = embed(path, run_dir, monkeypatch)
    assert "--parse-prices and either --decimal-sign . or --decimal" in result.output
    result, _ = embed(path, run_dir, monkeypatch, "--parse-prices")
    assert result.exit_code == 2
    named = result.output.split("again with ")[1].split(" if it is 1299")[0].split()
    assert named == ["--parse-prices", "--decimal-sign", "."]
    result, prices = embed(path, run_dir, monkeypatch, *named)
    assert result.exit_code == 0
    assert prices == [5, 1299]


def test_rows_without_a_price_are_counted_by_reason(tmp_path):
    prices = ["", "5", "", "-3", "free", "12,50", "0", ""]
    catalog = read_catalog(write_catalog(tmp_path, prices))
    assert describe_unpriced(catalog) == (
        "row 1, sample_id '0': '' (blank; 3 rows); "
        "row 4, sample_id '3': '-3' (negative); "
        "row 5, sample_id '4': 'free' (no number); "
        "row 6, sample_id '5': '12,50' (not a plain number); "
        "row 7, sample_id '6': '0' (zero)"
    )
    with pytest.raises(CatalogError, match=r"'-3' \(negative\)"):
        require_prices(catalog)
    nothing = read_catalog(write_catalog(tmp_path, ["-3", "12 each"], "none.csv"))
    with pytest.raises(CatalogError, match=r"no row has a usable .* not one currency"):
        require_prices(nothing, drop_unpriced=True)


def test_later_stages_read_a_run_by_its_decimal_sign(embedded_run, tmp_path):
    prices = ["1,299"] * 39 + ["7"]
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=prices)
    manifest = read_json(run_dir / "embed" / "manifest.json")
    for sign, expected in ((".", 1299.0), (",", 1.299)):
        settled = {"parse_prices": True, "decimal_sign": sign}
        manifest["inputs"]["columns"] |= settled
        embed = EmbedManifest.model_validate(manifest)
        price = require_prices(read_run_catalog(run_dir, embed))
        assert price.tolist() == [expected] * 39 + [7.0]
    del manifest["inputs"]["columns"]["decimal_sign"]  # of an older version
    embed = EmbedManifest.model_validate(manifest)
    assert read_run_catalog(run_dir, embed).columns.decimal_sign is None


def test_prices_that_are_numbers_in_the_file_have_no_sign_to_doubt(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = Path(tmp_path / "catalog.parquet")
    columns = {"sample_id": ["1", "2"], "catalog_content": ["a", "b"]}
    parquet.write_table(pa.table({**columns, "price": [899.0, 1.299]}), path)
    asked = CatalogColumns(parse_prices=True, decimal_sign=",")
    for catalog in (read_catalog(path), read_catalog(path, columns=asked)):
        assert doubtful_price(catalog) is None
        assert catalog.price.tolist() == [899, 1.299]
