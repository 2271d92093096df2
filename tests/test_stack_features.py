import tracemalloc

import lightgbm as lgb
import numpy as np
import pytest

from stack.config import StackConfig
from stack.trees.matrix import BlockMatrix, make_dataset

CONFIG = StackConfig(n_threads=1, bin_sample=200, min_data_in_leaf=5)


def small_matrix():
    rng = np.random.default_rng(0)
    return BlockMatrix(
        {
            "text": rng.normal(size=(50, 3)).astype(np.float16),
            "attributes": rng.normal(size=(50, 2)).astype(np.float32),
            "network": rng.normal(size=50).astype(np.float32),
        },
        column_names={"attributes": ["value", "pack_count"]},
    )


def test_columns_keep_the_order_of_the_blocks_and_their_given_names():
    matrix = small_matrix()
    assert matrix.shape == (50, 6)
    assert matrix.feature_names == [
        "text-0", "text-1", "text-2", "value", "pack_count", "network-0",
    ]  # fmt: skip
    assert matrix.block_slices["attributes"] == slice(3, 5)
    assert list(matrix.block_slices) == ["text", "attributes", "network"]


def test_every_way_of_indexing_returns_the_same_rows():
    matrix = small_matrix()
    whole = matrix[:]
    assert len(matrix) == 50
    assert whole.dtype == np.float32
    assert matrix[7].dtype == np.float64  # what LightGBM needs of a single row
    np.testing.assert_array_equal(matrix[7], whole[7])
    np.testing.assert_array_equal(matrix[[9, 2]], whole[[9, 2]])
    np.testing.assert_array_equal(matrix[10:20], whole[10:20])
    np.testing.assert_array_equal(matrix.rows(np.array([3, 3])), whole[[3, 3]])
    assert matrix.rows([]).shape == (0, 6)


def test_iteration_ends_at_the_last_row():
    assert sum(1 for _ in small_matrix()) == 50


def test_blocks_of_different_catalogs_are_refused_by_name():
    with pytest.raises(ValueError, match="got text 50, image 49"):
        BlockMatrix({"text": np.zeros((50, 2)), "image": np.zeros((49, 2))})


def test_no_block_is_refused():
    with pytest.raises(ValueError, match="at least one block"):
        BlockMatrix({})


@pytest.mark.parametrize(
    ("column_names", "message"),
    [
        ({"image": ["a"]}, r"has \['image'\], but the blocks are"),
        ({"text": ["a"]}, "'text' has 2 columns, its column_names has 1"),
        ({"text": ["a", "b c"]}, "no blank .* got 'b c'"),
        ({"text": ["a", "a"]}, r"repeated: \['a'\]"),
    ],
)
def test_unusable_column_names_are_refused(column_names, message):
    with pytest.raises(ValueError, match=message):
        BlockMatrix({"text": np.zeros((4, 2))}, column_names=column_names)


def test_a_memmap_is_never_copied_whole(tmp_path):
    n, dim = 20_000, 64
    block = np.lib.format.open_memmap(
        tmp_path / "text.npy", mode="w+", dtype=np.float16, shape=(n, dim)
    )
    rng = np.random.default_rng(0)
    for start in range(0, n, 1000):
        block[start : start + 1000] = rng.normal(size=(1000, dim))
    whole = n * dim * 2  # bytes, as float16
    tracemalloc.start()
    matrix = BlockMatrix({"text": block})
    _, made = tracemalloc.get_traced_memory()
    make_dataset(matrix, np.zeros(n), CONFIG)
    _, binned = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made < 100_000
    assert binned < whole  # two batches of 4096 rows as float32, not 20,000


def test_the_dataset_ignores_what_no_row_is_trained_on():
    matrix = small_matrix()
    dataset = make_dataset(matrix, np.full(50, np.nan), CONFIG)
    assert dataset.num_data() == 50
    assert dataset.get_feature_name() == matrix.feature_names
    assert np.isfinite(dataset.get_label()).all()


def test_bins_do_not_depend_on_prices(tmp_path):
    matrix = small_matrix()
    label = np.linspace(0, 1, 50)
    dumps = []
    for price in (label, label[::-1]):
        dataset = make_dataset(matrix, price, CONFIG)
        dataset.set_label(label)
        booster = lgb.train({"num_threads": 1, "verbosity": -1}, dataset, 3)
        dumps.append(booster.model_to_string())
    assert dumps[0] == dumps[1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"blocks": ()}, "blocks must be one or more of text, image"),
        ({"blocks": ("text", "text")}, "each once"),
        ({"blocks": ("smell",)}, r"got \('smell',\)"),
        ({"objective": "l2"}, "objective must be one of l1, log_smape, got 'l2'"),
        ({"max_rounds": 0}, "max_rounds must be at least 1, got 0"),
        ({"num_leaves": 1}, "num_leaves must be at least 2"),
        ({"max_bin": 256}, r"max_bin must be 2 to 255 \(one byte.*, got 256"),
        ({"valid_fraction": 0.6}, r"valid_fraction must be in \(0, 0.5\]"),
        ({"feature_fraction": 0.0}, "feature_fraction must be in"),
        (
            {"learning_rate": float("nan")},
            "learning_rate must be a finite number, got nan",
        ),
        ({"lambda_l2": -1.0}, "lambda_l2 must be 0 or more, got -1"),
        ({"seed": -1}, "seed must be 0 to"),
    ],
)
def test_unusable_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        StackConfig(**setting)
