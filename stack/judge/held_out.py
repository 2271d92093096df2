"""Score the served predictor on products that no stage was trained on.

They have no part in the verdict, which comes from out-of-fold prices alone.
"""

import csv
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.amounts import csv_amount
from embed.catalog.split_columns import read_day, read_days
from embed.store.arrays import read_rows
from embed.store.durable import save_array, write_bytes
from finetune.price_unit import to_price
from stack.config import StackConfig
from stack.judge.baselines import price_by_lightgbm, price_by_ridge
from stack.judge.evaluate import PREDICTOR_LABELS, score_part
from stack.judge.nested import Nested
from stack.judge.periods import log_bias
from stack.judge.sureness import measure_sureness
from stack.judge.verdict import checked_smape_rows, paired_bootstrap, standard_error
from stack.price.calibration import LEVELS, SHARES, Calibration
from stack.price.confidence import CONFIDENCE_DIR
from stack.price.engine import Engine
from stack.price.held_out import price_by_engine
from stack.price.loading import load_engine, load_run_confidence
from stack.records import (
    Chosen,
    ConfidenceRecord,
    HeldOut,
    HeldOutPart,
    HeldOutScore,
)
from stack.run import PREDICTIONS, Run

HELD_OUT_DIR = "held_out"
"""Folder of the held-out products' log prices, an array for each predictor."""

CSV_NAME = "held_out.csv"

LABELS = {
    "median": PREDICTOR_LABELS["median"],
    "ridge": "TF-IDF ridge",
    **{name: PREDICTOR_LABELS[name] for name in PREDICTOR_LABELS if name != "median"},
}
"""Rows of the comparison, in order."""

_PRICED = tuple(name for name in LABELS if name not in ("median", "chosen"))

_ERROR_SIZE, _UNLIKE = "error_size", "unlike"  # arrays beside the log prices

logger = logging.getLogger(__name__)


def price_held_out(
    run: Run, config: StackConfig, *, chosen: Chosen, confidence: ConfidenceRecord
) -> None:
    """Write the held-out products' log prices; keep those that exist already.

    Parameters
    ----------
    run : Run
        Run whose boosters have been fitted.
    config : StackConfig
    chosen : {"network", "stacker"}
        Predictor that the verdict chose.
    confidence : ConfidenceRecord
        What the run knows of the errors of the chosen prices.
    """
    rows = run.held_out_rows()
    if not len(rows):
        return
    logger.info("held-out products: priced by all predictors and two baselines")
    folds = range(run.finetune.config.n_folds)
    stacker = load_engine(run, config.blocks, folds)
    network = Engine(price_unit=run.price_unit)
    engine = replace(
        stacker if chosen == "stacker" else network,
        confidence=load_run_confidence(run, confidence, folds),
    )
    served = price_by_engine(run, engine)
    price_by: dict[str, Callable[[], NDArray[np.floating | np.bool_]]] = {
        "ridge": lambda: price_by_ridge(run, seed=config.seed),
        "lightgbm": lambda: price_by_lightgbm(run, config),
        "network": lambda: run.array(PREDICTIONS["network"])[rows],
        "blend": lambda: run.array(PREDICTIONS["blend"])[rows],
        "stacker": lambda: (
            (served if chosen == "stacker" else price_by_engine(run, stacker)).log_price
        ),
        _ERROR_SIZE: lambda: served.error_size,
        _UNLIKE: lambda: served.unlike.astype(np.float32),
    }
    folder = run.run_dir / "stack" / HELD_OUT_DIR
    folder.mkdir(exist_ok=True)
    for name, compute in price_by.items():
        path = folder / f"{name}.npy"
        if not path.exists():
            save_array(path, np.asarray(compute(), np.float32))


def held_out_log_prices(run: Run) -> dict[str, NDArray[np.float32]]:
    """Return the held-out products' log1p prices by predictor, in units of the run."""
    return {name: _read(run, name) for name in _PRICED}


def served_log_prices(run: Run, predictor: str) -> NDArray[np.float32]:
    """Return log1p prices, out of fold but for held-out products, by all folds."""
    log_price = np.array(run.out_of_fold(predictor))
    if len(rows := run.held_out_rows()):
        log_price[rows] = held_out_log_prices(run)[predictor]
    return log_price


