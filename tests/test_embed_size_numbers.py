import pytest

from embed.sizes.numbers import read_fraction, read_number, settle_number


@pytest.mark.parametrize(
    ("written", "sign"),
    [
        *(("0,75", ","), ("1,5", ","), ("0,750", ","), ("1.234,5", ",")),
        *(("1,2345", ","), ("1.000.000", ",")),
        *(("0.75", "."), ("1.5", "."), (".5", "."), ("0.750", "."), ("1,234.5", ".")),
        *(("1,000,000", "."), ("1,00,000", ".")),
        *(("12", None), ("1,500", None), ("1.500", None), ("1,2,3", None)),
    ],
)
def test_a_number_settles_the_sign_if_it_has_one_reading(written, sign) -> None:
    assert settle_number(written) == sign


@pytest.mark.parametrize(
    ("written", "decimal", "scale", "value"),
    [
        ("1,500", ".", "small", 1500),
        ("1,500", ",", "small", 1.5),
        ("1.500", ",", "large", 1500),
        ("1.500", ".", "large", 1.5),
        ("1.500", None, "small", 1500),
        ("1.500", None, "large", 1.5),
        ("1,500", None, "imperial", 1500),
        ("1.500", None, "imperial", 1.5),
        ("1.500", ".", "count", 1500),  # pieces are whole
        ("0,750", ".", "large", 0.75),
        ("1'000", None, "small", 1000),
        ("1,2,3", None, "small", None),
        ("9" * 13, None, "small", None),
    ],
)
def test_numbers_are_read_by_sign_and_unit(written, decimal, scale, value) -> None:
    assert read_number(written, decimal, scale) == value


@pytest.mark.parametrize(
    ("top", "bottom", "value"),
    [
        *((1, 2, 0.5), (3, 4, 0.75), (1, 12, 1 / 12), (5, 8, 0.625)),
        *((2, 44, None), (4, 1, None), (12, 16, None), (2, 5, None), (1, 0, None)),
        *((0, 4, None), (0.5, 2, None)),
    ],
)
def test_a_slash_is_a_fraction_or_a_count(top, bottom, value) -> None:
    assert read_fraction(float(top), float(bottom)) == value
