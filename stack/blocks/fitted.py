"""The blocks that are fitted on prices: fit them for a run, load them to predict.

The features of a product of fold k come from exactly the block that a predictor of
fold k alone loads, so the boosters are trained on the features that they later get.
"""

import logging
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.records import EmbedManifest
from embed.store.arrays import read_rows, release_rows
from embed.store.checksums import record_files, verify_files
from embed.store.durable import save_array
from embed.store.manifest import read_record, write_json
from embed.text import compose_text, parse_fields
from stack.blocks.block import EXACT_UP_TO, PriceBlock
from stack.blocks.inputs import (
    BlockInputs,
    Features,
    Known,
    Prices,
    split_attributes,
)
from stack.blocks.registry import BLOCKS, PRICE_BLOCKS
from stack.price.engine import relative_blocks
from stack.records import BlockFiles
from stack.run import Run, Targets
from stack.trees.matrix import BlockMatrix

logger = logging.getLogger(__name__)

BLOCKS_DIR = "blocks"
ARRAY_NAME = "features.npy"
RECORD_NAME = "files.json"
_CHUNK_ROWS = 1024


def fit_blocks(
    names: Iterable[str],
    products: BlockInputs,
    prices: Prices,
    stage_dir: Path,
    *,
    exact_up_to: int = EXACT_UP_TO,
) -> dict[str, NDArray[np.float32]]:
    """Fit blocks out of fold; keep the blocks that a stopped run has finished.

    Parameters
    ----------
    names : iterable of str
        Names of blocks; those not in `PRICE_BLOCKS` are skipped.
    products : BlockInputs
        Products of the run.
    prices : Prices
        Prices of the run. The features of a product come from the prices outside its
        fold; those of an unpriced product from all prices.
    stage_dir : Path
        Folder of the stacking stage; each block writes its files to `blocks/NAME`.
    exact_up_to : int
        Number of priced products beyond which a block may approximate.

    Returns
    -------
    dict of str to ndarray of shape (n_products, d), float32
        Features by block name, memory-mapped; NaN where missing.
    """
    return {
        name: _fit_block(name, products, prices, stage_dir, exact_up_to)
        for name in names
        if name in PRICE_BLOCKS
    }


def load_blocks(
    names: Iterable[str], run: Run, folds: Collection[int]
) -> dict[str, PriceBlock]:
    """Load the blocks of a finished run, fitted on the prices that the folds may use.

    Parameters
    ----------
    names : iterable of str
        Names of blocks; those not in `PRICE_BLOCKS` are skipped.
    run : Run
    folds : collection of int
        For a single fold, the prices of its own products are not used.

    Raises
    ------
    CacheError
        If a file is missing or damaged.
    """
    names = [name for name in names if name in PRICE_BLOCKS]
    if not names:
        return {}
    known = Known(features=features_of(run), prices=prices_of(run.targets()))
    directory = run.run_dir / "stack" / BLOCKS_DIR
    return {
        name: PRICE_BLOCKS[name].load(directory / name, known, folds) for name in names
    }


def block_matrix(
    blocks: Mapping[str, NDArray[Any]], *, embed: EmbedManifest
) -> BlockMatrix:
    """Put blocks side by side, with their column names.

    Log prices are relative, see `stack.price.engine.relative_blocks`.

    Parameters
    ----------
    blocks : mapping of str to ndarray of shape (n_products, d) or (n_products,)
    embed : EmbedManifest
        Manifest of the embedding stage.
    """
    columns = {name: BLOCKS[name].columns_of(embed) for name in blocks}
    return BlockMatrix(
        relative_blocks(
            blocks, {name: BLOCKS[name].log_prices_of(embed) for name in blocks}
        ),
        column_names={
            name: [column.name for column in named]
            for name, named in columns.items()
            if named
        },
        categories=[
            column.name
            for named in columns.values()
            for column in named
            if column.is_category
        ],
    )


def inputs_of(run: Run) -> BlockInputs:
    """Return the texts and features of a run's products."""
    return BlockInputs(
        features=features_of(run),
        texts=[compose_text(parse_fields(text)) for text in run.catalog().text],
    )


def features_of(run: Run) -> Features:
    """Return the features of a run's products; alignment must have finished."""
    return Features(
        text=run.array("embed/text"),
        image=run.array("embed/image"),
        image_ok=np.asarray(run.array("embed/image_ok")),
        fused=run.array("stack/fused"),
        **split_attributes(
            run.array("embed/attributes"), len(run.embed.category_sizes)
        ),
    )


def prices_of(targets: Targets) -> Prices:
    """Return the log prices and folds that blocks are fitted on."""
    return Prices(log_price=targets.log_price, folds=targets.folds)


def _fit_block(
    name: str,
    products: BlockInputs,
    prices: Prices,
    stage_dir: Path,
    exact_up_to: int,
) -> NDArray[np.float32]:
    folder = stage_dir / BLOCKS_DIR / name
    if not _is_whole(folder, stage_dir):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        logger.info("block %s: fitted on prices, out of fold", name)
        block = PRICE_BLOCKS[name]
        block.fit(products, prices, folder, exact_up_to=exact_up_to)
        features = _out_of_fold(block, folder, products, prices)
        save_array(folder / ARRAY_NAME, features)
        names = [path.relative_to(stage_dir).as_posix() for path in folder.iterdir()]
        files = BlockFiles(record_files(stage_dir, names))
        write_json(folder / RECORD_NAME, files.model_dump())
    return read_rows(folder / ARRAY_NAME)


def _out_of_fold(
    block: type[PriceBlock], folder: Path, products: BlockInputs, prices: Prices
) -> NDArray[np.float32]:
    features = np.zeros((len(products.texts), 0), np.float32)
    known = Known(features=products.features, prices=prices)
    for fold in range(-1, prices.n_folds):
        rows = np.flatnonzero(prices.folds == fold)
        if not len(rows):
            continue
        folds = [fold] if fold >= 0 else range(prices.n_folds)
        fitted = block.load(folder, known, folds)
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            values = fitted.predict(products.take(chunk))
            if not features.size:
                features = np.full((len(features), values.shape[1]), np.nan, np.float32)
            features[chunk] = values
            for array in vars(products.features).values():
                release_rows(array)
        del fitted  # frees its references before those of the next fold are read
    return features


def _is_whole(folder: Path, stage_dir: Path) -> bool:
    """Return whether a block is finished and undamaged."""
    path = folder / RECORD_NAME
    try:
        files = read_record(path, BlockFiles)
        if files is None:
            return False
        verify_files(stage_dir, files.root)
    except CacheError as error:
        logger.warning("%s So it is fitted again.", error)
        return False
    return True
