"""Several networks of a fold, from as many seeds, and their mean price."""

import dataclasses
import json

import lightgbm as lgb
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_STACK, TINY_TRAINING, copy_run

import finetune.fold
from embed.catalog.reader import read_catalog
from embed.chunks import prepared_chunks
from embed.errors import CacheError, ConfigError
from embed.store.arrays import read_rows
from embed.store.manifest import read_json, require_stage
from finetune.__main__ import finetune_command
from finetune.config import FinetuneConfig
from finetune.out_of_fold import finetune as run_finetune
from finetune.records import FinetuneManifest
from finetune.training.guards import TrainingError
from finetune.training.loop import train_network
from finetune.training.tensorboard import write_stage_events
from stack.config import StackConfig
from stack.export.export import export_run
from stack.fit import fit_stack
from stack.price.predictor import Predictor
from stack.trees.boosters import average_boosters

ONE = dataclasses.replace(TINY_TRAINING, seed=0, smape_epochs=0)
TWO = dataclasses.replace(ONE, n_seeds=2)


@pytest.fixture(scope="module")
def run_of_two(embedded_run, shared):
    """A run of two seeds with all stages; read-only."""

    def make(folder):
        run_dir = copy_run(embedded_run, folder / "run")
        run_finetune(run_dir, config=TWO)
        fit_stack(run_dir, config=TINY_STACK)

    return shared("two seeds", make) / "run"


def load(run_dir, name):
    return np.array(read_rows(run_dir / "finetune" / f"{name}.npy"))


def model(run_dir, name):
    return (run_dir / "finetune" / name / "model.safetensors").read_bytes()


def test_the_first_networks_are_those_of_a_run_with_one_seed(
    embedded_run, run_of_two, tmp_path
):
    one = copy_run(embedded_run, tmp_path / "one")
    run_finetune(one, config=ONE)
    for fold in range(ONE.n_folds):
        name = f"fold-{fold}"
        assert model(one, name) == model(run_of_two, name)
        assert model(run_of_two, f"{name}-seed-1") != model(one, name)
    for name in ("fused", "anchors", "folds"):
        np.testing.assert_array_equal(load(one, name), load(run_of_two, name))
    of_seeds = load(run_of_two, "seed_log_price")
    np.testing.assert_array_equal(of_seeds[:, 0], load(one, "oof_log_price"))
    np.testing.assert_array_equal(of_seeds.mean(1), load(run_of_two, "oof_log_price"))
    assert np.abs(of_seeds[:, 0] - of_seeds[:, 1]).max() > 1e-3


def test_a_run_stopped_between_two_seeds_takes_up_the_first(
    embedded_run, run_of_two, tmp_path, monkeypatch
):
    stopped = copy_run(embedded_run, tmp_path / "run")
    trained = []

    def train(*given, **named):
        trained.append((named["fold"], named["config"].seed))
        if trained == [(0, 0), (0, 1)]:
            raise KeyboardInterrupt
        train_network(*given, **named)

    monkeypatch.setattr(finetune.fold, "train_network", train)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(stopped, config=TWO)
    history = stopped / "finetune" / "fold-0" / "history.csv"
    written = history.stat().st_mtime_ns
    run_finetune(stopped, config=TWO)
    assert history.stat().st_mtime_ns == written  # no epoch of it again
    for fold in range(TWO.n_folds):
        for name in (f"fold-{fold}", f"fold-{fold}-seed-1"):
            assert model(stopped, name) == model(run_of_two, name)
    assert not list(stopped.rglob("checkpoint*"))
    assert trained.count((0, 0)) == 1
    np.testing.assert_array_equal(
        load(stopped, "oof_log_price"), load(run_of_two, "oof_log_price")
    )


def test_networks_that_are_there_are_not_trained_again(
    run_of_two, tmp_path, monkeypatch
):
    run_dir = copy_run(run_of_two, tmp_path / "run")
    trained = []

    def train(*given, **named):
        trained.append((named["fold"], named["config"].seed))
        train_network(*given, **named)

    monkeypatch.setattr(finetune.fold, "train_network", train)
    one = run_finetune(run_dir, config=ONE)
    assert trained == []
    np.testing.assert_array_equal(
        load(run_dir, "oof_log_price"), load(run_of_two, "seed_log_price")[:, 0]
    )
    two = require_stage(run_of_two, FinetuneManifest)
    trained_once, trained_twice = (
        sum(fold.seconds["train"] for fold in manifest.folds) for manifest in (one, two)
    )
    assert 0 < trained_once < trained_twice
    (run_dir / "finetune" / "fold-1-seed-1" / "model.safetensors").write_bytes(b"")
    run_finetune(run_dir, config=TWO)
    assert trained == [(1, 1)]
    for name in ("oof_log_price", "seed_log_price", "fused", "anchors"):
        np.testing.assert_array_equal(load(run_dir, name), load(run_of_two, name))


def test_a_damaged_second_network_is_named(run_of_two, tmp_path):
    run_dir = copy_run(run_of_two, tmp_path / "run")
    path = run_dir / "finetune" / "fold-1-seed-1" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"fold-1-seed-1/model\.safetensors"):
        run_finetune(run_dir, config=TWO)


