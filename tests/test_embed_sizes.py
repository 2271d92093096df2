import csv
import time
from pathlib import Path

import pytest

from embed.sizes.reader import Size, parse_size, read_sizes

CASES = Path(__file__).with_name("size_names.csv")
SHARED_CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "sizes.csv"
OZ = 28.3495


def read_cases(path: Path) -> list[tuple[str, float | None, str | None, float | None]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (
                row["name"],
                float(row["pack_count"]) if row["pack_count"] else None,
                row["kind"] or None,
                float(row["total"]) if row["total"] else None,
            )
            for row in csv.DictReader(file)
        ]


def total_of(size: Size) -> float | None:
    if size.item_quantity is None:
        return None
    return size.item_quantity * (size.pack_count or 1)


def assert_read(name, pack, kind, total) -> None:
    size = parse_size(name)
    assert size.pack_count == pack
    assert size.kind == kind
    assert total_of(size) == (total and pytest.approx(total, rel=0.005))


def test_the_file_of_names_has_many_of_them() -> None:
    cases = read_cases(CASES)
    assert len(cases) > 300
    assert sum(kind is None for _, _, kind, _ in cases) > 50


@pytest.mark.parametrize("case", read_cases(CASES), ids=lambda case: case[0])
def test_a_name_has_the_size_that_a_shopper_reads(case) -> None:
    assert_read(*case)


@pytest.mark.real
@pytest.mark.skipif(not SHARED_CASES.is_file(), reason="no shared cases of sizes")
def test_the_shared_names_have_the_size_that_a_shopper_reads() -> None:
    for case in read_cases(SHARED_CASES):
        assert_read(*case)


@pytest.mark.parametrize(
    ("name", "decimal", "grams"),
    [
        ("Reis 1.500 g", None, 1500),
        ("Reis 1.500 g", ",", 1500),
        ("Gold 1.500 g", ".", 1.5),
        ("Reis 1,500 kg", None, 1500),
        ("Reis 1,500 kg", ",", 1500),
        ("Gravel 1,500 kg", ".", 1_500_000),
        ("Gravel 1,500 lb", None, 1500 * 453.592),
        ("Vitamin C 1,000 mg", None, 1),
        ("Kaffee 0,500 kg", ".", 500),  # no group of thousands begins with a zero
        ("Kaffee 0.500 kg", ",", 500),
        ("Sand 1,5 kg und 2,500 kg", ".", 2500),  # the name's own sign goes first
    ],
)
def test_the_decimal_sign_decides_what_a_number_can_be(name, decimal, grams) -> None:
    assert parse_size(name, decimal=decimal).item_quantity == pytest.approx(grams)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("Capri Sun 10 pk (Pack of 4)", 40),
        ("Gum - 45 per pack - 36 packs per case", 45 * 36),
        ("Sauce, 23.5 Oz Jar (Case of 6) (Pack of 2)", 12),
        ("Soda 12 fl oz, 12 cans (Pack of 2)", 24),
        ("Soda 6-Pack, 6 cans, 12 fl oz", 6),  # stated twice
        ("Soda 4 packs of 6 cans, 24 cans", 24),
        ("Candy 20 pack and Push 12 pack Bundle", None),
    ],
)
def test_pack_counts_multiply_unless_one_restates_another(name, pack) -> None:
    assert parse_size(name).pack_count == pack


def test_different_things_sold_together_have_no_size() -> None:
    found = read_sizes("Shampoo 400 ml + Conditioner 200 ml")
    assert found.items == {}
    assert found.pack_count is None


def test_ounces_beside_the_same_volume_are_fluid() -> None:
    assert read_sizes("Lotion 6.7 oz (200 ml)").items == {"volume": 200}
    assert read_sizes("Nuts 6.7 oz (190 g)").items == {"mass": 190}


def test_the_first_kind_asked_for_is_returned() -> None:
    name = "Tea 50 tea bags, 100 g"
    assert parse_size(name).kind == "mass"
    assert parse_size(name, kinds=("count", "mass")) == Size(
        item_quantity=50, kind="count"
    )
    assert parse_size(name, kinds=("volume",)) == Size()


@pytest.mark.parametrize("network", ["5G", "4G"])
def test_a_mobile_network_is_no_mass_but_five_grams_are(network) -> None:
    assert parse_size(f"Phone {network} 128 GB").kind is None
    assert parse_size(f"Moto {network.lower()} smartphone").kind is None
    assert parse_size("Saffron 5 g").item_quantity == 5
    assert parse_size("Saffron 5g").item_quantity == 5


@pytest.mark.parametrize("sign", ["x", "X", "\N{MULTIPLICATION SIGN}", "*", " x "])
def test_any_sign_of_multiplication_counts(sign) -> None:
    found = parse_size(f"Cola 24{sign}330 ml")
    assert (found.pack_count, found.item_quantity) == (24, 330)


@pytest.mark.parametrize(
    "piece",
    [
        *("1", "1/", "1 x ", "x1", "pack of ", "9,999", "oz ", "1 oz + ", "1-", "½"),
        *(
            "1 1/2 ",
            "12 pack of 12 ",
            "fl. ",
            "1 x (",
            "1'",
            "(1)",
            "1=",
            "é",
            "\ufdfa",
        ),
        *(
            "\uff11",
            "本",
            "1本",
            "t ",
            "k-",
            "1 ml x ",
            "mega ",
            "1\u00a0000",
            "aax1",
            "\ufdfa",
        ),
    ],
)
def test_a_name_of_a_thousand_characters_takes_milliseconds(piece) -> None:
    for name in (piece * 1000, "1 " + piece * 1000, piece * 300 + " oz"):
        seconds = []
        for _ in range(3):  # the least: Python may collect garbage in between
            started = time.thread_time()
            parse_size(name)
            seconds.append(time.thread_time() - started)
        assert min(seconds) < 0.3
