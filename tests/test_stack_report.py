import json

import numpy as np
import pytest

from stack.config import StackConfig
from stack.judge.evaluate import PREDICTOR_LABELS, evaluate_predictions
from stack.judge.nested import judge_by_other_parts
from stack.judge.sureness import measure_intervals, measure_sureness
from stack.tell.lines import WIDTH
from stack.tell.report import format_report

N = 400


def make_report(*, scale=1.0, stacker_sigma=0.3, best=True):
    rng = np.random.default_rng(0)
    price = scale * np.exp(rng.normal(2.5, 1.2, size=N))
    sigmas = {"lightgbm": 0.8, "network": 0.5, "blend": 0.45, "stacker": stacker_sigma}
    folds = np.arange(N) % 5
    predictions = {
        name: np.log1p(price * np.exp(rng.normal(0, sigma, N)))
        for name, sigma in sigmas.items()
    }
    report = evaluate_predictions(
        price,
        folds,
        predictions=predictions,
        image_ok=np.arange(N) % 7 > 0,
        config=StackConfig(n_bootstrap=200),
        best_price=price * 1.1 if best else None,
    )
    log_price = predictions["stacker"]
    nested = judge_by_other_parts(
        log_price, np.log1p(price) - log_price, folds, np.ones((5, N)), price_unit=1
    )
    judged = price, np.expm1(log_price)
    intervals = measure_intervals(
        *judged, nested, has_photo=np.arange(N) % 7 > 0, constant=nested
    )
    report["intervals"] = [part.as_json() for part in intervals]
    unlike = np.arange(N) < 3
    report["confidence"] = measure_sureness(*judged, nested.within, unlike).as_json()
    return json.loads(json.dumps(report))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3, 1e7])
def test_the_report_is_never_wider_than_a_terminal(scale):
    lines = format_report(make_report(scale=scale)).splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert not any(line.endswith(" ") for line in lines)


def test_the_report_says_how_many_prices_the_intervals_hold():
    report = make_report()
    text = " ".join(format_report(report).split())
    for part in report["intervals"]:
        share = f"{100 * part['coverage']:.1f} % of the true prices"
        assert f"{part['level']} % intervals contain {share}" in text


def test_the_report_says_how_far_the_surest_prices_are_off():
    report = make_report()
    text = " ".join(format_report(report).split())
    error = {
        part["share"]: part["median_ape"] for part in report["confidence"]["curve"]
    }
    assert f"{error[0.3]:.1f} % for the surest 30 %" in text
    assert f"{error[1.0]:.1f} % for all." in text
    assert "3 products are unlike the others" in text


def test_the_report_says_where_the_intervals_hold_fewer():
    report = make_report()
    lines = [" ".join(line.split()) for line in format_report(report).splitlines()]
    for part in report["intervals"]:
        shares = " ".join(f"{100 * band['coverage']:.1f} %" for band in part["bands"])
        assert f"{part['level']} % intervals {shares}" in lines


def test_the_report_names_every_predictor_with_its_scores():
    report = make_report()
    text = format_report(report)
    for row in report["predictors"]:
        if row["name"] != "chosen":
            assert PREDICTOR_LABELS[row["name"]] in text
        assert f"{row['smape']:.2f} ± {row['smape_se']:.2f}" in text
    assert "Chosen (stacker)" in text


def test_the_columns_line_up():
    lines = format_report(make_report()).splitlines()
    table = lines[3 : 3 + len(PREDICTOR_LABELS) + 1]
    assert len({len(line) for line in table}) == 1


def test_the_conventions_are_labelled_and_never_compared():
    assert "never compare across conventions" in format_report(make_report())


@pytest.mark.parametrize(
    ("stacker_sigma", "words"),
    [
        (0.3, "Verdict: The stacker is used"),
        (0.9, "Verdict: The network is used alone"),
    ],
)
def test_the_verdict_is_said_in_words(stacker_sigma, words):
    assert words in format_report(make_report(stacker_sigma=stacker_sigma))


def test_the_best_reachable_score_is_shown_only_where_it_is_known():
    assert "Best reachable: SMAPE 9.52" in format_report(make_report())
    assert "Best reachable" not in format_report(make_report(best=False))


def test_products_left_out_are_counted():
    report = {**make_report(), "n_unpriced": 1234}
    assert "(1,234 without a price left out)" in format_report(report)


def test_a_score_that_does_not_exist_is_a_dash():
    report = make_report()
    report["image"]["absent"] = {
        "n": 0, "smape": dict.fromkeys(PREDICTOR_LABELS),
    }  # fmt: skip
    report["calibration_slope"]["network"] = None
    text = format_report(report)
    assert "network -," in text
    assert "None" not in text
