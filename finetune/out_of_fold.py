"""Train networks for each fold; price each product by those that held it out."""

import logging
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from embed.errors import ConfigError
from embed.machine import describe_device, prepare_machine
from embed.records import require_embedded
from embed.store.arrays import open_rows, read_rows
from embed.store.checksums import record_files, verify_files
from embed.store.durable import remove_partial_files, save_array
from embed.store.lock import run_lock
from embed.store.manifest import (
    MANIFEST_NAME,
    environment,
    read_record,
    write_record,
)
from finetune.averaging import average_log_prices
from finetune.config import FinetuneConfig
from finetune.fold import finish_fold, verify_fold
from finetune.job import Job, network_folders, prepare_job, stage_arrays
from finetune.network.saved import MODEL_NAME
from finetune.price_unit import to_price
from finetune.records import FinetuneManifest, FoldRecord, PlanRecord
from finetune.score import smape
from finetune.timing.limit import TimeLimit, settings_within
from finetune.timing.notice import tell_duration
from finetune.training.checkpoint import remove_checkpoint
from finetune.training.frozen_layers import remove_hidden_states
from finetune.training.tracking import UNTRACKED, Tracking

logger = logging.getLogger(__name__)

_PLAN_NAME = "plan.json"


def finetune(
    run_dir: Path,
    *,
    config: FinetuneConfig,
    drop_unpriced: bool = False,
    only_fold: int | None = None,
    tracking: Tracking = UNTRACKED,
    limit: TimeLimit | None = None,
) -> FinetuneManifest | None:
    """Write `run_dir/finetune`: the networks of each fold and held-out predictions.

    Parameters
    ----------
    run_dir : Path
        Run with a finished embedding stage. Finished folds and epochs are kept.
    config : FinetuneConfig
    drop_unpriced : bool
        Whether to leave out products without a usable price instead of refusing.
    only_fold : int, optional
        Train this fold only; the stage stays unfinished until all folds exist.
    tracking : Tracking
        Records to write. No array depends on it, so it is not in the stage's
        key: another choice does not train finished folds again.
    limit : TimeLimit, optional
        Minutes that the training may take; cheaper settings are chosen to fit.

    Returns
    -------
    FinetuneManifest or None
        The stage's manifest; None while folds are missing.

    Raises
    ------
    CatalogError, CacheError, ConfigError, TrainingError
        If the run, the settings or the training do not allow it.
    """
    if only_fold is not None and not 0 <= only_fold < config.n_folds:
        raise ConfigError(
            f"--only-fold must be 1 to {config.n_folds}, got {only_fold + 1}"
        )
    prepare_machine(config.n_threads)
    require_embedded(run_dir)  # before the lock makes a folder
    with run_lock(run_dir):
        job = prepare_job(run_dir, config, drop_unpriced, tracking)
        if limit is not None:
            if job.start is not None:
                raise ConfigError(
                    "--time-limit and --start-from exclude each other: the settings of "
                    "a former run stay. Leave --time-limit out and give fewer epochs."
                )
            config = settings_within(job, limit, only_fold=only_fold)
            if config != job.config:
                job = prepare_job(run_dir, config, drop_unpriced, tracking)
        path = job.stage_dir / MANIFEST_NAME
        finished = read_record(path, FinetuneManifest, key=job.key)
        if finished is not None:
            verify_files(job.stage_dir, finished.files)
            logger.info("%s: up to date", job.stage_dir)
            return _with_dates(finished, job)
        _begin(job)
        if limit is None:
            tell_duration(job, only_fold)
        folds = range(config.n_folds) if only_fold is None else [only_fold]
        for fold in folds:
            finish_fold(job, fold)
        return _finish_stage(job)


