"""The spaces in which block `neighbours` searches: exactly, or by an index.

The effort of an approximate search is raised until it finds enough of the nearest
products; the record beside the index contains the recall that was measured.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.manifest import read_record
from stack.blocks.index import LEAST_EFFORT, DenseIndex, index_rows
from stack.blocks.inputs import BlockInputs, Features, Prices
from stack.blocks.nearest import (
    DenseReferences,
    ExactReferences,
    IndexedReferences,
    RareWordReferences,
    References,
    WordReferences,
    unit_rows,
)
from stack.blocks.terms import load_terms

if TYPE_CHECKING:
    from stack.blocks.recall import SearchRecall, SpaceRecall

logger = logging.getLogger(__name__)

RECALL_NAME = "recall.json"
WORDS = "words"
DENSE = ("text", "image", "fused")

LEAST_RECALL = 0.98
N_RECALLED = 10
_N_QUERIES = 200
_LEAST_RARE = 500
_DOUBLINGS = 6
_ROUNDING = 1e-5


def rows_of_spaces(features: Features, prices: Prices) -> dict[str, NDArray[np.intp]]:
    """Return the rows of the priced products in each space."""
    priced = prices.folds >= 0
    rows = {space: np.flatnonzero(priced) for space in (*DENSE, WORDS)}
    rows["image"] = np.flatnonzero(priced & np.asarray(features.image_ok))
    return rows


def index_spaces(
    products: BlockInputs, prices: Prices, folder: Path, *, exact_up_to: int
) -> "SearchRecall":
    """Index the spaces that are large, and measure the recall in each.

    Parameters
    ----------
    products, prices, folder
        As for `PriceBlock.fit`; the words are in the folder.
    exact_up_to : int
        Number of products up to which a space has no index.
    """
    from stack.blocks.recall import SearchRecall  # late: an export may lack pydantic

    features, recall = products.features, {}
    for space, rows in rows_of_spaces(features, prices).items():
        if len(rows) <= exact_up_to:
            continue
        if space in DENSE:
            index = index_rows(getattr(features, space), rows, unit_rows)
            index.save(_index_path(folder, space))
        recall[space] = _measure(space, products, prices, rows, folder)
    return SearchRecall(recall)


def read_recall(folder: Path) -> "SearchRecall | None":
    """Read the recall in a block's folder; None if all spaces are searched exactly."""
    from stack.blocks.recall import SearchRecall

    return read_record(folder / RECALL_NAME, SearchRecall)


def load_references(
    space: str,
    folder: Path,
    features: Features,
    rows: NDArray[np.intp],
    usable: NDArray[np.bool_],
    recall: "SearchRecall | None",
) -> References:
    """Load the references of a space.

    Parameters
    ----------
    space : str
        One of `DENSE`, or `WORDS`.
    folder : Path
        Folder of the block.
    features : Features
        Features of the run's products.
    rows : ndarray of shape (n,), int
        Rows of the priced products of the space.
    usable : ndarray of shape (n,), bool
        Products that are references.
    recall : SearchRecall or None
        None if all spaces are searched exactly.
    """
    if recall is None or space not in recall.root:
        return _exact(space, folder, features, rows, usable)
    return _approximate(space, folder, usable)(recall.root[space].effort)


def _exact(
    space: str,
    folder: Path,
    features: Features,
    rows: NDArray[np.intp],
    usable: NDArray[np.bool_],
) -> ExactReferences:
    if space == WORDS:
        words = load_terms(folder, len(rows))[np.flatnonzero(usable)]
        return WordReferences(np.asarray(read_rows(folder / "idf.npy")), words)
    return DenseReferences(getattr(features, space), rows[usable])


def _approximate(
    space: str, folder: Path, usable: NDArray[np.bool_]
) -> Callable[[int], References]:
    """Load what a space is searched by; return its references for an effort."""
    if space == WORDS:
        words = load_terms(folder, len(usable))[np.flatnonzero(usable)]
        idf = np.asarray(read_rows(folder / "idf.npy"))
        return lambda effort: RareWordReferences(idf, words, effort)
    index = DenseIndex.load(_index_path(folder, space))
    return lambda effort: IndexedReferences(index, effort, usable)


def _measure(
    space: str,
    products: BlockInputs,
    prices: Prices,
    rows: NDArray[np.intp],
    folder: Path,
) -> "SpaceRecall":
    """Double the effort until products of one fold find their nearest outside it."""
    from stack.blocks.recall import SpaceRecall

    usable = prices.folds[rows] != 0
    others = np.flatnonzero(~usable)
    drawn = np.random.default_rng(0).permutation(others)[:_N_QUERIES]
    queries: Any = products.counts[0]
    if space != WORDS:
        queries = getattr(products.features, space)
    queries = queries[np.sort(rows[drawn])]
    exact = _exact(space, folder, products.features, rows, usable)
    similarity = exact.similarity(queries)
    tenth = exact.nearest(queries, N_RECALLED)[1][:, -1:]
    approximate = _approximate(space, folder, usable)
    effort = _LEAST_RARE if space == WORDS else LEAST_EFFORT
    for _ in range(_DOUBLINGS):
        places, _ = approximate(effort).nearest(queries, N_RECALLED)
        found = np.take_along_axis(similarity, places, axis=1)
        recall = float((found >= tenth - _ROUNDING).mean())
        if recall >= LEAST_RECALL:
            break
        effort *= 2
    logger.info(
        "block neighbours: the search by %s finds %.1f %% of the %d nearest of %d",
        space,
        100 * recall,
        N_RECALLED,
        len(exact),
    )
    return SpaceRecall(recall_at_10=recall, effort=effort)


def _index_path(folder: Path, space: str) -> Path:
    return folder / f"{space}_index.npy"
