"""The stacking job: fit boosters on a run's arrays, compare, decide."""

import dataclasses
import logging
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import ConfigError
from embed.machine import prepare_machine
from embed.store.arrays import open_rows, to_float16
from embed.store.checksums import record_files, verify_files
from embed.store.durable import remove_partial_files, save_array
from embed.store.lock import run_lock
from embed.store.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_json,
    read_record,
    write_json,
    write_record,
)
from finetune.price_unit import to_price
from finetune.records import PlanRecord
from stack.blocks.fitted import (
    BLOCKS_DIR,
    block_matrix,
    fit_blocks,
    inputs_of,
    prices_of,
)
from stack.blocks.neighbours import Neighbours
from stack.blocks.recall import SearchRecall
from stack.blocks.registry import (
    BLOCKS,
    PRICE_BLOCKS,
    RAW_BLOCKS,
    LightGBM,
    Network,
    Start,
)
from stack.blocks.spaces import read_recall
from stack.config import StackConfig
from stack.judge.ablation import fit_without_each, read_without_each, score_without_each
from stack.judge.evaluate import evaluate_predictions
from stack.judge.held_out import (
    CSV_NAME,
    HELD_OUT_DIR,
    price_held_out,
    score_held_out,
    served_log_prices,
    write_held_out,
)
from stack.judge.intervals import Intervals, interval_coverage
from stack.judge.periods import score_by_period
from stack.judge.ratios import ratio_study, read_categories
from stack.records import StackManifest
from stack.run import (
    PREDICTIONS,
    RAW_DIR,
    REPORT_NAME,
    Run,
    Targets,
    open_finished_run,
    open_run,
)
from stack.trees.alignment import align, fit_alignment
from stack.trees.blend import blend_out_of_fold
from stack.trees.boosters import remove_boosters
from stack.trees.residual import ResidualFit, fit_out_of_fold
from stack.trees.trials import settings_of_boosters

logger = logging.getLogger(__name__)

FORMAT = 11  # raise it when the same inputs give different results
_PLAN_NAME = "plan.json"
_ABLATION_DIR = "ablation"


def fit_stack(run_dir: Path, *, config: StackConfig) -> dict[str, Any]:
    """Write `run_dir/stack`: boosters, out-of-fold prices and the report.

    Parameters
    ----------
    run_dir : Path
        Run with finished embedding and fine-tuning stages.
    config : StackConfig

    Returns
    -------
    dict
        The report, as in report.json.

    Raises
    ------
    CacheError
        If a stage is missing, damaged or stale.
    """
    prepare_machine(config.n_threads)
    open_run(run_dir)  # before the lock makes a folder
    with run_lock(run_dir):
        run = open_run(run_dir)
        key = _stack_key(run, config)
        finished = read_json(run_dir / "stack" / MANIFEST_NAME)
        is_done = finished is not None and finished.get("key") == key
        if is_done and config.ablation:  # it may have been fitted without
            is_done = _ablation(run, config) is not None
        if not is_done:
            return _fit_stack(run, config, key)
    logger.info("%s: up to date", run_dir / "stack")
    return evaluate_run(run_dir)


def _fit_stack(run: Run, config: StackConfig, key: str) -> dict[str, Any]:
    stage_dir = run.run_dir / "stack"
    started = time.monotonic()
    _begin(stage_dir, key)
    targets = run.targets()
    alignment = _align(run, targets.folds, stage_dir)
    rounds = _fit_predictors(run, targets, stage_dir, config)
    price_held_out(run, config)
    report = _evaluate(run, targets, config)
    names = _finished_files(stage_dir)
    manifest = StackManifest(
        stage="stack",
        key=key,
        finetune_key=run.finetune.key,
        config=config,
        chosen=report["verdict"]["chosen"],
        intervals=_intervals(run, targets, report["verdict"]["chosen"]),
        rounds=rounds,
        tuned=settings_of_boosters(stage_dir) if config.n_trials else [],
        alignment=alignment,
        **_recall(stage_dir),
        files=record_files(stage_dir, names),
        environment=environment(),
        seconds=round(time.monotonic() - started, 2),
    )
    _write_report(run, report)
    write_record(stage_dir / MANIFEST_NAME, manifest)
    return report


def _recall(stage_dir: Path) -> dict[str, SearchRecall]:
    """Return the recall of approximate searches, for the manifest."""
    recall = read_recall(stage_dir / BLOCKS_DIR / Neighbours.name)
    return {} if recall is None else {"recall": recall}


