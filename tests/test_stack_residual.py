import dataclasses

import numpy as np
import pytest

from embed.errors import CacheError, InputError
from finetune.score import smape, to_price
from stack.config import StackConfig
from stack.trees.boosters import load_boosters, remove_boosters
from stack.trees.matrix import BlockMatrix
from stack.trees.residual import (
    _validation_part,
    fit_out_of_fold,
    predict_residual,
)

N = 1200
CONFIG = StackConfig(
    n_threads=1, max_rounds=60, early_stopping_rounds=10, learning_rate=0.2,
    min_data_in_leaf=10, feature_fraction=1.0, n_seeds=1,
)  # fmt: skip


@pytest.fixture
def catalog():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, 6)).astype(np.float32)
    log_price = (2.5 + 0.6 * features[:, 1] + 0.1 * rng.normal(size=N)).astype("f4")
    folds = (np.arange(N) % 3).astype(np.int8)
    return {
        "matrix": BlockMatrix({"text": features}),
        "features": features,
        "log_price": log_price,
        "folds": folds,
        "groups": np.arange(N),
    }


def fit(catalog, init_log_price, *, config=CONFIG, **changed):
    given = {**catalog, **changed}
    return fit_out_of_fold(
        given["matrix"],
        given["log_price"],
        init_log_price=init_log_price,
        folds=given["folds"],
        groups=given["groups"],
        config=config,
        folder=given.get("folder"),
    )


def price_smape(log_price, predicted):
    return smape(to_price(log_price), to_price(predicted))


@pytest.mark.parametrize("objective", ["l1", "log_smape"])
def test_an_exact_network_is_left_alone(catalog, objective):
    config = dataclasses.replace(CONFIG, objective=objective)
    result = fit(catalog, catalog["log_price"], config=config)
    assert result.rounds == [0, 0, 0]
    np.testing.assert_array_equal(result.out_of_fold, catalog["log_price"])


@pytest.mark.parametrize("objective", ["l1", "log_smape"])
def test_a_network_with_nothing_left_to_correct_keeps_zero_trees_possible(
    catalog, objective
):
    noise = np.random.default_rng(5).normal(0, 0.5, size=N)
    blind = BlockMatrix({"text": np.zeros((N, 2), dtype=np.float32)})
    init = (catalog["log_price"] + noise).astype(np.float32)
    config = StackConfig(
        n_threads=1, min_data_in_leaf=10, bagging_fraction=1.0, objective=objective
    )
    result = fit(catalog, init, matrix=blind, config=config)
    assert result.rounds == [0, 0, 0]
    np.testing.assert_array_equal(result.out_of_fold, init)


@pytest.mark.parametrize("objective", ["l1", "log_smape"])
def test_a_tree_that_drew_columns_without_a_split_ends_no_booster(objective):
    """One column tells all, fifteen are known of fewer products than a leaf has."""
    rng = np.random.default_rng(0)
    columns = np.full((N, 16), np.nan, np.float32)
    columns[:, 0] = rng.normal(size=N)
    columns[:15, 1:] = rng.normal(size=(15, 15))
    log_price = (2.5 + columns[:, 0]).astype(np.float32)
    catalog = {
        "matrix": BlockMatrix({"attributes": columns}), "log_price": log_price,
        "folds": (np.arange(N) % 3).astype(np.int8), "groups": np.arange(N),
    }  # fmt: skip
    config = dataclasses.replace(CONFIG, objective=objective, min_data_in_leaf=40)
    half, whole = (
        fit(catalog, None, config=dataclasses.replace(config, feature_fraction=share))
        for share in (0.5, 1.0)
    )
    assert min(half.rounds) > 0.5 * min(whole.rounds)
    by_half, by_whole = (price_smape(log_price, f.out_of_fold) for f in (half, whole))
    assert by_half < by_whole + 1


def test_an_error_that_a_feature_explains_is_corrected(catalog):
    wrong = catalog["log_price"] - 0.8 * (catalog["features"][:, 3] > 0)
    result = fit(catalog, wrong)
    assert min(result.rounds) > 0
    before = price_smape(catalog["log_price"], wrong)
    after = price_smape(catalog["log_price"], result.out_of_fold)
    assert before > 30
    assert after < 3


