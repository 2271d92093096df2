"""The four leaks that have faked scores in this task: each planted, each absent."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    TINY_STACK,
    TINY_TRAINING,
    copy_run,
    record_anew,
    write_product_cache,
)

from embed.catalog.reader import read_catalog
from embed.extract import extract
from embed.records import require_embedded
from embed.sample.law import write_sample
from embed.store.arrays import read_rows
from embed.store.manifest import require_stage
from finetune.batches import ProductCache
from finetune.folds import assign_folds
from finetune.network.arithmetic import choose_arithmetic
from finetune.network.build import build_network
from finetune.out_of_fold import finetune
from finetune.products import product_groups
from finetune.score import smape, to_price
from finetune.training.loop import apply_network, train_network
from stack.blocks.registry import PRICE_BLOCKS
from stack.config import StackConfig
from stack.fit import fit_stack
from stack.records import StackManifest
from stack.trees.alignment import align, fit_alignment
from stack.trees.matrix import BlockMatrix
from stack.trees.residual import fit_out_of_fold

TRAINING = dataclasses.replace(TINY_TRAINING, seed=0, smape_epochs=0)
# Learns by heart: no dropout, no averaging, high rates.
BY_HEART = dataclasses.replace(
    TRAINING,
    smooth_l1_epochs=20,
    text_learning_rate=3e-3,
    fusion_learning_rate=5e-3,
    head_dropout=0.0,
    ema_decay=0.0,
)
STACK = dataclasses.replace(TINY_STACK, max_rounds=30, early_stopping_rounds=8)
N_NOISE = 96
_OTHERS = tuple(
    name for name in StackConfig.blocks if name not in ("start", *PRICE_BLOCKS)
)


def load(run_dir, name):
    return np.array(read_rows(run_dir / f"{name}.npy"))


def scores_of(report):
    return {row["name"]: row for row in report["predictors"]}


@pytest.fixture(scope="module")
def noise_runs(tiny_config, shared):
    """Runs whose prices have nothing to do with the products, ready to be stacked.

    In one, the networks are honest; in the other, leak 1 has been planted.
    """

    def make(folder):
        embed_noise(folder, tiny_config)
        finetune(folder / "honest", config=BY_HEART)
        put_in_sample_outputs(copy_run(folder / "honest", folder / "leaked"))

    folder = shared("noise", make)
    return folder / "honest", folder / "leaked"


def embed_noise(folder, config):
    catalog_path = write_sample(folder / "sample", n_products=N_NOISE)
    with catalog_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    prices = np.exp(np.random.default_rng(1).normal(3, 0.8, len(rows)))
    for row, price in zip(rows, prices, strict=True):
        row["price"] = f"{price:.2f}"
    with catalog_path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    extract(
        read_catalog(catalog_path),
        folder / "honest",
        images_dir=catalog_path.parent / "images",
        config=config,
    )


def put_in_sample_outputs(run_dir):
    """Plant leak 1: prices and embeddings by a network trained on all rows."""
    embed = require_embedded(run_dir)
    cache = ProductCache(run_dir / "embed", max_tokens=24, image_size=32)
    network = build_network(
        Path(embed.inputs.text_weights),
        None,
        n_attributes=len(embed.attribute_names),
        head_dropout=0.0,
        encoder_dropout=0.0,
        freeze_batch_norm=False,
        seed=0,
    )
    arithmetic = choose_arithmetic("fp32", torch.device("cpu"))
    every = np.arange(len(cache))
    (run_dir / "all").mkdir()
    train_network(
        network,
        cache,
        np.log1p(load(run_dir, "finetune/price")),
        every,
        config=BY_HEART,
        arithmetic=arithmetic,
        fold_dir=run_dir / "all",
        fold=0,
    )
    log_price, fused = apply_network(network, cache, every, arithmetic=arithmetic)
    np.save(run_dir / "finetune" / "oof_log_price.npy", log_price)
    np.save(run_dir / "finetune" / "fused.npy", fused.astype(np.float16))
    record_anew(run_dir / "finetune", ["oof_log_price.npy", "fused.npy"])


def test_unaligned_spaces_hide_a_signal_that_alignment_restores():
    rng = np.random.default_rng(0)
    n, dims, n_folds = 1200, (8, 8), 4
    shared = rng.normal(size=(n, sum(dims)))
    log_price = 3 + 0.5 * shared[:, 0] + 0.5 * np.sign(shared[:, 9])
    folds = (np.arange(n) % n_folds).astype(np.int8)
    turns = np.tile(np.eye(sum(dims)), (n_folds, 1, 1))
    scales, offsets = 3.0 ** np.arange(n_folds), np.arange(n_folds)
    for fold in range(1, n_folds):
        for tower in (slice(0, 8), slice(8, 16)):
            turns[fold, tower, tower] = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    every = shared @ turns * scales[:, None, None] + offsets[:, None, None]
    fused = every[folds, np.arange(n)]
    anchor_rows = np.arange(0, n, 3)
    has_photo = np.ones(n, dtype=bool)
    alignment, residuals = fit_alignment(
        every[:, anchor_rows],
        anchor_folds=folds[anchor_rows],
        anchor_image_ok=has_photo[anchor_rows],
        tower_dims=dims,
    )
    aligned = np.zeros_like(fused)
    for fold in range(n_folds):
        rows = folds == fold
        aligned[rows] = align(
            fused[rows], has_photo[rows], alignment[fold], tower_dims=dims
        )
    config = StackConfig(
        max_rounds=80, min_data_in_leaf=10, feature_fraction=0.8, n_threads=1,
        objective="l1", learning_rate=0.03,
    )  # fmt: skip

    def score(features):
        fit = fit_out_of_fold(
            BlockMatrix({"fused": features.astype(np.float32)}),
            log_price,
            init_log_price=None,
            folds=folds,
            groups=np.arange(n),
            config=config,
        )
        return smape(to_price(log_price), to_price(fit.out_of_fold))

    one_space, mixed, restored = score(shared), score(fused), score(aligned)
    assert mixed > 2 * one_space
    assert restored < 1.1 * one_space
    assert (
        max(r["after"] for r in residuals) < 0.02 < min(r["before"] for r in residuals)
    )


def test_a_real_run_stacks_the_aligned_embeddings(finished_run):
    alignment = require_stage(finished_run, StackManifest).alignment
    assert [(r["fold"], r["tower"]) for r in alignment] == [
        (1, "text"),
        (1, "image"),
        (2, "text"),
        (2, "image"),
    ]
    assert all(r["after"] < r["before"] for r in alignment)
    fused, folds = (
        load(finished_run, "finetune/fused"),
        load(finished_run, "finetune/folds"),
    )
    alignment, stacked, image_ok = (
        load(finished_run, "stack/alignment"),
        load(finished_run, "stack/fused"),
        load(finished_run, "embed/image_ok"),
    )
    for fold in range(3):
        rows = folds == fold
        expected = align(fused[rows], image_ok[rows], alignment[fold])
        np.testing.assert_allclose(stacked[rows], expected, atol=2e-3)


def duplicate_catalog(tmp_path):
    """Twelve products; 0-1, 2-3 and 4-5 are duplicates with contradicting prices."""
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(12)]
    photos[3], photos[5] = None, photos[4]
    texts = [f"Item Name: product number {row}" for row in range(12)]
    texts[0], texts[1] = "Item Name:  Green TEA, 8 oz", "item name: green tea,\n8 Oz "
    links = [f"https://cdn.example.com/{row}.jpg" for row in range(12)]
    links[2], links[3] = "https://one.com/a/x.jpg?w=1", "http://one.com/a/x.jpg"
    links[6], links[7] = "https://one.com/6/main.jpg", "https://one.com/7/main.jpg"
    path = tmp_path / "catalog.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("sample_id", "catalog_content", "image_link", "price"))
        for row in range(12):
            price = 1 + 99 * (row % 2)
            lines.writerow((row, texts[row], links[row], price))
    write_product_cache(tmp_path / "embed", [[2, 5, 3]] * 12, photos)
    return read_catalog(path)


def test_duplicates_are_found_by_text_by_link_and_by_photo(tmp_path):
    catalog = duplicate_catalog(tmp_path)
    groups = product_groups(catalog, tmp_path / "embed")
    assert groups.tolist() == [0, 0, 2, 2, 4, 4, 6, 7, 8, 9, 10, 11]


def test_missing_texts_links_and_photos_make_no_duplicates(tmp_path):
    path = tmp_path / "catalog.csv"
    path.write_text("sample_id,catalog_content,image_link,price\n1,,,1\n2,,,2\n3,,,3\n")
    write_product_cache(tmp_path / "embed", [[2, 3]] * 3, [None] * 3)
    groups = product_groups(read_catalog(path), tmp_path / "embed")
    assert groups.tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_contradicting_duplicates_are_never_split(tmp_path, seed):
    catalog = duplicate_catalog(tmp_path)
    groups = product_groups(catalog, tmp_path / "embed")
    folds = assign_folds(catalog.price, groups, n_folds=4, seed=seed)
    for first in (0, 2, 4):
        assert folds[first] == folds[first + 1]


def test_a_real_run_splits_no_duplicates(finished_run, sample_catalog):
    folds = load(finished_run, "finetune/folds")
    texts = read_catalog(sample_catalog).text
    fold_of, n_repeated = {}, 0
    for text, fold in zip(texts, folds, strict=True):
        n_repeated += bool(text) and text in fold_of
        assert not text or fold_of.setdefault(text, fold) == fold
    assert n_repeated


def with_other_prices(run_dir, to, *, fold, monkeypatch):
    """Copy a run with other prices for one fold's products; the folds stay."""
    folds = np.arange(40) % 3
    monkeypatch.setattr(
        "finetune.job.assign_folds",
        lambda *args, **kwargs: folds.astype(np.int8),
    )
    prices = np.linspace(3, 60, 40)
    prices[folds == fold] = prices[folds == fold][::-1] * 7
    return copy_run(run_dir, to, prices=[f"{price:.2f}" for price in prices]), folds


