"""Load a run's pricing engine with its boosters and its blocks fitted on prices."""

from collections.abc import Sequence

import numpy as np

from finetune.network.model import FUSED_DIM
from stack.blocks.fitted import block_matrix, load_blocks
from stack.blocks.registry import BLOCKS, RAW_BLOCKS
from stack.price.confidence import CONFIDENCE_DIR, Confidence, load_confidence
from stack.price.engine import Engine, Trees
from stack.records import ConfidenceRecord
from stack.run import RAW_DIR, Run
from stack.trees.boosters import load_boosters, read_booster
from stack.trees.error_size import parts_of


def load_engine(run: Run, blocks: Sequence[str], folds: Sequence[int]) -> Engine:
    """Load the engine that corrects the networks' prices by boosters.

    Parameters
    ----------
    run : Run
        Run whose boosters have been fitted.
    blocks : sequence of str
        Blocks that the boosters were fitted on.
    folds : sequence of int
        Folds whose boosters predict.

    Raises
    ------
    CacheError
        If a file is missing or damaged, or a booster has other features.
    """
    weights, raw_trees, raw_start = None, None, 0.0
    if "start" in blocks:
        weights = run.array("stack/start_weights")[folds].mean(axis=0)
    if "lightgbm" in blocks:
        raw_trees = _load_trees(run, RAW_DIR, RAW_BLOCKS, folds)
        raw_start = float(run.array("stack/lightgbm/starts")[folds].mean())
    return Engine(
        price_unit=run.price_unit,
        trees=_load_trees(run, "", blocks, folds),
        raw_trees=raw_trees,
        raw_start=raw_start,
        start_weights=weights,
        n_categories=len(run.embed.category_sizes),
        price_blocks=load_blocks(blocks, run, folds),
    )


def load_run_confidence(
    run: Run, record: ConfidenceRecord, folds: Sequence[int]
) -> Confidence:
    """Load what a run knows of the errors of its prices.

    Parameters
    ----------
    run : Run
    record : ConfidenceRecord
    folds : sequence of int
        Folds that predict. The boosters are those fitted without them, if the run has
        boosters of the error's size.

    Raises
    ------
    CacheError
        If a file is missing or damaged.
    """
    folder = run.run_dir / "stack" / CONFIDENCE_DIR
    parts = np.unique(parts_of(np.asarray(folds))) if record.has_boosters else ()
    return load_confidence(
        folder,
        record.as_json(),
        boosters=[read_booster(folder / f"booster-{part}.txt") for part in parts],
        log_price_columns={
            name: BLOCKS[name].log_prices_of(run.embed) for name in record.blocks
        },
        price_unit=run.price_unit,
    )


def _load_trees(
    run: Run, folder: str, blocks: Sequence[str], folds: Sequence[int]
) -> Trees:
    embed = run.embed
    widths = {
        "text": embed.text_dim,
        "image": embed.image_dim,
        "fused": FUSED_DIM,
        **{
            name: len(columns)
            for name, block in BLOCKS.items()
            if (columns := block.columns_of(embed))
        },
    }
    blank = {name: np.zeros((1, widths[name]), np.float32) for name in blocks}
    boosters = load_boosters(
        run.run_dir / "stack" / folder,
        feature_names=block_matrix(blank, embed=embed).feature_names,
    )
    return Trees(
        boosters=[boosters[fold] for fold in folds],
        blocks=blocks,
        log_price_columns={name: BLOCKS[name].log_prices_of(embed) for name in blocks},
    )
