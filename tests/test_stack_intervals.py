import json

import numpy as np
import pytest

from embed.errors import ConfigError
from embed.store.manifest import read_json, require_stage
from finetune.price_unit import to_log_price, to_price
from stack.judge.nested import judge_by_other_parts
from stack.judge.sureness import interval_score, measure_intervals
from stack.price.calibration import LEVELS, Calibration
from stack.records import StackManifest


def calibrated(error, **settings):
    """Calibrate on errors of size 1, all at one price."""
    error = np.asarray(error, float)
    ones = np.ones(len(error))
    return Calibration.fit(3 * ones, error, ones, **{"price_unit": 1, **settings})


def ends_of(fitted, level):
    """Return the offsets of an interval around the log price 3, errors of size 1."""
    low, high = fitted.bounds(np.array([3.0]), np.ones(1), level=level)
    return np.log1p([low[0], high[0]]) - 3


def test_ends_are_the_ranks_that_the_theory_asks_for():
    error = np.random.default_rng(0).permutation(np.arange(-49.0, 50.0)) / 100
    fitted = calibrated(error)  # 99 errors
    np.testing.assert_allclose(ends_of(fitted, 80), [-0.40, 0.40])
    np.testing.assert_allclose(ends_of(fitted, 90), [-0.45, 0.45])


def test_too_few_errors_give_their_extremes():
    np.testing.assert_allclose(ends_of(calibrated([0.5, -1.0, 0.1]), 90), [-1, 0.5])


def test_bounds_lie_around_the_price_in_currency():
    for unit in (1, 100):
        fitted = calibrated([-np.log(2), np.log(3)], price_unit=unit)
        low, high = fitted.bounds(np.log1p([9.0, 99.0]), np.ones(2), level=90)
        np.testing.assert_allclose(low, unit * np.array([4.0, 49.0]))
        np.testing.assert_allclose(high, unit * np.array([29.0, 299.0]))


@pytest.mark.parametrize("unit", [1, 1e-4])
def test_a_low_end_is_at_least_a_hundredth_of_the_unit(unit):
    fitted = calibrated([-5.0, 5.0], price_unit=unit)
    low, _ = fitted.bounds(np.array([0.1]), np.ones(1), level=90)
    assert low[0] == 0.01 * unit


@pytest.mark.parametrize("level", [49, 100])
def test_another_level_is_refused_and_names_those_there_are(level):
    with pytest.raises(ConfigError, match=f"must be 50 to 99 percent, got {level}"):
        calibrated(np.arange(50.0)).bounds(np.zeros(1), np.ones(1), level=level)


def test_an_interval_of_a_higher_level_contains_the_others():
    rng = np.random.default_rng(4)
    fitted = calibrated(rng.normal(0.3, 1, size=300))
    log_price, size = rng.normal(3, 1, size=50), rng.gamma(2, 0.2, size=50)
    before = fitted.bounds(log_price, size, level=50)
    for level in range(51, 100):
        low, high = fitted.bounds(log_price, size, level=level)
        assert (low <= before[0]).all()
        assert (before[1] <= high).all()
        before = low, high


@pytest.mark.parametrize("noise", ["normal", "laplace", "exponential"])
def test_new_products_are_covered_as_often_as_promised(noise):
    rng = np.random.default_rng(1)
    draw = getattr(rng, noise)
    fitted = calibrated(draw(size=4000))
    log_price = rng.normal(5, 1, size=20_000)
    price = np.expm1(log_price + draw(size=20_000))
    for level in LEVELS:
        low, high = fitted.bounds(log_price, np.ones(20_000), level=level)
        # 20,000 products and 4,000 residuals: a standard error of 0.7 % at most.
        assert np.mean((low <= price) & (price <= high)) == pytest.approx(
            level / 100, abs=0.02
        )


def draw_products(n, *, seed=2, unit=1.0):
    """Draw products whose errors differ in size, and in spread by price."""
    rng = np.random.default_rng(seed)
    log_price, size = rng.normal(3, 1, size=n), rng.gamma(2, 0.2, size=n)
    error = rng.normal(0, size) * np.where(log_price > 3, 1.5, 1.0)
    return log_price, size, error, to_price(log_price + error, unit)