@pytest.mark.parametrize("fold", [0, 2])
def test_held_out_prices_do_not_reach_the_network_that_held_them_out(
    embedded_run, tmp_path, monkeypatch, fold
):
    one, folds = with_other_prices(
        embedded_run, tmp_path / "one", fold=-1, monkeypatch=monkeypatch
    )
    other, _ = with_other_prices(
        embedded_run, tmp_path / "other", fold=fold, monkeypatch=monkeypatch
    )
    for run_dir in (one, other):
        finetune(run_dir, config=TRAINING)
    held_out = folds == fold
    assert (load(one, "finetune/price") != load(other, "finetune/price"))[
        held_out
    ].all()
    for k in range(3):
        models = [
            (run_dir / f"finetune/fold-{k}/model.safetensors").read_bytes()
            for run_dir in (one, other)
        ]
        assert (models[0] == models[1]) == (k == fold), k
    for name in ("oof_log_price", "fused"):
        pair = [load(run_dir, f"finetune/{name}") for run_dir in (one, other)]
        np.testing.assert_array_equal(pair[0][held_out], pair[1][held_out])
        assert (pair[0][~held_out] != pair[1][~held_out]).any()


@pytest.mark.parametrize("init", [True, False])
def test_held_out_prices_do_not_reach_the_booster_that_held_them_out(init):
    rng = np.random.default_rng(0)
    n, fold = 600, 1
    features = rng.normal(size=(n, 6)).astype(np.float32)
    log_price = 3 + features[:, 0] + rng.normal(0, 0.2, n)
    network = (3 + 0.5 * features[:, 0]).astype(np.float32)  # leaves half to find
    folds = rng.permutation(np.arange(n) % 3).astype(np.int8)
    other = np.where(folds == fold, log_price[::-1] + 2, log_price)
    config = StackConfig(max_rounds=40, min_data_in_leaf=10, n_threads=1)
    fits = [
        fit_out_of_fold(
            BlockMatrix({"text": features}),
            target,
            init_log_price=network if init else None,
            folds=folds,
            groups=np.arange(n),
            config=config,
        )
        for target in (log_price, other)
    ]
    for k in range(3):
        one, changed = (fit.boosters[k].model_to_string() for fit in fits)
        assert (one == changed) == (k == fold), k
    assert fits[0].rounds[fold] == fits[1].rounds[fold] > 0
    held_out = folds == fold
    np.testing.assert_array_equal(
        fits[0].out_of_fold[held_out], fits[1].out_of_fold[held_out]
    )


