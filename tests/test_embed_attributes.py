import math
import time

import numpy as np
import pytest

from embed.attributes import ATTRIBUTE_NAMES, Size, extract_attributes, parse_size
from embed.text import ProductText, parse_fields

OZ, FL_OZ, LB = 28.3495, 29.5735, 453.592

NAMES = [
    ("La Victoria Green Taco Sauce Mild, 12 Ounce (Pack of 6)", 6, 12 * OZ, "mass"),
    ("Sure-Jell Fruit Pectin 1.75 oz - PACK OF 3", 3, 1.75 * OZ, "mass"),
    ("Hot Sauce 5 oz (Pack of6)", 6, 5 * OZ, "mass"),
    ("Golden Crackers, 6-Pack", 6, None, None),
    ("Cacao Nib 4oz 2 PACK", 2, 4 * OZ, "mass"),
    ("Mini Accents Birthday Cake 36pk 3in", 36, None, None),
    ("Candles ( 6 in a Pack )", 6, None, None),
    ("Chocolate Bars Box of 12", 12, None, None),
    ("Fall Jelly Pumpkins 2 lbs", None, 2 * LB, "mass"),
    ("Chicken Soup, 18.8 Oz Can (Case of 12)", 12, 18.8 * OZ, "mass"),
    ("Case of 6 - 12 Fl oz.", 6, 12 * FL_OZ, "volume"),
    ("Sparkling Water 500ml x 12", 12, 500, "volume"),
    ("Cola 24 x 330 ml", 24, 330, "volume"),
    ("Cola 24 \N{MULTIPLICATION SIGN} 330 ml", 24, 330, "volume"),
    ("Frosting Mix, 10.5-Ounce Boxes", None, 10.5 * OZ, "mass"),
    ("Vanilla Extract 6 fl.oz", None, 6 * FL_OZ, "volume"),
    ("Coconut Water 9.5 fl. oz. (12 Pack)", 12, 9.5 * FL_OZ, "volume"),
    ("Mango Juice 12 Fluid Ounces (Pack of 24)", 24, 12 * FL_OZ, "volume"),
    ("Cookies 8.5oz", None, 8.5 * OZ, "mass"),
    ("Corn Snacks Multipack, 10 ct", None, 10, "count"),
    ("Coffee Pods, K-Cup 72 count", None, 72, "count"),
    ("Coffee, 30 K-Cups", None, 30, "count"),
    ("Rooibos Tea (50 tea bags, ZIN: 533836) - 3 Pack", 3, 50, "count"),
    ("Olive Oil 750ml (1)", 1, 750, "volume"),
    ("Pizza Chips, 156 Grams", None, 156, "mass"),
    ("Biscuits 432 GR", None, 432, "mass"),
    ("Vinegar 1.5 Liters", None, 1500, "volume"),
    ("Vitamin C 1,000 mg", None, 1, "mass"),
    ("Vinegar 1 gallon", None, 3785.41, "volume"),
    ("Dressing Pack of 5-4.8 oz", 5, 4.8 * OZ, "mass"),
    ("Tea Leaves 1/2 lb", None, LB / 2, "mass"),
    ("Flour 1 1/2 lb", None, 1.5 * LB, "mass"),
    ("Lemonade, .16oz Packets, 30/Box", 30, 0.16 * OZ, "mass"),
    ("Wild Sardines in Water, 4.375 Ounce - 12 per case.", 12, 4.375 * OZ, "mass"),
    ("Albacore tuna 198gX8 cans", 8, 198, "mass"),
    ("Ancho Chili Pods (12x5Oz)", 12, 5 * OZ, "mass"),
    ("CEREAL FLK CORN BOX ORG, 10.6 OZ, PK- 12", 12, 10.6 * OZ, "mass"),
    ("Energy Bars - 2.4 oz.18 count (Pack of 1)", 1, 2.4 * OZ, "mass"),
    ("Stash Tea, Box of 100 Tea Bags", None, 100, "count"),
    ("Gravy, 1.2 Oz (Pack 6)", 6, 1.2 * OZ, "mass"),
    ("Bloody Mary Mix (2 Pack of 32 Fl. Oz. Bottles)", 2, 32 * FL_OZ, "volume"),
    ("Protein Bar, 20g of Protein, 1.90 Ounce (Pack of 10)", 10, 1.9 * OZ, "mass"),
    ("Keto Truffles (2 Bags)", 2, None, None),
    ("Pink T-10505 Mug 2XL", None, None, None),
]


