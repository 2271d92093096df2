"""The stacking job: fit boosters on a run's arrays, compare, decide."""

import dataclasses
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.machine import prepare_machine
from embed.store.arrays import open_rows, to_float16
from embed.store.checksums import record_files
from embed.store.durable import remove_partial_files, save_array
from embed.store.lock import run_lock
from embed.store.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_json,
    read_record,
    write_record,
)
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
from stack.judge import held_out, out_of_fold
from stack.judge.ablation import ABLATION_DIR, fit_without_each
from stack.judge.confidence import fit_confidence
from stack.judge.run_report import (
    compare_predictors,
    evaluate_run,
    judge_run,
    read_ablation,
    write_report,
)
from stack.price.confidence import CONFIDENCE_DIR
from stack.records import StackManifest
from stack.run import RAW_DIR, Run, Targets, open_run
from stack.trees.alignment import align, fit_alignment
from stack.trees.blend import blend_out_of_fold
from stack.trees.boosters import remove_boosters
from stack.trees.residual import ResidualFit, fit_out_of_fold
from stack.trees.trials import settings_of_boosters

logger = logging.getLogger(__name__)

FORMAT = 12  # raise it when the same inputs give different results
_PLAN_NAME = "plan.json"


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
            is_done = read_ablation(run, config) is not None
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
    rounds, blocks = _fit_predictors(run, targets, stage_dir, config)
    report = compare_predictors(run, config)
    chosen = report["verdict"]["chosen"]
    confidence = fit_confidence(run, blocks, used=config.blocks, chosen=chosen)
    held_out.price_held_out(run, config, chosen=chosen, confidence=confidence)
    report = judge_run(run, config, report)
    names = _finished_files(stage_dir)
    manifest = StackManifest(
        stage="stack",
        key=key,
        finetune_key=run.finetune.key,
        config=config,
        chosen=chosen,
        confidence=confidence,
        rounds=rounds,
        tuned=settings_of_boosters(stage_dir) if config.n_trials else [],
        alignment=alignment,
        **_recall(stage_dir),
        files=record_files(stage_dir, names),
        environment=environment(),
        seconds=round(time.monotonic() - started, 2),
    )
    write_report(run, report)
    write_record(stage_dir / MANIFEST_NAME, manifest)
    return report


def _recall(stage_dir: Path) -> dict[str, SearchRecall]:
    """Return the recall of approximate searches, for the manifest."""
    recall = read_recall(stage_dir / BLOCKS_DIR / Neighbours.name)
    return {} if recall is None else {"recall": recall}


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
    for name in (BLOCKS_DIR, ABLATION_DIR, CONFIDENCE_DIR, held_out.HELD_OUT_DIR):
        shutil.rmtree(stage_dir / name, ignore_errors=True)
    for name in (held_out.CSV_NAME, out_of_fold.CSV_NAME):
        (stage_dir / name).unlink(missing_ok=True)
    (stage_dir / "start_weights.npy").unlink(missing_ok=True)
    write_record(stage_dir / _PLAN_NAME, PlanRecord(key=key))


def _finished_files(stage_dir: Path) -> list[str]:
    patterns = ("**/*.npy", "**/booster-*.txt", f"{BLOCKS_DIR}/**/*.json")
    paths = [path for pattern in patterns for path in stage_dir.glob(pattern)]
    return [path.relative_to(stage_dir).as_posix() for path in paths]


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
) -> list[dict[str, object]]:
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
) -> tuple[dict[str, list[int]], dict[str, NDArray[Any]]]:
    """Fit the raw LightGBM, the blend and the stacker; write their predictions.

    Return the trees of their boosters, and all blocks.
    """
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
            stage_dir / ABLATION_DIR,
        )
    arrays = {
        f"{RAW_DIR}/starts": np.array(raw.starts),
        "lightgbm_log_price": raw.out_of_fold,
        "oof_log_price": stacker.out_of_fold,
        **blended,
    }
    for name, array in arrays.items():
        save_array(stage_dir / f"{name}.npy", array)
    return {"lightgbm": raw.rounds, "stacker": stacker.rounds}, blocks


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