def _write_report(run: Run, report: dict[str, Any]) -> None:
    stage_dir = run.run_dir / "stack"
    write_held_out(run, stage_dir / CSV_NAME, chosen=report["verdict"]["chosen"])
    write_json(stage_dir / REPORT_NAME, report)


def _begin(stage_dir: Path, key: str) -> None:
    """Resume a stopped run of the same inputs, or delete the files of another."""
    (stage_dir / RAW_DIR).mkdir(parents=True, exist_ok=True)
    remove_partial_files(stage_dir)
    plan = read_record(stage_dir / _PLAN_NAME, PlanRecord)
    if plan is not None and plan.key == key:
        return
    (stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
    (stage_dir / _PLAN_NAME).unlink(missing_ok=True)
    for folder in (stage_dir, stage_dir / RAW_DIR):
        remove_boosters(folder)
    for name in (BLOCKS_DIR, _ABLATION_DIR, HELD_OUT_DIR):
        shutil.rmtree(stage_dir / name, ignore_errors=True)
    (stage_dir / CSV_NAME).unlink(missing_ok=True)
    (stage_dir / "start_weights.npy").unlink(missing_ok=True)
    write_record(stage_dir / _PLAN_NAME, PlanRecord(key=key))


def _finished_files(stage_dir: Path) -> list[str]:
    patterns = ("**/*.npy", "**/booster-*.txt", f"{BLOCKS_DIR}/**/*.json")
    paths = [path for pattern in patterns for path in stage_dir.glob(pattern)]
    return [path.relative_to(stage_dir).as_posix() for path in paths]


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
    verify_files(run_dir / "stack", finished.stack.files)
    report = _evaluate(finished.run, finished.run.targets(), finished.stack_config)
    path = run_dir / "stack" / REPORT_NAME
    if read_json(path) != report:  # a run folder may be read-only
        with run_lock(run_dir):
            _write_report(finished.run, report)
    return report


def _stack_key(run: Run, config: StackConfig) -> str:
    settings = dataclasses.asdict(config)
    del settings["n_threads"], settings["ablation"]  # they do not change prices
    return content_key(
        {
            "format": FORMAT,
            "finetune": run.finetune.key,
            # With another number of threads, a stage has the same key but other bytes.
            "embed_files": run.embed.as_json()["files"],
            "finetune_files": run.finetune.as_json()["files"],
            "settings": settings,
        }
    )


def _align(
    run: Run, folds: NDArray[np.integer], stage_dir: Path
) -> list[dict[str, Any]]:
    """Write the fused embeddings in the common space and the maps into it."""
    fused, image_ok = run.array("finetune/fused"), run.array("embed/image_ok")
    anchor_rows = np.asarray(run.array("finetune/anchor_rows"))
    alignment, residuals = fit_alignment(
        run.array("finetune/anchors"),
        anchor_folds=folds[anchor_rows],
        anchor_image_ok=np.asarray(image_ok[anchor_rows]),
    )
    save_array(stage_dir / "alignment.npy", alignment.astype(np.float32))
    path = stage_dir / "fused.npy"
    aligned = open_rows(path, shape=fused.shape, dtype="float16", resume=False)
    embedded_by = np.maximum(folds, 0)  # unpriced products by the first network
    for fold, affine in enumerate(alignment):
        rows = np.flatnonzero(embedded_by == fold)
        aligned[rows] = to_float16(
            align(fused[rows], image_ok[rows], affine), name="fused"
        )
    aligned.flush()  # type: ignore[attr-defined]
    return residuals


def _fit_predictors(
    run: Run, targets: Targets, stage_dir: Path, config: StackConfig
) -> dict[str, list[int]]:
    """Fit the raw LightGBM, the blend and the stacker; write their predictions."""
    blocks = _blocks(run, targets, stage_dir, config)

    def fit(
        names: Sequence[str],
        settings: StackConfig,
        *,
        folder: Path | None = None,
        from_median: bool = False,
    ) -> ResidualFit:
        start = Start.name if Start.name in names else Network.name
        features = {name: blocks[name] for name in names}
        matrix = block_matrix(features, embed=run.embed)
        return fit_out_of_fold(
            matrix,
            targets.log_price,
            init_log_price=None if from_median else blocks[start],
            folds=targets.folds,
            groups=targets.groups,
            config=settings,
            folder=folder,
        )

    logger.info("lightgbm: on %s", ", ".join(RAW_BLOCKS))
    # The baseline has the same settings however the stacker is tuned.
    plain = dataclasses.replace(config, n_trials=0, n_seeds=1)
    raw = fit(RAW_BLOCKS, plain, folder=stage_dir / RAW_DIR, from_median=True)
    blocks[LightGBM.name] = raw.out_of_fold
    blended = _blend(blocks, targets, config)
    logger.info("stacker: on %s", ", ".join(config.blocks))
    stacker = fit(config.blocks, config, folder=stage_dir)
    if config.ablation:
        fit_without_each(
            lambda names: fit(names, plain).out_of_fold,
            config.blocks,
            stage_dir / _ABLATION_DIR,
        )
    arrays = {
        f"{RAW_DIR}/starts": np.array(raw.starts),
        "lightgbm_log_price": raw.out_of_fold,
        "oof_log_price": stacker.out_of_fold,
        **blended,
    }
    for name, array in arrays.items():
        save_array(stage_dir / f"{name}.npy", array)
    return {"lightgbm": raw.rounds, "stacker": stacker.rounds}


def _blend(
    blocks: dict[str, NDArray[Any]], targets: Targets, config: StackConfig
) -> dict[str, NDArray[Any]]:
    """Return the control, a blend with LightGBM; add the block `start` to `blocks`."""
    network, log_price, folds = blocks[Network.name], targets.log_price, targets.folds
    control, _ = blend_out_of_fold(
        log_price, network=network, other=blocks[LightGBM.name], folds=folds
    )
    if Start.name not in config.blocks:
        return {"blend_log_price": control}
    blocks[Start.name], weights = blend_out_of_fold(
        log_price,
        network=network,
        other=Start.blended_with(blocks),
        folds=folds,
        limits=(0.0, 1.0),  # outside them the start could be anywhere
    )
    return {"blend_log_price": control, "start_weights": weights}


def _blocks(
    run: Run, targets: Targets, stage_dir: Path, config: StackConfig
) -> dict[str, NDArray[Any]]:
    """Return all blocks that are not computed from the predictions of others."""
    blocks: dict[str, NDArray[Any]] = {
        name: run.array(block.array) for name, block in BLOCKS.items() if block.array
    }
    if not PRICE_BLOCKS.keys() & set(config.blocks):
        return blocks  # only blocks fitted on prices need the catalog
    products, prices = inputs_of(run), prices_of(targets)
    return blocks | fit_blocks(
        config.blocks, products, prices, stage_dir, exact_up_to=config.exact_up_to
    )


def _evaluate(run: Run, targets: Targets, config: StackConfig) -> dict[str, Any]:
    price, folds, groups = targets.price, targets.folds, targets.groups
    predictions = {name: run.out_of_fold(name) for name in PREDICTIONS}
    without_each = _ablation(run, config) or {}
    by_network, best_price = run.anchor_prices(), run.best_prices()
    report = evaluate_predictions(
        price,
        folds,
        predictions=predictions,
        image_ok=np.asarray(run.array("embed/image_ok")),
        config=config,
        groups=groups,
        best_price=best_price,
        price_unit=run.price_unit,
        by_network=by_network,
    )
    report["n_unpriced"] = run.finetune.n_unpriced_dropped
    name = report["verdict"]["chosen"]
    priced, chosen = folds >= 0, predictions[name]
    report["intervals"] = interval_coverage(
        price[priced], chosen[priced], folds[priced], price_unit=run.price_unit
    )
    report["ablation"] = score_without_each(
        targets.log_price[priced],
        {names: log_price[priced] for names, log_price in without_each.items()},
        groups=groups[priced],
    )
    report["ratios"] = ratio_study(
        price[priced],
        to_price(chosen[priced], run.price_unit),
        groups[priced],
        categories=read_categories(run.embed, run.array("embed/attributes"), priced),
        seed=config.seed,
    )
    report["held_out"] = score_held_out(
        run, config, chosen=name, intervals=_fit_intervals(run, targets, name)
    )
    report["periods"] = score_by_period(
        run, served_log_prices(run, name), predictions["network"]
    )
    return report


def _ablation(
    run: Run, config: StackConfig
) -> dict[tuple[str, ...], NDArray[np.float32]] | None:
    return read_without_each(config.blocks, run.run_dir / "stack" / _ABLATION_DIR)


def _intervals(
    run: Run, targets: Targets, chosen: str
) -> dict[str, tuple[float, float]]:
    offsets = _fit_intervals(run, targets, chosen).offsets
    return {str(level): ends for level, ends in offsets.items()}


def _fit_intervals(run: Run, targets: Targets, chosen: str) -> Intervals:
    priced = targets.folds >= 0
    residual = targets.log_price[priced] - run.out_of_fold(chosen)[priced]
    return Intervals.fit(residual, price_unit=run.price_unit)
