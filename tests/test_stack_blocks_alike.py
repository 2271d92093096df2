import numpy as np
import pytest

from embed.attributes import ATTRIBUTE_NAMES
from stack.blocks import alike

N_ATTRIBUTES = len(ATTRIBUTE_NAMES)


def sizes_of(n, **known):
    """Standardised sizes and flags; those not named are unknown."""
    found = np.zeros((n, 2 * N_ATTRIBUTES), np.float32)
    for name, values in known.items():
        at = ATTRIBUTE_NAMES.index(name)
        found[:, at], found[:, N_ATTRIBUTES + at] = values, 0.7
    return found


def describe(similarity, log_price, sizes=None, other_sizes=None):
    similarity = np.asarray(similarity, np.float32)
    n, m = similarity.shape
    found = alike.describe(
        similarity,
        np.asarray(log_price, np.float32),
        sizes_of(n) if sizes is None else sizes,
        sizes_of(m) if other_sizes is None else other_sizes,
    )
    names = [column.name for column in alike.COLUMNS]
    return dict(zip(names, found.T, strict=True))


def test_the_most_similar_products_are_described_by_rank():
    rng = np.random.default_rng(0)
    similarity, log_price = rng.random((5, 200)), rng.normal(3, 1, 200)
    found = describe(similarity, log_price)
    for row in range(5):
        order = np.argsort(-similarity[row])
        for first in (1, 3, 10, 30, 100):
            expected = np.median(log_price[order[:first]])
            assert found[f"median-{first}"][row] == pytest.approx(expected, abs=1e-5)
        expected = log_price[order[:10]].std()
        assert found["spread-10"][row] == pytest.approx(expected, abs=1e-5)
        expected = similarity[row][order[9]]
        assert found["similarity-10"][row] == pytest.approx(expected, abs=1e-6)


def test_means_and_quantiles_are_weighed_by_similarity():
    found = describe([[1.0, 0.5, 0.5]], [3.0, 1.0, 5.0])
    expected = (3 + 1 / 16 + 5 / 16) / (1 + 2 / 16)
    assert found["weighted"][0] == pytest.approx(expected, abs=1e-5)
    # Weights of 32 / 33 and twice 1 / 66.
    for percent in (10, 25, 50, 75, 90):
        assert found[f"quantile-{percent}"][0] == 3
    found = describe([[0.5, 0.5, 0.5, 0.5]], [4.0, 1.0, 3.0, 2.0])
    quantiles = [found[f"quantile-{percent}"][0] for percent in (10, 25, 50, 75, 90)]
    assert quantiles == [1, 1, 2, 3, 4]


def test_how_much_larger_they_are_counts_what_both_state():
    sizes = sizes_of(2, log_total_amount=[1.0, 0.0])
    sizes[1] = 0  # unknown
    others = sizes_of(3, log_total_amount=[2.0, 3.0, 0.0], log_value=[1.0, 1.0, 1.0])
    others[2] = 0
    found = describe(np.full((2, 3), 0.8), [1.0, 2.0, 3.0], sizes, others)
    assert found["larger-log_total_amount"][0] == pytest.approx(1.5, abs=1e-5)
    assert np.isnan(found["larger-log_total_amount"][1])
    assert np.isnan(found["larger-log_value"]).all()


def test_fewer_products_than_are_asked_for_are_all_taken():
    found = describe([[0.9, 0.1]], [1.0, 2.0])
    assert found["median-100"][0] == pytest.approx(1.5)
    assert found["similarity-100"][0] == pytest.approx(0.1)


def test_without_any_nothing_is_said():
    found = describe(np.zeros((3, 0)), [])
    assert all(np.isnan(values).all() for values in found.values())


def test_products_that_are_like_nothing_have_prices_all_the_same():
    found = describe(np.zeros((2, 4)), [1.0, 2.0, 3.0, 4.0])
    for column in alike.COLUMNS:
        assert np.isfinite(found[column.name]).all() or not column.is_log_price
