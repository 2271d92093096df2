"""A finished run, opened for the page: its records, and its products as judged."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.manifest import read_record
from finetune.price_unit import to_price
from finetune.score import smape_rows
from stack.judge.evaluate import PREDICTOR_LABELS
from stack.judge.intervals import Intervals
from stack.records import Report, StackManifest
from stack.run import REPORT_NAME, Run, open_finished_run, report_remedy

INTERVAL_LEVEL = 90
"""Level of the intervals shown beside single products, percent."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Priced products in catalog order, priced out of fold by the chosen predictor."""

    rows: NDArray[np.int64]
    """Catalog row of each product, shape (n,)."""

    price: NDArray[np.float64]
    """True price, catalog currency."""

    predicted: NDArray[np.float64]
    """Predicted price, catalog currency."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """Ends of the intervals of `INTERVAL_LEVEL` percent, catalog currency."""

    error: NDArray[np.float64]
    """SMAPE of the row, 0 to 200."""

    has_photo: NDArray[np.bool_]

    groups: NDArray[np.int64]
    """Duplicates share a number."""


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """All stages of a run, and the report that its last stage wrote."""

    run: Run
    stack: StackManifest
    report: Report

    @property
    def chosen(self) -> str:
        """The predictor that the verdict chose."""
        return self.report.verdict.chosen

    @property
    def stack_dir(self) -> Path:
        """Folder of the last stage."""
        return self.run.run_dir / "stack"


def open_reported(run_dir: Path) -> ReportedRun:
    """Open a run whose every stage has finished, with its report.

    Raises
    ------
    CacheError
        If a stage has not finished, does not fit the others or is damaged.
    """
    finished = open_finished_run(run_dir)
    report = _read_report(run_dir, finished.stack)
    return ReportedRun(run=finished.run, stack=finished.stack, report=report)


def judge(finished: ReportedRun) -> Judged:
    """Compare the chosen predictor's out-of-fold prices with the true ones.

    Raises
    ------
    CacheError
        If an array is damaged, or the report covers other products.
    """
    run = finished.run
    folds = np.asarray(run.array("finetune/folds"))
    rows = np.flatnonzero(folds >= 0)
    if len(rows) != finished.report.n_products:
        raise _stale(
            run.run_dir,
            f"covers {finished.report.n_products} products, the run has {len(rows)}",
        )
    log_price = run.out_of_fold(finished.chosen)[rows]
    price = np.asarray(run.array("finetune/price")[rows], dtype=np.float64)
    predicted = to_price(log_price, run.price_unit)
    intervals = Intervals.of_manifest(finished.stack, price_unit=run.price_unit)
    low, high = intervals.bounds(log_price, level=INTERVAL_LEVEL)
    return Judged(
        rows=rows,
        price=price,
        predicted=predicted,
        low=low,
        high=high,
        error=smape_rows(price, predicted),
        has_photo=np.asarray(run.array("embed/image_ok")[rows]),
        groups=np.asarray(run.array("finetune/groups")[rows]),
    )


def _read_report(run_dir: Path, stack: StackManifest) -> Report:
    report = read_record(run_dir / "stack" / REPORT_NAME, Report)
    if report is None:
        raise _stale(run_dir, "is missing")
    names = {row.name for row in report.predictors}
    if missing := sorted(PREDICTOR_LABELS.keys() - names):
        raise _stale(run_dir, f"lacks the predictor {missing[0]!r}")
    if report.verdict.chosen != stack.chosen:
        raise _stale(
            run_dir,
            f"chooses the {report.verdict.chosen}, but the manifest chooses the "
            f"{stack.chosen}",
        )
    return report


def _stale(run_dir: Path, problem: str) -> CacheError:
    return CacheError(
        f"{run_dir / 'stack' / REPORT_NAME}: {problem}. {report_remedy(run_dir)}"
    )
