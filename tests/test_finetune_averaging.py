import numpy as np

from finetune.averaging import MAX_PULL, average_log_prices


def test_networks_that_differ_as_usual_are_averaged_plainly():
    log_prices = np.random.default_rng(0).normal(3, 0.1, (5, 100)).astype(np.float32)
    found = average_log_prices(log_prices)
    np.testing.assert_array_equal(found, log_prices.mean(axis=0))
    assert found.dtype == np.float32


def test_one_bad_network_of_five_pulls_by_a_fifth_of_the_limit_at_most():
    log_prices = np.full((5, 2), 3.0)
    log_prices[2] = [50.0, -50.0]
    found = average_log_prices(log_prices)
    np.testing.assert_allclose(found, [3 + MAX_PULL / 5, 3 - MAX_PULL / 5])


def test_a_single_network_is_its_own_average():
    np.testing.assert_array_equal(average_log_prices(np.array([[1.0, 2.0]])), [1, 2])
