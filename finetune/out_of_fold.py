"""Train a network per fold; price each product by one that never saw it."""

import dataclasses
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embed.arrays import open_rows, read_rows, to_float16
from embed.catalog import require_prices
from embed.checksums import (
    crc_of_rows,
    record_files,
    verify_embedding,
    verify_files,
)
from embed.durable import remove_partial_files, save_array
from embed.errors import CacheError, ConfigError
from embed.lock import run_lock
from embed.machine import describe_device, pick_device, prepare_machine
from embed.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_json,
    remedy,
    require_stage,
    sha256_file,
    sha256_strings,
    write_json,
)
from embed.schema import FOLD, PLAN, STAGES, check_record
from finetune.arithmetic import Arithmetic, choose_arithmetic
from finetune.batches import ProductCache
from finetune.checkpoint import remove_checkpoint
from finetune.config import FinetuneConfig
from finetune.folds import assign_folds
from finetune.frozen_layers import remove_hidden_states, skip_frozen_layers
from finetune.model import FUSED_DIM, PriceNetwork
from finetune.networks import (
    MODEL_NAME,
    network_folder,
    network_of_run,
    save_network,
)
from finetune.products import catalog_of_run, choose_anchors, product_groups
from finetune.smape import smape, to_price
from finetune.tracking import UNTRACKED, Tracking
from finetune.train import apply_network, train_network

logger = logging.getLogger(__name__)

