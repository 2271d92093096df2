"""A finished run for the page: its report, and its products as judged."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.manifest import read_record
from finetune.price_unit import to_price
from finetune.score import smape_rows
from stack.judge.confidence import read_nested
from stack.judge.evaluate import PREDICTOR_LABELS
from stack.records import Report
from stack.run import REPORT_NAME, FinishedRun, report_remedy

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

    within_20: NDArray[np.float64]
    """Probability that the price is within 20 % of the true one."""

    error: NDArray[np.float64]
    """SMAPE of the row, 0 to 200."""

    has_photo: NDArray[np.bool_]

    groups: NDArray[np.integer]
    """Duplicates share a number."""


def read_report(finished: FinishedRun) -> Report:
    """Read the report that the last stage wrote.

    Raises
    ------
    CacheError
        If it is missing or damaged, or does not fit the manifest.
    """
    run_dir, chosen = finished.run.run_dir, finished.chosen
    report = read_record(run_dir / "stack" / REPORT_NAME, Report)
    if report is None:
        raise _stale(run_dir, "is missing")
    names = {row.name for row in report.predictors}
    if missing := sorted(PREDICTOR_LABELS.keys() - names):
        raise _stale(run_dir, f"lacks the predictor {missing[0]!r}")
    if report.verdict.chosen != chosen:
        raise _stale(
            run_dir,
            f"chooses the {report.verdict.chosen}, but the manifest chooses the "
            f"{chosen}",
        )
    return report


def judge(finished: FinishedRun, n_products: int) -> Judged:
    """Compare the chosen predictor's out-of-fold prices with the true ones.

    Parameters
    ----------
    finished : FinishedRun
    n_products : int
        Number of products that the report covers.

    Raises
    ------
    CacheError
        If an array is damaged, or the report covers other products.
    """
    run, targets = finished.run, finished.run.targets()
    rows = np.flatnonzero(targets.folds >= 0)
    if len(rows) != n_products:
        raise _stale(
            run.run_dir, f"covers {n_products} products, the run has {len(rows)}"
        )
    log_price = run.out_of_fold(finished.chosen)[rows]
    price = targets.price[rows]
    predicted = to_price(log_price, run.price_unit)
    nested = read_nested(run, finished.chosen)
    return Judged(
        rows=rows,
        price=price,
        predicted=predicted,
        low=nested.low[INTERVAL_LEVEL],
        high=nested.high[INTERVAL_LEVEL],
        within_20=nested.within[20],
        error=smape_rows(price, predicted),
        has_photo=np.asarray(run.array("embed/image_ok")[rows]),
        groups=targets.groups[rows],
    )


def _stale(run_dir: Path, problem: str) -> CacheError:
    return CacheError(
        f"{run_dir / 'stack' / REPORT_NAME}: {problem}. {report_remedy(run_dir)}"
    )