def test_without_a_network_the_trees_begin_at_the_median(catalog):
    result = fit(catalog, None)
    median = np.full(N, np.median(catalog["log_price"]))
    alone = price_smape(catalog["log_price"], result.out_of_fold)
    assert alone < 0.5 * price_smape(catalog["log_price"], median)


def test_the_trees_that_are_kept_saw_all_rows_outside_their_fold(catalog):
    config = dataclasses.replace(CONFIG, bagging_fraction=1.0)
    fitted = fit(catalog, None, config=config)
    for fold, booster in enumerate(fitted.boosters):
        root = booster.dump_model()["tree_info"][0]["tree_structure"]
        assert root["internal_count"] == (catalog["folds"] != fold).sum()
    searched = fit(catalog, None, config=dataclasses.replace(config, refit=False))
    assert searched.rounds == fitted.rounds
    root = searched.boosters[0].dump_model()["tree_info"][0]["tree_structure"]
    assert root["internal_count"] < 0.85 * (catalog["folds"] != 0).sum()


def test_seeds_are_averaged(catalog):
    of_seeds = [
        fit(catalog, None, config=dataclasses.replace(CONFIG, seed=seed))
        for seed in (0, 1, 2)
    ]
    together = fit(catalog, None, config=dataclasses.replace(CONFIG, n_seeds=3))
    expected = np.mean([one.out_of_fold for one in of_seeds], axis=0)
    np.testing.assert_allclose(together.out_of_fold, expected, atol=1e-5)
    assert together.rounds == np.sum([one.rounds for one in of_seeds], axis=0).tolist()
    assert not np.array_equal(of_seeds[0].out_of_fold, of_seeds[1].out_of_fold)


def test_held_out_prices_do_not_change_their_own_predictions(catalog):
    held_out = np.flatnonzero(catalog["folds"] == 1)
    network = catalog["log_price"] * 0.8
    permuted = catalog["log_price"].copy()
    permuted[held_out] = np.random.default_rng(1).permutation(permuted[held_out])
    honest = fit(catalog, network).out_of_fold
    changed = fit(catalog, network, log_price=permuted).out_of_fold
    np.testing.assert_array_equal(honest[held_out], changed[held_out])
    assert (honest != changed).any()  # the other folds do learn from them


def test_features_fitted_in_sample_fake_the_score(catalog):
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.5, size=N)
    log_price = (catalog["log_price"] + noise).astype(np.float32)
    honest = fit(catalog, None, log_price=log_price)
    # A network that has seen the rows carries their noise in its embedding.
    embedding = np.column_stack(
        [log_price + rng.normal(0, 0.05, N), rng.normal(size=N)]
    )
    leaky = BlockMatrix({"text": catalog["features"], "fused": embedding})
    faked = fit(catalog, None, log_price=log_price, matrix=leaky)
    honest_smape = price_smape(log_price, honest.out_of_fold)
    assert price_smape(log_price, faked.out_of_fold) < 0.4 * honest_smape
    assert honest_smape > 30  # what noise of s.d. 0.5 leaves


def test_unpriced_rows_get_the_average_of_all_boosters(catalog):
    folds, log_price = catalog["folds"].copy(), catalog["log_price"].copy()
    folds[:4], log_price[:4] = -1, np.nan
    init = (catalog["log_price"] * 0.8).astype(np.float32)
    result = fit(catalog, init, folds=folds, log_price=log_price)
    rows = np.arange(4)
    added = [
        predict_residual([booster], catalog["matrix"], rows=rows, config=CONFIG)
        for booster in result.boosters
    ]
    expected = init[:4] + np.mean(added, axis=0)
    np.testing.assert_allclose(result.out_of_fold[:4], expected, rtol=1e-6)
    together = predict_residual(
        result.boosters, catalog["matrix"], rows=rows, config=CONFIG
    )
    np.testing.assert_allclose(together, np.mean(added, axis=0))