def attributes(text: str) -> dict[str, float]:
    values = extract_attributes(parse_fields(text))
    return dict(zip(ATTRIBUTE_NAMES, values.tolist(), strict=True))


@pytest.mark.parametrize(("name", "pack", "item", "kind"), NAMES)
def test_parse_size_reads_real_names(name, pack, item, kind):
    size = parse_size(name)
    assert size.pack_count == pack
    assert size.item_quantity == (item and pytest.approx(item))
    assert size.kind == kind


def test_a_bare_ounce_is_fluid_when_asked():
    assert parse_size("Juice, 32-Ounce", fluid=True) == Size(
        item_quantity=pytest.approx(32 * FL_OZ), kind="volume"
    )


@pytest.mark.parametrize(
    ("name", "value", "unit", "total_g"),
    [
        ("Sauce, 12 Ounce (Pack of 6)", 72, "Ounce", 72 * OZ),  # field is the total
        ("Bread, 17.6 Oz (Pack of 6)", 17.6, "Ounce", 6 * 17.6 * OZ),  # one item
        ("Soup, 17.9 OZ", 1, "Ounce", 17.9 * OZ),  # a placeholder
        ("Soup, 18.8 oz (Pack of 12)", 1, "Count", 12 * 18.8 * OZ),  # another kind
        ("Frosting, 8-14 OZ Cans (Pack of 3)", 336, "oz", 336 * OZ),
        ("Cookies (Pack of 8)", 80, "Ounce", 80 * OZ),  # no size in the name
        ("Chips 6oz Bag (Pack of 4)", "nan", "None", 24 * OZ),  # no field
    ],
)
def test_total_follows_the_documented_rule(name, value, unit, total_g):
    found = attributes(f"Item Name: {name}\nValue: {value}\nUnit: {unit}\n")
    assert found["log_total_g"] == pytest.approx(math.log(total_g), abs=1e-5)
    assert found["log_total_amount"] == found["log_total_g"]


def test_a_count_that_the_field_repeats_is_the_total():
    found = attributes("Item Name: 96 pods, 4 Pack\nValue: 96\nUnit: Count")
    assert found["log_total_count"] == pytest.approx(math.log(96))


def test_volume_field_makes_ounces_of_the_name_fluid():
    found = attributes("Item Name: Juice, 32 Oz\nValue: 32\nUnit: Fl Oz")
    assert math.isnan(found["log_total_g"])
    assert found["log_total_ml"] == pytest.approx(math.log(32 * FL_OZ), abs=1e-5)
    assert (found["is_mass"], found["is_volume"], found["is_count"]) == (0, 1, 0)


def test_pack_count_is_inferred_from_the_field():
    found = attributes("Item Name: Noodles, 8 Oz, 8 Count\nValue: 64\nUnit: Ounce")
    assert found["log_pack_count"] == pytest.approx(math.log(8))


def test_unknown_quantities_are_nan():
    found = attributes("Blue Danube")
    assert math.isnan(found["log_total_amount"])
    assert math.isnan(found["is_mass"])
    assert found["log_name_chars"] == pytest.approx(math.log(11), abs=1e-5)
    assert found["n_bullets"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00\ud800",
        "0 oz (Pack of 0)",
        "0/0 lb",
        "1/0 oz",
        "9" * 400 + " kg",
        "999999999 gallons (Pack of 9999)",
        ".000001 mg",
        "-5 oz, ½ lb, ٣ oz, ² g",
        "Item Name: x\nValue: 1e300\nUnit: kg",
        "Item Name: x\nValue: 1e-320\nUnit: mg",
    ],
)
def test_any_text_gives_bounded_float32(text):
    values = extract_attributes(parse_fields(text))
    assert values.shape == (len(ATTRIBUTE_NAMES),)
    assert values.dtype == np.float32
    logs = np.array([name.startswith("log_") for name in ATTRIBUTE_NAMES])
    known = values[logs & ~np.isnan(values)]
    assert (np.abs(known) <= math.log(1e7) + 1e-5).all()
    assert not np.isinf(values).any()


@pytest.mark.parametrize("unit", ["1", "1/", "1 x ", "pack of ", "9,999", "oz ", " "])
def test_ten_megabytes_take_no_time(unit):
    name = unit * (10_000_000 // len(unit))
    start = time.thread_time()
    extract_attributes(ProductText(name=name))
    parse_fields(name)
    assert time.thread_time() - start < 2
