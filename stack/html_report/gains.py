"""LightGBM's gain of the boosters' splits, by block and by feature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.table.encode import TABLE_PREFIX
from stack.blocks.registry import BLOCKS, Attributes
from stack.trees.boosters import load_boosters, read_booster

N_FEATURES = 15
_OWNER = {
    column.name: block.name for block in BLOCKS.values() for column in block.columns
}


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Shares of the total gain, 0 to 1, averaged over the boosters that have trees."""

    trees: list[int]
    """Number of trees of each booster."""

    blocks: list[tuple[str, int, float]]
    """Label, columns and share, in the order of the matrix."""

    features: list[tuple[str, str, float]]
    """Label, block and share of the features that gain most, largest first."""


def read_gains(folder: Path, *, attribute_names: Sequence[str]) -> Gains:
    """Read the boosters of a folder, and add up their gains.

    Parameters
    ----------
    folder : Path
        Folder of booster-0.txt, ….
    attribute_names : sequence of str
        Columns of the block of attributes; other names contain their block.

    Raises
    ------
    CacheError
        If the boosters are missing, damaged or have different features.
    """
    names: list[str] = read_booster(folder / "booster-0.txt").feature_name()
    boosters = load_boosters(folder, feature_names=names)
    share = _mean_share([b.feature_importance("gain") for b in boosters])
    block_of = {name: _block(name, attribute_names) for name in names}
    has_table = any(name.startswith(TABLE_PREFIX) for name in attribute_names)
    label_of = {Attributes.name: "sizes and table columns"} if has_table else {}
    best = np.argsort(-share, kind="stable")[:N_FEATURES]
    return Gains(
        trees=[booster.num_trees() for booster in boosters],
        blocks=[
            (label_of.get(block, block), n, gain)
            for block, n, gain in _by_block(names, share, block_of)
        ],
        features=[
            (_label(name, block), label_of.get(block, block), float(share[column]))
            for column in best.tolist()
            if share[column] > 0
            for name, block in [(names[column], block_of[names[column]])]
        ],
    )


def _by_block(
    names: Sequence[str], share: NDArray[np.float64], block_of: Mapping[str, str]
) -> list[tuple[str, int, float]]:
    total: dict[str, tuple[int, float]] = {}
    for name, part in zip(names, share.tolist(), strict=True):
        n, gain = total.get(block_of[name], (0, 0.0))
        total[block_of[name]] = (n + 1, gain + part)
    return [(block, n, gain) for block, (n, gain) in total.items()]


def _mean_share(gains: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    grown = [gain / gain.sum() for gain in gains if gain.sum() > 0]
    return np.mean(grown, axis=0) if grown else np.zeros(len(gains[0]))


def _label(feature: str, block: str) -> str:
    """Return a feature's name; in words if it is of a table column."""
    return BLOCKS[block].label_of(feature) if TABLE_PREFIX in feature else feature


def _block(feature: str, attribute_names: Sequence[str]) -> str:
    if feature in attribute_names:
        return "attributes"
    block = _OWNER.get(feature) or feature.split("-")[0]
    return block if block in BLOCKS else "attributes"
