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

from embed.catalog import read_catalog
from embed.manifest import read_json
from finetune.out_of_fold import finetune
from stack.cli import main
from stack.fit import fit_stack
from stack.predict import Predictor
from stack.predict_catalog import predict_prices, write_prices
from stack.run import open_run

FACTORS = ("0.001", "1", "1000", "83.2")
BLOCKS = ("network", "start", "attributes", "fused")
STACK = dataclasses.replace(
    TINY_STACK,
    n_seeds=1,
    max_rounds=10,
    blocks=(*BLOCKS, "neighbours", "lexical", "kernel", "statistics", "lightgbm"),
)
TRAINING = dataclasses.replace(TINY_TRAINING, n_folds=2)


@pytest.fixture(scope="module")
def runs(embedded_run, sample_catalog, tmp_path_factory):
    """The same products, all stages, in one currency after another."""
    written = read_catalog(sample_catalog).price_text
    found = {}
    for factor in FACTORS:
        prices = [str(Decimal(price) * Decimal(factor)) for price in written]
        folder = tmp_path_factory.mktemp("scaled") / "run"
        run_dir = copy_run(embedded_run, folder, prices=prices)
        finetune(run_dir, config=TRAINING)
        fit_stack(run_dir, config=STACK)
        found[factor] = choose(run_dir, "stacker")
    return found


def scores(run_dir):
    report = read_json(run_dir / "stack" / "report.json")
    return {row["name"]: row for row in report["predictors"]}


def call(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("factor", ["0.001", "1000"])
def test_powers_of_ten_score_alike(runs, factor):
    found, expected = scores(runs[factor]), scores(runs["1"])
    for name, row in expected.items():
        for column in ("smape", "smape_se", "smape_half", "median_ape", "r2_log"):
            assert found[name][column] == pytest.approx(row[column], abs=1e-3), name
        scaled = pytest.approx(float(factor) * row["mae"], rel=1e-4)
        assert found[name]["mae"] == scaled


def test_any_other_factor_scores_nearly_alike(runs):
    found, expected = scores(runs["83.2"]), scores(runs["1"])
    for name, row in expected.items():
        assert found[name]["smape"] == pytest.approx(row["smape"], abs=3.0), name
