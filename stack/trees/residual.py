"""LightGBM on the residual: one booster per fold, judged outside it.

Each booster starts from a log price, the network's or its blend with the kernel ridge,
as its initial score and grows trees that lower L1 on log1p price, or SMAPE itself
(`stack.trees.objective`); as many as lower the SMAPE of a validation part, so that zero
trees is that price itself. So many are then grown anew on all training rows.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from embed.errors import InputError
from finetune.score import smape, to_price
from stack.config import StackConfig
from stack.price.engine import mean_of_boosters
from stack.trees.boosters import average_boosters, keep_booster, kept_booster
from stack.trees.matrix import BlockMatrix, booster_params, make_dataset
from stack.trees.objective import boost_log_smape
from stack.trees.tune import best_of_trials

logger = logging.getLogger(__name__)

_Gradients = Callable[[NDArray[Any], lgb.Dataset], tuple[NDArray[Any], NDArray[Any]]]
_DRAWS = 10
"""Of a tree's columns, until none is taken to have anything left to say."""


@dataclass(frozen=True, kw_only=True)
class ResidualFit:
    """What `fit_out_of_fold` found."""

    out_of_fold: NDArray[np.float32]
    """log1p price of each product by boosters that never saw it, shape (n_products,);
    where unpriced, the average of all boosters."""

    boosters: list[lgb.Booster]
    """One for each fold; each predicts what is added to the initial log price."""

    rounds: list[int]
    """Trees of each booster, from all seeds; 0 where none helped."""

    starts: list[float]
    """Log price that each booster begins from, NaN where each product has its own."""


