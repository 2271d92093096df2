"""Advice on catalogs and prices, taken: the same command works after it."""

import re
from pathlib import Path

import numpy as np
import pytest
from remedies import advice, commands_in, options_in, rows_of, write_rows
from remedies import shell as shell

from embed.catalog.own_copy import read_run_catalog
from embed.records import require_embedded

RUN = ("--run", "run")
FINETUNE = ("finetune", *RUN, "--folds", 2)


@pytest.fixture
def rows(shell):
    return rows_of(shell.catalog)


@pytest.fixture
def embed(shell, tmp_path):
    """Write rows as a catalog and return the command that embeds it."""

    def command(rows, **form):
        return ("embed", write_rows(tmp_path / "catalog.csv", rows, **form), *RUN)

    return command


def catalog_of_run():
    return read_run_catalog(Path("run"), require_embedded(Path("run")))


def with_prices(rows, first, rest="899"):
    """Give the first row a price, and all others another."""
    return [{**row, "price": first if row is rows[0] else rest} for row in rows]


@advice(
    "fine-tuning will ask for --drop-unpriced",
    "leave these rows out with --drop-unpriced",
)
def test_unpriced_rows_are_left_out_by_the_option(shell, rows, embed):
    note = shell.accepted(*embed([{**rows[0], "price": "free"}, *rows[1:]]))
    message = shell.refused(*FINETUNE)
    (option,) = options_in(message)
    assert option in note
    assert "1 products without a usable price" in shell.accepted(*FINETUNE, option)


@advice(", or run `pricestack embed` again with")
def test_prices_as_written_are_read_by_the_option_that_is_offered(shell, rows, embed):
    command = embed([{**row, "price": f"${row['price']}"} for row in rows])
    note = shell.accepted(*command)
    message = shell.refused(*FINETUNE)
    (offered,) = re.findall(r"`pricestack embed` again with (--parse-prices)", message)
    assert offered in note
    shell.accepted(*command, offered)
    shell.accepted(*FINETUNE)
    expected = [float(row["price"]) for row in rows]
    np.testing.assert_array_equal(catalog_of_run().price, expected)


@advice("Correct them and run")
def test_corrected_prices_are_embedded_again(shell, rows, embed):
    shell.accepted(*embed(with_prices(rows, "free", "9.5")))
    assert commands_in(shell.refused(*FINETUNE)) == ["pricestack embed"]
    shell.accepted(*embed(rows))
    shell.accepted(*FINETUNE)


COLUMN_LACKING = ("no price column", "no row has a usable price in column")


@advice(*COLUMN_LACKING)
@pytest.mark.parametrize("part", COLUMN_LACKING)
def test_the_price_column_is_named_to_the_command_that_reads_it(
    shell, rows, embed, part
):
    moved = [{**row, "cost": row["price"], "price": "?"} for row in rows]
    if part == "no price column":
        moved = [{k: v for k, v in row.items() if k != "price"} for row in moved]
    command = embed(moved)
    shell.accepted(*command)
    message = shell.refused(*FINETUNE)
    assert commands_in(message) == ["pricestack embed"]
    (option,) = options_in(message)
    shell.accepted(*command, option, "cost")
    shell.accepted(*FINETUNE)
    assert catalog_of_run().price[0] == float(rows[0]["price"])


@advice("is read as", "to read such prices as")
@pytest.mark.parametrize("value", ["1299", "1.299"])
def test_a_doubtful_price_is_settled_by_either_sign(shell, rows, embed, value):
    command = embed(with_prices(rows, "1.299"))
    note = shell.accepted(*command)
    option = re.search(rf"if it is {value}, give (--decimal-sign) (.)", note, re.I)
    said = shell.accepted(*command, *option.groups())
    assert "is read as" not in said
    assert catalog_of_run().price.tolist() == [float(value), *[899] * (len(rows) - 1)]


@advice("may be", "--parse-prices and either --decimal-sign . or")
@pytest.mark.parametrize("value", ["1299", "1.299"])
@pytest.mark.parametrize("rewritten", [False, True])
def test_an_ambiguous_price_is_settled(shell, rows, embed, value, rewritten):
    command = embed(with_prices(rows, "$1.299", "$899"))
    assert "--parse-prices and either --decimal-sign" in shell.accepted(*command)
    message = shell.refused(*command, "--parse-prices")
    assert commands_in(message) == ["pricestack embed"]
    if rewritten:
        as_high, as_low = re.search(r"write it as (\S+) or (\S+)$", message).groups()
        written = as_high if value == "1299" else as_low
        shell.accepted(
            *embed(with_prices(rows, f"${written}", "$899")), "--parse-prices"
        )
    else:
        sign = re.search(rf"--decimal-sign (.) if it is {value}\b", message)[1]
        shell.accepted(*command, "--parse-prices", "--decimal-sign", sign)
    assert catalog_of_run().price.tolist() == [float(value), *[899] * (len(rows) - 1)]


