import pytest

from embed.sizes.tokens import settle_decimal, tokenize


def letters(name: str) -> str:
    return "".join(token.letter for token in tokenize(name, None))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Cola 24 x 330 ml", "wnxnm"),
        ("Cola 24\N{MULTIPLICATION SIGN}330ml", "wnxnm"),
        ("Galaxy A14", "woN"),
        ("IPX7", "wwN"),
        ("Size 4", "LN"),
        ("Size 4 oz", "Lnm"),
        ("Model (500)", "L(N)"),
        ("100% cotton", "N%a"),
        ("1st edition", "Ngw"),
        ("5W-30", "nd-n"),
        ("1 1/2 lb", "nm"),
        ("1½ lb", "nm"),
        ("Pack of 2 1/2 lb", "ponnm"),
        ("\uff15\uff10\uff10\uff4d\uff4c\N{MULTIPLICATION SIGN}24\u672c", "nmxnb"),
        ("12 fl. oz.", "nm"),
        ("Spülmaschinentabs", "c"),
        ("backpack", "w"),
    ],
)
def test_names_become_classes_of_tokens(name, expected) -> None:
    assert letters(name) == expected


@pytest.mark.parametrize(
    ("names", "sign"),
    [
        (["Wein 0,75 l", "Reis 1.000 g"], ","),
        (["Rice 2.5 kg", "Rice 1,000 g"], "."),
        (["Rice 1,000 g", "Tea"], None),
        (["Wein 0,75 l", "Rice 2.5 kg"], None),
        (["Wein 0,75 l"] + ["Rice 2.5 kg"] * 9, "."),
        (["Wein 0,75 l"] + ["Rice 2.5 kg"] * 8, None),
        (["Screen 15,6 Zoll"], ","),
        (["Version 2.5 of 1,2"], None),  # numbers without a unit are no sizes
        ([], None),
    ],
)
def test_a_catalog_settles_its_sign_by_names_that_agree(names, sign) -> None:
    assert settle_decimal(names) == sign


def test_only_the_first_thousand_characters_are_read() -> None:
    assert len(tokenize("a " * 5000, None)) <= 1000
