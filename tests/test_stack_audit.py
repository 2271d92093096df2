"""The audit passes a run without leaks, and fails it with each leak made on purpose."""

import dataclasses

import numpy as np
import pytest
from conftest import copy_run, record_anew
from test_stack_cli import assert_one_line, call

import stack.audit.features
import stack.audit.shuffled_prices
from embed.catalog.reader import read_catalog
from embed.chunks import prepared_chunks
from embed.store.manifest import read_json, sha256_strings, write_json
from finetune.score import smape, to_price
from stack.audit.checks import audit_run
from stack.price.predictor import Predictor
from stack.run import Run
from stack.trees.residual import fit_out_of_fold

CHECKS = [
    *("duplicates", "ids", "recorded scores", "soundness"),
    *("canary", "shuffled prices", "priced again"),
]


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return copy_run(finished_run, tmp_path / "run")


def audit(run_dir, *, n_products=12):
    return {
        check.name: check
        for check in audit_run(run_dir, n_products=n_products, n_threads=1)
    }


def one_check(run_dir, name):
    """Return one check; those that come after it are not run."""
    checks = audit_run(run_dir, n_products=12, n_threads=1)
    return next(check for check in checks if check.name == name)


def failed(run_dir):
    return {name for name, check in audit(run_dir).items() if not check.passed}


def put(run_dir, name, array):
    """Change an array on purpose, and let its stage take it for whole."""
    stage, _, file = name.partition("/")
    before = np.load(run_dir / f"{name}.npy")
    np.save(run_dir / f"{name}.npy", array.astype(before.dtype))
    record_anew(run_dir / stage, [f"{file}.npy"])


def load(run_dir, name):
    return np.load(run_dir / f"{name}.npy")


def by_networks_that_saw(run_dir, catalog_path):
    """Price each product of a run by a network that has been trained on it."""
    catalog = read_catalog(catalog_path)
    folds, log_price = load(run_dir, "finetune/folds"), np.empty(catalog.n_products)
    for fold in range(3):
        predictor = Predictor(run_dir, n_threads=1, folds=[(fold + 1) % 3])
        inputs = predictor.inputs(catalog, catalog_path.parent / "images")
        chunks = prepared_chunks(inputs, predictor.config, 0)
        found = [predictor.predict(chunk).network_log_price for chunk in chunks]
        log_price[folds == fold] = np.concatenate(found)[folds == fold]
    return log_price


def test_a_run_without_leaks_passes_each_check(finished_run):
    found = audit(finished_run)
    assert list(found) == CHECKS
    assert [check.detail for check in found.values() if not check.passed] == []
    asked = ("audit", "--run", finished_run, "--products", 6, "--threads", 1)
    result = call(*asked)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if ": " in line]
    assert [line.split(":")[0] for line in lines] == [f"pass  {c}" for c in CHECKS]


def test_prices_by_networks_that_saw_them_fail(run_dir, sample_catalog):
    in_sample = by_networks_that_saw(run_dir, sample_catalog)
    put(run_dir, "finetune/oof_log_price", in_sample)
    assert failed(run_dir) == {"recorded scores", "priced again"}
    # A run that recorded what it leaked is still found out.
    path = run_dir / "finetune" / "manifest.json"
    manifest = read_json(path)
    price, folds = load(run_dir, "finetune/price"), load(run_dir, "finetune/folds")
    for fold in manifest["folds"]:
        own = folds == fold["fold"]
        fold["held_out_smape"] = smape(price[own], to_price(in_sample[own]))
    write_json(path, manifest)
    assert failed(run_dir) == {"priced again"}
    result = call("audit", "--run", run_dir, "--products", 6, "--threads", 1)
    assert result.exit_code == 1
    assert "\nFAIL  priced again: 6 products, difference from" in result.stdout
    assert result.stdout.count("FAIL") == 1


def test_stacked_prices_by_boosters_that_saw_them_fail(run_dir):
    path = run_dir / "stack" / "manifest.json"
    write_json(path, {**read_json(path), "chosen": "stacker"})
    assert failed(run_dir) == set()
    stacked = load(run_dir, "stack/oof_log_price")
    put(run_dir, "stack/oof_log_price", stacked + 0.05)
    found = audit(run_dir)
    assert {name for name, check in found.items() if not check.passed} == {
        "priced again"
    }
    assert "stacker 0.05" in found["priced again"].detail


def test_prices_that_are_nearly_the_true_ones_fail(run_dir):
    price = load(run_dir, "finetune/price")
    put(run_dir, "stack/blend_log_price", np.log1p(price * 1.02))
    assert failed(run_dir) == {"canary"}


def test_duplicates_in_two_folds_fail(run_dir, sample_catalog):
    texts = read_catalog(sample_catalog).text
    first, second = next(
        (texts.index(text), row)
        for row, text in enumerate(texts)
        if text and texts.index(text) < row
    )
    folds, groups = load(run_dir, "finetune/folds"), load(run_dir, "finetune/groups")
    folds[second] = (folds[first] + 1) % 3
    put(run_dir, "finetune/folds", folds)
    assert not one_check(run_dir, "duplicates").passed
    # Groups that hide the duplicates from the run do not hide them from the audit.
    groups[second] = second
    put(run_dir, "finetune/groups", groups)
    found = one_check(run_dir, "duplicates")
    assert not found.passed
    assert "1 texts" in found.detail
    assert "0 groups" in found.detail


def test_a_column_in_the_order_of_rows_fails(run_dir):
    fused = load(run_dir, "stack/fused")
    fused[:, 7] = np.arange(len(fused)) / 10
    put(run_dir, "stack/fused", fused)
    found = one_check(run_dir, "ids")
    assert not found.passed
    assert "stack/fused-7 (rank correlation 1.00)" in found.detail


@pytest.mark.parametrize("name", ["embed/attributes", "embed/text", "embed/image"])
def test_a_column_of_hashed_ids_fails(finished_run, monkeypatch, name):
    array = Run.array

    def with_ids(run, asked):
        found = array(run, asked)
        if asked != name:
            return found
        found = np.array(found)
        ids = [sha256_strings([str(i)]) for i in array(run, "embed/sample_id")]
        found[:, 0] = [int(one[:3], 16) / 4096 for one in ids]
        return found

    assert one_check(finished_run, "ids").passed
    monkeypatch.setattr(Run, "array", with_ids)
    found = one_check(finished_run, "ids")
    assert not found.passed
    assert "; 0 of" not in found.detail


def test_boosters_that_see_the_rows_they_are_judged_on_fail(finished_run, monkeypatch):
    def fit_in_sample(matrix, log_price, **given):
        honest = fit_out_of_fold(matrix, log_price, **given)
        half_way = (honest.out_of_fold + log_price) / 2
        return dataclasses.replace(honest, out_of_fold=half_way)

    monkeypatch.setattr(stack.audit.shuffled_prices, "fit_out_of_fold", fit_in_sample)
    assert failed(finished_run) == {"shuffled prices"}


def test_ids_are_ordered_as_numbers_or_as_words():
    order = stack.audit.features._order_of_ids
    assert np.argsort(order(np.array(["9", "10", "100"]))).tolist() == [0, 1, 2]
    assert np.argsort(order(np.array(["b9", "b10", "a100"]))).tolist() == [2, 1, 0]


def test_a_run_that_is_not_finished_is_one_line(embedded_run, tmp_path):
    assert_one_line(call("audit", "--run", tmp_path / "none"), "not finished")
    assert_one_line(call("audit", "--run", embedded_run), "make finetune")