@advice("was given, however")
def test_the_decimal_sign_is_left_out(shell, rows, embed):
    command = embed(with_prices(rows, "$1,299.00", "$899.00"))
    message = shell.refused(*command, "--parse-prices", "--decimal-sign", ",")
    assert "Run `pricestack embed` without the option" in message
    shell.accepted(*command, "--parse-prices")
    assert catalog_of_run().price[0] == 1299


BAD_IDS = {
    "an id must be at most": lambda row: "x" * 300,
    "Ids must be unique": lambda row: "1",
}


@advice(*BAD_IDS)
@pytest.mark.parametrize("part", BAD_IDS)
def test_another_column_has_the_ids(shell, rows, embed, part):
    bad = [{**r, "sku": r["sample_id"], "sample_id": BAD_IDS[part](r)} for r in rows]
    command = embed(bad)
    (option,) = options_in(shell.refused(*command))
    shell.accepted(*command, option, "sku")
    assert catalog_of_run().sample_id.tolist() == [row["sample_id"] for row in rows]


@advice("Ids must be unique")
def test_one_of_two_rows_of_an_id_is_removed(shell, rows, embed):
    message = shell.refused(*embed([*rows, rows[3]]))
    assert "rows 4 and 25 have the same sample_id" in message
    shell.accepted(*embed(rows))


@advice()
def test_a_column_that_is_misspelt_is_named_with_its_option(shell, rows, embed):
    command = embed(
        [{"Sample ID": r["sample_id"], "catalog_content": "x"} for r in rows]
    )
    message = shell.refused(*command)
    option = re.search(r"(--[\w-]+) '([^']+)'$", message).groups()
    shell.accepted(*command, *option)


@advice("Name the catalog once")
@pytest.mark.parametrize("given", [True, False])
def test_the_catalog_is_named_once(shell, rows, embed, given):
    name, catalog, *others = embed(rows)
    both = (catalog, "--catalog", catalog) if given else ()
    message = shell.refused(name, *both, *others)
    (option,) = options_in(message)
    assert "as CATALOG or with" in message
    shell.accepted(name, option, catalog, *others)
    shell.accepted(name, catalog, *others)


@advice("Cells are separated by")
def test_the_delimiter_that_was_guessed_is_named(shell, rows, embed):
    command = embed(rows, delimiter=";")
    note = shell.accepted(*command)
    option = re.search(r"name the sign with (--delimiter)\.", note)[1]
    assert "separated by" not in shell.accepted(*command, option, ";")


@advice("If another sign than a comma separates the cells")
def test_a_rare_delimiter_is_named(shell, rows, embed):
    command = embed(rows, delimiter="^")
    option = re.search(r"name it with (--delimiter)$", shell.refused(*command))[1]
    shell.accepted(*command, option, "^")
    assert catalog_of_run().n_products == len(rows)


@advice("must be a single sign that is no letter")
def test_a_delimiter_has_a_name(shell, rows, embed):
    command = embed(rows, delimiter=";")
    names = shell.refused(*command, "--delimiter", ";;").rpartition("or one of ")[2]
    assert "semicolon" in names.split(", ")
    shell.accepted(*command, "--delimiter", "semicolon")


@advice("there is no text encoding of that name")
def test_an_encoding_that_there_is_is_named(shell, rows, embed):
    command = embed(rows)
    message = shell.refused(*command, "--encoding", "utf-9")
    for name in re.search(r"such as (.*) or shift_jis", message)[1].split(", "):
        if name != "utf-16":
            shell.accepted(*command, "--encoding", name)
    command = embed(rows, encoding="utf-16")
    shell.accepted(*command, "--encoding", "utf-16")


ENCODINGS = {  # text, its encoding, options that do not read it
    "Several encodings fit it": ("чай", "windows-1251", ()),
    "half of a surrogate pair": ("\xed\xa0\x80", "latin-1", ()),
    "Name its encoding with --encoding, or check": (
        *("thé", "latin-1"),
        ("--encoding", "utf-8"),
    ),
}


@advice(*ENCODINGS)
@pytest.mark.parametrize("part", ENCODINGS)
def test_the_encoding_of_a_file_is_named(shell, rows, embed, part):
    text, encoding, options = ENCODINGS[part]
    named = [{**row, "catalog_content": f"{text} {row['sample_id']}"} for row in rows]
    command = embed(named, encoding=encoding)
    message = shell.refused(*command, *options)
    (option,) = options_in(message)
    for reading, name in re.findall(r"'([^']*)' in ([\w-]+)", message):
        encoding = name if reading == text else encoding
    shell.accepted(*command, option, encoding)
    assert text in catalog_of_run().text[0]


@advice("Several encodings fit it", "half of a surrogate pair")
@pytest.mark.parametrize("part", list(ENCODINGS)[:2])
def test_the_file_is_saved_as_utf_8(shell, rows, embed, part):
    text, encoding, _ = ENCODINGS[part]
    named = [{**row, "catalog_content": text} for row in rows]
    assert "Save it as UTF-8" in shell.refused(*embed(named, encoding=encoding))
    shell.accepted(*embed(named))
    assert catalog_of_run().text[0] == text


