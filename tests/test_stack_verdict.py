import re
import tracemalloc

import numpy as np
import pytest

from stack.evaluate import score
from stack.verdict import decide, paired_bootstrap

N = 1000


@pytest.fixture
def price():
    return np.exp(np.random.default_rng(0).normal(2.5, 1.0, size=N))


def noisy(price, sigma, seed):
    rng = np.random.default_rng(seed)
    return price * np.exp(rng.normal(0, sigma, size=len(price)))


def test_the_interval_covers_the_true_difference(price):
    # 60 catalogs of one law: about 3 of 60 intervals may miss.
    rng = np.random.default_rng(7)
    whole = np.exp(rng.normal(2.5, 1, 60_000))
    predicted, reference = noisy(whole, 0.40, 1), noisy(whole, 0.42, 2)
    true = score(whole, predicted).smape - score(whole, reference).smape
    covered = 0
    for part in np.split(np.arange(len(whole)), 60):
        found = paired_bootstrap(
            whole[part], predicted[part], reference[part], n_bootstrap=300, seed=0
        )
        assert found.low < found.mean < found.high
        covered += found.low <= true <= found.high
    assert 52 <= covered <= 60


def test_the_same_seed_gives_the_same_interval(price):
    arrays = (price, noisy(price, 0.3, 1), noisy(price, 0.4, 2))
    first = paired_bootstrap(*arrays, n_bootstrap=200, seed=3)
    assert first == paired_bootstrap(*arrays, n_bootstrap=200, seed=3)
    assert first != paired_bootstrap(*arrays, n_bootstrap=200, seed=4)


def test_equal_predictions_have_an_empty_interval(price):
    found = paired_bootstrap(price, price * 2, price * 2, n_bootstrap=50, seed=0)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_bootstrap_keeps_memory_bounded():
    price = np.ones(100_000)
    tracemalloc.start()
    paired_bootstrap(price, price * 1.1, price * 1.2, n_bootstrap=40, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * 2**20  # all at once would be 64 MB


@pytest.mark.parametrize(
    ("sigma", "chosen", "words"),
    [
        (0.3, "stacker", "The stacker is used: .* wholly below zero.*beats the blend"),
        (0.4, "network", "network is used alone: .* not wholly below zero"),
        (0.6, "network", "The blend control beats the stacker"),
    ],
)
def test_the_stacker_serves_only_where_it_is_better_beyond_the_noise(
    price, sigma, chosen, words
):
    verdict = decide(
        price,
        network=noisy(price, 0.4, 2),
        stacker=noisy(price, sigma, 2),
        blend=noisy(price, 0.39, 3),
        n_bootstrap=300,
        seed=0,
    )
    assert verdict.chosen == chosen
    assert (verdict.interval_network.high < 0) == (chosen == "stacker")
    assert re.search(words, verdict.sentence)