def fit_out_of_fold(
    matrix: BlockMatrix,
    log_price: NDArray[np.floating],
    *,
    init_log_price: NDArray[np.floating] | None,
    folds: NDArray[np.integer],
    groups: NDArray[np.integer],
    config: StackConfig,
    folder: Path | None = None,
) -> ResidualFit:
    """Fit a booster for each fold on the rows of the others.

    Parameters
    ----------
    matrix : BlockMatrix of shape (n_products, d)
        Features; what in them was fitted on prices must be out of fold.
    log_price : ndarray of shape (n_products,)
        log1p of the true price, NaN only where unpriced.
    init_log_price : ndarray of shape (n_products,) or None
        An out-of-fold log1p price, such as the network's, where the trees begin. None
        begins at the median of the training rows: a LightGBM on the features alone.
    folds : ndarray of shape (n_products,), int
        0 to n_folds - 1; -1 where unpriced.
    groups : ndarray of shape (n_products,), int
        Rows of one group (duplicates) are validated on together or not at all.
    config : StackConfig
        Of the trees, early stopping, threads and seed.
    folder : Path, optional
        Where each booster is kept as soon as it is fitted, as text; one that is there
        was fitted on the same inputs, and is taken.

    Returns
    -------
    ResidualFit

    Raises
    ------
    InputError
        If the shapes differ, a value is not finite, or a fold cannot be fitted.
    """
    _check_arrays(matrix, log_price, init_log_price, folds, groups)
    n_folds = int(folds.max()) + 1
    # LightGBM has one number of threads for the whole process: one booster that sets
    # another than its neighbour was made with would make that write out of bounds.
    shared = dataclasses.replace(config, n_threads=max(1, config.n_threads // n_folds))
    dataset = make_dataset(matrix, log_price, shared)
    if not any(dataset.feature_num_bin(at) > 1 for at in range(matrix.shape[1])):
        # No tree will grow, and without its own objective LightGBM dies of that.
        shared = dataclasses.replace(shared, objective="l1")
    stop = threading.Event()

    def search(
        fold: int,
        rows: NDArray[np.intp],
        init: NDArray[np.float32],
        settings: StackConfig,
    ) -> tuple[lgb.Booster, StackConfig]:
        is_valid = _validation_part(groups[rows], config=settings, fold=fold)
        train_set = _subset(dataset, rows[~is_valid], init)
        valid_set = _subset(dataset, rows[is_valid], init)
        valid_price = to_price(log_price[rows[is_valid]])

        def grow(settings: StackConfig) -> tuple[lgb.Booster, float]:
            params = booster_params(matrix, settings)
            return _fit_booster(
                train_set, valid_set, valid_price, params, settings, stop
            )

        if settings.n_trials:
            return best_of_trials(grow, settings, fold=fold)
        return grow(settings)[0], settings

    def fit_seeds(
        fold: int, rows: NDArray[np.intp], init: NDArray[np.float32]
    ) -> lgb.Booster:
        found, settings = [], shared
        for seed_at in range(shared.n_seeds):
            # What the first one's trials found, the others take.
            booster, settings = search(
                fold,
                rows,
                init,
                dataclasses.replace(
                    settings,
                    seed=(shared.seed + seed_at) % 2**31,
                    n_trials=0 if seed_at else shared.n_trials,
                ),
            )
            if shared.refit and booster.num_trees():
                booster = _grow_trees(
                    _subset(dataset, rows, init),
                    booster.num_trees(),
                    booster_params(matrix, settings),
                    settings,
                    stop,
                )
            found.append(booster)
        return average_boosters(found)

    def fit_fold(fold: int) -> tuple[lgb.Booster, float]:
        rows = np.flatnonzero((folds >= 0) & (folds != fold))
        init = _initial(log_price, init_log_price, rows)
        path = folder / f"booster-{fold}.txt" if folder else None
        booster = kept_booster(path, matrix.feature_names) if path else None
        if booster is None:
            booster = fit_seeds(fold, rows, init)
            if path is not None:
                keep_booster(path, booster)
        level = logging.INFO if folder else logging.DEBUG  # of those that are kept
        logger.log(
            level, "fold %d of %d: %d trees", fold + 1, n_folds, booster.num_trees()
        )
        return booster, float(init[0]) if init_log_price is None else float("nan")

    fitted = _in_threads(fit_fold, n_folds, n_workers=config.n_threads, stop=stop)
    boosters, starts = [f[0] for f in fitted], [f[1] for f in fitted]
    out_of_fold = np.zeros(len(matrix))
    for fold, (booster, start) in enumerate(fitted):
        held_out, unpriced = np.flatnonzero(folds == fold), np.flatnonzero(folds < 0)
        for where, share in ((held_out, 1.0), (unpriced, 1 / n_folds)):
            raw = predict_residual([booster], matrix, rows=where, config=config)
            base = start if init_log_price is None else init_log_price[where]
            out_of_fold[where] += share * (np.asarray(base, np.float32) + raw)
    return ResidualFit(
        out_of_fold=out_of_fold.astype(np.float32),
        boosters=boosters,
        rounds=[booster.num_trees() for booster in boosters],
        starts=starts,
    )


def _in_threads(
    fit_fold: Callable[[int], tuple[lgb.Booster, float]],
    n_folds: int,
    *,
    n_workers: int,
    stop: threading.Event,
) -> list[tuple[lgb.Booster, float]]:
    """Fit the folds at the same time; where one fails, the rest stop.

    On cores that nothing else uses this saves 2 to 7 %; beside other work much more, as
    threads of one booster wait for one another at every split.
    """
    pool = ThreadPoolExecutor(min(n_workers, n_folds))
    try:
        futures = [pool.submit(fit_fold, fold) for fold in range(n_folds)]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = [f for f in futures if f.done() and f.exception()]
        return [future.result() for future in failed or futures]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def predict_residual(
    boosters: Sequence[lgb.Booster],
    matrix: BlockMatrix,
    *,
    rows: NDArray[np.integer],
    config: StackConfig,
) -> NDArray[np.float64]:
    """Return what the boosters, on average, add to the initial log price.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        One for out-of-fold rows, all of them for new products.
    matrix : BlockMatrix of shape (n_products, d)
        Features, read `batch_size` rows at a time.
    rows : ndarray of shape (m,), int
        Rows to predict.
    config : StackConfig
        Threads.

    Returns
    -------
    ndarray of shape (m,), float64
        In log1p price.
    """
    added = np.zeros(len(rows))
    for start in range(0, len(rows), matrix.batch_size):
        chunk = slice(start, start + matrix.batch_size)
        added[chunk] = mean_of_boosters(
            boosters, matrix.rows(rows[chunk]), n_threads=config.n_threads
        )
    return added


def _fit_booster(
    train_set: lgb.Dataset,
    valid_set: lgb.Dataset,
    valid_price: NDArray[np.float64],
    params: dict[str, Any],
    config: StackConfig,
    stop: threading.Event,
) -> tuple[lgb.Booster, float]:
    """Add trees until the validation SMAPE stops falling; keep the best number."""

    def price_smape(
        log_price: NDArray[np.float64], _: lgb.Dataset
    ) -> tuple[str, float, bool]:
        return "smape", smape(valid_price, to_price(log_price)), False

    gradients = boost_log_smape if config.objective == "log_smape" else None
    booster = lgb.Booster(params, train_set)
    booster.add_valid(valid_set, "valid")
    # lgb.train keeps at least one tree; this loop also measures before the first.
    best_round, best_smape = 0, booster.eval_valid(price_smape)[0][2]
    without_trees = booster.model_to_string()
    while booster.num_trees() < config.max_rounds:
        if not _add_tree(booster, gradients, stop):
            break
        n_trees = booster.num_trees()
        found = booster.eval_valid(price_smape)[0][2]
        if found < best_smape:
            best_round, best_smape = n_trees, found
        elif n_trees - best_round >= config.early_stopping_rounds:
            break
    kept = without_trees  # num_iteration=0 would mean all of them
    if best_round:
        kept = booster.model_to_string(num_iteration=best_round)
    return lgb.Booster(model_str=kept), best_smape


def _grow_trees(
    train_set: lgb.Dataset,
    n_trees: int,
    params: dict[str, Any],
    config: StackConfig,
    stop: threading.Event,
) -> lgb.Booster:
    """Grow so many trees, on the rows set aside before too."""
    gradients = boost_log_smape if config.objective == "log_smape" else None
    booster = lgb.Booster(params, train_set)
    while booster.num_trees() < n_trees:
        if not _add_tree(booster, gradients, stop):
            break
    return lgb.Booster(model_str=booster.model_to_string())


def _add_tree(
    booster: lgb.Booster, gradients: _Gradients | None, stop: threading.Event
) -> bool:
    """Add a tree if any split gains, in some draw of rows and columns."""
    for _ in range(_DRAWS):
        if stop.is_set():
            raise CancelledError
        if not booster.update(fobj=gradients):
            return True
    return False


def _subset(
    dataset: lgb.Dataset, rows: NDArray[np.integer], init: NDArray[np.float32]
) -> lgb.Dataset:
    subset = dataset.subset(rows.tolist()).construct()
    return subset.set_init_score(init[rows])


def _initial(
    log_price: NDArray[np.floating],
    init_log_price: NDArray[np.floating] | None,
    train_rows: NDArray[np.integer],
) -> NDArray[np.float32]:
    # float32, as LightGBM keeps its labels: in float64 an exact network would differ
    # from them by rounding, whose sign the L1 gradient takes for an error.
    if init_log_price is not None:
        return np.asarray(init_log_price, dtype=np.float32)
    median = np.median(log_price[train_rows])
    return np.full(len(log_price), median, dtype=np.float32)


def _validation_part(
    groups: NDArray[np.integer], *, config: StackConfig, fold: int
) -> NDArray[np.bool_]:
    """Draw whole groups until they hold about `valid_fraction` of the rows."""
    _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng([config.seed, fold]).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[before < config.valid_fraction * len(groups)]] = True
    is_set_aside = np.asarray(chosen[group_of_row])
    if int((~is_set_aside).sum()) < 2:  # LightGBM bags a single row away
        raise InputError(
            f"fit_out_of_fold: fold {fold + 1} leaves {len(groups)} rows in "
            f"{len(sizes)} groups to train on, too few to set some aside for early "
            f"stopping. Use more products or fewer folds."
        )
    return is_set_aside


def _check_arrays(
    matrix: BlockMatrix,
    log_price: NDArray[np.floating],
    init_log_price: NDArray[np.floating] | None,
    folds: NDArray[np.integer],
    groups: NDArray[np.integer],
) -> None:
    arrays = {"log_price": log_price, "folds": folds, "groups": groups}
    if init_log_price is not None:
        arrays["init_log_price"] = init_log_price
    for name, array in arrays.items():
        if array.shape != (len(matrix),):
            raise InputError(
                f"fit_out_of_fold: {name} must have shape ({len(matrix)},), as the "
                f"feature matrix has rows, got {array.shape}"
            )
    found = np.unique(folds[folds >= 0]).tolist()
    if len(found) < 2 or found != list(range(len(found))):
        raise InputError(
            f"fit_out_of_fold: folds must be 0, 1, … with at least 2 and none empty, "
            f"got {found}"
        )
    _check_finite("log_price", log_price, folds >= 0)
    if init_log_price is not None:
        _check_finite("init_log_price", init_log_price, np.ones(len(matrix), bool))


def _check_finite(
    name: str, array: NDArray[np.floating], where: NDArray[np.bool_]
) -> None:
    if bad := np.flatnonzero(where & ~np.isfinite(array)).tolist():
        raise InputError(
            f"fit_out_of_fold: {name} must be finite, row {bad[0]} (of {len(bad)} "
            f"such) is {array[bad[0]]}. Give unpriced rows fold -1; a network's price "
            f"is needed for every row."
        )
