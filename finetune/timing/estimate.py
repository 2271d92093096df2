"""Estimate how long the networks of a run take, from the speed of their parts."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed.store.manifest import read_record
from finetune.config import FinetuneConfig
from finetune.job import Job, network_folders
from finetune.records import NetworkRecord
from finetune.timing.speed import Speed, SpeedTest
from finetune.training.batch_statistics import MAX_PRODUCTS
from finetune.training.tracking import RECORD_NAME

_N_CHECKS = 2  # passes over training products: batch statistics, soundness


@dataclass(frozen=True, kw_only=True)
class Work:
    """The products of a training, and the part of it that is left."""

    n_products: int
    n_priced: int
    n_anchors: int
    one_fold: bool = False
    """Whether only the networks of one fold are trained."""

    n_trained: int = 0
    """Networks that are trained already."""

    tracks_held_out: bool = False
    """Whether held-out products are priced after each epoch."""

    def n_left(self, config: FinetuneConfig) -> int:
        """Return the number of networks that are not trained."""
        n_folds = 1 if self.one_fold else config.n_folds
        return n_folds * config.n_seeds - self.n_trained


def work_of(job: Job, only_fold: int | None) -> Work:
    """Return what a job has to do.

    Parameters
    ----------
    job : Job
    only_fold : int or None
        The fold to train, None for all.
    """
    folds = range(job.config.n_folds) if only_fold is None else [only_fold]
    records = [
        read_record(folder / RECORD_NAME, NetworkRecord, key=job.networks_key)
        for fold in folds
        for folder in network_folders(job, fold)
    ]
    return Work(
        n_products=len(job.price),
        n_priced=int(np.count_nonzero(job.folds >= 0)),
        n_anchors=len(job.anchor_rows),
        one_fold=only_fold is not None,
        n_trained=sum(record is not None for record in records),
        tracks_held_out=job.tracking.held_out,
    )


def duration_of(
    job: Job, only_fold: int | None, folder: Path
) -> Callable[[FinetuneConfig], float]:
    """Return a function that estimates the seconds of a job with other settings.

    Parameters
    ----------
    job : Job
    only_fold : int or None
        The fold to train, None for all.
    folder : Path
        Empty folder for the measurements.
    """
    test, work = SpeedTest(job, folder), work_of(job, only_fold)

    @functools.cache
    def speed(freeze_image: bool, freeze_layers: int | None) -> Speed:
        return test.measure(
            dataclasses.replace(
                job.config, freeze_image=freeze_image, freeze_layers=freeze_layers
            )
        )

    def duration(config: FinetuneConfig) -> float:
        n_trained = work.n_trained if config == job.config else 0
        return estimate_seconds(
            config,
            speed(config.freeze_image, config.freeze_layers),
            dataclasses.replace(work, n_trained=n_trained),
        )

    return duration


def estimate_seconds(config: FinetuneConfig, speed: Speed, work: Work) -> float:
    """Estimate the seconds until the networks of a configuration are trained.

    Parameters
    ----------
    config : FinetuneConfig
    speed : Speed
        Speed of this configuration.
    work : Work
    """
    n_held_out = work.n_priced / config.n_folds
    n_train = work.n_priced - n_held_out
    n_checked = min(n_train, MAX_PRODUCTS)
    n_priced = _N_CHECKS * n_checked + n_held_out + work.n_anchors
    n_priced += work.n_products - work.n_priced
    if work.tracks_held_out:
        n_priced += config.n_epochs * (n_checked + n_held_out)
    network = (
        speed.network
        + speed.wide_start
        + speed.wide * n_train
        + config.n_epochs * (speed.step * n_train + speed.epoch)
        + speed.price * n_priced
    )
    n_left = work.n_left(config)
    return n_left * network + (speed.hidden * work.n_products if n_left else 0)


def describe_duration(seconds: float) -> str:
    """Describe an estimate, with as many digits as it deserves: `3 h 20 min`."""
    minutes = seconds / 60
    for limit, step in ((10, 1), (60, 5), (600, 10)):
        if minutes < limit - step / 2:
            minutes = max(1, step * round(minutes / step))
            break
    else:
        minutes = 60 * round(minutes / 60)
    hours, rest = divmod(int(minutes), 60)
    parts = [f"{hours} h" if hours else "", f"{rest} min" if rest else ""]
    return " ".join(part for part in parts if part)
