import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_TRAINING, copy_run

import embed
import finetune
from embed.catalog.reader import CatalogError, read_catalog
from embed.encoders.weights import WeightsError
from embed.errors import CacheError, ConfigError
from embed.extract import extract
from embed.records import require_embedded
from embed.store.arrays import read_rows
from embed.store.manifest import (
    read_json,
    require_stage,
)
from finetune.batches import ProductCache
from finetune.config import RECIPES, FinetuneConfig
from finetune.network.arithmetic import choose_arithmetic
from finetune.network.saved import load_network
from finetune.out_of_fold import finetune as run_finetune
from finetune.records import FinetuneManifest
from finetune.training.frozen_layers import skip_frozen_layers
from finetune.training.loop import apply_network, prepare_torch
from stack.run import open_run

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = dataclasses.replace(TINY_TRAINING, seed=0, smape_epochs=0)
ARRAYS = ("oof_log_price", "fused", "anchors", "folds", "groups", "price")


@pytest.fixture
def run_dir(embedded_run, tmp_path):
    return copy_run(embedded_run, tmp_path / "run")


@pytest.fixture
def trained(embedded_run, shared, tmp_path):
    """A run whose networks are trained, which may be changed."""

    def train(folder):
        run_finetune(copy_run(embedded_run, folder / "run"), config=CONFIG)

    return copy_run(shared("trained", train) / "run", tmp_path / "trained")


def load(run_dir, name):
    return np.array(read_rows(run_dir / "finetune" / f"{name}.npy"))


def contents(run_dir):
    """Bytes of all that a finished stage is asked for later."""
    stage = run_dir / "finetune"
    names = [f"{name}.npy" for name in ARRAYS]
    names += [f"fold-{fold}/model.safetensors" for fold in range(CONFIG.n_folds)]
    return {name: (stage / name).read_bytes() for name in names}


def prices_of(run_dir):
    path = read_json(run_dir / "embed" / "manifest.json")["inputs"]["catalog_path"]
    with Path(path).open(newline="") as file:
        return [row["price"] for row in csv.DictReader(file)]


def by_networks(run_dir, rows):
    """Log prices of some rows by each fold's network, shape (n_folds, len(rows))."""
    manifest = require_embedded(run_dir)
    cache = ProductCache(
        run_dir / "embed", max_tokens=CONFIG.max_tokens, image_size=CONFIG.image_size
    )
    arithmetic = choose_arithmetic("fp32", pytest.importorskip("torch").device("cpu"))
    log_prices = []
    for fold in range(CONFIG.n_folds):
        network = load_network(
            run_dir / "finetune", fold, 0, embed=manifest, config=CONFIG
        )
        # As the stage does: frozen layers in float16, the same attention.
        skip_frozen_layers(
            network,
            cache,
            config=CONFIG,
            arithmetic=arithmetic,
            stage_dir=run_dir / "finetune",
            key="test",
        )
        prepare_torch(network, CONFIG, arithmetic)
        log_prices.append(apply_network(network, cache, rows, arithmetic=arithmetic)[0])
    return np.stack(log_prices)


def test_finetune_and_embed_are_the_packages_of_this_repository():
    assert Path(finetune.__file__).parent == REPOSITORY / "finetune"
    assert Path(embed.__file__).parent == REPOSITORY / "embed"


def test_the_paper_recipe_is_the_one_of_the_source_document():
    paper = RECIPES["paper"]
    stated = {
        "recipe": "paper",
        "smooth_l1_beta": 0.5,
        "text_learning_rate": 5e-6,
        "image_learning_rate": 7e-6,
        "fusion_learning_rate": 1e-5,
        "head_dropout": 0.25,
        "n_epochs": 20,
        "use_attributes": False,
    }
    assert {name: getattr(paper, name) for name in stated} == stated
    assert 0 < paper.smape_cycle_epochs < paper.smooth_l1_cycle_epochs
    assert RECIPES["default"] == FinetuneConfig()


def test_the_paper_recipe_trains_although_its_prices_have_no_bounds(
    embedded_run, tmp_path
):
    run_dir = copy_run(embedded_run, tmp_path / "run")
    few = {"n_folds": 2, "smooth_l1_epochs": 1, "smape_epochs": 1, "max_tokens": 24}
    exact = {"image_size": 32, "precision": "fp32", "n_threads": 1}
    paper = dataclasses.replace(RECIPES["paper"], **few, **exact)
    manifest = run_finetune(run_dir, config=paper)
    assert manifest.config.recipe == "paper"
    assert 0 < manifest.smape < 200


def test_each_product_is_priced_by_the_network_that_held_it_out(trained):
    folds = load(trained, "folds")
    every = by_networks(trained, np.arange(len(folds)))
    out_of_fold = load(trained, "oof_log_price")
    np.testing.assert_allclose(
        out_of_fold, every[folds, np.arange(len(folds))], atol=1e-5
    )
    other = every[(folds + 1) % CONFIG.n_folds, np.arange(len(folds))]
    assert np.abs(out_of_fold - other).max() > 1e-3