@advice("read as Windows-1252, in which")
def test_an_encoding_that_was_guessed_is_named(shell, rows, embed):
    named = [{**row, "catalog_content": f"Thé {row['sample_id']}"} for row in rows]
    command = embed(named, encoding="iso-8859-15")
    option = re.search(
        r"name the encoding with (--encoding)\.", shell.accepted(*command)
    )
    assert "Not UTF-8" not in shell.accepted(*command, option[1], "iso-8859-15")


@advice("Leave out --export, or name another one")
@pytest.mark.parametrize("way", ["leave out", "name another"])
def test_the_export_is_another_one_or_none(shell, rows, embed, way):
    if way == "leave out":
        command = embed(rows)
        message = shell.refused(*command, "--export", "shopify")
        shell.accepted(*command)
    else:
        names = {"id": "sample_id", "title": "catalog_content", "price": "price"}
        feed = [{own: r[name] for own, name in names.items()} for r in rows]
        feed = [{**row, "description": "Tea", "image link": ""} for row in feed]
        command = embed(feed)
        message = shell.refused(*command, "--export", "shopify")
        shell.accepted(*command, "--export", "google")
    assert options_in(message) == ["--export"]


@advice("none of which is")
@pytest.mark.parametrize("way", ["add products", "read every row"])
def test_an_export_without_products_gets_some_or_is_read_by_row(shell, embed, way):
    photos = [
        {
            "Handle": f"tea{n}",
            "Title": "",
            "Option1 Name": "",
            "Variant Price": "",
            "Option1 Value": "",
            "Image Src": f"{n}.jpg",
        }
        for n in range(3)
    ]
    command = embed(photos)
    message = shell.refused(*command)
    if way == "add products":
        product = {"Title": "Tea", "Variant Price": "3", "Option1 Value": "x"}
        shell.accepted(*embed([{**row, **product} for row in photos]))
    else:
        option = re.search(r"with (--export) (none) ", message).groups()
        named = [w for name in options_in(message)[1:] for w in (name, "Handle")]
        shell.accepted(*command, *option, *named)
    assert catalog_of_run().n_products == 3


@pytest.fixture
def with_table(rows):
    """Rows with a maker, and a cost that gives the price away."""
    return [
        {
            **row,
            "sample_id": f"p{n}",
            "maker": "AB"[n % 2],
            "cost": f"{float(row['price']) / 2:.2f}",
        }
        for n, row in enumerate(rows * 2)
    ]


@advice("must have a text, image or table column, got none. Name one with")
def test_a_catalog_without_texts_is_read_with_table_columns(shell, with_table, embed):
    command = embed([{k: row[k] for k in ("sample_id", "maker")} for row in with_table])
    message = shell.refused(*command, "--text-column", "")
    assert options_in(message) == ["--text-column", "--category-column", "--table"]
    shell.accepted(*command, "--text-column", "", "--category-column", "maker")
    shell.accepted(*command, "--text-column", "", "--table", "auto")
    assert {*catalog_of_run().text} == {""}


@advice(
    "column \0 must contain \0, however \0 is none. Correct the column",
    "table column \0 must have one kind",
)
def test_a_column_of_words_is_used_as_category(shell, with_table, embed):
    command = embed(with_table)
    wrong = ("--number-column", "maker")
    assert options_in(shell.refused(*command, *wrong)) == ["--category-column"]
    assert "once" in shell.refused(*command, *wrong, "--category-column", "maker")
    shell.accepted(*command, "--category-column", "maker")


@advice("is made from the price, do not name it")
def test_a_column_that_gives_the_price_away_is_ignored_or_allowed(
    shell, with_table, embed
):
    command = (*embed(with_table), "--table", "auto")
    message = shell.refused(*command)
    ignore, allow = re.findall(r"(--\w+-column) cost", message)
    shell.accepted(*command, ignore, "cost")
    assert [*catalog_of_run().table] == ["maker"]
    shell.accepted(*command, allow, "cost")
    assert [*catalog_of_run().table] == ["cost", "maker"]


@advice("must have at most \0 table columns")
def test_of_too_many_table_columns_those_that_matter_are_named(
    shell, with_table, embed
):
    many = [f"x{n}" for n in range(1001)]
    command = embed(
        [row | dict.fromkeys(many, n % 2) for n, row in enumerate(with_table)]
    )
    message = shell.refused(*command, "--table", "auto", "--ignore-column", "cost")
    option = options_in(message)[0]
    shell.accepted(*command, option, "x5")


@advice("texts; use it with --text-column")
def test_a_column_of_texts_is_read_as_one(shell, with_table, embed):
    command = embed(
        [
            row | {"notes": f"a mug of good steel {n}"}
            for n, row in enumerate(with_table)
        ]
    )
    note = shell.accepted(*command, "--table", "auto", "--ignore-column", "cost")
    (option,) = re.findall(r"notes +left out: texts; use it with (--\S+)", note)
    shell.accepted(*command, option, "notes")
    assert catalog_of_run().text[0] == "a mug of good steel 0"
