import dataclasses
import math
import os
import time
import tracemalloc

import bad_catalogs
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_TRAINING, copy_run

from embed.__main__ import embed_command
from embed.attributes import ATTRIBUTE_NAMES, extract_attributes
from embed.catalog.own_copy import read_run_catalog
from embed.catalog.price_checks import require_prices
from embed.catalog.reader import CatalogColumns, CatalogError, read_catalog
from embed.errors import ConfigError
from embed.extract import extract
from embed.records import EmbedManifest, Substituted, require_embedded
from embed.store.manifest import read_json
from embed.text import MISSING_TEXT, compose_text, parse_fields
from finetune.out_of_fold import finetune

KINDS = "kinds of bad catalogs and texts"
PARSED = CatalogColumns(parse_prices=True)
READ_AS = CatalogColumns(encoding="utf-8", delimiter=",", export="none")


def rows_of(catalog):
    return list(
        zip(
            catalog.sample_id.tolist(),
            catalog.text,
            catalog.image_link,
            catalog.price_text,
            strict=True,
        )
    )


def assert_one_line(message, *parts):
    assert "\n" not in message
    for part in parts:
        assert part in message


def assert_reads_as(path, expected):
    """The catalog holds these rows, or the error says these parts and the file."""
    if isinstance(expected, list):
        assert rows_of(read_catalog(path)) == expected
        return
    with pytest.raises(CatalogError) as caught:
        read_catalog(path)
    where = repr(str(path)) if "\0" in str(path) else str(path)
    assert_one_line(str(caught.value), f"{where}: ", *expected)


def write_prices(folder, prices):
    rows = [f'{n},a,,"{price}"\n' for n, price in enumerate(prices, start=1)]
    return bad_catalogs.write_csv(folder, bad_catalogs.HEADER + "".join(rows))


@pytest.mark.parametrize("kind", bad_catalogs.CSV_FILES)
def test_csv_is_read_as_written_or_refused_with_its_place(kind, tmp_path, tally):
    content, expected = bad_catalogs.CSV_FILES[kind]
    assert_reads_as(bad_catalogs.write_csv(tmp_path, content), expected)
    tally(KINDS)


@pytest.mark.parametrize("kind", bad_catalogs.FILES)
def test_a_file_is_read_or_refused_in_bounded_memory(kind, tmp_path, tally):
    make, expected = bad_catalogs.FILES[kind]
    path = make(tmp_path)
    tracemalloc.start()
    try:
        assert_reads_as(path, expected)
        assert tracemalloc.get_traced_memory()[1] < 600e6
    finally:
        tracemalloc.stop()
    tally(KINDS)


@pytest.mark.parametrize("kind", bad_catalogs.PARQUET)
def test_parquet_is_read_as_csv_would_be_or_refused(kind, tmp_path, tally):
    make, expected = bad_catalogs.PARQUET[kind]
    assert_reads_as(bad_catalogs.write_parquet(tmp_path, make()), expected)
    tally(KINDS)


@pytest.mark.parametrize("kind", bad_catalogs.PRICES)
def test_prices_are_parsed_or_refused_with_their_rows(kind, tmp_path, tally):
    written, expected = bad_catalogs.PRICES[kind]
    catalog = read_catalog(write_prices(tmp_path, written), columns=PARSED)
    if isinstance(expected, tuple):
        with pytest.raises(CatalogError) as caught:
            require_prices(catalog, drop_unpriced=True)
        assert_one_line(str(caught.value), "column 'price'", *expected)
    else:
        price = [math.nan if p is None else p for p in expected]
        found = require_prices(catalog, drop_unpriced=True)
        np.testing.assert_array_equal(found, price)
        if None in expected:
            row = expected.index(None) + 1
            with pytest.raises(CatalogError, match=f"row {row}, sample_id '{row}'"):
                require_prices(catalog)
    tally(KINDS)


