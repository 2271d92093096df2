"""Products that no stage is trained on: by date, and at random."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_STACK, TINY_TRAINING, choose, copy_run, record_anew

from embed.catalog.columns import CatalogColumns
from embed.catalog.own_copy import CATALOG_NAME, read_run_catalog, write_run_catalog
from embed.catalog.reader import read_catalog
from embed.errors import ConfigError
from embed.extract import extract
from embed.records import require_embedded
from embed.sample.law import write_sample
from embed.store.arrays import read_rows
from embed.store.manifest import require_stage
from finetune.job import prepare_job
from finetune.out_of_fold import finetune
from finetune.records import FinetuneManifest
from finetune.training.tracking import UNTRACKED
from stack.audit.checks import audit_run
from stack.cli import main
from stack.fit import evaluate_run, fit_stack
from stack.html_report.page import render_report
from stack.judge.baselines import fit_ridge
from stack.judge.periods import log_bias
from stack.price.catalog import predict_prices
from stack.records import Report
from stack.tell.lines import WIDTH
from stack.tell.report import format_report

COLUMNS = CatalogColumns(groups=("seller",), time="sold")
TRAINING = dataclasses.replace(TINY_TRAINING, seed=0, smape_epochs=0)
STACK = dataclasses.replace(
    TINY_STACK, blocks=(*TINY_STACK.blocks, "start", "kernel", "lexical", "statistics")
)
N = 48
TEST_FROM = "2024-04-01"


def write_dated_catalog(folder):
    """Write products sold in four months by twelve sellers; one has no date."""
    path = write_sample(folder, n_products=N)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["sold"] = f"2024-{1 + number % 4:02}-{1 + number % 28:02}"
        row["seller"] = f"seller {number // 4}" if number < 24 else ""
    rows[9]["sold"] = "soon"
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    return path


@pytest.fixture(scope="module")
def dated_run(tiny_config, shared):
    """An embedded run with a time column and a group column."""

    def embed(folder):
        catalog = read_catalog(write_dated_catalog(folder), columns=COLUMNS)
        images_dir = folder / "images"
        extract(catalog, folder / "run", images_dir=images_dir, config=tiny_config)

    return shared("dated", embed) / "run"


def train(run_dir, **settings):
    config = dataclasses.replace(TRAINING, **settings)
    finetune(run_dir, config=config, drop_unpriced=True)
    fit_stack(run_dir, config=STACK)
    return run_dir


@pytest.fixture(scope="module")
def tested_run(dated_run, shared):
    """A finished run that holds out the products of April."""

    def make(folder):
        train(copy_run(dated_run, folder / "run"), test_from=TEST_FROM)

    return shared("tested", make) / "run"


def load(run_dir, name):
    return np.array(read_rows(run_dir / f"{name}.npy"))


def prices_of(run_dir):
    return list(read_run_catalog(run_dir, require_embedded(run_dir)).price_text)


def artefacts(run_dir):
    """Return the bytes of all that a run has learned."""
    names = ("*.npy", "*.safetensors", "booster-*.txt")
    return {
        path.relative_to(run_dir).as_posix(): path.read_bytes()
        for stage in ("finetune", "stack")
        for name in names
        for path in sorted((run_dir / stage).rglob(name))
    }


def test_later_products_have_neither_fold_nor_price_in_any_stage(tested_run):
    folds, price = (
        load(tested_run, "finetune/folds"),
        load(tested_run, "finetune/price"),
    )
    held_out = load(tested_run, "finetune/held_out")
    sold = read_run_catalog(tested_run, require_embedded(tested_run)).time
    assert held_out.sum() == 12 - sum(p == "" for p in prices_of(tested_run)[3::4])
    assert all((sold[row] >= TEST_FROM) for row in np.flatnonzero(held_out))
    assert all((sold[row] < TEST_FROM) for row in np.flatnonzero(folds >= 0))
    assert (folds[held_out] == -1).all()
    assert np.isnan(price[folds < 0]).all()
    assert folds[9] == -1
    assert not held_out[9]
    manifest = require_stage(tested_run, FinetuneManifest)
    assert (manifest.n_held_out, manifest.n_undated) == (held_out.sum(), 1)


def with_other_prices(run_dir, to, rows):
    """Copy an embedded run with wildly other prices in some rows."""
    prices = prices_of(run_dir)
    for row in rows:
        prices[row] = f"{1e6 * (row + 1):.0f}"
    return copy_run(run_dir, to, prices=prices)


@pytest.mark.slow  # test_later_products_have_neither_… is quick
def test_later_prices_change_no_byte_of_what_is_learned(
    dated_run, tested_run, tmp_path
):
    later = np.flatnonzero(load(tested_run, "finetune/held_out"))
    wild = with_other_prices(dated_run, tmp_path / "wild", later)
    train(wild, test_from=TEST_FROM)
    expected, actual = artefacts(tested_run), artefacts(wild)
    assert expected.keys() == actual.keys()
    assert [name for name in expected if expected[name] != actual[name]] == []
    assert len(expected) > 30
    scores = [evaluate_run(run)["held_out"] for run in (tested_run, wild)]
    by_name = [{row["name"]: row["smape"] for row in s["predictors"]} for s in scores]
    assert all(by_name[1][name] > by_name[0][name] + 50 for name in by_name[0])
    # An earlier price does reach the networks of two folds.
    first = with_other_prices(dated_run, tmp_path / "first", [0])
    config = dataclasses.replace(TRAINING, test_from=TEST_FROM)
    finetune(first, config=config, drop_unpriced=True)
    other = artefacts(first)
    models = [name for name in expected if name.endswith(".safetensors")]
    assert sum(expected[name] != other[name] for name in models) >= 2


def test_the_same_networks_serve_when_only_later_prices_change(tested_run, tmp_path):
    run_dir = copy_run(tested_run, tmp_path / "run")
    before = require_stage(run_dir, FinetuneManifest)
    later = np.flatnonzero(load(run_dir, "finetune/held_out"))
    changed = with_other_prices(run_dir, tmp_path / "changed", later)
    config = dataclasses.replace(TRAINING, test_from=TEST_FROM)
    assert finetune(changed, config=config, drop_unpriced=True) == before


def test_dates_are_recorded_anew_without_training_again(tested_run, tmp_path):
    run_dir = copy_run(tested_run, tmp_path / "run")
    config = dataclasses.replace(TRAINING, test_from="2024-03-30")  # the same products
    manifest = finetune(run_dir, config=config, drop_unpriced=True)
    before = require_stage(tested_run, FinetuneManifest)
    assert (manifest.key, manifest.files) == (before.key, before.files)
    assert manifest.dates.test_from == "2024-03-30"
    assert require_stage(run_dir, FinetuneManifest) == manifest
    assert evaluate_run(run_dir)["held_out"]["test_from"] == "2024-03-30"


def test_a_single_group_has_a_bias_without_an_interval():
    price, predicted = np.array([1.0, 2.0]), np.array([2.0, 4.0])
    bias = log_bias(price, predicted, np.array([3, 3]))
    assert bias.as_json() == {
        "mean": pytest.approx(np.log(2)),
        "low": None,
        "high": None,
    }


def test_held_out_products_get_the_prices_that_the_run_serves(
    tested_run, dated_run, tmp_path
):
    rows = np.flatnonzero(load(tested_run, "finetune/held_out"))
    catalog = read_run_catalog(tested_run, require_embedded(tested_run))
    for chosen in ("network", "stacker"):
        run_dir = choose(copy_run(tested_run, tmp_path / chosen), chosen)
        images_dir = dated_run.parent / "images"
        served = predict_prices(run_dir, catalog, images_dir=images_dir, n_threads=1)
        stored = np.expm1(load(run_dir, f"stack/held_out/{chosen}"))
        np.testing.assert_allclose(served.price[rows], stored, rtol=0.02)


def test_the_report_scores_them_apart_and_the_verdict_does_not_use_them(tested_run):
    report = evaluate_run(tested_run)
    held_out = report["held_out"]
    Report.model_validate(report)
    rows = np.flatnonzero(load(tested_run, "finetune/held_out"))
    assert held_out["n"] == len(rows)
    assert held_out["n"] + report["n_products"] + report["n_unpriced"] + 1 == N
    assert held_out["known"]["n"] + held_out["new"]["n"] == len(rows)
    # Sellers 0 to 5 sell in April and before.
    assert held_out["known"]["n"] >= 5
    names = [row["name"] for row in held_out["predictors"]]
    assert names == [
        "median", "ridge", "lightgbm", "network", "blend", "stacker", "chosen",
    ]  # fmt: skip
    by_name = {row["name"]: row for row in held_out["predictors"]}
    chosen = by_name[report["verdict"]["chosen"]]
    assert chosen["smape"] == by_name["chosen"]["smape"]
    for row in held_out["predictors"][:-1]:
        gap = row["difference"]
        assert gap["mean"] == pytest.approx(chosen["smape"] - row["smape"])
        assert gap["low"] <= gap["mean"] <= gap["high"]


def test_periods_keep_later_products_apart(tested_run):
    periods = evaluate_run(tested_run)["periods"]
    assert [row["period"] for row in periods] == [
        "2024-01", "2024-02", "2024-03", "2024-04, held out",
    ]  # fmt: skip
    n_held_out = int(load(tested_run, "finetune/held_out").sum())
    assert [row["n_held_out"] for row in periods] == [0, 0, 0, n_held_out]
    for row in periods:
        assert row["bias"]["low"] < row["bias"]["mean"] < row["bias"]["high"]


def test_all_reports_show_them(tested_run):
    text = format_report(evaluate_run(tested_run))
    assert max(map(len, text.splitlines())) <= WIDTH
    joined = " ".join(text.split())
    n = int(load(tested_run, "finetune/held_out").sum())
    assert f"Held-out products: {n} dated {TEST_FROM} or later." in joined
    assert f"; {n} more are held out, see below" in joined
    for part in ("TF-IDF ridge", "2024-04, held out", "1 products without a date"):
        assert part in joined
    page = render_report(tested_run)
    assert 'id="held-out"' in page
    assert "2024-04, held out" in page


def test_a_csv_lists_them_apart_from_out_of_fold_prices(tested_run):
    with (tested_run / "stack" / "held_out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = np.flatnonzero(load(tested_run, "finetune/held_out"))
    ids = load(tested_run, "embed/sample_id")
    assert [line["sample_id"] for line in lines] == ids[rows].tolist()
    written = [float(line["price"]) for line in lines]
    true = [float(prices_of(tested_run)[row]) for row in rows]
    assert written == pytest.approx(true)


def test_the_audit_finds_a_later_product_that_is_trained_on(tested_run, tmp_path):
    checks = {check.name: check for check in audit_run(tested_run, n_threads=1)}
    assert checks["held out"].passed, checks["held out"].detail
    run_dir = copy_run(tested_run, tmp_path / "run")
    path = run_dir / "finetune" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["dates"]["test_from"] = "2024-03-01"
    path.write_text(json.dumps(manifest))
    check = next(c for c in audit_run(run_dir, n_threads=1) if c.name == "held out")
    assert not check.passed


def test_a_random_draw_holds_out_whole_groups(dated_run, tmp_path):
    run_dir = train(copy_run(dated_run, tmp_path / "run"), hold_out=0.2)
    held_out = load(run_dir, "finetune/held_out")
    groups, folds = load(run_dir, "finetune/groups"), load(run_dir, "finetune/folds")
    assert not np.isin(groups[held_out], groups[folds >= 0]).any()
    report = evaluate_run(run_dir)
    assert report["held_out"]["known"]["n"] == 0
    assert report["held_out"]["test_from"] is None
    assert "drawn at random" in format_report(report)
    assert all("held out" not in row["period"] for row in report["periods"])


def test_products_of_one_group_share_a_fold(dated_run, tmp_path):
    run_dir = copy_run(dated_run, tmp_path / "run")
    config = dataclasses.replace(TRAINING, smooth_l1_epochs=1, test_from="none")
    finetune(run_dir, config=config, drop_unpriced=True)
    folds = load(run_dir, "finetune/folds")
    for seller in range(6):
        own = folds[4 * seller : 4 * seller + 4]
        assert len(np.unique(own[own >= 0])) == 1
    assert not (run_dir / "finetune" / "held_out.npy").exists()
    assert require_stage(run_dir, FinetuneManifest).n_held_out == 0


def test_one_group_of_all_products_is_refused_and_a_large_one_is_mentioned(
    dated_run, tmp_path, caplog
):
    run_dir = copy_run(dated_run, tmp_path / "run")
    path = tmp_path / "catalog.csv"
    with (dated_run.parent / "catalog.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    config = dataclasses.replace(TRAINING, smooth_l1_epochs=1, test_from="none")
    for n_of_seller in (N, 20):
        for number, row in enumerate(rows):
            row["seller"] = "Ann" if number < n_of_seller else ""
        with path.open("w", newline="") as file:
            lines = csv.DictWriter(file, list(rows[0]))
            lines.writeheader()
            lines.writerows(rows)
        write_run_catalog(read_catalog(path, columns=COLUMNS), run_dir / "embed")
        record_anew(run_dir / "embed", [CATALOG_NAME])
        if n_of_seller == N:
            with pytest.raises(ConfigError, match=r"is 1, got 3.*photo or group count"):
                finetune(run_dir, config=config, drop_unpriced=True)
    prepare_job(run_dir, config, True, UNTRACKED)
    assert "have the same cell of 'seller'" in caplog.text


def test_predict_tells_how_late_new_products_are(tested_run, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text(
        "sample_id,catalog_content,sold\n1,Item Name: tea,2024-04-05\n"
        "2,Item Name: tea,2024-06-30\n3,Item Name: tea,soon\n"
    )
    out = tmp_path / "prices.csv"
    run = ["predict", str(path), "--run", str(tested_run), "--out", str(out)]
    output = CliRunner().invoke(main, [*run, "--threads", "1", "--flags"]).output
    assert "the last product that the run was trained on (2024-03-" in output
    assert "1 of 3 products are more than" in output
    with out.open(newline="") as file:
        flags = [line["flags"] for line in csv.DictReader(file)]
    assert ["days after the last trained" in flag for flag in flags] == [
        False, True, False,
    ]  # fmt: skip


def test_the_ridge_learns_from_words():
    rng = np.random.default_rng(0)
    words = np.array(["cup", "bowl", "sword", "helmet"])
    names = rng.integers(0, 4, 200)
    texts = [f"old {words[name]} {row}" for row, name in enumerate(names)]
    log_price = names + rng.normal(0, 0.1, 200)
    predicted = fit_ridge(
        texts[:150], log_price[:150], texts[150:], groups=np.arange(150), seed=0
    )
    assert np.abs(predicted - log_price[150:]).mean() < 0.3
