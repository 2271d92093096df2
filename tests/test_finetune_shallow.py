import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from finetune.network.shallow import WIDTH, ShallowNetwork, _share

N, N_COLUMNS = 800, 40


@pytest.fixture
def matrix():
    rng = np.random.default_rng(0)
    return csr_array((rng.random((N, N_COLUMNS)) < 0.3).astype(np.float32))


@pytest.fixture
def log_price(matrix):
    """Two columns of which either makes a product dear, both together not."""
    one, other = matrix.toarray()[:, :2].T
    return 3 + np.abs(one - other) + 0.1 * matrix.toarray()[:, 2]


def learned(matrix, log_price, seed=0):
    return ShallowNetwork(N_COLUMNS).fit(matrix, log_price, seed=seed)


def test_it_learns_what_columns_say_together(matrix, log_price):
    rows = np.arange(N) < 600
    network = learned(matrix[rows], log_price[rows])
    error = np.abs(network.predict(matrix[~rows]) - log_price[~rows])
    dense = np.hstack([matrix.toarray(), np.ones((N, 1), np.float32)])
    line = np.linalg.lstsq(dense[rows], log_price[rows], rcond=None)[0]
    by_line = np.abs(dense[~rows] @ line - log_price[~rows])
    assert error.mean() < 0.6 * by_line.mean()


def test_a_column_of_one_product_alone_says_nothing(matrix, log_price):
    dense = matrix.toarray()
    dense[:, 5] = 0
    dense[7, 5] = 1
    network = learned(csr_array(dense), log_price)
    assert network.place[5] == 0
    assert (network.look_up(torch.tensor([5])) == 0).all()
    assert (network.look_up(torch.tensor([6])) != 0).any()
    without = dense.copy()
    without[7, 5] = 0
    one, other = (network.predict(csr_array(rows[7:8])) for rows in (dense, without))
    assert one == other


def test_prices_are_those_of_looked_up_vectors(matrix, log_price):
    network = learned(matrix, log_price)
    vectors = network.look_up(torch.arange(N_COLUMNS))
    assert vectors.shape == (N_COLUMNS, WIDTH)
    found = network(torch.from_numpy(matrix.toarray()) @ vectors).numpy()
    np.testing.assert_allclose(found, network.predict(matrix), atol=1e-5)


def test_it_learns_from_the_start_and_leaves_the_random_state_alone(matrix, log_price):
    torch.manual_seed(3)
    expected = torch.rand(1)
    network = learned(matrix, log_price[::-1].copy(), seed=5)
    fresh = ShallowNetwork(N_COLUMNS)
    torch.manual_seed(3)
    network.fit(matrix, log_price, seed=1)
    assert torch.rand(1) == expected
    fresh.fit(matrix, log_price, seed=1)
    np.testing.assert_array_equal(network.predict(matrix), fresh.predict(matrix))
    assert not any(values.requires_grad for values in network.parameters())
    assert all(values.grad is None for values in network.parameters())


def test_another_seed_learns_otherwise(matrix, log_price):
    one, other = (learned(matrix, log_price, seed).predict(matrix) for seed in (0, 1))
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("n", [1, 2, 17])
def test_a_handful_of_products_is_enough(matrix, log_price, n):
    network = learned(matrix[:n], log_price[:n])
    found = network.predict(matrix)
    assert np.isfinite(found).all()
    if n == 1:
        np.testing.assert_allclose(found, log_price[0], atol=0.1)


def test_products_without_any_column_have_a_price(log_price):
    nothing = csr_array((N, N_COLUMNS), dtype=np.float32)
    found = learned(nothing, log_price).predict(nothing)
    assert np.ptp(found) == 0
    assert abs(found[0] - np.median(log_price)) < 0.5


def test_the_learning_rate_rises_then_falls():
    rates = [_share(step, 96) for step in range(96)]
    top = int(np.argmax(rates))
    assert 8 <= top <= 10
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert 0 < min(rates) < 0.05
    assert max(rates) == pytest.approx(1, abs=0.05)
