import itertools
import json

import numpy as np
import pytest

from stack.config import StackConfig
from stack.judge.evaluate import (
    PREDICTOR_LABELS,
    calibration_slope,
    evaluate_predictions,
    score,
    score_by_band,
    to_price,
)

N = 1000
CONFIG = StackConfig(n_bootstrap=300, seed=1)


@pytest.fixture
def price():
    return np.exp(np.random.default_rng(0).normal(2.5, 1.0, size=N))


def noisy(price, sigma, seed):
    rng = np.random.default_rng(seed)
    return price * np.exp(rng.normal(0, sigma, size=len(price)))


def inputs(price):
    predictions = {
        name: np.log1p(noisy(price, sigma, seed)).astype(np.float32)
        for seed, (name, sigma) in enumerate(
            [("lightgbm", 0.8), ("network", 0.5), ("blend", 0.45), ("stacker", 0.3)]
        )
    }
    folds = (np.arange(len(price)) % 4).astype(np.int8)
    image_ok = np.arange(len(price)) % 10 > 0
    return folds, {"predictions": predictions, "image_ok": image_ok, "config": CONFIG}


def test_exact_predictions_score_zero(price):
    scores = score(price, price)
    assert (scores.smape, scores.mae, scores.median_ape) == (0, 0, 0)
    assert scores.r2_log == 1


def test_scores_label_three_different_conventions(price):
    scores = score(price, noisy(price, 0.5, 1))
    assert scores.smape == pytest.approx(2 * scores.smape_half)
    assert scores.smape_log1p < scores.smape_half
    assert 0 < scores.smape_se < 2


def test_r2_is_undefined_where_no_price_varies():
    assert np.isnan(score(np.full(3, 5.0), np.full(3, 4.0)).r2_log)


def test_scores_of_different_shapes_are_refused(price):
    with pytest.raises(
        ValueError, match=r"score: prices must have one shape .*\(1000, 1"
    ):
        score(price, price[:, None])
    with pytest.raises(ValueError, match="at least one row"):
        score(price[:0], price[:0])


def test_predicted_prices_are_at_least_one_cent():
    np.testing.assert_allclose(
        to_price(np.array([-3.0, 0.0, np.log(6)])), [0.01, 0.01, 5]
    )


def test_bands_hold_a_fifth_each_with_their_bounds(price):
    bands = score_by_band(price, {"network": noisy(price, 0.4, 1)})
    assert [band["n"] for band in bands] == [200] * 5
    assert bands[0]["low"] == price.min()
    assert bands[-1]["high"] == price.max()
    for cheaper, dearer in itertools.pairwise(bands):
        assert cheaper["high"] < dearer["low"]


@pytest.mark.parametrize("counts", [(10, 90), (90, 10)])
def test_equal_prices_share_a_band(counts):
    price = np.repeat([5.0, 9.99], counts)
    bands = score_by_band(price, {"exact": price})
    assert [(band["low"], band["high"]) for band in bands] == [(5, 5), (9.99, 9.99)]
    assert tuple(band["n"] for band in bands) == counts


def test_calibration_slope_recovers_how_far_predictions_spread(price):
    assert calibration_slope(price, price**2) == pytest.approx(0.5)
    assert np.isnan(calibration_slope(price, np.full(N, 9.99)))


def test_the_report_lists_every_predictor_in_order_and_is_json(price):
    folds, given = inputs(price)
    report = evaluate_predictions(price, folds, **given)
    assert [row["name"] for row in report["predictors"]] == list(PREDICTOR_LABELS)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    by_name = {row["name"]: row["smape"] for row in report["predictors"]}
    assert report["verdict"]["chosen"] == "stacker"
    assert by_name["chosen"] == by_name["stacker"]
    assert report["image"]["present"]["n"] + report["image"]["absent"]["n"] == N
    assert report["best"] is None


def test_the_constant_median_of_a_fold_never_sees_its_prices(price):
    folds, given = inputs(price)
    cheap = np.where(folds == 0, 1.0, 100.0)
    given["predictions"] = dict.fromkeys(given["predictions"], np.log1p(cheap))
    median = evaluate_predictions(cheap, folds, **given)["predictors"][0]
    assert median["smape"] == pytest.approx(0.25 * 200 * 99 / 101)


def test_unpriced_rows_are_left_out_and_counted(price):
    folds, given = inputs(price)
    kept = evaluate_predictions(price[8:], folds[8:], **{
        **given,
        "predictions": {k: v[8:] for k, v in given["predictions"].items()},
        "image_ok": given["image_ok"][8:],
    })  # fmt: skip
    folds[:8], price[:8] = -1, np.nan
    given["predictions"]["network"][:8] = np.nan
    found = evaluate_predictions(price, folds, **given)
    assert (found.pop("n_unpriced"), kept.pop("n_unpriced")) == (8, 0)
    assert found == kept


def test_the_best_reachable_score_uses_only_rows_whose_law_is_known(price):
    folds, given = inputs(price)
    best_price = np.where(np.arange(N) < 300, price, np.nan)
    best = evaluate_predictions(price, folds, **given, best_price=best_price)["best"]
    assert best["n"] == 300
    assert best["smape"]["best"] == 0 < best["smape"]["chosen"]


def test_an_absent_group_has_no_score(price):
    folds, given = inputs(price)
    given["image_ok"] = np.ones(N, dtype=bool)
    absent = evaluate_predictions(price, folds, **given)["image"]["absent"]
    assert absent["n"] == 0
    assert absent["smape"]["network"] is None


def test_predictions_that_do_not_fit_are_refused(price):
    folds, given = inputs(price)
    good = given["predictions"]

    def refused(**changed):
        given["predictions"] = {**good, **changed}
        evaluate_predictions(price, folds, **given)

    with pytest.raises(ValueError, match=r"stacker must have the shape of folds"):
        refused(stacker=good["stacker"][:5])
    with pytest.raises(ValueError, match=r"blend must be finite .* row 6 \(of 1"):
        refused(blend=np.where(np.arange(N) == 6, np.inf, good["blend"]))
    given["predictions"] = {"network": good["network"]}
    with pytest.raises(ValueError, match="missing: lightgbm, blend, stacker"):
        evaluate_predictions(price, folds, **given)
    given["predictions"] = good
    with pytest.raises(ValueError, match="at least 2 folds"):
        evaluate_predictions(price, np.zeros(N, dtype=np.int8), **given)


def test_copies_of_products_do_not_shrink_the_standard_error():
    rng = np.random.default_rng(0)
    price = np.exp(rng.normal(3, 1, size=200))
    predicted = price * np.exp(rng.normal(0, 0.5, size=200))
    once = score(price, predicted)
    copied = score(np.tile(price, 4), np.tile(predicted, 4), np.tile(np.arange(200), 4))
    assert copied.smape == pytest.approx(once.smape)
    assert copied.smape_se == pytest.approx(once.smape_se)