def test_duplicates_share_a_fold_and_no_fold_is_empty(trained):
    folds, groups = load(trained, "folds"), load(trained, "groups")
    assert len(np.unique(groups)) < len(groups)
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    assert np.ptp(np.bincount(folds)) <= 1


def test_a_second_call_does_nothing(trained, monkeypatch):
    monkeypatch.setattr("finetune.fold.train_network", None)
    before = require_stage(trained, FinetuneManifest)
    assert run_finetune(trained, config=CONFIG) == before
    threads = dataclasses.replace(CONFIG, n_threads=2)
    assert run_finetune(trained, config=threads) == before


def test_an_unpriced_product_is_refused_with_the_remedy(embedded_run, tmp_path):
    prices = prices_of(embedded_run)
    prices[4] = "0"
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=prices)
    with pytest.raises(CatalogError, match=r"catalog\.csv.*--drop-unpriced"):
        run_finetune(run_dir, config=CONFIG)
    assert not (run_dir / "finetune").exists()


def test_dropped_products_get_the_average_price_of_all_networks(embedded_run, tmp_path):
    prices = prices_of(embedded_run)
    dropped = np.array([4, 9, 30])
    for row, text in zip(dropped, ("", "-3", "free"), strict=True):
        prices[row] = text
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=prices)
    manifest = run_finetune(run_dir, config=CONFIG, drop_unpriced=True)
    folds, out_of_fold = load(run_dir, "folds"), load(run_dir, "oof_log_price")
    assert manifest.n_unpriced_dropped == 3
    assert np.flatnonzero(folds < 0).tolist() == dropped.tolist()
    assert np.flatnonzero(np.isnan(load(run_dir, "price"))).tolist() == [4, 9, 30]
    every = by_networks(run_dir, np.arange(len(folds)))
    np.testing.assert_allclose(out_of_fold[dropped], every[:, dropped].mean(0), 1e-5)
    kept = np.flatnonzero(folds >= 0)
    np.testing.assert_allclose(out_of_fold[kept], every[folds[kept], kept], atol=1e-5)
    assert all(fold.n_train + fold.n_held_out == 37 for fold in manifest.folds)


def test_finished_folds_are_kept_and_a_lost_one_is_trained_again(trained):
    before, stage = contents(trained), trained / "finetune"
    (stage / "manifest.json").unlink()
    for record in ("manifest.json", "network.json"):
        (stage / "fold-1" / record).unlink()
    kept = [stage / f"fold-{fold}" / "model.safetensors" for fold in (0, 2)]
    written = [path.stat().st_mtime_ns for path in kept]
    lost = (stage / "fold-1" / "model.safetensors").stat().st_mtime_ns
    run_finetune(trained, config=CONFIG)
    assert [path.stat().st_mtime_ns for path in kept] == written
    assert (stage / "fold-1" / "model.safetensors").stat().st_mtime_ns > lost
    assert contents(trained) == before


def test_folds_trained_one_at_a_time_give_the_same_stage(trained, embedded_run):
    run_dir = copy_run(embedded_run, trained.parent / "one-by-one")
    assert run_finetune(run_dir, config=CONFIG, only_fold=2) is None
    assert run_finetune(run_dir, config=CONFIG, only_fold=0) is None
    assert not (run_dir / "finetune" / "manifest.json").exists()
    manifest = run_finetune(run_dir, config=CONFIG, only_fold=1)
    assert manifest.smape == read_json(trained / "finetune/manifest.json")["smape"]
    assert contents(run_dir) == contents(trained)


def test_a_fold_that_is_not_there_cannot_be_chosen(run_dir):
    for fold in (-1, 3):
        with pytest.raises(
            ConfigError, match=f"--only-fold must be 1 to 3, got {fold + 1}"
        ):
            run_finetune(run_dir, config=CONFIG, only_fold=fold)


def test_other_settings_train_every_fold_anew(trained):
    before = contents(trained)
    other = dataclasses.replace(CONFIG, seed=1)
    manifest = run_finetune(trained, config=other)
    assert manifest.config.seed == 1
    after = contents(trained)
    assert all(
        after[f"fold-{f}/model.safetensors"] != before[f"fold-{f}/model.safetensors"]
        for f in range(3)
    )
    again = run_finetune(trained, config=CONFIG)
    assert again.config == CONFIG
    assert contents(trained) == before


def test_other_prices_train_anew(trained):
    key = read_json(trained / "finetune" / "manifest.json")["key"]
    prices = [str(2 * float(price)) for price in prices_of(trained)]
    changed = copy_run(trained, trained.parent / "changed", prices=prices)
    assert run_finetune(changed, config=CONFIG).key != key


@pytest.mark.parametrize("what", ["missing", "cut short", "changed"])
def test_a_catalog_of_the_run_that_is_not_whole_is_named(embedded_run, tmp_path, what):
    run_dir = copy_run(embedded_run, tmp_path / "run")
    path = run_dir / "embed" / "catalog.parquet"
    content = path.read_bytes()
    path.unlink()
    if what != "missing":
        path.write_bytes(content[:-40] + b"?" * (40 if what == "changed" else 0))
    with pytest.raises(CacheError, match=r"catalog\.parquet: .*run `make embeddings"):
        run_finetune(run_dir, config=CONFIG)


