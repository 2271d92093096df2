"""What each block adds to the stacker, in the report."""

import dataclasses

import numpy as np
import pytest
from conftest import TINY_STACK, copy_run

from embed.manifest import read_json
from finetune.smape import smape, to_price
from stack.ablation import fit_without_each, left_out, score_without_each
from stack.config import StackConfig
from stack.fit import evaluate_run, fit_stack
from stack.html_report.page import render_report
from stack.report import format_report

BLOCKS = ("attributes", "network", "start", "kernel", "statistics")
CONFIG = dataclasses.replace(TINY_STACK, blocks=BLOCKS, ablation=True)


@pytest.fixture(scope="module")
def ablated(finished_run, tmp_path_factory):
    """A run whose report says what each block adds. Read-only."""
    run_dir = copy_run(finished_run, tmp_path_factory.mktemp("ablated") / "run")
    fit_stack(run_dir, config=CONFIG)
    return run_dir


def test_what_is_made_of_a_block_goes_with_it():
    assert left_out(("network", "start", "kernel")) == [
        ("network",),
        ("start",),
        ("kernel", "start"),
    ]
    assert left_out(("network", "kernel")) == [("network",), ("kernel",)]


def test_a_lone_block_is_not_left_out():
    assert left_out(("network",)) == []
    assert left_out(("kernel", "start")) == [("start",)]


def test_each_column_is_fitted_without_its_block():
    def fit(blocks):
        asked.append(tuple(blocks))
        return np.full(3, len(blocks), np.float32)

    asked = []
    found = fit_without_each(fit, ("network", "start", "kernel"))
    assert asked == [
        ("network", "start", "kernel"),
        ("start", "kernel"),
        ("network", "kernel"),
        ("network",),
    ]
    assert found.tolist() == [[3, 2, 2, 1]] * 3


def test_the_block_whose_loss_costs_most_comes_first():
    rng = np.random.default_rng(0)
    true = rng.normal(3, 0.5, 300)
    columns = [true + rng.normal(0, sigma, 300) for sigma in (0.2, 0.1, 0.9)]
    config = StackConfig(blocks=("network", "attributes"), n_bootstrap=200)
    groups = np.arange(300)
    found = score_without_each(
        true, np.stack(columns, axis=1), config=config, groups=groups
    )
    assert [part["left_out"] for part in found] == [["attributes"], ["network"]]
    price = to_price(true)
    whole, *others = (smape(price, to_price(column)) for column in columns)
    for part, smape_without in zip(found, others[::-1], strict=True):
        assert part["smape"] == pytest.approx(smape_without)
        assert part["adds"]["mean"] == pytest.approx(smape_without - whole)
    assert found[0]["adds"]["low"] > 0 > found[1]["adds"]["high"]


@pytest.mark.parametrize("names", [(), *left_out(BLOCKS)])
def test_a_column_is_the_stacker_that_never_had_the_block(ablated, tmp_path, names):
    run_dir = copy_run(ablated, tmp_path / "run")
    blocks = tuple(block for block in BLOCKS if block not in names)
    config = dataclasses.replace(CONFIG, blocks=blocks, n_seeds=1, ablation=False)
    fit_stack(run_dir, config=config)
    alone = np.load(run_dir / "stack" / "oof_log_price.npy")
    at = [(), *left_out(BLOCKS)].index(names)
    column = np.load(ablated / "stack" / "ablation.npy")[:, at]
    np.testing.assert_array_equal(column, alone)


def test_the_report_says_what_each_block_adds(ablated):
    report = read_json(ablated / "stack" / "report.json")
    names = [", ".join(part["left_out"]) for part in report["ablation"]]
    assert sorted(names) == sorted(map(", ".join, left_out(BLOCKS)))
    assert evaluate_run(ablated) == report
    text, page = format_report(report), render_report(ablated)
    assert "What each block adds" in text
    for part in report["ablation"]:
        name = ", ".join(part["left_out"])
        assert f"\n  {name:24}{part['adds']['mean']:+9.3f}   [" in text
        assert f'<th scope="row">{name}</th><td>{part["smape"]:.2f}</td>' in page


def test_without_it_nothing_is_fitted_or_said(ablated, tmp_path):
    run_dir = copy_run(ablated, tmp_path / "run")
    config = dataclasses.replace(CONFIG, ablation=False)
    assert fit_stack(run_dir, config=config)["ablation"] == []
    assert not (run_dir / "stack" / "ablation.npy").exists()
    assert "What each block adds" not in render_report(run_dir)
