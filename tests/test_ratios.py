"""The ratio study: known values, parts, and intervals that cover."""

import numpy as np
import pytest

from stack.judge.ratios import measures, price_level, ratio_study
from stack.tell.ratios import format_ratios, ratio_sentence

PRICE = np.array([1.0, 2.0, 4.0, 8.0])


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return true prices, and predictions that are calibrated and miss 0.5 in log."""
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(3, 1, n))
    return predicted * np.exp(rng.normal(0, 0.5, n)), predicted


def test_proportional_predictions_have_no_spread_and_no_bias() -> None:
    of = measures(PRICE, 1.5 * PRICE)
    assert of == pytest.approx(
        {"median": 1.5, "cod": 0, "prd": 1, "prb": 0, "prb_predicted": 0}, abs=1e-12
    )


def test_measures_by_hand() -> None:
    # Ratios 2, 1, 1 and 0.5: median 1, distances 1, 0, 0 and 0.5.
    of = measures(PRICE, np.array([2.0, 2.0, 4.0, 4.0]))
    assert of["median"] == 1
    assert of["cod"] == pytest.approx(37.5)
    assert of["prd"] == pytest.approx(1.125 / (12 / 15))
    level = np.log2([1.5, 2, 4, 6])
    expected = np.polyfit(level, [1, 0, 0, -0.5], 1)[0]
    assert of["prb"] == pytest.approx(expected)
    assert of["prb_predicted"] == pytest.approx(-0.75)


def test_measures_do_not_depend_on_the_currency() -> None:
    price, predicted = drawn(500, 0)
    assert measures(1e4 * price, 1e4 * predicted) == pytest.approx(
        measures(price, predicted)
    )


def test_equal_prices_have_no_slope() -> None:
    of = measures(np.full(40, 7.0), np.full(40, 8.0))
    assert np.isnan(of["prb"])
    assert np.isnan(of["prb_predicted"])


def test_level_is_the_mean_of_both_prices_at_the_median_ratio() -> None:
    np.testing.assert_allclose(price_level(PRICE, 3 * PRICE), PRICE)


def test_intervals_cover_the_slope_of_calibrated_predictions() -> None:
    covered = 0
    for seed in range(12):
        price, predicted = drawn(300, seed)
        study = ratio_study(price, predicted, np.arange(300), categories={}, seed=0)
        slope = study["all"]["prb_predicted"]
        covered += slope["low"] <= 0 <= slope["high"]
    assert covered >= 10


def test_unpredictable_parts_of_the_prices_make_prb_negative() -> None:
    slopes = [measures(*drawn(2000, seed))["prb"] for seed in range(10)]
    assert max(slopes) < 0


def test_copies_of_each_product_do_not_narrow_the_intervals() -> None:
    price, predicted = drawn(400, 1)
    once = ratio_study(price, predicted, np.arange(400), categories={}, seed=0)
    four = ratio_study(
        np.tile(price, 4),
        np.tile(predicted, 4),
        np.tile(np.arange(400), 4),
        categories={},
        seed=0,
    )
    width = [
        part["all"]["cod"]["high"] - part["all"]["cod"]["low"] for part in (once, four)
    ]
    assert width[1] == pytest.approx(width[0], rel=0.15)


def test_bands_and_categories_hold_their_products() -> None:
    price, predicted = drawn(500, 2)
    brand = np.array(["acme", "bolt", "", "few"])[
        np.repeat([0, 1, 2, 3], [200, 150, 140, 10])
    ]
    predicted[brand == "bolt"] *= 3
    study = ratio_study(
        price, predicted, np.arange(500), categories={"brand": brand}, seed=0
    )
    assert sum(band["n"] for band in study["bands"]) == 500
    assert [band["high"] for band in study["bands"]] == sorted(
        band["high"] for band in study["bands"]
    )
    acme, bolt = study["categories"]["brand"]  # unknown and rare ones are left out
    assert (acme["category"], acme["n"]) == ("acme", 200)
    assert (bolt["category"], bolt["n"]) == ("bolt", 150)
    assert bolt["median"]["low"] > 2 * acme["median"]["high"]


def test_few_products_have_values_without_intervals() -> None:
    study = ratio_study(PRICE, PRICE, np.arange(4), categories={}, seed=0)
    assert study["all"]["median"] == {"value": 1.0, "low": None, "high": None}


def test_text_states_the_bias_by_price_and_fits_the_width() -> None:
    # Each predicted price is as often too low as too high, by the same factor.
    predicted = np.repeat(np.geomspace(5, 500, 250), 2)
    price = predicted * np.tile([1.6, 1 / 1.6], 250)
    brand = np.full(500, "a brand with a name that is much too long for a row")
    study = ratio_study(
        price, predicted, np.arange(500), categories={"brand": brand}, seed=0
    )
    text = format_ratios(study)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("500") >= 2  # all, and the brand
    sentence = ratio_sentence(study)
    assert "Cheap products are priced too high and dear ones too low" in sentence
    assert "By predicted price there is no bias beyond the noise" in sentence


def test_sentence_follows_the_direction_of_the_bias() -> None:
    price, _ = drawn(500, 4)
    study = ratio_study(price, price**1.3, np.arange(500), categories={}, seed=0)
    assert "Cheap products are priced too low and dear ones too high" in ratio_sentence(
        study
    )
    assert "also rises with the predicted price" in ratio_sentence(study)
