"""Fit what a run knows of the errors of its prices, and save it with the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from embed.store.durable import save_array
from finetune.price_unit import to_price
from stack.blocks.registry import BLOCKS, Attributes, Network
from stack.judge.nested import Nested, judge_by_other_parts
from stack.price.calibration import Calibration
from stack.price.confidence import (
    CONFIDENCE_DIR,
    DISTANCES,
    ErrorColumns,
    at_least_unknown,
    beyond_limits,
    block_of,
    distance_of,
)
from stack.records import Chosen, ConfidenceRecord
from stack.run import Run
from stack.trees.boosters import keep_booster
from stack.trees.error_size import fit_error_sizes, parts_of

LIMIT_QUANTILE = 0.99
"""Share of the run's own products within each limit of distance, out of fold."""


def fit_confidence(
    run: Run,
    blocks: Mapping[str, NDArray[Any]],
    *,
    used: Sequence[str],
    chosen: Chosen,
) -> ConfidenceRecord:
    """Fit the sizes of errors and their calibration, and write them.

    Parameters
    ----------
    run : Run
        Run whose boosters have been fitted.
    blocks : mapping of str to ndarray of shape (n_products, d) or (n_products,)
        Features behind the out-of-fold prices.
    used : sequence of str
        Blocks of the stacker.
    chosen : {"network", "stacker"}
        Predictor that the verdict chose.
    """
    if chosen == "network":
        used = (Attributes.name, Network.name)
    names = [name for name in used if not BLOCKS[name].is_embedding]
    blocks = {name: blocks[name] for name in names}
    targets = run.targets()
    rows = np.flatnonzero(targets.folds >= 0)
    log_price, error, parts = _errors(run, chosen)
    has_photo = np.asarray(run.array("embed/image_ok"))[rows]
    columns = ErrorColumns(
        blocks=names,
        log_price_columns={
            name: BLOCKS[name].log_prices_of(run.embed) for name in names
        },
    )

    def features(places: NDArray[np.intp]) -> NDArray[np.float32]:
        taken = {name: block[rows[places]] for name, block in blocks.items()}
        return columns(taken, log_price[places], has_photo[places])

    sizes = fit_error_sizes(features, error, parts)
    limits = _limits(blocks, rows)
    true = targets.log_price[rows]
    record = ConfidenceRecord(
        blocks=names,
        has_boosters=bool(sizes.boosters),
        usual_size=float(np.abs(error).mean()),
        unknown_size=float(np.abs(true - np.median(true)).mean()),
        limits=limits,
    )
    unlike = (
        beyond_limits(blocks, limits)[rows] if blocks else np.zeros(len(rows), bool)
    )
    size, nested = (
        at_least_unknown(array, unlike, record.unknown_size)
        for array in (sizes.size, sizes.nested)
    )
    folder = run.run_dir / "stack" / CONFIDENCE_DIR
    folder.mkdir(exist_ok=True)
    for part, booster in enumerate(sizes.boosters):
        keep_booster(folder / f"booster-{part}.txt", booster)
    calibration = Calibration.fit(log_price, error, size, price_unit=run.price_unit)
    for name, array in {
        **calibration.arrays(),
        "sizes": nested,
        "unlike": unlike,
    }.items():
        save_array(folder / f"{name}.npy", array)
    judged = read_nested(run, chosen)
    save_array(folder / "automatic.npy", _automatic(run, chosen, judged))
    return record


def read_nested(run: Run, chosen: Chosen) -> Nested:
    """Return the intervals and probabilities of the priced products, out of fold."""
    log_price, error, parts = _errors(run, chosen)
    sizes = read_rows(run.run_dir / "stack" / CONFIDENCE_DIR / "sizes.npy")
    return judge_by_other_parts(
        log_price, error, parts, np.asarray(sizes), price_unit=run.price_unit
    )


def read_constant(run: Run, chosen: Chosen) -> Nested:
    """Return them for intervals of one width in log price, to compare with."""
    log_price, error, parts = _errors(run, chosen)
    sizes = np.ones((int(parts.max()) + 1, len(parts)))
    # One band: the width does not depend on the price either.
    return judge_by_other_parts(
        log_price, error, parts, sizes, price_unit=run.price_unit, n_bands=1
    )


def read_unlike(run: Run) -> NDArray[np.bool_]:
    """Mark the priced products that are unlike the others."""
    path = run.run_dir / "stack" / CONFIDENCE_DIR / "unlike.npy"
    return np.asarray(read_rows(path))


def _errors(
    run: Run, chosen: Chosen
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.integer]]:
    """Return log price, error and part of each priced product."""
    targets = run.targets()
    priced = targets.folds >= 0
    log_price = run.out_of_fold(chosen)[priced].astype(np.float64)
    error = targets.log_price[priced] - log_price
    return log_price, error, parts_of(targets.folds[priced])


def _limits(
    blocks: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]
) -> dict[str, float]:
    limits = {}
    for column in DISTANCES:
        if block_of(column) in blocks:
            distance = distance_of(blocks, column)[rows]
            limit = float(np.quantile(distance, LIMIT_QUANTILE, method="higher"))
            if np.isfinite(limit):  # not where many products have no neighbour
                limits[column] = limit
    return limits


def _automatic(run: Run, chosen: Chosen, nested: Nested) -> NDArray[np.float64]:
    """Return the probabilities and whether the prices are right, the surest first."""
    targets = run.targets()
    priced = targets.folds >= 0
    price = targets.price[priced]
    predicted = to_price(run.out_of_fold(chosen)[priced], run.price_unit)
    is_right = np.abs(predicted - price) <= 0.2 * price
    order = np.argsort(-nested.within[20], kind="stable")
    return np.column_stack([nested.within[20], is_right])[order]
