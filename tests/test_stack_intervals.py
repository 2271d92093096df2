import json

import numpy as np
import pytest

from embed.errors import ConfigError
from embed.store.manifest import read_json, require_stage
from stack.judge.intervals import LEVELS, Intervals, interval_coverage
from stack.records import StackManifest


def test_ends_are_the_ranks_that_the_theory_asks_for():
    residual = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))  # 1 to 99
    offsets = Intervals.fit(residual, price_unit=1).offsets
    assert offsets[80] == (10.0, 90.0)
    assert offsets[90] == (5.0, 95.0)


def test_too_few_residuals_give_their_extremes():
    fitted = Intervals.fit(np.array([0.5, -1.0, 0.1]), price_unit=1)
    assert fitted.offsets[90] == (-1.0, 0.5)


def test_bounds_lie_around_the_price_in_currency():
    for unit in (1, 100):
        fitted = Intervals(offsets={90: (-np.log(2), np.log(3))}, price_unit=unit)
        low, high = fitted.bounds(np.log1p([9.0, 99.0]), level=90)
        np.testing.assert_allclose(low, unit * np.array([4.0, 49.0]))
        np.testing.assert_allclose(high, unit * np.array([29.0, 299.0]))


@pytest.mark.parametrize("unit", [1, 1e-4])
def test_a_low_end_is_at_least_a_hundredth_of_the_unit(unit):
    fitted = Intervals(offsets={90: (-5.0, 5.0)}, price_unit=unit)
    low, _ = fitted.bounds(np.array([0.1]), level=90)
    assert low[0] == 0.01 * unit


def test_another_level_is_refused_and_names_those_there_are():
    fitted = Intervals.fit(np.arange(50.0), price_unit=1)
    with pytest.raises(ConfigError, match="one of 80, 90 percent, got 95"):
        fitted.bounds(np.zeros(1), level=95)


@pytest.mark.parametrize("noise", ["normal", "laplace", "exponential"])
def test_new_products_are_covered_as_often_as_promised(noise):
    rng = np.random.default_rng(1)
    draw = getattr(rng, noise)
    fitted = Intervals.fit(draw(size=4000), price_unit=1)
    log_price = rng.normal(5, 1, size=20_000)
    price = np.expm1(log_price + draw(size=20_000))
    for level in LEVELS:
        low, high = fitted.bounds(log_price, level=level)
        # 20,000 products and 4,000 residuals: a standard error of 0.7 % at most.
        assert np.mean((low <= price) & (price <= high)) == pytest.approx(
            level / 100, abs=0.02
        )


def test_coverage_is_measured_with_the_residuals_of_other_folds():
    """One fold is priced too low by far: its own residuals would cover it."""
    rng = np.random.default_rng(2)
    log_price, folds = rng.normal(3, 1, size=1000), np.arange(1000) % 2
    residual = rng.normal(0, 0.1, size=1000) + np.where(folds == 0, 3.0, 0.0)
    price = np.expm1(log_price + residual)
    for found in interval_coverage(price, log_price, folds, price_unit=1):
        assert found["coverage"] < 0.01


def test_coverage_adds_up_over_the_bands():
    rng = np.random.default_rng(3)
    log_price, folds = rng.normal(3, 1, size=1000), np.arange(1000) % 5
    price = np.expm1(log_price + rng.normal(0, 0.4, size=1000))
    found = interval_coverage(price, log_price, folds, price_unit=1)
    assert [part["level"] for part in found] == [80, 90]
    for part in found:
        bands = part["bands"]
        assert [band["n"] for band in bands] == [200] * 5
        total = sum(band["n"] * band["coverage"] for band in bands) / 1000
        assert total == pytest.approx(part["coverage"])
        assert part["coverage"] == pytest.approx(part["level"] / 100, abs=0.03)
        assert part["width_ratio"] > 1
    assert found[0]["width_ratio"] < found[1]["width_ratio"]
    json.dumps(found, allow_nan=False)


def test_a_run_keeps_the_intervals_of_what_it_chose(finished_run):
    stack = require_stage(finished_run, StackManifest)
    array = {"network": "finetune", "stacker": "stack"}[stack.chosen]
    predicted = np.load(finished_run / array / "oof_log_price.npy")
    price = np.load(finished_run / "finetune" / "price.npy")
    priced = np.load(finished_run / "finetune" / "folds.npy") >= 0
    residual = np.log1p(price[priced]) - predicted[priced]
    expected = Intervals.fit(residual, price_unit=1)
    assert Intervals.of_manifest(stack, price_unit=1) == expected
    report = read_json(finished_run / "stack" / "report.json")
    assert [part["level"] for part in report["intervals"]] == list(LEVELS)
