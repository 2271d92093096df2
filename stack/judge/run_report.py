"""Judge a run from its arrays, and write the report."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.encoders.specs import RANDOM
from embed.errors import ConfigError
from embed.store.checksums import verify_files
from embed.store.lock import run_lock
from embed.store.manifest import read_json, write_json
from finetune.price_unit import to_price
from stack.config import StackConfig
from stack.judge import held_out, out_of_fold
from stack.judge.ablation import ABLATION_DIR, read_without_each, score_without_each
from stack.judge.confidence import read_constant, read_nested, read_unlike
from stack.judge.evaluate import evaluate_predictions
from stack.judge.periods import score_by_period
from stack.judge.ratios import ratio_study, read_categories
from stack.judge.sureness import measure_intervals, measure_sureness
from stack.run import PREDICTIONS, REPORT_NAME, Run, open_finished_run

_RANDOM_WEIGHTS = (
    "The photo encoder began with random weights: it knows only what it learned from "
    "the photos of this catalog."
)


def evaluate_run(run_dir: Path, *, n_folds: int | None = None) -> dict[str, Any]:
    """Judge a finished run again from its arrays, and rewrite report.json.

    Parameters
    ----------
    run_dir : Path
    n_folds : int, optional
        Number of folds that the caller expects.

    Raises
    ------
    ConfigError
        If the run has another number of folds.
    CacheError
        If a stage is missing or does not fit the others.
    LockedError
        If the report has to be written and another process works on the run.
    """
    finished = open_finished_run(run_dir, verify=())
    actual = finished.run.finetune.config.n_folds
    if n_folds is not None and n_folds != actual:
        raise ConfigError(
            f"--folds {n_folds}: the run {run_dir} has {actual} folds, and each "
            f"needs networks of its own. Evaluate with --folds {actual}, or run `make "
            f"finetune stack RUN={shlex.quote(str(run_dir))} FOLDS={n_folds}` first."
        )
    stage_dir = run_dir / "stack"
    verify_files(stage_dir, finished.stack.files)
    run, config = finished.run, finished.stack_config
    report = compare_predictors(run, config)
    report = judge_run(run, config, report)
    is_written = (stage_dir / out_of_fold.CSV_NAME).exists()
    if not is_written or read_json(stage_dir / REPORT_NAME) != report:
        # Otherwise nothing is written: a run folder may be read-only.
        with run_lock(run_dir):
            write_report(run, report)
    return report


def compare_predictors(run: Run, config: StackConfig) -> dict[str, Any]:
    """Compare all predictors out of fold and decide which one serves.

    Returns
    -------
    dict
        As `stack.judge.evaluate.evaluate_predictions`.
    """
    targets = run.targets()
    return evaluate_predictions(
        targets.price,
        targets.folds,
        predictions={name: run.out_of_fold(name) for name in PREDICTIONS},
        image_ok=np.asarray(run.array("embed/image_ok")),
        config=config,
        groups=targets.groups,
        best_price=run.best_prices(),
        price_unit=run.price_unit,
        by_network=run.anchor_prices(),
    )


def judge_run(run: Run, config: StackConfig, report: dict[str, Any]) -> dict[str, Any]:
    """Add the measures of the chosen predictor to the comparison of predictors.

    Parameters
    ----------
    run : Run
    config : StackConfig
    report : dict
        Result of `compare_predictors`.

    Returns
    -------
    dict
        As `stack.records.Report`.
    """
    targets, chosen = run.targets(), report["verdict"]["chosen"]
    priced = targets.folds >= 0
    price, groups = targets.price[priced], targets.groups[priced]
    predicted = to_price(run.out_of_fold(chosen)[priced], run.price_unit)
    nested = read_nested(run, chosen)
    without_each = read_ablation(run, config) or {}
    intervals = measure_intervals(
        price,
        predicted,
        nested,
        has_photo=np.asarray(run.array("embed/image_ok"))[priced],
        constant=read_constant(run, chosen),
    )
    sureness = measure_sureness(price, predicted, nested.within, read_unlike(run))
    ablation = score_without_each(
        targets.log_price[priced],
        {names: log_price[priced] for names, log_price in without_each.items()},
        groups=groups,
    )
    tested = held_out.score_held_out(run, config, chosen=chosen)
    served = held_out.served_log_prices(run, chosen)
    periods = score_by_period(run, served, run.out_of_fold("network"))
    if run.embed.inputs.image_weights == RANDOM and run.array("embed/image_ok").any():
        report["doubts"]["sentences"].append(_RANDOM_WEIGHTS)
    return {
        **report,
        "n_unpriced": run.finetune.n_unpriced_dropped,
        "intervals": [part.as_json() for part in intervals],
        "confidence": sureness.as_json(),
        "ablation": [part.as_json() for part in ablation],
        "ratios": ratio_study(
            price,
            predicted,
            groups,
            categories=read_categories(
                run.embed, run.array("embed/attributes"), priced
            ),
            seed=config.seed,
        ),
        "held_out": tested and tested.as_json(),
        "periods": [period.as_json() for period in periods],
    }


def write_report(run: Run, report: dict[str, Any]) -> None:
    """Write report.json and the lists of priced and of held-out products."""
    stage_dir, chosen = run.run_dir / "stack", report["verdict"]["chosen"]
    held_out.write_held_out(run, stage_dir / held_out.CSV_NAME, chosen=chosen)
    out_of_fold.write_out_of_fold(
        run,
        stage_dir / out_of_fold.CSV_NAME,
        chosen=chosen,
        nested=read_nested(run, chosen),
        unlike=read_unlike(run),
    )
    write_json(stage_dir / REPORT_NAME, report)


def read_ablation(
    run: Run, config: StackConfig
) -> dict[tuple[str, ...], NDArray[np.float32]] | None:
    """Return the log prices without each block; None if they were not computed."""
    return read_without_each(config.blocks, run.run_dir / "stack" / ABLATION_DIR)
