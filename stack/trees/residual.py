"""LightGBM on the residual: one booster per fold, evaluated on the held-out rows.

The initial score of each booster is a log price: the network's, or its blend with the
kernel ridge. Its trees minimise L1 on log1p price or SMAPE (`stack.trees.objective`).
The SMAPE of a validation part decides their number; with zero trees the prediction is
the initial price. The same number of trees is then grown on all training rows.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
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
from stack.trees.trials import best_of_trials

logger = logging.getLogger(__name__)

_Gradients = Callable[[NDArray[Any], lgb.Dataset], tuple[NDArray[Any], NDArray[Any]]]
_DRAWS = 10
"""Draws of rows and columns for a tree before the booster stops without a split."""


@dataclass(frozen=True, kw_only=True)
class ResidualFit:
    """Boosters and their out-of-fold predictions."""

    out_of_fold: NDArray[np.float32]
    """log1p price of each product by the booster that held it out, shape (n_products,);
    where unpriced, the average of all boosters."""

    boosters: list[lgb.Booster]
    """One for each fold; each predicts a correction to the initial log price."""

    rounds: list[int]
    """Number of trees of each booster, from all seeds; 0 where none helped."""

    starts: list[float]
    """Initial log price of each booster; NaN where each product has its own."""


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
        Features; those fitted on prices must be out of fold.
    log_price : ndarray of shape (n_products,)
        log1p of the true price, NaN only where unpriced.
    init_log_price : ndarray of shape (n_products,) or None
        Out-of-fold log1p prices, such as the network's, as initial scores. None starts
        at the median of the training rows: a LightGBM on the features alone.
    folds : ndarray of shape (n_products,), int
        0 to n_folds - 1; -1 where unpriced.
    groups : ndarray of shape (n_products,), int
        Rows of one group (duplicates) are validated on together or not at all.
    config : StackConfig
        Settings of the trees, early stopping, threads and seed.
    folder : Path, optional
        Folder for each booster as soon as it is fitted, as text. A booster that is
        already there was fitted on the same inputs and is reused.

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
    # LightGBM has one number of threads for the whole process: if one booster changes
    # it, another that was created with the old number writes out of bounds.
    shared = dataclasses.replace(config, n_threads=max(1, config.n_threads // n_folds))
    dataset = make_dataset(matrix, log_price, shared)
    if not any(dataset.feature_num_bin(j) > 1 for j in range(matrix.shape[1])):
        # No tree can grow, and LightGBM crashes then unless the objective is its own.
        shared = dataclasses.replace(shared, objective="l1")
    forest = Forest(matrix, dataset, log_price, groups, shared)

    def fit_fold(fold: int) -> tuple[lgb.Booster, float]:
        rows = np.flatnonzero((folds >= 0) & (folds != fold))
        init = _initial(log_price, init_log_price, rows)
        path = folder / f"booster-{fold}.txt" if folder else None
        booster = kept_booster(path, matrix.feature_names) if path else None
        if booster is None:
            booster = forest.fit(fold, rows, init)
            if path is not None:
                keep_booster(path, booster)
        # Progress shows only boosters that are saved.
        level = logging.INFO if folder else logging.DEBUG
        logger.log(
            level, "fold %d of %d: %d trees", fold + 1, n_folds, booster.num_trees()
        )
        return booster, float(init[0]) if init_log_price is None else float("nan")

    fitted = _in_threads(
        fit_fold, n_folds, n_workers=config.n_threads, stop=forest.stop
    )
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


@dataclass(frozen=True)
class Forest:
    """Binned products and settings that the boosters of all folds share."""

    matrix: BlockMatrix
    dataset: lgb.Dataset
    log_price: NDArray[np.floating]
    groups: NDArray[np.integer]
    config: StackConfig
    stop: threading.Event = field(default_factory=threading.Event)

    def fit(
        self, fold: int, rows: NDArray[np.intp], init: NDArray[np.float32]
    ) -> lgb.Booster:
        """Fit a booster for each seed on some rows; return their mean."""
        boosters, settings = [], self.config
        for number in range(self.config.n_seeds):
            settings = dataclasses.replace(
                settings,
                seed=(self.config.seed + number) % 2**31,
                # Only the first seed runs trials; the others use its settings.
                n_trials=0 if number else self.config.n_trials,
            )
            booster, settings = self._stop_early(fold, rows, init, settings)
            if settings.refit and booster.num_trees():
                booster = _grow_trees(
                    self._subset(rows, init),
                    booster.num_trees(),
                    booster_params(self.matrix, settings),
                    settings,
                    self.stop,
                )
            boosters.append(booster)
        return average_boosters(boosters)

    def _stop_early(
        self,
        fold: int,
        rows: NDArray[np.intp],
        init: NDArray[np.float32],
        settings: StackConfig,
    ) -> tuple[lgb.Booster, StackConfig]:
        """Fit a booster beside a validation part; run the trials of the settings."""
        is_valid = _validation_part(self.groups[rows], config=settings, fold=fold)
        train_set = self._subset(rows[~is_valid], init)
        valid_set = self._subset(rows[is_valid], init)
        valid_price = to_price(self.log_price[rows[is_valid]])

        def grow(settings: StackConfig) -> tuple[lgb.Booster, float]:
            params = booster_params(self.matrix, settings)
            return _fit_booster(
                train_set, valid_set, valid_price, params, settings, self.stop
            )

        if settings.n_trials:
            return best_of_trials(grow, settings, fold=fold)
        return grow(settings)[0], settings

    def _subset(
        self, rows: NDArray[np.integer], init: NDArray[np.float32]
    ) -> lgb.Dataset:
        subset = self.dataset.subset(rows.tolist()).construct()
        return subset.set_init_score(init[rows])


def _in_threads(
    fit_fold: Callable[[int], tuple[lgb.Booster, float]],
    n_folds: int,
    *,
    n_workers: int,
    stop: threading.Event,
) -> list[tuple[lgb.Booster, float]]:
    """Fit the folds at the same time; if one fails, stop the rest.

    On idle cores this saves 2 to 7 %, on busy cores much more, as threads of one
    booster wait for one another at every split.
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
    """Return the boosters' mean correction to the initial log price.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        One for out-of-fold rows, all of them for new products.
    matrix : BlockMatrix of shape (n_products, d)
        Features, read `batch_size` rows at a time.
    rows : ndarray of shape (m,), int
        Rows to predict.
    config : StackConfig
        Settings; only the number of threads is used.

    Returns
    -------
    ndarray of shape (m,), float64
        Correction in log1p price.
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
        valid_smape = booster.eval_valid(price_smape)[0][2]
        if valid_smape < best_smape:
            best_round, best_smape = n_trees, valid_smape
        elif n_trees - best_round >= config.early_stopping_rounds:
            break
    model = without_trees  # num_iteration=0 would mean all trees
    if best_round:
        model = booster.model_to_string(num_iteration=best_round)
    return lgb.Booster(model_str=model), best_smape


def _grow_trees(
    train_set: lgb.Dataset,
    n_trees: int,
    params: dict[str, Any],
    config: StackConfig,
    stop: threading.Event,
) -> lgb.Booster:
    """Grow `n_trees` trees, without early stopping."""
    gradients = boost_log_smape if config.objective == "log_smape" else None
    booster = lgb.Booster(params, train_set)
    while booster.num_trees() < n_trees:
        if not _add_tree(booster, gradients, stop):
            break
    return lgb.Booster(model_str=booster.model_to_string())


def _add_tree(
    booster: lgb.Booster, gradients: _Gradients | None, stop: threading.Event
) -> bool:
    """Add a tree; return False if no draw of rows and columns gives a useful split.

    Raises CancelledError once `stop` is set.
    """
    for _ in range(_DRAWS):
        if stop.is_set():
            raise CancelledError
        if not booster.update(fobj=gradients):
            return True
    return False


def _initial(
    log_price: NDArray[np.floating],
    init_log_price: NDArray[np.floating] | None,
    train_rows: NDArray[np.integer],
) -> NDArray[np.float32]:
    # float32, as LightGBM stores its labels: in float64 an exact network would differ
    # from them by rounding, and the L1 gradient would treat its sign as an error.
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
    is_drawn = np.zeros(len(sizes), dtype=bool)
    is_drawn[order[before < config.valid_fraction * len(groups)]] = True
    is_set_aside = np.asarray(is_drawn[group_of_row])
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
                f"fit_out_of_fold: {name} must have shape ({len(matrix)},), one value "
                f"per row of the feature matrix, got {array.shape}"
            )
    distinct = np.unique(folds[folds >= 0]).tolist()
    if len(distinct) < 2 or distinct != list(range(len(distinct))):
        raise InputError(
            f"fit_out_of_fold: folds must be 0, 1, … with at least 2 and none empty, "
            f"got {distinct}"
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
