# ruff: noqa: RUF001  (look-alikes of plain letters are what some tests are about)

import time
import unicodedata

import pytest

from embed.text import (
    MISSING_TEXT,
    ProductText,
    compose_text,
    parse_fields,
    plain_text,
)

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
        "<a '\"",
        "<style>",
        "<!--",
        '[a "',
        "[a][/a]",
        "{a:b}",
        "function(){",
        "/*",
        '{"@context":',
        "&amp;lt;",
        "\ufdfa",
    ],
)
def test_ten_megabytes_of_anything_are_parsed_at_once(piece):
    text = piece * (10_000_000 // len(piece))
    start = time.thread_time()
    compose_text(parse_fields(text))
    assert time.thread_time() - start < 8


def test_a_huge_character_reference_does_not_raise():
    assert parse_fields("a&#" + "9" * 5000 + ";b").name == "a b"


def read(text: str) -> str:
    return compose_text(parse_fields(text))


@pytest.mark.parametrize(
    "text",
    [
        "5 < 10 kg",
        "Mug <3 you",
        "A<B",
        "A<B and C>D",
        "Tea [NEW] [Pack of 2] [500 g]",
        "Tea [Size: L] [gluten-free] [Box W=10cm H=5cm]",
        "Mail <info@shop.com>",
        "Set {2 pieces} of {size: 5 kg} mugs",
        "window (50 x 60 cm); door",
        "T-shirt (S/M/L); size: 10; color: red;",
        'Screen [15" wide] and [17"]',
        "Meta data:size/weight,5kg",
        "Rock & Roll, Q&A",
        "I <love it and you> all",
    ],
)
def test_signs_and_words_that_are_no_markup_stay(text):
    assert read(text) == text


@pytest.mark.parametrize(
    "markup",
    [
        "<style>.a{color:red}</style>",
        "<STYLE type='text/css'>\n.a > b {\n color: red;\n}\n</STYLE >",
        "<script src='x.js'></script>",
        "<script>if (a < b) { document.write('<b>x</b>'); }</script>",
        '<script type="application/ld+json">{"@type": "Product"}</script>',
        "<!-- wp:paragraph {} -->",
        "<!--[if gte mso 9]><xml><w:View>Normal</w:View></xml><![endif]-->",
        "<xml><w:View>Normal 0</w:View></xml>",
        "<svg viewBox='0 0 1 1'><title>icon</title><path d='M0 0'/></svg>",
        '<img src="data:image/png;base64,iVBORw0KGgo+/=" alt="a > b">',
        "data:image/jpeg;base64,/9j/4AAQSkZJRg==",
        "/9j/4AAQ" * 40,
        '<p data-html="&lt;b class=&quot;x&quot;&gt;y&lt;/b&gt;">',
        '<p data-settings=\'{"a": "b > c"}\'>',
        '<p class="x>',
        "<\\/p>",
        "<o:p></o:p>",
        "<input disabled>",
        "<!DOCTYPE html>",
        "&lt;br /&gt;",
        "&amp;lt;p&amp;gt;",
        "&amp;amp;lt;p&amp;amp;gt;",
        "&amp;nbsp;",
        "&lt;style&gt;.a{b:c}&lt;/style&gt;",
        "&amp;lt;style&amp;gt;.a{b:c}&amp;lt;/style&amp;gt;",
        '[vc_row][vc_column width="1/2"]',
        "[/vc_column_text]",
        "[caption id=&#8221;a&#8221; align=alignleft]",
        '[gallery ids="1,2"]',
        "[gallery]",
        '[contact-form-7 id="1" title="a [b]"]',
        "[embed]https://example.com/x[/embed]",
        "[color=red][/color]",
        ".mug-a{color:red;font-size:12px}",
        "@media (max-width: 600px) { .a, div.b > p:hover { color: red } }",
        "@keyframes spin{0%{left:0}to{left:1px}}",
        '@import url("x.css");',
        "(function(d, s){ var x = {a: 1}; d.x(); }(document, 'script'));",
        "jQuery(document).ready(function($){ $('.x').show(); });",
        "window.dataLayer = window.dataLayer || [];",
        "var mugs = {a: {b: 1}};",
        "gtag('config', 'UA-1');",
        '{"@context": "https://schema.org", "name": "a {b}", "offers": [{}]}',
        "\u200b\ufeff",
    ],
)
def test_markup_and_code_are_taken_out(markup):
    assert parse_fields(f"{markup} Steel mug {markup} 500 ml").name == (
        "Steel mug 500 ml"
    )


def test_text_between_shortcodes_stays():
    text = (
        "[vc_row][vc_column_text]Blue [b]mug[/b][/vc_column_text][/vc_row] "
        '[caption id="a"]<img src="x"> with lid[/caption]'
    )
    assert read(text) == "Blue mug with lid"


def test_a_name_is_found_below_a_style_of_several_lines():
    product = parse_fields(
        "<style>\n.a { color: red }\n</style>\n<h1>\nMug\n</h1>\nOf steel"
    )
    assert (product.name, product.description) == ("Mug", "Of steel")


@pytest.mark.parametrize(
    "start",
    [
        "<style>.a{color:red}",
        "<style>\n.a {\n  color: red;\n}\n",
        "<script>\nvar a = 1;\njQuery(function(){ a(); });\n",
        "<!--",
        "<svg>",
    ],
)
def test_an_element_that_never_ends_takes_no_product_along(start):
    product = parse_fields(
        f"Item Name: Tea\nProduct Description: {start} Steel mug\nValue: 5\nUnit: oz"
    )
    assert product.description == "Steel mug"
    assert (product.value, product.unit) == (5, "oz")


def test_a_long_inline_photo_does_not_hide_what_follows():
    text = '<img src="data:image/png;base64,' + "iVBORw0KGgo" * 300_000 + '">Steel mug'
    assert read(text) == "Steel mug"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Tea 1½ lb", "Tea 1 1/2 lb"),
        ("Tea ½ lb", "Tea 1/2 lb"),
        ("Tea 2¼oz, 3\u20444 cup", "Tea 2 1/4oz, 3/4 cup"),
        ("Tea 1&frac12; lb", "Tea 1 1/2 lb"),
        ("お茶５００㎖×２４本", "お茶500ml×24本"),
        ("Ｓｔｅｅｌ　Ｍｕｇ　２㎏", "Steel Mug 2kg"),
        ("①Tea set②", "1 Tea set 2"),
        ("rug 2 m², 10² mugs, 30 cm³", "rug 2 m2, 10^2 mugs, 30 cm3"),
        ("Lego™ Mug℠", "Lego™ Mug℠"),
        ("Levi´s 12″ nº 5", "Levi's 12\" nº 5"),
        ("ﬁne 𝗦𝘁𝗲𝗲𝗹 №5 ℃ ㌘", "fine Steel No 5 °C グラム"),
        ("12‑ounce", "12-ounce"),
        ("CO₂ 500 mg…", "CO2 500 mg…"),
    ],
)
def test_unicode_forms_are_brought_into_one(written, name):
    assert parse_fields(written).name == name


def test_a_value_in_wide_digits_is_read():
    assert parse_fields("Item Name: a\nValue: ７２\nUnit: ｏｚ").value == 72


@pytest.mark.parametrize(
    "text",
    [SAUCE, "&amp;lt;b&amp;gt;x &amp;amp; y", "<<b>b> {a{b:c}} [[b]c[/b]] &lt;<i>b>"],
)
def test_plain_text_of_plain_text_is_the_same(text):
    assert plain_text(plain_text(text)) == plain_text(text)