def _begin(job: Job) -> None:
    """Resume a stopped run of the same inputs, or delete the files of another."""
    job.stage_dir.mkdir(parents=True, exist_ok=True)
    remove_partial_files(job.stage_dir)
    plan = read_record(job.stage_dir / _PLAN_NAME, PlanRecord)
    resume = plan is not None and plan.key == job.key
    if not resume:
        (job.stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
        (job.stage_dir / _PLAN_NAME).unlink(missing_ok=True)
        for old in job.stage_dir.glob(f"fold-*/{MANIFEST_NAME}"):
            old.unlink()
        for old in job.stage_dir.glob("fold-*"):
            remove_checkpoint(old)
    for name, array in _planned_arrays(job).items():
        save_array(job.stage_dir / name, array)
    for name, shape, dtype in stage_arrays(job):
        path = job.stage_dir / name
        open_rows(path, shape=shape, dtype=dtype, resume=resume)
    if not resume:
        write_record(job.stage_dir / _PLAN_NAME, PlanRecord(key=job.key))


def _with_dates(finished: FinetuneManifest, job: Job) -> FinetuneManifest:
    """Update a finished stage's dates: no network depends on them."""
    if finished.dates == job.split.dates:
        return finished
    updated = finished.model_copy(update={"dates": job.split.dates})
    write_record(job.stage_dir / MANIFEST_NAME, updated)
    return updated


def _planned_arrays(job: Job) -> dict[str, NDArray[Any]]:
    """Return the arrays that are known before any training."""
    held_out = {"held_out.npy": job.split.held_out} if job.split.held_out.any() else {}
    return {
        "price.npy": job.price,
        "folds.npy": job.folds,
        "groups.npy": job.groups,
        "anchor_rows.npy": job.anchor_rows,
        **held_out,
        **(job.start.arrays() if job.start else {}),
    }


def _finish_stage(job: Job) -> FinetuneManifest | None:
    folds = [
        fold
        for number in range(job.config.n_folds)
        if (fold := _read_fold(job, number)) is not None
    ]
    if len(folds) < job.config.n_folds:
        return None
    for number, fold in enumerate(folds):
        verify_fold(job, number, fold)
    job.cache.hidden = None
    remove_hidden_states(job.stage_dir)
    log_price = read_rows(job.stage_dir / "oof_log_price.npy", mode="r+")
    if (job.folds < 0).any():
        log_prices = read_rows(job.stage_dir / "unpriced_log_price.npy")
        log_price[job.folds < 0] = average_log_prices(log_prices.mean(axis=1))
        log_price.flush()  # type: ignore[attr-defined]
    priced = job.folds >= 0
    start = {"start": job.start.record} if job.start else {}
    manifest = FinetuneManifest(
        stage="finetune",
        key=job.key,
        embed_key=job.embed.key,
        config=job.config,
        n_products=len(job.price),
        n_unpriced_dropped=job.n_unpriced,
        n_held_out=int(job.split.held_out.sum()),
        n_undated=job.split.n_undated,
        dates=job.split.dates,
        price_unit=job.price_unit,
        **start,
        smape=smape(job.price[priced], to_price(log_price[priced], job.price_unit)),
        folds=folds,
        files=record_files(job.stage_dir, _finished_files(job)),
        environment=environment(),
        device=describe_device(job.arithmetic.device),
        precision=str(job.arithmetic.autocast_dtype or torch.float32),
        seconds=round(sum(sum(fold.seconds.values()) for fold in folds), 2),
    )
    write_record(job.stage_dir / MANIFEST_NAME, manifest)
    return manifest


def _read_fold(job: Job, number: int) -> FoldRecord | None:
    return read_record(job.stage_dir / f"fold-{number}" / MANIFEST_NAME, FoldRecord)


def _finished_files(job: Job) -> list[str]:
    arrays = [name for name, _, _ in stage_arrays(job)]
    models = [
        str((folder / MODEL_NAME).relative_to(job.stage_dir))
        for fold in range(job.config.n_folds)
        for folder in network_folders(job, fold)
    ]
    return [*arrays, *_planned_arrays(job), *models]