def test_a_price_is_the_mean_over_the_seeds(run_of_two, sample_catalog):
    catalog, images = read_catalog(sample_catalog), sample_catalog.parent / "images"
    folds, found = load(run_of_two, "folds"), np.zeros(len(catalog.sample_id))
    for fold in range(TWO.n_folds):
        predictor = Predictor(run_of_two, n_threads=1, folds=[fold], exact=True)
        inputs = predictor.inputs(catalog, images)
        for chunk in prepared_chunks(inputs, predictor.config, 0):
            rows = np.array(chunk.rows)
            held_out = folds[rows] == fold
            log_price = predictor.predict(chunk).network_log_price
            found[rows[held_out]] = log_price[held_out]
    of_seeds = load(run_of_two, "seed_log_price")
    mean = load(run_of_two, "oof_log_price")
    np.testing.assert_allclose(found, mean, atol=2e-3)
    apart = np.abs(of_seeds - mean[:, None])
    assert apart.max() > 10 * np.abs(found - mean).max()  # one alone is farther off


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_an_export_prices_as_the_run_does(run_of_two, sample_catalog, tmp_path, chosen):
    pytest.importorskip("onnxruntime")
    run_dir = copy_run(run_of_two, tmp_path / "run")
    path = run_dir / "stack" / "manifest.json"
    path.write_text(json.dumps({**read_json(path), "chosen": chosen}))
    export_run(run_dir, tmp_path / "model")
    assert (tmp_path / "model" / "fold-2-seed-1" / "head.onnx").is_file()
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "of 6 two-tower networks" in " ".join(card.split())


def test_unpriced_products_get_the_mean_over_folds_and_seeds(embedded_run, tmp_path):
    prices = ["", *(str(5 + row) for row in range(1, 40))]
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=prices)
    run_finetune(run_dir, config=TWO, drop_unpriced=True)
    assert load(run_dir, "folds")[0] == -1
    of_each = load(run_dir, "unpriced_log_price")
    assert of_each.shape == (TWO.n_folds, 2, 1)
    np.testing.assert_allclose(
        load(run_dir, "oof_log_price")[0], of_each.mean(), rtol=1e-6
    )


def test_the_largest_seed_may_have_others_beside_it():
    config = FinetuneConfig(seed=2**31 - 1, n_seeds=2)
    assert config.of_seed(1).seed == 0
    StackConfig(seed=2**31 - 1)


def test_an_error_names_the_seed_and_each_has_its_events(
    embedded_run, tmp_path, monkeypatch
):
    pytest.importorskip("tensorboard")
    run_dir = copy_run(embedded_run, tmp_path / "run")

    def train(*given, **named):
        if (named["fold"], named["config"].seed) == (1, 1):
            raise TrainingError("fold 1, epoch 1: the loss is nan.")
        train_network(*given, **named)

    monkeypatch.setattr(finetune.fold, "train_network", train)
    with pytest.raises(TrainingError, match=r"^seed 1: fold 1, epoch 1"):
        run_finetune(run_dir, config=TWO)
    write_stage_events(run_dir / "finetune")
    names = sorted(path.name for path in (run_dir / "finetune/tensorboard").iterdir())
    assert names == ["fold-0", "fold-0-seed-1", "fold-1"]


@pytest.mark.parametrize("n_seeds", [0, 21])
def test_numbers_of_seeds_that_no_run_can_use_are_refused(n_seeds):
    with pytest.raises(ConfigError, match=f"--seeds must be 1 to 20, got {n_seeds}"):
        FinetuneConfig(n_seeds=n_seeds)
    done = CliRunner().invoke(finetune_command, ["--run", "x", "--seeds", str(n_seeds)])
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith("Error: --seeds must be 1 to 20")


def test_the_mean_of_boosters_is_one_booster():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    y = x[:, 0] + x[:, 1] * x[:, 2]

    def grow(seed, n_trees):
        params = {"verbosity": -1, "bagging_fraction": 0.5, "bagging_freq": 1}
        booster = lgb.train(
            {**params, "seed": seed}, lgb.Dataset(x, y), num_boost_round=n_trees
        )
        return lgb.Booster(model_str=booster.model_to_string())

    boosters = [grow(0, 7), grow(1, 12), grow(2, 3)]
    expected = np.mean([booster.predict(x) for booster in boosters], axis=0)
    merged = average_boosters(boosters)
    assert merged.num_trees() == 22
    stump = lgb.Booster({"verbosity": -1}, lgb.Dataset(x, y))
    with_one_bare = average_boosters([stump, grow(3, 5)])
    np.testing.assert_allclose(with_one_bare.predict(x), grow(3, 5).predict(x) / 2)
    assert with_one_bare.params["bagging_fraction"] == 0.5
    np.testing.assert_allclose(merged.predict(x), expected, atol=1e-12)
    again = lgb.Booster(model_str=merged.model_to_string())
    np.testing.assert_allclose(again.predict(x), expected, atol=1e-12)


def test_no_seeds_of_boosters_are_refused():
    with pytest.raises(ConfigError, match="--seeds must be at least 1"):
        StackConfig(n_seeds=0)
