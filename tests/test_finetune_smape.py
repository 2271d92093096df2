import numpy as np
import pytest

from finetune.score import (
    PRICE_FLOOR,
    smape,
    smape_half,
    smape_log1p,
    smape_rows,
    to_price,
)

PRICE = np.array([10.0, 20.0, 30.0])


def test_smape_of_a_perfect_prediction_is_zero():
    assert smape(PRICE, PRICE.copy()) == 0


def test_smape_of_known_prices_is_the_hand_computed_one():
    rows = smape_rows(PRICE, np.array([30.0, 20.0, 10.0]))
    np.testing.assert_allclose(rows, [100, 0, 100])
    assert smape(PRICE, np.array([30.0, 20.0, 10.0])) == pytest.approx(200 / 3)


def test_smape_counts_zero_against_zero_as_exact():
    np.testing.assert_array_equal(smape_rows(np.zeros(2), np.array([0.0, 1])), [0, 200])


def test_smape_is_symmetric_and_blind_to_currency():
    rng = np.random.default_rng(0)
    price, predicted = np.exp(rng.normal(2, 1, (2, 500)))
    assert smape(price, predicted) == smape(predicted, price)
    assert smape(7 * price, 7 * predicted) == pytest.approx(smape(price, predicted))


def test_smape_is_tanh_of_half_the_log_ratio():
    rng = np.random.default_rng(1)
    price, predicted = np.exp(rng.normal(2, 1, (2, 500)))
    by_tanh = 200 * np.tanh(np.abs(np.log(predicted / price)) / 2)
    np.testing.assert_allclose(smape_rows(price, predicted), by_tanh)


def test_smape_adds_up_float32_prices_in_float64():
    price = np.full(3, 0.1, dtype=np.float32)
    rows = smape_rows(price, price * np.float32(2))
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, 200 / 3)


def test_half_and_log1p_conventions_are_what_their_names_say():
    predicted = np.array([20.0, 10.0, 60.0])
    assert smape_half(PRICE, predicted) == smape(PRICE, predicted) / 2
    logs = np.log1p(PRICE), np.log1p(predicted)
    assert smape_log1p(PRICE, predicted) == pytest.approx(smape(*logs))
    assert smape_log1p(PRICE, predicted) < smape_half(PRICE, predicted)


def test_to_price_inverts_log1p_and_never_goes_below_a_cent():
    np.testing.assert_allclose(to_price(np.log1p(PRICE)), PRICE)
    np.testing.assert_array_equal(to_price(np.array([-3.0, 0.0])), PRICE_FLOOR)


def test_smape_refuses_a_column_where_numpy_would_broadcast():
    with pytest.raises(ValueError, match=r"same shape, got \(3,\) and \(3, 1\)"):
        smape(PRICE, PRICE[:, None])


def test_smape_says_how_many_values_are_not_finite():
    broken = np.array([np.nan, 20.0, np.inf])
    with pytest.raises(ValueError, match="predicted must be finite, 2 of 3 are not"):
        smape(PRICE, broken)
    with pytest.raises(ValueError, match="price must be finite, 2 of 3 are not"):
        smape(broken, PRICE)
