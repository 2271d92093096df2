import numpy as np
import pytest

from embed.catalog.amounts import amount, csv_amount, rounded_amount, short_amount


@pytest.mark.parametrize(
    ("price", "in_file", "read", "rounded", "short"),
    [
        (0.0, None, "0.00", "0.00", "0.00"),
        (3.4e-12, "0.000000000003400", "3.4e-12", "3.4e-12", "3e-12"),
        (7.812e-5, "0.00007812", "0.0000781", "0.0000781", "7.8e-5"),
        (0.0007, "0.0007000", "0.000700", "0.000700", "7.0e-4"),
        (0.00781, "0.007810", "0.00781", "0.00781", "0.0078"),
        (0.0781, "0.07810", "0.0781", "0.0781", "0.0781"),
        (0.5, "0.5000", "0.50", "0.50", "0.50"),
        (42.5, "42.5000", "42.50", "42.50", "42.50"),
        (1234.5, "1234.5000", "1,234.50", "1,234", "1,234"),
        (123_456.0, "123456.0000", "123,456.00", "123,456", "1e+05"),
        (2.5e9, "2500000000.0000", "2.5e+09", "2.5e+09", "2e+09"),
    ],
)
def test_a_price_has_the_digits_that_its_size_asks_for(
    price, in_file, read, rounded, short
):
    assert in_file is None or csv_amount(price) == in_file
    assert amount(price) == read
    assert rounded_amount(price) == rounded
    assert short_amount(price) == short


def test_no_price_is_shown_as_nothing_and_none_takes_more_room_than_there_is():
    for price in np.exp(np.random.default_rng(0).uniform(-60, 60, size=5000)).tolist():
        for write, error in ((csv_amount, 1e-3), (amount, 0.06), (short_amount, 0.5)):
            assert float(write(price).replace(",", "")) == pytest.approx(
                price, rel=error
            )
        assert len(short_amount(price)) <= 6
