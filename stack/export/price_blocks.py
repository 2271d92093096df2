"""Files of an export for the blocks that are fitted on prices.

These are the blocks' own files and, if a block needs them, log prices, folds and
features of the run's products.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import flush_rows, open_rows, release_rows, write_rows
from stack.blocks.fitted import (
    ARRAY_NAME,
    BLOCKS_DIR,
    RECORD_NAME,
    features_of,
    prices_of,
)
from stack.blocks.registry import PRICE_BLOCKS
from stack.run import Run

KNOWN_DIR = "known"
"""Folder of the arrays of the run's priced products."""

_CHUNK_ROWS = 4096


def write_price_blocks(run: Run, names: Sequence[str], folder: Path) -> None:
    """Write blocks so that `stack.price.onnx_model` can compute them.

    Parameters
    ----------
    run : Run
        Run with a finished stacking stage.
    names : sequence of str
        Names of blocks, each fitted by that stage.
    folder : Path
        Folder of the export.
    """
    for name in names:
        shutil.copytree(
            run.run_dir / "stack" / BLOCKS_DIR / name,
            folder / BLOCKS_DIR / name,
            ignore=shutil.ignore_patterns(ARRAY_NAME, RECORD_NAME),
        )
    _write_known(run, names, folder / KNOWN_DIR)


def _write_known(run: Run, names: Sequence[str], folder: Path) -> None:
    """Write the arrays of the priced products that the blocks use."""
    blocks = [PRICE_BLOCKS[name] for name in names]
    prices = prices_of(run.targets())
    arrays: dict[str, NDArray[Any]] = {}
    if any(block.needs_prices for block in blocks):
        arrays |= vars(prices)
    if any(block.needs_features for block in blocks):
        arrays |= vars(features_of(run))
    rows = np.flatnonzero(prices.folds >= 0)
    for name, array in arrays.items():
        folder.mkdir(exist_ok=True)
        _copy_rows(array, rows, folder / f"{name}.npy")


def _copy_rows(array: NDArray[Any], rows: NDArray[np.intp], path: Path) -> None:
    shape = (len(rows), *array.shape[1:])
    copied = open_rows(path, shape=shape, dtype=array.dtype, resume=False)
    for start in range(0, len(rows), _CHUNK_ROWS):
        write_rows(copied, start, array[rows[start : start + _CHUNK_ROWS]])
        release_rows(array)
    flush_rows(copied)


def copy_parts(package: ModuleType, names: Sequence[str], into: Path) -> None:
    """Copy modules and folders of a package."""
    source = Path(str(package.__file__)).parent
    into.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_dir():
            compiled = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / name, into / name, ignore=compiled)
        else:
            shutil.copyfile(source / name, into / name)