def score_held_out(run: Run, config: StackConfig, *, chosen: str) -> HeldOut | None:
    """Compare all predictors on the held-out products.

    Parameters
    ----------
    run : Run
    config : StackConfig
        Resamples and seed of the intervals.
    chosen : str
        Predictor that the verdict chose.

    Returns
    -------
    HeldOut or None
        None if no product is held out.
    """
    rows = run.held_out_rows()
    if not len(rows):
        return None
    price, prices = run.held_out_prices(), _prices(run, chosen)
    groups = np.asarray(run.array("finetune/groups"))
    trained = groups[np.asarray(run.array("finetune/folds")) >= 0]
    is_known, own_groups = np.isin(groups[rows], trained), groups[rows]

    def compared(name: str) -> HeldOutScore:
        errors = checked_smape_rows(price, prices[name], where="score_held_out")
        difference = paired_bootstrap(
            price,
            prices["chosen"],
            prices[name],
            n_bootstrap=config.n_bootstrap,
            seed=config.seed,
            groups=own_groups,
        )
        return HeldOutScore(
            name=name,
            label=LABELS[name],
            smape=float(errors.mean()),
            smape_se=standard_error(errors, own_groups),
            difference=None if name == "chosen" else difference,
        )

    judged = _judge_served(run, chosen)
    dates = run.finetune.dates
    return HeldOut(
        n=len(rows),
        test_from=dates.test_from if dates else None,
        n_undated=run.finetune.n_undated,
        predictors=[compared(name) for name in LABELS],
        known=HeldOutPart.model_validate(score_part(price, prices, is_known)),
        new=HeldOutPart.model_validate(score_part(price, prices, ~is_known)),
        bias=log_bias(price, prices["chosen"], own_groups),
        coverage={
            str(level): float(((low <= price) & (price <= high)).mean())
            for level in LEVELS
            for low, high in [(judged.low[level], judged.high[level])]
        },
        confidence=measure_sureness(
            price, prices["chosen"], judged.within, _read(run, _UNLIKE) > 0
        ),
    )


def write_held_out(run: Run, path: Path, *, chosen: str) -> None:
    """Write the held-out products and their prices as CSV; nothing if there are none.

    Parameters
    ----------
    run : Run
    path : Path
    chosen : str
        Predictor that the verdict chose.
    """
    rows = run.held_out_rows()
    if not len(rows):
        return
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    prices = {"price": run.held_out_prices(), **_prices(run, chosen)}
    lines.writerow(("sample_id", *prices))
    values = np.column_stack([*prices.values()])
    sample_ids = run.array("embed/sample_id")[rows]
    for sample_id, row in zip(sample_ids, values, strict=True):
        lines.writerow((sample_id, *map(csv_amount, row)))
    write_bytes(path, text.getvalue().encode())


def find_trained_on(run: Run) -> dict[str, int]:
    """Count held-out products that a stage could have been trained on, by the reason.

    A later product may share its group with an earlier one, a random one may not.
    """
    rows, targets = run.held_out_rows(), run.targets()
    trained, groups = np.flatnonzero(targets.folds >= 0), targets.groups
    counts = {
        "in a fold": int((targets.folds[rows] >= 0).sum()),
        "with a training price": int(np.isfinite(targets.log_price[rows]).sum()),
    }
    days = read_days(run.catalog())
    dates = run.finetune.dates
    if dates is None or dates.test_from is None or days is None:
        n_shared = int(np.isin(groups[rows], groups[trained]).sum())
        return {**counts, "in a group that is trained on": n_shared}
    first = read_day(dates.test_from)
    n_early = int((~(days[rows] >= first)).sum())
    n_late = int((~(days[trained] < first)).sum())
    return {**counts, "too early": n_early, "too late but trained on": n_late}


def _judge_served(run: Run, chosen: str) -> Nested:
    """Return the served intervals and probabilities of the held-out products."""
    folder = run.run_dir / "stack" / CONFIDENCE_DIR
    calibration = Calibration.load(folder, price_unit=run.price_unit)
    judged = held_out_log_prices(run)[chosen], _read(run, _ERROR_SIZE)
    ends = {level: calibration.bounds(*judged, level=level) for level in LEVELS}
    return Nested(
        low={level: low for level, (low, _) in ends.items()},
        high={level: high for level, (_, high) in ends.items()},
        within={
            share: calibration.within(*judged, share=share / 100) for share in SHARES
        },
    )


def _read(run: Run, name: str) -> NDArray[np.float32]:
    return np.asarray(read_rows(run.run_dir / "stack" / HELD_OUT_DIR / f"{name}.npy"))


def _prices(run: Run, chosen: str) -> dict[str, NDArray[np.float64]]:
    """Return the held-out products' prices by predictor, catalog currency."""
    prices = {
        name: to_price(log_price, run.price_unit)
        for name, log_price in held_out_log_prices(run).items()
    }
    trained = np.asarray(run.array("finetune/price"))
    median = float(np.nanmedian(trained))
    prices["median"] = np.full(len(prices["network"]), median)
    prices["chosen"] = prices[chosen]
    return {name: prices[name] for name in LABELS}