def test_the_same_seed_gives_the_same_predictions(catalog):
    network = catalog["log_price"] * 0.8
    first, second = fit(catalog, network), fit(catalog, network)
    np.testing.assert_array_equal(first.out_of_fold, second.out_of_fold)


@pytest.mark.parametrize("objective", ["l1", "log_smape"])
def test_the_number_of_threads_changes_no_byte(catalog, tmp_path, objective):
    folds, log_price = catalog["folds"].copy(), catalog["log_price"].copy()
    folds[:4], log_price[:4] = -1, np.nan
    found = []
    for n_threads in (1, 2, 7):
        config = dataclasses.replace(
            CONFIG, n_threads=n_threads, objective=objective, max_rounds=20
        )
        folder = tmp_path / str(n_threads)
        folder.mkdir()
        given = {"folds": folds, "log_price": log_price, "folder": folder}
        result = fit(catalog, None, config=config, **given)
        assert min(result.rounds) > 0
        trees = [b.model_to_string().split("\nparameters:")[0] for b in result.boosters]
        found.append((result.out_of_fold.tobytes(), trees, result.starts))
        names = sorted(path.name for path in folder.glob("*.txt"))
        assert names == [f"booster-{fold}.txt" for fold in range(3)]
    assert found == [found[0]] * 3


