import dataclasses

import numpy as np
import pytest
from conftest import copy_run
from test_stack_cli import assert_one_line, call

from embed.store.manifest import read_json
from finetune.score import smape, to_price
from stack.config import StackConfig
from stack.trees.matrix import BlockMatrix
from stack.trees.residual import fit_out_of_fold
from stack.trees.trials import best_of_trials, settings_of_boosters

pytest.importorskip("optuna")
N = 600
# So slow and coarse that nearly any other settings learn more.
CONFIG = StackConfig(
    n_threads=1, max_rounds=20, early_stopping_rounds=20, learning_rate=0.01,
    num_leaves=2, min_data_in_leaf=60, n_trials=4, n_seeds=1,
)  # fmt: skip
FOLDS = (np.arange(N) % 3).astype(np.int8)


def catalog():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, 4)).astype(np.float32)
    log_price = 2.5 + 0.6 * features[:, 1] - 0.4 * (features[:, 2] > 0)
    return features, (log_price + 0.1 * rng.normal(size=N)).astype(np.float32)


def fit(config=CONFIG, *, log_price=None, folder=None):
    features, given = catalog()
    return fit_out_of_fold(
        BlockMatrix({"text": features[:, :2], "attributes": features[:, 2:]}),
        given if log_price is None else log_price,
        init_log_price=None,
        folds=FOLDS,
        groups=np.arange(N),
        config=config,
        folder=folder,
    )


def texts_of(fit):
    return [booster.model_to_string() for booster in fit.boosters]


def test_trials_find_settings_that_learn_more():
    _, log_price = catalog()
    scores = {}
    for n_trials in (0, 4):
        found = fit(dataclasses.replace(CONFIG, n_trials=n_trials))
        scores[n_trials] = smape(to_price(log_price), to_price(found.out_of_fold))
    assert scores[4] < 0.8 * scores[0]


def test_all_seeds_take_what_the_trials_of_the_first_found(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = fit(folder=tmp_path / "one")
    two = fit(dataclasses.replace(CONFIG, n_seeds=2), folder=tmp_path / "two")
    settings = [settings_of_boosters(tmp_path / name) for name in ("one", "two")]
    assert settings[0] == settings[1]
    for first, both in zip(one.boosters, two.boosters, strict=True):
        trees = both.dump_model()["tree_info"]
        assert len(trees) > first.num_trees()
        assert {tree["shrinkage"] for tree in trees} == {
            tree["shrinkage"] for tree in first.dump_model()["tree_info"]
        }


def test_the_settings_of_each_fold_can_be_read_off_its_booster(tmp_path):
    fitted = fit(folder=tmp_path)
    settings = settings_of_boosters(tmp_path)
    assert len(settings) == 3
    names = {field.name for field in dataclasses.fields(StackConfig)}
    for one, booster in zip(settings, fitted.boosters, strict=True):
        assert names > set(one)
        dataclasses.replace(CONFIG, **one)  # all of them valid
        assert one["num_leaves"] == booster.params["num_leaves"]
        gains = [one["embedding_gain"]] * 2 + [1]  # of two embeddings, two attributes
        assert booster.params["feature_contri"][:3] == gains
    assert len({one["learning_rate"] for one in settings}) == 3


def test_settings_that_were_given_are_read_off_untuned_boosters(tmp_path):
    given = {"learning_rate": 0.05, "embedding_gain": 0.5, "objective": "log_smape"}
    fit(dataclasses.replace(CONFIG, n_trials=0, **given), folder=tmp_path)
    for one in settings_of_boosters(tmp_path):
        assert given.items() <= one.items()
        assert (one["num_leaves"], one["min_data_in_leaf"]) == (2, 60)


def test_the_same_seed_tries_the_same_whatever_the_threads():
    first = texts_of(fit())
    assert texts_of(fit(dataclasses.replace(CONFIG, n_threads=3))) == first
    assert texts_of(fit(dataclasses.replace(CONFIG, seed=1))) != first


def test_prices_that_a_fold_holds_out_do_not_choose_its_settings():
    _, log_price = catalog()
    held_out = FOLDS == 1
    other = np.where(held_out, log_price[::-1] + 2, log_price)
    one, changed = texts_of(fit()), texts_of(fit(log_price=other))
    for fold in range(3):
        assert (one[fold] == changed[fold]) == (fold == 1), fold


def test_the_settings_given_are_kept_where_no_trial_is_better():
    given = fit(dataclasses.replace(CONFIG, n_trials=0)).boosters[0]
    tried = []

    def grow(config):
        tried.append(config)
        return given, 10.0  # all equal

    best, settings = best_of_trials(grow, CONFIG, fold=0)
    assert best is given
    assert settings == CONFIG
    assert tried[0] == CONFIG
    assert len(tried) == 1 + CONFIG.n_trials
    assert len({config.learning_rate for config in tried}) == len(tried)


def test_without_optuna_the_command_says_how_to_get_it(
    finished_run, tmp_path, monkeypatch
):
    run_dir = copy_run(finished_run, tmp_path / "run")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = call("stack", "--run", run_dir, "--tune", 3)
    assert_one_line(result, "--tune needs Optuna", "pip install optuna", "extra `tune`")
    result = call("stack", "--run", run_dir, "--tune", -1)
    assert result.exit_code == 2
    assert "'--tune'" in result.output


def test_the_command_takes_trials_and_an_objective(finished_run, tmp_path):
    run_dir = copy_run(finished_run, tmp_path / "run")
    asked = ("--objective", "log_smape", "--tune", 1, "--blocks", "attributes,network")
    result = call("stack", "--run", run_dir, *asked, "--threads", 1)
    assert result.exit_code == 0, result.output
    manifest = read_json(run_dir / "stack" / "manifest.json")
    config = manifest["config"]
    assert len(manifest["tuned"]) == len(manifest["rounds"]["stacker"])
    assert config["objective"] == "log_smape"
    assert config["n_trials"] == 1
