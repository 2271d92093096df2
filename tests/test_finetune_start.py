"""Training that goes on from the networks of a former run."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING
from safetensors.torch import load_file, save_file

import finetune.fold
from embed.catalog.columns import CatalogColumns
from embed.catalog.reader import read_catalog
from embed.errors import CacheError, ConfigError
from embed.extract import extract
from embed.records import require_embedded
from embed.store.manifest import require_stage
from embed.table.encode import TableColumn
from finetune.network.saved import load_network, network_of_run
from finetune.out_of_fold import finetune as run_finetune
from finetune.records import FinetuneManifest
from finetune.seen import (
    ProductKeys,
    SeenProducts,
    allow_folds,
    tie_products,
)
from finetune.start import _recode, load_start, open_start, settings_from

GROUPED = CatalogColumns(groups=("seller",))
NAMES = ("sample_id", "catalog_content", "image_link", "price", "seller")


def product(number: int, **changes: str) -> dict[str, str]:
    words = ("green tea", "olive oil", "soap", "rice", "lamp", "chair", "pen")
    row = {
        "sample_id": f"p{number}",
        "catalog_content": f"Item Name: {words[number % 7]} number {number * 37}",
        "image_link": "",
        "price": f"{5 + number * 7 % 23}.5",
        "seller": "",
    }
    return {**row, **changes}


FIRST = [product(number) for number in range(30)]


def embed(folder: Path, rows: list[dict[str, str]], config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "catalog.csv"
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, NAMES)
        lines.writeheader()
        lines.writerows(rows)
    catalog = read_catalog(path, columns=GROUPED)
    extract(catalog, folder / "run", images_dir=None, config=config)
    return folder / "run"


def go_on(run_dir: Path, former: Path, **changes) -> FinetuneManifest:
    config = dataclasses.replace(settings_from(former), **changes)
    manifest = run_finetune(run_dir, config=config)
    assert manifest is not None
    return manifest


@pytest.fixture(scope="module")
def former(tmp_path_factory, tiny_config) -> Path:
    run_dir = embed(tmp_path_factory.mktemp("former"), FIRST, tiny_config)
    run_finetune(run_dir, config=TINY_TRAINING)
    return run_dir


@pytest.fixture
def trained(monkeypatch):
    """Record the catalog rows that each network is trained on, by run and fold."""
    rows_of: dict[tuple[Path, int], list[int]] = {}
    train = finetune.fold.train_network

    def spy(network, cache, log_price, rows, **options):
        run_dir = options["fold_dir"].parent.parent
        rows_of[run_dir, options["fold"]] = rows.tolist()
        train(network, cache, log_price, rows, **options)

    monkeypatch.setattr(finetune.fold, "train_network", spy)
    return rows_of


def folds_of(run_dir: Path) -> np.ndarray:
    return np.load(run_dir / "finetune" / "folds.npy")


def keys_of(row: dict[str, str]) -> set[tuple[str, str]]:
    names = ("sample_id", "catalog_content", "seller")
    return {(name, row[name]) for name in names if row[name]}


def assert_unseen(history: list[tuple[Path, list[dict[str, str]]]], trained) -> None:
    """Assert that no network was ever trained on a product of its fold."""
    last, rows = history[-1]
    for fold in range(TINY_TRAINING.n_folds):
        seen: set[tuple[str, str]] = set()
        for run_dir, catalog in history:
            path = run_dir / "finetune" / "manifest.json"
            start = json.loads(path.read_text()).get("start")
            if start is None or fold in start["new_folds"]:
                seen = set()
            for row in trained[run_dir, fold]:
                seen |= keys_of(catalog[row])
        for row in np.flatnonzero(folds_of(last) == fold):
            assert not keys_of(rows[row]) & seen, (fold, rows[row])


def test_no_network_was_ever_trained_on_a_product_of_its_fold(
    tmp_path, tiny_config, trained
):
    first = [dict(row) for row in FIRST]
    first[3]["seller"] = first[9]["seller"] = "Ann"
    run_a = embed(tmp_path / "a", first, tiny_config)
    run_finetune(run_a, config=TINY_TRAINING)

    second = [dict(row) for row in first if row["sample_id"] not in ("p5", "p6")]
    second[0]["price"] = "99"
    second[1]["catalog_content"] = "Item Name: a new text"
    second += [
        product(40),
        product(41, catalog_content=first[2]["catalog_content"]),
        product(42, seller="ann"),
    ]
    second.reverse()
    run_b = embed(tmp_path / "b", second, tiny_config)
    assert go_on(run_b, run_a).start.new_folds == []
    assert_unseen([(run_a, first), (run_b, second)], trained)
    before = dict(zip([r["sample_id"] for r in first], folds_of(run_a), strict=True))
    after = dict(zip([r["sample_id"] for r in second], folds_of(run_b), strict=True))
    assert all(after[name] == before[name] for name in after.keys() & before.keys())
    assert after["p41"] == before["p2"]
    assert after["p42"] == before["p3"] == before["p9"]

    # p5 returns under another id, and the old text of p1 under a third.
    third = [
        *second,
        product(50, catalog_content=first[5]["catalog_content"]),
        product(51, catalog_content=first[1]["catalog_content"]),
    ]
    run_c = embed(tmp_path / "c", third, tiny_config)
    assert go_on(run_c, run_b).start.new_folds == []
    history = [(run_a, first), (run_b, second), (run_c, third)]
    assert_unseen(history, trained)
    assert folds_of(run_c)[-2:].tolist() == [before["p5"], before["p1"]]


def test_products_that_tie_several_folds_share_one_whose_network_begins_anew(
    former, tmp_path, tiny_config, trained, caplog
):
    folds = folds_of(former)
    one, other = (int(np.flatnonzero(folds == fold)[0]) for fold in (0, 1))
    rows = [dict(row) for row in FIRST]
    rows[one]["catalog_content"] = rows[other]["catalog_content"]
    run_dir = embed(tmp_path, rows, tiny_config)
    manifest = go_on(run_dir, former)
    [new_fold] = manifest.start.new_folds
    after = folds_of(run_dir)
    assert after[one] == after[other] == new_fold
    assert f"fold {new_fold + 1}, whose networks begin from nothing" in caplog.text
    history = run_dir / "finetune" / f"fold-{new_fold}" / "history.csv"
    n_epochs = len(history.read_text().splitlines()) - 1
    assert n_epochs == TINY_TRAINING.n_epochs
    trained.update({(former, fold): np.flatnonzero(folds != fold) for fold in range(3)})
    assert_unseen([(former, FIRST), (run_dir, rows)], trained)


def test_a_group_column_that_joins_all_products_begins_from_nothing(
    former, tmp_path, tiny_config
):
    rows = [{**row, "seller": f"s{n % 5}"} for n, row in enumerate(FIRST)]
    run_dir = embed(tmp_path, rows, tiny_config)
    assert go_on(run_dir, former).start.new_folds == [0, 1, 2]
    assert not np.load(run_dir / "finetune" / "seen_by.npy").size


def test_random_catalogs_never_put_a_product_in_a_fold_that_has_seen_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, m, n_folds = rng.integers(5, 40), rng.integers(5, 40), 4
        kinds = ("id", "text", "photo")
        draw = rng.integers(0, 30, (n + m, 3)).astype(np.uint64)
        folds = rng.integers(-1, n_folds, m)
        seen = SeenProducts(
            keys=ProductKeys(kinds=kinds, hashes=draw[n:]),
            by=(folds >= 0)[:, None] & (folds[:, None] != np.arange(n_folds)),
            held_out=np.zeros(m, bool),
        )
        ties = tie_products(ProductKeys(kinds=kinds, hashes=draw[:n]), seen)
        priced = rng.random(n) < 0.9
        allowed, new_folds = allow_folds(ties, priced)
        assert allowed[priced].any(axis=1).all()
        kept = np.setdiff1d(np.arange(n_folds), new_folds)
        assert not (allowed & ties.seen_by)[:, kept].any()
        for row in range(n):
            shared = (draw[n:] == draw[row]) & (draw[row] != 0)
            assert not (seen.by[shared.any(axis=1)] & ~ties.seen_by[row]).any()


def test_a_network_begins_with_the_weights_and_scales_of_the_former_one(
    former, tmp_path, tiny_config
):
    embedded = require_embedded(former)
    start = open_start(tmp_path, settings_from(former), embedded)
    network = network_of_run(embedded, TINY_TRAINING)
    load_start(network, start, fold=1, seed_at=0, table=())
    stage_dir = former / "finetune"
    old = load_network(stage_dir, 1, 0, embed=embedded, config=TINY_TRAINING)
    weights = network.state_dict()
    for name, tensor in old.state_dict().items():
        assert torch.equal(weights[name], tensor), name

    run_dir = embed(tmp_path / "new", FIRST[:25], tiny_config)
    go_on(run_dir, former)
    stage_dir = run_dir / "finetune"
    new = load_network(stage_dir, 1, 0, embed=embedded, config=TINY_TRAINING)
    for name in ("price_centre", "price_scale", "attribute_mean", "attribute_scale"):
        assert torch.equal(getattr(new, name), getattr(old, name)), name
    assert not torch.equal(new.head[0].weight, old.head[0].weight)
    manifests = [require_stage(run, FinetuneManifest) for run in (former, run_dir)]
    assert manifests[0].price_unit == manifests[1].price_unit


def test_a_category_keeps_its_vector_and_a_new_one_begins_with_zeros():
    old = TableColumn(name="brand", kind="category", categories=("acme", "bolt"))
    new = TableColumn(name="brand", kind="category", categories=("bolt", "new", "acme"))
    vectors = torch.arange(8.0).reshape(4, 2)
    recoded = _recode(vectors, old, new)
    expected = [[0, 1], [2, 3], [6, 7], [0, 0], [4, 5]]
    assert recoded.tolist() == expected


def test_a_stopped_training_ends_with_the_same_bytes_and_needs_the_former_run(
    former, tmp_path, tiny_config, monkeypatch
):
    epochs = {"smooth_l1_epochs": 1, "smape_epochs": 1}
    whole = embed(tmp_path / "whole", FIRST, tiny_config)
    go_on(whole, former, **epochs)
    stopped = tmp_path / "stopped" / "run"
    shutil.copytree(whole, stopped, ignore=shutil.ignore_patterns("finetune"))
    moved = tmp_path / "moved"
    shutil.copytree(former, moved)
    save, n_saved = finetune.training.loop.TrainingState.save, []

    def save_and_stop(state, folder):
        save(state, folder)
        n_saved.append(folder)
        if len(n_saved) == 3:  # the first epoch of the second network
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune.training.loop.TrainingState, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            go_on(stopped, moved, **epochs)
    config = dataclasses.replace(settings_from(moved), **epochs)
    shutil.rmtree(moved)
    with pytest.raises(ConfigError, match=r"has no finetune/manifest\.json\. Name"):
        run_finetune(stopped, config=config)
    go_on(stopped, former, **epochs)
    for path in sorted((whole / "finetune").rglob("*.*")):
        if path.suffix in (".npy", ".safetensors"):
            twin = stopped / "finetune" / path.relative_to(whole / "finetune")
            assert twin.read_bytes() == path.read_bytes(), path


def test_the_manifest_names_the_former_run_without_its_path(
    former, tmp_path, tiny_config
):
    run_dir = embed(tmp_path, FIRST, tiny_config)
    manifest = go_on(run_dir, former, smooth_l1_epochs=1)
    assert manifest.start.name == "run"
    assert manifest.config.start_from == "run"
    text = (run_dir / "finetune" / "manifest.json").read_text()
    assert str(former.parent) not in text


def test_products_stay_on_their_side_of_a_random_test(tmp_path, tiny_config):
    config = dataclasses.replace(TINY_TRAINING, hold_out=0.2)
    run_a = embed(tmp_path / "a", FIRST, tiny_config)
    run_finetune(run_a, config=config)
    rows = [*FIRST, *(product(number) for number in range(60, 80))]
    run_b = embed(tmp_path / "b", rows, tiny_config)
    assert go_on(run_b, run_a).config.hold_out == 0.2
    old, new = (np.load(run / "finetune" / "held_out.npy") for run in (run_a, run_b))
    np.testing.assert_array_equal(new[: len(old)], old)
    assert new[len(old) :].sum() == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_folds": 4}, "--folds was 3, is now 4"),
        ({"seed": 7}, "--seed was 1, is now 7"),
        ({"freeze_image": True}, "--freeze-image was False, is now True"),
        ({"max_tokens": 16}, "--max-tokens was 24, is now 16"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    former, tmp_path, tiny_config, changes, message
):
    run_dir = embed(tmp_path, FIRST, tiny_config)
    with pytest.raises(ConfigError, match=message):
        go_on(run_dir, former, **changes)


def test_a_damaged_or_same_run_is_refused(former, tmp_path, tiny_config):
    run_dir = embed(tmp_path / "new", FIRST, tiny_config)
    same = dataclasses.replace(settings_from(former), start_from=str(run_dir))
    with pytest.raises(ConfigError, match="must be another run"):
        run_finetune(run_dir, config=same)
    damaged = tmp_path / "damaged"
    shutil.copytree(former, damaged)
    path = damaged / "finetune" / "fold-0" / "model.safetensors"
    weights = load_file(path)
    weights["head.0.bias"] += 1
    save_file(weights, path)
    with pytest.raises(CacheError, match="fold-0"):
        go_on(run_dir, damaged)
