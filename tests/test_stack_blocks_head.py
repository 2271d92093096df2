import pytest

from embed.text import MISSING_TEXT, ProductText, compose_text
from stack.blocks.head import Head, read_head


@pytest.mark.parametrize(
    ("product", "unit"),
    [
        (ProductText(name="Green Taco Sauce, Mild", value=72.0, unit="Fl Oz"), "fl oz"),
        (ProductText(name="Green Taco Sauce", value=72.0, unit="Fl. Oz"), "fl oz"),
        (ProductText(name="Green Taco Sauce", value=1.5), ""),
        (ProductText(name="Green Taco Sauce", value=1e6, unit="Count"), "count"),
        (ProductText(name="365 Everyday Tea, 12 Ounce (Pack of 6)"), ""),
        (ProductText(name="Dr. Oetker Vanilla Sugar, 8 oz. bags"), ""),
        (ProductText(name="7up", value=12.0, unit="Ounce"), "ounce"),
        (ProductText(value=3.0, unit="Ounce"), ""),
    ],
)
def test_what_was_composed_is_read_again(product, unit):
    rest = ("Best with tacos", "Kosher") if product.name else ()
    text = compose_text(
        ProductText(
            name=product.name, bullets=rest, value=product.value, unit=product.unit
        )
    )
    head = read_head(text)
    if not product.name:  # nothing but an amount is taken for a name
        assert head == Head(amount="", unit="", name="3 Ounce")
        return
    assert head.unit == unit
    amount = f"{product.value:g} {product.unit}".strip() if product.value else ""
    assert head.amount == amount
    # A name so short runs on into what follows.
    assert head.name.startswith(product.name)
    assert head.name == product.name or len(product.name) < 15


def test_a_text_without_anything_has_the_words_of_its_placeholder():
    head = read_head(MISSING_TEXT)
    assert head == Head(amount="", unit="", name=MISSING_TEXT)
    assert read_head("").words == []


def test_a_name_without_end_is_cut():
    assert len(read_head("tea " * 10_000).name) == 250


def test_words_are_in_small_letters_and_have_no_punctuation():
    words = read_head(
        "M&M's Milk-Chocolate, JUDEE\N{RIGHT SINGLE QUOTATION MARK}S (pack)"
    ).words
    assert words == ["mms", "milkchocolate", "judees", "pack"]