def test_each_price_band_and_each_size_has_its_own_coverage():
    log_price, size, error, _ = draw_products(10_000)
    fitted = Calibration.fit(log_price, error, size, price_unit=1)
    log_price, size, _, price = draw_products(20_000, seed=3)
    for level in LEVELS:
        low, high = fitted.bounds(log_price, size, level=level)
        inside = (low <= price) & (price <= high)
        for part in (log_price > 3.3, log_price < 2.7, size > 0.4, size < 0.3):
            assert inside[part].mean() == pytest.approx(level / 100, abs=0.02)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_probabilities_come_true(unit):
    log_price, size, error, _ = draw_products(10_000)
    fitted = Calibration.fit(log_price, error, size, price_unit=unit)
    log_price, size, _, price = draw_products(20_000, seed=3, unit=unit)
    for share in (0.1, 0.2):
        sure = fitted.within(log_price, size, share=share)
        is_right = np.abs(to_price(log_price, unit) - price) <= share * price
        for tenth in np.array_split(np.argsort(sure), 10):
            assert is_right[tenth].mean() == pytest.approx(sure[tenth].mean(), abs=0.03)


def test_a_saved_calibration_is_the_same(tmp_path):
    log_price, size, error, _ = draw_products(3000)
    fitted = Calibration.fit(log_price, error, size, price_unit=10)
    for name, array in fitted.arrays().items():
        np.save(tmp_path / f"{name}.npy", array)
    loaded = Calibration.load(tmp_path, price_unit=10)
    for level in LEVELS:
        for expected, found in zip(
            fitted.bounds(log_price, size, level=level),
            loaded.bounds(log_price, size, level=level),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)


def measured(log_price, error, folds, *, unit=1.0):
    sizes = np.ones((folds.max() + 1, len(folds)))
    nested = judge_by_other_parts(log_price, error, folds, sizes, price_unit=unit)
    found = measure_intervals(
        to_price(log_price + error, unit),
        to_price(log_price, unit),
        nested,
        has_photo=folds == 0,
        constant=nested,
    )
    return [part.as_json() for part in found]


def test_coverage_is_measured_with_the_errors_of_other_folds():
    """One fold is priced too low by far: its own errors would cover it."""
    rng = np.random.default_rng(2)
    log_price, folds = rng.normal(3, 1, size=1000), np.arange(1000) % 2
    error = rng.normal(0, 0.1, size=1000) + np.where(folds == 0, 3.0, 0.0)
    for found in measured(log_price, error, folds):
        assert found["coverage"] < 0.01


def test_coverage_adds_up_over_the_bands():
    rng = np.random.default_rng(3)
    log_price, folds = rng.normal(3, 1, size=1000), np.arange(1000) % 5
    found = measured(log_price, rng.normal(0, 0.4, size=1000), folds)
    assert [part["level"] for part in found] == [80, 90]
    for part in found:
        for name in ("bands", "by_predicted"):
            bands = part[name]
            assert [band["n"] for band in bands] == [200] * 5
            total = sum(band["n"] * band["coverage"] for band in bands) / 1000
            assert total == pytest.approx(part["coverage"])
        assert part["coverage"] == pytest.approx(part["level"] / 100, abs=0.03)
        assert part["width_ratio"] > 1
    assert found[0]["width_ratio"] < found[1]["width_ratio"]
    json.dumps(found, allow_nan=False)


def test_a_miss_costs_its_distance_times_two_over_the_rest_of_the_level():
    inside = interval_score(np.e * np.ones(1), np.ones(1), np.e**2 * np.ones(1), 80)
    below = interval_score(np.e**-1 * np.ones(1), np.ones(1), np.e * np.ones(1), 80)
    assert inside == pytest.approx(2)
    assert below == pytest.approx(1 + 2 / 0.2)


def test_a_run_keeps_the_intervals_of_what_it_chose(finished_run):
    stack = require_stage(finished_run, StackManifest)
    array = {"network": "finetune", "stacker": "stack"}[stack.chosen]
    predicted = np.load(finished_run / array / "oof_log_price.npy").astype(float)
    price = np.load(finished_run / "finetune" / "price.npy")
    priced = np.load(finished_run / "finetune" / "folds.npy") >= 0
    error = to_log_price(price[priced], 1) - predicted[priced]
    # Few products: all errors have one size.
    assert not stack.confidence.has_boosters
    saved = np.load(finished_run / "stack" / "confidence" / "errors.npy")
    size = saved[:, 1] / np.sort(error / np.abs(error).mean())
    np.testing.assert_allclose(size, 1)
    report = read_json(finished_run / "stack" / "report.json")
    assert [part["level"] for part in report["intervals"]] == list(LEVELS)
