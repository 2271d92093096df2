import time
import unicodedata

import pytest

from embed.text import MISSING_TEXT, ProductText, compose_text, parse_fields

SAUCE = """Item Name: La Victoria Green Taco Sauce Mild, 12 Ounce (Pack of 6)
Bullet Point 1: Mild heat
Bullet Point 2: Kosher!
Product Description: Green chile.
Second line, with Value: 5 inside.
Value: 72.0
Unit: Fl Oz
"""


def test_parse_fields_reads_every_field():
    assert parse_fields(SAUCE) == ProductText(
        name="La Victoria Green Taco Sauce Mild, 12 Ounce (Pack of 6)",
        bullets=("Mild heat", "Kosher!"),
        description="Green chile. Second line, with Value: 5 inside.",
        value=72.0,
        unit="Fl Oz",
    )


def test_compose_text_puts_the_size_first():
    assert compose_text(parse_fields(SAUCE)) == (
        "72 Fl Oz. La Victoria Green Taco Sauce Mild, 12 Ounce (Pack of 6). "
        "Mild heat. Kosher! Green chile. Second line, with Value: 5 inside."
    )


def test_fields_may_come_in_any_order():
    lines = "Unit: Count\r\nValue: 3\r\nBullet Point: b\r\nItem Name: n"
    assert parse_fields(lines) == ProductText(
        name="n", bullets=("b",), value=3.0, unit="Count"
    )


def test_first_name_and_last_value_of_repeated_fields_count():
    product = parse_fields(
        "Item Name: a\nItem Name: b\nValue: 1\nValue: 2\nProduct Description: c"
    )
    assert (product.name, product.value) == ("a", 2.0)
    assert product.description == "b c"


@pytest.mark.parametrize(
    "value", ["None", "nan", "inf", "1e400", "0", "-3", "1_000", "twelve", ""]
)
def test_unusable_value_is_none(value):
    product = parse_fields(f"Item Name: a\nValue: {value}\nUnit: None")
    assert product.value is None
    assert product.unit == ""


def test_other_text_is_a_name_and_a_description():
    product = parse_fields("Steel Mug\nHolds 330 ml.\nValue: great\n")
    assert product.name == "Steel Mug"
    assert product.description == "Holds 330 ml. Value: great"
    assert product.value is None


def test_markup_controls_and_white_space_are_cleaned():
    raw = "Cafe\u0301 &amp;\tTea<br/>\x00<b class='x'>4 &lt; 5</b>\u200b &#65;\ud800"
    name = parse_fields(raw).name
    assert name == "Café & Tea 4 < 5 A"
    assert unicodedata.is_normalized("NFC", name)


@pytest.mark.parametrize("text", ["", " \n ", "...", "--\n!!", "Item Name: -\nUnit: "])
def test_text_without_a_letter_or_digit_is_missing(text):
    assert compose_text(parse_fields(text)) == MISSING_TEXT


def test_unit_without_value_says_nothing():
    assert compose_text(ProductText(unit="Count")) == MISSING_TEXT


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<a",
        "&#9",
        "9",
        "a\u0300\u0316",
        "\u0300\u0316",
        "Item Name:\n",
        "\n",
        "\r",
    ],
)
def test_ten_megabytes_of_anything_are_parsed_at_once(piece):
    text = piece * (10_000_000 // len(piece))
    start = time.thread_time()
    compose_text(parse_fields(text))
    assert time.thread_time() - start < 8


def test_a_huge_character_reference_does_not_raise():
    assert parse_fields("a&#" + "9" * 5000 + ";b").name == "a b"