def test_a_fold_that_fails_stops_the_others(catalog, tmp_path, monkeypatch):
    groups = np.arange(N)
    groups[catalog["folds"] != 2] = 0  # one group is all that fold 2 may learn from
    config = dataclasses.replace(
        CONFIG, n_threads=3, max_rounds=100_000, early_stopping_rounds=100_000
    )
    with pytest.raises(InputError, match="fold 3 leaves 800 rows in 1 groups"):
        fit(catalog, None, config=config, groups=groups, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("starts_at_network", [True, False])
def test_smape_as_objective_learns_as_well_as_l1_from_heavy_tails(
    catalog, starts_at_network
):
    tails = np.random.default_rng(2).standard_t(2, size=N)
    features = catalog["features"]
    log_price = (2.5 + 0.6 * features[:, 1] + 0.3 * tails).clip(0.1, 9).astype("f4")
    network = (2.5 + 0.2 * features[:, 1]).astype("f4") if starts_at_network else None
    smapes = {
        objective: price_smape(
            log_price,
            fit(
                catalog,
                network,
                log_price=log_price,
                config=dataclasses.replace(CONFIG, objective=objective),
            ).out_of_fold,
        )
        for objective in ("l1", "log_smape")
    }
    law = price_smape(log_price, 2.5 + 0.6 * features[:, 1])
    without = price_smape(log_price, np.full(N, 2.5))
    assert law < smapes["log_smape"] < law + 0.25 * (without - law)
    assert abs(smapes["log_smape"] - smapes["l1"]) < 1.5


def test_chunks_do_not_change_predictions(catalog):
    result = fit(catalog, None)
    rows = np.arange(N)[::-1]
    whole = predict_residual(
        result.boosters, catalog["matrix"], rows=rows, config=CONFIG
    )
    catalog["matrix"].batch_size = 7
    chunked = predict_residual(
        result.boosters, catalog["matrix"], rows=rows, config=CONFIG
    )
    np.testing.assert_array_equal(whole, chunked)


def test_duplicates_are_not_split_between_training_and_validation():
    groups = np.random.default_rng(0).integers(300, size=N)
    for fold in range(5):
        is_valid = _validation_part(groups, config=CONFIG, fold=fold)
        assert not set(groups[is_valid]) & set(groups[~is_valid])
        assert 0 <= is_valid.mean() - CONFIG.valid_fraction < 0.02


def test_too_few_groups_to_validate_on_are_refused(catalog):
    with pytest.raises(ValueError, match=r"800 rows in 1 groups .* too few"):
        fit(catalog, None, groups=np.zeros(N, dtype=int))


def test_a_single_row_left_to_train_on_is_refused():
    for n_rows in (2, 3):
        with pytest.raises(ValueError, match=f"{n_rows} rows .* too few"):
            _validation_part(
                np.arange(n_rows), config=StackConfig(valid_fraction=0.5), fold=0
            )
    assert _validation_part(np.arange(3), config=StackConfig(), fold=0).sum() == 1


def test_kept_boosters_predict_the_same(catalog, tmp_path):
    wrong = catalog["log_price"] - 0.8 * (catalog["features"][:, 3] > 0)
    wrong[catalog["folds"] > 0] = catalog["log_price"][catalog["folds"] > 0]
    fitted = fit(catalog, wrong, folder=tmp_path)
    assert fitted.rounds[0] == 0 < fitted.rounds[1]  # fold 0 learns from exact rows
    loaded = load_boosters(tmp_path, feature_names=catalog["matrix"].feature_names)
    assert [b.num_trees() for b in loaded] == fitted.rounds
    rows = np.arange(20)
    for some in (slice(None), slice(0, 1)):
        found, expected = (
            predict_residual(b[some], catalog["matrix"], rows=rows, config=CONFIG)
            for b in (loaded, fitted.boosters)
        )
        np.testing.assert_array_equal(found, expected)


def test_kept_boosters_are_not_fitted_again(catalog, tmp_path, monkeypatch):
    first = fit(catalog, None, folder=tmp_path)
    (tmp_path / "booster-1.txt").unlink()
    fitted = []
    monkeypatch.setattr(
        "stack.trees.residual._fit_booster",
        lambda *given: fitted.append(given) or (first.boosters[1], 0.0),
    )
    again = fit(catalog, None, folder=tmp_path)
    assert len(fitted) == 1
    np.testing.assert_array_equal(again.out_of_fold, first.out_of_fold)


def test_boosters_of_another_run_can_be_removed(catalog, tmp_path):
    fit(catalog, None, config=StackConfig(n_threads=1, max_rounds=1), folder=tmp_path)
    (tmp_path / "fused.npy").touch()
    remove_boosters(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fused.npy"]


def test_boosters_of_other_features_are_refused(catalog, tmp_path):
    config = StackConfig(n_threads=1, max_rounds=1)
    fit(catalog, None, config=config, folder=tmp_path)
    names = [*catalog["matrix"].feature_names[:-1], "image-0"]
    with pytest.raises(CacheError, match="first difference: 'text-5', 'image-0'"):
        load_boosters(tmp_path, feature_names=names)
    with pytest.raises(CacheError, match="fitted on 6 features, the matrix has 3"):
        load_boosters(tmp_path, feature_names=names[:3])


def test_missing_or_broken_boosters_are_refused(tmp_path, capfd):
    folder = tmp_path / "stack"
    folder.mkdir()
    remedy = rf"Delete the folder {folder} and run `make stack "
    with pytest.raises(CacheError, match=rf"contains no booster-0\.txt.*{remedy}"):
        load_boosters(folder, feature_names=[])
    (folder / "booster-0.txt").write_text("tree\n")
    with pytest.raises(CacheError, match=rf"not a whole LightGBM model.*{remedy}"):
        load_boosters(folder, feature_names=[])
    (folder / "booster-0.txt").rename(folder / "booster-1.txt")
    with pytest.raises(CacheError, match=rf"booster-0\.txt.*{remedy}"):
        load_boosters(folder, feature_names=[])


def test_arrays_that_do_not_fit_are_refused(catalog):
    log_price = catalog["log_price"].copy()
    with pytest.raises(ValueError, match=r"folds must have shape \(1200,\)"):
        fit(catalog, None, folds=catalog["folds"][1:])
    with pytest.raises(ValueError, match=r"folds must be 0, 1, … .* got \[0, 2\]"):
        fit(catalog, None, folds=np.where(catalog["folds"] == 1, 2, catalog["folds"]))
    with pytest.raises(ValueError, match="init_log_price must be finite, row 5"):
        fit(catalog, np.where(np.arange(N) == 5, np.nan, log_price))
    log_price[3] = np.nan
    with pytest.raises(ValueError, match=r"log_price must be finite, row 3 \(of 1"):
        fit(catalog, None, log_price=log_price)
