"""What each block adds to the stacker, in the report."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_STACK, copy_run

from embed.store.manifest import read_json
from finetune.score import smape, smape_rows, to_price
from stack.cli import main
from stack.config import StackConfig
from stack.fit import evaluate_run, fit_stack
from stack.html_report.page import render_report
from stack.judge.ablation import (
    fit_without_each,
    left_out,
    read_without_each,
    score_without_each,
)
from stack.tell.lines import WIDTH
from stack.tell.numbers import block_names, signed
from stack.tell.report import format_report

BLOCKS = ("attributes", "network", "start", "kernel", "statistics")
CONFIG = dataclasses.replace(TINY_STACK, blocks=BLOCKS, ablation=True)


@pytest.fixture(scope="module")
def ablated(finished_run, tmp_path_factory):
    """A run whose report says what each block adds. Read-only."""
    run_dir = copy_run(finished_run, tmp_path_factory.mktemp("ablated") / "run")
    fit_stack(run_dir, config=CONFIG)
    return run_dir


def test_what_is_made_of_a_block_goes_with_it():
    assert left_out(("fused", "network", "start", "kernel")) == [
        ("fused",),
        ("kernel", "start"),
    ]
    assert left_out(("network", "kernel")) == [("kernel",)]


def test_a_lone_block_is_not_left_out(tmp_path):
    for blocks in (("network",), ("fused",), ("kernel", "start"), ("network", "start")):
        assert left_out(blocks) == []
    fit_without_each(None, ("fused",), tmp_path / "none")
    assert read_without_each(("fused",), tmp_path / "none") == {}
    assert score_without_each(np.ones(2), {}, groups=np.arange(2)) == []


def test_each_is_fitted_without_its_block_once(tmp_path):
    def fit(blocks):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(tuple(blocks))
        return np.full(3, len(blocks), np.float32)

    asked = []
    blocks = ("network", "start", "kernel", "fused")
    with pytest.raises(KeyboardInterrupt):
        fit_without_each(fit, blocks, tmp_path)
    assert read_without_each(blocks, tmp_path) is None
    done, asked = asked, []
    fit_without_each(fit, blocks, tmp_path)
    assert done == [blocks, ("network", "fused")]
    assert asked == [("network", "start", "kernel")]
    found = read_without_each(blocks, tmp_path)
    assert {names: of.tolist() for names, of in found.items()} == {
        (): [4, 4, 4],
        ("kernel", "start"): [2, 2, 2],
        ("fused",): [3, 3, 3],
    }


def test_the_block_whose_loss_costs_most_comes_first():
    rng = np.random.default_rng(0)
    true = rng.normal(3, 0.5, 300)
    sigmas = {(): 0.2, ("fused",): 0.1, ("kernel", "start"): 0.9}
    of = {names: true + rng.normal(0, s, 300) for names, s in sigmas.items()}
    whole, *others = score_without_each(true, of, groups=np.arange(300))
    assert whole.left_out == []
    assert whole.adds is whole.adds_se is None
    assert [part.left_out for part in others] == [["kernel", "start"], ["fused"]]
    price = to_price(true)
    for part in (whole, *others):
        predicted = to_price(of[tuple(part.left_out)])
        assert part.smape == pytest.approx(smape(price, predicted))
    for part in others:
        assert part.adds == pytest.approx(part.smape - whole.smape)
        difference = smape_rows(price, to_price(of[tuple(part.left_out)]))
        difference -= smape_rows(price, to_price(of[()]))
        assert part.adds_se == pytest.approx(difference.std(ddof=1) / 300**0.5)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("names", [(), *left_out(BLOCKS)])
def test_a_price_is_the_stackers_that_never_had_the_block(ablated, tmp_path, names):
    run_dir = copy_run(ablated, tmp_path / "run")
    blocks = tuple(block for block in BLOCKS if block not in names)
    config = dataclasses.replace(CONFIG, blocks=blocks, n_seeds=1, ablation=False)
    fit_stack(run_dir, config=config)
    alone = np.load(run_dir / "stack" / "oof_log_price.npy")
    without = read_without_each(BLOCKS, ablated / "stack" / "ablation")[names]
    np.testing.assert_array_equal(without, alone)


def test_trials_are_for_the_stacker_alone(ablated, tmp_path):
    run_dir = copy_run(ablated, tmp_path / "run")
    fit_stack(run_dir, config=dataclasses.replace(CONFIG, n_trials=1))
    for path in (ablated / "stack" / "ablation").iterdir():
        assert (run_dir / "stack" / "ablation" / path.name).read_bytes() == (
            path.read_bytes()
        )


def test_the_report_says_what_each_block_adds(ablated):
    report = read_json(ablated / "stack" / "report.json")
    assert evaluate_run(ablated) == report
    text, page = format_report(report), render_report(ablated)
    whole, *others = report["ablation"]
    assert f"\n  all {whole['smape']:>46.2f}\n" in text
    assert f'<th scope="row">all</th><td>{whole["smape"]:.2f}</td>' in page
    assert {tuple(part["left_out"]) for part in others} == set(left_out(BLOCKS))
    assert "\n  without attributes (sizes, table columns) " in text
    for part in others:
        name = f"without {block_names(part['left_out'])}"
        difference = f"{part['adds']:+.2f} ± {part['adds_se']:.2f}"
        assert f"\n  {name:42}{part['smape']:8.2f}{difference:>22}\n" in text + "\n"
        row = f'<th scope="row">{name}</th><td>{part["smape"]:.2f}</td>'
        assert f"{row}<td>{signed(part['adds'])} ± {part['adds_se']:.2f}</td>" in page
    assert max(map(len, text.splitlines())) <= WIDTH


def test_without_it_nothing_is_fitted_or_said_until_it_is_asked_for(ablated, tmp_path):
    run_dir = copy_run(ablated, tmp_path / "run")
    config = dataclasses.replace(CONFIG, seed=1, ablation=False)
    assert fit_stack(run_dir, config=config)["ablation"] == []
    assert not (run_dir / "stack" / "ablation").exists()
    report_path = run_dir / "stack" / "report.json"
    assert "What each block adds" not in render_report(run_dir)
    assert "What each block adds" not in format_report(read_json(report_path))
    before = {
        path.name: path.read_bytes() for path in (run_dir / "stack").glob("booster-*")
    }
    later = fit_stack(run_dir, config=dataclasses.replace(config, ablation=True))
    assert len(later["ablation"]) == 1 + len(left_out(BLOCKS))
    after = {
        path.name: path.read_bytes() for path in (run_dir / "stack").glob("booster-*")
    }
    assert before == after
    assert fit_stack(run_dir, config=config) == later


def test_a_report_of_an_older_version_has_none(ablated, tmp_path):
    run_dir = copy_run(ablated, tmp_path / "run")
    path = run_dir / "stack" / "report.json"
    report = read_json(path)
    del report["ablation"]
    path.write_text(json.dumps(report))
    assert "What each block adds" not in render_report(run_dir)
    assert "What each block adds" not in format_report(report)


def test_the_command_does_it_unless_told_not_to(ablated, tmp_path):
    run_dir = copy_run(ablated, tmp_path / "run")
    assert StackConfig().ablation
    arguments = ["stack", "--run", str(run_dir), "--blocks", "network,attributes,fused"]
    for extra, expected in ((["--no-ablation"], False), ([], True)):
        result = CliRunner().invoke(main, [*arguments, *extra, "--seeds", "1"])
        assert result.exit_code == 0, result.output
        assert (run_dir / "stack" / "ablation").exists() == expected