FORMAT = 7  # raise it when the same inputs give other arrays or records than before
_PLAN_NAME = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that training needs, resolved."""

    stage_dir: Path
    embed: dict[str, Any]  # manifest
    config: FinetuneConfig
    arithmetic: Arithmetic
    cache: ProductCache
    price: NDArray[np.float64]  # (n_products,), NaN: unpriced
    folds: NDArray[np.int8]  # (n_products,), -1: unpriced
    groups: NDArray[np.int64]  # (n_products,), duplicates share one
    sample_ids: NDArray[np.str_]
    anchor_rows: NDArray[np.int64]
    tracking: Tracking
    key: str

    @property
    def log_price(self) -> NDArray[np.float64]:
        """log1p price, shape (n_products,)."""
        return np.log1p(self.price)


def finetune(
    run_dir: Path,
    *,
    config: FinetuneConfig,
    drop_unpriced: bool = False,
    only_fold: int | None = None,
    tracking: Tracking = UNTRACKED,
) -> dict[str, Any] | None:
    """Write `run_dir/finetune`: one network per fold and what each held out.

    Parameters
    ----------
    run_dir : Path
        With a finished embedding stage. Finished folds and epochs are kept.
    config : FinetuneConfig
    drop_unpriced : bool
        Train without the products that have no usable price, instead of refusing.
    only_fold : int, optional
        Train this fold only; the stage stays unfinished until all are there.
    tracking : Tracking
        What to record of training. It is not in the stage's key, for no array depends
        on it: a finished fold is not trained again to be recorded otherwise.

    Returns
    -------
    dict or None
        The stage's manifest; None while folds are missing.

    Raises
    ------
    CatalogError, CacheError, ConfigError, TrainingError
        With one line that says where, what and what to do.
    """
    if only_fold is not None and not 0 <= only_fold < config.n_folds:
        raise ConfigError(
            f"--only-fold must be 0 to {config.n_folds - 1}, got {only_fold}"
        )
    prepare_machine(config.n_threads)
    require_stage(run_dir, "embed")  # before the lock makes a folder
    with run_lock(run_dir):
        job = _prepare(run_dir, config, drop_unpriced, tracking)
        finished = read_json(job.stage_dir / MANIFEST_NAME)
        if finished is not None and finished.get("key") == job.key:
            check_record(finished, job.stage_dir / MANIFEST_NAME, STAGES["finetune"])
            verify_files(job.stage_dir, finished["files"])
            logger.info("%s: up to date", job.stage_dir)
            return finished
        _begin(job)
        chosen = range(config.n_folds) if only_fold is None else [only_fold]
        for fold in chosen:
            _finish_fold(job, fold)
        return _finish_stage(job, n_unpriced=int(np.isnan(job.price).sum()))


def _prepare(
    run_dir: Path, config: FinetuneConfig, drop_unpriced: bool, tracking: Tracking
) -> Job:
    embed = require_stage(run_dir, "embed")
    embed_dir = run_dir / "embed"
    needed = ("tokens", "thumbnails", "attributes", "image_ok")
    frozen = ("image",) if config.freeze_image else ()
    verify_embedding(embed_dir, embed, needed + frozen)
    catalog = catalog_of_run(embed)
    price = require_prices(catalog, drop_unpriced=drop_unpriced)
    cache = ProductCache(
        embed_dir,
        max_tokens=config.max_tokens,
        image_size=config.image_size,
        frozen_photos=config.freeze_image,
    )
    groups = product_groups(catalog, embed_dir)
    folds = assign_folds(
        price,
        groups,
        n_folds=config.n_folds,
        seed=config.seed,
        order_keys=[str(sample_id) for sample_id in catalog.sample_id],
    )
    _require_enough(folds, config.n_folds)
    settings = dataclasses.asdict(config)
    del settings["n_threads"]
    arithmetic = choose_arithmetic(config.precision, pick_device())
    key = content_key(
        {
            "format": FORMAT,
            "embed": embed["key"],
            # Made again with other threads, features have the same key, not bytes.
            "image_features": embed["files"] if config.freeze_image else None,
            "settings": settings,
            "autocast": str(arithmetic.autocast_dtype),
            "device": arithmetic.device.type,
            "price_sha256": sha256_strings(map(repr, price.tolist())),
        }
    )
    return Job(
        stage_dir=run_dir / "finetune",
        embed=embed,
        config=config,
        arithmetic=arithmetic,
        cache=cache,
        price=price,
        folds=folds,
        groups=groups,
        sample_ids=catalog.sample_id,
        anchor_rows=choose_anchors(cache, config.seed),
        tracking=tracking,
        key=key,
    )


def _require_enough(folds: NDArray[np.integer], n_folds: int) -> None:
    """Refuse folds that leave too few products to train on: a batch needs two."""
    n_priced = int((folds >= 0).sum())
    for fold in range(n_folds):
        n_train = n_priced - int((folds == fold).sum())
        if n_train < 3:
            raise ConfigError(
                f"finetune: fold {fold} of {n_folds} leaves {n_train} of {n_priced} "
                f"priced products to train on, at least 3 are needed. Use more "
                f"products; those with the same text or photo share a fold."
            )


def _begin(job: Job) -> None:
    """Take up a stopped run of the same inputs, or clear what another one left."""
    job.stage_dir.mkdir(parents=True, exist_ok=True)
    remove_partial_files(job.stage_dir)
    plan = read_json(job.stage_dir / _PLAN_NAME)
    if plan is not None:
        check_record(plan, job.stage_dir / _PLAN_NAME, PLAN)
    resume = plan is not None and plan.get("key") == job.key
    if not resume:
        (job.stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
        (job.stage_dir / _PLAN_NAME).unlink(missing_ok=True)
        for old in job.stage_dir.glob(f"fold-*/{MANIFEST_NAME}"):
            old.unlink()
        for pattern in ("fold-*", "fold-*/seed-*"):
            for old in job.stage_dir.glob(pattern):
                remove_checkpoint(old)
    save_array(job.stage_dir / "price.npy", job.price)
    save_array(job.stage_dir / "folds.npy", job.folds)
    save_array(job.stage_dir / "groups.npy", job.groups)
    save_array(job.stage_dir / "anchor_rows.npy", job.anchor_rows)
    for name, shape, dtype in _arrays(job):
        path = job.stage_dir / name
        open_rows(path, shape=shape, dtype=dtype, resume=resume)
    if not resume:
        write_json(job.stage_dir / _PLAN_NAME, {"key": job.key})


def _arrays(job: Job) -> list[tuple[str, tuple[int, ...], str]]:
    n, k, m = len(job.price), job.config.n_folds, len(job.anchor_rows)
    n_unpriced = max(1, int((job.folds < 0).sum()))
    return [
        ("oof_log_price.npy", (n,), "float32"),
        ("seed_log_price.npy", (n, job.config.n_seeds), "float32"),
        ("fused.npy", (n, FUSED_DIM), "float16"),
        ("anchors.npy", (k, m, FUSED_DIM), "float16"),
        ("unpriced_log_price.npy", (k, job.config.n_seeds, n_unpriced), "float32"),
    ]


def _finish_fold(job: Job, fold: int) -> None:
    fold_dir = job.stage_dir / f"fold-{fold}"
    fold_dir.mkdir(exist_ok=True)
    finished = read_json(fold_dir / MANIFEST_NAME)
    if finished is not None and finished.get("key") == job.key:
        remove_checkpoint(fold_dir)
        logger.info("%s: up to date", fold_dir)
        return
    started = time.monotonic()
    # All checkpoints stay until the last network is trained: a stopped fold takes up
    # those that were done.
    seconds = {"train": 0.0, "apply": 0.0}
    for seed_at in range(job.config.n_seeds):
        network = _train(job, fold, seed_at)
        trained = time.monotonic()
        seconds["train"] += trained - started
        _apply(job, fold, seed_at, network)
        started = time.monotonic()
        seconds["apply"] += started - trained
    scores = _average_seeds(job, fold)
    held_out_smape = scores[-1]
    logger.info(
        "fold %d: SMAPE %.2f on the %d products it held out",
        *(fold, held_out_smape, int((job.folds == fold).sum())),
    )
    folders = _network_folders(job, fold)
    write_json(
        fold_dir / MANIFEST_NAME,
        {
            "fold": fold,
            "key": job.key,
            "n_train": int(((job.folds != fold) & (job.folds >= 0)).sum()),
            "n_held_out": int((job.folds == fold).sum()),
            "held_out_smape": held_out_smape,
            "seed_smape": scores[:-1],
            "models_sha256": [sha256_file(each / MODEL_NAME) for each in folders],
            "checksums": _fold_checksums(job, fold),
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
        },
    )
    for folder in folders:
        remove_checkpoint(folder)


def _network_folders(job: Job, fold: int) -> list[Path]:
    seeds = range(job.config.n_seeds)
    return [network_folder(job.stage_dir, fold, seed_at) for seed_at in seeds]


def _train(job: Job, fold: int, seed_at: int) -> PriceNetwork:
    """Train and save one network of a fold."""
    config = job.config.of_seed(seed_at)
    folder = network_folder(job.stage_dir, fold, seed_at)
    folder.mkdir(exist_ok=True)
    network = network_of_run(job.embed, config)
    skip_frozen_layers(
        network,
        job.cache,
        config=config,
        arithmetic=job.arithmetic,
        stage_dir=job.stage_dir,
        key=job.key,
    )
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
    )
    save_network(network, folder)
    return network


def _open_arrays(job: Job) -> dict[str, NDArray[Any]]:
    return {
        name: read_rows(job.stage_dir / name, mode="r+") for name, _, _ in _arrays(job)
    }


def _flush(arrays: dict[str, NDArray[Any]]) -> None:
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]


def _apply(job: Job, fold: int, seed_at: int, network: PriceNetwork) -> None:
    """Write what a network says of the rows that it held out, and of the unpriced."""
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
        files["anchors.npy"][fold] = apply(job.anchor_rows)[1]
    if len(unpriced):
        log_price, fused = apply(unpriced)
        files["unpriced_log_price.npy"][fold, seed_at] = log_price
        # Seen by no network: they take the first one's embedding.
        if fold == seed_at == 0:
            files["fused.npy"][unpriced] = fused
    _flush(files)


def _average_seeds(job: Job, fold: int) -> list[float]:
    """Write the mean price of a fold's networks; return the SMAPE of each, and its."""
    files = _open_arrays(job)
    held_out = np.flatnonzero(job.folds == fold)
    of_seeds = files["seed_log_price.npy"][held_out]
    mean = of_seeds.mean(1)
    files["oof_log_price.npy"][held_out] = mean
    _flush(files)
    price = job.price[held_out]
    return [smape(price, to_price(log_price)) for log_price in (*of_seeds.T, mean)]


