import re
import tracemalloc

import numpy as np
import pytest

from stack.judge.evaluate import score
from stack.judge.verdict import decide, paired_bootstrap

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
        (
            0.3,
            "stacker",
            r"The stacker is used: .* lower .95 % interval \d.*beats the blend",
        ),
        (
            0.4,
            "network",
            r"network is used alone: .* not better beyond the noise.*interval -",
        ),
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


def test_copies_of_products_make_no_difference_more_certain():
    """Two equally good predictors: five copies of each product are no evidence."""
    rng = np.random.default_rng(0)
    groups, found = np.repeat(np.arange(100), 5), {"rows": 0, "groups": 0}
    for _ in range(100):
        price = np.exp(rng.normal(3, 1, size=100))[groups]
        one, other = (price * np.exp(rng.normal(0, 0.4, 100))[groups] for _ in "ab")
        for name, given in (("rows", None), ("groups", groups)):
            interval = paired_bootstrap(
                price, one, other, n_bootstrap=200, seed=0, groups=given
            )
            found[name] += not interval.low < 0 < interval.high
    assert found["rows"] > 25
    assert found["groups"] < 14


def test_products_that_are_each_a_group_are_as_without_groups(price):
    arrays = (price, noisy(price, 0.4, 2), noisy(price, 0.3, 3))
    settings = {"n_bootstrap": 200, "seed": 0}
    alone = paired_bootstrap(*arrays, **settings)
    grouped = paired_bootstrap(*arrays, **settings, groups=np.arange(len(price)))
    assert grouped.mean == pytest.approx(alone.mean)
    assert grouped.low == pytest.approx(alone.low)
    assert grouped.high == pytest.approx(alone.high)
