"""The same catalog in another currency: the same scores, the same prices in it."""

import dataclasses
import json
import re
import shutil
from decimal import Decimal

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_STACK, TINY_TRAINING, choose, copy_run

from embed.catalog.reader import read_catalog
from embed.store.manifest import read_json
from finetune.job import prepare_job
from finetune.out_of_fold import finetune
from finetune.training.tracking import UNTRACKED
from stack.cli import main
from stack.export.export import export_run
from stack.export.predict_file import Columns, price_catalog
from stack.fit import fit_stack
from stack.price.catalog import predict_prices, write_prices
from stack.price.onnx_model import Model
from stack.price.predictor import Predictor
from stack.run import open_run

BLOCKS = ("network", "start", "attributes", "fused")
STACK = dataclasses.replace(
    TINY_STACK,
    n_seeds=1,
    max_rounds=10,
    blocks=(*BLOCKS, "neighbours", "lexical", "kernel", "statistics", "lightgbm"),
)
FACTORS = ["0.001", pytest.param("1000", marks=pytest.mark.slow)]
TRAINING = dataclasses.replace(TINY_TRAINING, seed=0, n_folds=2)


@pytest.fixture(scope="module")
def runs(embedded_run, sample_catalog, tmp_path_factory):
    """The same products, all stages; prices times the factor that is asked for."""
    written = read_catalog(sample_catalog).price_text

    class Runs(dict):
        def __missing__(self, factor):
            prices = [str(Decimal(price) * Decimal(factor)) for price in written]
            folder = tmp_path_factory.mktemp("scaled") / "run"
            run_dir = copy_run(embedded_run, folder, prices=prices)
            finetune(run_dir, config=TRAINING)
            fit_stack(run_dir, config=STACK)
            self[factor] = choose(run_dir, "stacker")
            return run_dir

    return Runs()


def scores(run_dir):
    report = read_json(run_dir / "stack" / "report.json")
    return {row["name"]: row for row in report["predictors"]}


def call(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("factor", FACTORS)
def test_powers_of_ten_score_alike(runs, factor):
    found, expected = scores(runs[factor]), scores(runs["1"])
    for name, row in expected.items():
        for column in ("smape", "smape_se", "smape_half", "median_ape", "r2_log"):
            assert found[name][column] == pytest.approx(row[column], abs=1e-3), name
        scaled = pytest.approx(float(factor) * row["mae"], rel=1e-4)
        assert found[name]["mae"] == scaled


@pytest.mark.slow
def test_any_other_factor_scores_nearly_alike(runs):
    found, expected = scores(runs["83.2"]), scores(runs["1"])
    # Not the blend: of networks that have hardly learned, its weights are large.
    for name in ("median", "lightgbm", "network", "stacker"):
        smape = pytest.approx(expected[name]["smape"], abs=3.0)
        assert found[name]["smape"] == smape, name


def test_the_unit_is_recorded_with_the_networks(runs):
    assert [open_run(runs[factor]).price_unit for factor in ("0.001", "1")] == [
        0.001,
        1,
    ]


def priced(run_dir, catalog, images_dir, **options):
    return predict_prices(
        run_dir, catalog, images_dir=images_dir, n_threads=1, **options
    )


@pytest.mark.parametrize("factor", FACTORS)
def test_predictions_are_in_the_currency_of_the_catalog(
    runs, factor, sample_catalog, tmp_path
):
    catalog, photos = read_catalog(sample_catalog), sample_catalog.parent / "images"
    found = priced(runs[factor], catalog, photos)
    expected = priced(runs["1"], catalog, photos)
    for name in ("price", "price_low", "price_high"):
        scaled = float(factor) * getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), scaled, rtol=1e-3)
    write_prices(tmp_path / "prices.csv", catalog, found, intervals=True)
    text = (tmp_path / "prices.csv").read_text()
    values = [float(cell) for line in text.split()[1:] for cell in line.split(",")[1:]]
    np.testing.assert_allclose(values[::3], found.price, rtol=2e-3)


