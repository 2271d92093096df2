"""Named blocks of features as one matrix, read from disk when LightGBM needs them.

Source: LightGBM's `Sequence`, which reads single rows to find bin bounds and then
slices of `batch_size` rows to bin them; only the bins (one byte each) stay in memory.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import release_rows
from stack.blocks.registry import BLOCKS
from stack.config import StackConfig

_EMBEDDINGS = {name for name, block in BLOCKS.items() if block.is_embedding}
_FORBIDDEN_IN_NAME = re.compile(r'[\s",:\[\]{}]')


class BlockMatrix(lgb.Sequence):
    """Arrays side by side; row i of the matrix is row i of each array.

    Parameters
    ----------
    blocks : mapping of str to ndarray of shape (n_products, dim) or (n_products,)
        Blocks in column order; float16 or float32, usually memmaps, which are never
        copied whole. NaN counts as missing.
    column_names : mapping of str to sequence of str, optional
        Names for the columns of some blocks; the others are `BLOCK-0`, `BLOCK-1`, ….
    categories : sequence of str, optional
        Names of the columns that are codes of categories.

    Raises
    ------
    ValueError
        If there is no block, the blocks differ in rows, or a name cannot be used.
    """

    batch_size = 4096

    def __init__(
        self,
        blocks: Mapping[str, NDArray[Any]],
        *,
        column_names: Mapping[str, Sequence[str]] | None = None,
        categories: Sequence[str] = (),
    ) -> None:
        self.categories = list(categories)
        _check_same_rows(blocks)
        # asarray is a view without memmap's bookkeeping at each row.
        self._memmaps = list(blocks.values())
        self._blocks = {
            name: np.asarray(block).reshape(len(block), -1)
            for name, block in blocks.items()
        }
        stops = np.cumsum([block.shape[1] for block in self._blocks.values()])
        self.block_slices = {
            name: slice(int(stop) - block.shape[1], int(stop))
            for (name, block), stop in zip(self._blocks.items(), stops, strict=True)
        }
        self.shape: tuple[int, int] = (
            len(next(iter(self._blocks.values()))),
            int(stops[-1]),
        )
        self.feature_names = self._name_columns(column_names or {})

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(
        self, index: int | slice | list[int] | NDArray[np.integer]
    ) -> NDArray[Any]:
        if isinstance(index, int | np.integer):
            # LightGBM reads the rows it samples for bins as doubles.
            row = [block[index] for block in self._blocks.values()]
            return np.concatenate(row, dtype=np.float64)
        return self.rows(index)

    def rows(
        self, indices: slice | Sequence[int] | NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Read some rows.

        Parameters
        ----------
        indices : slice or integers of shape (m,)
            Rows to read, in this order; ascending order reads a file fastest.

        Returns
        -------
        ndarray of shape (m, d), float32
        """
        where = indices if isinstance(indices, slice) else np.asarray(indices, np.intp)
        parts = [block[where] for block in self._blocks.values()]
        matrix = np.concatenate(parts, axis=1, dtype=np.float32)
        for rows in self._memmaps:
            release_rows(rows)
        return matrix

    def _name_columns(self, column_names: Mapping[str, Sequence[str]]) -> list[str]:
        if unknown := set(column_names) - set(self._blocks):
            raise ValueError(
                f"BlockMatrix: column_names has {sorted(unknown)}, but the blocks are "
                f"{list(self._blocks)}"
            )
        names: list[str] = []
        for block, array in self._blocks.items():
            dim = array.shape[1]
            columns = list(
                column_names.get(block, [f"{block}-{j}" for j in range(dim)])
            )
            if len(columns) != dim:
                raise ValueError(
                    f"BlockMatrix: block {block!r} has {dim} columns, its column_names "
                    f"has {len(columns)}; give one name for each"
                )
            names += columns
        _check_names(names)
        return names


def make_dataset(
    matrix: BlockMatrix, log_price: NDArray[np.floating], config: StackConfig
) -> lgb.Dataset:
    """Bin all rows once; folds are subsets of the result.

    Bin bounds come from the features alone, so folds can share them without sharing
    prices.

    Parameters
    ----------
    matrix : BlockMatrix of shape (n_products, d)
        Features.
    log_price : ndarray of shape (n_products,)
        log1p of the true price, NaN where unpriced (such rows must not be trained on).
    config : StackConfig
        Bins, threads and seed.

    Returns
    -------
    lightgbm.Dataset
        Constructed dataset; the features themselves are not kept.
    """
    return lgb.Dataset(
        matrix,
        label=np.nan_to_num(log_price, nan=0.0).astype(np.float32),
        feature_name=matrix.feature_names,
        categorical_feature=matrix.categories,
        params=booster_params(matrix, config),
        free_raw_data=True,
    ).construct()


def booster_params(matrix: BlockMatrix, config: StackConfig) -> dict[str, Any]:
    """Return LightGBM's parameters, the same for the data and the boosters."""
    gains = np.ones(matrix.shape[1])
    for block in _EMBEDDINGS & matrix.block_slices.keys():
        gains[matrix.block_slices[block]] = config.embedding_gain
    return {
        "feature_contri": gains.tolist(),
        "objective": "regression_l1" if config.objective == "l1" else "none",
        "metric": "None",
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging_fraction,
        "bagging_freq": 1,
        "min_data_in_leaf": config.min_data_in_leaf,
        "lambda_l2": config.lambda_l2,
        "max_bin": config.max_bin,
        "bin_construct_sample_cnt": config.bin_sample,
        "feature_pre_filter": False,
        "num_threads": config.n_threads,
        "seed": config.seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }


def _check_same_rows(blocks: Mapping[str, NDArray[Any]]) -> None:
    if not blocks:
        raise ValueError("BlockMatrix: needs at least one block of features, got none")
    n_rows = {name: len(block) for name, block in blocks.items()}
    if len(set(n_rows.values())) > 1:
        counts = ", ".join(f"{name} {n}" for name, n in n_rows.items())
        raise ValueError(
            f"BlockMatrix: blocks must have the same number of rows, got {counts}. "
            f"They come from different catalogs; make the features again from one run."
        )


def _check_names(names: list[str]) -> None:
    # LightGBM fails on these characters, and turns a blank into an underscore, so a
    # loaded booster would have other feature names than the matrix.
    if _FORBIDDEN_IN_NAME.search("".join(names)):
        bad = next(name for name in names if _FORBIDDEN_IN_NAME.search(name))
        raise ValueError(
            f"BlockMatrix: column names must have no blank and none of "
            f'",:[]{{}}, got {bad!r}. Rename the column.'
        )
    if len(set(names)) < len(names):
        repeated = [name for name, n in Counter(names).items() if n > 1]
        raise ValueError(
            f"BlockMatrix: column names must differ, repeated: {sorted(repeated)[:5]}"
        )
