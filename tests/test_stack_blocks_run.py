"""The blocks that are fitted on prices, in a run: kept, guarded, served, explained."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_STACK, copy_run

from embed.catalog.reader import read_catalog
from embed.chunks import prepared_chunks
from embed.errors import CacheError, InputError
from embed.store.manifest import read_json
from stack.audit.checks import audit_run
from stack.blocks import fitted as fitted_module
from stack.blocks.fitted import inputs_of, load_blocks, prices_of
from stack.blocks.inputs import Prices
from stack.blocks.registry import BLOCKS, PRICE_BLOCKS
from stack.cli import main
from stack.config import StackConfig
from stack.explain.parts import ALL_ALIKE, NETWORK, START, build_up
from stack.fit import block_matrix, evaluate_run, fit_stack
from stack.html_report.gains import read_gains
from stack.price.predictor import Predictor
from stack.run import open_run
from stack.trees.blend import blend_out_of_fold

NAMES = tuple(PRICE_BLOCKS)
COLUMN_NAMES = {
    name: [column.name for column in block.columns]
    for name, block in PRICE_BLOCKS.items()
}
CONFIG = dataclasses.replace(
    TINY_STACK, blocks=("network", "start", "attributes", *NAMES)
)
FOLD = 2

NO_TABLE = SimpleNamespace(attribute_names=[], category_sizes=[])


def stack_files(run_dir):
    folder = run_dir / "stack"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.name != "manifest.json"  # it holds the seconds
    }


def features(run_dir, name):
    return np.load(run_dir / "stack" / "blocks" / name / "features.npy")


@pytest.fixture(scope="module")
def block_run(finished_run, tmp_path_factory):
    """A run whose boosters see the blocks, and serve. Read-only."""
    run_dir = copy_run(finished_run, tmp_path_factory.mktemp("blocks") / "run")
    fit_stack(run_dir, config=CONFIG)
    path = run_dir / "stack" / "manifest.json"
    path.write_text(json.dumps({**read_json(path), "chosen": "stacker"}))
    return run_dir


@pytest.fixture
def run_dir(block_run, tmp_path):
    return copy_run(block_run, tmp_path / "run")


@pytest.fixture(scope="module")
def predicted(block_run, sample_catalog):
    """What one fold alone says of all products of the run."""
    predictor = Predictor(block_run, n_threads=1, folds=[FOLD])
    inputs = predictor.inputs(
        read_catalog(sample_catalog), sample_catalog.parent / "images"
    )
    chunks = prepared_chunks(inputs, predictor.config, 0)
    return predictor, [predictor.predict(chunk) for chunk in chunks]


def test_the_default_sees_all_blocks_but_the_raw_features():
    assert set(StackConfig().blocks) == set(BLOCKS) - {"text", "image"}
    assert set(NAMES) <= set(StackConfig().blocks)


def test_help_names_the_blocks():
    text = " ".join(CliRunner().invoke(main, ["stack", "--help"]).output.split())
    for name in NAMES:
        assert name in text
    assert "fitted on prices, out of fold" in text


@pytest.mark.parametrize("name", NAMES)
def test_stored_features_are_those_of_the_rows_own_fold(block_run, name):
    run = open_run(block_run)
    products = inputs_of(run)
    stored, folds = features(block_run, name), prices_of(run.targets()).folds
    assert stored.shape == (40, len(COLUMN_NAMES[name]))
    for fold in range(3):
        block = load_blocks([name], run, [fold])[name]
        rows = np.flatnonzero(folds == fold)
        alone = np.concatenate(
            [block.predict(products.take(np.array([row]))) for row in rows]
        )
        np.testing.assert_allclose(alone, stored[rows], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_predictor_of_one_fold_gives_the_stored_features(block_run, predicted, name):
    folds = np.load(block_run / "finetune" / "folds.npy")
    found = np.concatenate([part.blocks[name] for part in predicted[1]])
    stored = features(block_run, name)
    assert (np.isnan(found) == np.isnan(stored))[folds == FOLD].all()
    # Embeddings are rounded to float16, and may round otherwise in another batch.
    np.testing.assert_allclose(found[folds == FOLD], stored[folds == FOLD], atol=2e-3)
    assert not np.allclose(
        found[folds != FOLD], stored[folds != FOLD], atol=2e-3, equal_nan=True
    )


def test_a_predictor_of_one_fold_gives_the_stored_price(block_run, predicted):
    folds = np.load(block_run / "finetune" / "folds.npy")
    found = np.concatenate([part.log_price for part in predicted[1]])
    expected = np.load(block_run / "stack" / "oof_log_price.npy")
    assert any(booster.num_trees() for booster in predicted[0].boosters)
    np.testing.assert_allclose(found[folds == FOLD], expected[folds == FOLD], atol=0.02)


def test_the_boosters_columns_have_the_blocks_names(predicted):
    predictor, parts = predicted
    names = predictor.matrix(parts[0].blocks).feature_names
    for name in NAMES:
        assert set(COLUMN_NAMES[name]) <= set(names)
        assert all(column.startswith(f"{name}-") for column in COLUMN_NAMES[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_guards_a_blocks_files(run_dir, name):
    recorded = read_json(run_dir / "stack" / "manifest.json")["files"]
    folder = run_dir / "stack" / "blocks" / name
    written = {path.relative_to(run_dir / "stack") for path in folder.iterdir()}
    assert written
    assert {path.as_posix() for path in written} <= recorded.keys()
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        for use in (
            lambda: Predictor(run_dir, n_threads=1),
            lambda: evaluate_run(run_dir),
        ):
            with pytest.raises(CacheError, match=rf"{path.name}: .*make stack"):
                use()
        path.write_bytes(whole)


def test_stacking_again_gives_the_same_bytes(run_dir):
    before = stack_files(run_dir)
    shutil.rmtree(run_dir / "stack")
    fit_stack(run_dir, config=CONFIG)
    assert stack_files(run_dir) == before


def test_a_stopped_run_takes_the_blocks_it_has(run_dir, monkeypatch):
    before = stack_files(run_dir)
    (run_dir / "stack" / "manifest.json").unlink()
    shutil.rmtree(run_dir / "stack" / "blocks" / "statistics")
    begun = []
    for name in NAMES:
        block = PRICE_BLOCKS[name]
        monkeypatch.setattr(
            block,
            "fit",
            lambda *given, n=name, f=block.fit, **options: (
                begun.append(n) or f(*given, **options)
            ),
        )
    fit_stack(run_dir, config=CONFIG)
    assert begun == ["statistics"]
    assert stack_files(run_dir) == before


@pytest.mark.parametrize("file", ["features.npy", "weights.npy", "files.json"])
def test_a_damaged_block_of_a_stopped_run_is_fitted_again(run_dir, file, caplog):
    before = stack_files(run_dir)
    (run_dir / "stack" / "manifest.json").unlink()
    path = run_dir / "stack" / "blocks" / "lexical" / file
    path.write_bytes(path.read_bytes()[:-3])
    fit_stack(run_dir, config=CONFIG)
    assert f"{file}: " in caplog.text
    assert "fitted again" in caplog.text
    assert stack_files(run_dir) == before


def test_a_block_that_was_killed_half_way_is_fitted_again(run_dir, monkeypatch):
    before = stack_files(run_dir)
    shutil.rmtree(run_dir / "stack")

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitted_module, "_out_of_fold", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_stack(run_dir, config=CONFIG)
    assert list((run_dir / "stack" / "blocks" / NAMES[0]).iterdir())
    fit_stack(run_dir, config=CONFIG)
    assert stack_files(run_dir) == before


def test_other_settings_clear_the_blocks(run_dir):
    fit_stack(run_dir, config=TINY_STACK)
    assert not (run_dir / "stack" / "blocks").exists()
    evaluate_run(run_dir)


def test_an_explanation_speaks_of_the_blocks_in_words(predicted):
    predictor, predictions = predicted
    parts, _ = build_up(predictor, predictions[0])
    names = [part.name for part in parts]
    assert len(set(names)) == len(names)
    labels = [PRICE_BLOCKS[name].label for name in NAMES]
    assert labels == names[-len(NAMES) :]
    assert not set(labels) & set(NAMES)
    columns = [column for name in NAMES for column in COLUMN_NAMES[name]]
    spoken = [
        PRICE_BLOCKS[name].label_of(column)
        for name in NAMES
        for column in COLUMN_NAMES[name]
    ]
    assert len(set(spoken)) == len(columns)
    assert not set(spoken) & set(columns)
    assert max(map(len, spoken)) <= 50
    assert max(map(len, labels)) <= 28
    assert BLOCKS["attributes"].label_of("log_value") == "log_value"
    assert BLOCKS["text"].label_of("text-3") == "text-3"


def test_a_report_adds_up_gains_by_block(block_run):
    names = read_json(block_run / "embed" / "manifest.json")["attribute_names"]
    gains = read_gains(block_run / "stack", attribute_names=names)
    columns = {block: n for block, n, _ in gains.blocks}
    assert list(columns) == ["network", "start", "attributes", *NAMES]
    assert columns["attributes"] == len(names)
    for name in NAMES:
        assert columns[name] == len(COLUMN_NAMES[name])
    assert sum(share for _, _, share in gains.blocks) == pytest.approx(1)


@pytest.mark.parametrize(
    ("log_price", "folds", "fault"),
    [
        ([1.0, 2.0], [0, 1, 0], r"same shape, got \(2,\) and \(3,\)"),
        ([1.0, np.nan, 3.0], [0, 1, -1], "row 1 .* is nan.*fold -1"),
    ],
)
def test_prices_that_do_not_fit_are_refused(log_price, folds, fault):
    with pytest.raises(InputError, match=fault):
        Prices(log_price=np.array(log_price), folds=np.array(folds))


def test_prices_are_known_to_all_folds_but_a_single_one():
    prices = Prices(
        log_price=np.array([1.0, 2.0, 3.0, np.nan]), folds=np.array([0, 1, 2, -1])
    )
    assert prices.known_to([1]).tolist() == [True, False, True, False]
    assert prices.known_to([1, 1]).tolist() == [True, False, True, False]
    for chosen in ([0, 1], [0, 1, 2]):
        assert prices.known_to(chosen).tolist() == [True, True, True, False]


def test_beside_the_network_log_prices_stand_less_its_own():
    rng = np.random.default_rng(0)
    blocks = {
        name: rng.normal(size=(5, len(columns))).astype(np.float32)
        for name, columns in COLUMN_NAMES.items()
    }
    blocks |= {"lightgbm": rng.normal(size=5), "fused": rng.normal(size=(5, 3))}
    network = rng.normal(size=5).astype(np.float32)
    alone = block_matrix(blocks, embed=NO_TABLE)
    beside = block_matrix(blocks | {"network": network}, embed=NO_TABLE)
    given, found = alone.rows(slice(None)), beside.rows(slice(None))
    np.testing.assert_array_equal(found[:, -1], network)
    less = given - found[:, :-1]
    is_price = np.array(
        [
            column.endswith(("-log-price", "-mean", "-weighted", "-median"))
            or column.endswith(("-least", "-most"))
            or column.startswith(("kernel-median-", "kernel-quantile-"))
            or column == "lightgbm-0"
            for column in alone.feature_names
        ]
    )
    assert is_price.sum() == 20 + 3 + 3 + 11
    for column, of in zip(less.T, is_price, strict=True):
        np.testing.assert_allclose(column, network if of else 0, atol=1e-6)
    np.testing.assert_array_equal(
        given, block_matrix(blocks, embed=NO_TABLE).rows(slice(None))
    )


def test_beside_a_start_log_prices_stand_less_it_the_networks_too():
    rng = np.random.default_rng(0)
    network, start = rng.normal(size=(2, 5)).astype(np.float32)
    kernel = rng.normal(size=(5, len(COLUMN_NAMES["kernel"]))).astype(np.float32)
    found = block_matrix(
        {"network": network, "start": start, "kernel": kernel}, embed=NO_TABLE
    )
    rows = found.rows(slice(None))
    assert found.feature_names[:3] == ["network-0", "start-0", "kernel-log-price"]
    np.testing.assert_allclose(rows[:, 0], network - start)
    np.testing.assert_array_equal(rows[:, 1], start)
    np.testing.assert_allclose(rows[:, 2], kernel[:, 0] - start)


def test_a_predictor_of_one_fold_begins_where_the_run_did(block_run, predicted):
    run = open_run(block_run)
    folds = np.asarray(run.array("finetune/folds"))
    start, weights = blend_out_of_fold(
        prices_of(run.targets()).log_price,
        network=run.out_of_fold("network"),
        other=features(block_run, "kernel")[:, 0],
        folds=folds,
        limits=(0.0, 1.0),
    )
    np.testing.assert_array_equal(run.array("stack/start_weights"), weights)
    found = np.concatenate([part.blocks["start"] for part in predicted[1]])
    np.testing.assert_allclose(found[folds == FOLD], start[folds == FOLD], atol=2e-3)


def test_where_the_trees_begin_is_a_part_of_the_price(predicted):
    predictor, (first, *_) = predicted
    parts, _ = build_up(predictor, first)
    assert [part.name for part in parts[:3]] == [NETWORK, START, ALL_ALIKE]
    begin = parts[0].log_price + parts[1].log_price
    assert begin == pytest.approx(float(first.blocks["start"][0]), abs=1e-6)
    total = sum(part.log_price for part in parts)
    assert total == pytest.approx(float(first.log_price[0]), abs=1e-6)


def test_without_the_block_the_trees_begin_at_the_network(run_dir):
    blocks = tuple(name for name in CONFIG.blocks if name != "start")
    none = dataclasses.replace(CONFIG, blocks=blocks, max_rounds=1, learning_rate=1e-9)
    fit_stack(run_dir, config=none)
    assert not (run_dir / "stack" / "start_weights.npy").exists()
    run = open_run(run_dir)
    np.testing.assert_allclose(
        run.out_of_fold("stacker"), run.out_of_fold("network"), atol=1e-6
    )


def shuffled_blocks(run_dir):
    checks = audit_run(run_dir, n_threads=1)
    return next(check for check in checks if check.name == "shuffled blocks")


def test_the_audit_fits_the_blocks_on_shuffled_prices(block_run):
    check = shuffled_blocks(block_run)
    assert check.passed, check.detail
    assert ", ".join(NAMES) in check.detail


def test_a_block_that_sees_the_price_of_its_own_row_fails_the_audit(
    block_run, monkeypatch
):
    def leak(block, folder, products, prices):
        return np.tile(prices.log_price[:, None], len(block.columns))

    monkeypatch.setattr(fitted_module, "_out_of_fold", leak)
    check = shuffled_blocks(block_run)
    assert not check.passed, check.detail