def test_frozen_features_do_not_see_prices(embedded_run, tmp_path, tiny_config):
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=["1.00"] * 40)
    photos = require_embedded(run_dir).inputs.images_dir
    again = extract(
        read_catalog(run_dir / "catalog.csv"),
        tmp_path / "again",
        images_dir=Path(photos),
        config=tiny_config,
    )
    assert again.key == require_embedded(embedded_run).key


@pytest.mark.parametrize("more", [(), ("start", *PRICE_BLOCKS)], ids=["", "by prices"])
def test_random_prices_cannot_be_predicted_but_by_an_in_sample_leak(
    noise_runs, tmp_path, more
):
    config = dataclasses.replace(STACK, blocks=(*_OTHERS, *more))
    honest, leaked = (
        scores_of(fit_stack(copy_run(run, tmp_path / run.name), config=config))
        for run in noise_runs
    )
    constant, noise = honest["median"]["smape"], 3 * honest["median"]["smape_se"]
    for name in ("network", "lightgbm", "blend", "stacker", "chosen"):
        assert honest[name]["smape"] > constant - noise, name

    assert leaked["median"]["smape"] == constant
    for name in ("network", "stacker", "chosen"):
        assert leaked[name]["smape"] < 0.7 * constant, name
        assert leaked[name]["smape"] < constant - noise, name
