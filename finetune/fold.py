"""Train the networks of one fold, apply them to the held-out products, record them."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.arrays import read_rows, to_float16
from embed.store.checksums import crc_of_rows
from embed.store.manifest import (
    MANIFEST_NAME,
    read_record,
    remedy,
    sha256_file,
    write_record,
)
from finetune.config import FinetuneConfig
from finetune.job import Job, network_folders, stage_arrays
from finetune.network.model import PriceNetwork
from finetune.network.saved import (
    MODEL_NAME,
    load_weights,
    network_folder,
    network_of_run,
    save_network,
)
from finetune.records import FoldRecord, NetworkRecord
from finetune.score import smape, to_price
from finetune.start import load_start
from finetune.training.checkpoint import remove_checkpoint
from finetune.training.frozen_layers import skip_frozen_layers
from finetune.training.guards import TrainingError
from finetune.training.loop import apply_network, prepare_torch, train_network
from finetune.training.tracking import RECORD_NAME

logger = logging.getLogger(__name__)


def finish_fold(job: Job, fold: int) -> None:
    """Train the missing networks of a fold and write their predictions.

    Raises
    ------
    CacheError, TrainingError
        If a file of the fold is damaged or training goes wrong.
    """
    fold_dir = job.stage_dir / f"fold-{fold}"
    fold_dir.mkdir(exist_ok=True)
    if read_record(fold_dir / MANIFEST_NAME, FoldRecord, key=job.key) is not None:
        logger.info("%s: up to date", fold_dir)
        return
    seconds = {"train": 0.0, "apply": 0.0}
    for seed_at in range(job.config.n_seeds):
        network, train_seconds = _trained(job, fold, seed_at)
        seconds["train"] += train_seconds
        started = time.monotonic()
        _apply(job, fold, seed_at, network)
        seconds["apply"] += time.monotonic() - started
    scores = _average_seeds(job, fold)
    held_out_smape = scores[-1]
    logger.info(
        "fold %d of %d: SMAPE %.2f on the %d products it held out",
        fold + 1,
        job.config.n_folds,
        held_out_smape,
        int((job.folds == fold).sum()),
    )
    folders = network_folders(job, fold)
    write_record(
        fold_dir / MANIFEST_NAME,
        FoldRecord(
            fold=fold,
            key=job.key,
            n_train=int(((job.folds != fold) & (job.folds >= 0)).sum()),
            n_held_out=int((job.folds == fold).sum()),
            held_out_smape=held_out_smape,
            seed_smape=scores[:-1],
            models_sha256=[sha256_file(folder / MODEL_NAME) for folder in folders],
            checksums=_fold_checksums(job, fold),
            seconds={name: round(value, 2) for name, value in seconds.items()},
        ),
    )


def _trained(job: Job, fold: int, seed_at: int) -> tuple[PriceNetwork, float]:
    """Return a trained network and the seconds that its training took.

    A network that exists already is loaded: it stays valid if the number of seeds
    changes.
    """
    started = time.monotonic()
    config = job.config.of_seed(seed_at)
    begins = job.start is not None and fold not in job.start.new_folds
    if job.start is not None:
        config = job.start.settings_of(fold, config)
    folder = network_folder(job.stage_dir, fold, seed_at)
    folder.mkdir(exist_ok=True)
    network = network_of_run(job.embed, config)
    skip_frozen_layers(
        network,
        job.cache,
        config=config,
        arithmetic=job.arithmetic,
        stage_dir=job.stage_dir,
        key=job.networks_key,
    )
    seconds = _load_trained(job, network, config, folder)
    if seconds is not None:
        return network, seconds
    (folder / RECORD_NAME).unlink(missing_ok=True)
    if job.start is not None and begins:
        load_start(
            network, job.start, fold=fold, seed_at=seed_at, table=job.embed.table
        )
    try:
        train_network(
            network,
            job.cache,
            job.log_price,
            np.flatnonzero((job.folds != fold) & (job.folds >= 0)),
            config=config,
            arithmetic=job.arithmetic,
            fold_dir=folder,
            fold=fold,
            groups=job.groups,
            sample_ids=job.sample_ids,
            tracking=job.tracking,
            keep_scales=begins,
        )
    except TrainingError as error:
        if job.config.n_seeds == 1:
            raise
        raise TrainingError(f"seed {config.seed}: {error}") from error
    save_network(network, folder)
    seconds = round(time.monotonic() - started, 2)
    write_record(
        folder / RECORD_NAME,
        NetworkRecord(
            key=job.networks_key,
            model_sha256=sha256_file(folder / MODEL_NAME),
            seconds=seconds,
        ),
    )
    remove_checkpoint(folder)
    return network, seconds


def _load_trained(
    job: Job, network: PriceNetwork, config: FinetuneConfig, folder: Path
) -> float | None:
    """Load a network that is trained already; return the seconds that it took."""
    record = read_record(folder / RECORD_NAME, NetworkRecord, key=job.networks_key)
    if record is None:
        return None
    path = folder / MODEL_NAME
    if not path.is_file() or sha256_file(path) != record.model_sha256:
        logger.warning("%s: is not as it was written, so it is trained again", path)
        return None
    prepare_torch(network, config, job.arithmetic)
    load_weights(network, folder, job.stage_dir)
    remove_checkpoint(folder)
    logger.info("%s: trained already", path)
    return record.seconds


def _apply(job: Job, fold: int, seed_at: int, network: PriceNetwork) -> None:
    """Write a network's predictions for its held-out rows and for unpriced rows."""
    files = _open_arrays(job)
    held_out = np.flatnonzero(job.folds == fold)
    unpriced = np.flatnonzero(job.folds < 0)

    def apply(rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        log_price, fused = apply_network(
            network,
            job.cache,
            rows,
            arithmetic=job.arithmetic,
            sample_ids=job.sample_ids,
        )
        return log_price, to_float16(fused, name="fused")

    log_price, fused = apply(held_out)
    files["seed_log_price.npy"][held_out, seed_at] = log_price
    if not seed_at:
        files["fused.npy"][held_out] = fused
        files["anchor_log_price.npy"][fold], files["anchors.npy"][fold] = apply(
            job.anchor_rows
        )
    if len(unpriced):
        log_price, fused = apply(unpriced)
        files["unpriced_log_price.npy"][fold, seed_at] = log_price
        if not seed_at and job.split.held_out.any():
            files["held_out_fused.npy"][fold] = fused[job.split.held_out[unpriced]]
        # No network was trained on them; they get the first network's embedding.
        if fold == seed_at == 0:
            files["fused.npy"][unpriced] = fused
    _flush(files)


def _average_seeds(job: Job, fold: int) -> list[float]:
    """Write the mean price of a fold's networks; return each SMAPE, then the mean's."""
    files = _open_arrays(job)
    held_out = np.flatnonzero(job.folds == fold)
    seed_log_prices = files["seed_log_price.npy"][held_out]
    mean = seed_log_prices.mean(1)
    files["oof_log_price.npy"][held_out] = mean
    _flush(files)
    price = job.price[held_out]
    return [
        smape(price, to_price(log_price, job.price_unit))
        for log_price in (*seed_log_prices.T, mean)
    ]


def _fold_checksums(job: Job, fold: int) -> dict[str, int]:
    """Return the checksums of the rows that this fold's networks wrote."""
    held_out = np.flatnonzero(job.folds == fold)
    # The first network also embeds the unpriced products.
    embedded = np.flatnonzero(np.maximum(job.folds, 0) == fold)
    where = {
        "oof_log_price.npy": held_out,
        "seed_log_price.npy": held_out,
        "fused.npy": embedded,
        "anchors.npy": np.array([fold]),
        "anchor_log_price.npy": np.array([fold]),
        "unpriced_log_price.npy": np.array([fold]),
        "held_out_fused.npy": np.array([fold]),
    }
    return {
        name: crc_of_rows(read_rows(job.stage_dir / name), where[name])
        for name, _, _ in stage_arrays(job)
    }


def verify_fold(job: Job, fold: int, manifest: FoldRecord) -> None:
    """Compare a fold's rows with the checksums in its record.

    Raises
    ------
    CacheError
        If an array or a network has changed since.
    """
    expected = manifest.checksums
    checksums = _fold_checksums(job, fold)
    damaged = [name for name in checksums if checksums[name] != expected.get(name)]
    folders = network_folders(job, fold)
    for folder, sha256 in zip(folders, manifest.models_sha256, strict=True):
        if sha256_file(folder / MODEL_NAME) != sha256:
            damaged.append(str((folder / MODEL_NAME).relative_to(job.stage_dir)))
    if damaged:
        raise CacheError(
            f"{job.stage_dir / damaged[0]}: has changed since fold {fold + 1} was "
            f"finished. {remedy(job.stage_dir)}"
        )


def _open_arrays(job: Job) -> dict[str, NDArray[Any]]:
    return {
        name: read_rows(job.stage_dir / name, mode="r+")
        for name, _, _ in stage_arrays(job)
    }


def _flush(arrays: dict[str, NDArray[Any]]) -> None:
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