def test_a_file_without_permission_is_named(tmp_path, tally):
    path = bad_catalogs.write_csv(tmp_path, bad_catalogs.PLAIN)
    path.chmod(0)
    tmp_path.chmod(0o700)
    user = os.geteuid()
    if user == 0:  # may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(CatalogError) as caught:
            read_catalog(path)
    finally:
        os.seteuid(user)
    assert_one_line(str(caught.value), f"{path}: cannot be read (Permission denied)")
    tally(KINDS)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "piece",
    [
        "tea ",
        "\U0001f375",
        "<b>",
        "a\u0300",
        '""',
        "Bullet Point 1: green tea of the first harvest\n",
        "1/2 oz ",
    ],
)
def test_ten_megabytes_in_one_cell_are_read_and_composed(piece, tmp_path, tally):
    cell = piece * (10_000_000 // len(piece.encode()))
    content = f'{bad_catalogs.HEADER}1,"{cell}",,1\n2,b,,1\n'
    path = bad_catalogs.write_csv(tmp_path, content)
    started = time.thread_time()
    catalog = read_catalog(path)
    product = parse_fields(catalog.text[0])
    text = compose_text(product)
    attributes = extract_attributes(product)
    assert time.thread_time() - started < 5
    assert 1 <= len(text) <= 100_000
    assert not np.isinf(attributes).any()
    tally(KINDS)


def test_ten_megabytes_in_one_cell_take_little_memory(tmp_path, tally):
    cell = "\U0001f375 tea " * 1_000_000  # 4 bytes a character
    path = bad_catalogs.write_csv(tmp_path, f'{bad_catalogs.HEADER}1,"{cell}",,1\n')
    tracemalloc.start()
    try:
        compose_text(parse_fields(read_catalog(path).text[0]))
        assert tracemalloc.get_traced_memory()[1] < 400e6
    finally:
        tracemalloc.stop()
    tally(KINDS)


# text, what is composed of it, what is known of its size
TEXTS = {
    "HTML": ("<p class='x'>Red<br/>tea</p><!-- no -->", "Red tea", {}),
    "HTML that never ends": ("<p " * 9 + "tea", "<p " * 9 + "tea", {}),
    "entities": (
        "Tea &amp; honey &#52; &frac12; &nbsp;oz",
        "Tea & honey 4 1/2 oz",
        {},
    ),
    "entities of nothing": ("tea&#0;&#xffffffffff;&bogus;", "tea\ufffd &bogus;", {}),
    "escaped twice": ("tea &amp;lt;b&amp;gt;", "tea", {}),
    "emoji": ("\U0001f468\u200d\U0001f467 mug", "\U0001f468\U0001f467 mug", {}),
    "emoji alone": ("\U0001f375\U0001f375", MISSING_TEXT, {}),
    "right to left": (
        "\u05ea\u05d4 \u202b12 oz\u202c \u2067x\u2069",
        "\u05ea\u05d4 12 oz x",
        {"log_item_size": 12 * 28.3495},
    ),
    "control characters": ("t\x00e\x1ba\x7f\x9f\x0b x", "tea x", {}),
    "zero width": ("te\u200b\ufeff\u00ada\u2060", "tea", {}),
    "lone surrogates": ("t\ud800ea\udfff", "tea", {}),
    "only white space": (" \t\r\n\u00a0\u3000\u2028", MISSING_TEXT, {}),
    "only marks": ("--- *** !!!", MISSING_TEXT, {}),
    "a blank name": ("Item Name:  \nValue: None\nUnit: None", MISSING_TEXT, {}),
    "a value that is none": (
        "Item Name: tea\nValue: nan\nUnit: Ounce",
        "tea",
        {"log_value": None, "is_mass": 1},
    ),
    "a value past all": ("Item Name: tea\nValue: 1e400", "tea", {"log_value": None}),
    "a value below zero": ("Item Name: tea\nValue: -3", "tea", {"log_value": None}),
    "a value of zero": ("Item Name: tea\nValue: 0.0", "tea", {"log_value": None}),
    "a value of wide digits": (
        "Item Name: tea\nValue: \uff13",
        "3. tea",
        {"log_value": 3},
    ),
    "a unit alone": ("Item Name: tea\nUnit: Ounce", "tea", {"log_field_total": None}),
    "a unit and nothing else": ("Unit: Ounce", MISSING_TEXT, {}),
    "a unit without end": (
        "Item Name: tea\nValue: 1\nUnit: " + "oz" * 50_000,
        None,
        {"log_field_total": None},
    ),
    "a pack past counting": (
        "tea Pack of 999999999999",
        "tea Pack of 999999999999",
        {"log_pack_count": None},
    ),
    "a pack of none": ("tea Pack of 0", "tea Pack of 0", {"log_pack_count": None}),
    "a size of zero": ("tea 0 Ounce", "tea 0 Ounce", {"log_item_size": None}),
    "a size below zero": ("tea -12 oz", "tea -12 oz", {"log_item_size": 12 * 28.3495}),
    "wide digits": (
        "tea \uff11\uff12 oz",
        "tea 12 oz",
        {"log_item_size": 12 * 28.3495},
    ),
    "a fraction": ("tea 1/2 lb", "tea 1/2 lb", {"log_item_size": 453.592 / 2}),
    "a fraction of another unit": (
        "flour 1/2 cup",
        "flour 1/2 cup",
        {"log_item_size": None},
    ),
    "a fraction in one letter": (
        "flour \u00bd lb",
        "flour 1/2 lb",
        {"log_item_size": 453.592 / 2},
    ),
    "a fraction over zero": ("tea 1/0 oz", "tea 1/0 oz", {"log_item_size": None}),
    "labels and nothing in them": (
        "Item Name:\nBullet Point 1:\nProduct Description:\nValue:\nUnit:",
        MISSING_TEXT,
        {},
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_bad_text_is_cleaned_and_measured_without_guessing(kind, tally):
    text, composed, known = TEXTS[kind]
    product = parse_fields(text)
    if composed is not None:
        assert compose_text(product) == composed
    values = dict(zip(ATTRIBUTE_NAMES, extract_attributes(product), strict=True))
    for name, quantity in known.items():
        if quantity is None:
            assert math.isnan(values[name])
        else:
            expected = math.log(quantity) if name.startswith("log_") else quantity
            assert values[name] == pytest.approx(expected, abs=1e-5)
    assert not np.isinf([*values.values()]).any()
    tally(KINDS)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "piece",
    [
        *("<", "<a", "<a ", "&", "&#", "&#9", "&#x", "&lt;", "9", "9,", "9.", "9/"),
        *("9 9/9 ", "9,999,", "1 x ", "1x", "pack of ", "pack of 9", "oz(", "fl."),
        *("1 oz of total ", "Value: ", "Value: 1e", "Unit:\n", "Item Name: a\n"),
        *("Item Name", " ", "\t", "\n ", "\r", "\u200b", "\u0300", "a\u0300\u0316"),
        *("\u1100\u1161", "\ufdfa", "\u0130", "\ud800", "\x00"),
    ],
)
def test_a_megabyte_of_anything_takes_no_longer_than_of_prose(piece, tally):
    for label in ("", "Item Name: ", "Value: "):
        text = label + piece * (1_000_000 // len(piece))
        started = time.thread_time()
        product = parse_fields(text)
        compose_text(product)
        extract_attributes(product)
        assert time.thread_time() - started < 2
    tally(KINDS)


def test_the_stages_embed_one_row_and_refuse_to_train_on_it(
    tmp_path, tiny_config, tally
):
    path = bad_catalogs.write_csv(tmp_path, bad_catalogs.HEADER + "1,tea,,2\n")
    extract(read_catalog(path), tmp_path / "run", images_dir=None, config=tiny_config)
    assert np.isfinite(np.load(tmp_path / "run" / "embed" / "text.npy")).all()
    with pytest.raises(ConfigError) as caught:
        finetune(tmp_path / "run", config=TINY_TRAINING)
    assert_one_line(str(caught.value), "--folds", "which is 1, got 3", "more products")
    tally(KINDS)


def test_fewer_products_than_folds_are_refused(embedded_run, tmp_path, tally):
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=["5", "6"] + [""] * 38)
    with pytest.raises(ConfigError, match="which is 2, got 3"):
        finetune(run_dir, config=TINY_TRAINING, drop_unpriced=True)
    tally(KINDS)


def test_equal_prices_are_learned_without_nan(embedded_run, tmp_path, tally):
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=["9.99"] * 40)
    manifest = finetune(run_dir, config=TINY_TRAINING)
    log_price = np.load(run_dir / "finetune" / "oof_log_price.npy")
    price = manifest.price_unit * np.expm1(log_price)
    np.testing.assert_allclose(price, 9.99, rtol=0.1)
    assert 0 <= manifest.smape < 10
    tally(KINDS)


def test_parse_prices_is_remembered_by_the_run(
    embedded_run, tmp_path, tiny_config, sample_catalog
):
    run_dir = copy_run(
        embedded_run, tmp_path / "run", prices=["$1,299.00"] * 39 + ["7"]
    )
    embed = require_embedded(run_dir)
    with pytest.raises(CatalogError, match=r"39 of 40 .* embed` again with --parse-pr"):
        require_prices(read_run_catalog(run_dir, embed))
    catalog = read_catalog(run_dir / "catalog.csv", columns=PARSED)
    images_dir = sample_catalog.parent / "images"
    extract(catalog, run_dir, images_dir=images_dir, config=tiny_config)
    again = require_embedded(run_dir)
    assert again.key == embed.key
    price = require_prices(read_run_catalog(run_dir, again))
    assert price.tolist() == [1299.0] * 39 + [7.0]


def test_a_manifest_from_before_parse_prices_is_read(embedded_run):
    embed = read_json(embedded_run / "embed" / "manifest.json")
    del embed["inputs"]["columns"]["parse_prices"]
    catalog = read_run_catalog(embedded_run, EmbedManifest.model_validate(embed))
    assert not catalog.columns.parse_prices
    assert np.isfinite(require_prices(catalog)).all()


def test_a_price_column_of_numbers_is_not_parsed_as_text(tmp_path):
    path = bad_catalogs.write_parquet(tmp_path, bad_catalogs.table(price=[1.125, 2.0]))
    assert require_prices(read_catalog(path, columns=PARSED)).tolist() == [1.125, 2]


def test_ambiguous_prices_do_not_stop_what_needs_no_price(tmp_path):
    catalog = read_catalog(write_prices(tmp_path, ["1,299"]), columns=PARSED)
    assert catalog.n_products == 1
    assert len(catalog.content_sha256) == 64
    with pytest.raises(CatalogError, match="may be 1299 or"):
        require_prices(catalog)


@pytest.fixture
def embed_columns(monkeypatch, tmp_path):
    """Run `embed` up to the encoding; returns its result and the catalog's columns."""

    def run(prices, *options):
        seen = []

        def stand_in(catalog, run_dir, **_):
            seen.append(catalog.columns)
            nothing = Substituted(text=0, image=0)
            return EmbedManifest.model_construct(
                n_products=1, seconds=0, substituted=nothing
            )

        monkeypatch.setattr("embed.extract.extract", stand_in)
        path = str(write_prices(tmp_path, prices))
        arguments = ["--catalog", path, "--run", str(tmp_path / "run"), *options]
        return CliRunner().invoke(embed_command, arguments), seen

    return run


def test_embed_names_unpriced_rows_and_offers_parse_prices(embed_columns):
    result, seen = embed_columns(["5", "12,50"])
    assert result.exit_code == 0
    assert "1 of 2 products have no usable price" in result.output
    assert "row 2, sample_id '2': '12,50'" in result.output
    assert "'12,50' are read with --parse-prices" in result.output
    assert seen == [READ_AS]
    result, seen = embed_columns(["5", "free"])
    assert "'free'" in result.output
    assert "--parse-prices" not in result.output


def test_embed_with_parse_prices_reads_them_or_fails_at_once(embed_columns):
    result, seen = embed_columns(["5", "12,50"], "--parse-prices")
    assert result.exit_code == 0
    assert "no usable price" not in result.output
    assert seen == [dataclasses.replace(READ_AS, parse_prices=True)]
    result, seen = embed_columns(["5", "1,299"], "--parse-prices")
    assert result.exit_code == 2
    assert_one_line(result.output.strip(), "Error: ", "row 2, sample_id '2': '1,299'")
    assert seen == []
