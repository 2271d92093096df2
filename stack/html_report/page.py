"""The page: the results of a finished run in one template."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.store.durable import write_bytes
from embed.text import parse_fields
from stack.html_report import charts, curves
from stack.html_report.finished import (
    INTERVAL_LEVEL,
    Judged,
    judge,
    read_report,
)
from stack.html_report.gains import read_gains
from stack.html_report.products import (
    TEXT_CHARS,
    median_products,
    show_products,
    worst_products,
)
from stack.html_report.records import count_problems, stage_record
from stack.html_report.words import group_score, score_words
from stack.records import Report, Tenth
from stack.run import RAW_DIR, FinishedRun, open_finished_run
from stack.tell.ratios import ratio_parts, ratio_sentence
from stack.tell.sureness import WHY_BY_TRUE_PRICE
from stack.tell.template import load_template

_FACTORS = (1.1, 1.25, 1.5, 2, 3, 5)
_TEMPLATE = Path(__file__).with_name("templates") / "report.html.j2"


def write_report(run_dir: Path, out_path: Path) -> int:
    """Write a finished run's page, whole or not at all.

    Parameters
    ----------
    run_dir : Path
        Run folder with all three stages finished; it is not changed.
    out_path : Path
        HTML file to write or replace.

    Returns
    -------
    int
        Number of bytes written; the same run gives the same bytes.

    Raises
    ------
    CacheError
        If a stage has not finished or is damaged.
    """
    page = render_report(run_dir)
    # A file name may contain characters that UTF-8 cannot encode.
    content = page.encode("utf-8", "replace")
    write_bytes(out_path, content)
    return len(content)


def render_report(run_dir: Path) -> str:
    """Return a finished run's page as HTML; arguments and errors as `write_report`."""
    finished = open_finished_run(run_dir)
    report = read_report(finished)
    judged = judge(finished, report.n_products)
    catalog = finished.run.catalog()
    return load_template(_TEMPLATE).render(
        **_facts(finished, report, catalog),
        **_accuracy(report, judged),
        **_training(finished),
        **_groups(judged, catalog),
        **_products(finished, judged, catalog),
        problems=count_problems(run_dir / "embed" / "problems.csv"),
        substituted=finished.run.embed.substituted.as_json(),
        stages=[
            stage_record(manifest.as_json())
            for manifest in (finished.run.embed, finished.run.finetune, finished.stack)
        ],
    )


def _facts(
    finished: FinishedRun, report: Report, catalog: Catalog
) -> dict[str, object]:
    scores = {row.name: row for row in report.predictors}
    return {
        "run_name": finished.run.run_dir.resolve().name,
        "catalog_name": catalog.path.name,
        "report": report,
        "chosen": finished.chosen,
        "scores": scores,
        "labels": {name: row.label for name, row in scores.items()},
        **_ratios(report),
    }


def _ratios(report: Report) -> dict[str, object]:
    if report.ratios is None:  # reports of older versions have none
        return {}
    study = report.ratios.as_json()
    return {"ratio_sentence": ratio_sentence(study), "ratio_parts": ratio_parts(study)}


def _accuracy(report: Report, judged: Judged) -> dict[str, object]:
    labels = {str(row.name): row.label for row in report.predictors}
    intervals = report.intervals
    return {
        "forest": charts.forest_chart(report.verdict),
        "density": charts.density_chart(judged.price, judged.predicted),
        "residuals": charts.residual_chart(judged.price, judged.predicted),
        "bands": charts.band_chart(report.bands, labels),
        "calibration": charts.calibration_chart(judged.price, judged.predicted),
        "coverage": charts.coverage_chart(intervals) if intervals else None,
        "intervals": intervals,
        "sureness": report.confidence,
        "tenths": _tenths(report),
        "why_by_true_price": WHY_BY_TRUE_PRICE,
        "within": _within(judged),
    }


def _tenths(report: Report) -> list[tuple[Tenth, Tenth]]:
    """Return the tenths of both probabilities, row by row."""
    if report.confidence is None:  # reports of older versions have none
        return []
    reliability = report.confidence.reliability
    return list(zip(reliability["10"], reliability["20"], strict=True))


def _within(judged: Judged) -> list[tuple[float, int]]:
    """Count the products that are priced within a factor of their true price."""
    distance = np.abs(np.log(judged.predicted / judged.price))
    return [(factor, int((distance <= np.log(factor)).sum())) for factor in _FACTORS]


def _training(finished: FinishedRun) -> dict[str, object]:
    run, names = finished.run, finished.run.embed.attribute_names
    stack_dir = run.run_dir / "stack"
    n_folds = run.finetune.config.n_folds
    histories = curves.read_histories(run.run_dir / "finetune", n_folds)
    return {
        "loss": curves.loss_chart(histories),
        "epochs": curves.smape_chart(histories),
        "has_two_phases": bool(curves.phase_starts(histories[0])),
        "has_held_out": bool(curves.held_out_columns(histories)),
        "folds": [
            # The score of the network with this history; the fold's may be a mean.
            {
                **fold.as_json(),
                "held_out_smape": fold.seed_smape[0],
                "train_smape": history.columns["train_smape"][-1],
            }
            for fold, history in zip(run.finetune.folds, histories, strict=False)
        ],
        "stacker": read_gains(stack_dir, attribute_names=names),
        "raw": read_gains(stack_dir / RAW_DIR, attribute_names=names),
    }


def _groups(judged: Judged, catalog: Catalog) -> dict[str, object]:
    names = [parse_fields(catalog.text[row]).name for row in judged.rows]
    words = score_words(names, judged.error)
    n = len(judged.error)
    photo = (("Photo read", judged.has_photo), ("No photo", ~judged.has_photo))
    return {
        "words": words,
        "most_added": max((word.adds for word in words), default=1.0) or 1.0,
        "by_photo": [
            group_score(label, judged.error[inside], n, groups=judged.groups[inside])
            for label, inside in photo
            if inside.any()
        ],
    }


def _products(
    finished: FinishedRun, judged: Judged, catalog: Catalog
) -> dict[str, object]:
    def shown(places: NDArray[np.intp]) -> Any:
        return show_products(places, judged=judged, run=finished.run, catalog=catalog)

    return {
        "worst": shown(worst_products(judged.error)),
        "median": shown(median_products(judged.error)),
        "text_chars": TEXT_CHARS,
        "max_tokens": finished.run.finetune.config.max_tokens,
        "interval_level": INTERVAL_LEVEL,
    }