def _fold_checksums(job: Job, fold: int) -> dict[str, int]:
    """Of the rows that this fold's network wrote."""
    held_out = np.flatnonzero(job.folds == fold)
    # The first network also embeds the unpriced products.
    embedded = np.flatnonzero(np.maximum(job.folds, 0) == fold)
    where = {
        "oof_log_price.npy": held_out,
        "seed_log_price.npy": held_out,
        "fused.npy": embedded,
        "anchors.npy": np.array([fold]),
        "unpriced_log_price.npy": np.array([fold]),
    }
    return {
        name: crc_of_rows(read_rows(job.stage_dir / name), rows)
        for name, rows in where.items()
    }


def _verify_fold(job: Job, fold: int, manifest: dict[str, Any]) -> None:
    """Compare a fold's rows, which later folds have not touched, with its record."""
    found = _fold_checksums(job, fold)
    damaged = [name for name in found if found[name] != manifest["checksums"].get(name)]
    folders = _network_folders(job, fold)
    for folder, expected in zip(folders, manifest["models_sha256"], strict=True):
        if sha256_file(folder / MODEL_NAME) != expected:
            damaged.append(str((folder / MODEL_NAME).relative_to(job.stage_dir)))
    if damaged:
        raise CacheError(
            f"{job.stage_dir / damaged[0]}: what the network of fold {fold} wrote is "
            f"not there any more. {remedy(job.stage_dir)}"
        )


