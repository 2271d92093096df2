import re
import xml.etree.ElementTree as ET  # of our own making

import numpy as np
import pytest

from finetune.score import smape
from stack.html_report.charts import (
    band_chart,
    calibration_chart,
    coverage_chart,
    density_chart,
    forest_chart,
    residual_chart,
)
from stack.html_report.curves import FoldHistory, loss_chart, smape_chart
from stack.html_report.svg import short_price
from stack.judge.evaluate import PREDICTOR_LABELS, price_bands
from stack.records import (
    Band,
    Coverage,
    CoverageByPhoto,
    CoverageOfBand,
    CoverageOfPart,
    IntervalRecord,
    VerdictRecord,
)

PRICE_CHARTS = [density_chart, residual_chart, calibration_chart]
LABELS = {"lightgbm": "A", "network": "B", "blend": "C", "stacker": "D"}


def prices(n, *, seed=0):
    rng = np.random.default_rng(seed)
    price = np.exp(rng.normal(3, 1.5, n))
    return price, price * np.exp(rng.normal(0, 0.7, n))


def bands(price, predicted):
    return [
        Band(
            low=price[band].min(),
            high=price[band].max(),
            n=int(band.sum()),
            smape=dict.fromkeys(PREDICTOR_LABELS, smape(price[band], predicted[band])),
        )
        for band in price_bands(price)
    ]


def histories(n_folds, *, n_epochs=6, held_out=False):
    epochs = [float(e) for e in range(1, n_epochs + 1)]
    columns = {
        "epoch": epochs,
        "phase": [1.0 + (e > n_epochs / 2) for e in epochs],
        "loss": [1 / e for e in epochs],
        "train_smape": [50 - e for e in epochs],
        "held_out_smape": [55 - e if held_out else float("nan") for e in epochs],
    }
    return [FoldHistory(fold=fold, columns=columns) for fold in range(n_folds)]


def interval(mean, low, high):
    return IntervalRecord(mean=mean, low=low, high=high)


def all_charts():
    price, predicted = prices(500)
    parts = bands(price, predicted)
    verdict = VerdictRecord(
        chosen="stacker",
        interval_network=interval(-1, -2, -0.1),
        interval_blend=interval(0.2, -0.1, 0.4),
        sentence="",
    )
    yield from (chart(price, predicted) for chart in PRICE_CHARTS)
    yield band_chart(parts, LABELS)
    covered = [
        CoverageOfBand(low=band.low, high=band.high, n=band.n, coverage=0.9)
        for band in parts
    ]
    part = CoverageOfPart(n=100, coverage=0.9)
    yield coverage_chart(
        [
            Coverage(
                level=level,
                coverage=0.9,
                width_ratio=2.0,
                score=1.0,
                score_constant=1.1,
                bands=covered,
                by_predicted=covered,
                by_confidence=covered,
                by_photo=CoverageByPhoto(present=part, absent=part),
            )
            for level in (80, 90)
        ]
    )
    yield forest_chart(verdict)
    yield loss_chart(histories(5))
    yield smape_chart(histories(5, held_out=True))


def parse(svg):
    return ET.fromstring(f'<r xmlns:xlink="x">{svg}</r>')[0]  # noqa: S314


def texts(svg):
    return [element.text for element in parse(svg).iter("text")]


@pytest.mark.parametrize("chart", PRICE_CHARTS)
def test_a_chart_of_200_000_products_is_small(chart):
    svg = chart(*prices(200_000))
    assert len(svg.encode()) < 500_000
    assert len(list(parse(svg).iter())) < 3000


def test_prices_spread_over_the_whole_chart_stay_bounded():
    rng = np.random.default_rng(0)
    price, predicted = (10 ** rng.uniform(-2, 6, 200_000) for _ in range(2))
    assert len(density_chart(price, predicted).encode()) < 500_000


def test_charts_are_alike_every_time():
    assert list(all_charts()) == list(all_charts())


def test_charts_share_no_name_on_one_page():
    ids = [name for svg in all_charts() for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) > 100
    assert len(ids) == len(set(ids))


def test_charts_are_described_and_name_nothing_outside():
    for svg in all_charts():
        root = parse(svg)
        assert root.attrib.keys() == {"viewBox", "role", "aria-labelledby"}
        assert [child.tag for child in root[:2]] == ["title", "desc"]
        assert all(child.text for child in root[:2])
        assert "http" not in svg
        assert "metadata" not in svg


@pytest.mark.parametrize("chart", [density_chart, calibration_chart])
def test_price_axes_carry_a_unit_and_round_prices(chart):
    found = texts(chart(*prices(1000)))
    assert "True price, catalog currency" in found
    assert "Predicted price, catalog currency" in found
    assert {"10", "100"} <= set(found)


@pytest.mark.parametrize("chart", PRICE_CHARTS)
@pytest.mark.parametrize("n", [1, 2, 50])
def test_equal_prices_can_be_drawn(chart, n):
    price = np.full(n, 20.0)
    assert len(texts(chart(price, price))) > 2
    assert len(texts(chart(price, price * 1e6))) > 2


def test_the_residual_chart_says_how_far_each_band_is_off():
    price, _ = prices(1000)
    svg = residual_chart(price, 2 * price)
    assert parse(svg)[1].text.count(": 2.00") == 5
    assert {"1×", "2×"} <= set(texts(svg))  # noqa: RUF001


def test_held_out_scores_are_drawn_only_where_recorded():
    without = smape_chart(histories(2))
    assert "NaN" not in without
    assert "nan" not in without
    drawn = smape_chart(histories(2, held_out=True))
    assert drawn.count("stroke-dasharray") > without.count("stroke-dasharray")


def test_many_folds_are_drawn_without_a_legend():
    assert "Fold 1" in texts(loss_chart(histories(10)))
    assert "Fold 1" not in texts(loss_chart(histories(40)))


@pytest.mark.parametrize(
    ("price", "written"),
    [
        *[
            (0.05, "0.05"),
            (2.5, "2.5"),
            (12.34, "12.3"),
            (999.4, "999"),
            (1458, "1.5k"),
            (9999, "10k"),
        ],
        *[(20_000, "20k"), (123_456, "123k"), (3e6, "3M"), (2.5e9, "2.5G")],
    ],
)
def test_short_prices_have_at_most_four_characters(price, written):
    assert short_price(price) == written
    assert len(written) <= 4
