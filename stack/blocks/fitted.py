"""The blocks that are fitted on prices: fit them for a run, load them to predict.

A product of fold k is described by exactly what a predictor of fold k alone loads, so
that what the boosters learn from is what they are later given.
"""

import logging
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.arrays import read_rows, release_rows
from embed.store.checksums import record_files, verify_files
from embed.store.durable import save_array
from embed.store.manifest import read_json, write_json
from embed.store.schema import check_record, fields, file_name, many, named, whole
from stack.blocks import kernel, lexical, neighbours, statistics
from stack.blocks.products import Features, Prices, Products
from stack.price.engine import FittedBlock, relative_blocks
from stack.run import Run
from stack.trees.matrix import BlockMatrix

logger = logging.getLogger(__name__)

BLOCKS_DIR = "blocks"
PRICE_BLOCKS: Mapping[str, ModuleType] = {
    "neighbours": neighbours,
    "lexical": lexical,
    "kernel": kernel,
    "statistics": statistics,
}
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    name: block.COLUMNS for name, block in PRICE_BLOCKS.items()
}
LOG_PRICE_COLUMNS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("network", "start", "lightgbm"), (0,)),
    **{
        name: tuple(block.COLUMNS.index(column) for column in block.LOG_PRICES)
        for name, block in PRICE_BLOCKS.items()
    },
}
"""By block, the columns that are log prices."""

ARRAY_NAME = "features.npy"
RECORD_NAME = "files.json"
_RECORD = named(
    fields(bytes=whole(0), crc32=many(whole(0, 2**32 - 1))), names=file_name
)
_CHUNK_ROWS = 1024


def fit_blocks(
    names: Iterable[str], products: Products, prices: Prices, stage_dir: Path
) -> dict[str, NDArray[np.float32]]:
    """Fit blocks out of fold; what a stopped run has finished is taken.

    Parameters
    ----------
    names : iterable of str
        Of blocks; those not in `PRICE_BLOCKS` are passed over.
    products : Products
        Of the run.
    prices : Prices
        Of the run. The row of a product comes from the prices outside its fold, that
        of an unpriced one from all.
    stage_dir : Path
        Of the stacking stage; `blocks/NAME` in it gets the block's files.

    Returns
    -------
    dict of str to ndarray of shape (n_products, d), float32
        By name, memory-mapped; NaN where missing.
    """
    return {
        name: _fit_block(name, products, prices, stage_dir)
        for name in names
        if name in PRICE_BLOCKS
    }


def load_blocks(
    names: Iterable[str], run: Run, folds: Collection[int]
) -> dict[str, FittedBlock]:
    """Load the blocks of a finished run as the networks of some folds may see them.

    Parameters
    ----------
    names : iterable of str
        Of blocks; those not in `PRICE_BLOCKS` are passed over.
    run : Run
    folds : collection of int
        If a single one is chosen, prices of its own products are not used.

    Raises
    ------
    CacheError
        If a file is missing or damaged.
    """
    chosen = [name for name in names if name in PRICE_BLOCKS]
    if not chosen:
        return {}
    features, prices = features_of(run), prices_of(run)
    directory = run.run_dir / "stack" / BLOCKS_DIR
    return {
        name: PRICE_BLOCKS[name].load(directory / name, features, prices, folds)
        for name in chosen
    }


def block_matrix(
    blocks: dict[str, NDArray[Any]], *, attribute_names: list[str]
) -> BlockMatrix:
    """Put blocks side by side, each under the names that its columns have.

    Log prices are relative, see `stack.price.engine.relative_blocks`.
    """
    names = {"attributes": attribute_names, **COLUMN_NAMES}
    named = {block: names[block] for block in names.keys() & blocks.keys()}
    return BlockMatrix(relative_blocks(blocks, LOG_PRICE_COLUMNS), column_names=named)


def features_of(run: Run) -> Features:
    """Return the features of a run's products; the fused ones have to be aligned."""
    return Features(
        text=run.array("embed/text"),
        image=run.array("embed/image"),
        image_ok=np.asarray(run.array("embed/image_ok")),
        fused=run.array("stack/fused"),
        attributes=run.array("embed/attributes"),
    )


def prices_of(run: Run) -> Prices:
    """Return the prices of a run's products."""
    return Prices(
        log_price=run.log_price(),
        folds=np.asarray(run.array("finetune/folds")),
    )


def _fit_block(
    name: str, products: Products, prices: Prices, stage_dir: Path
) -> NDArray[np.float32]:
    folder = stage_dir / BLOCKS_DIR / name
    if not _is_whole(folder, stage_dir):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        logger.info("block %s: fitted on prices, out of fold", name)
        block = PRICE_BLOCKS[name]
        block.fit(products, prices, folder)
        save_array(folder / ARRAY_NAME, _out_of_fold(block, folder, products, prices))
        names = [path.relative_to(stage_dir).as_posix() for path in folder.iterdir()]
        write_json(folder / RECORD_NAME, record_files(stage_dir, names))
    return read_rows(folder / ARRAY_NAME)


def _out_of_fold(
    block: Any, folder: Path, products: Products, prices: Prices
) -> NDArray[np.float32]:
    found = np.full((len(products.texts), len(block.COLUMNS)), np.nan, np.float32)
    for fold in range(-1, prices.n_folds):
        rows = np.flatnonzero(prices.folds == fold)
        if not len(rows):
            continue
        chosen = [fold] if fold >= 0 else range(prices.n_folds)
        fitted = block.load(folder, products.features, prices, chosen)
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            found[chunk] = fitted.predict(products.take(chunk))
            for array in vars(products.features).values():
                release_rows(array)
        del fitted  # its references, before those of the next fold are read
    return found


def _is_whole(folder: Path, stage_dir: Path) -> bool:
    """Say whether a stopped run has finished a block, and nothing has damaged it."""
    path = folder / RECORD_NAME
    try:
        record = read_json(path)
        if record is None:
            return False
        check_record(record, path, _RECORD)
        verify_files(stage_dir, record)
    except CacheError as error:
        logger.warning("%s So it is fitted again.", error)
        return False
    return True