def _finish_stage(job: Job, *, n_unpriced: int) -> dict[str, Any] | None:
    folds = [
        read_json(job.stage_dir / f"fold-{fold}" / MANIFEST_NAME)
        for fold in range(job.config.n_folds)
    ]
    if any(fold is None for fold in folds):
        return None
    for number, fold in enumerate(folds):
        check_record(fold, job.stage_dir / f"fold-{number}" / MANIFEST_NAME, FOLD)
        assert fold is not None
        _verify_fold(job, number, fold)
    job.cache.hidden = None
    remove_hidden_states(job.stage_dir)
    log_price = read_rows(job.stage_dir / "oof_log_price.npy", mode="r+")
    if n_unpriced:
        from_each = read_rows(job.stage_dir / "unpriced_log_price.npy")
        log_price[job.folds < 0] = from_each.mean((0, 1))
        log_price.flush()  # type: ignore[attr-defined]
    priced = job.folds >= 0
    manifest = {
        "stage": "finetune",
        "key": job.key,
        "embed_key": job.embed["key"],
        "config": dataclasses.asdict(job.config),
        "n_products": len(job.price),
        "n_unpriced_dropped": n_unpriced,
        "smape": smape(job.price[priced], to_price(log_price[priced])),
        "folds": folds,
        "files": record_files(job.stage_dir, _finished_files(job)),
        "environment": environment(),
        "device": describe_device(job.arithmetic.device),
        "precision": str(job.arithmetic.autocast_dtype or torch.float32),
        "seconds": round(sum(sum(f["seconds"].values()) for f in folds if f), 2),
    }
    write_json(job.stage_dir / MANIFEST_NAME, manifest)
    return manifest


def _finished_files(job: Job) -> list[str]:
    arrays = [name for name, _, _ in _arrays(job)]
    plans = ["price.npy", "folds.npy", "groups.npy", "anchor_rows.npy"]
    models = [
        str((folder / MODEL_NAME).relative_to(job.stage_dir))
        for fold in range(job.config.n_folds)
        for folder in _network_folders(job, fold)
    ]
    return arrays + plans + models
