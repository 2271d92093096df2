import dataclasses
import json

import numpy as np
import pytest
from conftest import TINY_STACK, copy_run

import stack.fit
from embed.errors import CacheError, ConfigError
from embed.store.arrays import read_rows
from embed.store.manifest import (
    read_json,
)
from finetune.score import smape, to_price
from stack.config import StackConfig
from stack.fit import evaluate_run, fit_stack

PREDICTORS = ["median", "lightgbm", "network", "blend", "stacker", "chosen"]


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return copy_run(finished_run, tmp_path / "run")


def load(run_dir, name):
    return np.array(read_rows(run_dir / f"{name}.npy"))


def edit_manifest(run_dir, stage, **changes):
    path = run_dir / stage / "manifest.json"
    path.write_text(json.dumps({**read_json(path), **changes}))


def stack_files(run_dir):
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in (run_dir / "stack").rglob("*.*")
        if path.name != "manifest.json"  # it holds the seconds
    }


def test_the_report_has_a_row_for_each_predictor_and_the_verdict(finished_run):
    report = read_json(finished_run / "stack" / "report.json")
    assert [row["name"] for row in report["predictors"]] == PREDICTORS
    assert report["n_products"] == 40
    assert report["n_folds"] == 3
    verdict = report["verdict"]
    assert verdict["chosen"] in ("network", "stacker")
    assert (verdict["chosen"] == "stacker") == (verdict["interval_network"]["high"] < 0)
    manifest = read_json(finished_run / "stack" / "manifest.json")
    assert manifest["chosen"] == verdict["chosen"]
    rows = {row["name"]: row for row in report["predictors"]}
    unnamed = [{k: v for k, v in rows[n].items() if k not in ("name", "label")}
               for n in ("chosen", verdict["chosen"])]  # fmt: skip
    assert unnamed[0] == unnamed[1]


def test_the_report_scores_the_arrays_of_the_run(finished_run):
    report = read_json(finished_run / "stack" / "report.json")
    found = {row["name"]: row["smape"] for row in report["predictors"]}
    price = load(finished_run, "finetune/price")
    for name, path in (
        ("network", "finetune/oof_log_price"),
        ("stacker", "stack/oof_log_price"),
    ):
        predicted = to_price(load(finished_run, path))
        assert found[name] == pytest.approx(smape(price, predicted))
    finetune = read_json(finished_run / "finetune" / "manifest.json")
    assert found["network"] == pytest.approx(finetune["smape"])


def test_a_sample_is_compared_with_its_law(finished_run):
    best = read_json(finished_run / "stack" / "report.json")["best"]
    assert best["n"] == 40
    assert 0 < best["smape"]["best"] < best["smape"]["chosen"]


def test_evaluating_gives_the_report_that_stacking_wrote(run_dir):
    path = run_dir / "stack" / "report.json"
    written = path.read_bytes()
    path.unlink()
    assert evaluate_run(run_dir, n_folds=3) == json.loads(written)
    assert path.read_bytes() == written


def test_a_second_call_fits_nothing(run_dir, monkeypatch):
    before = stack_files(run_dir)
    monkeypatch.setattr(stack.fit, "fit_out_of_fold", None)
    report = fit_stack(run_dir, config=TINY_STACK)
    assert report == read_json(run_dir / "stack" / "report.json")
    threads = dataclasses.replace(TINY_STACK, n_threads=2)
    fit_stack(run_dir, config=threads)
    assert stack_files(run_dir) == before


def test_stacking_again_gives_the_same_bytes(run_dir):
    before = stack_files(run_dir)
    (run_dir / "stack" / "manifest.json").unlink()
    fit_stack(run_dir, config=TINY_STACK)
    assert stack_files(run_dir) == before


def test_other_settings_fit_anew(run_dir):
    config = dataclasses.replace(TINY_STACK, blocks=("attributes", "network"))
    fit_stack(run_dir, config=config)
    manifest = read_json(run_dir / "stack" / "manifest.json")
    assert manifest["config"]["blocks"] == ["attributes", "network"]
    boosters = sorted(path.name for path in (run_dir / "stack").glob("booster-*.txt"))
    assert boosters == ["booster-0.txt", "booster-1.txt", "booster-2.txt"]


def test_a_stack_stopped_half_way_is_not_taken_for_finished(run_dir, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    config = dataclasses.replace(TINY_STACK, seed=1)
    monkeypatch.setattr(stack.fit, "fit_out_of_fold", fail)
    with pytest.raises(KeyboardInterrupt):
        fit_stack(run_dir, config=config)
    with pytest.raises(CacheError, match=r"stack: this stage has not finished"):
        evaluate_run(run_dir)


def test_another_number_of_folds_says_how_to_get_it(finished_run):
    with pytest.raises(
        ConfigError,
        match=r"--folds 5: the run .* has 3 folds.*--folds 3.*"
        r"make finetune stack RUN=.* FOLDS=5",
    ):
        evaluate_run(finished_run, n_folds=5)


@pytest.mark.parametrize(
    ("stage", "key", "stale"),
    [("finetune", "embed_key", "finetune"), ("stack", "finetune_key", "stack")],
)
def test_a_stage_made_from_other_inputs_is_named(run_dir, stage, key, stale):
    edit_manifest(run_dir, stage, **{key: "0123456789abcdef"})
    with pytest.raises(
        CacheError, match=rf"{stale}: made from inputs with key 0123456789ab, .*make"
    ):
        evaluate_run(run_dir)


def test_networks_trained_anew_are_stacked_anew(run_dir):
    edit_manifest(run_dir, "finetune", key="f" * 64)
    with pytest.raises(CacheError, match=r"stack: .* ffffffffffff.*make stack"):
        evaluate_run(run_dir)
    fit_stack(run_dir, config=TINY_STACK)
    assert read_json(run_dir / "stack/manifest.json")["finetune_key"] == "f" * 64
    evaluate_run(run_dir)


def test_missing_stages_are_named_with_the_command(tmp_path, embedded_run):
    with pytest.raises(CacheError, match=r"not finished.*make embeddings RUN="):
        fit_stack(tmp_path / "none", config=TINY_STACK)
    with pytest.raises(CacheError, match=r"not finished.*make finetune RUN="):
        fit_stack(embedded_run, config=TINY_STACK)


def test_a_missing_array_is_named(run_dir):
    (run_dir / "stack" / "blend_log_price.npy").unlink()
    with pytest.raises(CacheError, match=r"blend_log_price\.npy: is missing"):
        evaluate_run(run_dir)


def test_an_unknown_block_is_refused():
    with pytest.raises(ConfigError, match=r"blocks must be .*text, image.*'colour'"):
        StackConfig(blocks=("text", "colour"))


def test_a_start_without_the_kernel_is_refused():
    with pytest.raises(ConfigError, match=r"must have kernel beside start"):
        StackConfig(blocks=("network", "start"))