def test_the_user_s_catalog_is_not_needed_any_more(embedded_run, tmp_path):
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=prices_of(embedded_run))
    (run_dir / "catalog.csv").unlink()
    moved = run_dir.rename(tmp_path / "moved")
    assert run_finetune(moved, config=CONFIG).stage == "finetune"


def test_a_run_without_embeddings_says_what_to_run(tmp_path):
    with pytest.raises(CacheError, match=r"not finished.*make embeddings"):
        run_finetune(tmp_path, config=CONFIG)


def test_embedding_anew_makes_finetune_train_anew(trained, sample_catalog, tiny_config):
    before = read_json(trained / "finetune" / "manifest.json")
    manifest = extract(
        read_catalog(sample_catalog),
        trained,
        images_dir=sample_catalog.parent / "images",
        config=dataclasses.replace(tiny_config, max_tokens=16),
    )
    with pytest.raises(CacheError, match=r"finetune: made from inputs with key"):
        open_run(trained)
    after = run_finetune(trained, config=CONFIG)
    assert after.embed_key == manifest.key != before["embed_key"]
    assert after.key != before["key"]
    open_run(trained)


def test_weights_of_another_network_are_refused(trained):
    manifest = require_embedded(trained)
    path = trained / "finetune" / "fold-1" / "model.safetensors"
    other = dataclasses.replace(CONFIG, use_attributes=False)
    with pytest.raises(CacheError, match=r"model\.safetensors: not the weights"):
        load_network(trained / "finetune", 1, 0, embed=manifest, config=other)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CacheError, match=r"fold-1.*make finetune"):
        load_network(trained / "finetune", 1, 0, embed=manifest, config=CONFIG)


def test_an_encoder_that_changed_or_went_away_is_named(run_dir, tmp_path):
    encoder = move_encoder(run_dir, tmp_path / "encoder")
    name_encoder(run_dir, str(encoder))
    (encoder / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"text encoder.*encoder: other weights\."):
        run_finetune(run_dir, config=CONFIG)
    shutil.rmtree(encoder)
    with pytest.raises(WeightsError, match=r"encoder': not there\. Put its files back"):
        run_finetune(run_dir, config=CONFIG)


def test_an_encoder_that_moved_is_found_by_its_name(run_dir, trained, tmp_path):
    encoder = move_encoder(run_dir, tmp_path / "encoder")
    shutil.move(encoder, tmp_path / "elsewhere")
    name_encoder(run_dir, str(tmp_path / "elsewhere"))
    run_finetune(run_dir, config=CONFIG)
    for name in ("oof_log_price", "fused"):
        np.testing.assert_array_equal(load(run_dir, name), load(trained, name))


def move_encoder(run_dir, to):
    """Let a run be one that was embedded with an encoder at another place."""
    path = run_dir / "embed" / "manifest.json"
    manifest = read_json(path)
    shutil.copytree(manifest["inputs"]["text_weights"], to)
    manifest["inputs"]["text_weights"] = str(to)
    path.write_text(json.dumps(manifest))
    return to


def name_encoder(run_dir, name):
    """Let a run be one whose encoder was asked for by a name."""
    path = run_dir / "embed" / "manifest.json"
    manifest = read_json(path)
    manifest["config"]["text_encoder"] = name
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": "texts"}, "inputs must be one of both, text, image, got 'texts'"),
        ({"n_folds": 1}, "--folds must be at least 2.*got 1"),
        ({"smooth_l1_epochs": 0, "smape_epochs": 0}, "epochs must be at least 1"),
        ({"smape_cycle_epochs": 2}, "cycle epochs must be.*got 0 and 2"),
        ({"batch_size": 1}, "--batch-size must be at least 2.*got 1"),
        ({"max_tokens": 4}, "--max-tokens must be 8 to 512, got 4"),
        ({"image_size": 8}, "--image-size must be 32 to 1024 pixels, got 8"),
        ({"n_folds": 300}, "--folds must be .* at most 127, got 300"),
        ({"n_threads": 0}, "--threads must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be 0 to 2147483647, got -1"),
        ({"image_learning_rate": -1.0}, "image_learning_rate must be 0 to 1, got -1"),
        ({"head_dropout": 1.0}, r"head_dropout must be in \[0, 1\), got 1"),
        ({"image_dropout": -0.1}, r"image_dropout must be in \[0, 1\), got -0.1"),
    ],
)
def test_settings_that_no_run_can_use_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_folds_that_leave_too_few_products_to_train_on_are_refused(
    embedded_run, tmp_path
):
    prices = ["2.5", "3.5", *[""] * 38]
    run_dir = copy_run(embedded_run, tmp_path / "few", prices=prices)
    config = dataclasses.replace(CONFIG, n_folds=2)
    with pytest.raises(ConfigError, match="leaves 1 of 2 priced products"):
        run_finetune(run_dir, config=config, drop_unpriced=True)