def test_what_is_shown_of_tiny_prices_is_never_nothing(runs, sample_catalog):
    run_dir = runs["0.001"]
    sample_id = str(read_catalog(sample_catalog).sample_id[0])
    explained = ("explain", "--run", run_dir, "--sample-id", sample_id)
    text = call("evaluate", "--run", run_dir) + call(*explained, "--grid", 0)
    prices = text.replace("+0.00 %", "").replace("-0.00 %", "").replace("± 0.00", "")
    # A score, a share or a difference of scores may be 0.00; a price is not.
    assert not re.search(r"(?:Price|price is|interval is|to) [+-]?0\.0+[ ,;-]", prices)
    assert "log(1 + price / 0.001)" in " ".join(text.split())
    bands = next(line for line in text.splitlines() if "SMAPE by true price" in line)
    assert "0.00-" not in bands


def test_an_explanation_is_in_the_currency_of_the_catalog(runs, sample_catalog):
    sample_id = str(read_catalog(sample_catalog).sample_id[0])

    def explain(factor):
        asked = ("--run", runs[factor], "--sample-id", sample_id, "--json")
        return json.loads(call("explain", *asked, "--grid", 0))

    found, expected = explain("0.001"), explain("1")
    assert found["price_unit"] == 0.001
    for name in ("price", "true_price", "priced_at"):
        assert found[name] == pytest.approx(expected[name] / 1000, rel=1e-3)
    total = sum(part["log_price"] for part in found["parts"])
    assert 0.001 * np.expm1(total) == pytest.approx(found["price"], rel=1e-4)


@pytest.mark.slow
def test_an_audit_takes_prices_for_what_they_are(runs):
    def figures(factor):
        text = CliRunner().invoke(main, ["audit", "--run", str(runs[factor])]).stdout
        return [line for line in text.splitlines() if "priced again" not in line]

    assert figures("0.001") == figures("1")
    assert any(line.startswith("pass  recorded scores") for line in figures("1"))


def test_a_run_that_records_no_unit_counts_in_the_currency_itself(runs, tmp_path):
    run_dir = shutil.copytree(runs["1"], tmp_path / "run")
    path = run_dir / "finetune" / "manifest.json"
    manifest = read_json(path)
    del manifest["price_unit"]
    path.write_text(json.dumps(manifest))
    assert open_run(run_dir).price_unit == 1
    finetune(run_dir, config=TRAINING)  # up to date
    assert "price_unit" not in read_json(path)
    assert Predictor(run_dir, n_threads=1).run.price_unit == 1


@pytest.mark.slow
def test_an_export_is_in_the_currency_of_the_catalog(runs, sample_catalog, tmp_path):
    greatest = export_run(runs["0.001"], tmp_path / "model")
    assert greatest is not None  # the check compared both
    photos = sample_catalog.parent / "images"
    found = price_catalog(
        Model(tmp_path / "model"), sample_catalog, photos, Columns(level=90)
    )
    expected = priced(runs["0.001"], read_catalog(sample_catalog), photos)
    prices = [[float(cell) for cell in row[1:]] for row in found]
    columns = (expected.price, expected.price_low, expected.price_high)
    np.testing.assert_allclose(prices, np.column_stack(columns), rtol=0.02)


@pytest.mark.parametrize(("factor", "is_warned"), [("0.001", True), ("1", False)])
def test_recipe_paper_takes_prices_as_they_are_and_warns_of_small_ones(
    runs, factor, is_warned, caplog
):
    config = dataclasses.replace(TRAINING, recipe="paper")
    job = prepare_job(runs[factor], config, False, UNTRACKED)
    assert job.price_unit == 1
    np.testing.assert_array_equal(job.log_price, np.log1p(job.price))
    assert ("Expect poor scores" in caplog.text) is is_warned
