import math

import numpy as np
import pytest

from finetune.price_unit import (
    PRICE_FLOOR,
    choose_price_unit,
    to_log_price,
    to_price,
)


def draw_prices(median=14.0, *, spread=1.0, n=2000):
    return median * np.exp(np.random.default_rng(0).normal(0, spread, size=n))


@pytest.mark.parametrize("median", [11, 14, 90])
def test_a_usual_catalog_in_dollars_counts_in_dollars(median):
    assert choose_price_unit(draw_prices(median)) == 1


@pytest.mark.parametrize("power", [-12, -3, -1, 1, 2, 3, 9])
def test_the_unit_follows_the_currency(power):
    price = draw_prices()
    assert choose_price_unit(price * 10.0**power) == 10.0**power
    scaled = to_log_price(price * 10.0**power, 10.0**power)
    np.testing.assert_allclose(scaled, np.log1p(price), rtol=1e-13)


@pytest.mark.parametrize("factor", [0.83, 3.7, 83.2, 25_400.0])
def test_the_median_is_ten_to_a_hundred_units_in_any_currency(factor):
    price = draw_prices(factor * 14, spread=0.5)
    n_units = np.median(price) / choose_price_unit(price)
    assert 10 <= n_units < 100


@pytest.mark.parametrize("power", range(-20, 20))
def test_a_median_on_the_edge_of_a_unit_stays_there_in_any_currency(power):
    assert choose_price_unit(np.full(3, float(f"1e{power}"))) == 10.0 ** (power - 1)


def test_prices_without_number_do_not_count():
    price = draw_prices()
    with_gaps = np.where(np.arange(len(price)) % 3 > 0, price, np.nan)
    assert choose_price_unit(with_gaps) == 1
    assert np.isnan(to_log_price(with_gaps, 1.0)[0])


def test_cheap_products_are_told_apart_where_prices_spread_far():
    """A third of a catalog costs a ten-thousandth of the rest."""
    price = np.concatenate([draw_prices(0.001, n=500), draw_prices(100.0, n=1000)])
    unit = choose_price_unit(price)
    assert np.quantile(price, 0.05) >= 0.3 * unit
    cheap = price[:500]
    log_price = to_log_price(cheap, unit)
    # A factor of two is no less than a third of what it is in the log itself.
    assert np.median(to_log_price(2 * cheap, unit) - log_price) > math.log(2) / 3


def test_one_price_that_is_far_too_low_does_not_set_the_unit():
    assert choose_price_unit(np.append(draw_prices(), [1e-9, 1e-8])) == 1


@pytest.mark.parametrize("price", [5e-324, 1e-300, 1e-5, 1.0, 1e300, 1.7e308])
def test_a_catalog_of_one_price_has_a_unit(price):
    unit = choose_price_unit(np.array([price, price]))
    assert 0 < unit < math.inf
    assert np.isfinite(to_log_price(np.array([price]), unit)).all()


def test_prices_come_back_from_log_space():
    price = draw_prices(1e-4)
    unit = choose_price_unit(price)
    np.testing.assert_allclose(to_price(to_log_price(price, unit), unit), price)


def test_the_least_price_is_a_hundredth_of_the_unit():
    assert to_price(np.array([-3.0, 0.0]), 1e-4).tolist() == [PRICE_FLOOR * 1e-4] * 2
    assert to_price(np.array([-3.0])).tolist() == [PRICE_FLOOR]
